/*
 * payment_dashboard: a page that shows what payment_status says and, where it
 * was told where payment_outbox_admin is, has buttons for that.
 *
 * The page is dashboard.html, compiled in; only its first lines are made here,
 * when the configuration is read.  Its script and style are in the page itself,
 * and the Content-Security-Policy names their hashes: a browser runs nothing
 * else, and asks no other server for anything.
 */

#include "ngx_http_payment_answer.h"
#include "ngx_http_payment_module.h"
#include "ngx_http_payment_request.h"


#define NGX_HTTP_PAYMENT_DASHBOARD_HEAD                                       \
    "<!doctype html>\n<html lang=\"en\" data-status=\"%V\" data-admin=\"%V\">\n"


/* made from dashboard.html */
extern const unsigned char  ngx_http_payment_dashboard_html[];
extern const size_t         ngx_http_payment_dashboard_html_len;
extern const char           ngx_http_payment_dashboard_policy[];


static ngx_int_t ngx_http_payment_dashboard_headers(ngx_http_request_t *r);


static ngx_str_t  ngx_http_payment_dashboard_type =
    ngx_string("text/html; charset=utf-8");


/* The characters of a path that mean nothing to HTML. */

ngx_uint_t
ngx_http_payment_dashboard_is_path(const ngx_str_t *path)
{
    u_char      c;
    ngx_uint_t  i;

    for (i = 0; i < path->len; i++) {
        c = path->data[i];

        if ((c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
            && ngx_strchr("/._~%-", c) == NULL)
        {
            return 0;
        }
    }

    return path->len > 0 && path->data[0] == '/'
           && (path->len == 1 || path->data[1] != '/');
}


ngx_int_t
ngx_http_payment_dashboard_head(ngx_pool_t *pool, ngx_str_t *head,
    ngx_str_t *status, ngx_str_t *admin)
{
    size_t  len;

    len = sizeof(NGX_HTTP_PAYMENT_DASHBOARD_HEAD) + status->len + admin->len;

    head->data = ngx_pnalloc(pool, len);
    if (head->data == NULL) {
        return NGX_ERROR;
    }

    head->len = ngx_snprintf(head->data, len, NGX_HTTP_PAYMENT_DASHBOARD_HEAD,
                             status, admin)
                - head->data;

    return NGX_OK;
}


ngx_int_t
ngx_http_payment_dashboard_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_buf_t                    *head, *page;
    ngx_chain_t                   out[2];
    ngx_http_payment_loc_conf_t  *plcf;

    if (ngx_http_payment_request_get(r, &rc) != NGX_OK) {
        return rc;
    }

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);

    head = ngx_calloc_buf(r->pool);
    page = ngx_calloc_buf(r->pool);

    if (head == NULL || page == NULL
        || ngx_http_payment_dashboard_headers(r) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    head->pos = plcf->dashboard_head.data;
    head->last = head->pos + plcf->dashboard_head.len;
    head->memory = 1;

    page->pos = (u_char *) ngx_http_payment_dashboard_html;
    page->last = page->pos + ngx_http_payment_dashboard_html_len;
    page->memory = 1;

    out[0].buf = head;
    out[0].next = &out[1];
    out[1].buf = page;
    out[1].next = NULL;

    return ngx_http_payment_answer_send(r, NGX_HTTP_OK,
                                        &ngx_http_payment_dashboard_type, out,
                                        plcf->dashboard_head.len
                                        + ngx_http_payment_dashboard_html_len);
}


static ngx_int_t
ngx_http_payment_dashboard_headers(ngx_http_request_t *r)
{
    if (ngx_http_payment_answer_no_store(r) != NGX_OK
        || ngx_http_payment_answer_header(r, "Content-Security-Policy",
                                          ngx_http_payment_dashboard_policy)
           != NGX_OK
        || ngx_http_payment_answer_header(r, "X-Content-Type-Options",
                                          "nosniff")
           != NGX_OK
        || ngx_http_payment_answer_header(r, "Referrer-Policy", "no-referrer")
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}
