/* The spans of events that are with Kafka: see ngx_payment_producer_spans.h. */

#include "ngx_payment_producer_spans.h"
#include "payment.h"


typedef struct {
    ngx_payment_span_t        span;
    uint16_t                  next;             /* of the free ones; 0: none */
} ngx_payment_producer_span_t;


/* An event has the number of its place + 1; 0 is none. */

struct ngx_payment_producer_spans_s {
    ngx_payment_span_conf_t      *conf;
    uint16_t                      free;
    u_char                        digits[2 * NGX_PAYMENT_SPAN_ID_SIZE];
    ngx_payment_producer_span_t   open[NGX_PAYMENT_PRODUCER_SPANS];
};


static void ngx_payment_producer_spans_id(ngx_payment_span_t *span,
    const ngx_payment_row_t *row);
static uint8_t ngx_payment_producer_spans_operation(const ngx_str_t *type);


ngx_payment_producer_spans_t *
ngx_payment_producer_spans_create(ngx_payment_span_conf_t *conf,
    ngx_log_t *log)
{
    ngx_payment_producer_spans_t  *s;

    if (conf == NULL) {
        return NULL;
    }

    s = ngx_calloc(sizeof(ngx_payment_producer_spans_t), log);
    if (s == NULL) {
        return NULL;
    }

    s->conf = conf;
    ngx_payment_producer_spans_forget(s);

    return s;
}


void
ngx_payment_producer_spans_forget(ngx_payment_producer_spans_t *s)
{
    uint16_t  i;

    if (s == NULL) {
        return;
    }

    for (i = 0; i < NGX_PAYMENT_PRODUCER_SPANS; i++) {
        s->open[i].next = (i + 1 < NGX_PAYMENT_PRODUCER_SPANS)
                          ? (uint16_t) (i + 2) : 0;
    }

    s->free = 1;
}


const u_char *
ngx_payment_producer_spans_begin(ngx_payment_producer_spans_t *s,
    payment_event_t *e, const ngx_payment_row_t *row)
{
    ngx_payment_span_t  *span;

    e->span = 0;

    if (s == NULL
        || row->traceparent.len != PAYMENT_TRACEPARENT_LEN
        || !payment_trace_sampled((char *) row->traceparent.data,
                                  s->conf->sampled))
    {
        return NULL;
    }

    if (s->free == 0) {
        (void) ngx_atomic_fetch_add(&s->conf->ring->dropped, 1);
        return NULL;
    }

    e->span = s->free;
    span = &s->open[e->span - 1].span;
    s->free = s->open[e->span - 1].next;

    ngx_payment_span_init(span, NGX_PAYMENT_SPAN_PUBLISH,
                          row->traceparent.data);
    ngx_payment_producer_spans_id(span, row);

    span->start_us = ngx_payment_unix_us();
    span->version = row->version;
    span->operation = ngx_payment_producer_spans_operation(&row->type);

    if (row->aggregateid.len == NGX_PAYMENT_SPAN_PAYMENT_LEN) {
        ngx_memcpy(span->payment, row->aggregateid.data,
                   NGX_PAYMENT_SPAN_PAYMENT_LEN);
    }

    (void) ngx_hex_dump(s->digits, span->id, NGX_PAYMENT_SPAN_ID_SIZE);

    return s->digits;
}


static void
ngx_payment_producer_spans_id(ngx_payment_span_t *span,
    const ngx_payment_row_t *row)
{
    u_char    *last, name[64];
    uint64_t   hash;

    last = ngx_snprintf(name, sizeof(name), "%V:%uD", &row->aggregateid,
                        row->version);
    hash = payment_inflight_hash(name, (size_t) (last - name)) | 1;

    ngx_memcpy(span->id, &hash, NGX_PAYMENT_SPAN_ID_SIZE);
}


/* 0: a later version's type of event. */

static uint8_t
ngx_payment_producer_spans_operation(const ngx_str_t *type)
{
    const char  *name;
    uint8_t      operation;

    for (operation = PAYMENT_AUTHORIZE;
         operation <= PAYMENT_EXPIRE;
         operation++)
    {
        name = payment_name_event((payment_operation_e) operation);

        if (name[0] && ngx_strcmp(type->data, name) == 0) {
            return operation;
        }
    }

    return 0;
}


/* What was taken back was not sent: no span tells of it. */

void
ngx_payment_producer_spans_drop(ngx_payment_producer_spans_t *s,
    payment_event_t *e)
{
    if (s == NULL || e->span == 0) {
        return;
    }

    s->open[e->span - 1].next = s->free;
    s->free = e->span;
    e->span = 0;
}


void
ngx_payment_producer_spans_end(ngx_payment_producer_spans_t *s,
    payment_event_t *e, rd_kafka_resp_err_t err)
{
    ngx_payment_span_t  *span;

    if (s == NULL || e->span == 0) {
        return;
    }

    span = &s->open[e->span - 1].span;
    span->end_us = ngx_payment_unix_us();

    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        (void) ngx_cpystrn((u_char *) span->error,
                           (u_char *) rd_kafka_err2name(err),
                           sizeof(span->error));
    }

    if (err != RD_KAFKA_RESP_ERR__PURGE_QUEUE) {
        ngx_payment_span_add(s->conf, span);
    }

    ngx_payment_producer_spans_drop(s, e);
}
