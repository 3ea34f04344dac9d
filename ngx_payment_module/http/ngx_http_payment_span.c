/* The span of a request: see ngx_http_payment_span.h. */

#include "ngx_http_payment_span.h"


/* where a traceparent has the number of its span */
#define NGX_HTTP_PAYMENT_SPAN_AT      36

/* nginx's status of a request whose client has gone */
#define NGX_HTTP_PAYMENT_SPAN_GONE    499


void
ngx_http_payment_span_begin(ngx_http_payment_ctx_t *ctx, ngx_payment_op_t *op,
    const u_char id[NGX_PAYMENT_SPAN_ID_SIZE])
{
    ngx_memcpy(ctx->span, id, NGX_PAYMENT_SPAN_ID_SIZE);
    ctx->has_span = 1;
    ctx->sampled = 1;

    (void) ngx_hex_dump(op->traceparent + NGX_HTTP_PAYMENT_SPAN_AT, ctx->span,
                        NGX_PAYMENT_SPAN_ID_SIZE);
    op->sampled = 1;
}


void
ngx_http_payment_span_end(ngx_http_payment_ctx_t *ctx,
    const payment_error_t *answered)
{
    uint64_t                       now;
    ngx_payment_span_t             span;
    ngx_http_payment_main_conf_t  *pmcf;

    if (!ctx->sampled) {
        return;
    }

    ctx->sampled = 0;

    ngx_payment_span_init(&span, NGX_PAYMENT_SPAN_SERVER, ctx->trace);
    ngx_memcpy(span.id, ctx->span, NGX_PAYMENT_SPAN_ID_SIZE);

    if (!ctx->trace_given) {
        ngx_memzero(span.parent, NGX_PAYMENT_SPAN_ID_SIZE);
    }

    now = ngx_payment_unix_us();
    span.end_us = now;
    span.start_us = now - (ngx_payment_now_us() - ctx->started_us);
    span.operation = (uint8_t) ctx->operation;
    span.status = (uint16_t) (answered ? answered->status
                                       : NGX_HTTP_PAYMENT_SPAN_GONE);

    if (answered && answered->status >= NGX_HTTP_BAD_REQUEST) {
        (void) ngx_cpystrn((u_char *) span.error, (u_char *) answered->code,
                           sizeof(span.error));
    }

    if (ctx->shard) {
        span.shard = (int8_t) ctx->shard->index;
    }

    if (ctx->has_id) {
        ngx_memcpy(span.payment, ctx->id_text, NGX_PAYMENT_SPAN_PAYMENT_LEN);
    }

    pmcf = ngx_http_get_module_main_conf(ctx->request, ngx_http_payment_module);
    ngx_payment_span_add(pmcf->spans, &span);
}
