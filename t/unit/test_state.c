/*
 * The state machine: every operation on every state, every boundary of every
 * amount, and the invariants over long random lives.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "payment.h"


#define NOW  INT64_C(1763835166123)


/* amount, captured, refunded before; what is asked; what must come of it */

typedef struct {
    payment_status_e     status;
    int                  captured;
    int                  refunded;
    unsigned             operation;      /* with FINAL or REMAINDER */
    int                  asked;
    payment_outcome_e    outcome;
    payment_status_e     after;
    int                  captured_after;
    int                  refunded_after;
    int                  moved;
} step_t;

#define AUT  PAYMENT_AUTHORIZED
#define PCA  PAYMENT_PARTIALLY_CAPTURED
#define CAP  PAYMENT_CAPTURED
#define PRE  PAYMENT_PARTIALLY_REFUNDED
#define REF  PAYMENT_REFUNDED
#define VOI  PAYMENT_VOIDED

#define CCON PAYMENT_CAPTURE_CONFLICT
#define RCON PAYMENT_REFUND_CONFLICT
#define VCON PAYMENT_VOID_CONFLICT

#define FINAL      0x100        /* the capture says so */
#define REMAINDER  0x200        /* the rules allow a void to release that */

/* 1000 are authorized in all of them */

static const step_t  steps[] = {

    /* capture */

    { AUT, 0, 0, PAYMENT_CAPTURE, 0, PAYMENT_OK, CAP, 1000, 0, 1000 },
    { AUT, 0, 0, PAYMENT_CAPTURE, 1, PAYMENT_OK, PCA, 1, 0, 1 },
    { AUT, 0, 0, PAYMENT_CAPTURE, 999, PAYMENT_OK, PCA, 999, 0, 999 },
    { AUT, 0, 0, PAYMENT_CAPTURE, 1000, PAYMENT_OK, CAP, 1000, 0, 1000 },
    { AUT, 0, 0, PAYMENT_CAPTURE, 1001, CCON, AUT, 0, 0, 7 },
    { PCA, 300, 0, PAYMENT_CAPTURE, 0, PAYMENT_OK, CAP, 1000, 0, 700 },
    { PCA, 300, 0, PAYMENT_CAPTURE, 1, PAYMENT_OK, PCA, 301, 0, 1 },
    { PCA, 300, 0, PAYMENT_CAPTURE, 699, PAYMENT_OK, PCA, 999, 0, 699 },
    { PCA, 300, 0, PAYMENT_CAPTURE, 700, PAYMENT_OK, CAP, 1000, 0, 700 },
    { PCA, 300, 0, PAYMENT_CAPTURE, 701, CCON, PCA, 300, 0, 7 },
    { CAP, 1000, 0, PAYMENT_CAPTURE, 0, CCON, CAP, 1000, 0, 7 },
    { CAP, 1000, 0, PAYMENT_CAPTURE, 1, CCON, CAP, 1000, 0, 7 },
    { PRE, 1000, 1, PAYMENT_CAPTURE, 0, CCON, PRE, 1000, 1, 7 },
    { PRE, 300, 1, PAYMENT_CAPTURE, 0, CCON, PRE, 300, 1, 7 },
    { PRE, 300, 1, PAYMENT_CAPTURE, 1, CCON, PRE, 300, 1, 7 },
    { REF, 1000, 1000, PAYMENT_CAPTURE, 0, CCON, REF, 1000, 1000, 7 },
    { REF, 300, 300, PAYMENT_CAPTURE, 1, CCON, REF, 300, 300, 7 },
    { VOI, 0, 0, PAYMENT_CAPTURE, 0, CCON, VOI, 0, 0, 7 },
    { VOI, 0, 0, PAYMENT_CAPTURE, 1, CCON, VOI, 0, 0, 7 },

    /* the last capture */

    { AUT, 0, 0, PAYMENT_CAPTURE|FINAL, 0, PAYMENT_OK, CAP, 1000, 0, 1000 },
    { AUT, 0, 0, PAYMENT_CAPTURE|FINAL, 1, PAYMENT_OK, CAP, 1, 0, 1 },
    { AUT, 0, 0, PAYMENT_CAPTURE|FINAL, 1001, CCON, AUT, 0, 0, 7 },
    { PCA, 300, 0, PAYMENT_CAPTURE|FINAL, 200, PAYMENT_OK, CAP, 500, 0, 200 },
    { PCA, 300, 0, PAYMENT_CAPTURE|FINAL, 701, CCON, PCA, 300, 0, 7 },
    { CAP, 300, 0, PAYMENT_CAPTURE, 1, CCON, CAP, 300, 0, 7 },
    { CAP, 300, 0, PAYMENT_CAPTURE|FINAL, 0, CCON, CAP, 300, 0, 7 },
    { CAP, 300, 0, PAYMENT_REFUND, 300, PAYMENT_OK, REF, 300, 300, 300 },
    { CAP, 300, 0, PAYMENT_REFUND, 301, RCON, CAP, 300, 0, 7 },
    { CAP, 300, 0, PAYMENT_VOID, 0, VCON, CAP, 300, 0, 7 },

    /* refund */

    { AUT, 0, 0, PAYMENT_REFUND, 0, RCON, AUT, 0, 0, 7 },
    { AUT, 0, 0, PAYMENT_REFUND, 1, RCON, AUT, 0, 0, 7 },
    { PCA, 300, 0, PAYMENT_REFUND, 0, PAYMENT_OK, REF, 300, 300, 300 },
    { PCA, 300, 0, PAYMENT_REFUND, 299, PAYMENT_OK, PRE, 300, 299, 299 },
    { PCA, 300, 0, PAYMENT_REFUND, 300, PAYMENT_OK, REF, 300, 300, 300 },
    { PCA, 300, 0, PAYMENT_REFUND, 301, RCON, PCA, 300, 0, 7 },
    { CAP, 1000, 0, PAYMENT_REFUND, 0, PAYMENT_OK, REF, 1000, 1000, 1000 },
    { CAP, 1000, 0, PAYMENT_REFUND, 1, PAYMENT_OK, PRE, 1000, 1, 1 },
    { CAP, 1000, 0, PAYMENT_REFUND, 1000, PAYMENT_OK, REF, 1000, 1000, 1000 },
    { CAP, 1000, 0, PAYMENT_REFUND, 1001, RCON, CAP, 1000, 0, 7 },
    { PRE, 1000, 400, PAYMENT_REFUND, 0, PAYMENT_OK, REF, 1000, 1000, 600 },
    { PRE, 1000, 400, PAYMENT_REFUND, 599, PAYMENT_OK, PRE, 1000, 999, 599 },
    { PRE, 1000, 400, PAYMENT_REFUND, 600, PAYMENT_OK, REF, 1000, 1000, 600 },
    { PRE, 1000, 400, PAYMENT_REFUND, 601, RCON, PRE, 1000, 400, 7 },
    { REF, 1000, 1000, PAYMENT_REFUND, 0, RCON, REF, 1000, 1000, 7 },
    { REF, 1000, 1000, PAYMENT_REFUND, 1, RCON, REF, 1000, 1000, 7 },
    { VOI, 0, 0, PAYMENT_REFUND, 0, RCON, VOI, 0, 0, 7 },

    /* void */

    { AUT, 0, 0, PAYMENT_VOID, 0, PAYMENT_OK, VOI, 0, 0, 1000 },
    { PCA, 300, 0, PAYMENT_VOID, 0, VCON, PCA, 300, 0, 7 },
    { CAP, 1000, 0, PAYMENT_VOID, 0, VCON, CAP, 1000, 0, 7 },
    { PRE, 1000, 1, PAYMENT_VOID, 0, VCON, PRE, 1000, 1, 7 },
    { REF, 1000, 1000, PAYMENT_VOID, 0, VCON, REF, 1000, 1000, 7 },
    { VOI, 0, 0, PAYMENT_VOID, 0, VCON, VOI, 0, 0, 7 },

    /* void of what was not captured, where the rules allow it */

    { AUT, 0, 0, PAYMENT_VOID|REMAINDER, 0, PAYMENT_OK, VOI, 0, 0, 1000 },
    { PCA, 300, 0, PAYMENT_VOID|REMAINDER, 0, PAYMENT_OK, CAP, 300, 0, 700 },
    { CAP, 300, 0, PAYMENT_VOID|REMAINDER, 0, VCON, CAP, 300, 0, 7 },
    { CAP, 1000, 0, PAYMENT_VOID|REMAINDER, 0, VCON, CAP, 1000, 0, 7 },
    { PRE, 300, 1, PAYMENT_VOID|REMAINDER, 0, VCON, PRE, 300, 1, 7 },
    { REF, 300, 300, PAYMENT_VOID|REMAINDER, 0, VCON, REF, 300, 300, 7 },
    { VOI, 0, 0, PAYMENT_VOID|REMAINDER, 0, VCON, VOI, 0, 0, 7 }
};


