/*
 * A topic that events are sent to, and whether it takes them.
 *
 * A refusal may be about the event, or about what every event would meet: a
 * topic that is not there or forbidden, a clock that is wrong.  The first makes
 * an event a dead letter in the end; the second is waited for, and no event is
 * blamed.  Kafka's error does not always tell them apart, so another payment's
 * event decides: when it meets the same, it is the topic.
 *
 * Owner: the helper process; a topic outlives the producers.
 */

#ifndef NGX_PAYMENT_PRODUCER_TOPIC_H
#define NGX_PAYMENT_PRODUCER_TOPIC_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_producer_conf.h"

#include <librdkafka/rdkafka.h>


typedef enum {
    NGX_PAYMENT_TOPIC_WELL = 0,
    NGX_PAYMENT_TOPIC_DOUBTED,     /* refused several payments' events alone */
    NGX_PAYMENT_TOPIC_SHUT         /* takes none: one is sent now and then */
} ngx_payment_producer_topic_state_e;


typedef struct {
    ngx_payment_producer_topic_state_e   state;
    ngx_str_t                  type;        /* of events; empty: all types */
    rd_kafka_topic_t          *handle;      /* NULL: the producer has none */
    uint32_t                   deliveries;
    uint64_t                   refused;     /* a payment, since a delivery */
    uint64_t                   probe_at_ns; /* SHUT: when one may be sent */

    /* terminated, as the broker's library wants it */
    u_char                     name[NGX_PAYMENT_PRODUCER_TOPIC_LEN + 1];
} ngx_payment_producer_topic_t;


/* An event was delivered.  NGX_OK: the topic was SHUT, and is WELL now. */
ngx_int_t ngx_payment_producer_topic_delivered(ngx_payment_producer_topic_t *t,
    ngx_log_t *log);

/* An event of a payment was refused that was sent alone. */
void ngx_payment_producer_topic_doubt(ngx_payment_producer_topic_t *t,
    uint64_t payment, rd_kafka_resp_err_t err, ngx_log_t *log);

/* A refusal that every event would meet. */
void ngx_payment_producer_topic_shut(ngx_payment_producer_topic_t *t,
    rd_kafka_resp_err_t err, ngx_log_t *log);

/* SHUT: may one event be sent now?  The next one may after a pause. */
ngx_uint_t ngx_payment_producer_topic_probe(ngx_payment_producer_topic_t *t,
    uint64_t now_ns, ngx_msec_t pause);

#endif /* NGX_PAYMENT_PRODUCER_TOPIC_H */
