/*
 * Which of the last keys are known, and whether new ones are taken for them.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ngx_payment_seen.h"


static ngx_payment_seen_t  seen;


static uint64_t
test_random(uint64_t n)
{
    /* splitmix64 */

    n *= UINT64_C(0x9e3779b97f4a7c15);
    n = (n ^ (n >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ (n >> 27)) * UINT64_C(0x94d049bb133111eb);

    return n ^ (n >> 31);
}


/* Hashes of keys, by their numbers. */

static const uint8_t *
test_key(uint64_t n)
{
    static uint64_t  hash[2];

    hash[0] = test_random(2 * n);
    hash[1] = test_random(2 * n + 1);

    return (const uint8_t *) hash;
}


/* How many of the keys from one number to another are known. */

static unsigned
test_known(uint64_t from, uint64_t to)
{
    unsigned    known;
    ngx_uint_t  mark;

    for (known = 0; from < to; from++) {
        known += ngx_payment_seen_has(&seen, test_key(from), &mark);
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
        ngx_payment_seen_add(&seen, test_key(n), NGX_PAYMENT_SEEN_ONLY);
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
        ngx_payment_seen_add(&seen, test_key(n), NGX_PAYMENT_SEEN_ONLY);
        known = test_known(0, 1);
        forgotten += (n > 1 && !known);
        ngx_payment_seen_add(&seen, test_key(0), NGX_PAYMENT_SEEN_ONLY);
    }

    assert_in_range(forgotten, 1, 4);
    assert_in_range(test_known(1500000, 2000000), 495000, 500000);
}


/* A mark stays until there is another one, and is that of its key alone. */

static void
test_marks(void **state)
{
    uint64_t    n;
    ngx_uint_t  mark;

    (void) state;

    ngx_memzero(&seen, sizeof(seen));

    for (n = 0; n < 100000; n++) {
        ngx_payment_seen_add(&seen, test_key(n), n % 3);
        ngx_payment_seen_add(&seen, test_key(n), NGX_PAYMENT_SEEN_ONLY);
    }

    for (n = 0; n < 100000; n++) {
        assert_true(ngx_payment_seen_has(&seen, test_key(n), &mark));
        assert_int_equal(mark, n % 3);

        ngx_payment_seen_add(&seen, test_key(n), 65535);
        assert_true(ngx_payment_seen_has(&seen, test_key(n), &mark));
        assert_int_equal(mark, 65535);
    }

    assert_false(ngx_payment_seen_has(&seen, test_key(n), &mark));
    assert_int_equal(mark, NGX_PAYMENT_SEEN_ONLY);
}


static int
test_compare(const void *one, const void *two)
{
    uint32_t  a, b;

    a = *(const uint32_t *) one;
    b = *(const uint32_t *) two;

    return a < b ? -1 : a > b;
}


/* Each row has its own, at each server, with each durability: of so many, two
 * would be equal in one of 32 tries, but these are always the same. */

static void
test_marks_of_rows(void **state)
{
    unsigned         n, i, same;
    uint64_t         by, choice, shard;
    uint32_t         version;
    ngx_uint_t       durability, mark;
    static uint32_t  marks[8 * 16 * 2 * 64];

    (void) state;

    n = 0;

    for (shard = 0x7f0000001000; shard < 0x7f0000001000 + 8 * 640; shard += 640)
    {
        for (choice = 1; choice <= 16; choice++) {
            for (durability = 0; durability < 2; durability++) {
                by = ngx_payment_seen_by(shard, choice, durability);
                assert_int_not_equal(by, 0);

                for (version = 1; version <= 64; version++) {
                    mark = ngx_payment_seen_mark(by, test_key(version % 8),
                                                 version / 8);
                    assert_in_range(mark, 1, NGX_PAYMENT_SEEN_MARK);
                    assert_int_equal(mark,
                        ngx_payment_seen_mark(by, test_key(version % 8),
                                              version / 8));

                    marks[n++] = (uint32_t) mark;
                }
            }
        }
    }

    assert_int_equal(n, sizeof(marks) / sizeof(marks[0]));
    qsort(marks, n, sizeof(marks[0]), test_compare);

    for (i = 1, same = 0; i < n; i++) {
        same += (marks[i] == marks[i - 1]);
    }

    assert_int_equal(same, 0);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_keys),
        cmocka_unit_test(test_a_key_that_is_repeated),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_marks_of_rows)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
