/*
 * The life of a batch: formed from what waits, run on a line, tried again,
 * divided, and in the end settled.  What it says to the database meanwhile is
 * in ngx_payment_transaction.c.
 *
 *     READY -> (on a line) -> settled
 *                 |    ^
 *                 v    |
 *               WAIT -> READY
 *
 * A batch that the database rolled back waits and runs again; in the end it is
 * halved until the guilty request stands alone.  One whose outcome is unknown
 * is never given up before its operations' time is.
 */

#include "ngx_payment_batch_private.h"


static ngx_payment_batch_t *ngx_payment_batch_alloc(
    ngx_payment_writer_t *writer, ngx_uint_t n);
static void ngx_payment_batch_follow(ngx_payment_batch_t *b);
static ngx_msec_t ngx_payment_batch_deadline(ngx_payment_batch_t *b);
static void ngx_payment_batch_timer(ngx_event_t *ev);


ngx_payment_batch_t *
ngx_payment_batch_create(ngx_payment_writer_t *writer, ngx_queue_t *queue,
    ngx_uint_t get)
{
    size_t                bytes;
    ngx_queue_t          *q;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = ngx_payment_batch_alloc(writer, writer->conf->batch_size);
    if (b == NULL) {
        return NULL;
    }

    b->get = get ? 1 : 0;
    bytes = 0;

    while (!ngx_queue_empty(queue) && b->n < writer->conf->batch_size) {

        q = ngx_queue_head(queue);
        op = ngx_queue_data(q, ngx_payment_op_t, queue);

        if (b->n && bytes + op->bytes > writer->conf->batch_bytes) {
            break;
        }

        ngx_queue_remove(q);
        writer->queued--;
        writer->queued_bytes -= op->bytes;
        writer->gauges->queued = writer->queued;

        bytes += op->bytes;
        op->state = NGX_PAYMENT_OP_BATCHED;
        op->batch = b;
        op->order = b->n;
        op->dispatched_us = b->started_us;
        b->ops[b->n++] = op;
    }

    if (!get) {
        ngx_payment_batch_follow(b);
    }

    return b;
}


static ngx_payment_batch_t *
ngx_payment_batch_alloc(ngx_payment_writer_t *writer, ngx_uint_t n)
{
    ngx_payment_batch_t  *b;

    b = ngx_calloc(sizeof(ngx_payment_batch_t)
                   + 2 * n * sizeof(ngx_payment_op_t *), writer->log);
    if (b == NULL) {
        return NULL;
    }

    b->ops = (ngx_payment_op_t **) (b + 1);
    b->keys = b->ops + n;
    b->writer = writer;
    b->started_us = ngx_payment_now_us();
    b->timer.handler = ngx_payment_batch_timer;
    b->timer.data = b;
    b->timer.log = writer->log;

    writer->batches++;

    return b;
}


void
ngx_payment_batch_destroy(ngx_payment_batch_t *b)
{
    if (b->timer.timer_set) {
        ngx_del_timer(&b->timer);
    }

    if (b->pool) {
        ngx_destroy_pool(b->pool);
    }

    if (b->writer->waiter == b) {
        b->writer->waiter = NULL;
    }

    b->writer->batches--;
    ngx_free(b);
}


/* Of operations with one key, the first is executed; the others follow it. */

static void
ngx_payment_batch_follow(ngx_payment_batch_t *b)
{
    ngx_uint_t         i, n;
    ngx_payment_op_t  *leader, *op;

    ngx_memcpy(b->keys, b->ops, b->n * sizeof(ngx_payment_op_t *));
    qsort(b->keys, b->n, sizeof(ngx_payment_op_t *),
          ngx_payment_batch_cmp_keys);

    leader = NULL;

    for (i = 0; i < b->n; i++) {
        op = b->keys[i];

        if (leader
            && ngx_memcmp(leader->request.key_hash, op->request.key_hash,
                          PAYMENT_KEY_HASH_SIZE) == 0)
        {
            op->follows = 1;
            op->followers = leader->followers;
            leader->followers = op;
            continue;
        }

        leader = op;
    }

    for (i = 0, n = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->follows) {
            continue;
        }

        b->ops[n++] = op;

        if (op->request.operation != PAYMENT_AUTHORIZE) {
            b->changes++;
        }
    }

    b->n = n;
}


