/* Growing text and problems: see ngx_http_payment_text.h. */

#include "ngx_http_payment_text.h"


static ngx_buf_t *ngx_http_payment_text_page(ngx_http_payment_text_t *t);
static ngx_int_t ngx_http_payment_text_header(ngx_http_request_t *r,
    const char *name, const char *value);


ngx_str_t  ngx_http_payment_type_json = ngx_string("application/json");

static ngx_str_t  ngx_http_payment_type_problem =
    ngx_string("application/problem+json");


void
ngx_http_payment_text_init(ngx_http_payment_text_t *t, ngx_http_request_t *r)
{
    ngx_memzero(t, sizeof(ngx_http_payment_text_t));

    t->request = r;
}


/* A piece is written whole into the last page, or whole into a new one. */

void ngx_cdecl
ngx_http_payment_text_add(ngx_http_payment_text_t *t, const char *fmt, ...)
{
    u_char     *p;
    va_list     args;
    ngx_buf_t  *b;

    if (t->failed) {
        return;
    }

    b = t->last ? t->last->buf : ngx_http_payment_text_page(t);

    while (b) {
        va_start(args, fmt);
        p = ngx_vslprintf(b->last, b->end, fmt, args);
        va_end(args);

        /* a full page may be one that was too small */

        if (p < b->end) {
            t->len += p - b->last;
            b->last = p;
            return;
        }

        if (b->last == b->start) {
            ngx_log_error(NGX_LOG_ALERT, t->request->connection->log, 0,
                          "payment: a text is longer than %d bytes",
                          NGX_HTTP_PAYMENT_TEXT_PIECE);
            break;
        }

        b = ngx_http_payment_text_page(t);
    }

    t->failed = 1;
}


static ngx_buf_t *
ngx_http_payment_text_page(ngx_http_payment_text_t *t)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    cl = ngx_alloc_chain_link(t->request->pool);
    if (cl == NULL) {
        return NULL;
    }

    b = ngx_create_temp_buf(t->request->pool, NGX_HTTP_PAYMENT_TEXT_PIECE + 1);
    if (b == NULL) {
        return NULL;
    }

    cl->buf = b;
    cl->next = NULL;

    if (t->last) {
        t->last->next = cl;

    } else {
        t->first = cl;
    }

    t->last = cl;

    return b;
}


void
ngx_http_payment_text_string(ngx_http_payment_text_t *t, ngx_str_t *value)
{
    char       *p;
    ngx_str_t   quoted;

    if (t->failed) {
        return;
    }

    quoted.data = ngx_pnalloc(t->request->pool, 2 + 6 * value->len);
    if (quoted.data == NULL) {
        t->failed = 1;
        return;
    }

    p = payment_text_json((char *) quoted.data, (char *) value->data,
                          value->len);
    quoted.len = (u_char *) p - quoted.data;

    ngx_http_payment_text_add(t, "%V", &quoted);
}


ngx_int_t
ngx_http_payment_text_send(ngx_http_payment_text_t *t, ngx_uint_t status,
    ngx_str_t *type)
{
    ngx_int_t            rc;
    ngx_buf_t           *b;
    ngx_http_request_t  *r;

    r = t->request;

    if (t->failed || t->first == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_payment_text_header(r, "Cache-Control", "no-store")
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = status;
    r->headers_out.content_length_n = t->len;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = t->last->buf;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    return ngx_http_output_filter(r, t->first);
}


ngx_int_t
ngx_http_payment_text_problem(ngx_http_request_t *r,
    payment_outcome_e outcome, const char *field, const char *detail,
    const char *allow)
{
    ngx_str_t                text;
    payment_fault_t          fault;
    ngx_http_payment_text_t  t;

    if (allow && ngx_http_payment_text_header(r, "Allow", allow) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    fault.outcome = outcome;
    (void) ngx_cpystrn((u_char *) fault.field,
                       (u_char *) (field ? field : ""), sizeof(fault.field));
    (void) ngx_cpystrn((u_char *) fault.detail, (u_char *) detail,
                       sizeof(fault.detail));

    text.data = ngx_pnalloc(r->pool, PAYMENT_PROBLEM_SIZE);
    if (text.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    text.len = payment_render_problem((char *) text.data,
                                      PAYMENT_PROBLEM_SIZE, &fault, NULL);

    ngx_http_payment_text_init(&t, r);
    ngx_http_payment_text_add(&t, "%V", &text);

    return ngx_http_payment_text_send(&t, payment_name_error(outcome)->status,
                                      &ngx_http_payment_type_problem);
}


/* name and value are literals */

static ngx_int_t
ngx_http_payment_text_header(ngx_http_request_t *r, const char *name,
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
