/*
 * The stopwatch, looked at in steps of 100 ms as a helper's ticks do.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* here, not linked: it is used by this program only */
#include "payment_stopwatch.c"


#define MS     UINT64_C(1000000)
#define TICK   (100 * MS)


static payment_stopwatch_t  watch;
static uint64_t             now;


static int
test_start(void **state)
{
    (void) state;

    now = 123456 * MS;
    payment_stopwatch_init(&watch, now, PAYMENT_STOPWATCH_GAP_NS);

    return 0;
}


/* What the stopwatch says of so many milliseconds, of a multiple of TICK. */

static uint64_t
run(uint64_t ms)
{
    uint64_t  end, began;

    began = payment_stopwatch_look(&watch, now);

    for (end = now + ms * MS; now < end; /* void */ ) {
        now += TICK;
        (void) payment_stopwatch_look(&watch, now);
    }

    return (payment_stopwatch_look(&watch, now) - began) / MS;
}


/* The process is stopped. */

static uint64_t
stand(uint64_t ms)
{
    uint64_t  began;

    began = payment_stopwatch_look(&watch, now);
    now += ms * MS;

    return (payment_stopwatch_look(&watch, now) - began) / MS;
}


static void
test_goes_with_the_clock(void **state)
{
    (void) state;

    assert_int_equal(run(5000), 5000);
    assert_int_equal(stand(500), 500);
}


static void
test_the_process_stood(void **state)
{
    (void) state;

    assert_int_equal(run(300), 300);
    assert_int_equal(stand(501), 0);
    assert_int_equal(run(300), 300);
    assert_int_equal(stand(3600 * 1000), 0);
    assert_int_equal(run(300), 300);
}


/* What was asked for before a stop is not measured; what is asked for after it
 * is, as soon as the time goes on. */

static void
test_ran(void **state)
{
    uint64_t  before, after;

    (void) state;

    before = payment_stopwatch_look(&watch, now);
    (void) run(100);
    assert_true(payment_stopwatch_ran(&watch, before));

    before = payment_stopwatch_look(&watch, now);
    (void) stand(2000);
    assert_false(payment_stopwatch_ran(&watch, before));

    (void) run(100);
    after = payment_stopwatch_look(&watch, now);
    assert_false(payment_stopwatch_ran(&watch, before));
    assert_true(payment_stopwatch_ran(&watch, after));

    /* to be held is no stop */
    payment_stopwatch_hold(&watch, now, now + 1000 * MS);
    (void) run(1500);
    assert_true(payment_stopwatch_ran(&watch, after));
}


static void
test_longer_gaps(void **state)
{
    (void) state;

    payment_stopwatch_init(&watch, now, 2000 * MS);
    assert_int_equal(stand(1999), 1999);
    assert_int_equal(stand(2001), 0);
}


static void
test_held(void **state)
{
    (void) state;

    payment_stopwatch_hold(&watch, now, now + 1000 * MS);
    assert_int_equal(run(1200), 200);

    /* again before it is over: until the later of both */
    payment_stopwatch_hold(&watch, now, now + 1000 * MS);
    assert_int_equal(run(500), 0);
    payment_stopwatch_hold(&watch, now, now + 200 * MS);
    assert_int_equal(run(300), 0);
    payment_stopwatch_hold(&watch, now, now + 700 * MS);
    assert_int_equal(run(1000), 300);
}


/* Whatever of a stop is held already, it is not counted a second time. */

static void
test_stood_while_held(void **state)
{
    (void) state;

    payment_stopwatch_hold(&watch, now, now + 1000 * MS);
    assert_int_equal(run(500), 0);
    assert_int_equal(stand(2000), 0);
    assert_int_equal(run(500), 500);

    payment_stopwatch_hold(&watch, now, now + 5000 * MS);
    assert_int_equal(stand(2000), 0);
    assert_int_equal(run(4000), 1000);

    /* what is held is heard of at the end of a stop */
    now += 3000 * MS;
    payment_stopwatch_hold(&watch, now, now + 100 * MS);
    assert_int_equal(run(400), 300);
}


static void
test_never_goes_back(void **state)
{
    uint64_t  time;

    (void) state;

    (void) run(300);
    time = payment_stopwatch_look(&watch, now);

    assert_int_equal(payment_stopwatch_look(&watch, now - 50 * MS), time);
    assert_int_equal(payment_stopwatch_look(&watch, 0), time);
    assert_int_equal(payment_stopwatch_look(&watch, now), time);
    assert_int_equal(run(100), 100);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_goes_with_the_clock, test_start),
        cmocka_unit_test_setup(test_the_process_stood, test_start),
        cmocka_unit_test_setup(test_ran, test_start),
        cmocka_unit_test_setup(test_longer_gaps, test_start),
        cmocka_unit_test_setup(test_held, test_start),
        cmocka_unit_test_setup(test_stood_while_held, test_start),
        cmocka_unit_test_setup(test_never_goes_back, test_start)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
