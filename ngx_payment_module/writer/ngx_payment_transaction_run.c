/*
 * Runs a batch: see ngx_payment_transaction_run.h for the straight way, which
 * is
 *
 *     [READ] -> WRITE -> COMMIT -> DONE
 *
 * What leads off that way:
 *   - A statement fails: ROLLBACK, and then the reason decides.  A key that was
 *     used before is looked up, so that its operation is answered and the
 *     others run again; what the server rolled back runs again after a pause;
 *     what it refuses is divided until the operation to blame is alone.
 *   - Another transaction holds the row of a payment: the operations on that
 *     payment leave the batch, so that no other operation waits with them.
 *   - Nothing is to be written, but something was found: a COMMIT of the
 *     barrier alone confirms it.
 *   - The connection dies before COMMIT was sent: nothing has happened, and the
 *     batch runs again.
 *   - The connection dies after that: the outcome is unknown.  The batch's next
 *     run only reads its keys, under a lock, so that a COMMIT which is still
 *     under way is waited for.  A key that is found was committed; one that is
 *     not was rolled back, and its operation runs again.
 *
 * No operation has its outcome before the transaction has ended: even a
 * conflict may be due to a change of the same batch.
 */

#include "ngx_payment_assert.h"
#include "ngx_payment_batch_span.h"
#include "ngx_payment_doorbell.h"
#include "ngx_payment_references.h"
#include "ngx_payment_transaction_reads.h"
#include "ngx_payment_transaction_repeats.h"
#include "ngx_payment_transaction_run.h"

#include <mysqld_error.h>


#if (NGX_PAYMENT_SECRET_LEN != PAYMENT_SECRET_SIZE)
#error "the secret of an installation is what the ids of payments are made with"
#endif


#define NGX_PAYMENT_TRANSACTION_POOL          16384   /* bytes, at first */

/* how many batches are made of one that has waited for a lock in vain */
#define NGX_PAYMENT_TRANSACTION_LOCKED_PARTS  8


