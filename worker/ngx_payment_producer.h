/*
 * The way to Kafka: one librdkafka producer at a time, on the event loop.
 *
 * Owner: the helper process, or the single one.  librdkafka's threads are born
 * in it, after every fork, with all signals blocked.
 *
 * Limits: as many events as payment_window.h allows, at most max_in_flight of
 * each shard, and 64 MB of them in librdkafka's queue; no event stays there
 * longer than ngx_payment_producer_conf_timeout().
 * Nothing here blocks: a producer is destroyed by a thread of its own, and at
 * most NGX_PAYMENT_PRODUCER_ENDING_MAX such threads live at a time.
 *
 * Whatever was given to a producer is told of exactly once, by report().
 */

#ifndef NGX_PAYMENT_PRODUCER_H
#define NGX_PAYMENT_PRODUCER_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_outbox_conf.h"
#include "ngx_payment_producer_copies.h"
#include "ngx_payment_producer_spans.h"
#include "ngx_payment_producer_topic.h"
#include "ngx_payment_row.h"
#include "payment_inflight.h"
#include "payment_stopwatch.h"
#include "payment_window.h"

#include <librdkafka/rdkafka.h>


#define NGX_PAYMENT_PRODUCER_ENDING_MAX   4
#define NGX_PAYMENT_PRODUCER_TOPICS_MAX   32


typedef enum {
    NGX_PAYMENT_SEND_OK = 0,       /* report() will follow */
    NGX_PAYMENT_SEND_FULL,         /* back-pressure: room() will follow */
    NGX_PAYMENT_SEND_REFUSED,      /* for the event's own sake */
    NGX_PAYMENT_SEND_SHUT,         /* for the topic's sake */
    NGX_PAYMENT_SEND_NO_PRODUCER   /* room() will follow */
} ngx_payment_send_e;


typedef enum {
    NGX_PAYMENT_VERDICT_DELIVERED = 0,
    NGX_PAYMENT_VERDICT_FAILED,          /* no fault of the event's */
    NGX_PAYMENT_VERDICT_FAILED_ITSELF,   /* this event, or one in its batch */
    NGX_PAYMENT_VERDICT_FAILED_TOPIC,    /* every event of its topic would */
    NGX_PAYMENT_VERDICT_UNSENT           /* given up by us */
} ngx_payment_verdict_e;


typedef enum {
    NGX_PAYMENT_PRODUCER_NONE = 0,
    NGX_PAYMENT_PRODUCER_UP,
    NGX_PAYMENT_PRODUCER_SPENT     /* purged: waits for its last reports */
} ngx_payment_producer_state_e;


typedef struct {
    void   (*report)(void *data, payment_event_t *e,
                     ngx_payment_verdict_e verdict, rd_kafka_resp_err_t err);

    /* all that was sent and not reported never will be */
    void   (*abandoned)(void *data);

    /* after reports, or there is a new producer: go on sending */
    void   (*room)(void *data);
} ngx_payment_producer_handlers_t;


typedef struct {
    ngx_payment_outbox_conf_t         *conf;
    ngx_log_t                         *log;
    const ngx_payment_producer_handlers_t   *handlers;
    void                              *data;
    ngx_payment_broker_t              *brokers;      /* of this life */
    ngx_payment_producer_spans_t      *spans;        /* NULL: no traces */

    ngx_payment_producer_state_e       state;
    ngx_msec_t                         timeout;      /* of an event */
    rd_kafka_t                        *rk;
    rd_kafka_queue_t                  *queue;
    ngx_connection_t                  *connection;   /* the queue's eventfd */
    ngx_uint_t                         outstanding;  /* sent, not reported */
    ngx_uint_t                         stuck;        /* of these, in lanes */
    ngx_uint_t                         busy;         /* other lanes with any */
    ngx_uint_t                         behind;       /* lanes that are waited
                                                        for */
    uint64_t                           opened_ns;
    uint64_t                           latest_ns;    /* a delivered one's */
    uint64_t                           moved_ns;     /* one was delivered */
    int32_t                          (*partitioner)(const rd_kafka_topic_t *,
                                           const void *, size_t, int32_t,
                                           void *, void *);

    ngx_payment_producer_topic_t       topics[NGX_PAYMENT_PRODUCER_TOPICS_MAX];
    ngx_uint_t                         ntopics;
    ngx_payment_producer_copies_t     *copies;       /* being asked for */
    ngx_uint_t                         copied;       /* topics that this
                                                        producer has asked
                                                        about */

    payment_window_t                   window;       /* of outstanding */
    payment_stopwatch_t                stopwatch;    /* held by a quota */

    ngx_event_t                        timer;        /* NONE, SPENT */
    ngx_event_t                        resume;       /* throttled: its end */
    uint64_t                           give_up_at;   /* SPENT: ms */
    ngx_uint_t                         fatal;        /* errors, since an event
                                                        was delivered */
    uint64_t                           fatal_at;     /* ms: the latest */
    uint64_t                           start_at;     /* ms: not before that */
    uint64_t                           down_since_ns;  /* 0: not known */
    rd_kafka_resp_err_t                last_error;   /* since it was reached */
    unsigned                           topic_for_each_type:1;
    unsigned                           told:1;       /* an error since then is
                                                        in the log */
    unsigned                           forgiven:1;   /* its fatal error */
    unsigned                           closing:1;
    unsigned                           up:1;         /* Kafka was reached */
} ngx_payment_producer_t;


