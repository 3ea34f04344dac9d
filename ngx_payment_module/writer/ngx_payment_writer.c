/* Queue, lines and dispatch of one shard: see ngx_payment_writer.h. */

#include "ngx_payment_writer.h"
#include "ngx_payment_batch.h"


/* Batches alive at once, for each line: beyond, the queue fills and sheds. */
#define NGX_PAYMENT_BATCHES_PER_LINE  8


static void ngx_payment_writer_enqueue(ngx_payment_writer_t *w,
    ngx_queue_t *queue, ngx_payment_op_t *op);
static void ngx_payment_writer_hold_timer(ngx_event_t *ev);
static void ngx_payment_writer_ready(ngx_payment_db_t *db);
static void ngx_payment_writer_down(ngx_payment_db_t *db);
static void ngx_payment_writer_dispatch_handler(ngx_event_t *ev);
static ngx_payment_line_t *ngx_payment_writer_free_line(
    ngx_payment_writer_t *w);
static ngx_uint_t ngx_payment_writer_may_write(ngx_payment_writer_t *w);
static void ngx_payment_writer_shed_ready(ngx_payment_writer_t *w);
static void ngx_payment_writer_shed_queue(ngx_payment_writer_t *w,
    ngx_queue_t *queue);
static void ngx_payment_writer_set_timer(ngx_payment_writer_t *w);
static void ngx_payment_writer_timer(ngx_event_t *ev);


ngx_payment_writer_t *
ngx_payment_writer_create(ngx_cycle_t *cycle, ngx_payment_shard_t *shard,
    const ngx_payment_writer_conf_t *conf)
{
    ngx_uint_t             i;
    ngx_payment_line_t    *line;
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
    ngx_queue_init(&w->reads);
    ngx_queue_init(&w->held);
    ngx_queue_init(&w->waiting);
    ngx_queue_init(&w->ready);

    w->dispatch.handler = ngx_payment_writer_dispatch_handler;
    w->dispatch.data = w;
    w->dispatch.log = cycle->log;
    w->timer.handler = ngx_payment_writer_timer;
    w->timer.data = w;
    w->timer.log = cycle->log;
    w->hold_timer.handler = ngx_payment_writer_hold_timer;
    w->hold_timer.data = w;
    w->hold_timer.log = cycle->log;

    w->nlines = shard->connections;
    w->lines = ngx_pcalloc(cycle->pool,
                           w->nlines * sizeof(ngx_payment_line_t));
    if (w->lines == NULL) {
        return NULL;
    }

    for (i = 0; i < w->nlines; i++) {
        line = &w->lines[i];
        line->writer = w;
        line->columns = ngx_payment_columns_create(conf->batch_size,
                                                   cycle->log);
        if (line->columns == NULL) {
            return NULL;
        }

        line->db.shard = shard;
        line->db.log = cycle->log;
        line->db.data = line;
        line->db.stats = w->stats;
        line->db.gauges = w->gauges;
        line->db.ready = ngx_payment_writer_ready;
        line->db.down = ngx_payment_writer_down;
        line->db.session = ngx_payment_batch_session;
        line->db.prepare = ngx_payment_columns_sql;

        ngx_payment_db_open(&line->db);
    }

    return w;
}


void
ngx_payment_writer_close(ngx_payment_writer_t *w)
{
    ngx_uint_t  i;

    for (i = 0; i < w->nlines; i++) {
        ngx_payment_db_close(&w->lines[i].db);
        ngx_payment_columns_destroy(w->lines[i].columns);
    }
}


ngx_int_t
ngx_payment_writer_submit(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    if (w->down) {
        (void) ngx_atomic_fetch_add(&w->stats->shed, 1);
        return NGX_DECLINED;
    }

    if (w->queued >= w->conf->queue_size
        || w->queued_bytes + op->bytes > w->conf->queue_bytes)
    {
        (void) ngx_atomic_fetch_add(&w->stats->shed, 1);
        return NGX_BUSY;
    }

    ngx_payment_writer_enqueue(w, op->request.operation == PAYMENT_GET
                                  ? &w->reads : &w->writes, op);
    ngx_payment_writer_wake(w);

    return NGX_OK;
}


static void
ngx_payment_writer_enqueue(ngx_payment_writer_t *w, ngx_queue_t *queue,
    ngx_payment_op_t *op)
{
    op->state = NGX_PAYMENT_OP_QUEUED;
    op->batch = NULL;
    op->queued_us = ngx_payment_now_us();

    ngx_queue_insert_tail(queue, &op->queue);
    w->queued++;
    w->queued_bytes += op->bytes;
    w->gauges->queued = w->queued;
}