static void ngx_payment_transaction_read(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_read_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static int64_t ngx_payment_transaction_clock(MYSQL_RES *res);
static ngx_uint_t ngx_payment_transaction_mark_missing(
    ngx_payment_transaction_t *t);
static void ngx_payment_transaction_look(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_look_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_apply(ngx_payment_transaction_t *t);
static payment_outcome_e ngx_payment_transaction_change(
    ngx_payment_transaction_t *t, ngx_uint_t i, payment_t *p);
static void ngx_payment_transaction_write(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_write_none(ngx_payment_transaction_t *t,
    ngx_uint_t found);
static ngx_int_t ngx_payment_transaction_fill(ngx_payment_transaction_t *t);
static ngx_int_t ngx_payment_transaction_add_event(
    ngx_payment_transaction_t *t, ngx_payment_op_t *op);
static void ngx_payment_transaction_write_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_commit(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_commit_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_prove(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_confirm(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_confirm_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_failed(ngx_payment_transaction_t *t,
    const char *phase, ngx_payment_db_stmt_t *s);
static void ngx_payment_transaction_renew_ids(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_rollback(ngx_payment_transaction_t *t,
    ngx_payment_db_error_e reason);
static void ngx_payment_transaction_rollback_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static ngx_payment_transaction_end_e ngx_payment_transaction_verdict(
    ngx_payment_transaction_t *t, ngx_uint_t lost);
static void ngx_payment_transaction_resolve(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_resolve_done(ngx_payment_db_t *db,
    ngx_uint_t lost);


void
ngx_payment_transaction_run(ngx_payment_transaction_t *t,
    ngx_payment_batch_t *b)
{
    ngx_uint_t  i;

    ngx_payment_assert(t->batch == NULL && b->n > 0);

    t->batch = b;
    t->loaded.n = 0;
    t->error = 0;
    t->reason = NGX_PAYMENT_DB_OK;

    t->pool = ngx_create_pool(NGX_PAYMENT_TRANSACTION_POOL, t->log);
    if (t->pool == NULL) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    if (b->unknown) {
        ngx_payment_transaction_resolve(t);
        return;
    }

    for (i = 0; i < b->n; i++) {
        b->ops[i]->outcome = PAYMENT_OK;
        b->ops[i]->standing = NGX_PAYMENT_OP_UNDECIDED;
    }

    if (b->kind == NGX_PAYMENT_BATCH_REPEATS) {
        ngx_payment_transaction_repeats(t);

    } else if (b->kind == NGX_PAYMENT_BATCH_READS) {
        ngx_payment_transaction_reads_get(t);

    } else if (b->kind == NGX_PAYMENT_BATCH_LISTS) {
        ngx_payment_transaction_reads_list(t);

    } else if (b->changes || b->forbidden) {
        ngx_payment_transaction_read(t);

    } else {
        ngx_payment_transaction_write(t);
    }
}


/*
 * READ: locks the payments, and only then looks at the keys, so that the key of
 * a change which has just let go of its payment is seen.  Only a batch of the
 * kind WAITER waits for a lock here: in any other, one row that another
 * transaction holds would hold up all operations, and the connection.
 */

static void
ngx_payment_transaction_read(ngx_payment_transaction_t *t)
{
    ngx_uint_t   n;
    const char  *tail;

    tail = (t->batch->kind == NGX_PAYMENT_BATCH_WAITER)
           ? ") ORDER BY p.id FOR UPDATE"
           : ") ORDER BY p.id FOR UPDATE SKIP LOCKED";

    /* with forbidden operations the keys are locked, and so waited for if they
     * are about to be committed: the INSERT that would wait is never made */

    n = t->batch->forbidden ? 4 : 3;

    ngx_memzero(t->stmts, (n + 1) * sizeof(ngx_payment_db_stmt_t));

    if (ngx_payment_look_sql(t->batch, t->pool, &t->stmts[0].sql,
                             ngx_payment_look_texts(t->shard)->payments, tail,
                             NGX_PAYMENT_LOOK_PAYMENTS)
        != NGX_OK
        || (t->batch->forbidden
            && ngx_payment_look_sql(t->batch, t->pool, &t->stmts[1].sql,
                                    "SELECT 1 FROM idempotency_key"
                                    " WHERE key_hash IN (",
                                    ") LOCK IN SHARE MODE",
                                    NGX_PAYMENT_LOOK_KEYS)
               != NGX_OK)
        || ngx_payment_look_sql(t->batch, t->pool, &t->stmts[n - 2].sql,
                                ngx_payment_look_texts(t->shard)->keys, ")",
                                NGX_PAYMENT_LOOK_KEYS)
           != NGX_OK)
    {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    t->stmts[n - 1].sql = *ngx_payment_topology_sql(t->shard->durability, 0);

    /* behind the locks of the payments, so that it is true until COMMIT */

    if (t->shard->operations && t->batch->references
        && ngx_payment_references_sql(t->batch, t->pool, &t->stmts[n++].sql)
           != NGX_OK)
    {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    /* so is the clock, and so that no time is older than what was waited for */

    if (t->shard->expiry) {
        ngx_memzero(&t->stmts[n], sizeof(ngx_payment_db_stmt_t));
        ngx_str_set(&t->stmts[n].sql,
                    "SELECT " NGX_PAYMENT_DB_MS("UTC_TIMESTAMP(3)"));
        n++;
    }

    ngx_payment_transaction_exchange(t, n, ngx_payment_transaction_read_done);
}


static void
ngx_payment_transaction_read_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t                  i, n;
    ngx_payment_batch_t        *b;
    ngx_payment_db_stmt_t      *s;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (lost) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    if (b->kind == NGX_PAYMENT_BATCH_WAITER
        && t->stmts[0].error == ER_LOCK_WAIT_TIMEOUT)
    {
        for (i = 0; i < b->n; i++) {
            b->ops[i]->standing = NGX_PAYMENT_OP_BLOCKED;
        }

        ngx_payment_transaction_log(t, "reading", &t->stmts[0]);
        ngx_payment_transaction_let_go(t, NGX_PAYMENT_OP_BLOCKED);
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_OK);
        return;
    }

    s = ngx_payment_db_error_of(t->stmts, db->n);
    if (s) {
        ngx_payment_transaction_failed(t, "reading", s);
        return;
    }

    n = db->n;

    if (t->shard->expiry) {
        t->clock_ms = ngx_payment_transaction_clock(t->stmts[--n].result);
    }

    if (t->shard->operations && b->references) {
        ngx_payment_references_mark_referred(b, t->stmts[--n].result);
    }

    if (!ngx_payment_transaction_is_primary(t, &t->stmts[n - 1])) {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_UNFIT);
        return;
    }

    if (ngx_payment_look_load(&t->loaded, t->pool, t->stmts[0].result)
        != NGX_OK)
    {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
        return;
    }

    (void) ngx_payment_look_found(t->batch, ngx_payment_transaction_by(t),
                                  t->stmts[n - 2].result);

    if (ngx_payment_transaction_mark_missing(t)) {
        ngx_payment_transaction_look(t);
        return;
    }

    ngx_payment_transaction_apply(t);
    ngx_payment_transaction_write(t);
}


static int64_t
ngx_payment_transaction_clock(MYSQL_RES *res)
{
    MYSQL_ROW  row;

    row = mysql_fetch_row(res);

    return row && row[0] ? strtoll(row[0], NULL, 10) : 0;
}


/* Operations whose payment was not read are BLOCKED, until a look without locks
 * tells which of these payments are not there at all.  Returns how many. */

static ngx_uint_t
ngx_payment_transaction_mark_missing(ngx_payment_transaction_t *t)
{
    ngx_uint_t            i, n;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;

    for (i = 0, n = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation != PAYMENT_AUTHORIZE
            && op->standing != NGX_PAYMENT_OP_FOUND
            && ngx_payment_look_locate(&t->loaded, op->request.payment_id)
               == NULL)
        {
            op->standing = NGX_PAYMENT_OP_BLOCKED;
            n++;
        }
    }

    return n;
}


static void
ngx_payment_transaction_look(ngx_payment_transaction_t *t)
{
    ngx_memzero(t->stmts, sizeof(ngx_payment_db_stmt_t));

    if (ngx_payment_look_sql(t->batch, t->pool, &t->stmts[0].sql,
                             "SELECT id FROM payment WHERE id IN (",
                             ")", NGX_PAYMENT_LOOK_PAYMENTS)
        != NGX_OK)
    {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
        return;
    }

    ngx_payment_transaction_exchange(t, 1, ngx_payment_transaction_look_done);
}


static void
ngx_payment_transaction_look_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    MYSQL_ROW                   row;
    ngx_uint_t                  i;
    ngx_payment_op_t           *op;
    ngx_payment_batch_t        *b;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (lost) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    if (t->stmts[0].error) {
        ngx_payment_transaction_failed(t, "reading", &t->stmts[0]);
        return;
    }

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->standing != NGX_PAYMENT_OP_BLOCKED) {
            continue;
        }

        op->standing = NGX_PAYMENT_OP_UNDECIDED;
        mysql_data_seek(t->stmts[0].result, 0);

        while ((row = mysql_fetch_row(t->stmts[0].result)) != NULL) {
            if (ngx_memcmp(op->request.payment_id, row[0], PAYMENT_ID_SIZE)
                == 0)
            {
                op->standing = NGX_PAYMENT_OP_BLOCKED;
                break;
            }
        }
    }

    ngx_payment_transaction_let_go(t, NGX_PAYMENT_OP_BLOCKED);
    ngx_payment_transaction_apply(t);
    ngx_payment_transaction_write(t);
}


/* Does the changes, one after the other, on the payments in memory.  What the
 * rules forbid, and no key has saved, has the outcome that was kept for it. */

static void
ngx_payment_transaction_apply(ngx_payment_transaction_t *t)
{
    ngx_uint_t            i;
    payment_t            *p;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.forbidden && op->outcome == PAYMENT_OK) {
            op->outcome = op->fault.outcome;
        }

        if (op->request.operation == PAYMENT_AUTHORIZE
            || op->outcome != PAYMENT_OK)
        {
            continue;
        }

        p = ngx_payment_look_payment(&t->loaded, &op->request);

        if (p == NULL) {
            ngx_payment_op_fail(op, PAYMENT_NOT_FOUND, "no such payment");
            continue;
        }

        op->outcome = ngx_payment_transaction_change(t, i, p);
        op->payment = *p;

        if (op->outcome == PAYMENT_OK) {
            op->standing = NGX_PAYMENT_OP_APPLIED;
        }
    }
}


static payment_outcome_e
ngx_payment_transaction_change(ngx_payment_transaction_t *t, ngx_uint_t i,
    payment_t *p)
{
    ngx_payment_op_t   *op;
    payment_outcome_e   outcome;

    op = t->batch->ops[i];

    if (t->shard->expiry) {
        outcome = payment_state_in_time(p, &op->request, t->clock_ms,
                                        &op->fault);
        if (outcome != PAYMENT_OK) {
            return outcome;
        }
    }

    if (t->shard->operations
        && ngx_payment_references_is_referred(t->batch, i))
    {
        return payment_state_refer(&op->request, &op->fault);
    }

    return payment_state_apply(p, &op->request, op->now_us / 1000, &op->fault);
}


/* WRITE: the bulk statements and the topology, sent together. */

static void
ngx_payment_transaction_write(ngx_payment_transaction_t *t)
{
    ngx_uint_t            i, n, found;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;
    b->nkeys = 0;
    found = 0;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation == PAYMENT_AUTHORIZE
            && op->outcome == PAYMENT_OK)
        {
            if (!op->has_id
                && !payment_id_make(op->request.payment_id, op->now_us,
                                    op->slot, op->request.key_hash,
                                    t->shard->secret))
            {
                ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
                return;
            }

            op->has_id = 1;
            ngx_memcpy(op->payment.id, op->request.payment_id,
                       PAYMENT_ID_SIZE);
            payment_state_open(&op->payment, &op->request, op->now_us / 1000);
            op->standing = NGX_PAYMENT_OP_APPLIED;
        }

        if (op->standing == NGX_PAYMENT_OP_APPLIED) {
            b->keys[b->nkeys++] = op;

        } else if (op->standing == NGX_PAYMENT_OP_FOUND) {
            found = 1;
        }
    }

    if (b->nkeys == 0) {
        ngx_payment_transaction_write_none(t, found);
        return;
    }

    if (ngx_payment_transaction_fill(t) != NGX_OK) {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
        return;
    }

    ngx_memzero(t->stmts,
                (NGX_PAYMENT_STMTS + 1) * sizeof(ngx_payment_db_stmt_t));
    n = ngx_payment_columns_statements(t->columns, t->db, t->stmts);
    t->guarded = ngx_payment_transaction_is_guarded(t);

    if (t->guarded) {
        /* locked: who moves the payments to another server, by that row, moves
         * them after this COMMIT */

        t->stmts[n++].sql = *ngx_payment_topology_sql(t->shard->durability, 1);
        t->guarded_at = ngx_current_msec;
    }

    ngx_payment_transaction_exchange(t, n, ngx_payment_transaction_write_done);
}


