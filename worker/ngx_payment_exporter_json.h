/*
 * Spans as OpenTelemetry's OTLP/HTTP writes them in JSON: the body of a POST to
 * a collector.
 *
 * Owner: the helper process, or the single one.
 */

#ifndef NGX_PAYMENT_EXPORTER_JSON_H
#define NGX_PAYMENT_EXPORTER_JSON_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_outbox_conf.h"
#include "ngx_payment_span.h"


/* bytes that suffice for a span, and for what is around all of them */
#define NGX_PAYMENT_EXPORTER_SPAN_SIZE   1536
#define NGX_PAYMENT_EXPORTER_FRAME_SIZE  1024


/* Writes n spans; returns the end.  host: this machine's name, as JSON may have
 * it. */
u_char *ngx_payment_exporter_json_render(u_char *p,
    ngx_payment_outbox_conf_t *conf, const char *host,
    const ngx_payment_span_t *spans, ngx_uint_t n);

#endif /* NGX_PAYMENT_EXPORTER_JSON_H */
