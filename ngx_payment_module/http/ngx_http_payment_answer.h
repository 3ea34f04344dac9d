/*
 * How the module's locations answer: headers, problems (RFC 9457), and the end
 * that every answer has in common.  Memory is the request's.  What these return
 * is what a content handler returns.
 */

#ifndef NGX_HTTP_PAYMENT_ANSWER_H
#define NGX_HTTP_PAYMENT_ANSWER_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "payment.h"


extern ngx_str_t  ngx_http_payment_answer_json;     /* the content type */


/* name and value are literals, or the configuration's: nothing of a client's
 * gets into a header */
ngx_int_t ngx_http_payment_answer_header(ngx_http_request_t *r,
    const char *name, const char *value);

/* what is told of payments and of this node is for this client, and for now */
ngx_int_t ngx_http_payment_answer_no_store(ngx_http_request_t *r);

/* out has len bytes; its last buffer becomes the last one of the answer */
ngx_int_t ngx_http_payment_answer_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *type, ngx_chain_t *out, off_t len);

/* one piece of memory, which outlives the request */
ngx_int_t ngx_http_payment_answer_bytes(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *type, const u_char *bytes, size_t len);

/*
 * A fault as problem+json; id is the payment's, or NULL.  With intercept only
 * the headers are made, and the status is returned for error_page to answer.
 */
ngx_int_t ngx_http_payment_answer_fault(ngx_http_request_t *r,
    const payment_fault_t *fault, const uint8_t *id, ngx_uint_t intercept);

/* a problem of an operator's location; field may be NULL */
ngx_int_t ngx_http_payment_answer_problem(ngx_http_request_t *r,
    payment_outcome_e outcome, const char *field, const char *detail);

#endif /* NGX_HTTP_PAYMENT_ANSWER_H */
