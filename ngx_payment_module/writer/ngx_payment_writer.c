/*
 * Queue, lines and dispatch of one shard: see ngx_payment_writer.h.
 *
 * An operation is in one of six queues: writes and reads, which a free line
 * takes; repeats, which one takes beside the writes; lists, which one batch at
 * a time takes, so that there is a line for everybody else; blocked, which are
 * put back to writes by a timer; and waiting, which one batch at a time takes.
 * Or it follows another one with its key, which alone takes room in a queue and
 * in a batch, so that a crowd at one key is in nobody's way.  All of these are
 * counted against the bounds, and those that follow one operation have a bound
 * of their own.
 *
 * What the writer does with a batch when its transaction has ended is one
 * switch, in ngx_payment_writer_ended().  A batch that the database rolled back
 * pauses and runs again; in the end it is halved until the guilty operation
 * stands alone.  One whose outcome is unknown is not given up before the time
 * of its operations is.
 */

#include "ngx_payment_assert.h"
#include "ngx_payment_leaders.h"
#include "ngx_payment_list.h"
#include "ngx_payment_transaction_run.h"
#include "ngx_payment_writer.h"


/* Batches alive at once, for each line: beyond, the queue fills and sheds. */
#define NGX_PAYMENT_BATCHES_PER_LINE  8

/* What part of the queue's size one key may have, and so may all operations
 * that wait for a lock, or to learn what becomes of a key. */
#define NGX_PAYMENT_FOLLOWERS_PART    4
#define NGX_PAYMENT_STALLED_PART      4

/* Between two looks of an idle connection. */
#define NGX_PAYMENT_WATCH_INTERVAL    1000      /* ms */

/* a time in microseconds */
#define NGX_PAYMENT_NEVER             UINT64_MAX


/* A connection of the writer, with what runs on it. */

typedef struct {
    ngx_payment_writer_t      *writer;
    ngx_payment_db_t           db;
    ngx_payment_columns_t     *columns;         /* what its statements bind */
    ngx_payment_transaction_t  transaction;
    ngx_msec_t                 since;           /* it has had its batch */
} ngx_payment_line_t;


struct ngx_payment_writer_s {
    ngx_payment_shard_t              *shard;
    const ngx_payment_writer_conf_t  *conf;
    ngx_payment_shard_stats_t        *stats;
    ngx_payment_gauges_t             *gauges;
    ngx_log_t                        *log;

    ngx_queue_t               writes;           /* of ngx_payment_op_t */
    ngx_queue_t               repeats;          /* their keys were used */
    ngx_queue_t               reads;
    ngx_queue_t               lists;
    ngx_queue_t               blocked;          /* until blocked_timer */
    ngx_queue_t               waiting;          /* for one payment's lock */
    ngx_uint_t                queued;           /* in these, or following */
    size_t                    queued_bytes;
    ngx_uint_t                stalled;          /* alive, wherever they are */
    ngx_payment_leaders_t     leaders;          /* of writes, repeats, blocked,
                                                   waiting, and of their
                                                   batches */

    ngx_queue_t               ready;            /* batches that want a line */
    ngx_uint_t                batches;          /* alive, in any state */
    ngx_payment_batch_t      *waiter;           /* the one of that kind */
    ngx_payment_batch_t      *lister;           /* the one of LISTS */

    ngx_payment_line_t       *lines;
    ngx_uint_t                nlines;

    ngx_event_t               dispatch;         /* posted */
    ngx_event_t               timer;            /* spare, or queue timeout */
    ngx_event_t               blocked_timer;    /* set if any are blocked */
    ngx_event_t               watch_timer;      /* set in one worker */
    ngx_payment_db_stmt_t     watch[2];         /* of the look under way */

    unsigned                  down:1;           /* no server can be reached */
    unsigned                  dispatching:1;
    unsigned                  repeating:1;      /* repeats are due: writes went
                                                   out since they did */
    unsigned                  watching:1;       /* a look is under way */
};


static ngx_int_t ngx_payment_writer_open_line(ngx_payment_writer_t *w,
    ngx_payment_line_t *line);

static void ngx_payment_writer_watch_timer(ngx_event_t *ev);
static void ngx_payment_writer_watch_done(ngx_payment_db_t *db,
    ngx_uint_t lost);

static ngx_int_t ngx_payment_writer_admit(ngx_payment_writer_t *w,
    ngx_payment_op_t *op, const ngx_payment_op_t *leader);
static void ngx_payment_writer_lead(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);
static void ngx_payment_writer_enqueue(ngx_payment_writer_t *w,
    ngx_queue_t *queue, ngx_payment_op_t *op);
static void ngx_payment_writer_count(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);
static void ngx_payment_writer_uncount(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);
static void ngx_payment_writer_left_batch(ngx_payment_transaction_t *t,
    ngx_queue_t *ops);
static void ngx_payment_writer_block(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);
static ngx_int_t ngx_payment_writer_stall(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);
static void ngx_payment_writer_unstall(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);
static void ngx_payment_writer_blocked_timer(ngx_event_t *ev);
static ngx_uint_t ngx_payment_writer_begun(ngx_payment_op_t *op);
static void ngx_payment_writer_settle(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);
static void ngx_payment_writer_settle_follower(ngx_payment_writer_t *w,
    ngx_payment_op_t *follower, ngx_payment_op_t *op);
static void ngx_payment_writer_remember(ngx_payment_writer_t *w,
    const ngx_payment_op_t *op, uint64_t by);
static void ngx_payment_writer_tell(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);
static ngx_payment_op_t *ngx_payment_writer_succeed(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);

static void ngx_payment_writer_ready(ngx_payment_db_t *db);
static void ngx_payment_writer_down(ngx_payment_db_t *db);
static void ngx_payment_writer_wake(ngx_payment_writer_t *w);
static void ngx_payment_writer_dispatch_handler(ngx_event_t *ev);
static void ngx_payment_writer_dispatch(ngx_payment_writer_t *w);
static ngx_payment_line_t *ngx_payment_writer_free_line(
    ngx_payment_writer_t *w);
