/*
 * The producer's life, sending, and what librdkafka tells; see
 * ngx_payment_producer.h.
 *
 *   NONE -> UP       a timer, or at once
 *   UP -> SPENT      abort(), or librdkafka says that it can't go on
 *   SPENT -> NONE    nothing is outstanding, or it was waited for long enough;
 *                    a thread destroys what is left
 */

#include "ngx_payment_eventfd.h"
#include "ngx_payment_producer.h"
#include "ngx_payment_producer_brokers.h"
#include "ngx_payment_producer_conf.h"
#include "ngx_payment_producer_message.h"
#include "ngx_payment_producer_remains.h"
#include "ngx_payment_storm.h"
#include "ngx_payment_thread.h"

#include <signal.h>
#include <sys/eventfd.h>


#define NGX_PAYMENT_PRODUCER_RETRY      1000     /* ms: rd_kafka_new() failed */
#define NGX_PAYMENT_PRODUCER_PURGE      50       /* ms: between two purges */
#define NGX_PAYMENT_PRODUCER_PATIENCE   1000     /* ms beyond the timeout */
#define NGX_PAYMENT_PRODUCER_PURGED     500      /* ms after purging all */
#define NGX_PAYMENT_PRODUCER_THROTTLE_MAX   10000 /* ms: believed of a broker */
#define NGX_PAYMENT_PRODUCER_THROTTLE_LONG  100   /* ms */
#define NGX_PAYMENT_PRODUCER_EVENTS     64       /* in one go of the loop */
#define NGX_PAYMENT_PRODUCER_FATAL      100      /* ms: after a second error */
#define NGX_PAYMENT_PRODUCER_FATAL_MAX  10000    /* ms; it doubles, up to it */
#define NGX_PAYMENT_PRODUCER_WELL       10000    /* ms without such an error */
#define NGX_PAYMENT_PRODUCER_FATAL_STEPS  8      /* until it does */
#define NGX_PAYMENT_PRODUCER_FORGIVE    60000    /* ms: one such error in it */


static void ngx_payment_producer_start(ngx_payment_producer_t *p);
static rd_kafka_t *ngx_payment_producer_new(ngx_payment_producer_t *p);
static void ngx_payment_producer_set_partitioner(ngx_payment_producer_t *p,
    rd_kafka_conf_t *rkc);
static int32_t ngx_payment_producer_partition(const rd_kafka_topic_t *rkt,
    const void *key, size_t len, int32_t partitions, void *topic, void *e);
static ngx_int_t ngx_payment_producer_watch(ngx_payment_producer_t *p);
static void ngx_payment_producer_warm_up(ngx_payment_producer_t *p);
static ngx_payment_producer_topic_t *ngx_payment_producer_get_topic(
    ngx_payment_producer_t *p, ngx_str_t *type);
static rd_kafka_topic_t *ngx_payment_producer_get_handle(
    ngx_payment_producer_t *p, ngx_payment_producer_topic_t *t);
static ngx_uint_t ngx_payment_producer_is_idempotent(rd_kafka_conf_t *rkc);
static rd_kafka_resp_err_t ngx_payment_producer_answer(
    ngx_payment_producer_t *p, const rd_kafka_message_t *message);
static ngx_payment_verdict_e ngx_payment_producer_judge(
    ngx_payment_producer_t *p, rd_kafka_resp_err_t err);
static void ngx_payment_producer_handler(ngx_event_t *ev);
static void ngx_payment_producer_serve(ngx_payment_producer_t *p);
static void ngx_payment_producer_reports(ngx_payment_producer_t *p,
    rd_kafka_event_t *event);
static void ngx_payment_producer_error(ngx_payment_producer_t *p,
    rd_kafka_event_t *event);
static void ngx_payment_producer_fatal(ngx_payment_producer_t *p);
static void ngx_payment_producer_log(ngx_payment_producer_t *p,
    rd_kafka_event_t *event);
static void ngx_payment_producer_remember(ngx_payment_producer_t *p,
    rd_kafka_resp_err_t err);
static void ngx_payment_producer_stats(ngx_payment_producer_t *p,
    rd_kafka_event_t *event);
static void ngx_payment_producer_ask_copies(ngx_payment_producer_t *p);
static void ngx_payment_producer_copies(ngx_payment_producer_t *p,
    rd_kafka_event_t *event);
static void ngx_payment_producer_throttled(rd_kafka_t *rk, const char *name,
    int32_t id, int ms, void *data);
static void ngx_payment_producer_resume(ngx_event_t *ev);
static void ngx_payment_producer_up(ngx_payment_producer_t *p);
static void ngx_payment_producer_timer(ngx_event_t *ev);
static void ngx_payment_producer_end(ngx_payment_producer_t *p);


