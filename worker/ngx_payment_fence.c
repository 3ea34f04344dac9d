/*
 * The fenced connection: turns, exchanges, and the pieces of SQL that several
 * jobs share; see ngx_payment_fence.h.
 */

#include "ngx_payment_fence.h"
#include "ngx_payment_rights.h"
#include "ngx_payment_row.h"
#include "payment_ranges.h"


static void ngx_payment_fence_ready(ngx_payment_db_t *db);
static ngx_uint_t ngx_payment_fence_may(ngx_payment_fence_t *f,
    ngx_payment_fence_job_t *job, uint64_t now_ms);
static void ngx_payment_fence_timer(ngx_event_t *ev);
static void ngx_payment_fence_done(ngx_payment_db_t *db, ngx_uint_t lost);
static uint64_t ngx_payment_fence_identity(payment_event_t *e);


/*
 * Safe updates: the optimizer may think that reading the whole table is cheaper
 * than looking many ids up, and then a deletion would wait for every row that
 * somebody is inserting.  With this it uses the key, or refuses.
 *
 * A transaction must not idle: the server would hold the lease's row for a
 * node that has lost its power for as long as it believes in the connection.
 */

static const char  *ngx_payment_fence_session[] = {
    "SET time_zone = '+00:00', autocommit = 1, "
    "sql_mode = 'STRICT_ALL_TABLES', innodb_lock_wait_timeout = 1, "
    "lock_wait_timeout = 2, eq_range_index_dive_limit = 1, "
    "sql_safe_updates = 1, idle_transaction_timeout = 2",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    NULL
};


ngx_int_t
ngx_payment_fence_init(ngx_payment_fence_t *f)
{
    ngx_payment_outbox_shard_t *sh = f->sh;

    f->text = ngx_alloc(NGX_PAYMENT_FENCE_TEXT, sh->log);
    f->pieces = ngx_alloc(NGX_PAYMENT_FENCE_RANGES + NGX_PAYMENT_FENCE_SINGLES,
                          sh->log);
    f->condition = ngx_alloc(NGX_PAYMENT_FENCE_CONDITION, sh->log);
    f->ids = ngx_alloc(NGX_PAYMENT_FENCE_IDS_MAX * sizeof(uint64_t), sh->log);

    if (f->text == NULL || f->pieces == NULL || f->condition == NULL
        || f->ids == NULL)
    {
        return NGX_ERROR;
    }

    f->db.shard = sh->shard;
    f->db.log = sh->log;
    f->db.data = f;
    f->db.session = ngx_payment_fence_session;
    f->db.ready = ngx_payment_fence_ready;

    f->kick.handler = ngx_payment_fence_timer;
    f->kick.data = f;
    f->kick.log = sh->log;

    f->retry.handler = ngx_payment_fence_timer;
    f->retry.data = f;
    f->retry.log = sh->log;
    f->retry.cancelable = 1;

    return NGX_OK;
}


void
ngx_payment_fence_open(ngx_payment_fence_t *f)
{
    ngx_payment_db_open(&f->db);
}


void
ngx_payment_fence_close(ngx_payment_fence_t *f)
{
    if (f->retry.timer_set) {
        ngx_del_timer(&f->retry);
    }

    if (f->kick.posted) {
        ngx_delete_posted_event(&f->kick);
    }

    ngx_payment_db_close(&f->db);
}


static void
ngx_payment_fence_ready(ngx_payment_db_t *db)
{
    ngx_payment_fence_t *f = db->data;

    f->sh->server = db->server;
    f->sh->handlers->connected(f->sh->data, db, f->connected);
    f->connected = 1;

    ngx_payment_fence_next(f);
}


void
ngx_payment_fence_give_up(ngx_payment_fence_t *f)
{
    f->unfit = 1;
    ngx_payment_fence_soon(f);
}


/* whose turn it is */

void
ngx_payment_fence_next(ngx_payment_fence_t *f)
{
    uint64_t                  now;
    ngx_uint_t                i;
    ngx_payment_fence_job_t  *job;

    if (f->db.state != NGX_PAYMENT_DB_IDLE || f->job
        || f->sh->state == NGX_PAYMENT_RELAY_ENDED)
    {
        return;
    }

    if (f->unfit || !ngx_payment_db_fit(&f->db)) {
        f->unfit = 0;
        ngx_payment_db_reset(&f->db);
        return;
    }

    now = ngx_payment_clock_ms();

    for (i = 0; i < f->njobs; i++) {

        job = &f->jobs[i];

        if (!ngx_payment_fence_may(f, job, now)) {
            continue;
        }

        f->job = job;

        if (job->step(job->part, now) == NGX_OK) {
            return;
        }

        f->job = NULL;
    }
}


