/*
 * What processes agree on about a shard: who tells of a server that fails, and
 * which of the servers is the primary.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ngx_payment_common.c"


/* what it uses of nginx */

volatile ngx_msec_t  ngx_current_msec = 1000;
ngx_uint_t           ngx_exiting;
uint32_t             ngx_crc32_table256[256];

static ngx_uint_t    logged;                /* lines */


void
ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err,
    const char *fmt, ...)
{
    logged++;
}


#define WORKER  0
#define HELPER  1


static ngx_payment_common_shard_t  common;
static ngx_payment_shard_t         shard;
static ngx_payment_server_t        servers[3];
static ngx_log_t                   log_of_test;


static int
begin(void **state)
{
    uint32_t    c;
    ngx_uint_t  i, bit;
    static u_char  *names[] = { (u_char *) "a:3306", (u_char *) "b:3306",
                                (u_char *) "c:3306" };

    for (i = 0; i < 256; i++) {
        c = i;

        for (bit = 0; bit < 8; bit++) {
            c = (c >> 1) ^ (c & 1 ? 0xedb88320 : 0);
        }

        ngx_crc32_table256[i] = c;
    }

    memset(&common, 0, sizeof(common));
    memset(&shard, 0, sizeof(shard));

    for (i = 0; i < 3; i++) {
        servers[i].name.data = names[i];
        servers[i].name.len = strlen((char *) names[i]);
    }

    shard.common = &common;
    shard.servers.elts = servers;
    shard.servers.nelts = 3;

    log_of_test.log_level = NGX_LOG_DEBUG;
    logged = 0;
    ngx_exiting = 0;

    return 0;
}


/* --- who tells of a server */

static void
test_one_process_tells(void **state)
{
    assert_int_equal(ngx_payment_common_tell(&shard, 0, 100, WORKER), 1);
    assert_int_equal(ngx_payment_common_tell(&shard, 0, 100, WORKER), 0);
    assert_int_equal(ngx_payment_common_tell(&shard, 0, 100, HELPER), 0);

    /* of another server, and of another failure */
    assert_int_equal(ngx_payment_common_tell(&shard, 1, 100, HELPER), 1);
    assert_int_equal(ngx_payment_common_tell(&shard, 0, 102, WORKER), 1);

    assert_int_equal(ngx_payment_common_untell(&shard, WORKER), 1);
    assert_int_equal(ngx_payment_common_untell(&shard, WORKER), 0);
    assert_int_equal(ngx_payment_common_tell(&shard, 0, 102, WORKER), 1);
}


static void
test_a_helper_ends_what_helpers_met(void **state)
{
    assert_int_equal(ngx_payment_common_tell(&shard, 0, 100, HELPER), 1);
    assert_int_equal(ngx_payment_common_untell(&shard, HELPER), 1);

    assert_int_equal(ngx_payment_common_tell(&shard, 0, 100, WORKER), 1);
    assert_int_equal(ngx_payment_common_untell(&shard, HELPER), 0);
    assert_int_equal(ngx_payment_common_untell(&shard, WORKER), 1);
}


static void
test_and_not_what_a_worker_meets_too(void **state)
{
    assert_int_equal(ngx_payment_common_tell(&shard, 0, 100, HELPER), 1);
    assert_int_equal(ngx_payment_common_tell(&shard, 0, 100, WORKER), 0);
    assert_int_equal(ngx_payment_common_tell(&shard, 0, 100, HELPER), 0);

    assert_int_equal(ngx_payment_common_untell(&shard, HELPER), 0);
    assert_int_equal(ngx_payment_common_tell(&shard, 0, 100, WORKER), 0);
    assert_int_equal(ngx_payment_common_untell(&shard, WORKER), 1);
}


/* --- which server is the primary */

static void
test_the_choice_goes_round(void **state)
{
    uint64_t    choice, old;
    ngx_uint_t  i;

    choice = ngx_payment_common_primary(&shard);

    for (i = 0; i < 7; i++) {
        assert_int_equal(ngx_payment_common_server(&shard, choice), i % 3);

        old = choice;
        assert_int_equal(ngx_payment_common_move(&shard, old), 1);
        assert_int_equal(ngx_payment_common_move(&shard, old), 0);

        choice = ngx_payment_common_primary(&shard);
        assert_true(choice != old);
    }
}


static void
test_it_is_confirmed_once(void **state)
{
    uint64_t  choice, other;

    choice = other = ngx_payment_common_primary(&shard);

    assert_int_equal(ngx_payment_common_confirm(&shard, &choice, "one", "",
                                                &log_of_test), NGX_OK);
    assert_int_equal(logged, 1);

    /* by the same name the same server, or another one */
    assert_int_equal(ngx_payment_common_confirm(&shard, &other, "one", "",
                                                &log_of_test), NGX_OK);
    assert_true(other == choice);
    assert_int_equal(ngx_payment_common_confirm(&shard, &other, "two", "",
                                                &log_of_test), NGX_DECLINED);
    assert_int_equal(ngx_payment_common_renew(&shard, choice), 1);
    assert_int_equal(ngx_payment_common_confirm(&shard, &other, "two", "",
                                                &log_of_test), NGX_AGAIN);

    other = ngx_payment_common_primary(&shard);
    assert_int_equal(ngx_payment_common_server(&shard, other), 0);
    assert_int_equal(ngx_payment_common_confirm(&shard, &other, "two", "",
                                                &log_of_test), NGX_OK);
    assert_int_equal(logged, 2);
}


static void
test_who_is_exiting_chooses_nothing(void **state)
{
    uint64_t  choice;

    choice = ngx_payment_common_primary(&shard);
    ngx_exiting = 1;

    assert_int_equal(ngx_payment_common_move(&shard, choice), 0);
    assert_true(ngx_payment_common_primary(&shard) == choice);
}


static void
test_one_server_is_left_at_a_time(void **state)
{
    uint64_t  choice;

    choice = ngx_payment_common_primary(&shard);
    assert_int_equal(ngx_payment_common_leave(&shard, choice), 1);

    choice = ngx_payment_common_primary(&shard);
    ngx_current_msec += NGX_PAYMENT_COMMON_STAY - 1;
    assert_int_equal(ngx_payment_common_leave(&shard, choice), 0);

    ngx_current_msec++;
    assert_int_equal(ngx_payment_common_leave(&shard, choice), 1);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup(test_one_process_tells, begin),
        cmocka_unit_test_setup(test_a_helper_ends_what_helpers_met, begin),
        cmocka_unit_test_setup(test_and_not_what_a_worker_meets_too, begin),
        cmocka_unit_test_setup(test_the_choice_goes_round, begin),
        cmocka_unit_test_setup(test_it_is_confirmed_once, begin),
        cmocka_unit_test_setup(test_who_is_exiting_chooses_nothing, begin),
        cmocka_unit_test_setup(test_one_server_is_left_at_a_time, begin)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
