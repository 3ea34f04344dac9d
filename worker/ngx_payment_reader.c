/*
 * Reads committed events of one shard, in order, each once.
 *
 * AUTO_INCREMENT order is not commit order, and its gaps last for ever.  So
 * the reader goes on from a cursor, and besides looks again at all ids up to
 * the cursor: those that nobody knows were committed late, and their rows are
 * read by id.
 *
 * A payment's earlier event is always committed before the row of a later one
 * is written, so whoever sees the later row can see the earlier; but only if
 * he looks.  Hence the gate: an event of a version above 1 may be handed out
 * only after a look at the head that began after its row was seen.  A read
 * that starts at the very beginning is such a look itself.
 *
 * A server shows a transaction to others a moment before it is on disk, and if
 * it dies in that moment the transaction never was.  So a read that found rows
 * commits something itself before they are handed out: when that is on disk,
 * so is all that was to be seen before.
 *
 * Owner: the helper process.
 * Limits: one exchange in flight; as many rows as fit into the relay's table
 * and NGX_PAYMENT_HELD_SIZE; looking at the head takes a twentieth of the time,
 * less with a backlog, unless a gate waits for it.
 *
 * No busy loop and no delay: the doorbell, the poll interval, or the end of a
 * short pause starts a read, and the pause is made only under load.
 */

#include "ngx_payment_relay.h"
#include "payment_ranges.h"


#define NGX_PAYMENT_READ_TIMEOUT      10000     /* ms */

#define NGX_PAYMENT_BUSY_NS           (20 * 1000000ULL)
#define NGX_PAYMENT_HEAD_SHARE        20
#define NGX_PAYMENT_HEAD_SHARE_FULL   100       /* with a backlog */
#define NGX_PAYMENT_MAX_INTERVAL_NS   (1000 * 1000000ULL)
#define NGX_PAYMENT_HEAD_SLACK        1000      /* late ids found at a time */

#define NGX_PAYMENT_BLOCKED                                                   \
    "version > 1 AND EXISTS (SELECT 1 FROM outbox_dead d "                    \
    "WHERE d.aggregateid = outbox_event.aggregateid)"


static void ngx_payment_reader_ready(ngx_payment_db_t *db);
static ngx_uint_t ngx_payment_reader_allowed(ngx_payment_relay_t *r);
static ngx_uint_t ngx_payment_reader_room(ngx_payment_relay_t *r);
static void ngx_payment_reader_ask_wanted(ngx_payment_relay_t *r);
static const char *ngx_payment_reader_blocked(ngx_payment_relay_t *r);
static void ngx_payment_reader_ask_next(ngx_payment_relay_t *r);
static void ngx_payment_reader_ask_dead(ngx_payment_relay_t *r,
    uint64_t now_ns);
static void ngx_payment_reader_take_dead(ngx_payment_relay_t *r);
static void ngx_payment_reader_ask_barrier(ngx_payment_relay_t *r);
static void ngx_payment_reader_ask_head(ngx_payment_relay_t *r,
    uint64_t now_ns);
static void ngx_payment_reader_ask_max(ngx_payment_relay_t *r,
    uint64_t now_ns);
static ngx_payment_db_stmt_t *ngx_payment_reader_statement(
    ngx_payment_relay_t *r, ngx_int_t *index);
static void ngx_payment_reader_done(ngx_payment_db_t *db, ngx_uint_t lost);
static ngx_uint_t ngx_payment_reader_take(ngx_payment_relay_t *r,
    uint64_t now_ns);
static ngx_int_t ngx_payment_reader_failed(ngx_payment_relay_t *r,
    ngx_uint_t lost);
static void ngx_payment_reader_take_wanted(ngx_payment_relay_t *r);
static ngx_uint_t ngx_payment_reader_take_next(ngx_payment_relay_t *r);
static payment_event_t *ngx_payment_reader_verify(ngx_payment_relay_t *r,
    payment_event_t *e, MYSQL_ROW row, unsigned long *lengths);
static void ngx_payment_reader_take_head(ngx_payment_relay_t *r,
    uint64_t now_ns);
