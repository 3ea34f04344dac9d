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
 * most NGX_PAYMENT_PRODUCER_REMAINS_MAX such threads live at a time.
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
#include "ngx_payment_producer_lanes.h"
#include "ngx_payment_producer_spans.h"
#include "ngx_payment_row.h"
#include "payment_inflight.h"

#include <librdkafka/rdkafka.h>


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
    ngx_payment_producer_lanes_t      *lanes;        /* what is with it */

    ngx_payment_producer_state_e       state;
    ngx_msec_t                         timeout;      /* of an event */
    rd_kafka_t                        *rk;
    rd_kafka_queue_t                  *queue;
    ngx_connection_t                  *connection;   /* the queue's eventfd */
    uint64_t                           opened_ns;
    int32_t                          (*partitioner)(const rd_kafka_topic_t *,
                                           const void *, size_t, int32_t,
                                           void *, void *);

    ngx_payment_producer_copies_t     *copies;       /* being asked for */
    ngx_uint_t                         copied;       /* topics that this
                                                        producer has asked
                                                        about */

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
    unsigned                           idempotent:1;
    unsigned                           told:1;       /* an error since then is
                                                        in the log */
    unsigned                           forgiven:1;   /* its fatal error */
    unsigned                           closing:1;
    unsigned                           up:1;         /* Kafka was reached */
} ngx_payment_producer_t;


/* librdkafka's name of an error of which 16 bits were kept. */
const char *ngx_payment_producer_error_name(uint16_t code);

/* Starts the first producer; room() follows when there is one.  gap_ns: whoever
 * did not look at the lanes for longer did not run. */
void ngx_payment_producer_open(ngx_payment_producer_t *p, uint64_t gap_ns);

/* Where an event goes that has its row: from now on it knows its topic and its
 * lane.  NGX_DECLINED: there can be no such topic. */
ngx_int_t ngx_payment_producer_route(ngx_payment_producer_t *p,
    payment_event_t *e);

/* May one more event be sent?  If not, room() will follow. */
ngx_uint_t ngx_payment_producer_has_room(ngx_payment_producer_t *p,
    uint64_t now_ns);

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
