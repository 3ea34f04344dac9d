/* Headers, problems and the end of an answer: see ngx_http_payment_answer.h. */

#include "ngx_http_payment_answer.h"
#include "ngx_http_payment_module.h"


#define NGX_HTTP_PAYMENT_RETRY_AFTER  "1"              /* seconds */


ngx_str_t  ngx_http_payment_answer_json = ngx_string("application/json");

static ngx_str_t  ngx_http_payment_answer_problem_json =
    ngx_string("application/problem+json");


ngx_int_t
ngx_http_payment_answer_header(ngx_http_request_t *r, const char *name,
    const char *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

#if (nginx_version >= 1023000)
    h->next = NULL;
#endif
    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);

    return NGX_OK;
}


ngx_int_t
ngx_http_payment_answer_no_store(ngx_http_request_t *r)
{
    return ngx_http_payment_answer_header(r, "Cache-Control", "no-store");
}


ngx_int_t
ngx_http_payment_answer_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, ngx_chain_t *out, off_t len)
{
    ngx_int_t     rc;
    ngx_chain_t  *last;

    r->headers_out.status = status;

    if (status == 422) {
        /* nginx has no words for this status */
        ngx_str_set(&r->headers_out.status_line, "422 Unprocessable Content");
    }

    r->headers_out.content_length_n = len;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    for (last = out; last->next; last = last->next) { /* void */ }

    last->buf->last_buf = (r == r->main) ? 1 : 0;
    last->buf->last_in_chain = 1;

    return ngx_http_output_filter(r, out);
}


ngx_int_t
ngx_http_payment_answer_bytes(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, const u_char *bytes, size_t len)
{
    ngx_buf_t    *b;
    ngx_chain_t   out;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->pos = (u_char *) bytes;
    b->last = b->pos + len;
    b->memory = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_payment_answer_send(r, status, type, &out, len);
}


ngx_int_t
ngx_http_payment_answer_fault(ngx_http_request_t *r,
    const payment_fault_t *fault, const uint8_t *id, ngx_uint_t intercept)
{
    size_t                        len;
    u_char                       *body;
    ngx_uint_t                    status;
    ngx_http_payment_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);
    status = payment_name_error(fault->outcome)->status;

    if (fault->outcome == PAYMENT_UNAUTHORIZED
        && ngx_http_payment_answer_header(r, "WWW-Authenticate",
                                          (char *) plcf->challenge.data)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if ((fault->outcome == PAYMENT_UNAVAILABLE
         || fault->outcome == PAYMENT_OUTCOME_UNKNOWN
         || fault->outcome == PAYMENT_RATE_LIMITED)
        && ngx_http_payment_answer_header(r, "Retry-After",
                                          NGX_HTTP_PAYMENT_RETRY_AFTER)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (intercept) {
        return status;
    }

    body = ngx_pnalloc(r->pool, PAYMENT_PROBLEM_SIZE);
    if (body == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    len = payment_render_problem((char *) body, PAYMENT_PROBLEM_SIZE, fault,
                                 id, (char *) plcf->problem_base.data);

    return ngx_http_payment_answer_bytes(r, status,
                                         &ngx_http_payment_answer_problem_json,
                                         body, len);
}


ngx_int_t
ngx_http_payment_answer_problem(ngx_http_request_t *r,
    payment_outcome_e outcome, const char *field, const char *detail)
{
    payment_fault_t  fault;

    if (ngx_http_payment_answer_no_store(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    (void) payment_fault_set(&fault, outcome, field ? field : "", "%s", detail);

    return ngx_http_payment_answer_fault(r, &fault, NULL, 0);
}
