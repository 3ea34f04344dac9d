/*
 * What is told to a collector of traces about a batch that was committed; see
 * ngx_payment_span.h for the spans.
 *
 * Owner: a worker.
 */

#ifndef NGX_PAYMENT_BATCH_SPAN_H
#define NGX_PAYMENT_BATCH_SPAN_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_batch.h"
#include "ngx_payment_shard.h"
#include "ngx_payment_span.h"


/* COMMIT was sent at sent_us, and answered now: by the monotonic clock. */
void ngx_payment_batch_span_committed(ngx_payment_span_conf_t *conf,
    const ngx_payment_shard_t *shard, const ngx_payment_batch_t *b,
    uint64_t sent_us, uint64_t now_us);

#endif /* NGX_PAYMENT_BATCH_SPAN_H */