/* The types of events that there are now.  The topic of another type is looked
 * up when its first event comes. */

static ngx_str_t  ngx_payment_producer_types[] = {
    ngx_string("authorized"),
    ngx_string("captured"),
    ngx_string("refunded"),
    ngx_string("voided"),
    ngx_null_string
};


void
ngx_payment_producer_open(ngx_payment_producer_t *p, uint64_t gap_ns)
{
    p->state = NGX_PAYMENT_PRODUCER_NONE;
    p->timeout = ngx_payment_producer_conf_timeout(p->conf);
    p->topic_for_each_type = (ngx_strstr(p->conf->topic.data, "$event")
                              != NULL);
    p->timer.handler = ngx_payment_producer_timer;
    p->timer.data = p;
    p->timer.log = p->log;
    p->timer.cancelable = 1;
    p->resume.handler = ngx_payment_producer_resume;
    p->resume.data = p;
    p->resume.log = p->log;
    p->resume.cancelable = 1;

    ngx_payment_producer_lanes_init(p->lanes, p->conf, p->timeout, gap_ns,
                                    p->log);

    ngx_payment_producer_start(p);
}


static void
ngx_payment_producer_start(ngx_payment_producer_t *p)
{
    p->rk = ngx_payment_producer_new(p);

    if (p->rk == NULL || ngx_payment_producer_watch(p) != NGX_OK) {
        ngx_payment_producer_end(p);
        ngx_add_timer(&p->timer, NGX_PAYMENT_PRODUCER_RETRY);
        return;
    }

    p->state = NGX_PAYMENT_PRODUCER_UP;
    p->down_since_ns = 0;
    p->copied = 0;
    p->forgiven = 0;

    p->opened_ns = ngx_payment_clock_ns();
    ngx_payment_producer_lanes_restart(p->lanes, p->opened_ns);

    (void) ngx_atomic_fetch_add(&p->conf->stats->helper.producers, 1);

    ngx_payment_producer_warm_up(p);

    p->handlers->room(p->data);
}


static rd_kafka_t *
ngx_payment_producer_new(ngx_payment_producer_t *p)
{
    char              errstr[512];
    u_char            text[512];
    sigset_t          all, old;
    rd_kafka_t       *rk;
    rd_kafka_conf_t  *rkc;

    text[0] = '\0';
    rkc = ngx_payment_producer_conf_create(p->conf, text, sizeof(text));

    if (rkc == NULL) {
        ngx_log_error(NGX_LOG_ALERT, p->log, 0,
                      "payment outbox: no Kafka producer: %s", text);
        return NULL;
    }

    rd_kafka_conf_set_events(rkc, RD_KAFKA_EVENT_DR|RD_KAFKA_EVENT_ERROR
                                  |RD_KAFKA_EVENT_LOG|RD_KAFKA_EVENT_STATS);
    rd_kafka_conf_set_throttle_cb(rkc, ngx_payment_producer_throttled);
    rd_kafka_conf_set_opaque(rkc, p);
    ngx_payment_producer_set_partitioner(p, rkc);
    p->idempotent = ngx_payment_producer_is_idempotent(rkc);

    /* The library's threads inherit the mask: signals are the event loop's. */

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &old);

    rk = NULL;

    if (rd_kafka_conf_set(rkc, "bootstrap.servers",
                          (char *) p->conf->brokers.data, errstr,
                          sizeof(errstr))
        == RD_KAFKA_CONF_OK)
    {
        rk = rd_kafka_new(RD_KAFKA_PRODUCER, rkc, errstr, sizeof(errstr));
    }

    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);

    if (rk == NULL) {
        ngx_log_error(NGX_LOG_ALERT, p->log, 0,
                      "payment outbox: rd_kafka_new() failed: %s", errstr);
        rd_kafka_conf_destroy(rkc);
        return NULL;
    }

    (void) rd_kafka_set_log_queue(rk, NULL);

    return rk;
}


/*
 * The partitions are the library's to choose, by a function that a property
 * names; it is called here, so that a topic knows how many partitions it has,
 * and an event its lane.
 */

