/*
 * How many events may be with the producer; see payment_window.h.
 */

#include <assert.h>
#include <string.h>

#include "payment_window.h"


static void payment_window_measure(payment_window_t *w, uint64_t now_ns,
    uint64_t took_ns);
static void payment_window_grow(payment_window_t *w, uint32_t n, int care);
static void payment_window_count(payment_window_t *w, uint64_t now_ns,
    uint32_t n);
static void payment_window_judge(payment_window_t *w, uint64_t now_ns);
static uint64_t payment_window_well(payment_window_t *w);
static uint64_t payment_window_most(payment_window_t *w);
static void payment_window_begin(payment_window_t *w, uint64_t now_ns);
static uint64_t payment_window_round(payment_window_t *w);
static void payment_window_set(payment_window_t *w, uint64_t limit);
static uint64_t payment_window_min(uint64_t a, uint64_t b);
static uint64_t payment_window_max(uint64_t a, uint64_t b);


void
payment_window_init(payment_window_t *w, uint32_t start, uint32_t ceiling,
    uint64_t slow_ns)
{
    assert(ceiling > 0 && slow_ns > 0);

    memset(w, 0, sizeof(payment_window_t));

    w->start = start;
    w->ceiling = ceiling;
    w->slow_ns = slow_ns;

    payment_window_restart(w, 0);
}


void
payment_window_restart(payment_window_t *w, uint64_t now_ns)
{
    w->base_ns = 0;
    w->mean_ns = 0;
    w->rate = 0;

    if (!payment_window_is_throttled(w, now_ns)) {
        w->known = 0;
        w->vain = 0;
        payment_window_set(w, w->start);
    }

    payment_window_begin(w, now_ns);
}


int
payment_window_room(payment_window_t *w, uint64_t outstanding)
{
    if (outstanding < w->limit) {
        return 1;
    }

    w->full = 1;

    return 0;
}


void
payment_window_acked(payment_window_t *w, uint64_t now_ns, uint32_t n,
    uint64_t took_ns, uint64_t least_ns)
{
    uint64_t  well;

    /* after a time without events there is nothing to be judged */

    if (now_ns - w->latest_ns > 2 * payment_window_round(w)) {
        payment_window_begin(w, now_ns);
    }

    payment_window_measure(w, now_ns, least_ns);
    payment_window_count(w, now_ns, n);

    w->acked += n;
    w->took_ns += took_ns;
    w->latest_ns = now_ns;

    well = payment_window_well(w);
    took_ns /= n;

    /* nearly slow: at once, and not when the round has ended */

    if (took_ns >= w->slow_ns / 4 * 3 && !w->cut) {
        w->cut = 1;
        w->known = 1;
        payment_window_set(w, w->limit / 2);
    }

    if (w->full && took_ns < well && !payment_window_is_throttled(w, now_ns)) {
        payment_window_grow(w, n, w->known || took_ns >= well / 2);
    }

    if (now_ns - w->began_ns >= payment_window_round(w)) {
        payment_window_judge(w, now_ns);
        payment_window_begin(w, now_ns);
    }
}


/* the least time of an event */

static void
payment_window_measure(payment_window_t *w, uint64_t now_ns, uint64_t took_ns)
{
    if (w->base_ns == 0 || took_ns < w->base_ns) {
        w->base_ns = payment_window_max(took_ns, 1);
        w->base_at_ns = now_ns;

    } else if (w->limit > PAYMENT_WINDOW_FLOOR
               || took_ns <= w->base_ns + w->base_ns / 4)
    {
        w->base_at_ns = now_ns;

    } else if (now_ns - w->base_at_ns >= PAYMENT_WINDOW_BASE_NS) {
        w->base_ns = payment_window_min(2 * w->base_ns, took_ns);
        w->base_at_ns = now_ns;
    }
}


/*
 * By one for each event that was acknowledged, and to the double of what it was
 * when the round began; with care, by half of that.
 */

static void
payment_window_grow(payment_window_t *w, uint32_t n, int care)
{
    uint64_t  most;

    most = care ? w->from + w->from / 2 : 2 * w->from;
    n = care ? (n + 1) / 2 : n;

    if (w->limit < most) {
        payment_window_set(w, payment_window_min((uint64_t) w->limit + n,
                                                 most));
    }
}