static void
request_of(payment_request_t *r, payment_operation_e operation, int64_t amount)
{
    memset(r, 0, sizeof(payment_request_t));

    r->operation = operation;
    r->amount = amount;
    memcpy(r->merchant, "MERCHANT-1", 10);
    r->merchant_len = 10;
}


static void
open_payment(void **state)
{
    unsigned           i;
    payment_t          p;
    payment_request_t  r;

    (void) state;

    request_of(&r, PAYMENT_AUTHORIZE, 15000);
    memcpy(r.currency, "KRW", 4);

    for (i = 0; i < PAYMENT_ID_SIZE; i++) {
        r.payment_id[i] = (uint8_t) (i + 1);
    }

    memset(&p, 0xa5, sizeof(payment_t));
    payment_state_open(&p, &r, NOW);

    assert_memory_equal(p.id, r.payment_id, PAYMENT_ID_SIZE);
    assert_int_equal(p.merchant_len, 10);
    assert_memory_equal(p.merchant, "MERCHANT-1", 10);
    assert_string_equal(p.currency, "KRW");
    assert_int_equal(p.status, PAYMENT_AUTHORIZED);
    assert_int_equal(p.amount, 15000);
    assert_int_equal(p.captured, 0);
    assert_int_equal(p.refunded, 0);
    assert_int_equal(p.operation_amount, 15000);
    assert_int_equal(p.version, 1);
    assert_int_equal(p.created_ms, NOW);
    assert_int_equal(p.updated_ms, NOW);
}


