/*
 * Random bytes, for keys and traces.  They come from the kernel, 4096 with each
 * call of getrandom().
 *
 * Owner: a worker.
 */

#ifndef NGX_HTTP_PAYMENT_RANDOM_H
#define NGX_HTTP_PAYMENT_RANDOM_H

#include <ngx_config.h>
#include <ngx_core.h>


/* len is at most 4096. */
ngx_int_t ngx_http_payment_random(u_char *p, size_t len);

#endif /* NGX_HTTP_PAYMENT_RANDOM_H */