static void
ngx_payment_producer_set_partitioner(ngx_payment_producer_t *p,
    rd_kafka_conf_t *rkc)
{
    char                    name[64];
    size_t                  size;
    ngx_uint_t              i;
    rd_kafka_topic_conf_t  *conf;

    static const struct {
        const char  *name;
        int32_t    (*partitioner)(const rd_kafka_topic_t *, const void *,
                                  size_t, int32_t, void *, void *);
    } partitioners[] = {
        { "consistent", rd_kafka_msg_partitioner_consistent },
        { "consistent_random", rd_kafka_msg_partitioner_consistent_random },
        { "murmur2", rd_kafka_msg_partitioner_murmur2 },
        { "murmur2_random", rd_kafka_msg_partitioner_murmur2_random },
        { "fnv1a", rd_kafka_msg_partitioner_fnv1a },
        { "fnv1a_random", rd_kafka_msg_partitioner_fnv1a_random }
    };

    size = sizeof(name);
    conf = rd_kafka_conf_get_default_topic_conf(rkc);

    if (conf == NULL
        || rd_kafka_topic_conf_get(conf, "partitioner", name, &size)
           != RD_KAFKA_CONF_OK)
    {
        return;
    }

    for (i = 0; i < sizeof(partitioners) / sizeof(partitioners[0]); i++) {
        if (ngx_strcmp(name, partitioners[i].name) == 0) {
            p->partitioner = partitioners[i].partitioner;
            rd_kafka_topic_conf_set_partitioner_cb(conf,
                                           ngx_payment_producer_partition);
            return;
        }
    }
}


/* Called by this thread, or by one of the library's. */

static int32_t
ngx_payment_producer_partition(const rd_kafka_topic_t *rkt, const void *key,
    size_t len, int32_t partitions, void *topic, void *e)
{
    ngx_payment_producer_t        *p;
    ngx_payment_producer_topic_t  *t;

    t = topic;
    p = t->producer;
    t->partitions = partitions;

    return p->partitioner(rkt, key, len, partitions, topic, e);
}


static ngx_uint_t
ngx_payment_producer_is_idempotent(rd_kafka_conf_t *rkc)
{
    char    value[8];
    size_t  size;

    size = sizeof(value);

    return rd_kafka_conf_get(rkc, "enable.idempotence", value, &size)
           == RD_KAFKA_CONF_OK
           && ngx_strcmp(value, "true") == 0;
}


/* The library's queue of reports, errors and logs writes to an eventfd, which
 * the event loop watches, whenever the queue stops being empty. */

static ngx_int_t
ngx_payment_producer_watch(ngx_payment_producer_t *p)
{
    ngx_fd_t           fd;
    ngx_connection_t  *c;

    static const uint64_t  one = 1;

    fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);
    if (fd == -1) {
        ngx_log_error(NGX_LOG_ALERT, p->log, ngx_errno,
                      "payment outbox: eventfd() failed");
        return NGX_ERROR;
    }

    c = ngx_payment_eventfd_watch(fd, ngx_payment_producer_handler, p, p->log);
    if (c == NULL) {
        (void) close(fd);
        return NGX_ERROR;
    }

    p->connection = c;
    p->queue = rd_kafka_queue_get_main(p->rk);
    rd_kafka_queue_io_event_enable(p->queue, fd, &one, sizeof(uint64_t));

    /* The library's threads run already, and what they put into the queue
     * before this moment wrote to no eventfd: look once. */

    ngx_post_event(c->read, &ngx_posted_events);

    return NGX_OK;
}


/* A handle asks for its topic's metadata when it is made, so that the first
 * event of the topic does not wait for them. */

static void
ngx_payment_producer_warm_up(ngx_payment_producer_t *p)
{
    ngx_str_t                     *type;
    ngx_payment_producer_topic_t  *t;

    for (type = ngx_payment_producer_types; type->len; type++) {

        t = ngx_payment_producer_get_topic(p, type);

        if (t) {
            (void) ngx_payment_producer_get_handle(p, t);
        }
    }
}


ngx_int_t
ngx_payment_producer_route(ngx_payment_producer_t *p, payment_event_t *e)
{
    int32_t                        partition;
    ngx_uint_t                     partitions;
    ngx_payment_row_t             *row;
    ngx_payment_producer_topic_t  *t;

    row = e->data;
    t = ngx_payment_producer_get_topic(p, &row->type);

    if (t == NULL) {
        return NGX_DECLINED;
    }

    partition = 0;
    partitions = t->partitions;

    if (partitions) {
        partition = p->partitioner(t->handle, row->merchant.data,
                                   row->merchant.len, (int32_t) partitions,
                                   NULL, NULL);
    }

    e->topic = (uint8_t) (t - p->lanes->topics);
    e->lane = (uint8_t) (partition % NGX_PAYMENT_PRODUCER_LANES);

    return NGX_OK;
}


/* One topic for each type of events, or one for all. */

