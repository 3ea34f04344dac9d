/* Likely repeats: see ngx_payment_transaction_repeats.h. */

#include "ngx_payment_transaction_repeats.h"


static ngx_uint_t ngx_payment_transaction_repeats_are_told(
    const ngx_payment_transaction_t *t);
static void ngx_payment_transaction_repeats_told(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_repeats_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_repeats_doubt(
    ngx_payment_transaction_t *t);


void
ngx_payment_transaction_repeats(ngx_payment_transaction_t *t)
{
    if (ngx_payment_transaction_repeats_are_told(t)) {
        ngx_payment_transaction_repeats_told(t);
        return;
    }

    t->guarded = 1;
    ngx_payment_transaction_ask(t, ngx_payment_look_texts(t->shard)->keys,
                                ")",
                                NGX_PAYMENT_LOOK_KEYS,
                                ngx_payment_transaction_repeats_done);
}


/* Was somebody told of each of the keys?  Where authorizations may expire, that
 * proves nothing: the answer says whether they have, which may have happened
 * since, and not be on disk yet. */

static ngx_uint_t
ngx_payment_transaction_repeats_are_told(const ngx_payment_transaction_t *t)
{
    ngx_uint_t  i;

    if (t->shard->expiry) {
        return 0;
    }

    for (i = 0; i < t->batch->n; i++) {
        if (t->batch->ops[i]->told == NGX_PAYMENT_SEEN_ONLY) {
            return 0;
        }
    }

    return 1;
}


/*
 * A look at the keys, and no barrier: a row of which somebody was told by this
 * server is on its disk.  What its operation came to stands in that row, and in
 * what of its payment never changes.
 */

static void
ngx_payment_transaction_repeats_told(ngx_payment_transaction_t *t)
{
    ngx_uint_t  n;

    n = 0;
    ngx_memzero(t->stmts, 3 * sizeof(ngx_payment_db_stmt_t));
    t->guarded = ngx_payment_transaction_is_guarded(t);

    if (t->guarded) {
        t->stmts[n++].sql = *ngx_payment_topology_sql(t->shard->durability, 0);
    }

    if (ngx_payment_look_repeats(t->batch, t->shard, t->pool,
                                 &t->stmts[n++].sql)
        != NGX_OK)
    {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    ngx_str_set(&t->stmts[n].sql, "ROLLBACK");

    if (t->guarded) {
        t->guarded_at = ngx_current_msec;
    }

    ngx_payment_transaction_exchange(t, n + 1,
                                     ngx_payment_transaction_repeats_done);
}


static void
ngx_payment_transaction_repeats_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_int_t                   rc;
    ngx_payment_transaction_t  *t;

    static const char  phase[] = "looking keys up";

    t = db->data;
    rc = t->guarded ? ngx_payment_transaction_asked(t, phase, lost)
                    : ngx_payment_transaction_check(t, phase, lost);

    if (rc != NGX_OK || !ngx_payment_common_stands(t->shard, db->choice)) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    (void) ngx_payment_look_found(t->batch, ngx_payment_transaction_by(t),
                                  t->stmts[t->guarded ? 1 : 0].result);

    if (ngx_payment_transaction_repeats_are_told(t)) {
        ngx_payment_transaction_repeats_doubt(t);
    }

    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_REST);
}


/* Behind a look without a barrier.  It may be another row than the one that was
 * told of: the key was forgotten and used anew, or there is another server; and
 * nobody was told that a payment was removed.  Those are looked up again, with
 * a barrier. */

static void
ngx_payment_transaction_repeats_doubt(ngx_payment_transaction_t *t)
{
    ngx_uint_t         i;
    ngx_payment_op_t  *op;

    for (i = 0; i < t->batch->n; i++) {
        op = t->batch->ops[i];

        if (op->standing == NGX_PAYMENT_OP_FOUND && op->found != op->told) {
            op->standing = NGX_PAYMENT_OP_UNSURE;
            op->told = NGX_PAYMENT_SEEN_ONLY;
        }
    }

    ngx_payment_transaction_let_go(t, NGX_PAYMENT_OP_UNSURE);
}