/* Replays and refusals only: the payments' locks are let go.  A conflict, too,
 * tells a client what was done before. */

static void
ngx_payment_transaction_write_none(ngx_payment_transaction_t *t,
    ngx_uint_t found)
{
    if (found || t->loaded.n
        || (t->batch->n && ngx_payment_transaction_confirms_none(t)))
    {
        ngx_payment_transaction_confirm(t);
    } else {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_OK);
    }
}


static ngx_int_t
ngx_payment_transaction_fill(ngx_payment_transaction_t *t)
{
    ngx_uint_t            i;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;
    ngx_payment_columns_reset(t->columns);

    for (i = 0; i < t->loaded.n; i++) {
        if (t->loaded.payments[i].version != t->loaded.versions[i]) {
            ngx_payment_columns_add_change(t->columns, &t->loaded.payments[i],
                                           t->loaded.versions[i]);
        }
    }

    /* b->keys is still in order of arrival, which is the events' order */

    for (i = 0; i < b->nkeys; i++) {
        op = b->keys[i];

        if (op->request.operation == PAYMENT_AUTHORIZE) {
            ngx_payment_columns_add_payment(t->columns, op);
        }

        if (ngx_payment_transaction_add_event(t, op) != NGX_OK) {
            return NGX_ERROR;
        }

        if (t->shard->operations) {
            ngx_payment_columns_add_operation(t->columns, op);
        }
    }

    qsort(b->keys, b->nkeys, sizeof(ngx_payment_op_t *),
          ngx_payment_op_cmp_keys);

    for (i = 0; i < b->nkeys; i++) {
        ngx_payment_columns_add_key(t->columns, b->keys[i]);
    }

    return NGX_OK;
}