static ngx_payment_producer_topic_t *
ngx_payment_producer_get_topic(ngx_payment_producer_t *p, ngx_str_t *type)
{
    ngx_uint_t                     i;
    ngx_payment_producer_topic_t  *t;

    for (i = 0; i < p->lanes->ntopics; i++) {
        t = &p->lanes->topics[i];

        if (!p->topic_for_each_type
            || (t->type.len == type->len
                && ngx_memcmp(t->type.data, type->data, type->len) == 0))
        {
            return t;
        }
    }

    if (p->lanes->ntopics == NGX_PAYMENT_PRODUCER_TOPICS_MAX) {
        return NULL;
    }

    t = &p->lanes->topics[p->lanes->ntopics];
    ngx_memzero(t, sizeof(ngx_payment_producer_topic_t));
    t->producer = p;

    if (ngx_payment_producer_conf_topic(p->conf, type, t->name) == 0) {
        return NULL;
    }

    t->type.data = ngx_alloc(type->len, p->log);
    if (t->type.data == NULL) {
        return NULL;
    }

    ngx_memcpy(t->type.data, type->data, type->len);
    t->type.len = type->len;

    p->lanes->ntopics++;

    return t;
}


static rd_kafka_topic_t *
ngx_payment_producer_get_handle(ngx_payment_producer_t *p,
    ngx_payment_producer_topic_t *t)
{
    rd_kafka_topic_conf_t  *conf;

    if (t->handle == NULL) {
        conf = rd_kafka_default_topic_conf_dup(p->rk);
        rd_kafka_topic_conf_set_opaque(conf, t);
        t->handle = rd_kafka_topic_new(p->rk, (char *) t->name, conf);
    }

    return t->handle;
}


ngx_uint_t
ngx_payment_producer_has_room(ngx_payment_producer_t *p, uint64_t now_ns)
{
    return p->state == NGX_PAYMENT_PRODUCER_UP
           && ngx_payment_producer_lanes_have_room(p->lanes, now_ns);
}


ngx_payment_send_e
ngx_payment_producer_send(ngx_payment_producer_t *p, payment_event_t *e,
    uint64_t epoch, rd_kafka_resp_err_t *err)
{
    ngx_payment_row_t             *row;
    rd_kafka_topic_t              *handle;
    rd_kafka_headers_t            *headers;
    ngx_payment_producer_topic_t  *topic;

    if (p->state != NGX_PAYMENT_PRODUCER_UP) {
        return NGX_PAYMENT_SEND_NO_PRODUCER;
    }

    row = e->data;
    topic = NULL;
    handle = NULL;

    if (ngx_payment_producer_route(p, e) == NGX_OK) {
        topic = &p->lanes->topics[e->topic];
        handle = ngx_payment_producer_get_handle(p, topic);
    }

    if (handle == NULL) {
        *err = RD_KAFKA_RESP_ERR__INVALID_ARG;
        return NGX_PAYMENT_SEND_REFUSED;
    }

    headers = ngx_payment_producer_message_headers(p->conf, row, epoch,
                                 ngx_payment_producer_spans_begin(p->spans,
                                                                  e, row));

    *err = rd_kafka_producev(p->rk,
               RD_KAFKA_V_RKT(handle),
               RD_KAFKA_V_PARTITION(RD_KAFKA_PARTITION_UA),
               RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
               RD_KAFKA_V_KEY(row->merchant.data, row->merchant.len),
               RD_KAFKA_V_VALUE(row->payload.data, row->payload.len),
               RD_KAFKA_V_HEADERS(headers),
               RD_KAFKA_V_OPAQUE(e),
               RD_KAFKA_V_END);

    if (*err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        ngx_payment_producer_lanes_sent(p->lanes, e, ngx_payment_clock_ns());
        return NGX_PAYMENT_SEND_OK;
    }

    rd_kafka_headers_destroy(headers);
    ngx_payment_producer_spans_drop(p->spans, e);

    if (*err == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        (void) ngx_atomic_fetch_add(&p->conf->stats->helper.queue_full, 1);
        return NGX_PAYMENT_SEND_FULL;
    }

    if (*err == RD_KAFKA_RESP_ERR__FATAL) {
        /* The fatal error is in the queue, too, and there it leads to a new
         * producer. */
        return NGX_PAYMENT_SEND_NO_PRODUCER;
    }

    switch (ngx_payment_producer_judge(p, *err)) {

    case NGX_PAYMENT_VERDICT_FAILED_ITSELF:
        return NGX_PAYMENT_SEND_REFUSED;

    case NGX_PAYMENT_VERDICT_FAILED_TOPIC:
        return NGX_PAYMENT_SEND_SHUT;

    default:
        break;
    }

    return NGX_PAYMENT_SEND_FULL;
}


/*
 * Whose fault is it?  A topic that is missing or forbidden, and a time that it
 * does not take, are nobody's but the operator's to mend, and are waited for.
 * When there is one topic for all, that is an outage; with a topic for each
 * type of event the events of the others go on.
 */

