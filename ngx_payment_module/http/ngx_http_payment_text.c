/* Text that grows: see ngx_http_payment_text.h. */

#include "ngx_http_payment_answer.h"
#include "ngx_http_payment_text.h"


static ngx_buf_t *ngx_http_payment_text_page(ngx_http_payment_text_t *t);


void
ngx_http_payment_text_init(ngx_http_payment_text_t *t, ngx_http_request_t *r)
{
    ngx_memzero(t, sizeof(ngx_http_payment_text_t));

    t->request = r;
    t->status = NGX_HTTP_OK;
}


/* A piece that does not fit into the last page is written into a new one. */

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

        /* a piece that fills the page to its end may have been cut */

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
ngx_http_payment_text_send(ngx_http_payment_text_t *t, ngx_str_t *type)
{
    if (t->failed || t->first == NULL
        || ngx_http_payment_answer_no_store(t->request) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_payment_answer_send(t->request, t->status, type,
                                        t->first, t->len);
}
