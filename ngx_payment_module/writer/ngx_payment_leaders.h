/*
 * The operations of a writer that lead, by their keys.  A request whose key is
 * here follows the one that has it, from the moment it arrives: so of one key
 * there is never more than one operation in the writer's queues and batches.
 *
 * A hash table of chains, through the operations themselves.
 *
 * Owner: a writer.  Limits: those of the writer; the table does not grow.
 */

#ifndef NGX_PAYMENT_LEADERS_H
#define NGX_PAYMENT_LEADERS_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_op.h"


typedef struct {
    ngx_payment_op_t  **chains;
    ngx_uint_t          mask;
} ngx_payment_leaders_t;


/* With as many chains as operations may wait. */
ngx_int_t ngx_payment_leaders_init(ngx_payment_leaders_t *leaders,
    ngx_uint_t queue_size, ngx_pool_t *pool);

/* NULL: no operation has this key. */
ngx_payment_op_t *ngx_payment_leaders_find(ngx_payment_leaders_t *leaders,
    const uint8_t *key_hash);

void ngx_payment_leaders_add(ngx_payment_leaders_t *leaders,
    ngx_payment_op_t *op);

/* It leads no more. */
void ngx_payment_leaders_remove(ngx_payment_leaders_t *leaders,
    ngx_payment_op_t *op);

#endif /* NGX_PAYMENT_LEADERS_H */