static ngx_payment_verdict_e
ngx_payment_producer_judge(ngx_payment_producer_t *p, rd_kafka_resp_err_t err)
{
    switch (err) {

    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return NGX_PAYMENT_VERDICT_DELIVERED;

    case RD_KAFKA_RESP_ERR__PURGE_QUEUE:
    case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT:
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR__DESTROY:
        return NGX_PAYMENT_VERDICT_UNSENT;

    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
        return NGX_PAYMENT_VERDICT_FAILED_ITSELF;

    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
        return NGX_PAYMENT_VERDICT_FAILED_TOPIC;

    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        return p->topic_for_each_type ? NGX_PAYMENT_VERDICT_FAILED_TOPIC
                                      : NGX_PAYMENT_VERDICT_FAILED;

    default:
        return NGX_PAYMENT_VERDICT_FAILED;
    }
}


/* what librdkafka tells */

static void
ngx_payment_producer_handler(ngx_event_t *ev)
{
    ngx_payment_producer_serve(ngx_payment_eventfd_read(ev));
}


static void
ngx_payment_producer_serve(ngx_payment_producer_t *p)
{
    ngx_uint_t         i, reports;
    rd_kafka_event_t  *event;

    reports = 0;

    for (i = 0; i < NGX_PAYMENT_PRODUCER_EVENTS; i++) {

        event = rd_kafka_queue_poll(p->queue, 0);

        if (event == NULL) {
            break;
        }

        switch (rd_kafka_event_type(event)) {

        case RD_KAFKA_EVENT_DR:
            ngx_payment_producer_reports(p, event);
            reports = 1;
            break;

        case RD_KAFKA_EVENT_ERROR:
            ngx_payment_producer_error(p, event);
            break;

        case RD_KAFKA_EVENT_LOG:
            ngx_payment_producer_log(p, event);
            break;

        case RD_KAFKA_EVENT_STATS:
            ngx_payment_producer_stats(p, event);
            break;

        case RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT:
            ngx_payment_producer_copies(p, event);
            break;

        default:
            break;
        }

        rd_kafka_event_destroy(event);
    }

    if (i == NGX_PAYMENT_PRODUCER_EVENTS) {
        /* The queue tells only when it stops being empty, and it is not: the
         * rest is served after the other events of the loop. */
        ngx_post_event(p->connection->read, &ngx_posted_next_events);
    }

    if (p->state == NGX_PAYMENT_PRODUCER_SPENT && p->lanes->outstanding == 0
        && !p->closing)
    {
        ngx_add_timer(&p->timer, 0);
        return;
    }

    if (reports) {
        p->handlers->room(p->data);
    }
}


static void
ngx_payment_producer_reports(ngx_payment_producer_t *p,
    rd_kafka_event_t *event)
{
    uint32_t                    n;
    uint64_t                    now, time, took, least;
    payment_event_t            *e;
    rd_kafka_resp_err_t         err;
    ngx_payment_verdict_e       verdict;
    const rd_kafka_message_t   *message;

    now = ngx_payment_clock_ns();
    time = ngx_payment_producer_lanes_time(p->lanes, now);
    n = 0;
    took = 0;
    least = UINT64_MAX;

    while ((message = rd_kafka_event_message_next(event)) != NULL) {

        e = message->_private;
        err = ngx_payment_producer_answer(p, message);
        verdict = ngx_payment_producer_judge(p, err);

        if (verdict == NGX_PAYMENT_VERDICT_FAILED && p->forgiven) {
            verdict = NGX_PAYMENT_VERDICT_UNSENT;
        }

        if (verdict == NGX_PAYMENT_VERDICT_DELIVERED) {
            ngx_payment_producer_up(p);
            p->fatal = 0;

            if (payment_stopwatch_ran(&p->lanes->stopwatch, e->since_ns)) {
                n++;
                took += time - e->since_ns;
                least = ngx_min(least, time - e->since_ns);
            }
        }

        ngx_payment_producer_lanes_reported(p->lanes, e);
        ngx_payment_producer_remember(p, err);
        ngx_payment_producer_spans_end(p->spans, e, err);

        p->handlers->report(p->data, e, verdict, err);
    }

    if (n) {
        payment_window_acked(&p->lanes->window, now, n, took, least);
    }
}


/*
 * Once a later message of its partition is delivered, an idempotent producer of
 * the library reports a message as delivered, too, that was refused and waits
 * to be sent again: a broker takes the later one only if it has the earlier.
 * But one that knows nothing of this producer there takes any (KAFKA-15591; up
 * to Apache Kafka 4.1 at least): where the partition is new, so that it has
 * just refused the first request, or where it has forgotten the producer
 * (producer.id.expiration.ms).  Then the message is nowhere.  Unlike all that a
 * broker has acknowledged, it has no offset.
 */

