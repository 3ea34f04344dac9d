/*
 * payment_openapi: the API's description, as it was compiled in.  Read-only
 * data of the module; nothing is copied.
 */

#include "ngx_http_payment_module.h"
#include "ngx_http_payment_text.h"


/* ngx_http_payment_openapi_json.c, made from openapi.json */
extern const unsigned char  ngx_http_payment_openapi_json[];
extern const size_t         ngx_http_payment_openapi_json_len;


static ngx_str_t  ngx_http_payment_type_openapi =
    ngx_string("application/openapi+json");


ngx_int_t
ngx_http_payment_openapi_handler(ngx_http_request_t *r)
{
    ngx_int_t    rc;
    ngx_buf_t   *b;
    ngx_chain_t  out;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_payment_text_problem(r, PAYMENT_METHOD_NOT_ALLOWED,
                                             NULL,
                                             "the method must be GET or HEAD",
                                             "GET, HEAD");
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = ngx_http_payment_openapi_json_len;
    r->headers_out.content_type = ngx_http_payment_type_openapi;
    r->headers_out.content_type_len = ngx_http_payment_type_openapi.len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->pos = (u_char *) ngx_http_payment_openapi_json;
    b->last = b->pos + ngx_http_payment_openapi_json_len;
    b->memory = 1;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}
