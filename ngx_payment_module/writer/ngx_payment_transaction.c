/*
 * What the ways of a batch have in common: see ngx_payment_transaction.h.
 *
 * What a look has found, or not, is not told at once:
 *   - A key or a payment was found by reading: InnoDB shows what was committed
 *     before its log is on disk, so that a crash could take it back.  It is
 *     told only after a COMMIT of this connection that began after the look and
 *     that changed a row, the barrier's, if the batch itself changes none.
 *   - Nothing was found by reading: with durability replica that, too, is told
 *     only after such a COMMIT, for the server may have been replaced.
 */

#include "ngx_payment_rights.h"
#include "ngx_payment_storm.h"
#include "ngx_payment_transaction.h"


/* for how long a server that nobody has claimed is not asked about that */
#define NGX_PAYMENT_TRANSACTION_UNGUARDED     1000    /* ms */

/* COMMIT for a user who may write in spite of read_only: a primary may have
 * been demoted since the transaction began */
#define NGX_PAYMENT_TRANSACTION_COMMIT_MIGHTY                                 \
    "BEGIN NOT ATOMIC IF CONCAT(@@global.read_only) NOT IN ('0', 'OFF')"      \
    " THEN ROLLBACK; SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1290,"         \
    " MESSAGE_TEXT = 'the server is read-only, though not for this user';"    \
    " END IF; COMMIT; END"


static void ngx_payment_transaction_ask_looks(ngx_payment_transaction_t *t,
    ngx_uint_t n, ngx_payment_db_done_pt done);
static ngx_uint_t ngx_payment_transaction_confirmed(
    ngx_payment_transaction_t *t);


/*
 * Whoever waits for a lock, be it a row's or a table's (which a backup may hold
 * for a moment), gives up before read_timeout is over: an error leaves nothing
 * to be found out.  And the server ends a transaction that has said nothing for
 * two seconds: a COMMIT that the network has lost would otherwise lock its keys
 * for as long as the server believes in the connection, which is hours.  The
 * answer to a COMMIT says which GTID it got, where there is a binary log.
 */

const char *const  ngx_payment_transaction_session[] = {
    "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1,"
    " idle_transaction_timeout = 2, autocommit = 0,"
    " session_track_system_variables = 'last_gtid'",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    NULL
};


uint64_t
ngx_payment_transaction_by(const ngx_payment_transaction_t *t)
{
    return ngx_payment_seen_by((uintptr_t) t->shard->common, t->db->choice,
                               t->shard->durability);
}


void
ngx_payment_transaction_exchange(ngx_payment_transaction_t *t, ngx_uint_t n,
    ngx_payment_db_done_pt done)
{
    ngx_payment_db_exchange(t->db, t->stmts, n, t->shard->read_timeout, done);
}


void
ngx_payment_transaction_ask(ngx_payment_transaction_t *t, const char *head,
    const char *tail, ngx_payment_look_list_e list,
    ngx_payment_db_done_pt done)
{
    ngx_uint_t  n;

    n = ngx_payment_look_add(t->batch, t->pool, t->stmts, 1, head, tail, list);

    ngx_payment_transaction_ask_looks(t, n, done);
}


void
ngx_payment_transaction_ask_reads(ngx_payment_transaction_t *t, ngx_uint_t n,
    ngx_payment_db_done_pt done)
{
    if (n && ngx_payment_transaction_confirms_none(t)) {
        n = ngx_payment_look_barrier(t->batch, t->pool, &t->stmts[n], 0)
            == NGX_OK ? n + 1 : 0;
    }

    ngx_payment_transaction_ask_looks(t, n, done);
}


/* Asks for the looks that have been added from the second statement on; n: how
 * many statements there are, or 0. */

static void
ngx_payment_transaction_ask_looks(ngx_payment_transaction_t *t, ngx_uint_t n,
    ngx_payment_db_done_pt done)
{
    if (n == 0) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    ngx_memzero(t->stmts, sizeof(ngx_payment_db_stmt_t));
    t->stmts[0].sql = *ngx_payment_topology_sql(t->shard->durability, 0);

    n += ngx_payment_transaction_add_commit(t, &t->stmts[n]);

    ngx_payment_transaction_exchange(t, n, done);
}


ngx_int_t
ngx_payment_transaction_asked(ngx_payment_transaction_t *t, const char *phase,
    ngx_uint_t lost)
{
    if (!lost && t->stmts[0].error == 0
        && !ngx_payment_transaction_is_primary(t, &t->stmts[0]))
    {
        t->reason = NGX_PAYMENT_DB_UNFIT;
        ngx_payment_db_leave(t->db);
        return NGX_ERROR;
    }

    return ngx_payment_transaction_check(t, phase, lost);
}


