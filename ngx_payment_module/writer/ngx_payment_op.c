/* The life of an operation's memory: see ngx_payment_op.h. */

#include "ngx_payment_op.h"


/* Kept for reuse: as many as a busy worker has at once, 2 MiB at most. */
#define NGX_PAYMENT_OP_CACHE  512


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
    op->accepted_us = ngx_payment_now_us();

    return op;
}


void
ngx_payment_op_free(ngx_payment_op_t *op)
{
    payment_request_free(&op->request);

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
