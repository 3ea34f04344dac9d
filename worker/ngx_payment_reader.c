/*
 * Reading; see ngx_payment_reader.h.
 */

#include "ngx_payment_reader.h"
#include "ngx_payment_row.h"
#include "payment_ranges.h"

#include <mysqld_error.h>


#define NGX_PAYMENT_READER_TIMEOUT    10000     /* ms */

/* ms: a read that has to go over all rows that were ever deleted and not yet
 * purged, some millions a second */
#define NGX_PAYMENT_READER_TIMEOUT_NO_FLOOR  300000

#define NGX_PAYMENT_READER_LOOK_NS    (1000 * 1000000ULL)

/* the longest pause between two looks at the table's end: the gauges need them
 */
#define NGX_PAYMENT_READER_MAX_NS     (5000 * 1000000ULL)

/* for how long all reads have barriers, after another node's row was found */
#define NGX_PAYMENT_READER_BARRIER_NS  (1000 * 1000000ULL)

/* Looking at the head may take one in so many parts of the time. */
#define NGX_PAYMENT_READER_SHARE      20
#define NGX_PAYMENT_READER_SHARE_FULL 100       /* with a backlog */
#define NGX_PAYMENT_READER_SHARE_BELOW  100

#define NGX_PAYMENT_READER_BELOW      "0.1"     /* s: a look below the floor */

#define NGX_PAYMENT_READER_SLACK      1000      /* late ids found at a time */

/* An event that was committed longer ago is no news: it may have been read,
 * published and forgotten meanwhile. */
#define NGX_PAYMENT_READER_NEWS_NS    (200 * 1000000ULL)

#define NGX_PAYMENT_READER_BLOCKED                                            \
    "version > 1 AND EXISTS (SELECT 1 FROM outbox_dead d "                    \
    "WHERE d.aggregateid = outbox_event.aggregateid)"


static void ngx_payment_reader_ready(ngx_payment_db_t *db);
static void ngx_payment_reader_set_state(ngx_payment_reader_t *rd,
    ngx_payment_reader_state_e state);