static void ngx_payment_reader_take_max(ngx_payment_relay_t *r);
static ngx_int_t ngx_payment_reader_event(ngx_payment_relay_t *r,
    payment_event_t *e, MYSQL_ROW row, unsigned long *lengths);
static void ngx_payment_reader_adapt(ngx_payment_relay_t *r, ngx_uint_t rows,
    uint64_t first);
static void ngx_payment_reader_pause(ngx_payment_relay_t *r, ngx_uint_t rows,
    uint64_t now_ns);
static void ngx_payment_reader_forget_gone(ngx_payment_relay_t *r);
static void ngx_payment_reader_timer(ngx_event_t *ev);


static const char  *ngx_payment_reader_session[] = {
    "SET time_zone = '+00:00', autocommit = 1, "
    "sql_mode = 'STRICT_ALL_TABLES', eq_range_index_dive_limit = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    NULL
};


ngx_int_t
ngx_payment_reader_init(ngx_payment_relay_t *r)
{
    ngx_uint_t             i;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;

    for (i = 0; i < NGX_PAYMENT_READ_STMTS; i++) {
        rd->sql[i] = ngx_alloc(NGX_PAYMENT_SQL_SIZE
                               + (i == 0 ? NGX_PAYMENT_WANTED_MAX
                                           * PAYMENT_RANGE_ID_LEN : 0),
                               r->log);
        if (rd->sql[i] == NULL) {
            return NGX_ERROR;
        }
    }

    rd->db.shard = r->shard;
    rd->db.log = r->log;
    rd->db.data = r;
    rd->db.session = ngx_payment_reader_session;
    rd->db.ready = ngx_payment_reader_ready;

    rd->limit = r->outbox->conf->batch_size;
    rd->head_limit = r->table.capacity + NGX_PAYMENT_HEAD_SLACK;
    rd->density = 1024;

    rd->timer.handler = ngx_payment_reader_timer;
    rd->timer.data = r;
    rd->timer.log = r->log;
    rd->timer.cancelable = 1;

    rd->kick.handler = ngx_payment_reader_timer;
    rd->kick.data = r;
    rd->kick.log = r->log;

    return NGX_OK;
}


void
ngx_payment_reader_open(ngx_payment_relay_t *r)
{
    ngx_payment_db_open(&r->reader.db);
}


static void
ngx_payment_reader_ready(ngx_payment_db_t *db)
{
    ngx_payment_relay_t *r = db->data;

    ngx_payment_relay_connected(r, db, r->reader.connected);
    r->reader.connected = 1;

    ngx_payment_reader_next(r);
}


void
ngx_payment_reader_rewind(ngx_payment_relay_t *r)
{
    ngx_payment_reader_t  *rd;

    rd = &r->reader;

    rd->cursor = 0;
    rd->limit = r->outbox->conf->batch_size;
    rd->full = 0;
    rd->mixed = 0;
    rd->stale = rd->busy;

    /* nobody waits at a gate any more */
    rd->head_wanted = 0;
}


void
ngx_payment_reader_wake(ngx_payment_relay_t *r)
{
    ngx_payment_reader_t  *rd;

    rd = &r->reader;

    if (rd->busy) {
        rd->again = 1;
        return;
    }

    if ((ngx_msec_int_t) (rd->not_before - ngx_current_msec) > 0) {
        ngx_add_timer(&rd->timer, rd->not_before - ngx_current_msec);
        return;
    }

    ngx_payment_reader_next(r);
}


static void
ngx_payment_reader_timer(ngx_event_t *ev)
{
    ngx_payment_reader_next(ev->data);
}


void
ngx_payment_reader_soon(ngx_payment_relay_t *r)
{
    ngx_post_event(&r->reader.kick, &ngx_posted_events);
}


