/* Operations that share one transaction: see ngx_payment_batch.h. */

#include "ngx_payment_assert.h"
#include "ngx_payment_batch.h"


static void ngx_payment_batch_count(ngx_payment_batch_t *b);
static void ngx_payment_batch_count_op(ngx_payment_batch_t *b,
    const ngx_payment_op_t *op);


ngx_payment_batch_t *
ngx_payment_batch_create(ngx_uint_t rows_max, ngx_log_t *log)
{
    ngx_payment_batch_t  *b;

    b = ngx_calloc(sizeof(ngx_payment_batch_t)
                   + 2 * rows_max * sizeof(ngx_payment_op_t *), log);
    if (b == NULL) {
        return NULL;
    }

    b->ops = (ngx_payment_op_t **) (b + 1);
    b->keys = b->ops + rows_max;
    b->started_us = ngx_payment_now_us();
    b->timer.data = b;
    b->timer.log = log;

    return b;
}


void
ngx_payment_batch_destroy(ngx_payment_batch_t *b)
{
    if (b->timer.timer_set) {
        ngx_del_timer(&b->timer);
    }

    ngx_free(b);
}


void
ngx_payment_batch_add(ngx_payment_batch_t *b, ngx_payment_op_t *op)
{
    op->state = NGX_PAYMENT_OP_BATCHED;
    op->batch = b;
    op->order = b->n;
    op->dispatched_us = b->started_us;

    b->ops[b->n++] = op;
    ngx_payment_batch_count_op(b, op);
}


static void
ngx_payment_batch_count(ngx_payment_batch_t *b)
{
    ngx_uint_t  i;

    b->changes = 0;
    b->forbidden = 0;
    b->lookups = 0;
    b->pages = 0;
    b->references = 0;

    for (i = 0; i < b->n; i++) {
        ngx_payment_batch_count_op(b, b->ops[i]);
    }
}


static void
ngx_payment_batch_count_op(ngx_payment_batch_t *b, const ngx_payment_op_t *op)
{
    if (op->request.operation != PAYMENT_AUTHORIZE) {
        b->changes++;
    }

    if (op->request.forbidden) {
        b->forbidden++;
    }

    if (op->request.operation == PAYMENT_LOOKUP) {
        b->lookups++;
    }

    if (op->request.operation == PAYMENT_OPERATIONS) {
        b->pages++;
    }

    if (op->request.reference_len) {
        b->references++;
    }
}


void
ngx_payment_batch_remove(ngx_payment_batch_t *b, ngx_payment_op_t *op)
{
    ngx_uint_t  i;

    for (i = 0; b->ops[i] != op; i++) { /* void */ }

    ngx_memmove(&b->ops[i], &b->ops[i + 1],
                (b->n - i - 1) * sizeof(ngx_payment_op_t *));
    b->n--;
    op->batch = NULL;

    ngx_payment_batch_count(b);
}


void
ngx_payment_batch_take(ngx_payment_batch_t *b,
    ngx_payment_op_standing_e standing, ngx_queue_t *taken)
{
    ngx_uint_t         i, n;
    ngx_payment_op_t  *op;

    for (i = 0, n = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->standing == standing) {
            op->batch = NULL;
            ngx_queue_insert_tail(taken, &op->queue);
            continue;
        }

        b->ops[n++] = op;
    }

    b->n = n;
    ngx_payment_batch_count(b);
}


ngx_payment_batch_t *
ngx_payment_batch_split(ngx_payment_batch_t *b, ngx_uint_t n)
{
    ngx_uint_t            i;
    ngx_payment_batch_t  *part;

    ngx_payment_assert(!ngx_payment_batch_reads(b) && !b->unknown);
    ngx_payment_assert(n > 0 && n < b->n);

    part = ngx_payment_batch_create(n, b->timer.log);
    if (part == NULL) {
        return NULL;
    }

    part->n = n;
    part->tries = b->tries;
    part->started_us = b->started_us;
    part->timer.handler = b->timer.handler;
    part->data = b->data;

    b->n -= n;

    for (i = 0; i < n; i++) {
        part->ops[i] = b->ops[b->n + i];
        part->ops[i]->batch = part;
    }

    ngx_payment_batch_count(b);
    ngx_payment_batch_count(part);

    return part;
}


ngx_msec_t
ngx_payment_batch_deadline(const ngx_payment_batch_t *b)
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