/* Without metadata an event's size is bounded well, so that it is rendered in
 * one place and copied at its true length. */

static ngx_int_t
ngx_payment_transaction_add_event(ngx_payment_transaction_t *t,
    ngx_payment_op_t *op)
{
    size_t          size, len;
    u_char         *payload, *event;
    static u_char   scratch[PAYMENT_PAYLOAD_SIZE];

    payment_id_format((char *) op->id_text, op->payment.id);

    size = PAYMENT_PAYLOAD_SIZE + op->request.metadata_len;
    payload = scratch;

    if (op->request.metadata_len) {
        payload = ngx_pnalloc(t->pool, size);
        if (payload == NULL) {
            return NGX_ERROR;
        }
    }

    len = payment_render_event((char *) payload, size, &op->payment,
                               &op->request);
    event = payload;

    if (payload == scratch) {
        event = ngx_pnalloc(t->pool, len);
        if (event == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(event, scratch, len);
    }

    ngx_payment_columns_add_event(t->columns, op, event, len);

    return NGX_OK;
}


static void
ngx_payment_transaction_write_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_db_stmt_t      *s;
    ngx_payment_transaction_t  *t;

    t = db->data;

    if (lost) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    s = ngx_payment_db_error_of(t->stmts, db->n);
    if (s) {
        ngx_payment_transaction_failed(t, "writing", s);
        return;
    }

    /* the topology is asked for behind the bulk statements */

    if ((t->guarded
         && !ngx_payment_transaction_is_primary(t, &t->stmts[db->n - 1]))
        || !ngx_payment_common_stands(t->shard, db->choice))
    {
        /* another server has become the primary meanwhile */
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_UNFIT);
        return;
    }

    ngx_payment_transaction_commit(t);
}