void
ngx_payment_reader_next(ngx_payment_relay_t *r)
{
    uint64_t               now;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;

    if (!ngx_payment_reader_allowed(r)) {
        return;
    }

    now = ngx_payment_clock_ns();

    rd->n = 0;
    rd->wanted_stmt = -1;
    rd->next_stmt = -1;
    rd->barrier_stmt = -1;
    rd->head_stmt = -1;
    rd->max_stmt = -1;
    rd->dead_stmt = -1;

    ngx_payment_reader_ask_wanted(r);

    if (ngx_payment_reader_room(r)) {
        ngx_payment_reader_ask_next(r);
    }

    if (rd->n) {
        ngx_payment_reader_ask_barrier(r);
    }

    /* after the rows, so that it can open the gate for them */

    ngx_payment_reader_ask_head(r, now);
    ngx_payment_reader_ask_max(r, now);
    ngx_payment_reader_ask_dead(r, now);

    if (rd->n == 0) {
        return;
    }

    if (rd->timer.timer_set) {
        ngx_del_timer(&rd->timer);
    }

    rd->busy = 1;
    rd->stale = 0;
    rd->again = 0;
    rd->started_ns = now;

    /* before the read starts: what is committed later rings */

    if (rd->next_stmt != -1) {
        r->outbox->stats->doorbell_armed = 1;
        ngx_memory_barrier();
    }

    ngx_payment_db_exchange(&rd->db, rd->stmts, rd->n,
                            NGX_PAYMENT_READ_TIMEOUT, ngx_payment_reader_done);
}


static ngx_uint_t
ngx_payment_reader_allowed(ngx_payment_relay_t *r)
{
    return r->state == NGX_PAYMENT_RELAY_RUNNING
           && r->fence.lease.state == PAYMENT_LEASE_HELD
           && r->reader.db.state == NGX_PAYMENT_DB_IDLE
           && !r->reader.busy
           && !r->outbox->draining;
}


/* for how many more rows there is room; 0 also when there are enough */

static ngx_uint_t
ngx_payment_reader_room(ngx_payment_relay_t *r)
{
    size_t  room, waiting;

    waiting = payment_inflight_count(&r->table, PAYMENT_EVENT_READY)
              + payment_inflight_count(&r->table, PAYMENT_EVENT_HELD);

    if (r->outbox->stats->helper.paused
        || waiting >= 2 * r->reader.limit
        || r->table.data_size >= NGX_PAYMENT_HELD_SIZE)
    {
        return 0;
    }

    /* some are kept for those that come late */

    room = payment_inflight_room(&r->table);

    if (room < r->reader.limit + NGX_PAYMENT_WANTED_MAX) {
        return 0;
    }

    return r->reader.limit;
}


/* late ones, and those to be tried again */

static void
ngx_payment_reader_ask_wanted(ngx_payment_relay_t *r)
{
    u_char                 *p;
    ngx_uint_t              n;
    payment_event_t        *e;
    ngx_payment_db_stmt_t  *stmt;

    if (payment_inflight_count(&r->table, PAYMENT_EVENT_WANTED) == 0) {
        return;
    }

    stmt = ngx_payment_reader_statement(r, &r->reader.wanted_stmt);

    p = ngx_sprintf(stmt->sql.data, "SELECT " NGX_PAYMENT_ROW_COLUMNS
                    ", %s FROM outbox_event WHERE id IN (",
                    ngx_payment_reader_blocked(r));

    n = 0;

    for (e = payment_inflight_first(&r->table, PAYMENT_EVENT_WANTED);
         e && n < NGX_PAYMENT_WANTED_MAX;
         e = e->next)
    {
        p = ngx_sprintf(p, "%s%uL", n++ ? "," : "", e->id);
        e->asked = 1;
    }

    p = ngx_sprintf(p, ") ORDER BY id");
    stmt->sql.len = p - stmt->sql.data;
}


static const char *
ngx_payment_reader_blocked(ngx_payment_relay_t *r)
{
    return r->reader.dead ? NGX_PAYMENT_BLOCKED : "0";
}


static void
ngx_payment_reader_ask_next(ngx_payment_relay_t *r)
{
    u_char                 *p;
    ngx_payment_reader_t   *rd;
    ngx_payment_db_stmt_t  *stmt;

    rd = &r->reader;
    rd->asked = rd->limit;

    stmt = ngx_payment_reader_statement(r, &rd->next_stmt);

    p = ngx_sprintf(stmt->sql.data, "SELECT " NGX_PAYMENT_ROW_COLUMNS
                    ", %s FROM outbox_event WHERE id > %uL "
                    "ORDER BY id LIMIT %ui",
                    ngx_payment_reader_blocked(r), rd->cursor,
                    rd->asked);

    stmt->sql.len = p - stmt->sql.data;
}


