/*
 * The floor: it rises late and never above a row, also in random traces of
 * writers that take ids before they write rows and commit in any order.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* here, not linked: it is used by this program only */
#include "payment_floor.c"


#define ROWS      64
#define STEPS     20000
#define WRITE_MS  (PAYMENT_FLOOR_LAG_MS - 1)    /* from id to row, at most */


typedef enum {
    NONE = 0,
    NUMBERED,           /* it has an id, and nobody can see it */
    WRITTEN             /* a look sees it, committed or not */
} row_state_e;


typedef struct {
    row_state_e   state;
    uint64_t      id;
    uint64_t      since_ms;
} row_t;


static uint64_t  seed;


static uint64_t
number(uint64_t n)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;

    return (seed >> 33) % n;
}


static void
test_it_rises_late(void **state)
{
    payment_floor_t  f;

    (void) state;

    payment_floor_forget(&f);

    payment_floor_seen(&f, 10, 100, 110);
    assert_int_equal(f.id, 0);

    /* too early, by the time at which the look began */
    payment_floor_seen(&f, 20, 109 + PAYMENT_FLOOR_LAG_MS, 9000);
    assert_int_equal(f.id, 0);

    payment_floor_seen(&f, 20, 110 + PAYMENT_FLOOR_LAG_MS, 9000);
    assert_int_equal(f.id, 10);

    payment_floor_seen(&f, 30, 9000 + PAYMENT_FLOOR_LAG_MS, 20000);
    assert_int_equal(f.id, 20);
}


static void
test_something_comes_below(void **state)
{
    payment_floor_t  f;

    (void) state;

    payment_floor_forget(&f);
    payment_floor_seen(&f, 10, 0, 0);

    /* the time begins anew */
    payment_floor_seen(&f, 7, PAYMENT_FLOOR_LAG_MS, PAYMENT_FLOOR_LAG_MS);
    assert_int_equal(f.id, 0);

    payment_floor_seen(&f, 10, 2 * PAYMENT_FLOOR_LAG_MS,
                       2 * PAYMENT_FLOOR_LAG_MS);
    assert_int_equal(f.id, 7);

    /* a replay is told, and one that is not known of is seen */
    payment_floor_lower(&f, 4);
    assert_int_equal(f.id, 4);

    payment_floor_seen(&f, 3, 9 * PAYMENT_FLOOR_LAG_MS,
                       9 * PAYMENT_FLOOR_LAG_MS);
    assert_int_equal(f.id, 3);

    payment_floor_forget(&f);
    assert_int_equal(f.id, 0);
}


static void
trace(void)
{
    row_t            rows[ROWS], *r;
    uint64_t         now, next_id, lowest;
    unsigned         i, step;
    payment_floor_t  f;

    memset(rows, 0, sizeof(rows));
    payment_floor_forget(&f);

    now = 1000;
    next_id = 1;

    for (step = 0; step < STEPS; step++) {

        now += number(40);
        r = &rows[number(ROWS)];

        switch (r->state) {

        case NONE:
            r->state = NUMBERED;
            r->id = next_id++;
            r->since_ms = now;
            break;

        case NUMBERED:
            r->state = WRITTEN;
            break;

        case WRITTEN:
            r->state = NONE;
            break;
        }

        for (i = 0; i < ROWS; i++) {
            if (rows[i].state == NUMBERED && now - rows[i].since_ms > WRITE_MS)
            {
                rows[i].state = WRITTEN;
            }
        }

        if (number(20) == 0) {
            lowest = next_id;

            for (i = 0; i < ROWS; i++) {
                if (rows[i].state == WRITTEN && rows[i].id < lowest) {
                    lowest = rows[i].id;
                }
            }

            payment_floor_seen(&f, lowest, now, now);
        }

        for (i = 0; i < ROWS; i++) {
            assert_true(rows[i].state == NONE || f.id <= rows[i].id);
        }
    }

    assert_true(f.id > next_id / 4);
}


static void
test_random_traces(void **state)
{
    uint64_t  n;

    (void) state;

    for (n = 1; n <= 100; n++) {
        seed = n;
        trace();
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_it_rises_late),
        cmocka_unit_test(test_something_comes_below),
        cmocka_unit_test(test_random_traces)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
