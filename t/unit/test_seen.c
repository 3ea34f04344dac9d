/*
 * Which of the last keys are known, and whether new ones are taken for them.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ngx_payment_seen.h"


static ngx_payment_seen_t  seen;


/* Hashes of keys: splitmix64 of their numbers. */

static const uint8_t *
test_key(uint64_t n)
{
    static uint64_t  hash;

    hash = n * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ (hash >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    hash = (hash ^ (hash >> 27)) * UINT64_C(0x94d049bb133111eb);
    hash ^= hash >> 31;

    return (const uint8_t *) &hash;
}


/* How many of the keys from one number to another are known. */

static unsigned
test_known(uint64_t from, uint64_t to)
{
    unsigned  known;

    for (known = 0; from < to; from++) {
        known += ngx_payment_seen_has(&seen, test_key(from));
    }

    return known;
}


static void
test_last_keys(void **state)
{
    uint64_t  n;

    (void) state;

    assert_int_equal(test_known(0, 1000), 0);

    for (n = 0; n < 3000000; n++) {
        ngx_payment_seen_add(&seen, test_key(n));
    }

    assert_int_equal(test_known(2800000, 3000000), 200000);
    assert_in_range(test_known(2500000, 3000000), 495000, 500000);
    assert_in_range(test_known(2000000, 2000000 + 100000), 40000, 60000);
    assert_in_range(test_known(1000000, 1000000 + 100000), 0, 300);

    assert_in_range(test_known(3000000, 4000000), 0, 2);
}


/* A key that is repeated all the time takes one place, and is forgotten after
 * as many others as any, to be known again at its next repeat. */

static void
test_a_key_that_is_repeated(void **state)
{
    uint64_t  n;
    unsigned  known, forgotten;

    (void) state;

    ngx_memzero(&seen, sizeof(seen));
    forgotten = 0;

    for (n = 1; n < 2000000; n++) {
        ngx_payment_seen_add(&seen, test_key(n));
        known = test_known(0, 1);
        forgotten += (n > 1 && !known);
        ngx_payment_seen_add(&seen, test_key(0));
    }

    assert_in_range(forgotten, 1, 4);
    assert_in_range(test_known(1500000, 2000000), 495000, 500000);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_keys),
        cmocka_unit_test(test_a_key_that_is_repeated)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
