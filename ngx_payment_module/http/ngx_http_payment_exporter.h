/*
 * The directive payment_trace_exporter:
 *
 *     payment_trace_exporter http://host[:port][/path] [sample=percent%]
 *                            [service=name];
 *
 * and the shared zone of its spans, which is there only with it.
 */

#ifndef NGX_HTTP_PAYMENT_EXPORTER_H
#define NGX_HTTP_PAYMENT_EXPORTER_H

#include "ngx_http_payment_module.h"


/* For ngx_command_t: fills in a pointer to ngx_payment_span_conf_t. */
char *ngx_http_payment_exporter_conf(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

#endif /* NGX_HTTP_PAYMENT_EXPORTER_H */
