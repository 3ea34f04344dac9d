/*
 * The spans of events that are with Kafka: see ngx_payment_span.h.
 *
 * A span begins when its event is handed to the producer, and ends with the
 * report.  Its number is made of the event's name, and so is the same whenever,
 * and by whichever node, the event is sent again: repetitions stay equal.
 *
 * Owner: the helper process, or the single one; nothing is allocated where no
 * traces are exported.
 * Limits: NGX_PAYMENT_PRODUCER_SPANS at a time; further events have no span,
 * which is counted as one that was dropped.
 */

#ifndef NGX_PAYMENT_PRODUCER_SPANS_H
#define NGX_PAYMENT_PRODUCER_SPANS_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_row.h"
#include "ngx_payment_span.h"
#include "payment_inflight.h"

#include <librdkafka/rdkafka.h>


#define NGX_PAYMENT_PRODUCER_SPANS     2048     /* open ones, 168 bytes each */


typedef struct ngx_payment_producer_spans_s  ngx_payment_producer_spans_t;


/* NULL: no memory, or conf is NULL.  Lives as long as its process. */
ngx_payment_producer_spans_t *ngx_payment_producer_spans_create(
    ngx_payment_span_conf_t *conf, ngx_log_t *log);

/* In all that follow, s may be NULL. */

/* An event is about to be sent.  Returns the 16 digits of its span, which are
 * good until the next call; NULL: it has none. */
const u_char *ngx_payment_producer_spans_begin(ngx_payment_producer_spans_t *s,
    payment_event_t *e, const ngx_payment_row_t *row);

/* It was not sent, after all. */
void ngx_payment_producer_spans_drop(ngx_payment_producer_spans_t *s,
    payment_event_t *e);

/* It was reported on. */
void ngx_payment_producer_spans_end(ngx_payment_producer_spans_t *s,
    payment_event_t *e, rd_kafka_resp_err_t err);

/* What was sent is not reported on any more. */
void ngx_payment_producer_spans_forget(ngx_payment_producer_spans_t *s);

#endif /* NGX_PAYMENT_PRODUCER_SPANS_H */