static ngx_uint_t ngx_payment_writer_may(ngx_payment_writer_t *w,
    ngx_payment_batch_kind_e kind);
static ngx_payment_batch_t *ngx_payment_writer_next(ngx_payment_writer_t *w);
static uint64_t ngx_payment_writer_oldest(ngx_queue_t *queue);
static ngx_payment_batch_t *ngx_payment_writer_form(ngx_payment_writer_t *w,
    ngx_queue_t *queue, ngx_payment_batch_kind_e kind);
static void ngx_payment_writer_run(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b, ngx_payment_line_t *line);
static void ngx_payment_writer_mark_underway(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b);

static void ngx_payment_writer_ended(ngx_payment_transaction_t *t,
    ngx_payment_batch_t *b, ngx_payment_transaction_end_e end);
static void ngx_payment_writer_finish(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b, uint64_t by);
static void ngx_payment_writer_finish_found(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b, uint64_t by);
static void ngx_payment_writer_again(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b, ngx_payment_db_error_e reason);
static void ngx_payment_writer_divide(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b, ngx_uint_t parts);
static void ngx_payment_writer_move(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b, ngx_payment_batch_state_e state);
static ngx_msec_int_t ngx_payment_writer_left(ngx_payment_batch_t *b);
static ngx_msec_t ngx_payment_writer_pause(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b);
static void ngx_payment_writer_batch_timer(ngx_event_t *ev);
static void ngx_payment_writer_give_up(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b, const char *detail);
static void ngx_payment_writer_discard(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b);

static void ngx_payment_writer_shed_ready(ngx_payment_writer_t *w);
static void ngx_payment_writer_shed_queue(ngx_payment_writer_t *w,
    ngx_queue_t *queue);
static void ngx_payment_writer_shed(ngx_payment_writer_t *w,
    ngx_payment_op_t *op, const char *detail);
static void ngx_payment_writer_set_timer(ngx_payment_writer_t *w);
static void ngx_payment_writer_timer(ngx_event_t *ev);


ngx_payment_writer_t *
ngx_payment_writer_create(ngx_cycle_t *cycle, ngx_payment_shard_t *shard,
    const ngx_payment_writer_conf_t *conf)
{
    ngx_uint_t             i;
    ngx_payment_writer_t  *w;

    w = ngx_pcalloc(cycle->pool, sizeof(ngx_payment_writer_t));
    if (w == NULL) {
        return NULL;
    }

    w->shard = shard;
    w->conf = conf;
    w->stats = &conf->stats->shards[shard->index];
    w->gauges = &conf->stats->gauges[ngx_process_slot % NGX_PAYMENT_PROCESSES]
                                    [shard->index];
    ngx_memzero(w->gauges, sizeof(ngx_payment_gauges_t));
    w->log = cycle->log;

    ngx_queue_init(&w->writes);
    ngx_queue_init(&w->repeats);
    ngx_queue_init(&w->reads);
    ngx_queue_init(&w->lists);
    ngx_queue_init(&w->blocked);
    ngx_queue_init(&w->waiting);
    ngx_queue_init(&w->ready);

    w->dispatch.handler = ngx_payment_writer_dispatch_handler;
    w->dispatch.data = w;
    w->dispatch.log = cycle->log;
    w->timer.handler = ngx_payment_writer_timer;
    w->timer.data = w;
    w->timer.log = cycle->log;
    w->blocked_timer.handler = ngx_payment_writer_blocked_timer;
    w->blocked_timer.data = w;
    w->blocked_timer.log = cycle->log;

    w->nlines = shard->connections;
    w->lines = ngx_pcalloc(cycle->pool,
                           w->nlines * sizeof(ngx_payment_line_t));
    if (w->lines == NULL
        || ngx_payment_leaders_init(&w->leaders, conf->queue_size, cycle->pool)
           != NGX_OK)
    {
        return NULL;
    }

    for (i = 0; i < w->nlines; i++) {
        if (ngx_payment_writer_open_line(w, &w->lines[i]) != NGX_OK) {
            return NULL;
        }
    }

    return w;
}


static ngx_int_t
ngx_payment_writer_open_line(ngx_payment_writer_t *w, ngx_payment_line_t *line)
{
    ngx_payment_transaction_t  *t;

    t = &line->transaction;

    line->writer = w;
    line->columns = ngx_payment_columns_create(w->conf->batch_size, w->shard,
                                               w->log);
    if (line->columns == NULL) {
        return NGX_ERROR;
    }

    t->shard = w->shard;
    t->stats = w->conf->stats;
    t->doorbell = w->conf->doorbell;
    t->proved = w->conf->proved;
    t->news = &w->conf->news;
    t->spans = w->conf->spans;
    t->log = w->log;
    t->db = &line->db;
    t->columns = line->columns;
    t->data = line;
    t->left = ngx_payment_writer_left_batch;
    t->ended = ngx_payment_writer_ended;

    line->db.shard = w->shard;
    line->db.log = w->log;
    line->db.data = t;
    line->db.stats = w->stats;
    line->db.gauges = w->gauges;
    line->db.ready = ngx_payment_writer_ready;
    line->db.down = ngx_payment_writer_down;
    line->db.session = ngx_payment_transaction_session;
    line->db.prepare = ngx_payment_columns_sql(w->shard);

    ngx_payment_db_open(&line->db);

    return NGX_OK;
}


void
ngx_payment_writer_close(ngx_payment_writer_t *w)
{
    ngx_uint_t  i;

    if (w->watch_timer.timer_set) {
        ngx_del_timer(&w->watch_timer);
    }

    for (i = 0; i < w->nlines; i++) {
        ngx_payment_db_close(&w->lines[i].db);
        ngx_payment_columns_destroy(w->lines[i].columns);
    }
}


/* looks of an idle connection */