static void
payment_at(payment_t *p, const step_t *step)
{
    payment_request_t  r;

    request_of(&r, PAYMENT_AUTHORIZE, 1000);
    memcpy(r.currency, "KRW", 4);
    payment_state_open(p, &r, NOW);

    p->status = step->status;
    p->captured = step->captured;
    p->refunded = step->refunded;
    p->operation_amount = 7;
    p->version = 5;
}


static void
every_step(void **state)
{
    size_t              i;
    payment_t           p, before;
    payment_fault_t     fault;
    payment_request_t   r;

    (void) state;

    for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {

        payment_at(&p, &steps[i]);
        before = p;
        request_of(&r, steps[i].operation & 0xff, steps[i].asked);
        r.final = (steps[i].operation & FINAL) != 0;
        r.void_remainder = (steps[i].operation & REMAINDER) != 0;
        memset(&fault, 0, sizeof(payment_fault_t));

        if (payment_state_apply(&p, &r, NOW + 5, &fault) != steps[i].outcome) {
            fail_msg("step %d came to something else", (int) i);
        }

        assert_int_equal(p.status, steps[i].after);
        assert_int_equal(p.captured, steps[i].captured_after);
        assert_int_equal(p.refunded, steps[i].refunded_after);
        assert_int_equal(p.operation_amount, steps[i].moved);

        if (steps[i].outcome == PAYMENT_OK) {
            assert_int_equal(p.version, 6);
            assert_int_equal(p.updated_ms, NOW + 5);
            assert_int_equal(p.created_ms, NOW);
            assert_int_equal(p.amount, 1000);

        } else {
            assert_memory_equal(&p, &before, sizeof(payment_t));
            assert_int_equal(fault.outcome, steps[i].outcome);
            assert_true(fault.detail[0] != '\0');
        }
    }
}


/* a conflict says what it is about, and with which numbers */

