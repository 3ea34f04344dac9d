/* Reads for clients: see ngx_payment_transaction_reads.h. */

#include "ngx_payment_list.h"
#include "ngx_payment_read.h"
#include "ngx_payment_storm.h"
#include "ngx_payment_transaction_reads.h"


static void ngx_payment_transaction_reads_get_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_reads_doubt(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_reads_doubt_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_reads_list_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_reads_list_refused(
    ngx_payment_transaction_t *t);


void
ngx_payment_transaction_reads_get(ngx_payment_transaction_t *t)
{
    ngx_uint_t  n;

    n = ngx_payment_read_add(t->batch, t->pool, t->stmts, 1,
                             t->shard);

    ngx_payment_transaction_ask_reads(t, n,
                                      ngx_payment_transaction_reads_get_done);
}


static void
ngx_payment_transaction_reads_get_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_transaction_t  *t;

    t = db->data;

    if (ngx_payment_transaction_asked(t, "reading", lost) != NGX_OK
        || ngx_payment_read_results(t->batch, t->pool, &t->stmts[1],
                                    t->shard->operations)
           != NGX_OK)
    {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    if (ngx_payment_read_missed(t->batch)) {
        ngx_payment_transaction_reads_doubt(t);
        return;
    }

    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_DONE);
}


/*
 * A key that was not found is told to be nobody's only if no transaction, of
 * whichever node, has inserted it: it would be committed a moment later.  READ
 * UNCOMMITTED shows it, and waits for nobody.
 */

static void
ngx_payment_transaction_reads_doubt(ngx_payment_transaction_t *t)
{
    ngx_memzero(t->stmts, 3 * sizeof(ngx_payment_db_stmt_t));

    ngx_str_set(&t->stmts[0].sql,
                "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED");
    ngx_str_set(&t->stmts[2].sql, "COMMIT");

    if (ngx_payment_look_sql(t->batch, t->pool, &t->stmts[1].sql,
                             "SELECT key_hash FROM idempotency_key"
                             " WHERE key_hash IN (", ")",
                             NGX_PAYMENT_LOOK_LOOKUPS)
        != NGX_OK)
    {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    ngx_payment_transaction_exchange(t, 3,
                                     ngx_payment_transaction_reads_doubt_done);
}


static void
ngx_payment_transaction_reads_doubt_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_transaction_t  *t;

    t = db->data;

    if (ngx_payment_transaction_check(t, "looking keys up", lost) != NGX_OK) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    ngx_payment_read_doubted(t->batch, t->stmts[1].result);

    ngx_payment_transaction_let_go(t, NGX_PAYMENT_OP_BLOCKED);
    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_DONE);
}


void
ngx_payment_transaction_reads_list(ngx_payment_transaction_t *t)
{
    ngx_uint_t  n;

    n = ngx_payment_list_add(t->batch, t->pool, t->stmts, 1, t->shard);

    ngx_payment_transaction_ask_reads(t, n,
                                      ngx_payment_transaction_reads_list_done);
}


static void
ngx_payment_transaction_reads_list_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_transaction_t  *t;

    t = db->data;

    if (!lost && ngx_payment_list_lacks_index(&t->stmts[1])) {
        ngx_payment_transaction_reads_list_refused(t);
        return;
    }

    if (ngx_payment_transaction_asked(t, "listing", lost) != NGX_OK
        || ngx_payment_list_results(t->batch, &t->stmts[1]) != NGX_OK)
    {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_DONE);
}


/* The index that lists need is an operator's to make, and may be made while
 * nginx runs.  The connection is as good as before. */

static void
ngx_payment_transaction_reads_list_refused(ngx_payment_transaction_t *t)
{
    ngx_uint_t                   i;
    const char                  *note;
    static ngx_payment_storm_t   storm;

    for (i = 0; i < t->batch->n; i++) {
        ngx_payment_op_fail(t->batch->ops[i], PAYMENT_UNAVAILABLE,
                            "payments cannot be listed: the database has no "
                            "index for it");
    }

    note = ngx_payment_storm_note(&storm, 1 + t->shard->index);

    if (note) {
        ngx_log_error(NGX_LOG_ERR, t->log, 0,
                      "payment: shard \"%V\": payments cannot be listed, "
                      "there is no index payment_merchant: run "
                      "\"ngx-payment-migrate add merchant_index %V\"%s",
                      &t->shard->name, &t->shard->database, note);
    }

    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_DONE);
}