static void
ngx_payment_transaction_commit(ngx_payment_transaction_t *t)
{
    ngx_uint_t  n;

    n = ngx_payment_transaction_add_commit(t, t->stmts);

    t->commit_ns = ngx_payment_clock_ns();

    if (t->spans) {
        t->sent_us = ngx_payment_now_us();
    }

    ngx_payment_transaction_exchange(t, n, ngx_payment_transaction_commit_done);
}


static void
ngx_payment_transaction_commit_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    uint64_t                    now;
    ngx_payment_batch_t        *b;
    ngx_payment_shard_stats_t  *stats;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (ngx_payment_transaction_check(t, "committing", lost) != NGX_OK) {

        /* an error is no proof either: only the keys are */

        b->unknown = 1;

        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    now = ngx_payment_now_us();
    stats = ngx_payment_transaction_stats(t);

    ngx_payment_histogram_add(&t->stats->commit_time, now - b->started_us);
    (void) ngx_atomic_fetch_add(&stats->batches, 1);
    (void) ngx_atomic_fetch_add(&stats->rows, (ngx_atomic_int_t) b->nkeys);

    ngx_payment_transaction_prove(t);

    ngx_payment_doorbell_ring(t->doorbell,
                              &t->stats->doorbell_armed[t->shard->index]);

    if (t->spans) {
        ngx_payment_batch_span_committed(t->spans, t->shard, b, t->sent_us,
                                         now);
    }

    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_DONE);
}


/* Before the bell rings: the helper may publish what it is told of, and what it
 * will read then.  It is told first, for what it has read as proved is no news
 * any more. */

static void
ngx_payment_transaction_prove(ngx_payment_transaction_t *t)
{
    ngx_uint_t                  i;
    ngx_payment_op_t           *op;
    ngx_payment_news_commit_t   commit;

    if (t->doorbell == NGX_INVALID_FILE || t->batch->nkeys == 0) {
        return;
    }

    commit.choice = t->db->choice;
    commit.sent_ns = t->commit_ns;
    commit.answered_us = ngx_payment_unix_us();

    ngx_payment_columns_tell(t->columns, t->news, t->shard, &commit);

    for (i = 0; i < t->batch->nkeys; i++) {
        op = t->batch->keys[i];

        ngx_payment_proved_add(t->proved,
            ngx_payment_proved_word(op->id_text, op->payment.version,
                                    t->db->choice));
    }
}


