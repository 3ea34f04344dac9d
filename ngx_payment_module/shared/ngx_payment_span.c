/* The ring of spans: see ngx_payment_span.h. */

#include "ngx_payment_span.h"


/* A copy under the lock takes a tenth of a microsecond: so often it is asked
 * for before a span is dropped. */
#define NGX_PAYMENT_SPAN_TRIES     200

/* where a traceparent has its numbers */
#define NGX_PAYMENT_SPAN_TRACE_AT  3
#define NGX_PAYMENT_SPAN_ID_AT     36


static void ngx_payment_span_bytes(u_char *bytes, const u_char *hex, size_t n);
static ngx_uint_t ngx_payment_span_lock(ngx_payment_span_conf_t *conf);


void
ngx_payment_span_init(ngx_payment_span_t *span, ngx_payment_span_kind_e kind,
    const u_char *traceparent)
{
    ngx_memzero(span, sizeof(ngx_payment_span_t));

    span->kind = (uint8_t) kind;
    span->shard = -1;

    ngx_payment_span_bytes(span->trace, traceparent + NGX_PAYMENT_SPAN_TRACE_AT,
                           NGX_PAYMENT_SPAN_TRACE_SIZE);
    ngx_payment_span_bytes(span->parent, traceparent + NGX_PAYMENT_SPAN_ID_AT,
                           NGX_PAYMENT_SPAN_ID_SIZE);
}


/* The digits are a valid traceparent's. */

static void
ngx_payment_span_bytes(u_char *bytes, const u_char *hex, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        bytes[i] = (u_char) ngx_hextoi((u_char *) hex + 2 * i, 2);
    }
}


void
ngx_payment_span_add(ngx_payment_span_conf_t *conf,
    const ngx_payment_span_t *span)
{
    ngx_payment_span_ring_t  *ring;

    ring = conf->ring;

    if (!ngx_payment_span_lock(conf)) {
        (void) ngx_atomic_fetch_add(&ring->dropped, 1);
        return;
    }

    if (ring->head - ring->tail == NGX_PAYMENT_SPANS) {
        (void) ngx_atomic_fetch_add(&ring->dropped, 1);

    } else {
        ring->spans[ring->head % NGX_PAYMENT_SPANS] = *span;
        ring->head++;
    }

    ngx_shmtx_unlock(&conf->pool->mutex);
}


ngx_uint_t
ngx_payment_span_take(ngx_payment_span_conf_t *conf, ngx_payment_span_t *spans,
    ngx_uint_t max)
{
    ngx_uint_t                i, n;
    ngx_payment_span_ring_t  *ring;

    ring = conf->ring;

    if (!ngx_payment_span_lock(conf)) {
        return 0;
    }

    n = ngx_min(ring->head - ring->tail, max);

    for (i = 0; i < n; i++) {
        spans[i] = ring->spans[(ring->tail + i) % NGX_PAYMENT_SPANS];
    }

    ring->tail += n;

    ngx_shmtx_unlock(&conf->pool->mutex);

    return n;
}


ngx_uint_t
ngx_payment_span_waiting(const ngx_payment_span_conf_t *conf)
{
    return conf->ring->head - conf->ring->tail;
}


static ngx_uint_t
ngx_payment_span_lock(ngx_payment_span_conf_t *conf)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_PAYMENT_SPAN_TRIES; i++) {

        if (ngx_shmtx_trylock(&conf->pool->mutex)) {
            return 1;
        }

        ngx_cpu_pause();
    }

    return 0;
}
