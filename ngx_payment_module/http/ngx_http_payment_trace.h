/*
 * The trace of a request: the one that its traceparent names, or else one of
 * its own, which is made when somebody wants it.
 */

#ifndef NGX_HTTP_PAYMENT_TRACE_H
#define NGX_HTTP_PAYMENT_TRACE_H

#include "ngx_http_payment_module.h"


/* Sets ctx->trace.  NGX_DECLINED: the client brought none, and none is to be
 * made; NGX_ERROR: there are no random bytes. */
ngx_int_t ngx_http_payment_trace(ngx_http_payment_ctx_t *ctx, ngx_uint_t make);

/* What the event is to have of the request's trace.  NGX_ERROR: there are no
 * random bytes, or there is no memory left. */
ngx_int_t ngx_http_payment_trace_take(ngx_http_request_t *r,
    ngx_payment_op_t *op);

#endif /* NGX_HTTP_PAYMENT_TRACE_H */