void
ngx_payment_writer_watch(ngx_payment_writer_t *w)
{
    w->watch_timer.handler = ngx_payment_writer_watch_timer;
    w->watch_timer.data = w;
    w->watch_timer.log = w->log;
    w->watch_timer.cancelable = 1;

    ngx_add_timer(&w->watch_timer, NGX_PAYMENT_WATCH_INTERVAL);
}


/* Where no connection is idle, the transactions ask. */

static void
ngx_payment_writer_watch_timer(ngx_event_t *ev)
{
    ngx_payment_line_t    *line;
    ngx_payment_writer_t  *w;

    w = ev->data;

    if (ngx_exiting) {
        return;
    }

    ngx_add_timer(ev, NGX_PAYMENT_WATCH_INTERVAL);

    line = w->watching ? NULL : ngx_payment_writer_free_line(w);

    if (line == NULL) {
        return;
    }

    w->watching = 1;

    ngx_memzero(w->watch, sizeof(w->watch));
    w->watch[0].sql = *ngx_payment_topology_sql(w->shard->durability, 0);
    ngx_str_set(&w->watch[1].sql, "ROLLBACK");

    ngx_payment_db_exchange(&line->db, w->watch, 2, w->shard->read_timeout,
                            ngx_payment_writer_watch_done);
}


static void
ngx_payment_writer_watch_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_line_t         *line;
    ngx_payment_writer_t       *w;
    ngx_payment_transaction_t  *t;

    t = db->data;
    line = t->data;
    w = line->writer;

    w->watching = 0;

    if (!lost) {

        if (ngx_payment_db_error_of(w->watch, 2)) {
            /* the next connection says what is wrong */
            ngx_payment_db_reset(db);

        } else if (!ngx_payment_topology_fit(w->shard, w->watch[0].result)) {
            ngx_payment_db_leave(db);
        }
    }

    ngx_payment_writer_wake(w);
}


/* operations */

ngx_int_t
ngx_payment_writer_submit(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    ngx_int_t          rc;
    ngx_payment_op_t  *leader;

    leader = NULL;

    if (!payment_operation_reads(op->request.operation)) {
        leader = ngx_payment_leaders_find(&w->leaders, op->request.key_hash);
    }

    rc = ngx_payment_writer_admit(w, op, leader);

    if (rc != NGX_OK) {
        (void) ngx_atomic_fetch_add(&w->stats->shed, 1);
        return rc;
    }

    ngx_payment_writer_count(w, op);

    if (leader) {
        ngx_payment_op_follow(op, leader);

    } else if (payment_operation_reads(op->request.operation)) {
        ngx_payment_writer_enqueue(w, op->list ? &w->lists : &w->reads, op);

    } else {
        if (op->request.has_key) {
            ngx_payment_underway_add(w->conf->underway, op->request.key_hash);
        }

        ngx_payment_leaders_add(&w->leaders, op);
        ngx_payment_writer_lead(w, op);
    }

    return NGX_OK;
}


/* A likely repeat neither waits for a write nor makes one longer. */

static void
ngx_payment_writer_lead(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    ngx_uint_t  seen;

    seen = op->request.has_key
           && ngx_payment_seen_has(w->conf->seen, op->request.key_hash,
                                   &op->told);

    ngx_payment_writer_enqueue(w, seen ? &w->repeats : &w->writes, op);
}


static ngx_int_t
ngx_payment_writer_admit(ngx_payment_writer_t *w, ngx_payment_op_t *op,
    const ngx_payment_op_t *leader)
{
    if (w->down || w->shard->common->unvoted) {
        return NGX_DECLINED;
    }

    if (w->queued >= w->conf->queue_size
        || w->queued_bytes + op->bytes > w->conf->queue_bytes)
    {
        return NGX_BUSY;
    }

    if (leader && leader->followers * NGX_PAYMENT_FOLLOWERS_PART
                  >= w->conf->queue_size)
    {
        return NGX_BUSY;
    }

    return NGX_OK;
}


static void
ngx_payment_writer_enqueue(ngx_payment_writer_t *w, ngx_queue_t *queue,
    ngx_payment_op_t *op)
{
    op->state = NGX_PAYMENT_OP_QUEUED;
    op->queued_us = ngx_payment_now_us();

    ngx_queue_insert_tail(queue, &op->queue);
    ngx_payment_writer_wake(w);
}


/* An operation begins, or ends, to be queued or to follow another one. */

static void
ngx_payment_writer_count(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    w->queued++;
    w->queued_bytes += op->bytes;
    w->gauges->queued = w->queued;
}


static void
ngx_payment_writer_uncount(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    w->queued--;
    w->queued_bytes -= op->bytes;
    w->gauges->queued = w->queued;
}


/* Operations have left their batch and begin anew: at once those whose keys are
 * to be looked up again, and after a pause those that another transaction is in
 * the way of. */

static void
ngx_payment_writer_left_batch(ngx_payment_transaction_t *t, ngx_queue_t *ops)
{
    ngx_queue_t           *q;
    ngx_payment_op_t      *op;
    ngx_payment_line_t    *line;
    ngx_payment_writer_t  *w;

    line = t->data;
    w = line->writer;

    while (!ngx_queue_empty(ops)) {
        q = ngx_queue_head(ops);
        op = ngx_queue_data(q, ngx_payment_op_t, queue);
        ngx_queue_remove(q);

        if (op->standing == NGX_PAYMENT_OP_BLOCKED) {
            ngx_payment_writer_block(w, op);
            continue;
        }

        ngx_payment_writer_count(w, op);
        ngx_payment_writer_enqueue(w, &w->repeats, op);
    }
}


/* One whose time is over, or that has no room, is told, and the next with its
 * key takes its place. */

