/*
 * The window in front of simulated Kafkas that are slow, each in its way, but
 * steady.  What must hold for each: nothing is ever slow, so the breaker hears
 * nothing, and the link is full.
 *
 * Time goes by in milliseconds; there is always more to be sent.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* here, not linked: it is used by this program only */
#include "payment_window.c"


#define MS         UINT64_C(1000000)
#define SLOW_MS    2000
#define START      300
#define CEILING    15000
#define SECONDS    60

#define EVENTS     (1 << 22)


typedef struct {
    const char  *name;
    double       rate;           /* events a second that it takes */
    unsigned     rtt_ms;
    unsigned     jitter_ms;      /* of the way back */
    unsigned     lull_ms;        /* it rests so long, each second */
    double       least;          /* share of what it takes */
} kafka_t;


typedef struct {
    uint32_t     sent_ms;
    uint32_t     done_ms;
} event_t;


static event_t   events[EVENTS];
static uint64_t  seed;


static unsigned
number(unsigned n)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;

    return n ? (unsigned) ((seed >> 33) % n) : 0;
}


/* when an event is acknowledged that is sent now, behind the others */

static uint32_t
acknowledged(const kafka_t *k, uint32_t now, double *free_ms)
{
    double  arrives, rests;

    arrives = now + k->rtt_ms / 2.0;
    *free_ms = (*free_ms > arrives) ? *free_ms : arrives;

    rests = (double) ((uint64_t) *free_ms % 1000);

    if (rests < k->lull_ms) {
        *free_ms += k->lull_ms - rests;
    }

    *free_ms += 1000 / k->rate;

    return (uint32_t) (*free_ms + k->rtt_ms / 2.0 + number(k->jitter_ms) + 1);
}


static void
check(const kafka_t *k, unsigned farther_ms)
{
    double            free_ms, takes, share;
    kafka_t           far;
    uint32_t          now, took, worst, slow, largest;
    uint64_t          sent, acked, late;
    payment_window_t  w;

    payment_window_init(&w, START, CEILING, SLOW_MS * MS);
    far = *k;
    k = &far;

    seed = 1;
    free_ms = 0;
    sent = acked = late = 0;
    worst = slow = largest = 0;

    for (now = 1; now < SECONDS * 1000; now++) {

        while (acked < sent && events[acked % EVENTS].done_ms <= now) {
            took = now - events[acked % EVENTS].sent_ms;
            worst = (took > worst) ? took : worst;
            slow += (took > SLOW_MS);
            payment_window_acked(&w, now * MS, 1, took * MS, took * MS);
            acked++;
        }

        while (payment_window_room(&w, sent - acked)) {
            events[sent % EVENTS].sent_ms = now;
            events[sent % EVENTS].done_ms = acknowledged(k, now, &free_ms);
            sent++;
        }

        largest = (w.limit > largest) ? w.limit : largest;

        if (now == SECONDS * 1000 / 3) {
            late = acked;
            far.rtt_ms += farther_ms;
        }
    }

    takes = k->rate * (1 - k->lull_ms / 1000.0);

    if (takes > CEILING * 1000.0 / (k->rtt_ms + k->jitter_ms + 1)) {
        takes = CEILING * 1000.0 / (k->rtt_ms + k->jitter_ms + 1);
    }

    share = acked / takes / SECONDS;

    print_message("%-32s %.2f of it, %.2f later; at most %u ms, window %u\n",
                  k->name, share,
                  (acked - late) / takes / (SECONDS * 2 / 3.0), worst,
                  largest);

    assert_int_equal(slow, 0);
    assert_true(share >= k->least);
}


static void
test_steady(void **state)
{
    size_t  i;

    static const kafka_t  kafkas[] = {
        { "fast",                  150000,   5,   0,   0, 0.95 },
        { "fast, with pauses",     150000,   5,   0, 100, 0.95 },
        { "narrow",                  2000,   5,   0,   0, 0.95 },
        { "narrow, with pauses",     2000,   5,   0, 200, 0.90 },
        { "very narrow",              250,   5,   0,   0, 0.95 },
        { "far",                    50000, 300,   0,   0, 0.90 },
        { "far and uneven",         50000, 300, 300,   0, 0.85 },
        { "far and narrow",          2000, 300,   0,   0, 0.95 },
        { "very far",               50000, 800,   0,   0, 0.80 },
        { "very far and narrow",     1000, 800,   0,   0, 0.90 },
    };

    (void) state;

    for (i = 0; i < sizeof(kafkas) / sizeof(kafkas[0]); i++) {
        check(&kafkas[i], 0);
    }
}


/* After a third of the time, Kafka moves farther away. */

static void
test_farther(void **state)
{
    static const kafka_t  near = { "near, and then far", 20000, 5, 0, 0,
                                   0.55 };

    (void) state;

    check(&near, 295);
}


/* so many events in a second, each in 5 ms, with the window full */

static void
second(payment_window_t *w, uint64_t now_s, unsigned events)
{
    unsigned  i;

    for (i = 0; i < 100; i++) {
        (void) payment_window_room(w, w->limit);
        payment_window_acked(w, (now_s * 1000 + i * 10) * MS, events / 100,
                             events / 100 * 5 * MS, 5 * MS);
    }
}


/*
 * Of a broker that makes the client wait: the window is what the average of ten
 * seconds needs, as long as that goes on, and also for a new producer.
 */

static void
test_quota(void **state)
{
    uint64_t          s;
    payment_window_t  w;

    (void) state;

    payment_window_init(&w, START, CEILING, SLOW_MS * MS);

    for (s = 1; s < 4; s++) {
        second(&w, s, 10000);
    }

    assert_true(w.limit > 1000);
    assert_false(payment_window_is_throttled(&w, s * 1000 * MS));

    /* 30000 in ten seconds are 300 in a tenth of one */

    payment_window_throttled(&w, s * 1000 * MS);
    assert_int_equal(w.limit, 300);

    payment_window_restart(&w, s * 1000 * MS);
    assert_int_equal(w.limit, 300);

    for ( ; s < 15; s++) {
        second(&w, s, 3000);
        assert_int_equal(w.limit, 300);
    }

    for ( ; s < 25; s++) {
        second(&w, s, 3000);
    }

    assert_true(w.limit > 1000);
    assert_false(payment_window_is_throttled(&w, s * 1000 * MS));

    /* it is never smaller than the floor, and never grows by that */

    payment_window_throttled(&w, 100 * 1000 * MS);
    assert_true(w.limit <= 300);
    payment_window_throttled(&w, 200 * 1000 * MS);
    assert_int_equal(w.limit, PAYMENT_WINDOW_FLOOR);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_steady),
        cmocka_unit_test(test_farther),
        cmocka_unit_test(test_quota)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