/*
 * Asking of each row whether its payment has a dead letter more than doubles
 * its price, so it is asked only while there are dead letters at all.  Nobody
 * but the holder of the lease makes any.
 */

static void
ngx_payment_reader_ask_dead(ngx_payment_relay_t *r, uint64_t now_ns)
{
    u_char                 *p;
    ngx_payment_reader_t   *rd;
    ngx_payment_db_stmt_t  *stmt;

    rd = &r->reader;

    if (!rd->dead || now_ns < rd->dead_at_ns) {
        return;
    }

    rd->dead_at_ns = now_ns + NGX_PAYMENT_MAX_INTERVAL_NS;
    rd->dead_news = 0;

    stmt = ngx_payment_reader_statement(r, &rd->dead_stmt);

    p = ngx_sprintf(stmt->sql.data, "SELECT EXISTS (SELECT 1 FROM outbox_dead)");
    stmt->sql.len = p - stmt->sql.data;
}


static void
ngx_payment_reader_take_dead(ngx_payment_relay_t *r)
{
    MYSQL_ROW              row;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;
    row = mysql_fetch_row(rd->stmts[rd->dead_stmt].result);

    /* one that was made meanwhile may not be in the answer */

    if (row && row[0][0] == '0' && !rd->dead_news) {
        rd->dead = 0;
    }
}


void
ngx_payment_reader_dead(ngx_payment_relay_t *r)
{
    if (r->outbox->conf->dead_letter == NGX_PAYMENT_DEAD_BLOCK) {
        r->reader.dead = 1;
        r->reader.dead_news = 1;

        /* rows that are being read were not asked */
        r->reader.stale = r->reader.busy;
    }
}


/* Right after the rows: without any, there is nothing to wait for. */

static void
ngx_payment_reader_ask_barrier(ngx_payment_relay_t *r)
{
    u_char                 *p;
    ngx_payment_outbox_t   *o;
    ngx_payment_db_stmt_t  *stmt;

    o = r->outbox;

    stmt = ngx_payment_reader_statement(r, &r->reader.barrier_stmt);

    p = ngx_sprintf(stmt->sql.data,
            "INSERT INTO outbox_lease (name, lock_until, locked_at, "
            "locked_by, epoch, owner_uuid) SELECT 'reader/%s', "
            "UTC_TIMESTAMP(3), UTC_TIMESTAMP(3), '%s', 1, '%s' FROM DUAL%s "
            "ON DUPLICATE KEY UPDATE epoch = outbox_lease.epoch + 1, "
            "lock_until = VALUES(lock_until)",
            o->uuid, o->host, o->uuid,
            r->reader.wanted_stmt == -1 ? " WHERE FOUND_ROWS() > 0" : "");

    stmt->sql.len = p - stmt->sql.data;
}


/* the ids up to the cursor: all of them, or it opens no gate */

static void
ngx_payment_reader_ask_head(ngx_payment_relay_t *r, uint64_t now_ns)
{
    u_char                 *p;
    ngx_payment_reader_t   *rd;
    ngx_payment_db_stmt_t  *stmt;

    rd = &r->reader;

    if (rd->cursor == 0) {
        return;
    }

    if (!rd->head_wanted && !(rd->mixed && rd->next_stmt != -1)
        && now_ns < rd->head_at_ns)
    {
        return;
    }

    stmt = ngx_payment_reader_statement(r, &rd->head_stmt);

    p = ngx_sprintf(stmt->sql.data,
                    "SELECT id FROM outbox_event WHERE id <= %uL "
                    "ORDER BY id LIMIT %ui", rd->cursor, rd->head_limit);

    stmt->sql.len = p - stmt->sql.data;

    rd->heads++;
    rd->head_wanted = 0;
}


/* how far the table goes, when we don't go there */