static void
sentences(void **state)
{
    payment_t           p;
    payment_fault_t     fault;
    payment_request_t   r;
    static const step_t partly = { PCA, 300, 0, PAYMENT_CAPTURE, 701,
                                   CCON, PCA, 300, 0, 7 };

    (void) state;

    payment_at(&p, &partly);

    request_of(&r, PAYMENT_CAPTURE, 701);
    payment_state_apply(&p, &r, NOW, &fault);
    assert_string_equal(fault.field, "amount");
    assert_string_equal(fault.detail, "amount is 701, but 700 of 1000 can "
                        "still be captured");

    request_of(&r, PAYMENT_REFUND, 301);
    payment_state_apply(&p, &r, NOW, &fault);
    assert_string_equal(fault.field, "amount");
    assert_string_equal(fault.detail, "amount is 301, but 300 of 300 can "
                        "still be refunded");

    request_of(&r, PAYMENT_VOID, 0);
    payment_state_apply(&p, &r, NOW, &fault);
    assert_string_equal(fault.field, "");
    assert_string_equal(fault.detail, "a payment that is PARTIALLY_CAPTURED "
                        "cannot be voided");

    p.status = PAYMENT_VOIDED;

    request_of(&r, PAYMENT_CAPTURE, 0);
    payment_state_apply(&p, &r, NOW, &fault);
    assert_string_equal(fault.detail, "a payment that is VOIDED cannot be "
                        "captured");

    request_of(&r, PAYMENT_REFUND, 0);
    payment_state_apply(&p, &r, NOW, &fault);
    assert_string_equal(fault.detail, "a payment that is VOIDED cannot be "
                        "refunded");
}


static void
currency_must_be_the_payments(void **state)
{
    payment_t           p, before;
    payment_fault_t     fault;
    payment_request_t   r;
    static const step_t fresh = { AUT, 0, 0, PAYMENT_CAPTURE, 0,
                                  PAYMENT_OK, CAP, 1000, 0, 1000 };

    (void) state;

    payment_at(&p, &fresh);
    before = p;

    request_of(&r, PAYMENT_CAPTURE, 400);
    memcpy(r.currency, "USD", 4);
    assert_int_equal(payment_state_apply(&p, &r, NOW, &fault),
                     PAYMENT_CAPTURE_CONFLICT);
    assert_string_equal(fault.field, "currency");
    assert_string_equal(fault.detail, "currency is USD, but the payment is in "
                        "KRW");
    assert_memory_equal(&p, &before, sizeof(payment_t));

    memcpy(r.currency, "KRW", 4);
    assert_int_equal(payment_state_apply(&p, &r, NOW, &fault), PAYMENT_OK);

    before = p;
    request_of(&r, PAYMENT_REFUND, 400);
    memcpy(r.currency, "JPY", 4);
    assert_int_equal(payment_state_apply(&p, &r, NOW, &fault),
                     PAYMENT_REFUND_CONFLICT);
    assert_string_equal(fault.field, "currency");
    assert_memory_equal(&p, &before, sizeof(payment_t));

    memcpy(r.currency, "KRW", 4);
    assert_int_equal(payment_state_apply(&p, &r, NOW, &fault), PAYMENT_OK);
    assert_int_equal(p.status, PAYMENT_REFUNDED);
}


static void
not_the_merchants_payment(void **state)
{
    size_t              i;
    payment_t           p, before;
    payment_fault_t     fault;
    payment_request_t   r;

    static const char  *const others[] = {
        "MERCHANT-2", "MERCHANT-", "MERCHANT-1 ", "merchant-1", ""
    };

    (void) state;

    payment_at(&p, &steps[0]);
    before = p;

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        request_of(&r, PAYMENT_CAPTURE, 0);
        memcpy(r.merchant, others[i], strlen(others[i]));
        r.merchant_len = strlen(others[i]);

        assert_int_equal(payment_state_apply(&p, &r, NOW, &fault),
                         PAYMENT_NOT_FOUND);
        assert_int_equal(fault.outcome, PAYMENT_NOT_FOUND);
        assert_memory_equal(&p, &before, sizeof(payment_t));
    }
}