static void ngx_payment_reader_timer(ngx_event_t *ev);
static void ngx_payment_reader_next(ngx_payment_reader_t *rd);
static ngx_uint_t ngx_payment_reader_allowed(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static ngx_uint_t ngx_payment_reader_room(ngx_payment_reader_t *rd);
static ngx_uint_t ngx_payment_reader_at_floor(ngx_payment_reader_t *rd);
static void ngx_payment_reader_ask_wanted(ngx_payment_reader_t *rd);
static const char *ngx_payment_reader_blocked(ngx_payment_reader_t *rd);
static void ngx_payment_reader_ask_next(ngx_payment_reader_t *rd);
static void ngx_payment_reader_ask_barrier(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static ngx_uint_t ngx_payment_reader_needs_barrier(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static ngx_uint_t ngx_payment_reader_confirmed(ngx_payment_reader_t *rd);
static void ngx_payment_reader_ask_head(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static uint64_t ngx_payment_reader_settled(ngx_payment_reader_t *rd);
static size_t ngx_payment_reader_more_than_known(ngx_payment_reader_t *rd);
static ngx_uint_t ngx_payment_reader_knows(ngx_payment_reader_t *rd,
    uint64_t id);
static void ngx_payment_reader_ask_max(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static void ngx_payment_reader_ask_dead(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static void ngx_payment_reader_ask_below(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static void ngx_payment_reader_ask_unsettled(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static size_t ngx_payment_reader_sql_size(ngx_payment_read_e which);
static void ngx_payment_reader_ask(ngx_payment_reader_t *rd,
    ngx_payment_read_e which, const char *fmt, ...);
static void ngx_payment_reader_done(ngx_payment_db_t *db, ngx_uint_t lost);
static void ngx_payment_reader_forget_level(ngx_payment_reader_t *rd);
static void ngx_payment_reader_excuse(ngx_payment_db_stmt_t *stmt);
static ngx_uint_t ngx_payment_reader_take(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static void ngx_payment_reader_take_wanted(ngx_payment_reader_t *rd);
static void ngx_payment_reader_vanished(ngx_payment_reader_t *rd,
    payment_event_t *e);
static ngx_uint_t ngx_payment_reader_take_next(ngx_payment_reader_t *rd);
static ngx_uint_t ngx_payment_reader_meet(ngx_payment_reader_t *rd,
    uint64_t id, MYSQL_ROW row, unsigned long *lengths);
static void ngx_payment_reader_forget_early(ngx_payment_reader_t *rd);
static ngx_uint_t ngx_payment_reader_on_disk(ngx_payment_reader_t *rd,
    MYSQL_ROW row, unsigned long *lengths);
static ngx_int_t ngx_payment_reader_take_head(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static ngx_int_t ngx_payment_reader_want(ngx_payment_reader_t *rd,
    uint64_t id);
static void ngx_payment_reader_take_max(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static void ngx_payment_reader_take_dead(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static void ngx_payment_reader_take_below(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static void ngx_payment_reader_take_settled(ngx_payment_reader_t *rd);
static void ngx_payment_reader_take_unsettled(ngx_payment_reader_t *rd,
    uint64_t now_ns);
static ngx_int_t ngx_payment_reader_event(ngx_payment_reader_t *rd,
    payment_event_t *e, MYSQL_ROW columns, unsigned long *lengths);
static void ngx_payment_reader_forget_refusals(ngx_payment_reader_t *rd,
    payment_event_t *e);
static void ngx_payment_reader_adapt(ngx_payment_reader_t *rd,
    ngx_uint_t rows, uint64_t first);
static void ngx_payment_reader_pause(ngx_payment_reader_t *rd,
    ngx_uint_t rows, uint64_t now_ns);
static void ngx_payment_reader_forget_gone(ngx_payment_reader_t *rd);


static const char  *ngx_payment_reader_session[] = {
    "SET time_zone = '+00:00', autocommit = 1, "
    "sql_mode = 'STRICT_ALL_TABLES', eq_range_index_dive_limit = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    NULL
};


ngx_int_t
ngx_payment_reader_init(ngx_payment_reader_t *rd)
{
    ngx_payment_outbox_shard_t *sh = rd->sh;

    ngx_uint_t  i;

    for (i = 0; i < NGX_PAYMENT_READ_STMTS; i++) {
        rd->sql[i] = ngx_alloc(ngx_payment_reader_sql_size(i), sh->log);
        if (rd->sql[i] == NULL) {
            return NGX_ERROR;
        }
    }

    rd->given = ngx_calloc(sizeof(ngx_payment_proved_t), sh->log);
    if (rd->given == NULL) {
        return NGX_ERROR;
    }

    rd->db.shard = sh->shard;
    rd->db.log = sh->log;
    rd->db.data = rd;
    rd->db.session = ngx_payment_reader_session;
    rd->db.ready = ngx_payment_reader_ready;

    rd->limit = sh->conf->batch_size;
    rd->density = 1024;

    payment_pace_init(&rd->pace, sh->conf->max_delay * 1000000ULL);

    rd->timer.handler = ngx_payment_reader_timer;
    rd->timer.data = rd;
    rd->timer.log = sh->log;
    rd->timer.cancelable = 1;

    rd->kick.handler = ngx_payment_reader_timer;
    rd->kick.data = rd;
    rd->kick.log = sh->log;

    return NGX_OK;
}


void
ngx_payment_reader_open(ngx_payment_reader_t *rd)
{
    ngx_payment_db_open(&rd->db);
}


void
ngx_payment_reader_close(ngx_payment_reader_t *rd)
{
    if (rd->timer.timer_set) {
        ngx_del_timer(&rd->timer);
    }

    if (rd->kick.posted) {
        ngx_delete_posted_event(&rd->kick);
    }

    ngx_payment_db_close(&rd->db);
    ngx_payment_reader_set_state(rd, NGX_PAYMENT_READER_IDLE);
}


static void
ngx_payment_reader_ready(ngx_payment_db_t *db)
{
    ngx_payment_reader_t *rd = db->data;

    rd->sh->handlers->connected(rd->sh->data, db, rd->connected);
    rd->connected = 1;

    ngx_payment_reader_next(rd);
}


ngx_uint_t
ngx_payment_reader_connected(ngx_payment_reader_t *rd)
{
    return (rd->db.state == NGX_PAYMENT_DB_IDLE
            || rd->db.state == NGX_PAYMENT_DB_BUSY)
           && rd->db.server == rd->sh->server;
}


void
ngx_payment_reader_give_up(ngx_payment_reader_t *rd)
{
    rd->unfit = 1;
    ngx_payment_reader_soon(rd);
}


static void
ngx_payment_reader_set_state(ngx_payment_reader_t *rd,
    ngx_payment_reader_state_e state)
{
    rd->state = state;
    rd->sh->reading = (state != NGX_PAYMENT_READER_IDLE);
}


void
ngx_payment_reader_rewind(ngx_payment_reader_t *rd)
{
    payment_floor_t *floor = &rd->sh->floor;

    if (rd->doubts != rd->sh->doubts) {
        /* it was another server's, or another life's of the table */
        rd->doubts = rd->sh->doubts;
        payment_floor_forget(floor);
    }

    payment_floor_forget(&rd->sh->settled);

    rd->cursor = floor->id ? floor->id - 1 : 0;
    rd->limit = rd->sh->conf->batch_size;
    rd->full = 0;
    rd->mixed = 0;
    rd->behind = 1;
    rd->rewound_ns = ngx_payment_clock_ns();

    /* nobody waits at a gate any more */
    rd->head_wanted = 0;

    if (rd->state == NGX_PAYMENT_READER_READING) {
        ngx_payment_reader_set_state(rd, NGX_PAYMENT_READER_STALE);
    }
}


void
ngx_payment_reader_block(ngx_payment_reader_t *rd)
{
    if (rd->sh->conf->dead_letter != NGX_PAYMENT_DEAD_BLOCK) {
        return;
    }

    rd->dead = NGX_PAYMENT_READER_DEAD_NEWER;

    /* rows that are being read were not asked whether they are to follow */

    if (rd->state == NGX_PAYMENT_READER_READING) {
        ngx_payment_reader_set_state(rd, NGX_PAYMENT_READER_STALE);
    }
}


ngx_uint_t
ngx_payment_reader_gate(ngx_payment_reader_t *rd, payment_event_t *e)
{
    if (e->version <= 1
        || (e->gate <= rd->heads_done
            && !rd->sh->astray
            && payment_inflight_count(&rd->sh->table, PAYMENT_EVENT_WANTED)
               == 0))
    {
        return 1;
    }

    rd->head_wanted = (e->gate > rd->heads_done);
    ngx_payment_reader_soon(rd);

    return 0;
}


/* news */

ngx_uint_t
ngx_payment_reader_listens(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    ngx_payment_outbox_shard_t *sh = rd->sh;

    return sh->state == NGX_PAYMENT_RELAY_RUNNING
           && sh->lease.state == PAYMENT_LEASE_HELD
           && !sh->conf->stats->helper.paused
           && ngx_payment_reader_connected(rd)
           && payment_inflight_count(&sh->table, PAYMENT_EVENT_UNSURE) == 0
           && !rd->behind
           && !rd->starved
           && rd->failures == 0
           && now_ns >= rd->barrier_until_ns;
}


/* Whoever had the lease before may have published what is older than that. */

ngx_uint_t
ngx_payment_reader_believes(ngx_payment_reader_t *rd,
    const ngx_payment_news_item_t *item, uint64_t now_ns)
{
    payment_inflight_t *table = &rd->sh->table;

    return item->commit.choice == rd->db.choice
           && item->commit.sent_ns > rd->rewound_ns
           && item->commit.sent_ns + NGX_PAYMENT_READER_NEWS_NS > now_ns

           /* reading needs its room, or their rows would not be found */

           && payment_inflight_room(table)
              >= NGX_PAYMENT_READER_GROWTH * rd->sh->conf->batch_size
                 + 2 * NGX_PAYMENT_READER_WANTED
           && payment_inflight_count(table, PAYMENT_EVENT_EARLY)
              < NGX_PAYMENT_READER_EARLY;
}


/* when to read */

void
ngx_payment_reader_wake(ngx_payment_reader_t *rd)
{
    if (rd->state != NGX_PAYMENT_READER_IDLE) {
        rd->again = 1;
        return;
    }

    if ((ngx_msec_int_t) (rd->not_before - ngx_current_msec) > 0) {
        ngx_add_timer(&rd->timer, rd->not_before - ngx_current_msec);
        return;
    }

    ngx_payment_reader_next(rd);
}


void
ngx_payment_reader_tick(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    if (rd->timer.timer_set) {
        return;
    }

    if (now_ns - rd->started_ns >= rd->sh->conf->poll_interval * 1000000ULL
        || payment_inflight_count(&rd->sh->table, PAYMENT_EVENT_WANTED))
    {
        ngx_payment_reader_next(rd);
    }
}


void
ngx_payment_reader_soon(ngx_payment_reader_t *rd)
{
    ngx_post_event(&rd->kick, &ngx_posted_events);
}


void
ngx_payment_reader_more(ngx_payment_reader_t *rd)
{
    if (rd->full || rd->starved
        || payment_inflight_count(&rd->sh->table, PAYMENT_EVENT_WANTED))
    {
        ngx_payment_reader_soon(rd);
    }
}


static void
ngx_payment_reader_timer(ngx_event_t *ev)
{
    ngx_payment_reader_next(ev->data);
}


static void
ngx_payment_reader_next(ngx_payment_reader_t *rd)
{
    uint64_t  now;

    if (rd->db.state == NGX_PAYMENT_DB_IDLE
        && (rd->unfit || !ngx_payment_db_fit(&rd->db)))
    {
        rd->unfit = 0;
        ngx_payment_db_reset(&rd->db);
        return;
    }

    now = ngx_payment_clock_ns();

    if (!ngx_payment_reader_allowed(rd, now)) {
        return;
    }

    rd->n = 0;
    ngx_memzero(rd->asked, sizeof(rd->asked));

    ngx_payment_reader_ask_wanted(rd);

    if (ngx_payment_reader_room(rd)) {
        ngx_payment_reader_ask_next(rd);
    }

    ngx_payment_reader_ask_barrier(rd, now);

    /* after the rows, so that it can open the gate for them */

    ngx_payment_reader_ask_head(rd, now);
    ngx_payment_reader_ask_max(rd, now);
    ngx_payment_reader_ask_dead(rd, now);
    ngx_payment_reader_ask_below(rd, now);
    ngx_payment_reader_ask_unsettled(rd, now);

    if (rd->n == 0) {
        return;
    }

    if (rd->timer.timer_set) {
        ngx_del_timer(&rd->timer);
    }

    ngx_payment_reader_set_state(rd, NGX_PAYMENT_READER_READING);
    rd->again = 0;
    rd->started_ns = now;
    rd->asked_cursor = rd->cursor;

    /* before the read starts: what is committed later rings */

    if (rd->asked[NGX_PAYMENT_READ_NEXT]) {
        rd->missed = rd->sh->conf->news.ring->missed[rd->sh->shard->index];
        rd->sh->conf->stats->doorbell_armed[rd->sh->shard->index] = 1;
        ngx_memory_barrier();
    }

    ngx_payment_db_exchange(&rd->db, rd->stmts, rd->n,
                            rd->sh->floor.id
                            ? NGX_PAYMENT_READER_TIMEOUT
                            : NGX_PAYMENT_READER_TIMEOUT_NO_FLOOR,
                            ngx_payment_reader_done);
}


static ngx_uint_t
ngx_payment_reader_allowed(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    ngx_payment_outbox_shard_t *sh = rd->sh;

    return sh->state == NGX_PAYMENT_RELAY_RUNNING
           && sh->lease.state == PAYMENT_LEASE_HELD
           && rd->db.state == NGX_PAYMENT_DB_IDLE
           && ngx_payment_reader_connected(rd)
           && rd->state == NGX_PAYMENT_READER_IDLE
           && payment_inflight_count(&sh->table, PAYMENT_EVENT_UNSURE) == 0
           && now_ns / 1000000 >= rd->retry_at_ms;
}


/* for how many more rows there is room; 0 also when there are enough */

static ngx_uint_t
ngx_payment_reader_room(ngx_payment_reader_t *rd)
{
    size_t               room, waiting;
    payment_inflight_t  *table;

    table = &rd->sh->table;

    waiting = payment_inflight_count(table, PAYMENT_EVENT_READY)
              + payment_inflight_count(table, PAYMENT_EVENT_BEHIND);

    if (rd->sh->conf->stats->helper.paused
        || waiting >= 2 * rd->limit + rd->past
        || table->data_size >= NGX_PAYMENT_READER_HELD)
    {
        return 0;
    }

    /* some are kept for those that come late */

    room = payment_inflight_room(table);

    rd->starved = (room < rd->limit + NGX_PAYMENT_READER_WANTED);

    if (rd->starved) {
        return 0;
    }

    return rd->limit;
}


/* Does a read from the cursor on see all rows that there are? */

static ngx_uint_t
ngx_payment_reader_at_floor(ngx_payment_reader_t *rd)
{
    return rd->cursor < ngx_max(rd->sh->floor.id, 1);
}


/* what to ask */

static void
ngx_payment_reader_ask(ngx_payment_reader_t *rd, ngx_payment_read_e which,
    const char *fmt, ...)
{
    u_char                 *p, *end;
    va_list                 args;
    ngx_payment_db_stmt_t  *stmt;

    stmt = rd->asked[which];

    if (stmt == NULL) {
        stmt = &rd->stmts[rd->n++];
        rd->asked[which] = stmt;

        ngx_memzero(stmt, sizeof(ngx_payment_db_stmt_t));
        stmt->sql.data = rd->sql[which];
    }

    end = stmt->sql.data + ngx_payment_reader_sql_size(which);

    va_start(args, fmt);
    p = ngx_vslprintf(stmt->sql.data + stmt->sql.len, end, fmt, args);
    va_end(args);

    /* a text that ends at the end may have been cut */

    ngx_payment_assert(p < end);

    stmt->sql.len = p - stmt->sql.data;
}


static size_t
ngx_payment_reader_sql_size(ngx_payment_read_e which)
{
    return NGX_PAYMENT_SQL_SIZE
           + (which == NGX_PAYMENT_READ_WANTED
              ? NGX_PAYMENT_READER_WANTED * PAYMENT_RANGE_ID_LEN : 0);
}


/* The rows of late events, and of those to be tried again. */

static void
ngx_payment_reader_ask_wanted(ngx_payment_reader_t *rd)
{
    ngx_uint_t        n;
    payment_event_t  *e;

    n = 0;

    for (e = payment_inflight_first(&rd->sh->table, PAYMENT_EVENT_WANTED);
         e && n < NGX_PAYMENT_READER_WANTED;
         e = e->next)
    {
        if (n++ == 0) {
            ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_WANTED,
                                   "SELECT " NGX_PAYMENT_ROW_COLUMNS
                                   ", %s FROM outbox_event WHERE id IN (%uL",
                                   ngx_payment_reader_blocked(rd), e->id);
        } else {
            ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_WANTED, ",%uL", e->id);
        }

        e->asked = 1;
    }

    if (n) {
        ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_WANTED, ") ORDER BY id");
    }
}


/*
 * Asking of each row whether its payment has a dead letter more than doubles
 * its price, so it is asked only while there may be dead letters at all.
 * Nobody but the holder of the lease makes any.
 */

static const char *
ngx_payment_reader_blocked(ngx_payment_reader_t *rd)
{
    return (rd->dead == NGX_PAYMENT_READER_DEAD_NONE)
           ? "0" : NGX_PAYMENT_READER_BLOCKED;
}


static void
ngx_payment_reader_ask_next(ngx_payment_reader_t *rd)
{
    rd->asked_rows = rd->limit;

    ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_NEXT,
                           "SELECT " NGX_PAYMENT_ROW_COLUMNS
                           ", %s FROM outbox_event WHERE id > %uL "
                           "ORDER BY id LIMIT %ui",
                           ngx_payment_reader_blocked(rd), rd->cursor,
                           rd->asked_rows);
}


/*
 * A row of this helper's own is written, in a transaction of its own, right
 * after rows were read: FOUND_ROWS() is of the statement before.  When no row
 * was found there is nothing that must be on disk, and nothing is written.
 *
 * With durability replica its COMMIT waits for a replica, unless somebody ends
 * or forbids that: so that is asked behind it, as behind each of the workers'.
 */

static void
ngx_payment_reader_ask_barrier(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    ngx_payment_node_t *node = rd->sh->node;

    if (rd->n == 0 || !ngx_payment_reader_needs_barrier(rd, now_ns)) {
        return;
    }

    ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_BARRIER,
            "INSERT INTO outbox_lease (name, lock_until, locked_at, "
            "locked_by, epoch, owner_uuid) SELECT 'reader/%s', "
            "UTC_TIMESTAMP(3), UTC_TIMESTAMP(3), '%s', 1, '%s' FROM DUAL%s "
            "ON DUPLICATE KEY UPDATE epoch = outbox_lease.epoch + 1, "
            "lock_until = VALUES(lock_until)",
            node->rules.uuid, node->host, node->rules.uuid,
            rd->asked[NGX_PAYMENT_READ_WANTED] ? ""
                                               : " WHERE FOUND_ROWS() > 0");

    if (rd->sh->shard->durability == NGX_PAYMENT_DURABILITY_REPLICA) {
        ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_CONFIRMED, "%V",
                               ngx_payment_topology_unconfirmed_sql());
    }
}


/*
 * The last read stopped at a row that was not proved.  If it is not by now
 * either, this read has a barrier for its sake.  If it still is not by the time
 * of the next one, no worker of this nginx has written it, and others like it
 * may come.
 *
 * Rows that are read by their ids have mostly waited for so long that a proof
 * would be forgotten.
 */

static ngx_uint_t
ngx_payment_reader_needs_barrier(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    if (rd->unproved
        && !ngx_payment_proved_has(rd->sh->conf->proved, rd->unproved))
    {
        if (!rd->doubted) {
            rd->doubted = 1;
            return 1;
        }

        rd->barrier_until_ns = now_ns + NGX_PAYMENT_READER_BARRIER_NS;
    }

    rd->unproved = 0;
    rd->doubted = 0;

    return rd->asked[NGX_PAYMENT_READ_WANTED]
           || now_ns < rd->barrier_until_ns;
}


static ngx_uint_t
ngx_payment_reader_confirmed(ngx_payment_reader_t *rd)
{
    return rd->asked[NGX_PAYMENT_READ_CONFIRMED] == NULL
           || ngx_payment_topology_sum(
                  rd->asked[NGX_PAYMENT_READ_CONFIRMED]->result)
              == rd->db.unconfirmed;
}


/* All ids to the cursor, from where not all are known on: a look that saw only
 * some of them would open no gate. */

static void
ngx_payment_reader_ask_head(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    if (ngx_payment_reader_at_floor(rd)) {
        return;
    }

    if (!rd->head_wanted && !(rd->mixed && rd->asked[NGX_PAYMENT_READ_NEXT])
        && now_ns < rd->head_at_ns)
    {
        return;
    }

    rd->head_from = ngx_payment_reader_settled(rd);
    rd->head_limit = ngx_payment_reader_more_than_known(rd);

    ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_HEAD,
                           "SELECT id FROM outbox_event "
                           "WHERE id >= %uL AND id <= %uL "
                           "ORDER BY id LIMIT %uz",
                           rd->head_from, rd->cursor, rd->head_limit);

    rd->heads++;
    rd->head_wanted = 0;
}


/* Below that every row is known, and none will come.  While nothing waits for
 * long it is the floor, or about that. */

static uint64_t
ngx_payment_reader_settled(ngx_payment_reader_t *rd)
{
    return ngx_max(rd->sh->floor.id, rd->sh->settled.id);
}


/* So many ids that some of them are not known. */

static size_t
ngx_payment_reader_more_than_known(ngx_payment_reader_t *rd)
{
    return rd->sh->table.capacity + rd->sh->aside.n + NGX_PAYMENT_READER_SLACK;
}


static ngx_uint_t
ngx_payment_reader_knows(ngx_payment_reader_t *rd, uint64_t id)
{
    return payment_inflight_find(&rd->sh->table, id)
           || payment_aside_has(&rd->sh->aside, id);
}


/* How far the table goes, for the backlog's size when it is not read. */

static void
ngx_payment_reader_ask_max(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    if ((!rd->full && rd->asked[NGX_PAYMENT_READ_NEXT])
        || now_ns < rd->max_at_ns)
    {
        return;
    }

    rd->max_at_ns = now_ns + NGX_PAYMENT_READER_LOOK_NS;

    ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_MAX,
                           "SELECT MIN(id), MAX(id) FROM outbox_event "
                           "WHERE id > %uL", rd->cursor);
}


static void
ngx_payment_reader_ask_dead(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    if (rd->dead == NGX_PAYMENT_READER_DEAD_NONE || now_ns < rd->dead_at_ns) {
        return;
    }

    rd->dead_at_ns = now_ns + NGX_PAYMENT_READER_LOOK_NS;
    rd->dead = NGX_PAYMENT_READER_DEAD_MAYBE;

    ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_DEAD,
                           "SELECT EXISTS (SELECT 1 FROM outbox_dead)");
}


/* Where no look at the head begins: nobody waits for it, so that it is cut
 * short where there is much to go over. */

static void
ngx_payment_reader_ask_below(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    if (rd->sh->floor.id == 0 || now_ns < rd->below_at_ns) {
        return;
    }

    ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_BELOW,
                           "SET STATEMENT max_statement_time = "
                           NGX_PAYMENT_READER_BELOW " FOR "
                           "SELECT EXISTS (SELECT 1 FROM outbox_event "
                           "WHERE id < %uL)", rd->sh->floor.id);

    rd->below_id = rd->sh->floor.id;

    if (rd->sh->settled.id > rd->sh->floor.id) {
        ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_SETTLED,
                               "SET STATEMENT max_statement_time = "
                               NGX_PAYMENT_READER_BELOW " FOR "
                               "SELECT id FROM outbox_event "
                               "WHERE id >= %uL AND id < %uL "
                               "ORDER BY id LIMIT %uz",
                               rd->sh->floor.id, rd->sh->settled.id,
                               ngx_payment_reader_more_than_known(rd));
    }
}


/* The lowest row that is not known.  Not while it is known that the table is
 * empty up to the cursor. */

static void
ngx_payment_reader_ask_unsettled(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    if (rd->sh->floor.id == rd->cursor + 1 || now_ns < rd->unsettled_at_ns) {
        return;
    }

    ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_LEVEL,
                           "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED");

    rd->unsettled_limit = ngx_payment_reader_more_than_known(rd);

    /* from a cache it would lock nothing, and leave its level to the next */

    ngx_payment_reader_ask(rd, NGX_PAYMENT_READ_UNSETTLED,
                           "SELECT SQL_NO_CACHE id FROM outbox_event "
                           "WHERE id >= %uL AND id <= %uL "
                           "ORDER BY id LIMIT %uz",
                           ngx_payment_reader_settled(rd), rd->cursor,
                           rd->unsettled_limit);
}


/* what was answered */

static void
ngx_payment_reader_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_reader_t *rd = db->data;

    uint64_t                     now;
    ngx_uint_t                   rows, stale;
    ngx_payment_outbox_shard_t  *sh;

    sh = rd->sh;
    now = ngx_payment_clock_ns();

    stale = (rd->state == NGX_PAYMENT_READER_STALE);
    ngx_payment_reader_set_state(rd, NGX_PAYMENT_READER_IDLE);

    ngx_payment_reader_excuse(rd->asked[NGX_PAYMENT_READ_BELOW]);
    ngx_payment_reader_excuse(rd->asked[NGX_PAYMENT_READ_SETTLED]);

    if (ngx_payment_outbox_shard_check(sh, rd->stmts, rd->n, lost,
                                       "reading events", &rd->last_error)
        != NGX_OK)
    {
        /* a tick, or ready(), tries again */

        if (!lost) {
            rd->failures++;
            rd->retry_at_ms = now / 1000000
                              + ngx_payment_outbox_shard_pause(rd->failures);
            ngx_payment_reader_forget_level(rd);
        }

        ngx_payment_reader_forget_gone(rd);
        return;
    }

    rd->failures = 0;
    rd->read_at_ms = now / 1000000;

    if (!ngx_payment_reader_confirmed(rd)) {
        ngx_log_error(NGX_LOG_WARN, sh->log, 0,
                      "payment outbox: shard \"%V\": the server has answered "
                      "commits that no replica has confirmed: events are read "
                      "again", &sh->shard->name);

        /* whether it waits for replicas is asked of it at each connect */

        ngx_payment_reader_forget_gone(rd);
        ngx_payment_db_reset(&rd->db);
        return;
    }

    if (stale || sh->state != NGX_PAYMENT_RELAY_RUNNING) {
        ngx_payment_reader_forget_gone(rd);
        ngx_payment_reader_next(rd);
        return;
    }

    sh->handlers->reading(sh->data);

    rows = ngx_payment_reader_take(rd, now);

    ngx_payment_reader_forget_gone(rd);
    ngx_payment_reader_pause(rd, rows, now);

    sh->handlers->read(sh->data);
}


