/*
 * The pace between a simulated database, whose reads take the time that they
 * take, and clients that commit at steady rates.  What must hold: quiet events
 * are read at once, reads are few under load, and no event ever waits for the
 * end of a pause that is longer than what is allowed.
 *
 * Time goes by in steps of 0.1 ms.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* here, not linked: it is used by this program only */
#include "payment_pace.c"


#define MS          UINT64_C(1000000)
#define STEP        (MS / 10)
#define READ_EACH   UINT64_C(2000)  /* ns */
#define SETTLED     (500 * MS)      /* before, reads are not counted */
#define POLL        (50 * MS)


typedef struct {
    unsigned   events;              /* that came */
    unsigned   reads;               /* that found some */
    uint64_t   mean_ns;             /* from an event's coming to its read */
    uint64_t   longest_ns;          /* that events waited and no read ran */
} figures_t;


static payment_pace_t  pace;
static uint64_t        now;
static uint64_t        read_ns = MS;    /* a read, and READ_EACH an event */


/* Clients commit so many events a second, in groups, for so long.  A read finds
 * what came before it began; without an event there is one each POLL. */

static figures_t
play(unsigned rate, unsigned group, uint64_t time)
{
    unsigned   waiting;
    uint64_t   end, next, oldest, began, ended, not_before, since, sum;
    figures_t  f = { 0, 0, 0, 0 };

    end = now + time;
    next = now;
    waiting = 0;
    since = 0;
    sum = 0;
    oldest = 0;
    began = now;
    ended = now;
    not_before = now;

    for ( /* void */ ; now < end; now += STEP) {

        while (rate && next <= now) {
            oldest = waiting ? oldest : now;
            since += group * (end - now);
            waiting += group;
            next += group * UINT64_C(1000000000) / rate;
        }

        if (now < ended || (waiting ? now < not_before : now - began < POLL)) {
            continue;
        }

        if (waiting && end - now <= time - SETTLED) {
            f.reads++;
            f.events += waiting;
            sum += since - waiting * (end - now);

            oldest = (oldest > ended) ? oldest : ended;
            f.longest_ns = (now - oldest > f.longest_ns) ? now - oldest
                                                         : f.longest_ns;
        }

        began = now;
        ended = now + read_ns + waiting * READ_EACH;
        not_before = ended + payment_pace_read(&pace, began, ended,
                                               waiting);
        waiting = 0;
        since = 0;
    }

    f.mean_ns = f.events ? sum / f.events : 0;

    return f;
}


static void
test_quiet(void **state)
{
    figures_t  f;

    (void) state;

    payment_pace_init(&pace, 20 * MS);

    f = play(100, 1, 5000 * MS);

    assert_int_equal(f.reads, 450);
    assert_int_equal(f.events, f.reads);
    assert_int_equal(f.mean_ns, 0);
}


static void
test_load(void **state)
{
    figures_t  f;

    (void) state;

    payment_pace_init(&pace, 20 * MS);

    /* a thousand a second hardly wait */

    f = play(1000, 1, 5000 * MS);
    assert_true(f.mean_ns < 3 * MS);
    assert_true(f.reads < f.events / 2);

    /* and many thousands are read in large groups */

    f = play(27000, 30, 5000 * MS);
    assert_true(f.reads < 5000 / 20);
    assert_true(f.events / f.reads > 500);
    assert_true(f.longest_ns <= 20 * MS + STEP);
}


/* A few thousand events are much where a read takes long, and those that come
 * one by one are quiet there, too. */

static void
test_busy(void **state)
{
    figures_t  f;

    (void) state;

    payment_pace_init(&pace, 20 * MS);
    read_ns = 10 * MS;

    f = play(2500, 1, 5000 * MS);
    assert_true(f.events / f.reads >= 70);

    f = play(50, 1, 5000 * MS);
    assert_int_equal(f.events, f.reads);
    assert_int_equal(f.mean_ns, 0);

    read_ns = MS;
}


/* the longer the pause may be, the fewer reads there are, and none waits for
 * longer than that */

static void
test_bound(void **state)
{
    unsigned   i, r, reads;
    figures_t  f;

    static const unsigned  delays[] = { 0, 1, 5, 20, 100, 1000 };
    static const unsigned  rates[] = { 30, 500, 3000, 8000, 60000 };

    (void) state;

    for (r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {

        reads = UINT32_MAX;

        for (i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {

            payment_pace_init(&pace, delays[i] * MS);

            f = play(rates[r], 1, 20000 * MS);

            assert_true(f.longest_ns <= delays[i] * MS + STEP);
            assert_true(f.reads <= reads);
            assert_true(f.reads > 0);

            if (delays[i] == 0) {
                assert_true(f.longest_ns < STEP);
            }

            reads = f.reads;
        }
    }
}


/* A batch that comes alone is no load, and what was one is soon over. */

static void
test_between(void **state)
{
    uint64_t  pause;

    (void) state;

    payment_pace_init(&pace, 20 * MS);
    now += 1000 * MS;

    (void) payment_pace_read(&pace, now, now, 0);
    pause = payment_pace_read(&pace, now + MS, now + 2 * MS, 64);

    assert_true(pause < 2 * MS);

    (void) play(30000, 30, 1000 * MS);
    assert_int_equal(payment_pace_read(&pace, now, now, 600), 20 * MS);

    (void) play(0, 0, 500 * MS);
    assert_true(payment_pace_read(&pace, now, now, 1) < 2 * MS);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_between)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
