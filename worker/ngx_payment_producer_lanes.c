/*
 * What is with a producer, by topics and lanes; see
 * ngx_payment_producer_lanes.h.
 */

#include "ngx_payment_producer_lanes.h"
#include "ngx_payment_clock.h"


#define NGX_PAYMENT_PRODUCER_LANE_SHARE     16   /* see have_room_in() */
#define NGX_PAYMENT_PRODUCER_LANE_LAG       100  /* ms; the same */
#define NGX_PAYMENT_PRODUCER_LANE_REQUESTS  5    /* at a time, of a broker */
#define NGX_PAYMENT_PRODUCER_THROTTLE_LANES 2    /* in flight meanwhile */


static void ngx_payment_producer_lane_stuck(
    ngx_payment_producer_lanes_t *lanes, ngx_payment_producer_topic_t *t,
    ngx_uint_t n);
static void ngx_payment_producer_lane_unstuck(
    ngx_payment_producer_lanes_t *lanes, ngx_payment_producer_lane_t *lane);
static ngx_uint_t ngx_payment_producer_lane_is_behind(
    ngx_payment_producer_lanes_t *lanes, ngx_payment_producer_lane_t *lane,
    uint64_t time_ns);


void
ngx_payment_producer_lanes_init(ngx_payment_producer_lanes_t *lanes,
    const ngx_payment_outbox_conf_t *conf, ngx_msec_t timeout, uint64_t gap_ns,
    ngx_log_t *log)
{
    uint64_t  slow_ns;

    slow_ns = conf->breaker.slow_call_duration_threshold_ns;

    lanes->log = log;
    lanes->patience_ns = ngx_min(slow_ns, timeout * 1000000ULL / 2);

    payment_window_init(&lanes->window, conf->batch_size,
                        ngx_max(conf->shards->nelts, 1) * conf->max_in_flight,
                        slow_ns);
    payment_stopwatch_init(&lanes->stopwatch, ngx_payment_clock_ns(), gap_ns);
}


void
ngx_payment_producer_lanes_restart(ngx_payment_producer_lanes_t *lanes,
    uint64_t now_ns)
{
    ngx_payment_producer_lanes_empty(lanes);
    payment_window_restart(&lanes->window, now_ns);
}


void
ngx_payment_producer_lanes_empty(ngx_payment_producer_lanes_t *lanes)
{
    ngx_uint_t                    i, n;
    ngx_payment_producer_lane_t  *lane;

    lanes->outstanding = 0;
    lanes->stuck = 0;
    lanes->busy = 0;
    lanes->behind = 0;

    for (i = 0; i < lanes->ntopics; i++) {
        for (n = 0; n < NGX_PAYMENT_PRODUCER_LANES; n++) {
            lane = &lanes->topics[i].lanes[n];

            lane->in_flight = 0;
            lane->proven = 0;
            lane->behind = 0;
            lane->awaited = 0;
        }
    }
}


uint64_t
ngx_payment_producer_lanes_time(ngx_payment_producer_lanes_t *lanes,
    uint64_t now_ns)
{
    return payment_stopwatch_look(&lanes->stopwatch, now_ns);
}


uint64_t
ngx_payment_producer_lanes_throttled(ngx_payment_producer_lanes_t *lanes,
    uint64_t now_ns, uint64_t until_ns)
{
    payment_stopwatch_hold(&lanes->stopwatch, now_ns, until_ns);
    payment_window_throttled(&lanes->window, now_ns);

    return lanes->stopwatch.held_until_ns;
}


ngx_payment_producer_lane_t *
ngx_payment_producer_lanes_of(ngx_payment_producer_lanes_t *lanes,
    const payment_event_t *e)
{
    return &lanes->topics[e->topic].lanes[e->lane];
}


ngx_uint_t
ngx_payment_producer_lanes_take(ngx_payment_producer_lanes_t *lanes,
    const payment_event_t *e)
{
    return ngx_payment_producer_topic_takes(&lanes->topics[e->topic], e->lane);
}


ngx_uint_t
ngx_payment_producer_lanes_have_room(ngx_payment_producer_lanes_t *lanes,
    uint64_t now_ns)
{
    return now_ns >= lanes->stopwatch.held_until_ns
           && lanes->behind == 0
           && payment_window_room(&lanes->window,
                                  lanes->outstanding - lanes->stuck);
}


