/*
 * What changes rows of the outbox, always in a transaction that first locks the
 * lease and finds it to be ours: deleting what Kafka has, moving dead letters,
 * replaying them.  One connection a shard does this and keeps the lease, one
 * exchange after the other, the most urgent first.
 *
 * Owner: the helper process.
 * Limits: one exchange in flight, a round trip each, NGX_PAYMENT_DELETE_MAX
 * rows; it is given up after times.statement_ms, so that the lease can still
 * be extended afterwards.
 *
 * An exchange is sent as a whole, so each statement must be harmless when one
 * before it failed.  @f is 1 only when the lease is ours; @@in_transaction is
 * 0 after an error that rolled back, and with it the lock on the lease's row;
 * and a deletion after an insertion asks whether that succeeded.
 */

#include "ngx_payment_relay.h"
#include "ngx_payment_command.h"
#include "payment_ranges.h"


#define NGX_PAYMENT_FENCE_RETRY       200    /* ms, after an error */

#define NGX_PAYMENT_FENCED            "@f = 1 AND @@in_transaction = 1"

/* after an insertion that a deletion depends on: -1 if it failed */
#define NGX_PAYMENT_FENCE_INSERTED    "SET @f = IF(ROW_COUNT() >= 0, @f, 0)"


static void ngx_payment_fence_ready(ngx_payment_db_t *db);
static void ngx_payment_fence_done(ngx_payment_db_t *db, ngx_uint_t lost);
static ngx_int_t ngx_payment_fence_failed(ngx_payment_relay_t *r,
    ngx_uint_t lost, const char *phase);
static ngx_int_t ngx_payment_fence_delete(ngx_payment_relay_t *r);
static void ngx_payment_fence_deleted(ngx_payment_relay_t *r, ngx_uint_t lost);
static void ngx_payment_fence_dead(ngx_payment_relay_t *r);
static void ngx_payment_fence_followers(ngx_payment_relay_t *r);
static void ngx_payment_fence_move(ngx_payment_relay_t *r, u_char *p,
    const char *reason, ngx_uint_t attempts);
static void ngx_payment_fence_moved(ngx_payment_relay_t *r, ngx_uint_t lost);
static void ngx_payment_fence_replay(ngx_payment_relay_t *r);
static void ngx_payment_fence_replayed(ngx_payment_relay_t *r,
    ngx_uint_t lost);
static ngx_uint_t ngx_payment_fence_collect(ngx_payment_relay_t *r,
    payment_event_state_e state, ngx_uint_t followers, ngx_uint_t max);
static u_char *ngx_payment_fence_condition(ngx_payment_relay_t *r, u_char *p,
    ngx_uint_t n, ngx_uint_t *covered);
static void ngx_payment_fence_end(ngx_payment_relay_t *r);
static void ngx_payment_fence_kick(ngx_event_t *ev);
static void ngx_payment_fence_timer(ngx_event_t *ev);


/*
 * Safe updates: the optimizer may think that reading the whole table is cheaper
 * than looking many ids up, and then a deletion would wait for every row that
 * somebody is inserting.  With this it uses the key, or refuses.
 */

static const char  *ngx_payment_fence_session[] = {
    "SET time_zone = '+00:00', autocommit = 1, "
    "sql_mode = 'STRICT_ALL_TABLES', innodb_lock_wait_timeout = 1, "
    "lock_wait_timeout = 2, eq_range_index_dive_limit = 1, "
    "sql_safe_updates = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    NULL
};