/* The server takes the level back when the statement that it is for has locked
 * its table.  One that failed before has left it to the next, which would read
 * rows that nobody has committed. */

static void
ngx_payment_reader_forget_level(ngx_payment_reader_t *rd)
{
    ngx_payment_db_stmt_t  *stmt;

    stmt = rd->asked[NGX_PAYMENT_READ_UNSETTLED];

    if (stmt && stmt->error) {
        rd->unfit = 1;
    }
}


/* It was cut short. */

static void
ngx_payment_reader_excuse(ngx_payment_db_stmt_t *stmt)
{
    if (stmt && stmt->error == ER_STATEMENT_TIMEOUT) {
        stmt->error = 0;
    }
}


/* The late rows are older than the next ones.  Returns how many were next. */

static ngx_uint_t
ngx_payment_reader_take(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    ngx_uint_t  rows;

    rows = 0;

    if (rd->asked[NGX_PAYMENT_READ_WANTED]) {
        ngx_payment_reader_take_wanted(rd);
    }

    rd->complete = 0;
    rd->none_below = 0;

    if (rd->asked[NGX_PAYMENT_READ_NEXT]) {
        rows = ngx_payment_reader_take_next(rd);
    }

    if (rd->asked[NGX_PAYMENT_READ_HEAD]
        && ngx_payment_reader_take_head(rd, now_ns) != NGX_OK)
    {
        /* all is read again, and what follows is of what was known before */
        return rows;
    }

    if (rd->asked[NGX_PAYMENT_READ_MAX]) {
        ngx_payment_reader_take_max(rd, now_ns);
    }

    if (rd->asked[NGX_PAYMENT_READ_DEAD]) {
        ngx_payment_reader_take_dead(rd, now_ns);
    }

    if (rd->asked[NGX_PAYMENT_READ_BELOW]) {
        ngx_payment_reader_take_below(rd, now_ns);
    }

    if (rd->asked[NGX_PAYMENT_READ_SETTLED]) {
        ngx_payment_reader_take_settled(rd);
    }

    ngx_payment_reader_forget_early(rd);

    if (rd->asked[NGX_PAYMENT_READ_UNSETTLED]) {
        ngx_payment_reader_take_unsettled(rd, now_ns);
    }

    return rows;
}