/*
 * Those that go elsewhere must find room while it is not known yet that a lane,
 * or a third of them, is stuck.  So a lane may have three quarters of the
 * window; a 16th of it before anything was delivered there; and nothing more
 * when nothing has moved in it for twice as long as events take, while others
 * were delivered.
 *
 * A broker that enforces a quota makes each request wait, and a lane is a
 * request at least: so there are few of them then.
 */

ngx_uint_t
ngx_payment_producer_lanes_have_room_in(ngx_payment_producer_lanes_t *lanes,
    ngx_payment_producer_lane_t *lane, uint64_t now_ns)
{
    uint64_t           lag;
    payment_window_t  *window;

    window = &lanes->window;
    lag = NGX_PAYMENT_PRODUCER_LANE_LAG * 1000000ULL + 2 * window->mean_ns;

    if (lane->in_flight && lanes->latest_ns > lane->moved_ns
        && ngx_payment_producer_lanes_time(lanes, now_ns) - lane->moved_ns
           > lag)
    {
        return 0;
    }

    if (!lane->proven
        && lane->in_flight >= ngx_max(window->limit
                                      / NGX_PAYMENT_PRODUCER_LANE_SHARE, 1))
    {
        return 0;
    }

    if (lane->in_flight == 0
        && lanes->busy >= NGX_PAYMENT_PRODUCER_THROTTLE_LANES
        && payment_window_is_throttled(window, now_ns))
    {
        return 0;
    }

    return payment_window_room(window, lane->in_flight + window->limit / 4);
}


void
ngx_payment_producer_lanes_sent(ngx_payment_producer_lanes_t *lanes,
    payment_event_t *e, uint64_t now_ns)
{
    ngx_payment_producer_lane_t  *lane;

    lane = ngx_payment_producer_lanes_of(lanes, e);
    e->since_ns = ngx_payment_producer_lanes_time(lanes, now_ns);

    if (lane->in_flight == 0) {
        lanes->busy += !lane->stuck;
        lane->moved_ns = e->since_ns;
        lane->awaited = 0;
    }

    lanes->outstanding++;
    lanes->stuck += lane->stuck;
    lane->in_flight++;
}


void
ngx_payment_producer_lanes_reported(ngx_payment_producer_lanes_t *lanes,
    const payment_event_t *e)
{
    ngx_payment_producer_lane_t  *lane;

    lane = ngx_payment_producer_lanes_of(lanes, e);

    lanes->outstanding--;
    lanes->stuck -= lane->stuck;
    lane->in_flight--;
    lanes->busy -= (lane->in_flight == 0 && !lane->stuck);
}


ngx_int_t
ngx_payment_producer_lanes_delivered(ngx_payment_producer_lanes_t *lanes,
    const payment_event_t *e, uint64_t now_ns)
{
    ngx_int_t                      topic, unstuck;
    ngx_payment_producer_lane_t   *lane;
    ngx_payment_producer_topic_t  *t;

    t = &lanes->topics[e->topic];
    lane = &t->lanes[e->lane];

    lane->proven = 1;
    lane->moved_ns = ngx_payment_producer_lanes_time(lanes, now_ns);
    lane->latest_ns = ngx_max(lane->latest_ns, e->since_ns);
    lanes->latest_ns = ngx_max(lanes->latest_ns, e->since_ns);

    topic = ngx_payment_producer_topic_delivered(t, lanes->log);
    unstuck = ngx_payment_producer_topic_unstuck(t, e->lane, lanes->log);

    if (unstuck == NGX_OK) {
        ngx_payment_producer_lane_unstuck(lanes, lane);
    }

    lanes->moved_ns = lane->moved_ns;
    lanes->behind -= lane->behind;
    lane->behind = 0;
    lane->awaited = 0;

    return (topic == NGX_OK || unstuck == NGX_OK) ? NGX_OK : NGX_DECLINED;
}


/*
 * A broker that answers with an error which says nothing of the event, while
 * events that were sent later are delivered elsewhere, speaks of the lane.
 * Errors of the library's own, below 0, are those of a connection, and may be
 * anybody's; and who may not write to a topic may write to none of its lanes.
 */