int
ngx_payment_batch_cmp_keys(const void *one, const void *two)
{
    int                       rc;
    const ngx_payment_op_t   *first, *second;

    first = *(ngx_payment_op_t *const *) one;
    second = *(ngx_payment_op_t *const *) two;

    rc = ngx_memcmp(first->request.key_hash, second->request.key_hash,
                    PAYMENT_KEY_HASH_SIZE);
    if (rc) {
        return rc;
    }

    return (first->order < second->order) ? -1 : 1;
}


void
ngx_payment_batch_run(ngx_payment_batch_t *b, ngx_payment_line_t *line)
{
    ngx_payment_assert(b->state == NGX_PAYMENT_BATCH_READY);
    ngx_payment_assert(line->batch == NULL && b->n > 0);

    if (b->timer.timer_set) {
        ngx_del_timer(&b->timer);
    }

    b->line = line;
    line->batch = b;
    line->since = ngx_current_msec;

    b->writer->gauges->busy++;

    if (b->pool) {
        ngx_destroy_pool(b->pool);
    }

    b->pool = ngx_create_pool(16384, b->writer->log);

    if (b->pool == NULL) {
        ngx_payment_batch_again(b);
        return;
    }

    ngx_payment_batch_execute(b);
}


void
ngx_payment_batch_drop_found(ngx_payment_batch_t *b)
{
    ngx_uint_t         i, n;
    ngx_payment_op_t  *op;

    b->changes = 0;

    for (i = 0, n = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->found) {
            op->batch_size = b->n;
            ngx_payment_writer_settle(b->writer, op, op->outcome);
            continue;
        }

        if (op->request.operation != PAYMENT_AUTHORIZE) {
            b->changes++;
        }

        b->ops[n++] = op;
    }

    b->n = n;
}


/* The batch leaves its line, which is free then. */

void
ngx_payment_batch_release(ngx_payment_batch_t *b)
{
    ngx_payment_line_t  *line;

    line = b->line;

    if (line == NULL) {
        return;
    }

    b->line = NULL;
    line->batch = NULL;

    b->writer->gauges->busy--;
    ngx_payment_writer_wake(b->writer);
}


static ngx_msec_t
ngx_payment_batch_deadline(ngx_payment_batch_t *b)
{
    ngx_uint_t  i;
    ngx_msec_t  deadline;

    deadline = b->ops[0]->deadline;

    for (i = 1; i < b->n; i++) {
        if ((ngx_msec_int_t) (b->ops[i]->deadline - deadline) > 0) {
            deadline = b->ops[i]->deadline;
        }
    }

    return deadline;
}


/* To be tried again, off the line and after a pause; in the end, not. */

void
ngx_payment_batch_again(ngx_payment_batch_t *b)
{
    ngx_msec_t                        delay;
    const ngx_payment_writer_conf_t  *conf;

    conf = b->writer->conf;

    ngx_payment_batch_release(b);

    b->tries++;

    if (!b->unknown && b->tries > conf->retries) {

        /* one of them may be to blame, also for a connection that is lost
         * each time; but none of them for what the whole server lacks */

        if (b->n > 1 && !b->get && b->reason != NGX_PAYMENT_DB_UNFIT) {
            ngx_payment_batch_split(b, 2);
            return;
        }

        ngx_payment_batch_give_up(b, PAYMENT_UNAVAILABLE,
                                  "the database could not take the payment");
        return;
    }

    if ((ngx_msec_int_t) (ngx_payment_batch_deadline(b) - ngx_current_msec)
        <= 0)
    {
        ngx_payment_batch_give_up(b, b->unknown ? PAYMENT_OUTCOME_UNKNOWN
                                                : PAYMENT_UNAVAILABLE,
                                  "the database did not answer in time");
        return;
    }

    (void) ngx_atomic_fetch_add(&b->writer->stats->retries, 1);

    delay = conf->retry_interval << ngx_min(b->tries - 1, 10);
    delay = ngx_min(delay, conf->retry_max_interval);
    delay = delay / 2 + (ngx_msec_t) ngx_random() % (delay / 2 + 1);

    b->state = NGX_PAYMENT_BATCH_WAIT;
    ngx_add_timer(&b->timer, delay);
}


/* Parts, each with one more try: the guilty request ends up alone. */