static ngx_uint_t
ngx_payment_fence_may(ngx_payment_fence_t *f, ngx_payment_fence_job_t *job,
    uint64_t now_ms)
{
    payment_lease_state_e  state;

    if (job->needs == NGX_PAYMENT_FENCE_ANY) {
        return 1;
    }

    state = f->sh->lease.state;

    if (state == PAYMENT_LEASE_FREE
        || (job->needs == NGX_PAYMENT_FENCE_HELD
            && state != PAYMENT_LEASE_HELD))
    {
        return 0;
    }

    if (now_ms >= job->retry_at_ms) {
        return 1;
    }

    if (!f->retry.timer_set) {
        ngx_add_timer(&f->retry, (ngx_msec_t) (job->retry_at_ms - now_ms));
    }

    return 0;
}


void
ngx_payment_fence_soon(ngx_payment_fence_t *f)
{
    ngx_post_event(&f->kick, &ngx_posted_events);
}


static void
ngx_payment_fence_timer(ngx_event_t *ev)
{
    ngx_payment_fence_next(ev->data);
}


/* one exchange */

void
ngx_payment_fence_begin(ngx_payment_fence_t *f)
{
    f->n = 0;
    f->ours = NULL;
    f->inserted = NULL;
    f->last = f->text;
}


void
ngx_payment_fence_begin_fenced(ngx_payment_fence_t *f, const char *set)
{
    ngx_payment_outbox_shard_t *sh = f->sh;

    ngx_payment_fence_begin(f);
    f->turn++;

    (void) ngx_payment_fence_add(f, "SET @f = 0%s", set);
    (void) ngx_payment_fence_add(f, "START TRANSACTION");

    f->ours = ngx_payment_fence_add(f,
            "SELECT @f := IF(COUNT(*) = 1, %uL, 0) FROM outbox_lease "
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "AND owner_uuid = '%s' AND epoch = %uL "
            "AND lock_until > UTC_TIMESTAMP(3)" NGX_PAYMENT_TOPOLOGY_OURS
            " LOCK IN SHARE MODE",
            f->turn, sh->node->rules.uuid, sh->lease.epoch,
            (uint64_t) sh->shard->common->epoch);

    f->leased = f->turn;
}


ngx_payment_db_stmt_t *
ngx_payment_fence_add(ngx_payment_fence_t *f, const char *fmt, ...)
{
    u_char                 *end;
    va_list                 args;
    ngx_payment_db_stmt_t  *stmt;

    ngx_payment_assert(f->n < NGX_PAYMENT_FENCE_STMTS);

    stmt = &f->stmts[f->n++];
    ngx_memzero(stmt, sizeof(ngx_payment_db_stmt_t));

    end = f->text + NGX_PAYMENT_FENCE_TEXT;
    stmt->sql.data = f->last;

    va_start(args, fmt);
    f->last = ngx_vslprintf(f->last, end, fmt, args);
    va_end(args);

    /* a text that ends at the end may have been cut */

    ngx_payment_assert(f->last < end);

    stmt->sql.len = f->last - stmt->sql.data;

    return stmt;
}


void
ngx_payment_fence_commit(ngx_payment_fence_t *f)
{
    if (f->inserted) {
        /* ROW_COUNT() is -1 after a deletion that failed, and less than @n
         * after one that was killed, which MariaDB reports as done */

        (void) ngx_payment_fence_add(f,
                    "EXECUTE IMMEDIATE IF(@f = -%uL AND ROW_COUNT() >= @n, "
                    "'COMMIT', 'ROLLBACK')", f->turn);
    } else {
        (void) ngx_payment_fence_add(f, "COMMIT");
    }

    ngx_payment_fence_send(f);
}


void
ngx_payment_fence_send(ngx_payment_fence_t *f)
{
    ngx_payment_db_exchange(&f->db, f->stmts, f->n,
                            (ngx_msec_t) f->sh->node->rules.times.statement_ms,
                            ngx_payment_fence_done);
}


