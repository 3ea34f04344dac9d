/*
 * What nginx says of a request in each line of the error log, without the query
 * where payment_api is asked: a look-up names a key there, which is nobody's
 * business but its client's.
 *
 * nginx lets a request choose who says it.  The choice is made as soon as the
 * location is known, so that limits and access rules come after it.
 */

#include "ngx_http_payment_module.h"


static ngx_int_t ngx_http_payment_log_choose(ngx_http_request_t *r);
static u_char *ngx_http_payment_log_handler(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len);


/* nginx's own, the same for all requests; it is not exported */

static ngx_http_log_handler_pt  ngx_http_payment_log_next;


ngx_int_t
ngx_http_payment_log_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_REWRITE_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_payment_log_choose;

    return NGX_OK;
}


static ngx_int_t
ngx_http_payment_log_choose(ngx_http_request_t *r)
{
    ngx_http_payment_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);

    /* of a subrequest, the main request's is asked */

    if (plcf->handler == ngx_http_payment_api_handler
        && r->log_handler != ngx_http_payment_log_handler)
    {
        ngx_http_payment_log_next = r->log_handler;
        r->log_handler = ngx_http_payment_log_handler;
    }

    return NGX_DECLINED;
}


static u_char *
ngx_http_payment_log_handler(ngx_http_request_t *r, ngx_http_request_t *sr,
    u_char *buf, size_t len)
{
    u_char     *p;
    ngx_str_t   line;

    line = r->request_line;

    if (line.len) {
        p = ngx_strlchr(line.data, line.data + line.len, '?');

        if (p) {
            r->request_line.len = p - line.data;
        }
    }

    p = ngx_http_payment_log_next(r, sr, buf, len);

    r->request_line = line;

    return p;
}
