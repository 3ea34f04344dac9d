/*
 * What is taken from librdkafka's statistics: all that is asked for, of as many
 * brokers as there are slots, whatever stands beside them.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ngx_payment_producer_brokers.c"


#define TEXT_SIZE  65536


static ngx_payment_broker_t  brokers[NGX_PAYMENT_BROKERS_MAX];
static char                  text[TEXT_SIZE];


static int
begin(void **state)
{
    memset(brokers, 0, sizeof(brokers));

    return 0;
}


/* One member of "brokers", shortened to what is asked for and its like. */

static size_t
broker(char *to, int id, const char *state, unsigned n, unsigned us)
{
    return (size_t) sprintf(to,
        "%s\"127.0.0.1:9092/%d\":{\"name\":\"127.0.0.1:9092/%d\","
        "\"nodeid\":%d,\"state\":\"%s\","
        "\"outbuf_latency\":{\"p50\":1,\"cnt\":7,\"sum\":9},"
        "\"rtt\":{\"min\":1,\"avg\":2,\"sum\":%u,\"p50\":%u,\"p75\":5,"
        "\"p95\":%u,\"p99\":%u,\"p99_99\":8,\"cnt\":%u},"
        "\"toppars\":{\"t-0\":{\"topic\":\"t\",\"partition\":0}}}",
        to[-1] == '{' ? "" : ",", id, id, id, state, n * us, us, us + 1,
        us + 2, n);
}


/* The statistics of brokers first .. last. */

static const char *
statistics(int first, int last, const char *state, unsigned n, unsigned us)
{
    int    id;
    char  *p;

    p = text + sprintf(text, "{\"name\":\"x#producer-1\",\"brokers\":{");

    for (id = first; id <= last; id++) {
        p += broker(p, id, state, n, us);
    }

    (void) sprintf(p, "},\"topics\":{\"t\":{\"partitions\":{\"0\":{"
                   "\"state\":\"UP\"}}}}}");

    return text;
}


static void
assert_broker(ngx_uint_t i, unsigned id, unsigned count, unsigned sum,
    unsigned recent)
{
    assert_int_equal(brokers[i].node, id + 1);
    assert_int_equal(brokers[i].count, count);
    assert_int_equal(brokers[i].sum_us, sum);
    assert_int_equal(brokers[i].recent, recent);
}


static void
test_intervals_add_up(void **state)
{
    assert_int_equal(ngx_payment_producer_brokers_read(brokers,
                                       statistics(0, 2, "UP", 10, 300)), 1);
    assert_int_equal(ngx_payment_producer_brokers_read(brokers,
                                       statistics(0, 2, "UP", 5, 200)), 1);

    assert_broker(2, 2, 15, 4000, 5);
    assert_int_equal(brokers[2].p50_us, 200);
    assert_int_equal(brokers[2].p95_us, 201);
    assert_int_equal(brokers[2].p99_us, 202);
    assert_int_equal(brokers[3].node, 0);
}


/* A broker keeps its slot and its sums; nothing recent is known of it. */

static void
test_broker_goes_and_comes(void **state)
{
    (void) ngx_payment_producer_brokers_read(brokers,
                                             statistics(3, 4, "UP", 4, 100));
    (void) ngx_payment_producer_brokers_read(brokers,
                                             statistics(4, 5, "UP", 1, 100));
    assert_broker(0, 3, 4, 400, 0);
    assert_broker(1, 4, 5, 500, 1);
    assert_broker(2, 5, 1, 100, 1);

    (void) ngx_payment_producer_brokers_read(brokers,
                                             statistics(3, 3, "UP", 1, 100));
    assert_broker(0, 3, 5, 500, 1);
    assert_broker(1, 4, 5, 500, 0);

    ngx_payment_producer_brokers_quiet(brokers);
    assert_broker(0, 3, 5, 500, 0);
}


static void
test_more_brokers_than_slots(void **state)
{
    (void) ngx_payment_producer_brokers_read(brokers, statistics(1,
                            NGX_PAYMENT_BROKERS_MAX + 9, "UP", 1, 100));

    assert_broker(NGX_PAYMENT_BROKERS_MAX - 1, NGX_PAYMENT_BROKERS_MAX, 1,
                  100, 1);
}


/* An address of which the client does not know yet who answers there */

static void
test_bootstrap(void **state)
{
    assert_int_equal(ngx_payment_producer_brokers_read(brokers,
                                       statistics(-1, -1, "UP", 1, 100)), 1);
    assert_int_equal(brokers[0].node, 0);
}


static void
test_nobody_is_reached(void **state)
{
    assert_int_equal(ngx_payment_producer_brokers_read(brokers,
                                     statistics(1, 2, "CONNECT", 0, 0)), 0);
    assert_broker(0, 1, 0, 0, 0);
}


static void
test_odd_texts(void **state)
{
    ngx_uint_t  i;

    static const char  *texts[] = {
        "", "{}", "{\"brokers\":", "{\"brokers\":{", "{\"brokers\":[]}",
        "{\"brokers\":{\"a\":{}}}", "{\"brokers\":{\"a\":1}}",
        "{\"brokers\":{\"a\":{\"nodeid\":\"1\",\"state\":1}}}",
        "{\"brokers\":{\"a\":{\"nodeid\":-1,\"rtt\":{\"cnt\":1}}}}"
    };

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(ngx_payment_producer_brokers_read(brokers, texts[i]),
                         0);
        assert_int_equal(brokers[0].node, 0);
    }

    assert_int_equal(ngx_payment_producer_brokers_read(brokers,
        "{\"brokers\":{\"a\":{\"nodeid\":1,\"state\":\"UP\","
        "\"rtt\":{\"cnt\":-1,\"p50\":-2}}}}"), 1);
    assert_broker(0, 1, 0, 0, 0);
    assert_int_equal(brokers[0].p50_us, 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup(test_intervals_add_up, begin),
        cmocka_unit_test_setup(test_broker_goes_and_comes, begin),
        cmocka_unit_test_setup(test_more_brokers_than_slots, begin),
        cmocka_unit_test_setup(test_bootstrap, begin),
        cmocka_unit_test_setup(test_nobody_is_reached, begin),
        cmocka_unit_test_setup(test_odd_texts, begin)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
