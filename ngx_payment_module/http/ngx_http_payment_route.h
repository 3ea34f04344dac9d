/*
 * Which operation a request of payment_api asks for, by its path, and by its
 * query where the path is empty.
 */

#ifndef NGX_HTTP_PAYMENT_ROUTE_H
#define NGX_HTTP_PAYMENT_ROUTE_H

#include "ngx_http_payment_module.h"


/*
 * Finds what follows the location's prefix.  NGX_DECLINED: the prefix ends
 * within a word, as /api/payments does in /api/payments-old.
 *
 * Where there is no prefix (a regular expression, a named location, an URI that
 * was rewritten), the last words of the path count.
 */
ngx_int_t ngx_http_payment_route_path(ngx_http_request_t *r, ngx_str_t *path);

/* Leaves the last word, and the one before it if that takes an id, or is one
 * whose operations are asked for; or nothing, where a slash follows a word that
 * is no verb. */
void ngx_http_payment_route_last_words(ngx_str_t *path);

/* The path is "authorize", "capture/{id}" or the like, "{id}" alone or with
 * "/operations", or empty: a key in the query stands for the id then, or the
 * merchant's payments are listed.  NGX_DECLINED: it is none of these. */
ngx_int_t ngx_http_payment_route(ngx_http_payment_ctx_t *ctx, ngx_str_t *path,
    ngx_str_t *id);

ngx_uint_t ngx_http_payment_route_takes_id(payment_operation_e operation);

#endif /* NGX_HTTP_PAYMENT_ROUTE_H */