ngx_int_t
ngx_payment_fence_init(ngx_payment_relay_t *r)
{
    size_t                size;
    ngx_uint_t            i;
    ngx_payment_fence_t  *f;

    f = &r->fence;

    /* the text of the ranges goes into at most two statements */

    size = NGX_PAYMENT_SQL_SIZE + NGX_PAYMENT_RANGES_SIZE
           + NGX_PAYMENT_SINGLES_SIZE;

    for (i = 0; i < NGX_PAYMENT_FENCE_STMTS; i++) {
        f->sql[i] = ngx_alloc((i == 3 || i == 5) ? size : NGX_PAYMENT_SQL_SIZE,
                              r->log);
        if (f->sql[i] == NULL) {
            return NGX_ERROR;
        }
    }

    f->text = ngx_alloc(NGX_PAYMENT_RANGES_SIZE + NGX_PAYMENT_SINGLES_SIZE,
                        r->log);
    f->ids = ngx_alloc(NGX_PAYMENT_DELETE_MAX * sizeof(uint64_t), r->log);

    if (f->text == NULL || f->ids == NULL) {
        return NGX_ERROR;
    }

    f->db.shard = r->shard;
    f->db.log = r->log;
    f->db.data = r;
    f->db.session = ngx_payment_fence_session;
    f->db.ready = ngx_payment_fence_ready;

    f->delete_timer.handler = ngx_payment_fence_timer;
    f->delete_timer.data = r;
    f->delete_timer.log = r->log;
    f->delete_timer.cancelable = 1;

    f->kick.handler = ngx_payment_fence_kick;
    f->kick.data = r;
    f->kick.log = r->log;

    return NGX_OK;
}


void
ngx_payment_fence_open(ngx_payment_relay_t *r)
{
    ngx_payment_lease_open(r);
    ngx_payment_db_open(&r->fence.db);
}


static void
ngx_payment_fence_ready(ngx_payment_db_t *db)
{
    ngx_payment_relay_t *r = db->data;

    ngx_payment_relay_connected(r, db, r->fence.connected);
    r->fence.connected = 1;

    ngx_payment_fence_next(r);
}


void
ngx_payment_fence_next(ngx_payment_relay_t *r)
{
    uint64_t              now;
    ngx_payment_fence_t  *f;

    f = &r->fence;

    if (payment_lease_gone(&f->lease)) {
        r->state = NGX_PAYMENT_RELAY_ENDED;
    }

    if (f->db.state != NGX_PAYMENT_DB_IDLE
        || f->op != NGX_PAYMENT_FENCE_NONE
        || r->state == NGX_PAYMENT_RELAY_ENDED)
    {
        return;
    }

    now = ngx_payment_clock_ms();

    if (f->lease.state == PAYMENT_LEASE_DRAINING
        && ngx_payment_fence_pending(r) == 0
        && payment_inflight_count(&r->table, PAYMENT_EVENT_SENT) == 0)
    {
        payment_lease_on_drained(&f->lease, now);
    }

    if (ngx_payment_lease_step(r) == NGX_OK) {
        return;
    }

    if (f->lease.state == PAYMENT_LEASE_FREE) {
        return;
    }

    if (now < f->retry_at_ms) {
        if (!f->delete_timer.timer_set) {
            ngx_add_timer(&f->delete_timer, NGX_PAYMENT_FENCE_RETRY);
        }

        return;
    }

    if (ngx_payment_fence_delete(r) == NGX_OK) {
        return;
    }

    if (payment_inflight_count(&r->table, PAYMENT_EVENT_DEAD)) {
        if (!payment_inflight_first(&r->table, PAYMENT_EVENT_DEAD)->follower) {
            ngx_payment_fence_dead(r);
        } else {
            ngx_payment_fence_followers(r);
        }

        return;
    }

    if (f->lease.state != PAYMENT_LEASE_HELD) {
        return;
    }

    if (f->replay_id) {
        ngx_payment_fence_replay(r);
        return;
    }

    if (ngx_payment_archive_step(r, now) == NGX_OK) {
        return;
    }

    (void) ngx_payment_purge_step(r, now);
}


/* An event was acknowledged: delete it soon, with others. */