static void
ngx_payment_writer_block(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    ngx_payment_op_t  *next;

    if ((ngx_msec_int_t) (op->deadline - ngx_current_msec) > 0
        && ngx_payment_writer_stall(w, op) == NGX_OK)
    {
        ngx_payment_writer_count(w, op);
        next = op;

    } else {
        next = ngx_payment_writer_succeed(w, op);
        ngx_payment_op_fail(op, PAYMENT_UNAVAILABLE,
                            op->request.operation == PAYMENT_LOOKUP
                            ? "a request with the idempotency key is being done"
                            : "another transaction holds the payment");
        ngx_payment_writer_settle(w, op);
    }

    if (next == NULL) {
        return;
    }

    ngx_payment_writer_enqueue(w, &w->blocked, next);

    if (!w->blocked_timer.timer_set) {
        ngx_add_timer(&w->blocked_timer, w->conf->retry_max_interval);
    }
}


/* A payment that somebody holds, or a key that is under way for long, would
 * otherwise fill the queue with those who ask for it, and nobody could pay. */

static ngx_int_t
ngx_payment_writer_stall(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    if (op->stalled) {
        return NGX_OK;
    }

    if (w->stalled * NGX_PAYMENT_STALLED_PART >= w->conf->queue_size) {
        (void) ngx_atomic_fetch_add(&w->stats->shed, 1);
        return NGX_BUSY;
    }

    op->stalled = 1;
    w->stalled++;

    return NGX_OK;
}


static void
ngx_payment_writer_unstall(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    if (op->stalled) {
        op->stalled = 0;
        w->stalled--;
    }
}


/*
 * Blocked operations ask again together with all others, and are blocked again
 * where the lock is still held.  A lock that changes hands quickly would never
 * be found free that way.  So the operations on the first blocked payment wait
 * for its lock instead; they need a line of their own for that, and there must
 * be another one for everybody else.  Look-ups want no lock.
 */

static void
ngx_payment_writer_blocked_timer(ngx_event_t *ev)
{
    uint64_t               now;
    ngx_queue_t           *q;
    ngx_payment_op_t      *op, *first;
    ngx_payment_writer_t  *w;

    w = ev->data;
    now = ngx_payment_now_us();
    first = NULL;

    while (!ngx_queue_empty(&w->blocked)) {
        q = ngx_queue_head(&w->blocked);
        op = ngx_queue_data(q, ngx_payment_op_t, queue);

        ngx_queue_remove(q);
        op->queued_us = now;

        if (op->request.operation == PAYMENT_LOOKUP) {
            ngx_queue_insert_tail(&w->reads, q);
            continue;
        }

        if (first == NULL && w->nlines > 1 && w->waiter == NULL
            && ngx_queue_empty(&w->waiting))
        {
            first = op;
        }

        if (first
            && ngx_memcmp(op->request.payment_id, first->request.payment_id,
                          PAYMENT_ID_SIZE) == 0)
        {
            ngx_queue_insert_tail(&w->waiting, q);
        } else {
            ngx_queue_insert_tail(&w->writes, q);
        }
    }

    ngx_payment_writer_wake(w);
}


ngx_int_t
ngx_payment_writer_cancel(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    ngx_payment_op_t     *next;
    ngx_payment_batch_t  *b;

    if (ngx_payment_writer_begun(op)) {
        ngx_payment_op_detach(op);
        return NGX_AGAIN;
    }

    next = ngx_payment_writer_succeed(w, op);
    b = op->batch;

    if (b) {
        ngx_payment_batch_remove(b, op);

        if (b->n == 0) {
            ngx_payment_writer_move(w, b, NGX_PAYMENT_BATCH_ENDED);
            ngx_payment_writer_discard(w, b);
        }

    } else {

        if (op->leader) {
            ngx_payment_op_unfollow(op);
        } else {
            ngx_queue_remove(&op->queue);
        }

        ngx_payment_writer_uncount(w, op);
    }

    if (next) {
        ngx_payment_writer_lead(w, next);
    }

    ngx_payment_writer_unstall(w, op);
    ngx_payment_op_free(op);

    return NGX_OK;
}


/* May the operation have been carried out?  A copy may, if the one that leads
 * may; a rival waits for its turn. */

static ngx_uint_t
ngx_payment_writer_begun(ngx_payment_op_t *op)
{
    ngx_payment_batch_t  *b;

    if (op->state == NGX_PAYMENT_OP_COPY) {
        op = op->leader;
    }

    if (op->state != NGX_PAYMENT_OP_BATCHED) {
        return 0;
    }

    b = op->batch;

    /* none: it was taken out of its batch to be told, or to begin anew */

    return b == NULL || b->unknown
           || (b->state != NGX_PAYMENT_BATCH_READY
               && b->state != NGX_PAYMENT_BATCH_PAUSED);
}


/* An operation that leads has its outcome: its owner is told, and those that
 * follow it. */

static void
ngx_payment_writer_settle(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    ngx_payment_op_t  *follower;

    while ((follower = ngx_payment_op_shift(&op->copies)) != NULL) {

        if (op->outcome > PAYMENT_REPLAYED
            && op->request.forbidden != follower->request.forbidden)
        {
            /* the same request, by other rules: not refused with this one */
            follower->leader = op;
            op->followers++;
            ngx_queue_insert_tail(&op->rivals, &follower->queue);
            continue;
        }

        follower->payment = op->payment;
        follower->fault = op->fault;
        follower->outcome = (op->outcome == PAYMENT_OK) ? PAYMENT_REPLAYED
                                                        : op->outcome;
        ngx_payment_writer_settle_follower(w, follower, op);
    }

    if (op->outcome == PAYMENT_OK || op->outcome == PAYMENT_REPLAYED) {

        while ((follower = ngx_payment_op_shift(&op->rivals)) != NULL) {
            ngx_payment_op_fail(follower, PAYMENT_KEY_REUSED,
                                "the idempotency key was used before, "
                                "with another request");
            ngx_payment_writer_settle_follower(w, follower, op);
        }
    }

    /* the key is still free if somebody is left: now it is that one's turn */

    follower = ngx_payment_writer_succeed(w, op);

    if (follower) {
        ngx_payment_writer_lead(w, follower);
    }

    ngx_payment_writer_tell(w, op);
}


