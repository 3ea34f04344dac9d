/*
 * References: the merchant's own names for captures, refunds and voids.  No two
 * operations of a payment have the same, where operations are kept; where they
 * are not, nobody knows.
 *
 * As with a look, nothing here starts an exchange: a statement is filled in,
 * and the result of one is read.
 */

#ifndef NGX_PAYMENT_REFERENCES_H
#define NGX_PAYMENT_REFERENCES_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_batch.h"
#include "ngx_payment_db.h"


/* A row for each reference that an operation brings and its payment has.  The
 * operations of a payment may be many, and are looked through once.  NGX_ERROR:
 * no memory. */
ngx_int_t ngx_payment_references_sql(const ngx_payment_batch_t *b,
    ngx_pool_t *pool, ngx_str_t *sql);

/* Operations whose references are among these rows are referred. */
void ngx_payment_references_mark_referred(const ngx_payment_batch_t *b,
    MYSQL_RES *res);

/* Has the payment of an operation another one with the same reference, in the
 * database or, before it, in the batch? */
ngx_uint_t ngx_payment_references_is_referred(const ngx_payment_batch_t *b,
    ngx_uint_t i);

#endif /* NGX_PAYMENT_REFERENCES_H */
