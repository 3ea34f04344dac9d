/* An operation's memory and its outcome: see ngx_payment_op.h. */

#include "ngx_payment_op.h"


/* Kept for reuse: as many as a busy worker has at once, 2 MiB at most. */
#define NGX_PAYMENT_OP_CACHE  512


static void ngx_payment_op_follow_all(ngx_queue_t *followers,
    ngx_payment_op_t *leader);


static ngx_queue_t  ngx_payment_op_cache;
static ngx_uint_t   ngx_payment_op_cached;


ngx_payment_op_t *
ngx_payment_op_create(ngx_log_t *log)
{
    ngx_queue_t       *q;
    ngx_payment_op_t  *op;

    if (ngx_payment_op_cached) {
        q = ngx_queue_head(&ngx_payment_op_cache);
        ngx_queue_remove(q);
        ngx_payment_op_cached--;
        op = ngx_queue_data(q, ngx_payment_op_t, queue);

    } else {
        op = ngx_alloc(sizeof(ngx_payment_op_t), log);
        if (op == NULL) {
            return NULL;
        }
    }

    ngx_memzero(op, sizeof(ngx_payment_op_t));
    ngx_queue_init(&op->copies);
    ngx_queue_init(&op->rivals);
    op->accepted_us = ngx_payment_now_us();

    return op;
}


void
ngx_payment_op_free(ngx_payment_op_t *op)
{
    payment_request_free(&op->request);

    if (op->done.data) {
        ngx_free(op->done.data);
    }

    if (op->list) {
        ngx_free(op->list);
    }

    if (op->tracestate.data) {
        ngx_free(op->tracestate.data);
    }

    if (ngx_payment_op_cached >= NGX_PAYMENT_OP_CACHE) {
        ngx_free(op);
        return;
    }

    if (ngx_payment_op_cached == 0) {
        ngx_queue_init(&ngx_payment_op_cache);
    }

    ngx_queue_insert_head(&ngx_payment_op_cache, &op->queue);
    ngx_payment_op_cached++;
}


void
ngx_payment_op_detach(ngx_payment_op_t *op)
{
    op->data = NULL;
    op->settled = NULL;
}


void
ngx_payment_op_fail(ngx_payment_op_t *op, payment_outcome_e outcome,
    const char *detail)
{
    op->outcome = outcome;
    op->fault.outcome = outcome;
    op->fault.field[0] = '\0';
    (void) ngx_cpystrn((u_char *) op->fault.detail, (u_char *) detail,
                       sizeof(op->fault.detail));
}


void
ngx_payment_op_follow(ngx_payment_op_t *op, ngx_payment_op_t *leader)
{
    op->batch = NULL;
    op->leader = leader;
    leader->followers++;

    if (ngx_memcmp(op->request.fingerprint, leader->request.fingerprint,
                   PAYMENT_FINGERPRINT_SIZE)
        != 0)
    {
        op->state = NGX_PAYMENT_OP_RIVAL;
        ngx_queue_insert_tail(&leader->rivals, &op->queue);
        return;
    }

    op->state = NGX_PAYMENT_OP_COPY;
    ngx_queue_insert_tail(&leader->copies, &op->queue);

    /* the one that leads is worked on for as long as somebody waits for it */

    if ((ngx_msec_int_t) (op->deadline - leader->deadline) > 0) {
        leader->deadline = op->deadline;
    }
}


void
ngx_payment_op_unfollow(ngx_payment_op_t *op)
{
    ngx_queue_remove(&op->queue);

    op->leader->followers--;
    op->leader = NULL;
}


static void
ngx_payment_op_follow_all(ngx_queue_t *followers, ngx_payment_op_t *leader)
{
    ngx_payment_op_t  *op;

    while ((op = ngx_payment_op_shift(followers)) != NULL) {
        ngx_payment_op_follow(op, leader);
    }
}


ngx_payment_op_t *
ngx_payment_op_successor(ngx_payment_op_t *op)
{
    ngx_payment_op_t  *next;

    next = ngx_payment_op_shift(&op->copies);

    if (next == NULL) {
        next = ngx_payment_op_shift(&op->rivals);
    }

    if (next) {
        ngx_payment_op_follow_all(&op->copies, next);
        ngx_payment_op_follow_all(&op->rivals, next);
    }

    return next;
}


ngx_payment_op_t *
ngx_payment_op_shift(ngx_queue_t *followers)
{
    ngx_queue_t       *q;
    ngx_payment_op_t  *op;

    if (ngx_queue_empty(followers)) {
        return NULL;
    }

    q = ngx_queue_head(followers);
    op = ngx_queue_data(q, ngx_payment_op_t, queue);

    ngx_payment_op_unfollow(op);

    return op;
}


int
ngx_payment_op_cmp_keys(const void *one, const void *two)
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
