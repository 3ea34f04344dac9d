/*
 * From an HTTP request to an operation: the merchant, by payment_merchant, the
 * key, by its header, the body or the query, the lifetime and the trace.
 */

#ifndef NGX_HTTP_PAYMENT_OP_H
#define NGX_HTTP_PAYMENT_OP_H

#include "ngx_http_payment_module.h"


/* op->request has its operation, and the id if it takes one.  NGX_ERROR: *fault
 * says what is wrong. */
ngx_int_t ngx_http_payment_op_parse(ngx_http_request_t *r,
    ngx_payment_op_t *op, ngx_str_t *body, payment_fault_t *fault);

#endif /* NGX_HTTP_PAYMENT_OP_H */
