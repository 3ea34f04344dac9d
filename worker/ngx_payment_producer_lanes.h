/*
 * What is with a producer, by topics and their lanes: how much may be, and
 * which lanes take nothing.
 *
 * A connection to a broker takes few requests at a time, each of one partition,
 * and a partition may be without a leader.  So each lane has its part of the
 * window; one that falls behind is waited for; and one in which nothing moves,
 * while events are delivered elsewhere, is stuck: what is in it takes no room
 * from others.  When nothing is delivered anywhere, it is Kafka.
 *
 * Owner: the helper process; they outlive the producers.
 * Limits: NGX_PAYMENT_PRODUCER_TOPICS_MAX topics of NGX_PAYMENT_PRODUCER_LANES
 * lanes; as many events as payment_window.h allows.
 */

#ifndef NGX_PAYMENT_PRODUCER_LANES_H
#define NGX_PAYMENT_PRODUCER_LANES_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_outbox_conf.h"
#include "ngx_payment_producer_topic.h"
#include "payment_inflight.h"
#include "payment_stopwatch.h"
#include "payment_window.h"

#include <librdkafka/rdkafka.h>


#define NGX_PAYMENT_PRODUCER_TOPICS_MAX   32


typedef struct {
    ngx_log_t                     *log;
    ngx_payment_producer_topic_t   topics[NGX_PAYMENT_PRODUCER_TOPICS_MAX];
    ngx_uint_t                     ntopics;

    payment_window_t               window;
    payment_stopwatch_t            stopwatch;    /* held by a quota; looked at
                                                    in each tick */
    uint64_t                       patience_ns;  /* with a lane */

    ngx_uint_t                     outstanding;  /* sent, and not reported */
    ngx_uint_t                     stuck;        /* of these, in lanes that
                                                    are */
    ngx_uint_t                     busy;         /* other lanes with any */
    ngx_uint_t                     behind;       /* lanes that are waited for */
    uint64_t                       latest_ns;    /* a delivered one's sending */
    uint64_t                       moved_ns;     /* one was delivered */
} ngx_payment_producer_lanes_t;


/* timeout: how long an event may take, in ms.  gap_ns: see
 * payment_stopwatch_init(). */
void ngx_payment_producer_lanes_init(ngx_payment_producer_lanes_t *lanes,
    const ngx_payment_outbox_conf_t *conf, ngx_msec_t timeout, uint64_t gap_ns,
    ngx_log_t *log);

/* A broker enforces a quota until then, or later; returns the latest. */
uint64_t ngx_payment_producer_lanes_throttled(
    ngx_payment_producer_lanes_t *lanes, uint64_t now_ns, uint64_t until_ns);

/* There is a new producer, with which there is nothing. */
void ngx_payment_producer_lanes_restart(ngx_payment_producer_lanes_t *lanes,
    uint64_t now_ns);

/* Nothing is with the producer any more. */
void ngx_payment_producer_lanes_empty(ngx_payment_producer_lanes_t *lanes);

/*
 * The time in which Kafka was asked to take events: it stands still while a
 * broker, for a quota's sake, lets this client wait, and while this process
 * does not run.  SENT events are since then.
 */
uint64_t ngx_payment_producer_lanes_time(ngx_payment_producer_lanes_t *lanes,
    uint64_t now_ns);

ngx_payment_producer_lane_t *ngx_payment_producer_lanes_of(
    ngx_payment_producer_lanes_t *lanes, const payment_event_t *e);

/* Does an event's topic, and its lane, take it, as far as is known? */
ngx_uint_t ngx_payment_producer_lanes_take(ngx_payment_producer_lanes_t *lanes,
    const payment_event_t *e);

/* May one more event be sent; and one in this lane, so that others are left
 * their part? */
ngx_uint_t ngx_payment_producer_lanes_have_room(
    ngx_payment_producer_lanes_t *lanes, uint64_t now_ns);
ngx_uint_t ngx_payment_producer_lanes_have_room_in(
    ngx_payment_producer_lanes_t *lanes, ngx_payment_producer_lane_t *lane,
    uint64_t now_ns);

/* An event was sent, and is so since then; and it was reported, whatever the
 * report says. */
void ngx_payment_producer_lanes_sent(ngx_payment_producer_lanes_t *lanes,
    payment_event_t *e, uint64_t now_ns);
void ngx_payment_producer_lanes_reported(ngx_payment_producer_lanes_t *lanes,
    const payment_event_t *e);

/* It was delivered.  NGX_OK: its topic or its lane took none before. */
ngx_int_t ngx_payment_producer_lanes_delivered(
    ngx_payment_producer_lanes_t *lanes, const payment_event_t *e,
    uint64_t now_ns);

/* It failed: does that say of its lane that it takes none, and of Kafka
 * nothing?  If so, the lane is stuck from now on. */
ngx_uint_t ngx_payment_producer_lanes_blamed(
    ngx_payment_producer_lanes_t *lanes, const payment_event_t *e,
    rd_kafka_resp_err_t err);

/* Looks for lanes that are stuck, or fall behind; 1: one more is stuck. */
ngx_uint_t ngx_payment_producer_lanes_look(ngx_payment_producer_lanes_t *lanes,
    uint64_t now_ns);

/* It is not the lanes, but Kafka: none is stuck. */
void ngx_payment_producer_lanes_acquit(ngx_payment_producer_lanes_t *lanes);

#endif /* NGX_PAYMENT_PRODUCER_LANES_H */