static void
ngx_payment_reader_ask_max(ngx_payment_relay_t *r, uint64_t now_ns)
{
    u_char                 *p;
    ngx_payment_db_stmt_t  *stmt;

    if ((!r->reader.full && r->reader.next_stmt != -1)
        || now_ns < r->reader.max_at_ns)
    {
        return;
    }

    r->reader.max_at_ns = now_ns + NGX_PAYMENT_MAX_INTERVAL_NS;

    stmt = ngx_payment_reader_statement(r, &r->reader.max_stmt);

    p = ngx_sprintf(stmt->sql.data, "SELECT MIN(id), MAX(id) FROM outbox_event "
                    "WHERE id > %uL", r->reader.cursor);
    stmt->sql.len = p - stmt->sql.data;
}


static ngx_payment_db_stmt_t *
ngx_payment_reader_statement(ngx_payment_relay_t *r, ngx_int_t *index)
{
    ngx_uint_t              buffer;
    ngx_payment_reader_t   *rd;
    ngx_payment_db_stmt_t  *stmt;

    rd = &r->reader;

    /* the first buffer is the long one, for many ids */

    buffer = (index == &rd->wanted_stmt) ? 0
             : (index == &rd->next_stmt) ? 1
             : (index == &rd->barrier_stmt) ? 2
             : (index == &rd->head_stmt) ? 3
             : (index == &rd->max_stmt) ? 4 : 5;

    *index = (ngx_int_t) rd->n;
    stmt = &rd->stmts[rd->n++];

    ngx_memzero(stmt, sizeof(ngx_payment_db_stmt_t));
    stmt->sql.data = rd->sql[buffer];

    return stmt;
}


static void
ngx_payment_reader_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_relay_t *r = db->data;

    uint64_t               now;
    ngx_uint_t             rows;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;
    rd->busy = 0;
    now = ngx_payment_clock_ns();

    if (ngx_payment_reader_failed(r, lost) != NGX_OK) {
        /* the next tick, or ready(), tries again */
        ngx_payment_reader_forget_gone(r);
        return;
    }

    if (rd->stale || r->state != NGX_PAYMENT_RELAY_RUNNING) {
        ngx_payment_reader_forget_gone(r);
        ngx_payment_reader_next(r);
        return;
    }

    rows = ngx_payment_reader_take(r, now);

    ngx_payment_reader_forget_gone(r);
    ngx_payment_reader_pause(r, rows, now);
    ngx_payment_relay_pump(r);
}


/* NULL is the end of a result, and of one that isn't there */

static ngx_int_t
ngx_payment_reader_failed(ngx_payment_relay_t *r, ngx_uint_t lost)
{
    ngx_uint_t             i;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;

    if (lost) {
        (void) ngx_atomic_fetch_add(&r->stats->errors, 1);
        return NGX_ERROR;
    }

    for (i = 0; i < rd->n; i++) {
        if (rd->stmts[i].error) {
            (void) ngx_atomic_fetch_add(&r->stats->errors, 1);
            ngx_payment_relay_db_error(r, "reading events",
                                       rd->stmts[i].error,
                                       rd->stmts[i].message);
            return NGX_ERROR;
        }
    }

    r->last_error = 0;

    return NGX_OK;
}


/* the late ones are older than the next ones; returns how many of these */

static ngx_uint_t
ngx_payment_reader_take(ngx_payment_relay_t *r, uint64_t now_ns)
{
    ngx_uint_t             rows;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;
    rows = 0;

    if (rd->wanted_stmt != -1) {
        ngx_payment_reader_take_wanted(r);
    }

    if (rd->next_stmt != -1) {
        rows = ngx_payment_reader_take_next(r);
    }

    if (rd->head_stmt != -1) {
        ngx_payment_reader_take_head(r, now_ns);
    }

    if (rd->max_stmt != -1) {
        ngx_payment_reader_take_max(r);
    }

    if (rd->dead_stmt != -1) {
        ngx_payment_reader_take_dead(r);
    }

    return rows;
}


static void
ngx_payment_reader_take_wanted(ngx_payment_relay_t *r)
{
    uint64_t          id;
    MYSQL_ROW         row;
    MYSQL_RES        *res;
    payment_event_t  *e, *next;

    res = r->reader.stmts[r->reader.wanted_stmt].result;

    while ((row = mysql_fetch_row(res)) != NULL) {
        id = ngx_payment_row_number(row[0]);
        e = payment_inflight_find(&r->table, id);

        if (e && e->state == PAYMENT_EVENT_WANTED) {
            (void) ngx_payment_reader_event(r, e, row,
                                            mysql_fetch_lengths(res));
        }
    }

    /* what was asked for and is not there any more, somebody else deleted */

    for (e = payment_inflight_first(&r->table, PAYMENT_EVENT_WANTED);
         e;
         e = next)
    {
        next = e->next;

        if (e->asked) {
            ngx_payment_relay_vanished(r, e);
        }
    }
}


