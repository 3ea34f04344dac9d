/*
 * A topic that events are sent to, and whether it takes them.
 *
 * A refusal may be about the event, or about what every event would meet: a
 * topic that is not there or forbidden, a clock that is wrong.  The first makes
 * an event a dead letter in the end; the second is waited for, and no event is
 * blamed.  Kafka's error does not always tell them apart, so another payment's
 * event decides: when it meets the same, it is the topic.
 *
 * A topic may also be sick in a part: a partition without a leader takes
 * nothing, and nothing is said.  So each topic has lanes, one for each of its
 * partitions, or for several.  A lane in which nothing moves for the slow-call
 * time, while events are delivered elsewhere that were sent later, is stuck.
 * When nothing is delivered anywhere it is not the lane, but Kafka.
 *
 * Owner: the helper process; a topic outlives the producers.
 * Limits: NGX_PAYMENT_PRODUCER_LANES lanes a topic.
 */

#ifndef NGX_PAYMENT_PRODUCER_TOPIC_H
#define NGX_PAYMENT_PRODUCER_TOPIC_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_producer_conf.h"
#include "ngx_payment_storm.h"

#include <librdkafka/rdkafka.h>


typedef enum {
    NGX_PAYMENT_TOPIC_WELL = 0,
    NGX_PAYMENT_TOPIC_DOUBTED,     /* refused several payments' events alone */
    NGX_PAYMENT_TOPIC_SHUT         /* takes none: one is sent now and then */
} ngx_payment_producer_topic_state_e;


#define NGX_PAYMENT_PRODUCER_LANES    64


/* the partitions of a topic whose numbers are equal, modulo the lanes */

typedef struct {
    ngx_uint_t                 in_flight;   /* events */
    uint64_t                   moved_ns;    /* delivered one, or was empty */
    uint64_t                   latest_ns;   /* when a delivered one was sent */
    uint64_t                   scout_at_ns; /* stuck: when one may be sent */
    ngx_uint_t                 past;        /* events passed by, in pump */
    ngx_uint_t                 pump;        /* the number of a relay's pump */
    void                      *alone;       /* whose events are tried one by
                                               one, and nothing else is sent */
    ngx_uint_t                 tried;       /* of these, in a row */
    unsigned                   proven:1;    /* this producer delivered one */
    unsigned                   stuck:1;
    unsigned                   told:1;      /* that it is, is in the log */
    unsigned                   behind:1;    /* nothing is sent before it */
    unsigned                   awaited:1;   /* nor was, since it moved */
} ngx_payment_producer_lane_t;


typedef struct {
    ngx_payment_producer_topic_state_e   state;
    void                      *producer;    /* whose it is */
    ngx_str_t                  type;        /* of events; empty: all types */
    rd_kafka_topic_t          *handle;      /* NULL: the producer has none */
    uint32_t                   deliveries;
    uint64_t                   refused;     /* a payment, since a delivery */
    ngx_uint_t                 told;        /* that it refuses several, since
                                               then */
    uint64_t                   scout_at_ns; /* SHUT: when one may be sent */
    ngx_payment_storm_t        refusals;    /* lines about its own */
    ngx_payment_storm_t        stuck;       /* lines about its lanes */

    ngx_uint_t                 unknown;     /* times in a row that Kafka has
                                               said so */
    ngx_uint_t                 replicas;    /* 0: not known yet */
    ngx_uint_t                 insync;      /* min.insync.replicas; the same */

    ngx_atomic_t               partitions;  /* 0: not known yet */
    ngx_payment_producer_lane_t          lanes[NGX_PAYMENT_PRODUCER_LANES];

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

/* Kafka says that there is none, or that it is not ours to see; or it knows
 * it. */
void ngx_payment_producer_topic_unknown(ngx_payment_producer_topic_t *t,
    rd_kafka_resp_err_t err, ngx_log_t *log);
void ngx_payment_producer_topic_known(ngx_payment_producer_topic_t *t,
    ngx_log_t *log);

/* Nothing moves in one of its lanes, although it does elsewhere. */
void ngx_payment_producer_topic_stuck(ngx_payment_producer_topic_t *t,
    ngx_uint_t lane, ngx_log_t *log);

/* An event was delivered there.  NGX_OK: the lane was stuck, and is not now. */
ngx_int_t ngx_payment_producer_topic_unstuck(ngx_payment_producer_topic_t *t,
    ngx_uint_t lane, ngx_log_t *log);

/* Does it take events of this lane, as far as is known? */
ngx_uint_t ngx_payment_producer_topic_takes(ngx_payment_producer_topic_t *t,
    ngx_uint_t lane);

/* If not: may one event be sent now?  The next one may after a pause. */
ngx_uint_t ngx_payment_producer_topic_scout(ngx_payment_producer_topic_t *t,
    ngx_uint_t lane, uint64_t now_ns, ngx_msec_t pause, ngx_log_t *log);

#endif /* NGX_PAYMENT_PRODUCER_TOPIC_H */