static void
ngx_payment_reader_take_wanted(ngx_payment_reader_t *rd)
{
    uint64_t             id;
    MYSQL_ROW            row;
    MYSQL_RES           *res;
    unsigned long       *lengths;
    payment_event_t     *e, *next;
    payment_inflight_t  *table;

    table = &rd->sh->table;
    res = rd->asked[NGX_PAYMENT_READ_WANTED]->result;
    rd->sh->reads++;

    while ((row = mysql_fetch_row(res)) != NULL) {
        id = ngx_payment_row_number(row[NGX_PAYMENT_ROW_ID]);
        e = payment_inflight_find(table, id);

        if (e == NULL || e->state != PAYMENT_EVENT_WANTED) {
            continue;
        }

        lengths = mysql_fetch_lengths(res);

        if (!ngx_payment_reader_meet(rd, id, row, lengths)) {
            (void) ngx_payment_reader_event(rd, e, row, lengths);
        }
    }

    for (e = payment_inflight_first(table, PAYMENT_EVENT_WANTED);
         e;
         e = next)
    {
        next = e->next;

        if (e->asked) {
            ngx_payment_reader_vanished(rd, e);
        }
    }
}


/* A row that was asked for is not there any more: somebody else deleted it. */

static void
ngx_payment_reader_vanished(ngx_payment_reader_t *rd, payment_event_t *e)
{
    ngx_log_error(NGX_LOG_INFO, rd->sh->log, 0,
                  "payment outbox: shard \"%V\": event %uL is gone",
                  &rd->sh->shard->name, e->id);

    ngx_payment_outbox_shard_forget(rd->sh, e);

    /* its payment's later events, or those of its topic, may wait for it */

    rd->sh->astray |= (rd->sh->aside.n != 0);
}