void
ngx_payment_writer_hold(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    ngx_payment_op_t  *follower;

    while ((follower = op->followers) != NULL) {
        op->followers = follower->followers;
        follower->followers = NULL;
        follower->follows = 0;
        ngx_payment_writer_hold(w, follower);
    }

    if ((ngx_msec_int_t) (op->deadline - ngx_current_msec) <= 0) {
        op->fault.outcome = PAYMENT_UNAVAILABLE;
        (void) ngx_cpystrn((u_char *) op->fault.detail, (u_char *)
                           "another transaction holds the payment",
                           sizeof(op->fault.detail));
        ngx_payment_writer_settle(w, op, PAYMENT_UNAVAILABLE);
        return;
    }

    ngx_payment_writer_enqueue(w, &w->held, op);

    if (!w->hold_timer.timer_set) {
        ngx_add_timer(&w->hold_timer, w->conf->retry_max_interval);
    }
}


/*
 * Those who were held ask again with all others, and are held again where the
 * lock is not free.  A lock that changes hands quickly would never be found
 * free, so those of the first payment stand in line for it: on a connection,
 * which is why it must not be the only one.
 */

static void
ngx_payment_writer_hold_timer(ngx_event_t *ev)
{
    uint64_t               now;
    ngx_queue_t           *q;
    ngx_payment_op_t      *op, *first;
    ngx_payment_writer_t  *w;

    w = ev->data;
    now = ngx_payment_now_us();
    first = NULL;

    while (!ngx_queue_empty(&w->held)) {
        q = ngx_queue_head(&w->held);
        op = ngx_queue_data(q, ngx_payment_op_t, queue);

        if (first == NULL && w->nlines > 1 && w->waiter == NULL
            && ngx_queue_empty(&w->waiting))
        {
            first = op;
        }

        ngx_queue_remove(q);
        op->queued_us = now;

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


void
ngx_payment_op_detach(ngx_payment_op_t *op)
{
    op->data = NULL;
    op->settled = NULL;
}


ngx_int_t
ngx_payment_writer_cancel(ngx_payment_writer_t *w, ngx_payment_op_t *op)
{
    if (op->state == NGX_PAYMENT_OP_QUEUED) {
        ngx_queue_remove(&op->queue);
        w->queued--;
        w->queued_bytes -= op->bytes;
        w->gauges->queued = w->queued;

    } else if (ngx_payment_batch_remove(op->batch, op) != NGX_OK) {
        ngx_payment_op_detach(op);
        return NGX_AGAIN;
    }

    ngx_payment_op_free(op);

    return NGX_OK;
}


void
ngx_payment_writer_settle(ngx_payment_writer_t *w, ngx_payment_op_t *op,
    payment_outcome_e outcome)
{
    ngx_uint_t         same;
    ngx_payment_op_t  *follower, *next;

    for (follower = op->followers; follower; follower = next) {
        next = follower->followers;

        follower->followers = NULL;
        follower->follows = 0;
        follower->batch_size = op->batch_size;

        same = ngx_memcmp(follower->request.fingerprint,
                          op->request.fingerprint, PAYMENT_FINGERPRINT_SIZE)
               == 0;

        if (same) {
            follower->payment = op->payment;
            follower->fault = op->fault;
            ngx_payment_writer_settle(w, follower,
                                      outcome == PAYMENT_OK ? PAYMENT_REPLAYED
                                                            : outcome);
            continue;
        }

        if (outcome == PAYMENT_OK || outcome == PAYMENT_REPLAYED) {
            follower->fault.outcome = PAYMENT_KEY_REUSED;
            (void) ngx_cpystrn((u_char *) follower->fault.detail, (u_char *)
                               "the idempotency key was used before, "
                               "with another request",
                               sizeof(follower->fault.detail));
            ngx_payment_writer_settle(w, follower, PAYMENT_KEY_REUSED);
            continue;
        }

        /* the key is still free: now it is this one's turn */

        ngx_payment_writer_enqueue(w, &w->writes, follower);
        ngx_payment_writer_wake(w);
    }

    op->followers = NULL;
    op->outcome = outcome;
    op->state = NGX_PAYMENT_OP_SETTLED;
    op->settled_us = ngx_payment_now_us();

    if (op->settled) {
        op->settled(op);
    }

    ngx_payment_op_free(op);
}


void
ngx_payment_writer_wake(ngx_payment_writer_t *w)
{
    /*
     * Posted, not called: what arrives in one round of events goes into one
     * batch.
     */

    if (!w->dispatch.posted) {
        ngx_post_event(&w->dispatch, &ngx_posted_events);
    }
}


static void
ngx_payment_writer_ready(ngx_payment_db_t *db)
{
    ngx_payment_line_t    *line;
    ngx_payment_writer_t  *w;

    line = db->data;
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
    ngx_uint_t             i;
    ngx_payment_line_t    *line;
    ngx_payment_writer_t  *w;

    line = db->data;
    w = line->writer;

    /* who rests at a server that is not the active one any more moves, too */

    for (i = 0; i < w->nlines; i++) {
        if (w->lines[i].db.state == NGX_PAYMENT_DB_IDLE
            && w->lines[i].db.server != w->shard->active)
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


static void
ngx_payment_writer_dispatch_handler(ngx_event_t *ev)
{
    ngx_payment_writer_dispatch(ev->data);
}


void
ngx_payment_writer_dispatch(ngx_payment_writer_t *w)
{
    ngx_queue_t           *q;
    ngx_payment_line_t    *line;
    ngx_payment_batch_t   *b;

    /* a batch that ends in here would begin all over */

    if (w->dispatching) {
        return;
    }

    w->dispatching = 1;

    if (w->down) {
        ngx_payment_writer_shed_ready(w);
        ngx_payment_writer_shed_queue(w, &w->writes);
        ngx_payment_writer_shed_queue(w, &w->reads);
        ngx_payment_writer_shed_queue(w, &w->held);
        ngx_payment_writer_shed_queue(w, &w->waiting);
    }

    for ( ;; ) {
        line = ngx_payment_writer_free_line(w);
        if (line == NULL) {
            break;
        }

        if (!ngx_queue_empty(&w->ready)) {
            q = ngx_queue_head(&w->ready);
            ngx_queue_remove(q);
            b = ngx_queue_data(q, ngx_payment_batch_t, queue);

        } else if (w->batches >= w->nlines * NGX_PAYMENT_BATCHES_PER_LINE) {
            break;

        } else if (!ngx_queue_empty(&w->writes)
                   && ngx_payment_writer_may_write(w))
        {
            b = ngx_payment_batch_create(w, &w->writes, 0);

        } else if (!ngx_queue_empty(&w->reads)) {
            b = ngx_payment_batch_create(w, &w->reads, 1);

        } else if (!ngx_queue_empty(&w->waiting) && w->waiter == NULL) {
            b = ngx_payment_batch_create(w, &w->waiting, 0);

            if (b) {
                b->waits = 1;
                w->waiter = b;
            }

        } else {
            break;
        }

        if (b == NULL) {
            break;
        }

        ngx_payment_batch_run(b, line);
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

        if (line->batch || line->db.state != NGX_PAYMENT_DB_IDLE) {
            continue;
        }

        /* one that never rests is asked here */

        if (ngx_payment_db_fit(&line->db)) {
            return line;
        }

        ngx_payment_db_reset(&line->db);
    }

    return NULL;
}


/* One line writes; a second one only when all that do are late. */

static ngx_uint_t
ngx_payment_writer_may_write(ngx_payment_writer_t *w)
{
    ngx_uint_t           i;
    ngx_payment_line_t  *line;

    for (i = 0; i < w->nlines; i++) {
        line = &w->lines[i];

        if (line->batch && !line->batch->get && !line->batch->waits
            && ngx_current_msec - line->since < w->conf->spare_delay)
        {
            return 0;
        }
    }

    return 1;
}


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
            ngx_payment_batch_abandon(b);
        }
    }
}


static void
ngx_payment_writer_shed(ngx_payment_writer_t *w, ngx_payment_op_t *op,
    const char *detail)
{
    ngx_queue_remove(&op->queue);
    w->queued--;
    w->queued_bytes -= op->bytes;

    w->gauges->queued = w->queued;
    (void) ngx_atomic_fetch_add(&w->stats->shed, 1);

    op->fault.outcome = PAYMENT_UNAVAILABLE;
    (void) ngx_cpystrn((u_char *) op->fault.detail, (u_char *) detail,
                       sizeof(op->fault.detail));

    ngx_payment_writer_settle(w, op, PAYMENT_UNAVAILABLE);
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


/*
 * While something waits: looks again when the busy line becomes late, and when
 * the oldest has waited too long.
 */

static void
ngx_payment_writer_set_timer(ngx_payment_writer_t *w)
{
    ngx_msec_t  delay;

    if (ngx_queue_empty(&w->writes) && ngx_queue_empty(&w->reads)) {
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
    ngx_queue_t           *q, *queues[2];
    ngx_payment_op_t      *op;
    ngx_payment_writer_t  *w;

    w = ev->data;
    now = ngx_payment_now_us();
    limit = (uint64_t) w->conf->queue_timeout * 1000;

    queues[0] = &w->writes;
    queues[1] = &w->reads;

    for (i = 0; i < 2; i++) {
        while (!ngx_queue_empty(queues[i])) {
            q = ngx_queue_head(queues[i]);
            op = ngx_queue_data(q, ngx_payment_op_t, queue);

            if (now - op->queued_us < limit) {
                break;
            }

            ngx_payment_writer_shed(w, op, "waited too long for the database");
        }
    }

    ngx_payment_writer_dispatch(w);
}
