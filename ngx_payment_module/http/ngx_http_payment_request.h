/*
 * What the module's locations take from an HTTP request: its method, and its
 * body, headers and arguments, read so that no second reader could understand
 * them otherwise.  Memory is the request's.
 */

#ifndef NGX_HTTP_PAYMENT_REQUEST_H
#define NGX_HTTP_PAYMENT_REQUEST_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "payment.h"


/*
 * For a location that is only read.  NGX_OK: it is a GET or a HEAD, and its
 * body is discarded.  NGX_DECLINED: the request was refused, and the content
 * handler has to return *rc.
 */
ngx_int_t ngx_http_payment_request_get(ngx_http_request_t *r, ngx_int_t *rc);

/*
 * Discards the body of a request that is refused or wants none.  NGX_DECLINED,
 * with *fault: the body is malformed, say, so that nobody knows where the next
 * request begins; this one is the connection's last.
 */
ngx_int_t ngx_http_payment_request_discard(ngx_http_request_t *r,
    payment_fault_t *fault);

/* NGX_DECLINED: the body is not plain application/json; *fault says why */
ngx_int_t ngx_http_payment_request_json(ngx_http_request_t *r,
    payment_fault_t *fault);

/*
 * The body that was read, as one string; without a copy if it is in one buffer.
 * NGX_DECLINED: it has more than max bytes.
 */
ngx_int_t ngx_http_payment_request_body(ngx_http_request_t *r, size_t max,
    ngx_str_t *body);

/* NGX_OK: the value, or a null string; NGX_DECLINED: it is given repeatedly */
ngx_int_t ngx_http_payment_request_header(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);

/* The value of a header that may be given repeatedly: its lines, in their
 * order, with commas between them.  NGX_ERROR: there is no memory left. */
ngx_int_t ngx_http_payment_request_lines(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);

/*
 * The value of an argument of the query, which is form-encoded, or a null
 * string.  NGX_DECLINED, with a sentence in *fault: it is given repeatedly, or
 * its encoding is broken.
 */
ngx_int_t ngx_http_payment_request_argument(ngx_http_request_t *r,
    const char *name, ngx_str_t *value, payment_fault_t *fault);

#endif /* NGX_HTTP_PAYMENT_REQUEST_H */