static void
ngx_payment_writer_settle_follower(ngx_payment_writer_t *w,
    ngx_payment_op_t *follower, ngx_payment_op_t *op)
{
    follower->batch_size = op->batch_size;

    ngx_payment_writer_uncount(w, follower);
    ngx_payment_writer_tell(w, follower);
}


/* by: what was told, and so is on disk, by ngx_payment_transaction_by(); 0: the
 * batch was given up. */

static void
ngx_payment_writer_remember(ngx_payment_writer_t *w,
    const ngx_payment_op_t *op, uint64_t by)
{
    ngx_uint_t  mark;

    if (!op->request.has_key
        || (op->outcome != PAYMENT_OK && op->standing != NGX_PAYMENT_OP_FOUND))
    {
        return;
    }

    if (by == 0) {
        mark = NGX_PAYMENT_SEEN_ONLY;

    } else if (op->standing == NGX_PAYMENT_OP_FOUND) {
        mark = op->found;

    } else {
        mark = ngx_payment_seen_mark(by, op->payment.id, op->payment.version);
    }

    ngx_payment_seen_add(w->conf->seen, op->request.key_hash, mark);
}


static void
ngx_payment_writer_tell(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    ngx_payment_writer_unstall(w, op);

    op->batch = NULL;
    op->state = NGX_PAYMENT_OP_SETTLED;
    op->settled_us = ngx_payment_now_us();

    if (op->settled) {
        op->settled(op);
    }

    ngx_payment_op_free(op);
}


/* An operation leads no more.  Returns the one that leads its followers now;
 * NULL: there are none. */

static ngx_payment_op_t *
ngx_payment_writer_succeed(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    ngx_payment_op_t  *next;

    if (!op->leads) {
        return NULL;
    }

    ngx_payment_leaders_remove(&w->leaders, op);
    next = ngx_payment_op_successor(op);

    if (next) {
        ngx_payment_leaders_add(&w->leaders, next);

    } else if (op->request.has_key) {
        ngx_payment_underway_remove(w->conf->underway, op->request.key_hash);
    }

    return next;
}


/* lines */

static void
ngx_payment_writer_ready(ngx_payment_db_t *db)
{
    ngx_payment_line_t         *line;
    ngx_payment_writer_t       *w;
    ngx_payment_transaction_t  *t;

    t = db->data;
    line = t->data;
    w = line->writer;

    if (ngx_payment_columns_bind(line->columns, db) != NGX_OK) {
        ngx_payment_db_reset(db);
        return;
    }

    w->down = 0;
    ngx_payment_writer_wake(w);
}


static void
ngx_payment_writer_down(ngx_payment_db_t *db)
{
    ngx_uint_t                  i;
    ngx_payment_line_t         *line;
    ngx_payment_writer_t       *w;
    ngx_payment_transaction_t  *t;

    t = db->data;
    line = t->data;
    w = line->writer;

    /* an idle connection at a server that is not the primary any more moves to
     * that one, too */

    for (i = 0; i < w->nlines; i++) {
        if (w->lines[i].db.state == NGX_PAYMENT_DB_IDLE
            && !ngx_payment_common_stands(w->shard, w->lines[i].db.choice))
        {
            ngx_payment_db_reset(&w->lines[i].db);
        }
    }

    /* there may be another server, or another connection that still works, and
     * one attempt may fail by accident */

    if (db->failures <= w->shard->servers.nelts) {
        return;
    }

    for (i = 0; i < w->nlines; i++) {
        if (w->lines[i].db.state == NGX_PAYMENT_DB_IDLE
            || w->lines[i].db.state == NGX_PAYMENT_DB_BUSY)
        {
            return;
        }
    }

    w->down = 1;
    ngx_payment_writer_wake(w);
}


/* Asks for a dispatch as soon as this round of events is over, so that what
 * arrives in one round goes into one batch. */

static void
ngx_payment_writer_wake(ngx_payment_writer_t *w)
{
    if (!w->dispatch.posted) {
        ngx_post_event(&w->dispatch, &ngx_posted_events);
    }
}


static void
ngx_payment_writer_dispatch_handler(ngx_event_t *ev)
{
    ngx_payment_writer_dispatch(ev->data);
}


/* Gives free lines what waits. */

static void
ngx_payment_writer_dispatch(ngx_payment_writer_t *w)
{
    ngx_payment_line_t   *line;
    ngx_payment_batch_t  *b;

    /* a batch that is run here may end at once, and its end dispatches, too */

    if (w->dispatching) {
        return;
    }

    w->dispatching = 1;

    if (w->down || w->shard->common->unvoted) {
        ngx_payment_writer_shed_ready(w);
        ngx_payment_writer_shed_queue(w, &w->writes);
        ngx_payment_writer_shed_queue(w, &w->repeats);
        ngx_payment_writer_shed_queue(w, &w->reads);
        ngx_payment_writer_shed_queue(w, &w->lists);
        ngx_payment_writer_shed_queue(w, &w->blocked);
        ngx_payment_writer_shed_queue(w, &w->waiting);
    }

    while ((line = ngx_payment_writer_free_line(w)) != NULL
           && (b = ngx_payment_writer_next(w)) != NULL)
    {
        ngx_payment_writer_run(w, b, line);
    }

    w->dispatching = 0;

    ngx_payment_writer_set_timer(w);
}


static ngx_payment_line_t *
ngx_payment_writer_free_line(ngx_payment_writer_t *w)
{
    ngx_uint_t           i;
    ngx_payment_line_t  *line;

    for (i = 0; i < w->nlines; i++) {
        line = &w->lines[i];

        if (line->transaction.batch || line->db.state != NGX_PAYMENT_DB_IDLE) {
            continue;
        }

        /* a connection that is never idle for long has its age looked at here,
         * and not by its own timer */

        if (ngx_payment_db_fit(&line->db)) {
            return line;
        }

        ngx_payment_db_reset(&line->db);
    }

    return NULL;
}


/* What a free line is to run; NULL: nothing, or there is no memory. */

