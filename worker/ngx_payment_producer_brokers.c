/*
 * The brokers in librdkafka's statistics; see ngx_payment_producer_brokers.h,
 * and librdkafka's STATISTICS.md for the names of the members.
 */

#include "ngx_payment_producer_brokers.h"

#include <jansson.h>


#define NGX_PAYMENT_PRODUCER_BROKERS  "\"brokers\":"


static ngx_payment_broker_t *ngx_payment_producer_brokers_slot(
    ngx_payment_broker_t *brokers, json_t *json);
static void ngx_payment_producer_brokers_add(ngx_payment_broker_t *broker,
    json_t *rtt);
static ngx_atomic_uint_t ngx_payment_producer_brokers_number(json_t *json,
    const char *name);


ngx_uint_t
ngx_payment_producer_brokers_read(ngx_payment_broker_t *brokers,
    const char *text)
{
    json_t                *all, *json;
    ngx_uint_t             i, up;
    const char            *name, *state;
    json_error_t           error;
    ngx_payment_broker_t  *broker;
    u_char                 told[NGX_PAYMENT_BROKERS_MAX];

    /* what follows the brokers, each partition of each topic, is long */

    text = ngx_strstr(text, NGX_PAYMENT_PRODUCER_BROKERS);

    if (text == NULL) {
        return 0;
    }

    all = json_loads(text + sizeof(NGX_PAYMENT_PRODUCER_BROKERS) - 1,
                     JSON_DISABLE_EOF_CHECK, &error);

    if (all == NULL) {
        return 0;
    }

    up = 0;
    ngx_memzero(told, sizeof(told));

    json_object_foreach(all, name, json) {
        state = json_string_value(json_object_get(json, "state"));

        if (state && ngx_strcmp(state, "UP") == 0) {
            up = 1;
        }

        broker = ngx_payment_producer_brokers_slot(brokers, json);

        if (broker) {
            ngx_payment_producer_brokers_add(broker,
                                             json_object_get(json, "rtt"));
            told[broker - brokers] = 1;
        }
    }

    json_decref(all);

    for (i = 0; i < NGX_PAYMENT_BROKERS_MAX; i++) {
        if (!told[i]) {
            brokers[i].recent = 0;
        }
    }

    return up;
}


void
ngx_payment_producer_brokers_quiet(ngx_payment_broker_t *brokers)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_PAYMENT_BROKERS_MAX; i++) {
        brokers[i].recent = 0;
    }
}


/* NULL: the client does not know yet which broker answers at an address that
 * it was given, or there are more brokers than slots. */

static ngx_payment_broker_t *
ngx_payment_producer_brokers_slot(ngx_payment_broker_t *brokers, json_t *json)
{
    json_int_t  id;
    ngx_uint_t  i;
    json_t     *number;

    number = json_object_get(json, "nodeid");
    id = json_is_integer(number) ? json_integer_value(number) : -1;

    if (id < 0) {
        return NULL;
    }

    for (i = 0; i < NGX_PAYMENT_BROKERS_MAX; i++) {
        if (brokers[i].node == 0) {
            brokers[i].node = (ngx_atomic_uint_t) id + 1;
        }

        if (brokers[i].node == (ngx_atomic_uint_t) id + 1) {
            return &brokers[i];
        }
    }

    return NULL;
}


static void
ngx_payment_producer_brokers_add(ngx_payment_broker_t *broker, json_t *rtt)
{
    ngx_atomic_uint_t  count;

    count = ngx_payment_producer_brokers_number(rtt, "cnt");

    broker->p50_us = ngx_payment_producer_brokers_number(rtt, "p50");
    broker->p95_us = ngx_payment_producer_brokers_number(rtt, "p95");
    broker->p99_us = ngx_payment_producer_brokers_number(rtt, "p99");
    broker->sum_us += ngx_payment_producer_brokers_number(rtt, "sum");
    broker->count += count;
    broker->recent = count;
}


static ngx_atomic_uint_t
ngx_payment_producer_brokers_number(json_t *json, const char *name)
{
    json_int_t  n;

    n = json_integer_value(json_object_get(json, name));

    return n > 0 ? (ngx_atomic_uint_t) n : 0;
}