ngx_int_t
ngx_payment_transaction_check(ngx_payment_transaction_t *t,
    const char *phase, ngx_uint_t lost)
{
    ngx_payment_db_stmt_t  *s;

    if (lost) {
        return NGX_ERROR;
    }

    s = ngx_payment_db_error_of(t->stmts, t->db->n);

    if (s) {
        ngx_payment_transaction_log(t, phase, s);

        if (ngx_payment_db_classify(s->error) == NGX_PAYMENT_DB_UNFIT) {
            ngx_payment_db_leave(t->db);
        } else {
            ngx_payment_db_reset(t->db);
        }

        return NGX_ERROR;
    }

    if (ngx_payment_transaction_confirmed(t)) {

        if (t->db->gtid[0]) {
            ngx_payment_gtid_confirmed(t->shard, t->db->gtid);
        }

    } else {
        (void) ngx_atomic_fetch_add(
            &ngx_payment_transaction_stats(t)->unconfirmed, 1);
        t->db->gtid[0] = '\0';
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_payment_transaction_add_commit(ngx_payment_transaction_t *t,
    ngx_payment_db_stmt_t *stmts)
{
    ngx_memzero(stmts, 2 * sizeof(ngx_payment_db_stmt_t));

    if (t->db->mighty) {
        ngx_str_set(&stmts[0].sql, NGX_PAYMENT_TRANSACTION_COMMIT_MIGHTY);
    } else {
        ngx_str_set(&stmts[0].sql, "COMMIT");
    }

    if (t->shard->durability == NGX_PAYMENT_DURABILITY_LOCAL) {
        return 1;
    }

    stmts[1].sql = *ngx_payment_topology_unconfirmed_sql();

    return 2;
}


/* The answer whether a replica has confirmed COMMIT, which is the last of an
 * exchange.  It counts for the whole server: whether the commit that lacks a
 * replica was this one, or another one meanwhile, is found out by the next. */

static ngx_uint_t
ngx_payment_transaction_confirmed(ngx_payment_transaction_t *t)
{
    uint64_t                before;
    ngx_payment_db_stmt_t  *s;

    s = &t->stmts[t->db->n - 1];

    if (s->sql.data != ngx_payment_topology_unconfirmed_sql()->data) {
        return 1;
    }

    before = t->db->unconfirmed;
    t->db->unconfirmed = ngx_payment_topology_sum(s->result);

    return t->db->unconfirmed == before;
}


ngx_uint_t
ngx_payment_transaction_confirms_none(const ngx_payment_transaction_t *t)
{
    return t->shard->durability == NGX_PAYMENT_DURABILITY_REPLICA;
}


ngx_uint_t
ngx_payment_transaction_is_guarded(const ngx_payment_transaction_t *t)
{
    return t->shard->common->claimed
           || t->shard->durability != NGX_PAYMENT_DURABILITY_LOCAL
           || t->db->mighty
           || ngx_current_msec - t->guarded_at
              >= NGX_PAYMENT_TRANSACTION_UNGUARDED;
}


ngx_uint_t
ngx_payment_transaction_is_primary(ngx_payment_transaction_t *t,
    const ngx_payment_db_stmt_t *s)
{
    if (ngx_payment_topology_fit(t->shard, s->result)) {
        return 1;
    }

    (void) ngx_atomic_fetch_add(&ngx_payment_transaction_stats(t)->refused, 1);

    return 0;
}


void
ngx_payment_transaction_let_go(ngx_payment_transaction_t *t,
    ngx_payment_op_standing_e standing)
{
    ngx_queue_t  ops;

    ngx_queue_init(&ops);
    ngx_payment_batch_take(t->batch, standing, &ops);

    t->left(t, &ops);
}


void
ngx_payment_transaction_end(ngx_payment_transaction_t *t,
    ngx_payment_transaction_end_e end)
{
    ngx_payment_batch_t  *b;

    b = t->batch;
    t->batch = NULL;

    if (t->pool) {
        ngx_destroy_pool(t->pool);
        t->pool = NULL;
    }

    t->ended(t, b, end);
}


ngx_payment_shard_stats_t *
ngx_payment_transaction_stats(ngx_payment_transaction_t *t)
{
    return &t->stats->shards[t->shard->index];
}


void
ngx_payment_transaction_log(ngx_payment_transaction_t *t, const char *phase,
    const ngx_payment_db_stmt_t *s)
{
    const char            *note;
    ngx_payment_server_t  *server;

    t->shard->common->last_error =
              ngx_payment_stats_error(s->error, ngx_payment_unix_us() / 1000);

    note = ngx_payment_storm_note(&t->shard->failures, s->error);

    if (note == NULL) {
        return;
    }

    server = (ngx_payment_server_t *) t->shard->servers.elts + t->db->server;

    ngx_log_error(NGX_LOG_ERR, t->log, 0,
                  "payment: shard \"%V\": %s a batch of %ui failed, "
                  "try %ui, server %V: (%ui) %s%s%s",
                  &t->shard->name, phase, t->batch->n, t->batch->tries + 1,
                  &server->name, s->error, s->message,
                  ngx_payment_rights_advice(s->error), note);
}