void
ngx_payment_batch_split(ngx_payment_batch_t *b, ngx_uint_t parts)
{
    ngx_uint_t            i, n;
    ngx_payment_batch_t  *part;

    (void) ngx_atomic_fetch_add(&b->writer->stats->splits, 1);

    b->tries = b->writer->conf->retries - 1;

    for ( /* void */ ; parts > 1 && b->n > 1; parts--) {

        n = (b->n + parts - 1) / parts;

        part = ngx_payment_batch_alloc(b->writer, n);
        if (part == NULL) {
            break;
        }

        part->n = n;
        part->tries = b->tries;
        part->started_us = b->started_us;

        for (i = 0; i < n; i++) {
            part->ops[i] = b->ops[b->n - n + i];
            part->ops[i]->batch = part;

            if (part->ops[i]->request.operation != PAYMENT_AUTHORIZE) {
                part->changes++;
            }
        }

        b->n -= n;
        b->changes -= part->changes;

        ngx_payment_batch_ready(part);
    }

    ngx_payment_batch_ready(b);
}


/* Waits for a line, but no longer than somebody waits for the batch. */

void
ngx_payment_batch_ready(ngx_payment_batch_t *b)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (ngx_payment_batch_deadline(b) - ngx_current_msec);

    b->state = NGX_PAYMENT_BATCH_READY;
    ngx_queue_insert_tail(&b->writer->ready, &b->queue);
    ngx_add_timer(&b->timer, (ngx_msec_t) ngx_max(left, 1));

    ngx_payment_writer_wake(b->writer);
}


static void
ngx_payment_batch_timer(ngx_event_t *ev)
{
    ngx_payment_batch_t  *b;

    b = ev->data;

    if (b->state == NGX_PAYMENT_BATCH_WAIT) {
        ngx_payment_batch_ready(b);
        return;
    }

    ngx_queue_remove(&b->queue);
    ngx_payment_batch_give_up(b, b->unknown ? PAYMENT_OUTCOME_UNKNOWN
                                            : PAYMENT_UNAVAILABLE,
                              "the database could not be reached in time");
}


/* The end: everybody is told, the line is free. */

void
ngx_payment_batch_settle(ngx_payment_batch_t *b)
{
    ngx_uint_t             i;
    ngx_payment_writer_t  *writer;

    writer = b->writer;

    ngx_payment_batch_release(b);

    /* the database works on the next batch while we answer this one */
    ngx_payment_writer_dispatch(writer);

    for (i = 0; i < b->n; i++) {
        b->ops[i]->batch_size = b->n;
        ngx_payment_writer_settle(writer, b->ops[i], b->ops[i]->outcome);
    }

    ngx_payment_batch_destroy(b);
}


void
ngx_payment_batch_abandon(ngx_payment_batch_t *b)
{
    ngx_payment_assert(b->state == NGX_PAYMENT_BATCH_READY && !b->unknown);

    ngx_queue_remove(&b->queue);
    ngx_payment_batch_give_up(b, PAYMENT_UNAVAILABLE,
                              "the database is away");
}


void
ngx_payment_batch_give_up(ngx_payment_batch_t *b, payment_outcome_e outcome,
    const char *detail)
{
    ngx_uint_t         i;
    ngx_payment_op_t  *op;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];
        op->outcome = outcome;
        op->fault.outcome = outcome;
        op->fault.field[0] = '\0';
        (void) ngx_cpystrn((u_char *) op->fault.detail, (u_char *) detail,
                           sizeof(op->fault.detail));
    }

    if (outcome == PAYMENT_OUTCOME_UNKNOWN) {
        (void) ngx_atomic_fetch_add(&b->writer->stats->unknown,
                                    (ngx_atomic_int_t) b->n);
    }

    ngx_payment_batch_settle(b);
}


ngx_int_t
ngx_payment_batch_remove(ngx_payment_batch_t *b, ngx_payment_op_t *op)
{
    ngx_uint_t  i;

    if (b->unknown || op->follows || op->followers
        || (b->state != NGX_PAYMENT_BATCH_READY
            && b->state != NGX_PAYMENT_BATCH_WAIT))
    {
        return NGX_AGAIN;
    }

    for (i = 0; b->ops[i] != op; i++) { /* void */ }

    ngx_memmove(&b->ops[i], &b->ops[i + 1],
                (b->n - i - 1) * sizeof(ngx_payment_op_t *));
    b->n--;

    if (op->request.operation != PAYMENT_AUTHORIZE) {
        b->changes--;
    }

    if (b->n == 0) {
        if (b->state == NGX_PAYMENT_BATCH_READY) {
            ngx_queue_remove(&b->queue);
        }

        ngx_payment_batch_destroy(b);
    }

    return NGX_OK;
}