static ngx_payment_batch_t *
ngx_payment_writer_next(ngx_payment_writer_t *w)
{
    uint64_t      writes, repeats, reads, lists;
    ngx_queue_t  *q;

    if (!ngx_queue_empty(&w->ready)) {
        q = ngx_queue_head(&w->ready);
        return ngx_queue_data(q, ngx_payment_batch_t, queue);
    }

    if (w->batches >= w->nlines * NGX_PAYMENT_BATCHES_PER_LINE) {
        return NULL;
    }

    /* the queue whose first operation has waited longest, so that none of them
     * starves where there is one line for all */

    writes = ngx_payment_writer_may(w, NGX_PAYMENT_BATCH_WRITES)
             ? ngx_payment_writer_oldest(&w->writes) : NGX_PAYMENT_NEVER;
    repeats = ngx_payment_writer_may(w, NGX_PAYMENT_BATCH_REPEATS)
              ? ngx_payment_writer_oldest(&w->repeats) : NGX_PAYMENT_NEVER;
    reads = ngx_payment_writer_oldest(&w->reads);
    lists = w->lister ? NGX_PAYMENT_NEVER
                      : ngx_payment_writer_oldest(&w->lists);

    if (writes != NGX_PAYMENT_NEVER
        && writes <= ngx_min(repeats, ngx_min(reads, lists)))
    {
        w->repeating = 1;
        return ngx_payment_writer_form(w, &w->writes, NGX_PAYMENT_BATCH_WRITES);
    }

    if (repeats != NGX_PAYMENT_NEVER && repeats <= ngx_min(reads, lists)) {
        w->repeating = 0;
        return ngx_payment_writer_form(w, &w->repeats,
                                       NGX_PAYMENT_BATCH_REPEATS);
    }

    if (lists < reads) {
        w->lister = ngx_payment_writer_form(w, &w->lists,
                                            NGX_PAYMENT_BATCH_LISTS);
        return w->lister;
    }

    if (reads != NGX_PAYMENT_NEVER) {
        return ngx_payment_writer_form(w, &w->reads, NGX_PAYMENT_BATCH_READS);
    }

    if (!ngx_queue_empty(&w->waiting) && w->waiter == NULL) {
        w->waiter = ngx_payment_writer_form(w, &w->waiting,
                                            NGX_PAYMENT_BATCH_WAITER);
        return w->waiter;
    }

    return NULL;
}


/* Since when the first operation of a queue waits. */

static uint64_t
ngx_payment_writer_oldest(ngx_queue_t *queue)
{
    ngx_queue_t       *q;
    ngx_payment_op_t  *op;

    if (ngx_queue_empty(queue)) {
        return NGX_PAYMENT_NEVER;
    }

    q = ngx_queue_head(queue);
    op = ngx_queue_data(q, ngx_payment_op_t, queue);

    return op->queued_us;
}


/* One line writes, and one repeats; a second one only when all that do are
 * late.  Beside writes that are not late, repeats go out once for each batch of
 * them: a look at one key costs the server more than a payment. */

static ngx_uint_t
ngx_payment_writer_may(ngx_payment_writer_t *w, ngx_payment_batch_kind_e kind)
{
    ngx_uint_t            i;
    ngx_payment_line_t   *line;
    ngx_payment_batch_t  *b;

    for (i = 0; i < w->nlines; i++) {
        line = &w->lines[i];
        b = line->transaction.batch;

        if (b && b->kind == kind
            && ngx_current_msec - line->since < w->conf->spare_delay)
        {
            return 0;
        }
    }

    return kind != NGX_PAYMENT_BATCH_REPEATS || w->repeating
           || ngx_payment_writer_may(w, NGX_PAYMENT_BATCH_WRITES);
}


static ngx_payment_batch_t *
ngx_payment_writer_form(ngx_payment_writer_t *w, ngx_queue_t *queue,
    ngx_payment_batch_kind_e kind)
{
    size_t                bytes;
    ngx_uint_t            rows;
    ngx_queue_t          *q;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    rows = w->conf->batch_size;

    if (kind == NGX_PAYMENT_BATCH_LISTS) {
        rows = ngx_min(rows, NGX_PAYMENT_LIST_PAGES);
    }

    b = ngx_payment_batch_create(rows, w->log);
    if (b == NULL) {
        return NULL;
    }

    w->batches++;
    b->kind = kind;
    b->timer.handler = ngx_payment_writer_batch_timer;
    b->data = w;
    bytes = 0;

    while (!ngx_queue_empty(queue) && b->n < rows) {

        q = ngx_queue_head(queue);
        op = ngx_queue_data(q, ngx_payment_op_t, queue);

        bytes += op->bytes + op->answer_bytes;

        if (b->n && bytes > w->conf->batch_bytes) {
            break;
        }

        /* those that wait for the disk are by themselves */

        if (b->n && kind == NGX_PAYMENT_BATCH_REPEATS
            && (op->told == NGX_PAYMENT_SEEN_ONLY)
               != (b->ops[0]->told == NGX_PAYMENT_SEEN_ONLY))
        {
            break;
        }

        ngx_queue_remove(q);
        ngx_payment_writer_uncount(w, op);
        ngx_payment_batch_add(b, op);
    }

    return b;
}


static void
ngx_payment_writer_run(ngx_payment_writer_t *w, ngx_payment_batch_t *b,
    ngx_payment_line_t *line)
{
    ngx_payment_writer_move(w, b, NGX_PAYMENT_BATCH_RUNNING);

    line->since = ngx_current_msec;
    w->gauges->busy++;

    if (b->lookups) {
        ngx_payment_writer_mark_underway(w, b);
    }

    ngx_payment_transaction_run(&line->transaction, b);
}


/* Before the database is asked: whatever ends between the two is there. */

static void
ngx_payment_writer_mark_underway(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b)
{
    ngx_uint_t         i;
    ngx_payment_op_t  *op;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation == PAYMENT_LOOKUP) {
            op->underway = ngx_payment_underway_has(w->conf->underway,
                                                    w->conf->stats,
                                                    op->request.key_hash);
        }
    }
}


