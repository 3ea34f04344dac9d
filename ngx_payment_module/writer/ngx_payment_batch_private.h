/*
 * Between ngx_payment_batch.c (the life of a batch) and
 * ngx_payment_transaction.c (what it says to the database); nobody else's
 * business.
 */

#ifndef NGX_PAYMENT_BATCH_PRIVATE_H
#define NGX_PAYMENT_BATCH_PRIVATE_H

#include "ngx_payment_batch.h"


/* ngx_payment_transaction.c */

/* Begins a batch's transaction on its line, or resolves the one before. */
void ngx_payment_batch_execute(ngx_payment_batch_t *b);


/* ngx_payment_batch.c: each of these takes the batch off its line, or expects
 * it to be off; the batch may be gone when it returns */

/* everybody is told */
void ngx_payment_batch_settle(ngx_payment_batch_t *b);
void ngx_payment_batch_give_up(ngx_payment_batch_t *b,
    payment_outcome_e outcome, const char *detail);

/* to be tried again, after a pause; in the end, divided or given up */
void ngx_payment_batch_again(ngx_payment_batch_t *b);

/* off the line first: */
void ngx_payment_batch_release(ngx_payment_batch_t *b);
void ngx_payment_batch_ready(ngx_payment_batch_t *b);
void ngx_payment_batch_split(ngx_payment_batch_t *b, ngx_uint_t parts);

/* tells those whose keys were found, and keeps the others */
void ngx_payment_batch_drop_found(ngx_payment_batch_t *b);

/* for qsort(): by key hash, and among equals by arrival */
int ngx_payment_batch_cmp_keys(const void *one, const void *two);

#endif /* NGX_PAYMENT_BATCH_PRIVATE_H */
