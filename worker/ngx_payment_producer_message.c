/* The headers of a Kafka message: see ngx_payment_producer_message.h. */

#include "ngx_payment_producer_message.h"
#include "payment.h"


#define NGX_PAYMENT_PRODUCER_HEADERS_MAX   17

/* where a traceparent has the number of its span */
#define NGX_PAYMENT_PRODUCER_SPAN_AT       36
#define NGX_PAYMENT_PRODUCER_SPAN_LEN      16



typedef struct {
    u_char     id[64];
    u_char     type[NGX_PAYMENT_EVENT_PREFIX_LEN + 64];
    u_char     sequence[NGX_INT32_LEN];
    u_char     version[NGX_INT32_LEN];
    u_char     epoch[NGX_INT64_LEN];
    u_char     parent[PAYMENT_TRACEPARENT_LEN];
} ngx_payment_producer_texts_t;


static ngx_str_t ngx_payment_producer_message_type(u_char *type, size_t size,
    const ngx_str_t *prefix, const ngx_str_t *word);
static ngx_str_t ngx_payment_producer_message_parent(u_char *parent,
    const ngx_str_t *traceparent, const u_char *span);


/*
 * id and eventId are the event's name, the same at every repetition.  ce_* are
 * the binary mode of CloudEvents; an operator may have said whose events these
 * are, and of what kind.  By version and epoch a consumer sees what is stale or
 * repeated.  What publishes the event is the parent in traceparent; in
 * ce_traceparent it stays the request.
 */

rd_kafka_headers_t *
ngx_payment_producer_message_headers(const ngx_payment_outbox_conf_t *conf,
    const ngx_payment_row_t *row, uint64_t epoch, const u_char *span)
{
    u_char                        *last;
    ngx_str_t                      id, type, parent;
    rd_kafka_headers_t            *h;
    ngx_payment_producer_texts_t   t;

    id.data = t.id;
    id.len = ngx_snprintf(t.id, sizeof(t.id), "%V:%uD", &row->aggregateid,
                          row->version)
             - t.id;
    type = ngx_payment_producer_message_type(t.type, sizeof(t.type),
                                             &conf->event_type_prefix,
                                             &row->type);
    parent = ngx_payment_producer_message_parent(t.parent, &row->traceparent,
                                                 span);

    h = rd_kafka_headers_new(NGX_PAYMENT_PRODUCER_HEADERS_MAX);

#define ngx_payment_header(name, value, len)                                  \
    (void) rd_kafka_header_add(h, name, sizeof(name) - 1, value, len)

    ngx_payment_header("id", id.data, id.len);
    ngx_payment_header("eventId", id.data, id.len);
    ngx_payment_header("ce_specversion", "1.0", 3);
    ngx_payment_header("ce_id", id.data, id.len);
    ngx_payment_header("ce_source", conf->event_source.data,
                       conf->event_source.len);
    ngx_payment_header("ce_type", type.data, type.len);
    ngx_payment_header("ce_subject", row->aggregateid.data,
                       row->aggregateid.len);
    ngx_payment_header("ce_time", row->time, NGX_PAYMENT_ROW_TIME_LEN);

    if (conf->event_schema.len) {
        ngx_payment_header("ce_dataschema", conf->event_schema.data,
                           conf->event_schema.len);
    }

    /* as many digits in each, so that the order of the texts is theirs */

    if (conf->event_sequence) {
        last = ngx_sprintf(t.sequence, "%010uD", row->version);
        ngx_payment_header("ce_sequence", t.sequence, last - t.sequence);
    }

    ngx_payment_header("content-type", "application/json", 16);

    last = ngx_sprintf(t.version, "%uD", row->version);
    ngx_payment_header("version", t.version, last - t.version);

    last = ngx_sprintf(t.epoch, "%uL", epoch);
    ngx_payment_header("epoch", t.epoch, last - t.epoch);

    if (row->traceparent.len) {
        ngx_payment_header("traceparent", parent.data, parent.len);
        ngx_payment_header("ce_traceparent", row->traceparent.data,
                           row->traceparent.len);
    }

    if (row->tracestate.len) {
        ngx_payment_header("tracestate", row->tracestate.data,
                           row->tracestate.len);
        ngx_payment_header("ce_tracestate", row->tracestate.data,
                           row->tracestate.len);
    }

#undef ngx_payment_header

    return h;
}


static ngx_str_t
ngx_payment_producer_message_type(u_char *type, size_t size,
    const ngx_str_t *prefix, const ngx_str_t *word)
{
    ngx_str_t  text;

    if (prefix->len == 0) {
        return *word;
    }

    text.data = type;
    text.len = ngx_snprintf(type, size, "%V%V", prefix, word) - type;

    return text;
}


static ngx_str_t
ngx_payment_producer_message_parent(u_char *parent,
    const ngx_str_t *traceparent, const u_char *span)
{
    ngx_str_t  text;

    if (span == NULL || traceparent->len != PAYMENT_TRACEPARENT_LEN) {
        return *traceparent;
    }

    ngx_memcpy(parent, traceparent->data, PAYMENT_TRACEPARENT_LEN);
    ngx_memcpy(parent + NGX_PAYMENT_PRODUCER_SPAN_AT, span,
               NGX_PAYMENT_PRODUCER_SPAN_LEN);

    text.data = parent;
    text.len = PAYMENT_TRACEPARENT_LEN;

    return text;
}
