/*
 * The way of a batch of REPEATS, whose keys were used, probably: they are
 * looked up, and what is not found runs again as WRITES.  A row of which
 * somebody was told before, by this server, need not be confirmed.
 */

#ifndef NGX_PAYMENT_TRANSACTION_REPEATS_H
#define NGX_PAYMENT_TRANSACTION_REPEATS_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_transaction.h"


/* Of ngx_payment_transaction_run() alone. */
void ngx_payment_transaction_repeats(ngx_payment_transaction_t *t);

#endif /* NGX_PAYMENT_TRANSACTION_REPEATS_H */
