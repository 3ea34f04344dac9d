/*
 * The ways of batches of READS and of LISTS.
 *
 * A client looks a key up, and it is not there: only if no transaction has
 * inserted it, and no operation of this node is about to, is it nobody's.
 * Otherwise the look-up leaves the batch, and asks again a moment later.
 */

#ifndef NGX_PAYMENT_TRANSACTION_READS_H
#define NGX_PAYMENT_TRANSACTION_READS_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_transaction.h"


/* Both are of ngx_payment_transaction_run() alone. */

/* GET, LOOKUP and OPERATIONS. */
void ngx_payment_transaction_reads_get(ngx_payment_transaction_t *t);

/* LIST: pages of merchants' payments. */
void ngx_payment_transaction_reads_list(ngx_payment_transaction_t *t);

#endif /* NGX_PAYMENT_TRANSACTION_READS_H */
