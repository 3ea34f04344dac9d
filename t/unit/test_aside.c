/*
 * What is set aside: by example, and by random traces against the slowest
 * possible model.
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
#include "payment_aside.c"


#define IDS       500
#define PAYMENTS  30
#define CAPACITY  200
#define STEPS     200000


static uint64_t  seed;


static uint64_t
number(uint64_t n)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;

    return (seed >> 33) % n;
}


static uint64_t
created(uint64_t id)
{
    return 1000 + id * 37 % 101;
}


static void
test_order_of_a_payment(void **state)
{
    payment_aside_t  t;

    (void) state;

    assert_int_equal(payment_aside_create(&t, 10), 0);

    /* 64 buckets: 7 and 71 share one */

    assert_int_equal(payment_aside_add(&t, 20, 7, created(20)), 0);
    assert_int_equal(payment_aside_add(&t, 21, 71, created(21)), 0);
    assert_int_equal(payment_aside_add(&t, 30, 7, created(30)), 0);
    assert_int_equal(payment_aside_add(&t, 25, 7, created(25)), 0);
    assert_int_equal(payment_aside_add(&t, 10, 7, created(10)), 0);

    assert_false(payment_aside_precedes(&t, 10, 7));
    assert_true(payment_aside_precedes(&t, 11, 7));
    assert_false(payment_aside_precedes(&t, 11, 71));
    assert_false(payment_aside_precedes(&t, 11, 8));

    assert_int_equal(payment_aside_take(&t, 7), 10);
    assert_false(payment_aside_has(&t, 10));
    assert_int_equal(payment_aside_take(&t, 7), 20);
    assert_int_equal(payment_aside_take(&t, 7), 25);
    assert_int_equal(payment_aside_take(&t, 7), 30);
    assert_int_equal(payment_aside_take(&t, 7), 0);
    assert_int_equal(payment_aside_take(&t, 71), 21);
    assert_int_equal(t.n, 0);

    payment_aside_destroy(&t);
}


static void
test_full(void **state)
{
    uint64_t         id;
    payment_aside_t  t;

    (void) state;

    assert_int_equal(payment_aside_create(&t, 10), 0);

    for (id = 1; id <= 10; id++) {
        assert_int_equal(payment_aside_room(&t), 11 - id);
        assert_int_equal(payment_aside_add(&t, id, id % 3, created(id)), 0);
    }

    assert_int_equal(payment_aside_add(&t, 11, 1, created(11)), -1);
    assert_false(payment_aside_has(&t, 11));

    assert_int_equal(payment_aside_take(&t, 1), 1);
    assert_int_equal(payment_aside_add(&t, 11, 1, created(11)), 0);

    payment_aside_forget(&t);
    assert_int_equal(payment_aside_room(&t), 10);
    assert_false(payment_aside_has(&t, 5));
    assert_false(payment_aside_precedes(&t, 100, 1));

    payment_aside_destroy(&t);
}


/* payments[id] is the id's payment, 0: it is not there */

static uint64_t
first_of(const uint64_t *payments, uint64_t payment)
{
    uint64_t  id;

    for (id = 1; id < IDS; id++) {
        if (payments[id] == payment) {
            return id;
        }
    }

    return 0;
}


static uint64_t
lowest_of(const uint64_t *payments)
{
    uint64_t  id;

    for (id = 1; id < IDS; id++) {
        if (payments[id]) {
            return id;
        }
    }

    return UINT64_MAX;
}


static uint64_t
oldest_of(const uint64_t *payments)
{
    uint64_t  id, oldest;

    oldest = 0;

    for (id = 1; id < IDS; id++) {
        if (payments[id] && (oldest == 0 || created(id) < oldest)) {
            oldest = created(id);
        }
    }

    return oldest;
}


static void
test_random_traces(void **state)
{
    size_t           n, i;
    uint64_t         id, payment, first, payments[IDS];
    payment_aside_t  t;

    (void) state;

    memset(payments, 0, sizeof(payments));
    assert_int_equal(payment_aside_create(&t, CAPACITY), 0);

    seed = 1;
    n = 0;

    for (i = 0; i < STEPS; i++) {
        id = 1 + number(IDS - 1);

        /* many share a bucket */
        payment = 1 + number(PAYMENTS) * (number(2) ? 1 : t.buckets);

        switch (number(20)) {

        case 0:
            if (number(500) == 0) {
                payment_aside_forget(&t);
                memset(payments, 0, sizeof(payments));
                n = 0;
            }

            break;

        case 1: case 2: case 3: case 4: case 5: case 6: case 7:
            first = first_of(payments, payment);
            assert_int_equal(payment_aside_take(&t, payment), first);

            if (first) {
                payments[first] = 0;
                n--;
            }

            break;

        default:
            if (payments[id]) {
                break;
            }

            if (n == CAPACITY) {
                assert_int_equal(payment_aside_add(&t, id, payment,
                                                   created(id)), -1);
                break;
            }

            assert_int_equal(payment_aside_add(&t, id, payment, created(id)), 0);
            payments[id] = payment;
            n++;
        }

        assert_int_equal(t.n, n);
        assert_int_equal(payment_aside_oldest(&t), oldest_of(payments));
        assert_int_equal(payment_aside_lowest(&t), lowest_of(payments));
        assert_int_equal(payment_aside_has(&t, id), payments[id] != 0);

        first = first_of(payments, payment);
        assert_int_equal(payment_aside_precedes(&t, id, payment),
                         first && first < id);
    }

    payment_aside_destroy(&t);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_order_of_a_payment),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_random_traces)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