static ngx_uint_t
ngx_payment_reader_take_next(ngx_payment_reader_t *rd)
{
    uint64_t             id, gate, first;
    MYSQL_ROW            row;
    MYSQL_RES           *res;
    ngx_uint_t           rows, known, fresh;
    unsigned long       *lengths;
    payment_event_t     *e;
    payment_inflight_t  *table;

    table = &rd->sh->table;
    res = rd->asked[NGX_PAYMENT_READ_NEXT]->result;
    rd->sh->reads++;
    rows = 0;
    fresh = 0;
    first = 0;

    /*
     * The gate of rows that are read from the floor on is open.  Else the look
     * at the head that is in this exchange opens it, or the next one that will
     * be made.
     */

    rd->from_floor = ngx_payment_reader_at_floor(rd);
    gate = rd->from_floor ? 0
           : rd->asked[NGX_PAYMENT_READ_HEAD] ? rd->heads : rd->heads + 1;

    rd->mixed = 0;

    while ((row = mysql_fetch_row(res)) != NULL) {

        lengths = mysql_fetch_lengths(res);
        id = ngx_payment_row_number(row[NGX_PAYMENT_ROW_ID]);
        known = ngx_payment_reader_knows(rd, id)
                || ngx_payment_reader_meet(rd, id, row, lengths);

        if (!known && !ngx_payment_reader_on_disk(rd, row, lengths)) {
            rd->again = 1;
            break;
        }

        first = first ? first : id;
        rows++;

        if (!known) {
            fresh++;

            e = payment_inflight_add(table, id, PAYMENT_EVENT_WANTED);
            if (e == NULL) {
                return rows;
            }

            e->gate = gate;

            if (ngx_payment_reader_event(rd, e, row, lengths) != NGX_OK) {
                return rows;
            }

            if (e->version > 1) {
                rd->mixed = 1;
            }
        }

        rd->cursor = id;
    }

    ngx_payment_reader_adapt(rd, rows, first);

    rd->behind = (rd->full && fresh);
    rd->complete = (!rd->full && rd->unproved == 0);

    return rows;
}


