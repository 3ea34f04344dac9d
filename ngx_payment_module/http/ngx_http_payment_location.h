/*
 * The directives that make a location one of the module's: it gets its content
 * handler, and what is in their arguments.
 */

#ifndef NGX_HTTP_PAYMENT_LOCATION_H
#define NGX_HTTP_PAYMENT_LOCATION_H

#include "ngx_http_payment_module.h"


/* Of ngx_command_t. */

/* payment_api */
char *ngx_http_payment_location_api(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* payment_status [json | prometheus | breaker], and all that have no arguments:
 * cmd->post is the content handler. */
char *ngx_http_payment_location_handler(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* payment_health [live | ready [any | all]] */
char *ngx_http_payment_location_health(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* payment_dashboard [status=path] [admin=path] */
char *ngx_http_payment_location_dashboard(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* payment_problem code [detail] */
char *ngx_http_payment_location_problem(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

#endif /* NGX_HTTP_PAYMENT_LOCATION_H */