static rd_kafka_resp_err_t
ngx_payment_producer_answer(ngx_payment_producer_t *p,
    const rd_kafka_message_t *message)
{
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR
        && message->offset == RD_KAFKA_OFFSET_INVALID && p->idempotent)
    {
        return RD_KAFKA_RESP_ERR__INCONSISTENT;
    }

    return message->err;
}


/* The last error is kept for the status.  What the helper itself has taken back
 * from the library is none. */

static void
ngx_payment_producer_remember(ngx_payment_producer_t *p,
    rd_kafka_resp_err_t err)
{
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR
        || err == RD_KAFKA_RESP_ERR__PURGE_QUEUE
        || err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
    {
        return;
    }

    p->conf->stats->helper.kafka_error =
        ngx_payment_stats_error((uint16_t) err, ngx_payment_unix_us() / 1000);
}


const char *
ngx_payment_producer_error_name(uint16_t code)
{
    return rd_kafka_err2name((rd_kafka_resp_err_t) (int16_t) code);
}


static void
ngx_payment_producer_error(ngx_payment_producer_t *p, rd_kafka_event_t *event)
{
    const char                  *note;
    rd_kafka_resp_err_t          err;
    static ngx_payment_storm_t   storm;

    err = rd_kafka_event_error(event);

    /* an event has the broker's error, where a callback would be told _FATAL */

    if (rd_kafka_event_error_is_fatal(event)) {
        ngx_payment_producer_fatal(p);
        return;
    }

    ngx_payment_producer_remember(p, err);

    /* An error is logged when it is another than the last, not at each try.
     * Where each try ends with several, which take turns, a storm does. */

    note = (err == p->last_error) ? NULL
           : ngx_payment_storm_note(&storm, (ngx_uint_t) (uint16_t) err);

    if (note) {
        p->told = 1;
        ngx_log_error(NGX_LOG_ERR, p->log, 0,
                      "payment outbox: Kafka at \"%V\": %s: %s%s",
                      &p->conf->brokers, rd_kafka_err2name(err),
                      rd_kafka_event_error_string(event), note);
    }

    switch (err) {

    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        p->last_error = err;
        p->up = 0;

        if (p->down_since_ns == 0) {
            p->down_since_ns = ngx_payment_clock_ns();
        }

        break;

    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__RESOLVE:
        /* The error is one broker's.  If that was the last one to be up,
         * _ALL_BROKERS_DOWN follows. */
        if (p->last_error != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
            p->last_error = err;
        }
        break;

    default:
        p->last_error = err;
        break;
    }
}


/*
 * A new producer takes over.  The next one may end as this one did, before it
 * has delivered anything: so from the second on it has to wait, for longer each
 * time.
 */