/* Was the event of this row handed out before the row was seen?  Then it has
 * its id now. */

static ngx_uint_t
ngx_payment_reader_meet(ngx_payment_reader_t *rd, uint64_t id, MYSQL_ROW row,
    unsigned long *lengths)
{
    if (ngx_payment_row_number(row[NGX_PAYMENT_ROW_VERSION]) != 1
        || ngx_payment_outbox_shard_meet(rd->sh, id,
                   (u_char *) row[NGX_PAYMENT_ROW_AGGREGATEID],
                   lengths[NGX_PAYMENT_ROW_AGGREGATEID])
           != NGX_OK)
    {
        return 0;
    }

    (void) ngx_atomic_fetch_add(&rd->sh->stats->read, 1);

    return 1;
}


/* All rows were seen that there are.  What Kafka had before this read began,
 * and is not among them, was deleted by somebody else. */

static void
ngx_payment_reader_forget_early(ngx_payment_reader_t *rd)
{
    payment_event_t     *e;
    payment_inflight_t  *table;

    table = &rd->sh->table;

    if (!rd->complete
        || (!rd->asked[NGX_PAYMENT_READ_HEAD] && !rd->from_floor)
        || (rd->sh->floor.id && !rd->none_below)
        || payment_inflight_count(table, PAYMENT_EVENT_WANTED))
    {
        return;
    }

    while ((e = payment_inflight_first(table, PAYMENT_EVENT_EARLY)) != NULL
           && e->since_ns < rd->started_ns)
    {
        ngx_log_error(NGX_LOG_INFO, rd->sh->log, 0,
                      "payment outbox: shard \"%V\": the row of an event that "
                      "was published is gone", &rd->sh->shard->name);

        payment_inflight_remove(e);
    }
}