void
ngx_payment_fence_acked(ngx_payment_relay_t *r)
{
    ngx_payment_fence_t  *f;

    f = &r->fence;

    if (payment_inflight_count(&r->table, PAYMENT_EVENT_ACKED)
        >= NGX_PAYMENT_DELETE_MAX / 2)
    {
        f->delete_due = 1;
        ngx_payment_fence_soon(r);
        return;
    }

    if (!f->delete_timer.timer_set) {
        ngx_add_timer(&f->delete_timer, NGX_PAYMENT_DELETE_DELAY);
    }
}


void
ngx_payment_fence_soon(ngx_payment_relay_t *r)
{
    ngx_post_event(&r->fence.kick, &ngx_posted_events);
}


static void
ngx_payment_fence_kick(ngx_event_t *ev)
{
    ngx_payment_fence_next(ev->data);
}


static void
ngx_payment_fence_timer(ngx_event_t *ev)
{
    ngx_payment_relay_t *r = ev->data;

    r->fence.delete_due = 1;
    ngx_payment_fence_next(r);
}


/* events that Kafka has and the table too */

ngx_uint_t
ngx_payment_fence_pending(ngx_payment_relay_t *r)
{
    return payment_inflight_count(&r->table, PAYMENT_EVENT_ACKED)
           + payment_inflight_count(&r->table, PAYMENT_EVENT_DELETING);
}


/* deleting what Kafka has */

static ngx_int_t
ngx_payment_fence_delete(ngx_payment_relay_t *r)
{
    u_char               *p, *where;
    size_t                len;
    ngx_uint_t            i, n, covered;
    payment_event_t      *e;
    ngx_payment_fence_t  *f;

    f = &r->fence;

    if (payment_inflight_count(&r->table, PAYMENT_EVENT_ACKED) == 0
        || (!f->delete_due && f->lease.state == PAYMENT_LEASE_HELD))
    {
        return NGX_DECLINED;
    }

    f->delete_due = 0;

    n = ngx_payment_fence_collect(r, PAYMENT_EVENT_ACKED, 0,
                                  NGX_PAYMENT_DELETE_MAX);

    (void) ngx_payment_fence_begin(r, NULL);

    where = f->sql[5];
    p = ngx_payment_fence_condition(r, where, n, &covered);
    len = p - where;

    for (i = 0; i < covered; i++) {
        e = payment_inflight_find(&r->table, f->ids[i]);
        payment_inflight_move(e, PAYMENT_EVENT_DELETING);
    }

    if (r->outbox->conf->archive) {

        /* the same condition twice: the archive first */

        p = ngx_sprintf(f->sql[3],
                "INSERT INTO outbox_archive (" NGX_PAYMENT_ROW_ALL ", archived_at)"
                " SELECT " NGX_PAYMENT_ROW_ALL ", UTC_TIMESTAMP(3) "
                "FROM outbox_event WHERE " NGX_PAYMENT_FENCED " AND ");
        p = ngx_cpymem(p, where, len);
        ngx_payment_fence_statement(r, f->sql[3], p);

        p = ngx_sprintf(f->sql[4], NGX_PAYMENT_FENCE_INSERTED);
        ngx_payment_fence_statement(r, f->sql[4], p);

        ngx_memmove(where + sizeof("DELETE FROM outbox_event WHERE "
                                   NGX_PAYMENT_FENCED " AND ") - 1,
                    where, len);
        p = ngx_sprintf(where, "DELETE FROM outbox_event WHERE "
                               NGX_PAYMENT_FENCED " AND ")
            + len;

        f->work = f->n;
        ngx_payment_fence_statement(r, where, p);

    } else {
        p = ngx_sprintf(f->sql[3], "DELETE FROM outbox_event WHERE "
                                   NGX_PAYMENT_FENCED " AND ");
        p = ngx_cpymem(p, where, len);

        f->work = f->n;
        ngx_payment_fence_statement(r, f->sql[3], p);
    }

    ngx_payment_fence_end(r);
    ngx_payment_fence_send(r, NGX_PAYMENT_FENCE_DELETE);

    return NGX_OK;
}


