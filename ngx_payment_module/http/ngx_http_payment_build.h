/*
 * Which version of the module runs, which build of it, from which file.  The
 * start says all three.  A reload keeps the code that is loaded, also when the
 * file was replaced: nobody would notice, so the reload says it.
 *
 * Owner: the master, at each configuration that it takes.
 */

#ifndef NGX_HTTP_PAYMENT_BUILD_H
#define NGX_HTTP_PAYMENT_BUILD_H

#include <ngx_config.h>
#include <ngx_core.h>


/* a module's init_module; it never fails, for nothing depends on it */
ngx_int_t ngx_http_payment_build_init_module(ngx_cycle_t *cycle);

/* What the linker made of all that is in the file, as `file` and `readelf -n`
 * show it: two builds of one version differ in it.  "none" if it was not asked
 * to; valid after init_module. */
const char *ngx_http_payment_build_id(void);

#endif /* NGX_HTTP_PAYMENT_BUILD_H */