/* Is a row that was read on disk, too?  Else it is the one that the read stops
 * at. */

static ngx_uint_t
ngx_payment_reader_on_disk(ngx_payment_reader_t *rd, MYSQL_ROW row,
    unsigned long *lengths)
{
    u_char  id[NGX_PAYMENT_PROVED_ID_LEN];

    if (rd->asked[NGX_PAYMENT_READ_BARRIER]) {
        return 1;
    }

    /* whoever else writes rows may have shorter ids */

    ngx_memzero(id, sizeof(id));
    ngx_memcpy(id, row[NGX_PAYMENT_ROW_AGGREGATEID],
               ngx_min(sizeof(id), lengths[NGX_PAYMENT_ROW_AGGREGATEID]));

    rd->unproved = ngx_payment_proved_word(id,
        (uint32_t) ngx_payment_row_number(row[NGX_PAYMENT_ROW_VERSION]),
        rd->db.choice);

    if (ngx_payment_proved_has(rd->sh->conf->proved, rd->unproved)) {
        rd->unproved = 0;
        return 1;
    }

    return 0;
}


/* NGX_DECLINED: it has begun again at the head of the table. */

static ngx_int_t
ngx_payment_reader_take_head(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    uint64_t                     id, took;
    MYSQL_ROW                    row;
    MYSQL_RES                   *res;
    ngx_uint_t                   rows, full;
    ngx_payment_outbox_shard_t  *sh;

    sh = rd->sh;
    res = rd->asked[NGX_PAYMENT_READ_HEAD]->result;
    rows = 0;
    full = 0;

    while ((row = mysql_fetch_row(res)) != NULL) {

        id = ngx_payment_row_number(row[0]);
        rows++;

        if (ngx_payment_reader_knows(rd, id)) {
            continue;
        }

        if (ngx_payment_reader_want(rd, id) != NGX_OK) {
            full = 1;
            break;
        }
    }

    took = now_ns - rd->started_ns;
    took *= rd->full ? NGX_PAYMENT_READER_SHARE_FULL : NGX_PAYMENT_READER_SHARE;

    rd->head_at_ns = now_ns + ngx_max(took,
                                      sh->conf->poll_interval * 1000000ULL);

    if (full || rows == rd->head_limit) {

        /* more than can be looked at: begin again with what can */

        sh->handlers->overrun(sh->data);
        return NGX_DECLINED;
    }

    /* an event was forgotten meanwhile whose row this look did not reach */

    if (ngx_payment_reader_settled(rd) >= rd->head_from) {
        rd->heads_done = rd->heads;
    }

    return NGX_OK;
}


/* A row that came late is to be read.  NGX_DECLINED: there is no room. */

static ngx_int_t
ngx_payment_reader_want(ngx_payment_reader_t *rd, uint64_t id)
{
    ngx_payment_outbox_shard_t *sh = rd->sh;

    if (payment_inflight_add(&sh->table, id, PAYMENT_EVENT_WANTED) == NULL) {
        return NGX_DECLINED;
    }

    (void) ngx_atomic_fetch_add(&sh->stats->late, 1);

    return NGX_OK;
}


static void
ngx_payment_reader_take_max(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    uint64_t   min, max, took;
    MYSQL_ROW  row;

    row = mysql_fetch_row(rd->asked[NGX_PAYMENT_READ_MAX]->result);

    min = row ? ngx_payment_row_number(row[0]) : 0;
    max = row ? ngx_payment_row_number(row[1]) : 0;
    min = ngx_max(min, rd->cursor + 1);

    rd->beyond = (max >= min) ? (max - min + 1) * rd->density / 1024 : 0;

    /* a holder that came to a pause may have to go over all deleted rows */

    took = (now_ns - rd->started_ns) * NGX_PAYMENT_READER_SHARE;

    rd->max_at_ns = ngx_max(rd->max_at_ns,
                            now_ns + ngx_min(took, NGX_PAYMENT_READER_MAX_NS));
}


static void
ngx_payment_reader_take_dead(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    MYSQL_ROW  row;

    /* letters that were replayed may have to be gone over, too */

    rd->dead_at_ns = ngx_max(rd->dead_at_ns,
                             now_ns + (now_ns - rd->started_ns)
                                      * NGX_PAYMENT_READER_SHARE);

    row = mysql_fetch_row(rd->asked[NGX_PAYMENT_READ_DEAD]->result);

    /* one that was made since the question may not be in the answer */

    if (row && row[0][0] == '0' && rd->dead == NGX_PAYMENT_READER_DEAD_MAYBE) {
        rd->dead = NGX_PAYMENT_READER_DEAD_NONE;
    }
}


/* Ids are given again: rows are looked for from the very beginning, until a new
 * floor is found. */

static void
ngx_payment_reader_take_below(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    MYSQL_ROW               row;
    ngx_payment_db_stmt_t  *stmt;

    rd->below_at_ns = now_ns + ngx_max((now_ns - rd->started_ns)
                                       * NGX_PAYMENT_READER_SHARE_BELOW,
                                       NGX_PAYMENT_READER_LOOK_NS);

    stmt = rd->asked[NGX_PAYMENT_READ_BELOW];
    row = stmt->result ? mysql_fetch_row(stmt->result) : NULL;

    rd->none_below = (row && row[0][0] == '0');

    /* what was replayed meanwhile is no surprise */

    if (row == NULL || row[0][0] == '0' || rd->sh->replaying
        || rd->below_id != rd->sh->floor.id)
    {
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, rd->sh->log, 0,
                  "payment outbox: shard \"%V\": there are events below id "
                  "%uL, where there were none: the table was emptied or "
                  "restored", &rd->sh->shard->name, rd->sh->floor.id);

    payment_floor_forget(&rd->sh->floor);
    payment_floor_forget(&rd->sh->settled);
}


/* Rows are there that nobody could commit: they were put there, as by a dump
 * that was restored. */

static void
ngx_payment_reader_take_settled(ngx_payment_reader_t *rd)
{
    uint64_t                id;
    MYSQL_ROW               row;
    ngx_payment_db_stmt_t  *stmt;

    stmt = rd->asked[NGX_PAYMENT_READ_SETTLED];

    while (stmt->result && (row = mysql_fetch_row(stmt->result)) != NULL) {

        id = ngx_payment_row_number(row[0]);

        if (ngx_payment_reader_knows(rd, id)) {
            continue;
        }

        payment_floor_lower(&rd->sh->settled, id);
        rd->none_below = 0;

        if (ngx_payment_reader_want(rd, id) != NGX_OK) {
            return;
        }
    }
}