/* batches */

/* A batch comes back from its line, which is free then. */

static void
ngx_payment_writer_ended(ngx_payment_transaction_t *t,
    ngx_payment_batch_t *b, ngx_payment_transaction_end_e end)
{
    uint64_t               by;
    ngx_payment_line_t    *line;
    ngx_payment_writer_t  *w;

    line = t->data;
    w = line->writer;

    w->gauges->busy--;
    ngx_payment_writer_wake(w);

    by = ngx_payment_transaction_by(t);

    switch (end) {

    case NGX_PAYMENT_TRANSACTION_DONE:
        ngx_payment_writer_finish(w, b, by);
        return;

    case NGX_PAYMENT_TRANSACTION_REST:
        ngx_payment_writer_finish_found(w, b, by);
        return;

    case NGX_PAYMENT_TRANSACTION_AGAIN:
        ngx_payment_writer_again(w, b, t->reason);
        return;

    case NGX_PAYMENT_TRANSACTION_DIVIDE:
        ngx_payment_writer_divide(w, b, t->parts);
        return;

    case NGX_PAYMENT_TRANSACTION_REFUSED:
        ngx_payment_writer_give_up(w, b, "the database refused the payment");
        return;
    }
}


/* All operations of a batch have their outcomes and are told. */

static void
ngx_payment_writer_finish(ngx_payment_writer_t *w, ngx_payment_batch_t *b,
    uint64_t by)
{
    ngx_uint_t  i;

    ngx_payment_writer_move(w, b, NGX_PAYMENT_BATCH_ENDED);

    /* the database works on the next batch while this one is answered */
    ngx_payment_writer_dispatch(w);

    for (i = 0; i < b->n; i++) {
        b->ops[i]->batch_size = b->n;
        ngx_payment_writer_remember(w, b->ops[i], by);
        ngx_payment_writer_settle(w, b->ops[i]);
    }

    ngx_payment_writer_discard(w, b);
}


/* Operations whose keys were found are told; the others run again at once. */

static void
ngx_payment_writer_finish_found(ngx_payment_writer_t *w,
    ngx_payment_batch_t *b, uint64_t by)
{
    ngx_uint_t         n;
    ngx_queue_t        found, *q;
    ngx_payment_op_t  *op;

    n = b->n;

    ngx_queue_init(&found);
    ngx_payment_batch_take(b, NGX_PAYMENT_OP_FOUND, &found);

    if (b->n) {

        if (b->kind == NGX_PAYMENT_BATCH_REPEATS) {
            /* they are none */
            b->kind = NGX_PAYMENT_BATCH_WRITES;
        }

        ngx_payment_writer_move(w, b, NGX_PAYMENT_BATCH_READY);

    } else {
        ngx_payment_writer_move(w, b, NGX_PAYMENT_BATCH_ENDED);
        ngx_payment_writer_discard(w, b);
    }

    ngx_payment_writer_dispatch(w);

    while (!ngx_queue_empty(&found)) {
        q = ngx_queue_head(&found);
        op = ngx_queue_data(q, ngx_payment_op_t, queue);

        ngx_queue_remove(q);
        op->batch_size = n;
        ngx_payment_writer_remember(w, op, by);
        ngx_payment_writer_settle(w, op);
    }
}


/* A batch runs again after a pause, unless it has had its tries or its time. */

static void
ngx_payment_writer_again(ngx_payment_writer_t *w, ngx_payment_batch_t *b,
    ngx_payment_db_error_e reason)
{
    b->tries++;

    if (!b->unknown && b->tries > w->conf->retries) {

        /* One operation may be to blame for an error, also for a connection
         * that is lost each time, and none for what the server lacks. */

        if (b->n > 1 && !ngx_payment_batch_reads(b)
            && reason != NGX_PAYMENT_DB_UNFIT)
        {
            ngx_payment_writer_divide(w, b, 2);
            return;
        }

        ngx_payment_writer_give_up(w, b,
                                   "the database could not take the payment");
        return;
    }

    if (ngx_payment_writer_left(b) <= 0) {
        ngx_payment_writer_give_up(w, b,
                                   "the database did not answer in time");
        return;
    }

    (void) ngx_atomic_fetch_add(&w->stats->retries, 1);

    ngx_payment_writer_move(w, b, NGX_PAYMENT_BATCH_PAUSED);
}


/* Makes smaller batches of one, each with one more try: the operation to blame
 * ends up alone. */

static void
ngx_payment_writer_divide(ngx_payment_writer_t *w, ngx_payment_batch_t *b,
    ngx_uint_t parts)
{
    ngx_payment_batch_t  *part;

    (void) ngx_atomic_fetch_add(&w->stats->splits, 1);

    b->tries = w->conf->retries ? w->conf->retries - 1 : 0;

    for ( /* void */ ; parts > 1 && b->n > 1; parts--) {

        part = ngx_payment_batch_split(b, (b->n + parts - 1) / parts);
        if (part == NULL) {
            break;
        }

        w->batches++;
        ngx_payment_writer_move(w, part, NGX_PAYMENT_BATCH_READY);
    }

    ngx_payment_writer_move(w, b, NGX_PAYMENT_BATCH_READY);
}


/*
 * The states of a batch: the only function that changes them.  A READY batch is
 * in the queue, but no longer than somebody waits for the batch.
 */

static void
ngx_payment_writer_move(ngx_payment_writer_t *w, ngx_payment_batch_t *b,
    ngx_payment_batch_state_e state)
{
    ngx_msec_int_t  left;

    ngx_payment_assert(b->state != NGX_PAYMENT_BATCH_ENDED);

    if (b->state == NGX_PAYMENT_BATCH_READY) {
        ngx_queue_remove(&b->queue);
    }

    if (b->timer.timer_set) {
        ngx_del_timer(&b->timer);
    }

    b->state = state;

    switch (state) {

    case NGX_PAYMENT_BATCH_READY:
        left = ngx_payment_writer_left(b);
        ngx_add_timer(&b->timer, (ngx_msec_t) ngx_max(left, 1));
        ngx_queue_insert_tail(&w->ready, &b->queue);
        ngx_payment_writer_wake(w);
        return;

    case NGX_PAYMENT_BATCH_PAUSED:
        ngx_add_timer(&b->timer, ngx_payment_writer_pause(w, b));
        return;

    default: /* RUNNING, ENDED */
        return;
    }
}


