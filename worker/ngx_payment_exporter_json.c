/*
 * OTLP in JSON: see ngx_payment_exporter_json.h.  Numbers of 64 bits are texts
 * in it, and the numbers of traces and spans are in hexadecimal digits.  Names
 * and attributes are those of OpenTelemetry's semantic conventions where it has
 * some.
 */

#include "ngx_payment_exporter_json.h"
#include "ngx_payment_producer_conf.h"
#include "ngx_payment_shard.h"
#include "ngx_payment_version.h"
#include "payment.h"


/* OTLP's SpanKind, and its StatusCode of an error */
#define NGX_PAYMENT_EXPORTER_INTERNAL    1
#define NGX_PAYMENT_EXPORTER_SERVER      2
#define NGX_PAYMENT_EXPORTER_CLIENT      3
#define NGX_PAYMENT_EXPORTER_PRODUCER    4
#define NGX_PAYMENT_EXPORTER_ERROR       2


static u_char *ngx_payment_exporter_json_span(u_char *p,
    ngx_payment_outbox_conf_t *conf, const ngx_payment_span_t *span);
static u_char *ngx_payment_exporter_json_name(u_char *p,
    const ngx_payment_span_t *span, const char *topic);
static u_char *ngx_payment_exporter_json_links(u_char *p,
    const ngx_payment_span_t *span);
static u_char *ngx_payment_exporter_json_attributes(u_char *p,
    ngx_payment_outbox_conf_t *conf, const ngx_payment_span_t *span);
static u_char *ngx_payment_exporter_json_kind_attributes(u_char *p,
    const ngx_payment_span_t *span, const char *topic);
static u_char *ngx_payment_exporter_json_text(u_char *p, const char *key,
    const u_char *value, size_t len);
static u_char *ngx_payment_exporter_json_word(u_char *p, const char *key,
    const char *value);
static u_char *ngx_payment_exporter_json_number(u_char *p, const char *key,
    uint32_t value);
static ngx_uint_t ngx_payment_exporter_json_failed(
    const ngx_payment_span_t *span);


