/*
 * How many events may be with the producer, and not yet acknowledged: what
 * Kafka acknowledges within a part of the time after which a call is slow.
 * What is handed out beyond that waits in the producer's own queue, and its
 * waiting would be taken for Kafka's slowness.  Pure: no clock, no I/O.
 *
 * Owner: the helper process; one window a producer.
 * Limits: floor .. ceiling events; a decision each round, which lasts as long
 * as an event takes, and PAYMENT_WINDOW_ROUND_NS at least.
 *
 * The window grows to its double as long as it is what limits, and events take
 * hardly longer than they must: three times the least time that one has taken,
 * and a 40th of the slow-call time.  When they take longer than that, it is
 * taken back by and by; when they take a quarter of the slow-call time more, it
 * is what was acknowledged within that time.
 *
 * Kafka may move farther away.  So the least time is doubled when no event came
 * near it for PAYMENT_WINDOW_BASE_NS; but only while the window is as small as
 * can be, or what waits in its own queue would make it grow for ever.
 *
 * A quota is told apart: the broker says that it makes the client wait.  Then
 * the window is what was acknowledged in a 20th of the slow-call time, by the
 * average of PAYMENT_WINDOW_SECONDS, over which brokers count, too; and it does
 * not grow before PAYMENT_WINDOW_QUOTA_NS have passed without that.
 */

#ifndef PAYMENT_WINDOW_H_INCLUDED
#define PAYMENT_WINDOW_H_INCLUDED


#include <stdint.h>


#define PAYMENT_WINDOW_FLOOR      64       /* events */

#define PAYMENT_WINDOW_VAIN       2        /* rounds, as their news is late */

#define PAYMENT_WINDOW_ROUND_NS   (100 * UINT64_C(1000000))
#define PAYMENT_WINDOW_BASE_NS    (2 * UINT64_C(1000000000))
#define PAYMENT_WINDOW_SECOND_NS  UINT64_C(1000000000)
#define PAYMENT_WINDOW_SECONDS    10       /* that are counted */
#define PAYMENT_WINDOW_QUOTA_NS   (12 * UINT64_C(1000000000))


typedef struct {
    uint32_t  start;          /* events: the window of a new producer */
    uint32_t  ceiling;
    uint64_t  slow_ns;        /* the slow-call time */

    uint32_t  limit;          /* the window, in events */
    unsigned  full:1;         /* it was, in this round */
    unsigned  cut:1;          /* and shrank by half, in this round */
    unsigned  known:1;        /* it was as large as is of use */
    unsigned  vain;           /* rounds in a row in which it grew in vain */

    uint64_t  base_ns;        /* the least time of an event; 0: not known */
    uint64_t  base_at_ns;     /* when one came near it */
    uint64_t  mean_ns;        /* of the events of the round before */
    double    rate;           /* events in a ns, in the round before */
    uint64_t  steady_until_ns;  /* it does not grow before */

    /* events that were acknowledged in each of the latest seconds */
    uint64_t  second;
    uint32_t  seconds[PAYMENT_WINDOW_SECONDS];

    /* the round */
    uint64_t  began_ns;
    uint64_t  from;           /* the window at its beginning */
    uint64_t  latest_ns;      /* of its acknowledgements */
    uint64_t  acked;          /* events */
    uint64_t  took_ns;        /* all of them together */
} payment_window_t;


void payment_window_init(payment_window_t *w, uint32_t start, uint32_t ceiling,
    uint64_t slow_ns);

/* A new producer: nothing is known of Kafka. */

void payment_window_restart(payment_window_t *w, uint64_t now_ns);

/* Is there room for one more, beside so many?  That there is none is noted. */

int payment_window_room(payment_window_t *w, uint64_t outstanding);

/* Some events were acknowledged, one at least: how long they took all together,
 * and the one that took the least. */

void payment_window_acked(payment_window_t *w, uint64_t now_ns, uint32_t n,
    uint64_t took_ns, uint64_t least_ns);

/* The broker makes the client wait, because of a quota. */

void payment_window_throttled(payment_window_t *w, uint64_t now_ns);

/* Did it do so lately? */

int payment_window_is_throttled(const payment_window_t *w, uint64_t now_ns);


#endif /* PAYMENT_WINDOW_H_INCLUDED */
