/*
 * Deletes the rows of events that Kafka has acknowledged, many at a time, or
 * moves them to the archive.
 *
 * Owner: the helper process.
 * Limits: NGX_PAYMENT_FENCE_IDS_MAX rows at a time; a row waits
 * NGX_PAYMENT_DELETE_DELAY for others, unless half of that many wait.
 */

#ifndef NGX_PAYMENT_DELETE_H
#define NGX_PAYMENT_DELETE_H

#include "ngx_payment_fence.h"


#define NGX_PAYMENT_DELETE_DELAY      20       /* ms */


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_fence_t         *fence;

    ngx_payment_db_stmt_t       *work;        /* the statement that counts */
    ngx_event_t                  timer;
    unsigned                     due:1;
} ngx_payment_delete_t;


void ngx_payment_delete_init(ngx_payment_delete_t *d);
void ngx_payment_delete_close(ngx_payment_delete_t *d);

/* An event became ACKED: its row is deleted soon, with others. */
void ngx_payment_delete_acked(ngx_payment_delete_t *d);

/* All that are ACKED are to be deleted when the fence's turn comes next. */
void ngx_payment_delete_all(ngx_payment_delete_t *d);

/* a job of the fence */
ngx_int_t ngx_payment_delete_step(void *part, uint64_t now_ms);
void ngx_payment_delete_done(void *part, ngx_uint_t lost);

#endif /* NGX_PAYMENT_DELETE_H */
