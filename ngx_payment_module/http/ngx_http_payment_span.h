/*
 * The span of a request, where payment_trace_exporter is: it begins when the
 * request's trace is known, and ends with its answer.
 */

#ifndef NGX_HTTP_PAYMENT_SPAN_H
#define NGX_HTTP_PAYMENT_SPAN_H

#include "ngx_http_payment_module.h"


/* From now on the operation's traceparent, which is set, names this span, whose
 * number is id: random bytes that are not all zeros. */
void ngx_http_payment_span_begin(ngx_http_payment_ctx_t *ctx,
    ngx_payment_op_t *op, const u_char id[NGX_PAYMENT_SPAN_ID_SIZE]);

/* Does nothing where none has begun, or it has ended.  answered: what the
 * client was told; NULL: it has gone. */
void ngx_http_payment_span_end(ngx_http_payment_ctx_t *ctx,
    const payment_error_t *answered);

#endif /* NGX_HTTP_PAYMENT_SPAN_H */