static void
not_an_operation_on_a_payment(void **state)
{
    payment_t           p, before;
    payment_fault_t     fault;
    payment_request_t   r;

    (void) state;

    payment_at(&p, &steps[0]);
    before = p;

    request_of(&r, PAYMENT_AUTHORIZE, 1);
    assert_int_equal(payment_state_apply(&p, &r, NOW, &fault), PAYMENT_INVALID);

    request_of(&r, PAYMENT_GET, 0);
    assert_int_equal(payment_state_apply(&p, &r, NOW, &fault), PAYMENT_INVALID);

    assert_memory_equal(&p, &before, sizeof(payment_t));
}


static void
largest_amount(void **state)
{
    payment_t           p;
    payment_fault_t     fault;
    payment_request_t   r;

    (void) state;

    request_of(&r, PAYMENT_AUTHORIZE, PAYMENT_AMOUNT_MAX);
    payment_state_open(&p, &r, NOW);

    request_of(&r, PAYMENT_CAPTURE, PAYMENT_AMOUNT_MAX - 1);
    assert_int_equal(payment_state_apply(&p, &r, NOW, &fault), PAYMENT_OK);

    request_of(&r, PAYMENT_CAPTURE, PAYMENT_AMOUNT_MAX);
    assert_int_equal(payment_state_apply(&p, &r, NOW, &fault),
                     PAYMENT_CAPTURE_CONFLICT);

    request_of(&r, PAYMENT_CAPTURE, 1);
    assert_int_equal(payment_state_apply(&p, &r, NOW, &fault), PAYMENT_OK);
    assert_int_equal(p.status, PAYMENT_CAPTURED);

    request_of(&r, PAYMENT_REFUND, 0);
    assert_int_equal(payment_state_apply(&p, &r, NOW, &fault), PAYMENT_OK);
    assert_int_equal(p.refunded, PAYMENT_AMOUNT_MAX);
}


static void
clock_that_goes_back(void **state)
{
    payment_t           p;
    payment_fault_t     fault;
    payment_request_t   r;

    (void) state;

    payment_at(&p, &steps[0]);

    request_of(&r, PAYMENT_CAPTURE, 1);
    assert_int_equal(payment_state_apply(&p, &r, NOW + 10, &fault), PAYMENT_OK);
    assert_int_equal(payment_state_apply(&p, &r, NOW - 10, &fault), PAYMENT_OK);
    assert_int_equal(p.updated_ms, NOW + 10);
    assert_int_equal(p.created_ms, NOW);
}


static uint32_t
next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;

    return *seed;
}


/* what must hold after every operation, whatever was asked for */

static void
random_lives(void **state)
{
    int64_t             moved_in, moved_out;
    uint32_t            seed, version;
    unsigned            life, step, released;
    payment_t           p, before;
    payment_fault_t     fault;
    payment_outcome_e   outcome;
    payment_request_t   r;

    (void) state;

    seed = 20261122;

    for (life = 0; life < 20000; life++) {

        request_of(&r, PAYMENT_AUTHORIZE, 1 + next_random(&seed) % 50);
        payment_state_open(&p, &r, NOW);

        moved_in = 0;
        moved_out = 0;
        released = 0;
        version = 1;

        for (step = 0; step < 12; step++) {
            request_of(&r, PAYMENT_CAPTURE + next_random(&seed) % 3,
                       next_random(&seed) % 30);
            r.final = (next_random(&seed) % 8 == 0);
            r.void_remainder = (next_random(&seed) % 4 == 0);
            before = p;
            outcome = payment_state_apply(&p, &r, NOW + step, &fault);

            if (outcome != PAYMENT_OK) {
                assert_memory_equal(&p, &before, sizeof(payment_t));
                continue;
            }

            moved_in += (r.operation == PAYMENT_CAPTURE)
                        ? p.operation_amount : 0;
            moved_out += (r.operation == PAYMENT_REFUND)
                         ? p.operation_amount : 0;
            version++;

            assert_true(r.operation == PAYMENT_VOID || r.amount == 0
                        || r.amount == p.operation_amount);
            assert_true(p.operation_amount > 0);
            assert_true(p.captured == moved_in);
            assert_true(p.refunded == moved_out);
            assert_true(0 <= p.refunded && p.refunded <= p.captured
                        && p.captured <= p.amount);
            assert_int_equal(p.version, version);

            /* the state says what the amounts say, and goes forward only */

            released |= (r.operation == PAYMENT_CAPTURE && r.final)
                        || r.operation == PAYMENT_VOID;

            assert_true(p.status >= before.status);
            assert_int_equal(p.status == PAYMENT_CAPTURED,
                             p.captured > 0 && p.refunded == 0
                             && (p.captured == p.amount || released));
            assert_int_equal(p.status == PAYMENT_PARTIALLY_CAPTURED,
                             p.captured > 0 && p.captured < p.amount
                             && p.refunded == 0 && !released);
            assert_int_equal(p.status == PAYMENT_REFUNDED,
                             p.refunded > 0 && p.refunded == p.captured);
            assert_int_equal(p.status == PAYMENT_PARTIALLY_REFUNDED,
                             p.refunded > 0 && p.refunded < p.captured);
        }
    }
}