ngx_uint_t
ngx_payment_producer_lanes_blamed(ngx_payment_producer_lanes_t *lanes,
    const payment_event_t *e, rd_kafka_resp_err_t err)
{
    ngx_payment_producer_lane_t  *lane;

    lane = ngx_payment_producer_lanes_of(lanes, e);

    if (lane->stuck) {
        return 1;
    }

    if ((err < 0 && err != RD_KAFKA_RESP_ERR_UNKNOWN)
        || err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        || err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
        || lanes->latest_ns <= e->since_ns
        || lane->latest_ns > e->since_ns)
    {
        return 0;
    }

    ngx_payment_producer_lane_stuck(lanes, &lanes->topics[e->topic], e->lane);

    return 1;
}


/*
 * A lane is stuck when nothing moved in it for the slow-call time, or half of
 * the time that an event may take, and an event was delivered elsewhere that
 * was sent at least half of that later; or, where none was sent so that this
 * lane has its turn, that was delivered so much later.
 */

ngx_uint_t
ngx_payment_producer_lanes_look(ngx_payment_producer_lanes_t *lanes,
    uint64_t now_ns)
{
    uint64_t                       time;
    ngx_uint_t                     i, n, found;
    ngx_payment_producer_lane_t   *lane;
    ngx_payment_producer_topic_t  *t;

    found = 0;
    lanes->behind = 0;
    time = ngx_payment_producer_lanes_time(lanes, now_ns);

    for (i = 0; i < lanes->ntopics; i++) {
        t = &lanes->topics[i];

        for (n = 0; n < NGX_PAYMENT_PRODUCER_LANES; n++) {
            lane = &t->lanes[n];

            if (lane->in_flight && !lane->stuck
                && time - lane->moved_ns >= lanes->patience_ns
                && (lane->awaited ? lanes->moved_ns : lanes->latest_ns)
                   > lane->moved_ns + lanes->patience_ns / 2)
            {
                ngx_payment_producer_lane_stuck(lanes, t, n);
                found = 1;
            }

            lane->behind = ngx_payment_producer_lane_is_behind(lanes, lane,
                                                               time);
            lane->awaited |= lane->behind;
            lanes->behind += lane->behind;
        }
    }

    return found;
}


void
ngx_payment_producer_lanes_acquit(ngx_payment_producer_lanes_t *lanes)
{
    ngx_uint_t                    i, n;
    ngx_payment_producer_lane_t  *lane;

    for (i = 0; i < lanes->ntopics; i++) {
        for (n = 0; n < NGX_PAYMENT_PRODUCER_LANES; n++) {
            lane = &lanes->topics[i].lanes[n];

            if (lane->stuck) {
                lane->stuck = 0;
                ngx_payment_producer_lane_unstuck(lanes, lane);
            }
        }
    }
}


static void
ngx_payment_producer_lane_stuck(ngx_payment_producer_lanes_t *lanes,
    ngx_payment_producer_topic_t *t, ngx_uint_t n)
{
    ngx_payment_producer_topic_stuck(t, n, lanes->log);

    lanes->stuck += t->lanes[n].in_flight;
    lanes->busy -= (t->lanes[n].in_flight != 0);
}


static void
ngx_payment_producer_lane_unstuck(ngx_payment_producer_lanes_t *lanes,
    ngx_payment_producer_lane_t *lane)
{
    lanes->stuck -= lane->in_flight;
    lanes->busy += (lane->in_flight != 0);
}


/*
 * A connection takes few requests at a time, each of one partition, and with
 * the library (2.0.2) it is chance whose is next.  Over a long way a lane can
 * have bad luck for seconds, while others with more and more events go before
 * it.  So nothing is handed out when it has waited for half of what would be
 * too long: then the others' queues run empty, and it is the next.  Not where a
 * turn of all lanes that have something is short, and not for longer than that
 * time: it may not be luck, but the lane is slow or stuck.
 */

static ngx_uint_t
ngx_payment_producer_lane_is_behind(ngx_payment_producer_lanes_t *lanes,
    ngx_payment_producer_lane_t *lane, uint64_t time_ns)
{
    uint64_t  base, turn, waits;

    base = lanes->window.base_ns;
    turn = base * lanes->busy / NGX_PAYMENT_PRODUCER_LANE_REQUESTS;

    if (lane->in_flight == 0 || lane->stuck
        || lanes->latest_ns <= lane->moved_ns
        || turn < lanes->patience_ns / 8)
    {
        return 0;
    }

    /* its first event may have been sent just after the last request left */

    waits = time_ns - lane->moved_ns + base;

    return waits >= ngx_max(lanes->patience_ns / 2, base + turn / 2 * 3)
           && waits < lanes->patience_ns;
}