static void
ngx_payment_fence_deleted(ngx_payment_relay_t *r, ngx_uint_t lost)
{
    ngx_int_t              rc;
    payment_event_t       *e;
    payment_event_state_e  state;

    rc = ngx_payment_fence_failed(r, lost, "deleting published events");

    if (rc == NGX_OK) {
        (void) ngx_atomic_fetch_add(&r->stats->deleted,
                          (ngx_atomic_int_t) r->fence.stmts[r->fence.work]
                                                              .affected);
        state = PAYMENT_EVENT_GONE;

    } else {
        /* whether or not it was done: once more, it may find nothing */
        state = PAYMENT_EVENT_ACKED;
    }

    while ((e = payment_inflight_first(&r->table, PAYMENT_EVENT_DELETING))
           != NULL)
    {
        if (state == PAYMENT_EVENT_GONE && !r->reader.busy) {
            payment_inflight_remove(e);

        } else {
            payment_inflight_move(e, state);
        }
    }

    if (payment_inflight_count(&r->table, PAYMENT_EVENT_ACKED)
        >= NGX_PAYMENT_DELETE_MAX / 2)
    {
        r->fence.delete_due = 1;

    } else if (payment_inflight_count(&r->table, PAYMENT_EVENT_ACKED)
               && !r->fence.delete_timer.timer_set)
    {
        ngx_add_timer(&r->fence.delete_timer, NGX_PAYMENT_DELETE_DELAY);
    }

    /* there is room again */

    ngx_payment_reader_soon(r);
}


/* moving what Kafka will never have */

static void
ngx_payment_fence_dead(ngx_payment_relay_t *r)
{
    u_char               *p;
    payment_event_t      *e;
    ngx_payment_fence_t  *f;

    f = &r->fence;
    e = payment_inflight_first(&r->table, PAYMENT_EVENT_DEAD);

    payment_inflight_move(e, PAYMENT_EVENT_DELETING);

    (void) ngx_payment_fence_begin(r, NULL);
    p = ngx_sprintf(f->sql[5], "id = %uL", e->id);

    ngx_payment_fence_move(r, p, rd_kafka_err2name((rd_kafka_resp_err_t)
                                                   (int16_t) e->reason),
                           e->attempts);
    ngx_payment_fence_send(r, NGX_PAYMENT_FENCE_DEAD);
}


/*
 * "block": an event whose payment has a dead letter waits there too, so that
 * nothing of the payment is published out of order and nothing clogs the table.
 */

static void
ngx_payment_fence_followers(ngx_payment_relay_t *r)
{
    u_char           *p;
    ngx_uint_t        i, n, covered;
    payment_event_t  *e;

    n = ngx_payment_fence_collect(r, PAYMENT_EVENT_DEAD, 1, 500);

    (void) ngx_payment_fence_begin(r, NULL);
    p = ngx_payment_fence_condition(r, r->fence.sql[5], n, &covered);

    for (i = 0; i < covered; i++) {
        e = payment_inflight_find(&r->table, r->fence.ids[i]);
        payment_inflight_move(e, PAYMENT_EVENT_DELETING);
    }

    ngx_payment_fence_move(r, p, "follows a dead letter of its payment", 0);
    ngx_payment_fence_send(r, NGX_PAYMENT_FENCE_FOLLOWERS);
}


/* the condition is in sql[5] up to p */

