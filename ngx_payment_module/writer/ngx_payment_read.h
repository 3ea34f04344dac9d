/*
 * Reads for clients: GET, LOOKUP and OPERATIONS.
 *
 * As with a look, nothing here starts an exchange: statements are filled in,
 * and their results become the operations' outcomes.
 */

#ifndef NGX_PAYMENT_READ_H
#define NGX_PAYMENT_READ_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_batch.h"
#include "ngx_payment_db.h"


/* Adds the looks of a batch of reads, each with what makes the COMMIT that
 * follows confirm what it finds.  Where the shard keeps operations, these look
 * for the metadata of the authorizations, too.  Returns how many statements the
 * exchange has then; 0: no memory. */
ngx_uint_t ngx_payment_read_add(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n,
    const ngx_payment_shard_t *shard);

/* What these looks have found; s: the first of them.  NGX_ERROR: no memory. */
ngx_int_t ngx_payment_read_results(ngx_payment_batch_t *b, ngx_pool_t *pool,
    const ngx_payment_db_stmt_t *s, ngx_uint_t metadata);

/* Is there a key that was looked up and not found? */
ngx_uint_t ngx_payment_read_missed(const ngx_payment_batch_t *b);

/* Decides on these: res has the keys that any transaction has inserted.  A
 * look-up is BLOCKED if its key is one of them, or if this node is about to
 * write it; otherwise there is no such key. */
void ngx_payment_read_doubted(ngx_payment_batch_t *b, MYSQL_RES *res);

#endif /* NGX_PAYMENT_READ_H */