/* Milliseconds until nobody waits for the batch any more. */

static ngx_msec_int_t
ngx_payment_writer_left(ngx_payment_batch_t *b)
{
    return (ngx_msec_int_t) (ngx_payment_batch_deadline(b) - ngx_current_msec);
}


/* Milliseconds before the next try: doubled with each, and jittered. */

static ngx_msec_t
ngx_payment_writer_pause(ngx_payment_writer_t *w, ngx_payment_batch_t *b)
{
    ngx_msec_t  delay;

    delay = w->conf->retry_interval << ngx_min(b->tries - 1, 10);
    delay = ngx_min(delay, w->conf->retry_max_interval);

    return delay / 2 + (ngx_msec_t) ngx_random() % (delay / 2 + 1);
}


static void
ngx_payment_writer_batch_timer(ngx_event_t *ev)
{
    ngx_payment_batch_t   *b;
    ngx_payment_writer_t  *w;

    b = ev->data;
    w = b->data;

    if (b->state == NGX_PAYMENT_BATCH_PAUSED) {
        ngx_payment_writer_move(w, b, NGX_PAYMENT_BATCH_READY);
        return;
    }

    ngx_payment_writer_give_up(w, b,
                               "the database could not be reached in time");
}


/* A batch is not tried any more.  Where COMMIT was sent, that is all that can
 * be said; else nothing has happened. */

static void
ngx_payment_writer_give_up(ngx_payment_writer_t *w, ngx_payment_batch_t *b,
    const char *detail)
{
    ngx_uint_t         i;
    payment_outcome_e  outcome;

    outcome = b->unknown ? PAYMENT_OUTCOME_UNKNOWN : PAYMENT_UNAVAILABLE;

    for (i = 0; i < b->n; i++) {
        ngx_payment_op_fail(b->ops[i], outcome, detail);
    }

    if (b->unknown) {
        (void) ngx_atomic_fetch_add(&w->stats->unknown,
                                    (ngx_atomic_int_t) b->n);
    }

    ngx_payment_writer_finish(w, b, 0);
}


static void
ngx_payment_writer_discard(ngx_payment_writer_t *w, ngx_payment_batch_t *b)
{
    if (w->waiter == b) {
        w->waiter = NULL;
    }

    if (w->lister == b) {
        w->lister = NULL;
    }

    w->batches--;
    ngx_payment_batch_destroy(b);
}


/* shedding */

static void
ngx_payment_writer_shed_ready(ngx_payment_writer_t *w)
{
    ngx_queue_t          *q, *next;
    ngx_payment_batch_t  *b;

    for (q = ngx_queue_head(&w->ready);
         q != ngx_queue_sentinel(&w->ready);
         q = next)
    {
        next = ngx_queue_next(q);
        b = ngx_queue_data(q, ngx_payment_batch_t, queue);

        /* an unknown outcome is still to be found out */

        if (!b->unknown) {
            ngx_payment_writer_give_up(w, b, "the database is away");
        }
    }
}


static void
ngx_payment_writer_shed_queue(ngx_payment_writer_t *w, ngx_queue_t *queue)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(queue)) {
        q = ngx_queue_head(queue);
        ngx_payment_writer_shed(w, ngx_queue_data(q, ngx_payment_op_t, queue),
                                "the database is away");
    }
}


static void
ngx_payment_writer_shed(ngx_payment_writer_t *w, ngx_payment_op_t *op,
    const char *detail)
{
    (void) ngx_atomic_fetch_add(&w->stats->shed, 1);

    ngx_queue_remove(&op->queue);
    ngx_payment_writer_uncount(w, op);
    ngx_payment_op_fail(op, PAYMENT_UNAVAILABLE, detail);
    ngx_payment_writer_settle(w, op);
}


/* While operations wait, the writer looks again when the busy line becomes
 * late, and when the oldest operation has waited too long. */

static void
ngx_payment_writer_set_timer(ngx_payment_writer_t *w)
{
    ngx_msec_t  delay;

    if (ngx_queue_empty(&w->writes) && ngx_queue_empty(&w->repeats)
        && ngx_queue_empty(&w->reads) && ngx_queue_empty(&w->lists))
    {
        if (w->timer.timer_set) {
            ngx_del_timer(&w->timer);
        }

        return;
    }

    if (w->timer.timer_set) {
        return;
    }

    delay = ngx_min(w->conf->spare_delay, w->conf->queue_timeout);
    ngx_add_timer(&w->timer, ngx_max(delay, 1));
}


static void
ngx_payment_writer_timer(ngx_event_t *ev)
{
    uint64_t               now, limit;
    ngx_uint_t             i;
    ngx_queue_t           *q, *queues[4];
    ngx_payment_op_t      *op;
    ngx_payment_writer_t  *w;

    w = ev->data;
    now = ngx_payment_now_us();
    limit = (uint64_t) w->conf->queue_timeout * 1000;

    queues[0] = &w->writes;
    queues[1] = &w->repeats;
    queues[2] = &w->reads;
    queues[3] = &w->lists;

    for (i = 0; i < 4; i++) {
        while (!ngx_queue_empty(queues[i])) {
            q = ngx_queue_head(queues[i]);
            op = ngx_queue_data(q, ngx_payment_op_t, queue);

            /* one may have come after now, when the one before it left */

            if (now < op->queued_us + limit) {
                break;
            }

            ngx_payment_writer_shed(w, op, "waited too long for the database");
        }
    }

    ngx_payment_writer_dispatch(w);
}
