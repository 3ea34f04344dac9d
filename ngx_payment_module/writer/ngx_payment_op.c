/* An operation's memory and its outcome: see ngx_payment_op.h. */

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


ngx_uint_t
ngx_payment_op_same_request(const ngx_payment_op_t *one,
    const ngx_payment_op_t *two)
{
    return ngx_memcmp(one->request.fingerprint, two->request.fingerprint,
                      PAYMENT_FINGERPRINT_SIZE)
           == 0;
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