static void
ngx_payment_fence_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_fence_t *f = db->data;

    f->job->done(f->job->part, lost);
    f->job = NULL;

    ngx_payment_fence_next(f);
}


ngx_int_t
ngx_payment_fence_check(ngx_payment_fence_t *f, ngx_uint_t lost,
    const char *phase)
{
    ngx_payment_outbox_shard_t *sh = f->sh;

    MYSQL_ROW  row;

    if (!lost && f->inserted
        && ngx_payment_db_error_of(f->stmts, f->n) == NULL
        && f->removed->affected < f->inserted->affected)
    {
        /* and was rolled back: see ngx_payment_fence_commit() */
        ngx_payment_db_interrupted(f->removed, f->inserted->affected);
    }

    if (!lost && f->stmts[f->n - 1].error) {
        /* the transaction is still open, perhaps by halves */
        f->unfit = 1;
    }

    if (ngx_payment_fence_check_plain(f, lost, phase) != NGX_OK) {
        return NGX_ERROR;
    }

    row = f->ours->result ? mysql_fetch_row(f->ours->result) : NULL;

    if (row && ngx_payment_row_number(row[0]) == f->leased) {
        return NGX_OK;
    }

    if (sh->lease.state != PAYMENT_LEASE_FREE) {
        ngx_log_error(NGX_LOG_WARN, sh->log, 0,
                      "payment outbox: shard \"%V\": lease lost, epoch %uL: "
                      "found while %s", &sh->shard->name, sh->lease.epoch,
                      phase);

        (void) ngx_atomic_fetch_add(&sh->stats->leases_lost, 1);

        payment_lease_on_fenced(&sh->lease, ngx_payment_clock_ms());
        sh->handlers->unleased(sh->data);
    }

    return NGX_ERROR;
}


ngx_int_t
ngx_payment_fence_check_plain(ngx_payment_fence_t *f, ngx_uint_t lost,
    const char *phase)
{
    ngx_payment_fence_job_t  *job;

    job = f->job;

    if (ngx_payment_outbox_shard_check(f->sh, f->stmts, f->n, lost, phase,
                                       &job->last_error)
        == NGX_OK)
    {
        job->failures = 0;
        return NGX_OK;
    }

    if (!lost) {
        job->failures++;
        job->retry_at_ms = ngx_payment_clock_ms()
                           + (ngx_payment_rights_denied(job->last_error)
                              ? NGX_PAYMENT_OUTBOX_DENIED
                              : ngx_payment_outbox_shard_pause(job->failures));
    }

    return NGX_ERROR;
}


/* what jobs have in common */

ngx_payment_db_stmt_t *
ngx_payment_fence_move(ngx_payment_fence_t *f,
    const ngx_payment_fence_move_t *m, ngx_str_t *condition)
{
    f->inserted = ngx_payment_fence_add(f,
            "INSERT INTO %s (id, " NGX_PAYMENT_ROW_ALL "%s) "
            "SELECT %s, " NGX_PAYMENT_ROW_ALL "%s FROM %s "
            "WHERE " NGX_PAYMENT_FENCED " AND %V%s",
            m->to, m->columns, m->id, m->values, m->from, f->turn, condition,
            m->insert_if);

    /* ROW_COUNT() is -1 after an insertion that failed; that it has not is what
     * the deletion asks @f for */

    (void) ngx_payment_fence_add(f,
            "SET @n = ROW_COUNT(), @f = IF(ROW_COUNT() >= 0, -@f, 0)");

    f->removed = ngx_payment_fence_add(f,
            "DELETE FROM %s WHERE @f = -%uL AND @@in_transaction = 1 AND %V%s",
            m->from, f->turn, condition, m->delete_if);

    return f->removed;
}


ngx_uint_t
ngx_payment_fence_collect(ngx_payment_fence_t *f, payment_event_state_e state,
    ngx_uint_t followers, ngx_uint_t max)
{
    ngx_uint_t        n;
    payment_event_t  *e;

    ngx_payment_assert(max <= NGX_PAYMENT_FENCE_IDS_MAX);

    n = 0;

    for (e = payment_inflight_first(&f->sh->table, state);
         e && n < max;
         e = e->next)
    {
        if (e->follower == followers) {
            f->ids[n++] = e->id;
        }
    }

    payment_ranges_sort(f->ids, n);

    return n;
}


