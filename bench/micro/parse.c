/*
 * What a worker pays for a request beside the database: nanoseconds to parse,
 * validate and hash a typical body, to apply it, and to render what goes out.
 *
 *     make -C t/unit SAN=0 build && build/unit/plain/parse
 *
 * One core, one thread; the best of five rounds.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "payment.h"


#define ROUNDS      5
#define OPERATIONS  200000


typedef void (*bench_pt)(unsigned n);


static payment_t          payment;
static payment_rules_t    rules = { .max_amount = PAYMENT_AMOUNT_MAX };
static payment_fault_t    fault;
static payment_request_t  request;

static char               buf[PAYMENT_PAYLOAD_SIZE + PAYMENT_METADATA_SIZE];

static const char  plain[] =
    "{\"merchantId\":\"MERCHANT-812\",\"amount\":15000,\"currency\":\"KRW\","
    "\"idempotencyKey\":\"k6-712-1763835166123-x1b2c3d4\"}";

static const char  with_metadata[] =
    "{\"merchantId\":\"MERCHANT-812\",\"amount\":15000,\"currency\":\"KRW\","
    "\"idempotencyKey\":\"k6-712-1763835166123-x1b2c3d4\","
    "\"metadata\":{\"order\":\"4711\",\"channel\":\"app\","
    "\"note\":\"\\uac00\\ub9f9\\uc810\"}}";

static const char  wrong[] =
    "{\"merchantId\":\"MERCHANT-812\",\"amount\":1.5,\"currency\":\"KRW\","
    "\"idempotencyKey\":\"k6-712-1763835166123-x1b2c3d4\"}";


static void
parse(const char *body, size_t len, payment_outcome_e expected)
{
    request.operation = PAYMENT_AUTHORIZE;

    if (payment_request_parse(&request, &rules, body, len, NULL, 0, NULL, 0,
                              &fault)
        != expected)
    {
        fprintf(stderr, "unexpected outcome: %s\n", fault.detail);
        exit(1);
    }

    payment_request_free(&request);
}


static void
parse_plain(unsigned n)
{
    (void) n;
    parse(plain, sizeof(plain) - 1, PAYMENT_OK);
}


static void
parse_metadata(unsigned n)
{
    (void) n;
    parse(with_metadata, sizeof(with_metadata) - 1, PAYMENT_OK);
}


static void
parse_wrong(unsigned n)
{
    (void) n;
    parse(wrong, sizeof(wrong) - 1, PAYMENT_INVALID);
}


static void
open_and_id(unsigned n)
{
    payment_id_make(request.payment_id, 1763835166123000 + n,
                    payment_id_merchant_slot(request.merchant,
                                          request.merchant_len),
                    request.key_hash, (const uint8_t *) "0123456789abcdef");
    payment_state_open(&payment, &request, 1763835166123 + n);
}


static void
render_response(unsigned n)
{
    payment.amount = n + 1;
    (void) payment_render_response(buf, sizeof(buf), &payment, &request);
}


static void
render_event(unsigned n)
{
    payment.amount = n + 1;
    (void) payment_render_event(buf, sizeof(buf), &payment, &request);
}


static double
now_ns(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}


static void
measure(const char *name, bench_pt run)
{
    double    start_ns, took_ns, best_ns;
    unsigned  round, n;

    best_ns = 0;

    for (round = 0; round < ROUNDS; round++) {
        start_ns = now_ns();

        for (n = 0; n < OPERATIONS; n++) {
            run(n);
        }

        took_ns = (now_ns() - start_ns) / OPERATIONS;

        if (round == 0 || took_ns < best_ns) {
            best_ns = took_ns;
        }
    }

    printf("%-28s %6.0f ns\n", name, best_ns);
}


int
main(void)
{
    measure("parse", parse_plain);
    measure("parse with metadata", parse_metadata);
    measure("parse, refused", parse_wrong);

    parse_plain(0);

    measure("id, slot and open", open_and_id);
    measure("render response", render_response);
    measure("render event", render_event);

    return 0;
}