static void
ngx_payment_fence_move(ngx_payment_relay_t *r, u_char *p, const char *reason,
    ngx_uint_t attempts)
{
    u_char               *where;
    size_t                len;
    ngx_payment_fence_t  *f;

    f = &r->fence;
    where = f->sql[5];
    len = p - where;

    p = ngx_sprintf(f->sql[3],
            "INSERT INTO outbox_dead (" NGX_PAYMENT_ROW_ALL ", reason, attempts, "
            "dead_at) SELECT " NGX_PAYMENT_ROW_ALL ", '%s', %ui, UTC_TIMESTAMP(3) "
            "FROM outbox_event WHERE " NGX_PAYMENT_FENCED " AND ",
            reason, attempts);
    p = ngx_cpymem(p, where, len);

    f->work = f->n;
    ngx_payment_fence_statement(r, f->sql[3], p);

    p = ngx_sprintf(f->sql[4], NGX_PAYMENT_FENCE_INSERTED);
    ngx_payment_fence_statement(r, f->sql[4], p);

    ngx_memmove(where + sizeof("DELETE FROM outbox_event WHERE "
                               NGX_PAYMENT_FENCED " AND ") - 1,
                where, len);
    p = ngx_sprintf(where, "DELETE FROM outbox_event WHERE " NGX_PAYMENT_FENCED
                           " AND ")
        + len;

    ngx_payment_fence_statement(r, where, p);
    ngx_payment_fence_end(r);
}


static void
ngx_payment_fence_moved(ngx_payment_relay_t *r, ngx_uint_t lost)
{
    ngx_int_t             rc;
    payment_event_t      *e;
    ngx_payment_fence_t  *f;

    f = &r->fence;

    rc = ngx_payment_fence_failed(r, lost, "moving dead letters");

    if (rc == NGX_OK) {
        (void) ngx_atomic_fetch_add(&r->stats->dead,
                            (ngx_atomic_int_t) f->stmts[f->work].affected);
    }

    while ((e = payment_inflight_first(&r->table, PAYMENT_EVENT_DELETING))
           != NULL)
    {
        if (rc != NGX_OK) {
            payment_inflight_move(e, PAYMENT_EVENT_DEAD);
            continue;
        }

        if (!e->follower) {
            ngx_log_error(NGX_LOG_ERR, r->log, 0,
                          "payment outbox: shard \"%V\": event %uL is a dead "
                          "letter after %ud attempts: %s",
                          &r->shard->name, e->id, (ngx_uint_t) e->attempts,
                          rd_kafka_err2name((rd_kafka_resp_err_t)
                                            (int16_t) e->reason));
        }

        ngx_payment_relay_buried(r, e);
    }

    ngx_payment_relay_pump(r);
}


/*
 * A dead letter goes back with all of its payment and under their old ids: so
 * they are found as late commits are, ahead of what the payment had since.
 */

static void
ngx_payment_fence_replay(ngx_payment_relay_t *r)
{
    u_char               *p;
    ngx_payment_fence_t  *f;

    f = &r->fence;

    (void) ngx_payment_fence_begin(r, (u_char *) ", @a = NULL");

    p = ngx_sprintf(f->sql[4],
            "SELECT aggregateid INTO @a FROM outbox_dead WHERE id = %uL",
            f->replay_id);
    ngx_payment_fence_statement(r, f->sql[4], p);

    p = ngx_sprintf(f->sql[3],
            "INSERT INTO outbox_event (" NGX_PAYMENT_ROW_ALL ") "
            "SELECT " NGX_PAYMENT_ROW_ALL " FROM outbox_dead "
            "WHERE " NGX_PAYMENT_FENCED " AND aggregateid = @a ORDER BY id");

    f->work = f->n;
    ngx_payment_fence_statement(r, f->sql[3], p);

    p = ngx_sprintf(f->sql[6], NGX_PAYMENT_FENCE_INSERTED);
    ngx_payment_fence_statement(r, f->sql[6], p);

    p = ngx_sprintf(f->sql[5],
            "DELETE FROM outbox_dead WHERE " NGX_PAYMENT_FENCED
            " AND aggregateid = @a");
    ngx_payment_fence_statement(r, f->sql[5], p);

    ngx_payment_fence_end(r);
    ngx_payment_fence_send(r, NGX_PAYMENT_FENCE_REPLAY);
}