/* Nothing is to be written, but something was found. */

static void
ngx_payment_transaction_confirm(ngx_payment_transaction_t *t)
{
    ngx_uint_t  n;

    if (ngx_payment_look_barrier(t->batch, t->pool, t->stmts, 0) != NGX_OK) {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
        return;
    }

    n = 1 + ngx_payment_transaction_add_commit(t, &t->stmts[1]);

    ngx_payment_transaction_exchange(t, n,
                                     ngx_payment_transaction_confirm_done);
}


static void
ngx_payment_transaction_confirm_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_transaction_t  *t;

    t = db->data;

    ngx_payment_transaction_end(t,
        ngx_payment_transaction_check(t, "confirming", lost) == NGX_OK
        ? NGX_PAYMENT_TRANSACTION_DONE : NGX_PAYMENT_TRANSACTION_AGAIN);
}


/* A statement failed.  A used key is no failure, and not worth a line. */

static void
ngx_payment_transaction_failed(ngx_payment_transaction_t *t,
    const char *phase, ngx_payment_db_stmt_t *s)
{
    ngx_payment_db_error_e  reason;

    reason = ngx_payment_db_classify(s->error);

    if (reason == NGX_PAYMENT_DB_DUPLICATE && s->stmt
        && s->stmt == t->db->stmts[NGX_PAYMENT_STMT_PAYMENTS])
    {
        /* not a used key, but an id that another payment has */
        ngx_payment_transaction_renew_ids(t);
        reason = NGX_PAYMENT_DB_RETRY;
    }

    if (reason != NGX_PAYMENT_DB_DUPLICATE) {
        ngx_payment_transaction_log(t, phase, s);
    }

    t->error = s->error;

    ngx_payment_transaction_rollback(t, reason);
}


/* Payments are made anew, at a microsecond of their own, so that no two of the
 * batch can have one id. */

static void
ngx_payment_transaction_renew_ids(ngx_payment_transaction_t *t)
{
    int64_t            now_us;
    ngx_uint_t         i;
    ngx_payment_op_t  *op;

    now_us = (int64_t) ngx_payment_unix_us();

    for (i = 0; i < t->batch->n; i++) {
        op = t->batch->ops[i];

        if (op->request.operation == PAYMENT_AUTHORIZE) {
            op->now_us = now_us + (int64_t) i;
            op->has_id = 0;
        }
    }
}


/* ROLLBACK, for a reason; NGX_PAYMENT_DB_OK: there was nothing to write. */

static void
ngx_payment_transaction_rollback(ngx_payment_transaction_t *t,
    ngx_payment_db_error_e reason)
{
    ngx_uint_t                  n;
    ngx_payment_shard_stats_t  *stats;

    n = 1;
    stats = ngx_payment_transaction_stats(t);
    t->reason = reason;

    ngx_memzero(t->stmts, 2 * sizeof(ngx_payment_db_stmt_t));
    ngx_str_set(&t->stmts[0].sql, "ROLLBACK");

    if (reason != NGX_PAYMENT_DB_OK) {
        (void) ngx_atomic_fetch_add(&stats->rollbacks, 1);
    }

    if (reason == NGX_PAYMENT_DB_DUPLICATE) {
        (void) ngx_atomic_fetch_add(&stats->duplicate_batches, 1);

        t->stmts[1].sql = *ngx_payment_topology_sql(t->shard->durability, 0);
        n = ngx_payment_look_add(t->batch, t->pool, t->stmts, 2,
                                 ngx_payment_look_texts(t->shard)->keys,
                                 ")", NGX_PAYMENT_LOOK_KEYS);

        if (n == 0) {
            t->reason = NGX_PAYMENT_DB_RETRY;
            n = 1;

        } else {
            n += ngx_payment_transaction_add_commit(t, &t->stmts[n]);
        }
    }

    ngx_payment_transaction_exchange(t, n,
                                     ngx_payment_transaction_rollback_done);
}


