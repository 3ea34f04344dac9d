/* The trace of a request: see ngx_http_payment_trace.h. */

#include "ngx_http_payment_random.h"
#include "ngx_http_payment_request.h"
#include "ngx_http_payment_span.h"
#include "ngx_http_payment_trace.h"


static ngx_uint_t ngx_http_payment_trace_sampled(ngx_http_payment_ctx_t *ctx);
static ngx_int_t ngx_http_payment_trace_state(ngx_http_request_t *r,
    ngx_payment_op_t *op);


ngx_int_t
ngx_http_payment_trace(ngx_http_payment_ctx_t *ctx, ngx_uint_t make)
{
    u_char     *p, id[24];
    ngx_str_t   value;

    if (ctx->traced) {
        return NGX_OK;
    }

    if (ngx_http_payment_request_header(ctx->request, "traceparent", &value)
        == NGX_OK
        && payment_trace_parse((char *) ctx->trace, (char *) value.data,
                               value.len))
    {
        ctx->traced = 1;
        ctx->trace_given = 1;
        return NGX_OK;
    }

    if (!make) {
        return NGX_DECLINED;
    }

    if (ngx_http_payment_random(id, sizeof(id)) != NGX_OK) {
        return NGX_ERROR;
    }

    id[0] |= 1;                     /* neither may be zeros */
    id[16] |= 1;

    p = ngx_cpymem(ctx->trace, "00-", 3);
    p = ngx_hex_dump(p, id, 16);
    *p++ = '-';
    p = ngx_hex_dump(p, id + 16, 8);
    ngx_memcpy(p, "-01", 3);

    if (!ngx_http_payment_trace_sampled(ctx)) {
        p[2] = '0';
    }

    ctx->traced = 1;

    return NGX_OK;
}


/* Are spans of the request's trace exported? */

static ngx_uint_t
ngx_http_payment_trace_sampled(ngx_http_payment_ctx_t *ctx)
{
    ngx_http_payment_main_conf_t  *pmcf;

    pmcf = ngx_http_get_module_main_conf(ctx->request, ngx_http_payment_module);

    return pmcf->spans
           && payment_trace_sampled((char *) ctx->trace, pmcf->spans->sampled);
}


ngx_int_t
ngx_http_payment_trace_take(ngx_http_request_t *r, ngx_payment_op_t *op)
{
    ngx_http_payment_ctx_t       *ctx;
    ngx_http_payment_loc_conf_t  *plcf;
    u_char                        id[NGX_PAYMENT_SPAN_ID_SIZE];

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);
    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);

    if (payment_operation_reads(op->request.operation)
        || ngx_http_payment_trace(ctx, plcf->trace_make) != NGX_OK)
    {
        return NGX_OK;
    }

    ngx_memcpy(op->traceparent, ctx->trace, PAYMENT_TRACEPARENT_LEN);
    op->traceparent_len = PAYMENT_TRACEPARENT_LEN;

    if (ngx_http_payment_trace_sampled(ctx)) {

        if (ngx_http_payment_random(id, sizeof(id)) != NGX_OK) {
            return NGX_ERROR;
        }

        id[7] |= 1;                 /* it may not be zeros */
        ngx_http_payment_span_begin(ctx, op, id);
    }

    /* a tracestate is nothing without the traceparent that it came with */

    return ctx->trace_given ? ngx_http_payment_trace_state(r, op) : NGX_OK;
}


static ngx_int_t
ngx_http_payment_trace_state(ngx_http_request_t *r, ngx_payment_op_t *op)
{
    size_t      len;
    ngx_str_t   lines;
    char        state[PAYMENT_TRACESTATE_LEN];

    if (ngx_http_payment_request_lines(r, "tracestate", &lines) != NGX_OK) {
        return NGX_ERROR;
    }

    len = lines.len ? payment_trace_state(state, (char *) lines.data,
                                          lines.len)
                    : 0;

    if (len == 0) {
        return NGX_OK;
    }

    op->tracestate.data = ngx_alloc(len, r->connection->log);
    if (op->tracestate.data == NULL) {
        return NGX_ERROR;
    }

    op->tracestate.len = len;
    ngx_memcpy(op->tracestate.data, state, len);

    return NGX_OK;
}