/* How many were acknowledged lately: a second of every so many is kept. */

static void
payment_window_count(payment_window_t *w, uint64_t now_ns, uint32_t n)
{
    uint64_t  second;

    for (second = now_ns / PAYMENT_WINDOW_SECOND_NS;
         w->second < second;
         w->second++)
    {
        if (second - w->second > PAYMENT_WINDOW_SECONDS) {
            w->second = second - PAYMENT_WINDOW_SECONDS;
        }

        w->seconds[(w->second + 1) % PAYMENT_WINDOW_SECONDS] = 0;
    }

    w->seconds[second % PAYMENT_WINDOW_SECONDS] += n;
}


void
payment_window_throttled(payment_window_t *w, uint64_t now_ns)
{
    double    acked;
    unsigned  i;

    w->steady_until_ns = now_ns + PAYMENT_WINDOW_QUOTA_NS;
    w->known = 1;

    payment_window_count(w, now_ns, 0);

    acked = 0;

    for (i = 0; i < PAYMENT_WINDOW_SECONDS; i++) {
        acked += w->seconds[i];
    }

    acked *= (double) (w->slow_ns / 20)
             / (double) (PAYMENT_WINDOW_SECONDS * PAYMENT_WINDOW_SECOND_NS);

    payment_window_set(w, payment_window_min(w->limit, (uint64_t) acked));
    payment_window_begin(w, now_ns);
}


int
payment_window_is_throttled(const payment_window_t *w, uint64_t now_ns)
{
    return now_ns < w->steady_until_ns;
}


/*
 * The round has ended.  Did its events take too long?  Or has the window grown,
 * and no more of them came through?
 */

static void
payment_window_judge(payment_window_t *w, uint64_t now_ns)
{
    double    rate;
    uint64_t  within;

    w->mean_ns = w->took_ns / w->acked;

    rate = (double) w->acked / (double) (now_ns - w->began_ns);

    if (w->full) {
        w->vain = (rate < w->rate * 5 / 4) ? w->vain + 1 : 0;
    }

    if (w->vain >= PAYMENT_WINDOW_VAIN) {
        w->known = 1;
    }

    w->rate = rate;

    if (w->mean_ns < payment_window_well(w)) {
        return;
    }

    w->known = 1;

    if (w->mean_ns < payment_window_most(w)) {
        payment_window_set(w, w->limit - w->limit / 8);
        return;
    }

    within = payment_window_max((uint64_t) (rate
                                            * (double) payment_window_most(w)),
                                w->limit / 2);

    payment_window_set(w, payment_window_min(within, w->limit));
}


/* An event that takes less says that there is no queue before Kafka. */

static uint64_t
payment_window_well(payment_window_t *w)
{
    return payment_window_min(3 * w->base_ns + w->slow_ns / 40,
                              payment_window_max(w->slow_ns / 8 * 3,
                                                 w->base_ns + w->slow_ns / 8));
}


/* So much of it is a queue. */

static uint64_t
payment_window_most(payment_window_t *w)
{
    return payment_window_min(payment_window_well(w) + w->slow_ns / 4,
                              w->slow_ns / 8 * 5);
}


static void
payment_window_begin(payment_window_t *w, uint64_t now_ns)
{
    w->began_ns = now_ns;
    w->latest_ns = now_ns;
    w->acked = 0;
    w->took_ns = 0;
    w->from = w->limit;
    w->full = 0;
    w->cut = 0;
}


/* A round is as long as an event takes: so it sees what its window does. */

static uint64_t
payment_window_round(payment_window_t *w)
{
    uint64_t  took;

    took = w->acked ? w->took_ns / w->acked : w->mean_ns;

    return payment_window_min(payment_window_max(took,
                                                 PAYMENT_WINDOW_ROUND_NS),
                              w->slow_ns);
}


static void
payment_window_set(payment_window_t *w, uint64_t limit)
{
    limit = payment_window_max(limit, PAYMENT_WINDOW_FLOOR);

    w->limit = (uint32_t) payment_window_min(limit, w->ceiling);
}


static uint64_t
payment_window_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}


static uint64_t
payment_window_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