ngx_uint_t
ngx_payment_fence_condition(ngx_payment_fence_t *f, ngx_uint_t n,
    ngx_str_t *condition)
{
    u_char            *p, *end;
    ngx_uint_t         covered;
    payment_ranges_t   ranges;

    covered = payment_ranges_write(&ranges, f->ids, n, (char *) f->pieces,
                                   NGX_PAYMENT_FENCE_RANGES,
                                   (char *) f->pieces
                                   + NGX_PAYMENT_FENCE_RANGES,
                                   NGX_PAYMENT_FENCE_SINGLES);

    end = f->condition + NGX_PAYMENT_FENCE_CONDITION;

    p = ngx_slprintf(f->condition, end, "(%*s", ranges.ranges_len,
                     ranges.ranges);

    if (ranges.singles_len) {
        p = ngx_slprintf(p, end, "%sid IN (%*s)",
                         ranges.ranges_len ? " OR " : "", ranges.singles_len,
                         ranges.singles);
    }

    p = ngx_slprintf(p, end, ")");

    ngx_payment_assert(p < end);

    condition->data = f->condition;
    condition->len = p - f->condition;

    return covered;
}


/*
 * In a new life of the table, after a TRUNCATE or when a dump was restored, ids
 * are given in the order of numbers again: up to the one where that life begins
 * they are whose they were, and all behind it are others'.  So of ids that one
 * read has seen, which is of one life, the last one tells for all: if it is
 * still its event's, so are those before it.  A replay alone puts rows
 * elsewhere, at the lowest ids, for which the first one tells.  These two are
 * asked of each run of ids that one read has seen; and all of them, where there
 * are many runs.
 *
 * A plain read waits for nobody, and keeps DDL away from the table until the
 * transaction ends.  Where it fails, the turn of what follows never comes.
 */

void
ngx_payment_fence_verify(ngx_payment_fence_t *f, const ngx_str_t *condition)
{
    u_char            *p, *end;
    uint64_t           sum, all;
    ngx_str_t          ends;
    ngx_uint_t         runs, begins;
    payment_event_t   *e, *before;

    u_char             text[2 * NGX_PAYMENT_FENCE_RUNS * PAYMENT_RANGE_ID_LEN
                            + sizeof("id IN ()")];

    end = text + sizeof(text);
    p = ngx_slprintf(text, end, "id IN (");
    before = NULL;
    runs = 0;
    sum = 0;
    all = 0;

    for (e = payment_inflight_first(&f->sh->table, PAYMENT_EVENT_DELETING);
         e;
         e = e->next)
    {
        all ^= ngx_payment_fence_identity(e);

        begins = (before == NULL || before->read != e->read);
        runs += begins;

        if (begins || e->next == NULL || e->next->read != e->read) {
            sum ^= ngx_payment_fence_identity(e);

            if (runs <= NGX_PAYMENT_FENCE_RUNS) {
                p = ngx_slprintf(p, end, "%s%uL", before ? "," : "", e->id);
            }
        }

        before = e;
    }

    p = ngx_slprintf(p, end, ")");

    ends.data = text;
    ends.len = p - text;

    if (runs > NGX_PAYMENT_FENCE_RUNS) {
        ends = *condition;
        sum = all;
    }

    (void) ngx_payment_fence_add(f,
            "SELECT @f := IF(@f = %uL "
            "AND BIT_XOR(version << 32 | CRC32(aggregateid)) = %uL, %uL, 0) "
            "FROM outbox_event FORCE INDEX (PRIMARY) WHERE %V",
            f->turn, sum, f->turn + 1, &ends);

    f->turn++;
}


static uint64_t
ngx_payment_fence_identity(payment_event_t *e)
{
    return (uint64_t) e->version << 32 | e->crc;
}


void
ngx_payment_fence_deleting(ngx_payment_fence_t *f, ngx_uint_t n)
{
    ngx_uint_t        i;
    payment_event_t  *e;

    for (i = 0; i < n; i++) {
        e = payment_inflight_find(&f->sh->table, f->ids[i]);
        payment_inflight_move(e, PAYMENT_EVENT_DELETING);
    }
}