static void
ngx_payment_transaction_rollback_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_transaction_t  *t;

    t = db->data;

    ngx_payment_transaction_end(t, ngx_payment_transaction_verdict(t, lost));
}


/* What becomes of a batch that was rolled back, by the reason. */

static ngx_payment_transaction_end_e
ngx_payment_transaction_verdict(ngx_payment_transaction_t *t, ngx_uint_t lost)
{
    ngx_uint_t  failed;

    failed = (ngx_payment_transaction_check(t, "rolling back", lost)
              != NGX_OK);

    switch (t->reason) {

    case NGX_PAYMENT_DB_OK:

        /* where ROLLBACK failed, the end of the connection does its work */

        return NGX_PAYMENT_TRANSACTION_DONE;

    case NGX_PAYMENT_DB_DUPLICATE:

        if (!failed && !ngx_payment_transaction_is_primary(t, &t->stmts[1])) {
            ngx_payment_db_leave(t->db);

            return NGX_PAYMENT_TRANSACTION_AGAIN;
        }

        if (failed
            || ngx_payment_look_found(t->batch, ngx_payment_transaction_by(t),
                                      t->stmts[2].result) == 0)
        {
            return NGX_PAYMENT_TRANSACTION_AGAIN;
        }

        return NGX_PAYMENT_TRANSACTION_REST;

    case NGX_PAYMENT_DB_REFUSED:

        if (t->batch->n == 1) {
            return NGX_PAYMENT_TRANSACTION_REFUSED;
        }

        t->parts = 2;

        return NGX_PAYMENT_TRANSACTION_DIVIDE;

    case NGX_PAYMENT_DB_UNFIT:

        ngx_payment_db_leave(t->db);

        return NGX_PAYMENT_TRANSACTION_AGAIN;

    case NGX_PAYMENT_DB_STALE:

        ngx_payment_db_reset(t->db);

        return NGX_PAYMENT_TRANSACTION_AGAIN;

    default: /* NGX_PAYMENT_DB_RETRY */

        /* a lock was waited for in vain, for a second: to wait for it again
         * with all the others would cost them their answers */

        if (!failed && t->error == ER_LOCK_WAIT_TIMEOUT && t->batch->n > 1) {
            t->parts = NGX_PAYMENT_TRANSACTION_LOCKED_PARTS;

            return NGX_PAYMENT_TRANSACTION_DIVIDE;
        }

        return NGX_PAYMENT_TRANSACTION_AGAIN;
    }
}


/* RESOLVE: a locking read waits for a COMMIT that is still under way. */

static void
ngx_payment_transaction_resolve(ngx_payment_transaction_t *t)
{
    ngx_payment_transaction_ask(t, ngx_payment_look_texts(t->shard)->keys,
                                ") LOCK IN SHARE MODE",
                                NGX_PAYMENT_LOOK_KEYS,
                                ngx_payment_transaction_resolve_done);
}


static void
ngx_payment_transaction_resolve_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t                  i, found;
    ngx_payment_batch_t        *b;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (ngx_payment_transaction_asked(t, "resolving", lost) != NGX_OK) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    /* what was found before was lost together with this COMMIT, perhaps */

    for (i = 0; i < b->n; i++) {
        if (b->ops[i]->standing == NGX_PAYMENT_OP_FOUND) {
            b->ops[i]->standing = NGX_PAYMENT_OP_UNDECIDED;
        }
    }

    found = ngx_payment_look_found(t->batch, ngx_payment_transaction_by(t),
                                   t->stmts[1].result);
    b->unknown = 0;

    (void) ngx_atomic_fetch_add(&ngx_payment_transaction_stats(t)->resolved, 1);

    ngx_log_error(NGX_LOG_NOTICE, t->log, 0,
                  "payment: shard \"%V\": outcome of a lost commit found out: "
                  "%s, %ui of %ui operations were committed",
                  &t->shard->name, found ? "done" : "not done", found, b->n);

    if (found) {
        (void) ngx_atomic_fetch_add(&t->news->ring->missed[t->shard->index],
                                    (ngx_atomic_int_t) found);
        ngx_payment_doorbell_ring(t->doorbell,
                                  &t->stats->doorbell_armed[t->shard->index]);
    }

    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_REST);
}