u_char *
ngx_payment_exporter_json_render(u_char *p, ngx_payment_outbox_conf_t *conf,
    const char *host, const ngx_payment_span_t *spans, ngx_uint_t n)
{
    ngx_uint_t  i;

    p = ngx_sprintf(p, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    p = ngx_payment_exporter_json_text(p, "service.name",
                                       conf->spans->service.data,
                                       conf->spans->service.len);
    *p++ = ',';
    p = ngx_payment_exporter_json_word(p, "host.name", host);
    p = ngx_sprintf(p, "]},\"scopeSpans\":[{\"scope\":{\"name\":"
                    "\"ngx_payment_module\",\"version\":\""
                    NGX_PAYMENT_VERSION "\"},\"spans\":[");

    for (i = 0; i < n; i++) {
        if (i) {
            *p++ = ',';
        }

        p = ngx_payment_exporter_json_span(p, conf, &spans[i]);
    }

    return ngx_sprintf(p, "]}]}]}");
}


static u_char *
ngx_payment_exporter_json_span(u_char *p, ngx_payment_outbox_conf_t *conf,
    const ngx_payment_span_t *span)
{
    static const u_char  kinds[] = {    /* by ngx_payment_span_kind_e */
        NGX_PAYMENT_EXPORTER_SERVER,
        NGX_PAYMENT_EXPORTER_CLIENT,
        NGX_PAYMENT_EXPORTER_PRODUCER,
        NGX_PAYMENT_EXPORTER_INTERNAL,
        NGX_PAYMENT_EXPORTER_CLIENT
    };
    static const u_char  none[NGX_PAYMENT_SPAN_ID_SIZE];

    p = ngx_sprintf(p, "{\"traceId\":\"");
    p = ngx_hex_dump(p, (u_char *) span->trace, NGX_PAYMENT_SPAN_TRACE_SIZE);
    p = ngx_sprintf(p, "\",\"spanId\":\"");
    p = ngx_hex_dump(p, (u_char *) span->id, NGX_PAYMENT_SPAN_ID_SIZE);

    if (ngx_memcmp(span->parent, none, sizeof(none)) != 0) {
        p = ngx_sprintf(p, "\",\"parentSpanId\":\"");
        p = ngx_hex_dump(p, (u_char *) span->parent, NGX_PAYMENT_SPAN_ID_SIZE);
    }

    p = ngx_sprintf(p, "\",\"kind\":%d,\"startTimeUnixNano\":\"%uL000\","
                    "\"endTimeUnixNano\":\"%uL000\",",
                    (int) kinds[span->kind], span->start_us,
                    ngx_max(span->end_us, span->start_us));

    p = ngx_payment_exporter_json_attributes(p, conf, span);

    if (ngx_memcmp(span->link, none, sizeof(none)) != 0) {
        p = ngx_payment_exporter_json_links(p, span);
    }

    if (ngx_payment_exporter_json_failed(span)) {
        p = ngx_sprintf(p, ",\"status\":{\"code\":%d,\"message\":\"%s\"}",
                        NGX_PAYMENT_EXPORTER_ERROR, span->error);
    }

    *p++ = '}';

    return p;
}


/* A refusal is the client's error, and none of the server's span. */

static ngx_uint_t
ngx_payment_exporter_json_failed(const ngx_payment_span_t *span)
{
    return span->error[0]
           && (span->kind != NGX_PAYMENT_SPAN_SERVER || span->status >= 500);
}


static u_char *
ngx_payment_exporter_json_links(u_char *p, const ngx_payment_span_t *span)
{
    p = ngx_sprintf(p, ",\"links\":[{\"traceId\":\"");
    p = ngx_hex_dump(p, (u_char *) span->link_trace,
                     NGX_PAYMENT_SPAN_TRACE_SIZE);
    p = ngx_sprintf(p, "\",\"spanId\":\"");
    p = ngx_hex_dump(p, (u_char *) span->link, NGX_PAYMENT_SPAN_ID_SIZE);

    return ngx_sprintf(p, "\"}]");
}


/* The name is here, too: of a span that publishes it has the topic. */

static u_char *
ngx_payment_exporter_json_attributes(u_char *p,
    ngx_payment_outbox_conf_t *conf, const ngx_payment_span_t *span)
{
    ngx_str_t              type;
    ngx_payment_shard_t  **shards;
    u_char                 topic[NGX_PAYMENT_PRODUCER_TOPIC_LEN + 1];

    topic[0] = '\0';

    if (span->kind == NGX_PAYMENT_SPAN_PUBLISH) {
        type.data = (u_char *) payment_name_event(span->operation);
        type.len = ngx_strlen(type.data);
        (void) ngx_payment_producer_conf_topic(conf, &type, topic);
    }

    p = ngx_payment_exporter_json_name(p, span, (char *) topic);
    p = ngx_sprintf(p, ",\"attributes\":[");

    p = ngx_payment_exporter_json_kind_attributes(p, span, (char *) topic);

    if (span->shard >= 0 && (ngx_uint_t) span->shard < conf->shards->nelts) {
        shards = conf->shards->elts;
        *p++ = ',';
        p = ngx_payment_exporter_json_text(p, "payment.shard",
                                           shards[span->shard]->name.data,
                                           shards[span->shard]->name.len);
    }

    if (span->payment[0]) {
        *p++ = ',';
        p = ngx_payment_exporter_json_text(p, "payment.id", span->payment,
                                           NGX_PAYMENT_SPAN_PAYMENT_LEN);
    }

    if (span->error[0]) {
        *p++ = ',';
        p = ngx_payment_exporter_json_word(p, "error.type", span->error);
    }

    *p++ = ']';

    return p;
}


static u_char *
ngx_payment_exporter_json_name(u_char *p, const ngx_payment_span_t *span,
    const char *topic)
{
    switch (span->kind) {

    case NGX_PAYMENT_SPAN_SERVER:
        return ngx_sprintf(p, "\"name\":\"payment %s\"",
                           payment_name_operation(span->operation));

    case NGX_PAYMENT_SPAN_COMMIT:
        return ngx_sprintf(p, "\"name\":\"payment commit\"");

    case NGX_PAYMENT_SPAN_PUBLISH:
        return ngx_sprintf(p, "\"name\":\"%s publish\"", topic);

    case NGX_PAYMENT_SPAN_BATCH:
        return ngx_sprintf(p, "\"name\":\"payment batch\"");

    default: /* NGX_PAYMENT_SPAN_FLUSH */
        return ngx_sprintf(p, "\"name\":\"COMMIT\"");
    }
}


static u_char *
ngx_payment_exporter_json_kind_attributes(u_char *p,
    const ngx_payment_span_t *span, const char *topic)
{
    u_char  *last, id[NGX_PAYMENT_SPAN_PAYMENT_LEN + 1 + NGX_INT32_LEN];

    switch (span->kind) {

    case NGX_PAYMENT_SPAN_SERVER:
        p = ngx_payment_exporter_json_word(p, "http.request.method", "POST");
        *p++ = ',';
        return ngx_payment_exporter_json_number(p, "http.response.status_code",
                                                span->status);

    case NGX_PAYMENT_SPAN_PUBLISH:
        last = ngx_sprintf(id, "%*s:%uD", (size_t) NGX_PAYMENT_SPAN_PAYMENT_LEN,
                           span->payment, span->version);
        p = ngx_payment_exporter_json_word(p, "messaging.system", "kafka");
        *p++ = ',';
        p = ngx_payment_exporter_json_word(p, "messaging.operation.name",
                                           "publish");
        *p++ = ',';
        p = ngx_payment_exporter_json_word(p, "messaging.operation.type",
                                           "send");
        *p++ = ',';
        p = ngx_payment_exporter_json_word(p, "messaging.destination.name",
                                           topic);
        *p++ = ',';
        return ngx_payment_exporter_json_text(p, "messaging.message.id", id,
                                              last - id);

    default: /* the database's */
        p = ngx_payment_exporter_json_word(p, "db.system.name", "mariadb");
        *p++ = ',';
        return ngx_payment_exporter_json_number(p, "db.operation.batch.size",
                                                span->rows);
    }
}


static u_char *
ngx_payment_exporter_json_word(u_char *p, const char *key, const char *value)
{
    return ngx_payment_exporter_json_text(p, key, (const u_char *) value,
                                          ngx_strlen(value));
}


/* None of the values has a character that JSON escapes: the configuration's
 * were looked at, the others are words and numbers. */

static u_char *
ngx_payment_exporter_json_text(u_char *p, const char *key,
    const u_char *value, size_t len)
{
    return ngx_sprintf(p, "{\"key\":\"%s\",\"value\":{\"stringValue\":"
                       "\"%*s\"}}", key, len, value);
}


static u_char *
ngx_payment_exporter_json_number(u_char *p, const char *key, uint32_t value)
{
    return ngx_sprintf(p, "{\"key\":\"%s\",\"value\":{\"intValue\":\"%uD\"}}",
                       key, value);
}
