/*
 * Runs a batch, in the way of its kind.  One that writes goes through
 *
 *     READ      what changes are about: payments FOR UPDATE, keys   (changes)
 *               and whether what was not found is not there, or is locked
 *     WRITE     the bulk statements, pipelined
 *     COMMIT
 *
 * so a batch of authorizations costs two round trips, and one of likely repeats
 * costs one.  Every transaction takes its locks in one order: payments by id,
 * then keys by hash.
 */

#ifndef NGX_PAYMENT_TRANSACTION_RUN_H
#define NGX_PAYMENT_TRANSACTION_RUN_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_transaction.h"


/* Runs a batch, on a connection that is IDLE.  ended() follows, perhaps from
 * within this call. */
void ngx_payment_transaction_run(ngx_payment_transaction_t *t,
    ngx_payment_batch_t *b);

#endif /* NGX_PAYMENT_TRANSACTION_RUN_H */