static void
texts(void **state)
{
    int  status;

    static const char  *const statuses[] = {
        "", "AUTHORIZED", "PARTIALLY_CAPTURED", "CAPTURED",
        "PARTIALLY_REFUNDED", "REFUNDED", "VOIDED", ""
    };

    (void) state;

    for (status = 0; status <= PAYMENT_VOIDED + 1; status++) {
        assert_string_equal(payment_name_status((payment_status_e) status),
                            statuses[status]);
    }

    assert_string_equal(payment_name_operation(PAYMENT_AUTHORIZE),
                        "authorize");
    assert_string_equal(payment_name_operation(PAYMENT_CAPTURE), "capture");
    assert_string_equal(payment_name_operation(PAYMENT_REFUND), "refund");
    assert_string_equal(payment_name_operation(PAYMENT_VOID), "void");
    assert_string_equal(payment_name_operation(PAYMENT_GET), "get");
    assert_string_equal(payment_name_operation(PAYMENT_LOOKUP), "lookup");
    assert_string_equal(payment_name_operation(PAYMENT_OPERATIONS),
                        "operations");
    assert_string_equal(payment_name_operation((payment_operation_e) 0), "");

    assert_string_equal(payment_name_event(PAYMENT_AUTHORIZE), "authorized");
    assert_string_equal(payment_name_event(PAYMENT_CAPTURE), "captured");
    assert_string_equal(payment_name_event(PAYMENT_REFUND), "refunded");
    assert_string_equal(payment_name_event(PAYMENT_VOID), "voided");
    assert_string_equal(payment_name_event(PAYMENT_GET), "");
    assert_string_equal(payment_name_event(PAYMENT_LOOKUP), "");
    assert_string_equal(payment_name_event(PAYMENT_OPERATIONS), "");
    assert_string_equal(payment_name_event(PAYMENT_EXPIRE), "expired");
    assert_string_equal(payment_name_event((payment_operation_e) 9), "");
}


static void
used_references(void **state)
{
    unsigned           i;
    payment_fault_t    fault;
    payment_request_t  r;

    static const struct {
        payment_operation_e  operation;
        payment_outcome_e    outcome;
    } cases[] = {
        { PAYMENT_CAPTURE, PAYMENT_CAPTURE_CONFLICT },
        { PAYMENT_REFUND, PAYMENT_REFUND_CONFLICT },
        { PAYMENT_VOID, PAYMENT_VOID_CONFLICT }
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        request_of(&r, cases[i].operation, 0);

        assert_int_equal(payment_state_refer(&r, &fault), cases[i].outcome);
        assert_int_equal(fault.outcome, cases[i].outcome);
        assert_string_equal(fault.field, "reference");
    }
}


/* at its very time, and whatever the status is */

