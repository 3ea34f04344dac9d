/*
 * Whether a topic takes events; see ngx_payment_producer_topic.h.
 */

#include "ngx_payment_producer_topic.h"
#include "ngx_payment_storm.h"


/* one that the broker makes by itself is unknown when it is asked for first */
#define NGX_PAYMENT_PRODUCER_TOPIC_UNKNOWN  2


static void ngx_payment_producer_topic_tell_stuck(
    ngx_payment_producer_topic_t *t, ngx_uint_t lane, ngx_log_t *log);


ngx_int_t
ngx_payment_producer_topic_delivered(ngx_payment_producer_topic_t *t,
    ngx_log_t *log)
{
    ngx_payment_producer_topic_state_e  state;

    state = t->state;

    t->state = NGX_PAYMENT_TOPIC_WELL;
    t->deliveries++;
    t->refused = 0;
    t->told = 0;

    if (state != NGX_PAYMENT_TOPIC_SHUT) {
        return NGX_DECLINED;
    }

    ngx_log_error(NGX_LOG_NOTICE, log, 0,
                  "payment outbox: topic \"%s\" takes events again", t->name);

    return NGX_OK;
}


void
ngx_payment_producer_topic_doubt(ngx_payment_producer_topic_t *t,
    uint64_t payment, rd_kafka_resp_err_t err, ngx_log_t *log)
{
    const char  *note;

    if (t->refused == 0) {
        t->refused = payment;
        return;
    }

    if (t->state == NGX_PAYMENT_TOPIC_SHUT
        || (t->state == NGX_PAYMENT_TOPIC_WELL && t->refused == payment))
    {
        return;
    }

    t->state = NGX_PAYMENT_TOPIC_DOUBTED;

    if (t->told) {
        return;
    }

    /* between any two events that it takes; one that takes no more is told of
     * at a later refusal */
    note = ngx_payment_storm_note(&t->refusals, (ngx_uint_t) (uint16_t) err);

    if (note) {
        t->told = 1;
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "payment outbox: topic \"%s\" refuses events of several "
                      "payments and takes no other: %s; none is a dead letter "
                      "until it takes one%s", t->name, rd_kafka_err2name(err),
                      note);
    }
}


void
ngx_payment_producer_topic_shut(ngx_payment_producer_topic_t *t,
    rd_kafka_resp_err_t err, ngx_log_t *log)
{
    if (t->state == NGX_PAYMENT_TOPIC_SHUT) {
        return;
    }

    t->state = NGX_PAYMENT_TOPIC_SHUT;
    t->scout_at_ns = 0;

    ngx_log_error(NGX_LOG_ERR, log, 0,
                  "payment outbox: topic \"%s\" takes no events: %s; they wait "
                  "until it does", t->name, rd_kafka_err2name(err));
}


void
ngx_payment_producer_topic_unknown(ngx_payment_producer_topic_t *t,
    rd_kafka_resp_err_t err, ngx_log_t *log)
{
    switch (err) {

    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        break;

    default:
        return;
    }

    t->unknown = ngx_min(t->unknown + 1,
                         NGX_PAYMENT_PRODUCER_TOPIC_UNKNOWN + 1);

    if (t->unknown != NGX_PAYMENT_PRODUCER_TOPIC_UNKNOWN) {
        return;
    }

    ngx_log_error(NGX_LOG_ERR, log, 0,
                  "payment outbox: Kafka has no topic \"%s\" for this client, "
                  "%s: is its name right, is it made, and may we write to it? "
                  "Its events wait", t->name, rd_kafka_err2name(err));
}


void
ngx_payment_producer_topic_known(ngx_payment_producer_topic_t *t,
    ngx_log_t *log)
{
    if (t->unknown >= NGX_PAYMENT_PRODUCER_TOPIC_UNKNOWN) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "payment outbox: Kafka has topic \"%s\" now", t->name);
    }

    t->unknown = 0;
}


void
ngx_payment_producer_topic_stuck(ngx_payment_producer_topic_t *t,
    ngx_uint_t lane, ngx_log_t *log)
{
    t->lanes[lane].stuck = 1;
    t->lanes[lane].scout_at_ns = 0;
    t->lanes[lane].told = 0;

    ngx_payment_producer_topic_tell_stuck(t, lane, log);
}


/* One that takes some, and again none, may do so for long; and one that takes
 * none any more is told of when a scout is sent. */

static void
ngx_payment_producer_topic_tell_stuck(ngx_payment_producer_topic_t *t,
    ngx_uint_t lane, ngx_log_t *log)
{
    const char  *note;

    note = ngx_payment_storm_note(&t->stuck, lane + 1);

    if (note == NULL) {
        return;
    }

    t->lanes[lane].told = 1;

    ngx_log_error(NGX_LOG_ERR, log, 0,
                  "payment outbox: partition %ui of topic \"%s\" takes no "
                  "events, while others do; they wait until it does%s", lane,
                  t->name, note);
}


ngx_int_t
ngx_payment_producer_topic_unstuck(ngx_payment_producer_topic_t *t,
    ngx_uint_t lane, ngx_log_t *log)
{
    if (!t->lanes[lane].stuck) {
        return NGX_DECLINED;
    }

    t->lanes[lane].stuck = 0;

    if (t->lanes[lane].told) {
        t->lanes[lane].told = 0;
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "payment outbox: partition %ui of topic \"%s\" takes "
                      "events again", lane, t->name);
    }

    return NGX_OK;
}


ngx_uint_t
ngx_payment_producer_topic_takes(ngx_payment_producer_topic_t *t,
    ngx_uint_t lane)
{
    return t->state != NGX_PAYMENT_TOPIC_SHUT && !t->lanes[lane].stuck;
}


ngx_uint_t
ngx_payment_producer_topic_scout(ngx_payment_producer_topic_t *t,
    ngx_uint_t lane, uint64_t now_ns, ngx_msec_t pause, ngx_log_t *log)
{
    uint64_t                     *at;
    ngx_payment_producer_lane_t  *l;

    l = &t->lanes[lane];

    /* what is on its way into a lane that is stuck tells as much */

    if (t->state != NGX_PAYMENT_TOPIC_SHUT && l->in_flight) {
        return 0;
    }

    at = (t->state == NGX_PAYMENT_TOPIC_SHUT) ? &t->scout_at_ns
                                              : &l->scout_at_ns;

    if (now_ns < *at) {
        return 0;
    }

    *at = now_ns + pause * 1000000ULL;

    if (l->stuck && !l->told) {
        ngx_payment_producer_topic_tell_stuck(t, lane, log);
    }

    return 1;
}