static void
ngx_payment_producer_fatal(ngx_payment_producer_t *p)
{
    char                         errstr[512];
    uint64_t                     now;
    ngx_msec_t                   pause;
    const char                  *note, *hint;
    rd_kafka_resp_err_t          err;
    static ngx_payment_storm_t   storm;

    err = rd_kafka_fatal_error(p->rk, errstr, sizeof(errstr));
    ngx_payment_producer_remember(p, err);

    hint = (err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
           ? ": may this user write to the topic?" : "";
    note = ngx_payment_storm_note(&storm, (ngx_uint_t) (uint16_t) err);

    if (note) {
        ngx_log_error(NGX_LOG_ERR, p->log, 0,
                      "payment outbox: the Kafka producer can't go on, a new "
                      "one takes over: %s: %s%s%s", rd_kafka_err2name(err),
                      errstr, hint, note);
    }

    now = ngx_payment_clock_ms();

    pause = p->fatal ? NGX_PAYMENT_PRODUCER_FATAL << (p->fatal - 1) : 0;
    p->fatal = ngx_min(p->fatal + 1, NGX_PAYMENT_PRODUCER_FATAL_STEPS);
    p->start_at = now + ngx_min(pause, NGX_PAYMENT_PRODUCER_FATAL_MAX);

    /* a new producer may do better, so what comes back from this one is no
     * failure of Kafka; but of the second one of a minute it is */

    p->forgiven = (p->fatal_at == 0
                   || now - p->fatal_at >= NGX_PAYMENT_PRODUCER_FORGIVE);
    p->fatal_at = now;

    ngx_payment_producer_abort(p, NGX_PAYMENT_PRODUCER_PURGED);
}


/*
 * A broker that enforces a quota answers at once, but reads nothing from this
 * client for some time.  What is handed out in that time would wait there, and
 * its waiting would add to what follows it; so it waits here.
 */

static void
ngx_payment_producer_throttled(rd_kafka_t *rk, const char *name, int32_t id,
    int ms, void *data)
{
    ngx_payment_producer_t *p = data;

    uint64_t  now, held, until;

    if (rk != p->rk || ms <= 0) {
        return;
    }

    now = ngx_payment_clock_ns();

    held = ngx_min(ms, NGX_PAYMENT_PRODUCER_THROTTLE_MAX) * 1000000ULL;
    until = ngx_payment_producer_lanes_throttled(p->lanes, now, now + held);

    /*
     * Each request that is on its way will wait as long.  What is in the
     * library's queue might wait longer than an event may, so it is taken back.
     */

    if (ms >= NGX_PAYMENT_PRODUCER_THROTTLE_LONG
        && p->state == NGX_PAYMENT_PRODUCER_UP
        && p->lanes->outstanding > 2 * p->lanes->window.limit)
    {
        ngx_log_error(NGX_LOG_NOTICE, p->log, 0,
                      "payment outbox: Kafka's quota makes this client wait: "
                      "%ui events are taken back from a queue before it",
                      p->lanes->outstanding);

        ngx_payment_producer_abort(p, 0);
    }

    ngx_add_timer(&p->resume, (ngx_msec_t) ((until - now) / 1000000 + 1));
}


static void
ngx_payment_producer_resume(ngx_event_t *ev)
{
    ngx_payment_producer_t *p = ev->data;

    p->handlers->room(p->data);
}


ngx_uint_t
ngx_payment_producer_connects(ngx_payment_producer_t *p, uint64_t now_ns)
{
    return p->lanes->window.base_ns == 0
           && now_ns - p->opened_ns
              < p->conf->breaker.slow_call_duration_threshold_ns;
}


ngx_uint_t
ngx_payment_producer_reaches(ngx_payment_producer_t *p)
{
    return p->down_since_ns == 0 && p->fatal < 2;
}


static void
ngx_payment_producer_up(ngx_payment_producer_t *p)
{
    p->down_since_ns = 0;

    if (p->up && p->last_error == 0) {
        return;
    }

    /* where nobody was told that it was not, this would be a storm, too */

    if (p->last_error && p->told) {
        ngx_log_error(NGX_LOG_NOTICE, p->log, 0,
                      "payment outbox: Kafka at \"%V\" is reached again",
                      &p->conf->brokers);
    }

    p->told = 0;
    p->last_error = RD_KAFKA_RESP_ERR_NO_ERROR;
    p->up = 1;
}


/* What the library logs is about its connections.  What that means for events
 * is logged by this module, so the library's lines are for debugging. */

static void
ngx_payment_producer_log(ngx_payment_producer_t *p, rd_kafka_event_t *event)
{
    int          severity;
    ngx_uint_t   level;
    const char  *facility, *text;

    if (rd_kafka_event_log(event, &facility, &text, &severity) != 0) {
        return;
    }

    /* of a producer that ends as the one before, it is the same line again */

    level = (severity <= 2 && p->fatal < 2) ? NGX_LOG_ALERT : NGX_LOG_INFO;

    ngx_log_error(level, p->log, 0, "payment outbox: librdkafka: %s: %s",
                  facility, text);
}


/* No event says that a broker was reached, but the statistics show it. */

static void
ngx_payment_producer_stats(ngx_payment_producer_t *p, rd_kafka_event_t *event)
{
    const char  *text;

    text = rd_kafka_event_stats(event);

    if (text && ngx_payment_producer_brokers_read(p->brokers, text)) {
        ngx_payment_producer_up(p);

        if (ngx_payment_clock_ms() >= p->start_at + NGX_PAYMENT_PRODUCER_WELL
            && rd_kafka_fatal_error(p->rk, NULL, 0) == 0)
        {
            /* also of one that has nothing to deliver */
            p->fatal = 0;
        }

        /* no sooner, so that a topic that is not there is asked about at the
         * statistics' pace */

        ngx_payment_producer_ask_copies(p);
    }
}


static void
ngx_payment_producer_ask_copies(ngx_payment_producer_t *p)
{
    int  err;

    if (p->state != NGX_PAYMENT_PRODUCER_UP || p->copies
        || p->copied == p->lanes->ntopics)
    {
        return;
    }

    p->copies = ngx_payment_producer_copies_create(p->rk, p->lanes->topics,
                                                   p->lanes->ntopics, p->log);
    if (p->copies == NULL) {
        return;
    }

    err = ngx_payment_thread_create(&p->copies->tid,
                                    ngx_payment_producer_copies_thread,
                                    p->copies, PTHREAD_CREATE_JOINABLE);
    if (err) {
        ngx_log_error(NGX_LOG_ALERT, p->log, err,
                      "payment outbox: pthread_create() failed");
        ngx_payment_producer_copies_free(p->copies);
        p->copies = NULL;
    }
}


/* The last thing that its thread has done was to ask for this. */

static void
ngx_payment_producer_copies(ngx_payment_producer_t *p, rd_kafka_event_t *event)
{
    ngx_uint_t  known;

    known = ngx_payment_producer_copies_told(p->copies, event, p->lanes->topics,
                                             p->log);
    p->copied = (known == p->copies->n) ? known : 0;

    ngx_payment_producer_copies_end(p->copies);
    p->copies = NULL;
}


/* the end of a producer, and the next one */

void
ngx_payment_producer_abort(ngx_payment_producer_t *p, ngx_msec_t patience)
{
    int  flags;

    if (p->state == NGX_PAYMENT_PRODUCER_NONE) {
        return;
    }

    flags = RD_KAFKA_PURGE_F_QUEUE|RD_KAFKA_PURGE_F_NON_BLOCKING;

    if (patience) {
        flags |= RD_KAFKA_PURGE_F_INFLIGHT;
    }

    (void) rd_kafka_purge(p->rk, flags);

    if (p->state == NGX_PAYMENT_PRODUCER_UP) {
        p->state = NGX_PAYMENT_PRODUCER_SPENT;
        p->give_up_at = ngx_payment_clock_ms()
                        + p->timeout
                        + NGX_PAYMENT_PRODUCER_PATIENCE;
    }

    if (patience) {
        p->give_up_at = ngx_payment_clock_ms() + patience;
    }

    if (!p->closing) {
        ngx_add_timer(&p->timer,
                      p->lanes->outstanding ? NGX_PAYMENT_PRODUCER_PURGE : 0);
    }
}


static void
ngx_payment_producer_timer(ngx_event_t *ev)
{
    ngx_payment_producer_t *p = ev->data;

    uint64_t  now;

    if (p->closing) {
        return;
    }

    if (p->state == NGX_PAYMENT_PRODUCER_NONE) {
        ngx_payment_producer_start(p);
        return;
    }

    if (p->lanes->outstanding && ngx_payment_clock_ms() < p->give_up_at) {

        /* The events of a request that failed meanwhile are in the library's
         * queue again. */

        (void) rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE
                                     |RD_KAFKA_PURGE_F_NON_BLOCKING);
        ngx_add_timer(ev, NGX_PAYMENT_PRODUCER_PURGE);
        return;
    }

    if (ngx_payment_producer_remains() >= NGX_PAYMENT_PRODUCER_REMAINS_MAX) {
        ngx_add_timer(ev, NGX_PAYMENT_PRODUCER_RETRY);
        return;
    }

    if (p->lanes->outstanding) {
        ngx_log_error(NGX_LOG_WARN, p->log, 0,
                      "payment outbox: %ui reports of a given-up Kafka "
                      "producer did not come", p->lanes->outstanding);
        ngx_payment_producer_lanes_empty(p->lanes);
        ngx_payment_producer_spans_forget(p->spans);
        p->handlers->abandoned(p->data);
    }

    ngx_payment_producer_end(p);

    now = ngx_payment_clock_ms();

    if (now < p->start_at) {
        ngx_add_timer(ev, (ngx_msec_t) (p->start_at - now));
        return;
    }

    ngx_payment_producer_start(p);
}