/* librdkafka's name of an error of which 16 bits were kept. */
const char *ngx_payment_producer_error_name(uint16_t code);

/* Starts the first producer; room() follows when there is one. */
void ngx_payment_producer_open(ngx_payment_producer_t *p);

/* Where an event goes that has its row: from now on it knows its topic and its
 * lane.  NGX_DECLINED: there can be no such topic. */
ngx_int_t ngx_payment_producer_route(ngx_payment_producer_t *p,
    payment_event_t *e);

/* Of an event that was routed: does its topic take it, as far as is known? */
ngx_uint_t ngx_payment_producer_takes(ngx_payment_producer_t *p,
    payment_event_t *e);
ngx_payment_producer_lane_t *ngx_payment_producer_lane(
    ngx_payment_producer_t *p, payment_event_t *e);

/*
 * The time in which Kafka was asked to take events: it stands still while a
 * broker, for a quota's sake, lets this client wait, and while this process
 * does not run.  SENT events are since then.
 */
uint64_t ngx_payment_producer_time(ngx_payment_producer_t *p,
    uint64_t now_ns);

/* May one more event be sent; and one in this lane, so that others are left
 * their part?  If not, room() will follow. */
ngx_uint_t ngx_payment_producer_has_room(ngx_payment_producer_t *p,
    uint64_t now_ns);
ngx_uint_t ngx_payment_producer_lane_has_room(ngx_payment_producer_t *p,
    ngx_payment_producer_lane_t *lane, uint64_t now_ns);

/* Looks for lanes that are stuck, or fall behind; 1: one more is stuck. */
ngx_uint_t ngx_payment_producer_look(ngx_payment_producer_t *p,
    uint64_t now_ns);

/* An event failed: does that say of its lane that it takes none, and of Kafka
 * nothing?  If so, the lane is stuck from now on. */
ngx_uint_t ngx_payment_producer_blames_lane(ngx_payment_producer_t *p,
    payment_event_t *e, rd_kafka_resp_err_t err);

/* It is not the lanes, but Kafka: none is stuck. */
void ngx_payment_producer_acquit(ngx_payment_producer_t *p);

/* An event was delivered.  NGX_OK: its topic or its lane took none before. */
ngx_int_t ngx_payment_producer_delivered(ngx_payment_producer_t *p,
    payment_event_t *e, uint64_t now_ns);

ngx_payment_send_e ngx_payment_producer_send(ngx_payment_producer_t *p,
    payment_event_t *e, uint64_t epoch, rd_kafka_resp_err_t *err);

/*
 * Nothing more leaves: what is in the queue is reported UNSENT at once, what
 * is with the broker as it comes, and then a new producer takes over.  (A
 * purge leaves a gap in an idempotent producer's numbers, so the old one can't
 * go on.)  With patience, in ms, what is with the broker is given up, too, and
 * waited for no longer than that.
 */
void ngx_payment_producer_abort(ngx_payment_producer_t *p,
    ngx_msec_t patience);

/* Does what is sent now wait for the producer's first connections? */
ngx_uint_t ngx_payment_producer_connects(ngx_payment_producer_t *p,
    uint64_t now_ns);

/* Is Kafka believed to be there?  So it is until the library says otherwise. */
ngx_uint_t ngx_payment_producer_reaches(ngx_payment_producer_t *p);

/* The end: no reports any more.  Waits timeout at most: NGX_OK when nothing is
 * left of it, NGX_AGAIN when threads live on. */
ngx_int_t ngx_payment_producer_close(ngx_payment_producer_t *p,
    ngx_msec_t timeout);

#endif /* NGX_PAYMENT_PRODUCER_H */
