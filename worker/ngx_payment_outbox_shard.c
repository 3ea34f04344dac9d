/*
 * What all parts of a shard's outbox need; see ngx_payment_outbox_shard.h.
 */

#include "ngx_payment_outbox_shard.h"
#include "ngx_payment_row.h"


static void ngx_payment_outbox_shard_error(ngx_payment_outbox_shard_t *sh,
    const char *phase, ngx_payment_db_stmt_t *stmt);


ngx_int_t
ngx_payment_outbox_shard_init(ngx_payment_outbox_shard_t *sh, size_t capacity)
{
    if (payment_inflight_create(&sh->table, capacity, ngx_payment_row_free)
        != 0)
    {
        return NGX_ERROR;
    }

    sh->table.owner = sh->data;

    return NGX_OK;
}


ngx_int_t
ngx_payment_outbox_shard_check(ngx_payment_outbox_shard_t *sh,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n, ngx_uint_t lost,
    const char *phase)
{
    ngx_payment_db_stmt_t  *stmt;

    stmt = lost ? NULL : ngx_payment_db_error_of(stmts, n);

    if (!lost && stmt == NULL) {
        return NGX_OK;
    }

    (void) ngx_atomic_fetch_add(&sh->stats->errors, 1);

    if (stmt) {
        ngx_payment_outbox_shard_error(sh, phase, stmt);
    }

    return NGX_ERROR;
}


/* One line for each change of the error: a storm of equal ones is counted. */

static void
ngx_payment_outbox_shard_error(ngx_payment_outbox_shard_t *sh,
    const char *phase, ngx_payment_db_stmt_t *stmt)
{
    if (sh->last_error == stmt->error) {
        return;
    }

    sh->last_error = stmt->error;

    ngx_log_error(NGX_LOG_ERR, sh->log, 0,
                  "payment outbox: shard \"%V\": %s failed: (%ui) %s",
                  &sh->shard->name, phase, stmt->error, stmt->message);
}


void
ngx_payment_outbox_shard_forget(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e)
{
    if (e->occupies) {
        (void) payment_inflight_vacate(e);
    }

    if (e->state == PAYMENT_EVENT_DELETING && sh->reading) {
        payment_inflight_move(e, PAYMENT_EVENT_GONE);
        return;
    }

    payment_inflight_remove(e);
}