ngx_int_t
ngx_payment_producer_close(ngx_payment_producer_t *p, ngx_msec_t timeout)
{
    p->closing = 1;

    if (p->timer.timer_set) {
        ngx_del_timer(&p->timer);
    }

    if (p->resume.timer_set) {
        ngx_del_timer(&p->resume);
    }

    if (p->rk) {
        (void) rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE
                                     |RD_KAFKA_PURGE_F_INFLIGHT
                                     |RD_KAFKA_PURGE_F_NON_BLOCKING);
    }

    ngx_payment_producer_end(p);

    return ngx_payment_producer_remains_wait(timeout) ? NGX_AGAIN : NGX_OK;
}


static void
ngx_payment_producer_end(ngx_payment_producer_t *p)
{
    ngx_uint_t  i;

    if (p->queue) {
        rd_kafka_queue_io_event_enable(p->queue, -1, NULL, 0);
        rd_kafka_queue_destroy(p->queue);
        p->queue = NULL;
    }

    if (p->connection) {
        ngx_close_connection(p->connection);
        p->connection = NULL;
    }

    /* what is known of the topics outlives the producer, their handles don't */

    for (i = 0; i < p->lanes->ntopics; i++) {
        if (p->lanes->topics[i].handle) {
            rd_kafka_topic_destroy(p->lanes->topics[i].handle);
            p->lanes->topics[i].handle = NULL;
        }
    }

    p->state = NGX_PAYMENT_PRODUCER_NONE;
    ngx_payment_producer_brokers_quiet(p->brokers);

    if (p->rk) {
        ngx_payment_producer_remains_add(p->rk, p->copies, p->log);
        p->rk = NULL;
        p->copies = NULL;
    }
}