static void
ngx_payment_fence_replayed(ngx_payment_relay_t *r, ngx_uint_t lost)
{
    ngx_int_t             rc;
    ngx_uint_t            n;
    ngx_payment_fence_t  *f;

    f = &r->fence;

    rc = ngx_payment_fence_failed(r, lost, "replaying a dead letter");
    n = (rc == NGX_OK) ? (ngx_uint_t) f->stmts[f->work].affected : 0;

    if (rc == NGX_OK) {
        ngx_log_error(NGX_LOG_NOTICE, r->log, 0,
                      "payment outbox: shard \"%V\": dead letter %uL replayed, "
                      "%ui events", &r->shard->name, f->replay_id, n);
    }

    f->replay_id = 0;

    ngx_payment_command_done(r->outbox,
                                    rc != NGX_OK ? NGX_PAYMENT_COMMAND_FAILED
                                    : n ? NGX_PAYMENT_COMMAND_DONE
                                    : NGX_PAYMENT_COMMAND_NOT_FOUND);

    if (n) {
        /* what was read before knows nothing of it */
        ngx_payment_relay_rewind(r);
    }
}


/* one exchange */

u_char *
ngx_payment_fence_begin(ngx_payment_relay_t *r, u_char *set)
{
    u_char               *p;
    ngx_payment_fence_t  *f;

    f = &r->fence;
    f->n = 0;

    p = ngx_sprintf(f->sql[0], "SET @f = 0%s", set ? set : (u_char *) "");
    ngx_payment_fence_statement(r, f->sql[0], p);

    p = ngx_sprintf(f->sql[1], "START TRANSACTION");
    ngx_payment_fence_statement(r, f->sql[1], p);

    p = ngx_sprintf(f->sql[2],
            "SELECT @f := COUNT(*) FROM outbox_lease "
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "AND owner_uuid = '%s' AND epoch = %uL "
            "AND lock_until > UTC_TIMESTAMP(3) LOCK IN SHARE MODE",
            r->outbox->uuid, f->lease.epoch);
    ngx_payment_fence_statement(r, f->sql[2], p);

    return p;
}


static void
ngx_payment_fence_end(ngx_payment_relay_t *r)
{
    u_char  *p;

    p = ngx_sprintf(r->fence.sql[7], "COMMIT");
    ngx_payment_fence_statement(r, r->fence.sql[7], p);
}


void
ngx_payment_fence_statement(ngx_payment_relay_t *r, u_char *sql, u_char *end)
{
    ngx_payment_db_stmt_t  *stmt;

    stmt = &r->fence.stmts[r->fence.n++];

    ngx_memzero(stmt, sizeof(ngx_payment_db_stmt_t));

    stmt->sql.data = sql;
    stmt->sql.len = end - sql;
}


void
ngx_payment_fence_send(ngx_payment_relay_t *r, ngx_payment_fence_op_e op)
{
    ngx_payment_fence_t  *f;

    f = &r->fence;
    f->op = op;

    ngx_payment_db_exchange(&f->db, f->stmts, f->n,
                            (ngx_msec_t) r->outbox->node.times.statement_ms,
                            ngx_payment_fence_done);
}


static void
ngx_payment_fence_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_relay_t *r = db->data;

    ngx_payment_fence_op_e  op;

    op = r->fence.op;
    r->fence.op = NGX_PAYMENT_FENCE_NONE;

    switch (op) {

    case NGX_PAYMENT_FENCE_LEASE:
        ngx_payment_lease_done(r, lost);
        break;

    case NGX_PAYMENT_FENCE_DELETE:
        ngx_payment_fence_deleted(r, lost);
        break;

    case NGX_PAYMENT_FENCE_DEAD:
    case NGX_PAYMENT_FENCE_FOLLOWERS:
        ngx_payment_fence_moved(r, lost);
        break;

    case NGX_PAYMENT_FENCE_REPLAY:
        ngx_payment_fence_replayed(r, lost);
        break;

    case NGX_PAYMENT_FENCE_PURGE:
        ngx_payment_purge_done(r, lost);
        break;

    case NGX_PAYMENT_FENCE_ARCHIVE:
        ngx_payment_archive_done(r, lost);
        break;

    default:
        break;
    }

    ngx_payment_fence_next(r);
}


