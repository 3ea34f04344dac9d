/*
 * Pages of merchants' payments: LIST.
 *
 * As with a look, nothing here starts an exchange: a statement is filled in,
 * and its result becomes the operations' outcomes.
 *
 * A page is what is below an id in the index payment_merchant, which has a
 * merchant's ids in order of their time.  Where a status or a currency is asked
 * for, the rows of at most NGX_PAYMENT_LIST_EXAMINED of these are looked at: a
 * page may then be short, or empty, and others follow all the same.  No
 * statement goes without that index, so that none walks the table.
 */

#ifndef NGX_PAYMENT_LIST_H
#define NGX_PAYMENT_LIST_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_batch.h"
#include "ngx_payment_db.h"


/* rows that are looked at for one page */
#define NGX_PAYMENT_LIST_EXAMINED  128

/* pages of one exchange */
#define NGX_PAYMENT_LIST_PAGES     8


/* Adds the look of a batch of LISTs, with what makes the COMMIT that follows
 * confirm what it finds.  Returns how many statements the exchange has then; 0:
 * no memory. */
ngx_uint_t ngx_payment_list_add(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n,
    const ngx_payment_shard_t *shard);

/* Did the server refuse that look because the index is not there? */
ngx_uint_t ngx_payment_list_lacks_index(const ngx_payment_db_stmt_t *s);

/* What the look has found.  NGX_ERROR: no memory. */
ngx_int_t ngx_payment_list_results(const ngx_payment_batch_t *b,
    const ngx_payment_db_stmt_t *s);

#endif /* NGX_PAYMENT_LIST_H */