static ngx_uint_t
ngx_payment_reader_take_next(ngx_payment_relay_t *r)
{
    uint64_t               id, gate, first;
    MYSQL_ROW              row;
    MYSQL_RES             *res;
    ngx_uint_t             rows;
    payment_event_t       *e;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;
    res = rd->stmts[rd->next_stmt].result;
    rows = 0;
    first = 0;

    /* from the very beginning: open; else what this exchange, or the next
     * that does, finds at the head opens it */

    gate = (rd->cursor == 0) ? 0
           : (rd->head_stmt != -1) ? rd->heads : rd->heads + 1;

    rd->mixed = 0;

    while ((row = mysql_fetch_row(res)) != NULL) {

        id = ngx_payment_row_number(row[0]);
        first = first ? first : id;
        rows++;

        e = payment_inflight_find(&r->table, id);

        if (e && e->state == PAYMENT_EVENT_UNSURE) {
            e = ngx_payment_reader_verify(r, e, row, mysql_fetch_lengths(res));
        }

        if (e == NULL) {
            e = payment_inflight_add(&r->table, id, PAYMENT_EVENT_WANTED);
            if (e == NULL) {
                return rows;
            }

            e->gate = gate;

            if (ngx_payment_reader_event(r, e, row, mysql_fetch_lengths(res))
                != NGX_OK)
            {
                return rows;
            }

            if (e->version > 1) {
                rd->mixed = 1;
            }
        }

        rd->cursor = id;
    }

    ngx_payment_reader_adapt(r, rows, first);

    if (!rd->full) {
        ngx_payment_relay_verified(r);
    }

    return rows;
}


/* NULL: the id has been given to another row, which is new. */

static payment_event_t *
ngx_payment_reader_verify(ngx_payment_relay_t *r, payment_event_t *e,
    MYSQL_ROW row, unsigned long *lengths)
{
    uint64_t  payment, version;

    payment = payment_inflight_hash(row[NGX_PAYMENT_ROW_AGGREGATEID],
                                    lengths[NGX_PAYMENT_ROW_AGGREGATEID]);
    version = ngx_payment_row_number(row[NGX_PAYMENT_ROW_VERSION]);

    if (ngx_payment_relay_verify(r, e, payment, (uint32_t) version) == NGX_OK)
    {
        return e;
    }

    return NULL;
}


static void
ngx_payment_reader_take_head(ngx_payment_relay_t *r, uint64_t now_ns)
{
    uint64_t               id, took;
    MYSQL_ROW              row;
    MYSQL_RES             *res;
    ngx_uint_t             rows, full;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;
    res = rd->stmts[rd->head_stmt].result;
    rows = 0;
    full = 0;

    while ((row = mysql_fetch_row(res)) != NULL) {

        id = ngx_payment_row_number(row[0]);
        rows++;

        if (payment_inflight_find(&r->table, id)) {
            continue;
        }

        if (payment_inflight_add(&r->table, id, PAYMENT_EVENT_WANTED)
            == NULL)
        {
            full = 1;
            break;
        }

        (void) ngx_atomic_fetch_add(&r->stats->late, 1);
    }

    took = now_ns - rd->started_ns;

    took *= rd->full ? NGX_PAYMENT_HEAD_SHARE_FULL : NGX_PAYMENT_HEAD_SHARE;

    rd->head_at_ns = now_ns + ngx_max(took, r->outbox->conf->poll_interval
                                            * 1000000ULL);

    if (full || rows == rd->head_limit) {

        /* more than can be looked at: begin again with what can */

        ngx_payment_relay_rewind(r);
        return;
    }

    rd->heads_done = rd->heads;
}