/* Did a fenced exchange do what it should?  NGX_OK; else the reason is in the
 * log, and the lease is known to be lost when that was it. */

static ngx_int_t
ngx_payment_fence_failed(ngx_payment_relay_t *r, ngx_uint_t lost,
    const char *phase)
{
    MYSQL_ROW             row;
    ngx_uint_t            i;
    ngx_payment_fence_t  *f;

    f = &r->fence;

    if (lost) {
        (void) ngx_atomic_fetch_add(&r->stats->errors, 1);
        return NGX_ERROR;
    }

    for (i = 0; i < f->n; i++) {
        if (f->stmts[i].error) {
            (void) ngx_atomic_fetch_add(&r->stats->errors, 1);
            ngx_payment_relay_db_error(r, phase, f->stmts[i].error,
                                       f->stmts[i].message);
            f->retry_at_ms = ngx_payment_clock_ms() + NGX_PAYMENT_FENCE_RETRY;
            return NGX_ERROR;
        }
    }

    r->last_error = 0;

    row = f->stmts[2].result ? mysql_fetch_row(f->stmts[2].result) : NULL;

    if (row && ngx_payment_row_number(row[0]) == 1) {
        return NGX_OK;
    }

    if (f->lease.state != PAYMENT_LEASE_FREE) {
        ngx_log_error(NGX_LOG_WARN, r->log, 0,
                      "payment outbox: shard \"%V\": lease lost, epoch %uL: "
                      "found while %s", &r->shard->name, f->lease.epoch, phase);

        (void) ngx_atomic_fetch_add(&r->stats->leases_lost, 1);

        payment_lease_on_fenced(&f->lease, ngx_payment_clock_ms());
        ngx_payment_relay_unleased(r);
    }

    return NGX_ERROR;
}


/* the ids of up to max events of a state, sorted */

static ngx_uint_t
ngx_payment_fence_collect(ngx_payment_relay_t *r, payment_event_state_e state,
    ngx_uint_t followers, ngx_uint_t max)
{
    ngx_uint_t        n;
    payment_event_t  *e;

    n = 0;

    for (e = payment_inflight_first(&r->table, state);
         e && n < max;
         e = e->next)
    {
        if (e->follower == followers) {
            r->fence.ids[n++] = e->id;
        }
    }

    payment_ranges_sort(r->fence.ids, n);

    return n;
}


/* "(id BETWEEN 1 AND 20 OR id IN (30,32))" of the first n ids, as far as they
 * fit; the caller's buffer is as large as the text can be */

static u_char *
ngx_payment_fence_condition(ngx_payment_relay_t *r, u_char *p, ngx_uint_t n,
    ngx_uint_t *covered)
{
    u_char           *text;
    payment_ranges_t  ranges;

    text = r->fence.text;

    *covered = payment_ranges_write(&ranges, r->fence.ids, n, (char *) text,
                                    NGX_PAYMENT_RANGES_SIZE,
                                    (char *) text + NGX_PAYMENT_RANGES_SIZE,
                                    NGX_PAYMENT_SINGLES_SIZE);

    *p++ = '(';
    p = ngx_cpymem(p, ranges.ranges, ranges.ranges_len);

    if (ranges.singles_len) {
        p = ngx_sprintf(p, "%sid IN (", ranges.ranges_len ? " OR " : "");
        p = ngx_cpymem(p, ranges.singles, ranges.singles_len);
        *p++ = ')';
    }

    *p++ = ')';

    return p;
}
