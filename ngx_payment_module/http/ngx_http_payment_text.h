/*
 * An answer of the operator's locations: text that grows as it is written.
 * Memory is the request's, and whoever writes the text bounds its length.
 */

#ifndef NGX_HTTP_PAYMENT_TEXT_H
#define NGX_HTTP_PAYMENT_TEXT_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* bytes that one call of ngx_http_payment_text_add() can write at most */
#define NGX_HTTP_PAYMENT_TEXT_PIECE   8192


typedef struct {
    ngx_http_request_t  *request;
    ngx_chain_t         *first;
    ngx_chain_t         *last;
    off_t                len;
    ngx_uint_t           status;        /* HTTP; 200 */
    unsigned             failed:1;      /* it cannot be sent */
} ngx_http_payment_text_t;


void ngx_http_payment_text_init(ngx_http_payment_text_t *t,
    ngx_http_request_t *r);

/* format as in ngx_slprintf() */
void ngx_cdecl ngx_http_payment_text_add(ngx_http_payment_text_t *t,
    const char *fmt, ...);

/* a quoted JSON string */
void ngx_http_payment_text_string(ngx_http_payment_text_t *t,
    ngx_str_t *value);

/* Answers with all of it; returns what a content handler returns. */
ngx_int_t ngx_http_payment_text_send(ngx_http_payment_text_t *t,
    ngx_str_t *type);

#endif /* NGX_HTTP_PAYMENT_TEXT_H */
