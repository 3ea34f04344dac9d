/* The spans of a committed batch: see ngx_payment_batch_span.h. */

#include "ngx_payment_batch_span.h"


static void ngx_payment_batch_span_ids(ngx_payment_span_t *batch,
    ngx_payment_span_t *flush, const ngx_payment_span_t *commit);


void
ngx_payment_batch_span_committed(ngx_payment_span_conf_t *conf,
    const ngx_payment_shard_t *shard, const ngx_payment_batch_t *b,
    uint64_t sent_us, uint64_t now_us)
{
    uint64_t             unix_us;
    ngx_uint_t           i, n;
    ngx_payment_op_t    *op;
    ngx_payment_span_t   batch, flush, commit;

    n = 0;
    unix_us = ngx_payment_unix_us();
    ngx_memzero(&batch, sizeof(ngx_payment_span_t));

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (!op->sampled) {
            continue;
        }

        /* the operation's traceparent names the span of its request */

        ngx_payment_span_init(&commit, NGX_PAYMENT_SPAN_COMMIT,
                              op->traceparent);

        commit.operation = (uint8_t) op->request.operation;
        commit.shard = (int8_t) shard->index;
        commit.rows = (uint32_t) b->n;
        commit.start_us = unix_us - (now_us - b->started_us);
        commit.end_us = unix_us;

        if (n++ == 0) {
            ngx_payment_batch_span_ids(&batch, &flush, &commit);
            flush.start_us = unix_us - (now_us - sent_us);

            ngx_payment_span_add(conf, &flush);
            ngx_payment_span_add(conf, &batch);
        }

        ngx_memcpy(commit.id, commit.parent, NGX_PAYMENT_SPAN_ID_SIZE);
        commit.id[0] ^= 0xff;

        ngx_memcpy(commit.link_trace, batch.trace, NGX_PAYMENT_SPAN_TRACE_SIZE);
        ngx_memcpy(commit.link, batch.id, NGX_PAYMENT_SPAN_ID_SIZE);

        ngx_payment_span_add(conf, &commit);
    }
}


/*
 * A batch is a trace of its own, since it is a part of several requests.  Its
 * numbers are made of the first one's, of which the span's is random.
 */

static void
ngx_payment_batch_span_ids(ngx_payment_span_t *batch,
    ngx_payment_span_t *flush, const ngx_payment_span_t *commit)
{
    ngx_uint_t  i;

    *batch = *commit;
    batch->kind = NGX_PAYMENT_SPAN_BATCH;

    for (i = 0; i < NGX_PAYMENT_SPAN_TRACE_SIZE; i++) {
        batch->trace[i] ^= commit->parent[i % NGX_PAYMENT_SPAN_ID_SIZE];
    }

    batch->trace[0] |= 1;           /* it may not be zeros */

    ngx_memcpy(batch->id, commit->parent, NGX_PAYMENT_SPAN_ID_SIZE);
    batch->id[1] ^= 0xff;
    ngx_memzero(batch->parent, NGX_PAYMENT_SPAN_ID_SIZE);

    *flush = *batch;
    flush->kind = NGX_PAYMENT_SPAN_FLUSH;
    flush->id[2] ^= 0xff;
    ngx_memcpy(flush->parent, batch->id, NGX_PAYMENT_SPAN_ID_SIZE);
}