static void
ngx_payment_reader_take_max(ngx_payment_relay_t *r)
{
    uint64_t               min, max;
    MYSQL_ROW              row;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;
    row = mysql_fetch_row(rd->stmts[rd->max_stmt].result);

    min = row ? ngx_payment_row_number(row[0]) : 0;
    max = row ? ngx_payment_row_number(row[1]) : 0;
    min = ngx_max(min, rd->cursor + 1);

    rd->beyond = (max >= min) ? (max - min + 1) * rd->density / 1024 : 0;
}


/* A row comes to an event that is WANTED: READY, or for the dead letters. */

static ngx_int_t
ngx_payment_reader_event(ngx_payment_relay_t *r, payment_event_t *e,
    MYSQL_ROW row, unsigned long *lengths)
{
    ngx_payment_row_t  *event;

    event = ngx_payment_row_create(row, lengths, r->log);
    if (event == NULL) {
        payment_inflight_remove(e);
        return NGX_ERROR;
    }

    (void) ngx_atomic_fetch_add(&r->stats->read, 1);

    r->reader.row_size = (7 * r->reader.row_size + event->size) / 8;

    e->asked = 0;
    e->version = event->version;
    e->created_us = event->created_us;
    e->payment = payment_inflight_hash(event->aggregateid.data,
                                       event->aggregateid.len);
    e->merchant = payment_inflight_hash(event->merchant.data,
                                        event->merchant.len);

    if (row[NGX_PAYMENT_ROW_COLUMNS_N][0] == '1') {
        ngx_payment_row_free(event);
        e->follower = 1;
        payment_inflight_move(e, PAYMENT_EVENT_DEAD);
        ngx_payment_fence_soon(r);
        return NGX_OK;
    }

    payment_inflight_set_data(e, event, (uint32_t) event->size);
    payment_inflight_move(e, e->occupies ? PAYMENT_EVENT_SUSPECT
                                         : PAYMENT_EVENT_READY);

    return NGX_OK;
}


/* How much to ask for the next time, and how dense the table is. */

static void
ngx_payment_reader_adapt(ngx_payment_relay_t *r, ngx_uint_t rows,
    uint64_t first)
{
    ngx_uint_t             max, size;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;
    size = r->outbox->conf->batch_size;

    if (rows < rd->asked) {
        rd->full = 0;
        rd->beyond = 0;
        rd->limit = size;
        return;
    }

    rd->full = 1;
    rd->density = rows * 1024 / (rd->cursor - first + 1);
    rd->beyond -= ngx_min(rd->beyond, rows);

    max = ngx_min(NGX_PAYMENT_BATCH_GROWTH * size,
                  r->outbox->conf->max_in_flight / 4);
    max = ngx_min(max, NGX_PAYMENT_BATCH_BYTES / (rd->row_size + 1));

    rd->limit = ngx_max(ngx_min(2 * rd->limit, max), size);
}


/*
 * Under load a short pause lets more rows gather, and saves both sides most of
 * their work; when events come one at a time there is nothing to wait for.
 */

static void
ngx_payment_reader_pause(ngx_payment_relay_t *r, ngx_uint_t rows,
    uint64_t now_ns)
{
    ngx_msec_t             pause;
    ngx_payment_reader_t  *rd;

    rd = &r->reader;

    if (rd->full || payment_inflight_count(&r->table, PAYMENT_EVENT_WANTED)) {
        /* there is more */
        ngx_payment_reader_next(r);
        return;
    }

    pause = 0;

    if (rows && now_ns - rd->last_rows_ns < NGX_PAYMENT_BUSY_NS) {
        pause = (rows >= 96) ? 12 : (rows >= 32) ? 5 : (rows >= 5) ? 3 : 2;
    }

    if (rows) {
        rd->last_rows_ns = now_ns;
    }

    rd->not_before = ngx_current_msec + pause;

    if (rd->again) {
        ngx_payment_reader_wake(r);
    }
}


/* Deleted while a read was under way that may have shown them: it has ended. */

static void
ngx_payment_reader_forget_gone(ngx_payment_relay_t *r)
{
    payment_event_t  *e;

    while ((e = payment_inflight_first(&r->table, PAYMENT_EVENT_GONE))
           != NULL)
    {
        payment_inflight_remove(e);
    }
}