/*
 * An event that is known may have a row that is seen by nobody: one that is
 * being deleted, which may fail.
 */

static void
ngx_payment_reader_take_unsettled(ngx_payment_reader_t *rd, uint64_t now_ns)
{
    size_t                       n;
    uint64_t                     id, lowest, unknown;
    MYSQL_ROW                    row;
    MYSQL_RES                   *res;
    ngx_payment_outbox_shard_t  *sh;

    sh = rd->sh;
    res = rd->asked[NGX_PAYMENT_READ_UNSETTLED]->result;
    unknown = rd->asked_cursor + 1;
    n = 0;

    while ((row = mysql_fetch_row(res)) != NULL) {
        id = ngx_payment_row_number(row[0]);

        if (++n == rd->unsettled_limit || !ngx_payment_reader_knows(rd, id)) {
            unknown = id;
            break;
        }
    }

    lowest = ngx_min(unknown, payment_inflight_lowest(&sh->table));
    lowest = ngx_min(lowest, payment_aside_lowest(&sh->aside));

    payment_floor_seen(&sh->floor, lowest, rd->started_ns / 1000000,
                       now_ns / 1000000);
    payment_floor_seen(&sh->settled, unknown, rd->started_ns / 1000000,
                       now_ns / 1000000);

    rd->unsettled_at_ns = (sh->floor.since_ms + PAYMENT_FLOOR_LAG_MS + 1)
                          * 1000000ULL;
}


/* A row comes to an event that is WANTED: READY, or for the dead letters. */

static ngx_int_t
ngx_payment_reader_event(ngx_payment_reader_t *rd, payment_event_t *e,
    MYSQL_ROW columns, unsigned long *lengths)
{
    uint64_t                     payment;
    ngx_payment_row_t           *row;
    ngx_payment_outbox_shard_t  *sh;

    sh = rd->sh;

    row = ngx_payment_row_create(columns, lengths, sh->log);
    if (row == NULL) {
        /* its payment's later events wait until it is found again */
        ngx_payment_outbox_shard_forget(sh, e);
        sh->astray = 1;
        return NGX_ERROR;
    }

    payment = payment_inflight_hash(row->aggregateid.data,
                                    row->aggregateid.len);

    if (e->attempts && (e->payment != payment || e->version != row->version)) {
        /* what was refused is gone, and its id another's */
        ngx_payment_reader_forget_refusals(rd, e);
    }

    (void) ngx_atomic_fetch_add(&sh->stats->read, 1);

    rd->row_size = (7 * rd->row_size + row->size) / 8;

    e->asked = 0;
    e->read = sh->reads;
    e->version = row->version;
    e->committed_us = row->created_us;
    e->payment = payment;
    e->crc = ngx_crc32_long(row->aggregateid.data, row->aggregateid.len);

    /* the column after those of the row: it is to follow a dead letter */

    if (columns[NGX_PAYMENT_ROW_COLUMNS_N][0] == '1') {
        ngx_payment_row_free(row);
        e->follower = 1;
        payment_inflight_move(e, PAYMENT_EVENT_DEAD);
        return NGX_OK;
    }

    if (e->version == 1) {
        ngx_payment_proved_add(rd->given,
            ngx_payment_outbox_shard_early_id(row->aggregateid.data,
                                              row->aggregateid.len));
    }

    payment_inflight_set_data(e, row, (uint32_t) row->size);
    payment_inflight_move(e, e->occupies && e->attempts
                             ? PAYMENT_EVENT_SUSPECT : PAYMENT_EVENT_READY);

    return NGX_OK;
}


/* The event is a new one, which was seen just now. */

static void
ngx_payment_reader_forget_refusals(ngx_payment_reader_t *rd,
    payment_event_t *e)
{
    ngx_payment_outbox_shard_vacate(rd->sh, e);

    e->attempts = 0;
    e->gate = rd->heads + 1;
}


/* How much to ask for the next time, and how dense the table is. */

static void
ngx_payment_reader_adapt(ngx_payment_reader_t *rd, ngx_uint_t rows,
    uint64_t first)
{
    ngx_uint_t                  max, size;
    ngx_payment_outbox_conf_t  *conf;

    conf = rd->sh->conf;
    size = conf->batch_size;

    rd->run = (rd->full ? rd->run : 0) + rows;
    rd->full = (rows >= rd->asked_rows);

    if (rd->full) {
        rd->density = rows * 1024 / (rd->cursor - first + 1);
        rd->beyond -= ngx_min(rd->beyond, rows);

    } else {
        rd->beyond = 0;
    }

    max = ngx_min(NGX_PAYMENT_READER_GROWTH * size, conf->max_in_flight / 4);
    max = ngx_min(max, NGX_PAYMENT_READER_BYTES / (rd->row_size + 1));

    rd->limit = ngx_max(ngx_min(2 * rd->run, max), size);
}


/* What is known to be there is read at once; and else after a pause, which ends
 * at once in a quiet moment. */

static void
ngx_payment_reader_pause(ngx_payment_reader_t *rd, ngx_uint_t rows,
    uint64_t now_ns)
{
    uint64_t  pause;

    if (rd->asked[NGX_PAYMENT_READ_NEXT]) {
        pause = payment_pace_read(&rd->pace, rd->started_ns, now_ns,
                                  (uint32_t) rows);
        rd->not_before = ngx_current_msec + (ngx_msec_t) (pause / 1000000);
    }

    if (rd->full
        || payment_inflight_count(&rd->sh->table, PAYMENT_EVENT_WANTED))
    {
        ngx_payment_reader_next(rd);
        return;
    }

    if (rd->again) {
        ngx_payment_reader_wake(rd);
    }
}


/* Deleted while a read was under way that may have shown them: it has ended. */

static void
ngx_payment_reader_forget_gone(ngx_payment_reader_t *rd)
{
    payment_event_t  *e;

    while ((e = payment_inflight_first(&rd->sh->table, PAYMENT_EVENT_GONE))
           != NULL)
    {
        payment_inflight_remove(e);
    }
}