static void
expiring(void **state)
{
    size_t              i;
    payment_t           p, before;
    payment_fault_t     fault;
    payment_request_t   r;

    static const struct {
        step_t    step;
        unsigned  open;
    } cases[] = {
        { { AUT, 0, 0, 0, 0, PAYMENT_OK, VOI, 0, 0, 1000 }, 1 },
        { { PCA, 300, 0, 0, 0, PAYMENT_OK, CAP, 300, 0, 700 }, 1 },
        { { CAP, 300, 0, 0, 0, PAYMENT_OK, CAP, 300, 0, 7 }, 0 },
        { { PRE, 300, 1, 0, 0, PAYMENT_OK, PRE, 300, 1, 7 }, 0 },
        { { REF, 300, 300, 0, 0, PAYMENT_OK, REF, 300, 300, 7 }, 0 },
        { { VOI, 0, 0, 0, 0, PAYMENT_OK, VOI, 0, 0, 7 }, 0 }
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        payment_at(&p, &cases[i].step);
        request_of(&r, PAYMENT_CAPTURE, 0);

        /* one that has no lifetime */
        assert_false(payment_state_is_overdue(&p, INT64_MAX));
        assert_int_equal(payment_state_in_time(&p, &r, INT64_MAX, &fault),
                         PAYMENT_OK);

        p.expires_ms = NOW + 1000;
        assert_false(payment_state_is_overdue(&p, NOW + 999));
        assert_int_equal(payment_state_is_overdue(&p, NOW + 1000),
                         cases[i].open);

        assert_int_equal(payment_state_in_time(&p, &r, NOW + 999, &fault),
                         PAYMENT_OK);
        assert_int_equal(payment_state_in_time(&p, &r, NOW + 1000, &fault),
                         cases[i].open ? PAYMENT_EXPIRED : PAYMENT_OK);

        r.operation = PAYMENT_VOID;
        assert_int_equal(payment_state_in_time(&p, &r, NOW + 1000, &fault),
                         cases[i].open ? PAYMENT_EXPIRED : PAYMENT_OK);

        r.operation = PAYMENT_REFUND;
        assert_int_equal(payment_state_in_time(&p, &r, NOW + 1000, &fault),
                         PAYMENT_OK);

        if (!cases[i].open) {
            continue;
        }

        before = p;
        payment_state_expire(&p, NOW + 1234);

        assert_int_equal(p.status, cases[i].step.after);
        assert_int_equal(p.captured, before.captured);
        assert_int_equal(p.operation_amount, cases[i].step.moved);
        assert_int_equal(p.version, before.version + 1);
        assert_int_equal(p.updated_ms, NOW + 1234);
        assert_int_equal(p.expired_ms, NOW + 1234);

        assert_false(payment_state_is_overdue(&p, NOW + 9999));

        /* whatever the clock says afterwards */
        r.operation = PAYMENT_CAPTURE;
        assert_int_equal(payment_state_in_time(&p, &r, 0, &fault),
                         PAYMENT_EXPIRED);
        assert_string_equal(fault.detail, "the authorization expired at "
                            "2025-11-22T18:12:47.123Z");
        assert_string_equal(fault.field, "");
    }

    /* the row's own time may be ahead of the clock */

    payment_at(&p, &cases[0].step);
    p.expires_ms = NOW - 1000;
    payment_state_expire(&p, NOW - 500);
    assert_int_equal(p.updated_ms, NOW);
    assert_int_equal(p.expired_ms, NOW);
}


static void
lifetimes(void **state)
{
    payment_t          p;
    payment_request_t  r;

    (void) state;

    request_of(&r, PAYMENT_AUTHORIZE, 1000);
    payment_state_open(&p, &r, NOW);
    assert_int_equal(p.expires_ms, 0);

    r.lifetime_ms = 90000;
    payment_state_open(&p, &r, NOW);
    assert_int_equal(p.expires_ms, NOW + 90000);
    assert_int_equal(p.expired_ms, 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(open_payment),
        cmocka_unit_test(every_step),
        cmocka_unit_test(sentences),
        cmocka_unit_test(currency_must_be_the_payments),
        cmocka_unit_test(not_the_merchants_payment),
        cmocka_unit_test(not_an_operation_on_a_payment),
        cmocka_unit_test(largest_amount),
        cmocka_unit_test(clock_that_goes_back),
        cmocka_unit_test(random_lives),
        cmocka_unit_test(used_references),
        cmocka_unit_test(expiring),
        cmocka_unit_test(lifetimes),
        cmocka_unit_test(texts)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
