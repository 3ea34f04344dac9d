/*
 * What a request may say: every member with every kind of wrong value, every
 * boundary, the key in its header, who the merchant is, JSON that is none, and
 * the two hashes that are stored.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "payment.h"


#define A  (1U << PAYMENT_AUTHORIZE)
#define C  (1U << PAYMENT_CAPTURE)
#define R  (1U << PAYMENT_REFUND)
#define V  (1U << PAYMENT_VOID)


typedef struct {
    const char  *name;
    const char  *value;              /* a right one */
    unsigned     required;           /* the operations that need it */
    unsigned     known;              /* the operations that know it */
} member_t;


static const member_t  members[] = {
    { "merchantId", "\"MERCHANT-1\"", A|C|R|V, A|C|R|V },
    { "amount", "15000", A, A|C|R },
    { "currency", "\"KRW\"", A, A|C|R },
    { "final", "true", 0, C },
    { "reason", "\"broken\"", R, R },
    { "reference", "\"r-1\"", 0, C|R|V },
    { "idempotencyKey", "\"key-1\"", A, A|C|R|V },
    { "metadata", "{\"order\":\"17\"}", 0, A|C|R|V }
};

#define MEMBERS_N  (sizeof(members) / sizeof(members[0]))


static payment_rules_t    rules;
static payment_fault_t    fault;
static payment_request_t  r;

static char  body[70000];


static int
fresh_rules(void **state)
{
    (void) state;

    memset(&rules, 0, sizeof(payment_rules_t));
    rules.max_amount = PAYMENT_AMOUNT_MAX;

    return 0;
}


/* a copy of the exact size, so that ASan sees the first byte too many */

static payment_outcome_e
parse(unsigned operation, const char *text, size_t len, const char *header,
    const char *identity)
{
    char               *exact, *key;
    unsigned            i;
    payment_outcome_e   outcome;

    memset(&r, 0xa5, sizeof(payment_request_t));
    memset(&fault, 0xa5, sizeof(payment_fault_t));

    r.operation = (payment_operation_e) operation;
    r.merchant_len = 0;

    for (i = 0; i < PAYMENT_ID_SIZE; i++) {
        r.payment_id[i] = (uint8_t) (i + 1);
    }

    exact = malloc(len + 1);
    assert_non_null(exact);
    memcpy(exact + 1, text, len);

    key = NULL;

    if (header != NULL) {
        key = malloc(strlen(header) + 1);
        assert_non_null(key);
        memcpy(key + 1, header, strlen(header));
    }

    outcome = payment_request_parse(&r, &rules, exact + 1, len,
                                    key ? key + 1 : NULL,
                                    header ? strlen(header) : 0, identity,
                                    identity ? strlen(identity) : 0, &fault);
    free(exact);
    free(key);

    assert_int_equal(r.forbidden && !r.has_key && outcome == PAYMENT_OK, 0);

    if (outcome == PAYMENT_OK && r.forbidden) {
        /* refused, unless its key was used under other rules */
        payment_request_free(&r);
        outcome = fault.outcome;
        assert_int_equal(outcome, PAYMENT_INVALID);
    }

    assert_int_equal(fault.outcome, outcome);
    assert_non_null(memchr(fault.field, '\0', sizeof(fault.field)));
    assert_non_null(memchr(fault.detail, '\0', sizeof(fault.detail)));
    assert_int_equal(fault.detail[0] != '\0', outcome != PAYMENT_OK);

    if (outcome != PAYMENT_OK) {
        assert_null(r.metadata);
    }

    return outcome;
}


/* a right body of the operation, but for one member; value NULL: without it */

static size_t
body_of(unsigned operation, const char *name, const char *value)
{
    int          n;
    size_t       i;
    const char  *comma, *v;

    comma = "";
    n = sprintf(body, "{");

    for (i = 0; i < MEMBERS_N; i++) {
        v = members[i].value;

        if (name != NULL && strcmp(members[i].name, name) == 0) {
            v = value;

        } else if (!(members[i].known & 1U << operation)) {
            continue;
        }

        if (v != NULL) {
            n += sprintf(body + n, "%s\"%s\":%s", comma, members[i].name, v);
            comma = ",";
        }
    }

    n += sprintf(body + n, "}");

    return (size_t) n;
}


static void
refused(unsigned operation, const char *name, const char *value,
    const char *detail)
{
    size_t             len;
    payment_outcome_e  outcome;

    len = body_of(operation, name, value);
    outcome = parse(operation, body, len, NULL, NULL);

    if (outcome != PAYMENT_INVALID || strcmp(fault.field, name) != 0
        || strstr(fault.detail, name) == NULL
        || strstr(fault.detail, detail) == NULL)
    {
        payment_request_free(&r);
        fail_msg("%.300s came to %d, \"%s\": %s", body, (int) outcome,
                 fault.field, fault.detail);
    }
}


static void
accepted(unsigned operation, const char *name, const char *value)
{
    size_t  len;

    len = body_of(operation, name, value);

    if (parse(operation, body, len, NULL, NULL) != PAYMENT_OK) {
        fail_msg("%.300s was refused: %s", body, fault.detail);
    }
}


/* a JSON string of n times the same */

static const char *
repeat(const char *text, unsigned n)
{
    char         *p;
    static char   out[8192];

    p = out;
    *p++ = '"';

    while (n--) {
        p += sprintf(p, "%s", text);
    }

    *p++ = '"';
    *p = '\0';

    return out;
}


static void
right_requests(void **state)
{
    unsigned  op;

    (void) state;

    for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_VOID; op++) {
        accepted(op, NULL, NULL);

        assert_int_equal(r.merchant_len, 10);
        assert_memory_equal(r.merchant, "MERCHANT-1", 10);
        assert_int_equal(r.amount, op == PAYMENT_VOID ? 0 : 15000);
        assert_string_equal(r.currency, op == PAYMENT_VOID ? "" : "KRW");
        assert_int_equal(r.has_key, 1);
        assert_int_equal(r.final, op == PAYMENT_CAPTURE);
        assert_int_equal(r.reason_len, op == PAYMENT_REFUND ? 6 : 0);
        assert_int_equal(r.metadata_len, 14);
        assert_memory_equal(r.metadata, "{\"order\":\"17\"}", 14);
        assert_int_equal(r.payment_id[0], 1);
        assert_int_equal(r.payment_id[15], 16);

        payment_request_free(&r);
        assert_null(r.metadata);
        assert_int_equal(r.metadata_len, 0);
    }
}


/* absent and null are the same, for what is required and what is not */

static void
absent_members(void **state)
{
    size_t    i;
    unsigned  op, null;

    (void) state;

    for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_VOID; op++) {
        for (i = 0; i < MEMBERS_N; i++) {
            for (null = 0; null < 2; null++) {

                if (members[i].required & 1U << op) {
                    refused(op, members[i].name, null ? "null" : NULL,
                            " is required");
                    continue;
                }

                accepted(op, members[i].name, null ? "null" : NULL);

                if (strcmp(members[i].name, "amount") == 0) {
                    assert_int_equal(r.amount, 0);

                } else if (strcmp(members[i].name, "currency") == 0) {
                    assert_string_equal(r.currency, "");

                } else if (strcmp(members[i].name, "final") == 0) {
                    assert_int_equal(r.final, 0);

                } else if (strcmp(members[i].name, "idempotencyKey") == 0) {
                    assert_int_equal(r.has_key, 0);

                } else if (strcmp(members[i].name, "metadata") == 0) {
                    assert_null(r.metadata);
                    assert_int_equal(r.metadata_len, 0);
                }

                payment_request_free(&r);
            }
        }
    }
}


/* the bodies of the service that this one takes over from, as they are */

static void
reference_bodies(void **state)
{
    static const char  authorize[] =
        "{\"merchantId\":\"MERCHANT-812\",\"amount\":15000,"
        "\"currency\":\"KRW\",\"idempotencyKey\":\"k6-7-1763835166123-x1\"}";
    static const char  capture[] = "{\"merchantId\":\"MERCHANT-812\"}";
    static const char  refund[] =
        "{\"merchantId\":\"MERCHANT-812\",\"reason\":\"full-flow-test\"}";

    (void) state;

    rules.refuse_unknown = 1;

    assert_int_equal(parse(PAYMENT_AUTHORIZE, authorize,
                           sizeof(authorize) - 1, NULL, NULL), PAYMENT_OK);
    assert_int_equal(r.has_key, 1);

    assert_int_equal(parse(PAYMENT_CAPTURE, capture, sizeof(capture) - 1,
                           NULL, NULL), PAYMENT_OK);
    assert_int_equal(r.has_key, 0);
    assert_int_equal(r.amount, 0);

    assert_int_equal(parse(PAYMENT_REFUND, refund, sizeof(refund) - 1,
                           NULL, NULL), PAYMENT_OK);
    assert_int_equal(r.has_key, 0);
    assert_int_equal(r.reason_len, 14);
}


static void
wrong_types(void **state)
{
    size_t      i, j;
    unsigned    op;
    const char  *name;

    /* neither a string, nor an integer, a boolean, an object of strings */

    static const char  *const values[] = {
        "[]", "[\"x\"]", "[15000]", "[{}]", "{\"a\":1}",
        "{\"a\":{\"b\":\"c\"}}", "1.5", "-1.5", "0.0", "1e3", "1E-3", "-1",
        "0", "-0"
    };

    (void) state;

    for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_VOID; op++) {
        for (i = 0; i < MEMBERS_N; i++) {
            name = members[i].name;

            if (!(members[i].known & 1U << op)) {
                continue;
            }

            for (j = 0; j < sizeof(values) / sizeof(values[0]); j++) {
                refused(op, name, values[j], "must be");
            }

            if (strcmp(name, "final") != 0) {
                refused(op, name, "true", "must be");
                refused(op, name, "false", "must be");

            } else {
                refused(op, name, "\"true\"", "must be");
                refused(op, name, "\"\"", "must be");
            }

            if (strcmp(name, "amount") != 0) {
                refused(op, name, "15000", "must be");
                refused(op, name, "1", "must be");
            }

            if (strcmp(name, "metadata") == 0) {
                refused(op, name, "\"order\"", "must be");
                refused(op, name, "\"\"", "must be");

            } else {
                refused(op, name, "{}", "must be");
                refused(op, name, "{\"a\":\"b\"}", "must be");
            }
        }
    }
}


static void
amounts(void **state)
{
    size_t    i;
    unsigned  op;

    static const char  *const bad[] = {
        "9007199254740992", "9223372036854775807", "-9223372036854775808",
        "9223372036854775808", "-9223372036854775809",
        "18446744073709551617", "100000000000000000000000000000000000000",
        "1e400", "-1e400", "\"15000\"", "\"\"", "\"NaN\""
    };

    static const char  *const reals[] = {
        "1.0", "1.00", "1e3", "1E3", "1e0", "15000.0", "0.1", "1e-400",
        "9007199254740991.0", "1.5e3"
    };

    static const char  *const malformed[] = {
        "01", "+1", "1.", ".5", "0x10", "1e", "NaN", "Infinity", "1_000",
        "- 1", "1,000", "1 000"
    };

    (void) state;

    for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_REFUND; op++) {

        for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            refused(op, "amount", bad[i], "amount must be a positive integer "
                    "of minor units, at most 9007199254740991");
        }

        for (i = 0; i < sizeof(reals) / sizeof(reals[0]); i++) {
            refused(op, "amount", reals[i], "must be an integer");
        }

        for (i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
            assert_int_equal(parse(op, body,
                                   body_of(op, "amount", malformed[i]),
                                   NULL, NULL), PAYMENT_INVALID);
            assert_string_equal(fault.field, "");
        }

        accepted(op, "amount", "1");
        assert_int_equal(r.amount, 1);
        payment_request_free(&r);

        accepted(op, "amount", "9007199254740991");
        assert_true(r.amount == PAYMENT_AMOUNT_MAX);
        payment_request_free(&r);
    }
}


/* the bound and the list are for what begins, not for what was begun */

static void
rules_of_authorize(void **state)
{
    uint8_t   print[PAYMENT_FINGERPRINT_SIZE];
    unsigned  op;

    (void) state;

    rules.max_amount = 20000;
    rules.currencies = "KRWUSD";
    rules.currencies_n = 2;

    accepted(PAYMENT_AUTHORIZE, "amount", "20000");
    payment_request_free(&r);
    accepted(PAYMENT_AUTHORIZE, "currency", "\"USD\"");
    payment_request_free(&r);

    refused(PAYMENT_AUTHORIZE, "amount", "20001", "at most 20000");
    refused(PAYMENT_AUTHORIZE, "currency", "\"EUR\"", "currency EUR is not "
            "accepted here");
    refused(PAYMENT_AUTHORIZE, "currency", "\"RWU\"", "ISO 4217");

    /* the request is read whole all the same, to be compared with its key's */

    refused(PAYMENT_AUTHORIZE, "amount", "20001", "at most 20000");
    assert_int_equal(r.forbidden, 1);
    memcpy(print, r.fingerprint, sizeof(print));

    rules.max_amount = PAYMENT_AMOUNT_MAX;
    accepted(PAYMENT_AUTHORIZE, "amount", "20001");
    assert_int_equal(r.forbidden, 0);
    assert_memory_equal(r.fingerprint, print, sizeof(print));
    payment_request_free(&r);
    rules.max_amount = 20000;

    /* what can never have been taken is no matter of rules */

    refused(PAYMENT_AUTHORIZE, "amount", "0", "at most 20000");
    assert_int_equal(r.forbidden, 0);
    refused(PAYMENT_AUTHORIZE, "amount", "9007199254740992", "at most 20000");
    assert_int_equal(r.forbidden, 0);

    for (op = PAYMENT_CAPTURE; op <= PAYMENT_REFUND; op++) {
        accepted(op, "amount", "20001");
        payment_request_free(&r);
        accepted(op, "currency", "\"EUR\"");
        payment_request_free(&r);
    }
}


static void
currencies(void **state)
{
    size_t    i;
    unsigned  op;

    static const char  *const bad[] = {
        "\"\"", "\"K\"", "\"KR\"", "\"KRWW\"", "\"krw\"", "\"ZZZ\"",
        "\"XAU\"", "\"KR \"", "\" KRW\"", "\"410\"", "\"\\uac00\"",
        "\"K\\u0052\"", "\"KRW\\n\""
    };

    (void) state;

    for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_REFUND; op++) {

        for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            refused(op, "currency", bad[i], "currency must be an ISO 4217 "
                    "code of three capital letters");
        }

        accepted(op, "currency", "\"JPY\"");
        assert_string_equal(r.currency, "JPY");
        payment_request_free(&r);

        accepted(op, "currency", "\"K\\u0052W\"");
        assert_string_equal(r.currency, "KRW");
        payment_request_free(&r);
    }
}


/* merchantId, reason, reference and idempotencyKey follow one rule with their
   own lengths */

static void
texts(void **state)
{
    size_t    i, j;
    unsigned  op;

    static const struct {
        const char  *name;
        unsigned     operations;
        unsigned     chars;
        unsigned     breaks;
    } cases[] = {
        { "merchantId", A|C|R|V, PAYMENT_MERCHANT_CHARS, 0 },
        { "reason", R, PAYMENT_REASON_CHARS, 1 },
        { "reference", C|R|V, PAYMENT_REFERENCE_CHARS, 0 },
        { "idempotencyKey", A|C|R|V, PAYMENT_BODY_KEY_CHARS, 0 }
    };

    /* one character each: of one to four bytes, raw and escaped */

    static const char  *const chars[] = {
        "x", "\\\"", "\\\\", "\\/", "\xc3\xa9", "\xea\xb0\x80",
        "\xf0\x9f\x92\xb3", "\\u00e9", "\\uac00", "\\ud83d\\udcb3"
    };

    static const char  *const blank[] = {
        "\"\"", "\" \"", "\"     \"", "\"\xc2\xa0\"", "\"\\u2003 \\u3000\"",
        "\"\\u1680\"", "\"\\u2028\\u2029\"", "\"\\u202f\\u205f\""
    };

    static const char  *const controls[] = {
        "\"a\\u0001\"", "\"\\u001fa\"", "\"a\\u007fb\"", "\"a\\u0085\"",
        "\"a\\u009f\"", "\"\\b a\"", "\"a\\f\"", "\"\\u000b\"",
        "\"a\x7f\"", "\"a\xc2\x80\""
    };

    static const char  *const breaks[] = {
        "\"a\\tb\"", "\"a\\r\\nb\"", "\"\\na\"", "\"a\\n\""
    };

    (void) state;

    for (i = 0; i < 3; i++) {
        for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_VOID; op++) {

            if (!(cases[i].operations & (1U << op))) {
                continue;
            }

            for (j = 0; j < sizeof(chars) / sizeof(chars[0]); j++) {
                accepted(op, cases[i].name, repeat(chars[j], 1));
                payment_request_free(&r);
                accepted(op, cases[i].name, repeat(chars[j],
                                                   cases[i].chars));
                payment_request_free(&r);
                refused(op, cases[i].name, repeat(chars[j],
                                                  cases[i].chars + 1),
                        "must be a string of 1 to");
            }

            for (j = 0; j < sizeof(blank) / sizeof(blank[0]); j++) {
                refused(op, cases[i].name, blank[j], "not blank");
            }

            for (j = 0; j < sizeof(controls) / sizeof(controls[0]); j++) {
                refused(op, cases[i].name, controls[j], "control characters");
            }

            for (j = 0; j < sizeof(breaks) / sizeof(breaks[0]); j++) {

                if (!cases[i].breaks) {
                    refused(op, cases[i].name, breaks[j],
                            "control characters");
                    continue;
                }

                accepted(op, cases[i].name, breaks[j]);
                payment_request_free(&r);
            }

            if (cases[i].breaks) {
                refused(op, cases[i].name, "\"\\t\\r\\n \"", "not blank");
            }
        }
    }

    /* white space around a text is part of it */

    accepted(PAYMENT_VOID, "merchantId", "\" M \"");
    assert_int_equal(r.merchant_len, 3);
    assert_memory_equal(r.merchant, " M ", 3);
    payment_request_free(&r);

    accepted(PAYMENT_REFUND, "reason", repeat("\\ud83d\\udcb3", 128));
    assert_int_equal(r.reason_len, PAYMENT_REASON_SIZE);
    payment_request_free(&r);
}


static void
merchants(void **state)
{
    char    text[PAYMENT_MERCHANT_SIZE + 4];
    size_t  i;

    (void) state;

    assert_int_equal(payment_request_merchant_valid("M", 1), 1);
    assert_int_equal(payment_request_merchant_valid("", 0), 0);
    assert_int_equal(payment_request_merchant_valid(NULL, 0), 0);
    assert_int_equal(payment_request_merchant_valid(" ", 1), 0);
    assert_int_equal(payment_request_merchant_valid("a\0b", 3), 0);
    assert_int_equal(payment_request_merchant_valid("a\xff", 2), 0);
    assert_int_equal(payment_request_merchant_valid("\xed\xa0\x80", 3), 0);
    assert_int_equal(payment_request_merchant_valid("\xe2\x82", 2), 0);

    for (i = 0; i < sizeof(text); i += 4) {
        memcpy(text + i, "\xf0\x9f\x92\xb3", 4);
    }

    assert_int_equal(payment_request_merchant_valid(text,
                                                    PAYMENT_MERCHANT_SIZE),
                     1);
    assert_int_equal(payment_request_merchant_valid(text, sizeof(text)), 0);
    assert_int_equal(payment_request_merchant_valid(text, 127), 0);
}


static void
metadata(void **state)
{
    int       n;
    size_t    i;
    unsigned  op;
    char      value[80000];

    static const struct {
        const char  *given;
        const char  *kept;
    } kept[] = {
        { "{\"b\":\"2\",\"a\":\"1\"}", "{\"a\":\"1\",\"b\":\"2\"}" },
        { " { \"c\" : \"3\",\n\"a\":\"1\", \"b\":\"2\" } ",
          "{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\"}" },
        { "{\"ab\":\"1\",\"a\":\"2\",\"\\u0061c\":\"3\",\"B\":\"4\"}",
          "{\"B\":\"4\",\"a\":\"2\",\"ab\":\"1\",\"ac\":\"3\"}" },
        { "{\"a\":\"\"}", "{\"a\":\"\"}" },
        { "{\"\\\"\":\"\\\\\\/\\t\\r\\n\"}",
          "{\"\\\"\":\"\\\\/\\t\\r\\n\"}" },
        { "{\"\\uac00\":\"\\ud83d\\udcb3\"}",
          "{\"\xea\xb0\x80\":\"\xf0\x9f\x92\xb3\"}" },
        { "{\" \":\" \"}", "{\" \":\" \"}" },
        { "{}", "" },
        { "{ }", "" }
    };

    static const struct {
        const char  *value;
        const char  *detail;
    } bad[] = {
        { "{\"\":\"x\"}", "the name \"\" must have 1 to 40 bytes" },
        { "{\"a\\u0001\":\"x\"}", "the name \"a?\"" },
        { "{\"a\\n\":\"x\"}", "the name \"a?\"" },
        { "{\"a\":null}", "the value of \"a\" must be a string" },
        { "{\"a\":1}", "the value of \"a\"" },
        { "{\"a\":true}", "the value of \"a\"" },
        { "{\"a\":[]}", "the value of \"a\"" },
        { "{\"a\":{}}", "the value of \"a\"" },
        { "{\"a\":\"x\",\"b\\\"\":2}", "the value of \"b?\"" },
        { "{\"a\":\"\\u0001\"}", "the value of \"a\"" },
        { "{\"a\":\"\\u007f\"}", "the value of \"a\"" },
        { "{\"a\":\"\\b\"}", "the value of \"a\"" },
        { "{\"a\":\"1\",\"a\":\"2\"}", "names a member more than once" },
        { "{\"a\":\"\\u0000\"}", "NUL" },
        { "{\"a\\u0000\":\"\"}", "NUL" }
    };

    (void) state;

    for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_VOID; op++) {

        for (i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
            accepted(op, "metadata", kept[i].given);
            assert_int_equal(r.metadata_len, strlen(kept[i].kept));
            assert_int_equal(r.metadata != NULL, r.metadata_len != 0);

            if (r.metadata != NULL) {
                assert_memory_equal(r.metadata, kept[i].kept,
                                    r.metadata_len);
            }

            payment_request_free(&r);
        }

        for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            refused(op, "metadata", bad[i].value, bad[i].detail);
        }
    }

    /* lengths are bytes of UTF-8: 40 and 500 */

    (void) sprintf(value, "{%s:\"x\"}", repeat("n", 40));
    accepted(PAYMENT_VOID, "metadata", value);
    payment_request_free(&r);

    (void) sprintf(value, "{%s:\"x\"}", repeat("\xf0\x9f\x92\xb3", 10));
    accepted(PAYMENT_VOID, "metadata", value);
    payment_request_free(&r);

    (void) sprintf(value, "{%s:\"x\"}", repeat("n", 41));
    refused(PAYMENT_VOID, "metadata", value, "1 to 40 bytes");

    (void) sprintf(value, "{%s:\"x\"}", repeat("\xf0\x9f\x92\xb3", 11));
    refused(PAYMENT_VOID, "metadata", value, "1 to 40 bytes");

    (void) sprintf(value, "{\"n\":%s}", repeat("v", 500));
    accepted(PAYMENT_VOID, "metadata", value);
    payment_request_free(&r);

    (void) sprintf(value, "{\"n\":%s}", repeat("v", 501));
    refused(PAYMENT_VOID, "metadata", value, "at most 500 bytes");

    (void) sprintf(value, "{\"n\":%s}", repeat("\xea\xb0\x80", 167));
    refused(PAYMENT_VOID, "metadata", value, "at most 500 bytes");

    /* twenty of the longest there can be, then one more */

    for (n = 0, i = 0; i < 21; i++) {
        n += sprintf(value + n, "%c\"%02d", i ? ',' : '{', (int) i);
        n += sprintf(value + n, "%.76s\":", repeat("\\\"", 38) + 1);
        n += sprintf(value + n, "%s", repeat("\\\"", 500));

        if (i == 19) {
            (void) sprintf(value + n, "}");
            accepted(PAYMENT_VOID, "metadata", value);
            assert_in_range(r.metadata_len, 20 * 1000, PAYMENT_METADATA_SIZE);
            payment_request_free(&r);
        }
    }

    (void) sprintf(value + n, "}");
    refused(PAYMENT_VOID, "metadata", value, "at most 20 strings");
}


/* what is no JSON, or not an object, or JSON that two readers read twofold */

static void
malformed(void **state)
{
    size_t    i;
    unsigned  op;

    static const struct {
        const char  *text;
        size_t       len;
        const char  *field;
        const char  *detail;
    } cases[] = {

#define T(text)  text, sizeof(text) - 1

        { T(""), "", "the body is empty" },
        { T(" "), "", "the body is empty" },
        { T(" \t\r\n"), "", "the body is empty" },
        { T("null"), "", "the body must be a JSON object" },
        { T("true"), "", "the body must be a JSON object" },
        { T("1"), "", "the body must be a JSON object" },
        { T("1.5"), "", "the body must be a JSON object" },
        { T("\"x\""), "", "the body must be a JSON object" },
        { T("[]"), "", "the body must be a JSON object" },
        { T("[{\"merchantId\":\"M\"}]"), "",
          "the body must be a JSON object" },
        { T("{"), "", "unfinished at line 1, column 1" },
        { T("["), "", "unfinished" },
        { T("{\"merchantId\":\"M\""), "", "unfinished" },
        { T("{\"merchantId\":\"M"), "", "unfinished" },
        { T("{\"merchantId\""), "", "unfinished" },
        { T("{\"merchantId\":"), "", "unfinished" },
        { T("{\"merchantId\":\"M\","), "", "unfinished" },
        { T("}"), "", "malformed at line 1, column 1" },
        { T("{}}"), "", "followed by something else" },
        { T("{} {}"), "", "followed by something else" },
        { T("{}x"), "", "followed by something else" },
        { T("{},"), "", "followed by something else" },
        { T("{\"merchantId\":\"M\",}"), "", "malformed" },
        { T("{,}"), "", "malformed" },
        { T("{merchantId:\"M\"}"), "", "malformed" },
        { T("{'merchantId':'M'}"), "", "malformed" },
        { T("{\"merchantId\" \"M\"}"), "", "malformed" },
        { T("{\"merchantId\":\"M\" \"amount\":1}"), "", "malformed" },
        { T("{\"merchantId\":M}"), "", "malformed" },
        { T("{\"merchantId\":True}"), "", "malformed" },
        { T("{1:2}"), "", "malformed" },
        { T("{\"a\":1}//"), "", "followed by something else" },
        { T("/**/{}"), "", "malformed" },
        { T("{\n  \"a\": 1,\n  b\n}"), "", "at line 3, column 3" },
        { T("{\"a\":\"\t\"}"), "", "malformed" },
        { T("{\"a\":\"\n\"}"), "", "malformed" },
        { T("{\"a\":\"\x01\"}"), "", "malformed" },
        { T("{\"a\":\"\\x\"}"), "", "malformed" },
        { T("{\"a\":\"\\u12\"}"), "", "malformed" },
        { T("{\"a\":\"\\ud83d\"}"), "", "malformed" },
        { T("{\"a\":\"\\udcb3\"}"), "", "malformed" },
        { T("{\"a\":\"\\ud83d\\u0041\"}"), "", "malformed" },
        { T("merchantId=M&amount=1"), "", "malformed" },
        { T("<xml/>"), "", "malformed" },

        { T("\xef\xbb\xbf{\"merchantId\":\"M\"}"), "", "byte order mark" },
        { T("\xff\xfe{\0}\0"), "", "NUL byte" },
        { T("{\0}\0"), "", "NUL byte" },
        { T("\0"), "", "NUL byte" },
        { T("{\"a\":1\0}"), "", "NUL byte" },
        { T("{\"a\":\"x\0\"}"), "", "NUL byte" },
        { T("{\"a\":1}\0"), "", "NUL byte" },

        { T("\xff"), "", "not in UTF-8" },
        { T("{\"merchantId\":\"\xff\"}"), "", "not in UTF-8" },
        { T("{\"merchantId\":\"\x80\"}"), "", "not in UTF-8" },
        { T("{\"merchantId\":\"\xc0\x80\"}"), "", "not in UTF-8" },
        { T("{\"merchantId\":\"\xed\xa0\x80\"}"), "", "not in UTF-8" },
        { T("{\"merchantId\":\"\xf4\x90\x80\x80\"}"), "", "not in UTF-8" },
        { T("{\"merchantId\":\"\xe2\x82\"}"), "", "not in UTF-8" },
        { T("{\"\xff\":1}"), "", "not in UTF-8" },

        { T("{\"merchantId\":\"a\\u0000b\"}"), "merchantId",
          "merchantId has a NUL character" },
        { T("{\"amount\":1,\"x\\u0000\":1}"), "x?u0000", "NUL character" },
        { T("[\"\\u0000\"]"), "", "the body has a NUL character" },

        { T("{\"amount\":1,\"amount\":1}"), "amount",
          "amount is given more than once" },
        { T("{\"amount\":1,\"am\\u006funt\":1}"), "am?u006funt",
          "is given more than once" },
        { T("{\"merchantId\":\"M\",\"amount\":1,\"merchantId\":\"M\"}"),
          "merchantId", "merchantId is given more than once" },
        { T("{\"x\":1,\"x\":2}"), "x", "x is given more than once" },
        { T("{\"\":1,\"\":2}"), "", "the empty name is given more than once" },
        { T("{\"\":[1,{\"a\":2}],\"x\":1,\"x\":2}"), "x",
          "x is given more than once" },
        { T("{\"x\":{\"y\":[{\"z\":1,\"z\":2}]}}"), "x",
          "x names a member more than once" },
        { T("{\"x\":{\"y\":\",\\\"\"},\"w\":[[{\"y\":1,\"y\":2}]]}"), "w",
          "w names a member more than once" },
        { T("[{\"amount\":1,\"amount\":2}]"), "",
          "the body names a member more than once" },

        { T("{\"amount\":9223372036854775808}"), "amount",
          "amount must be a positive integer" },
        { T("{\"x\":{\"amount\":9223372036854775808}}"), "x",
          "x has a number that is out of range" },
        { T("{\"amount\":[9223372036854775808]}"), "amount",
          "amount has a number that is out of range" },
        { T("{\"merchantId\":99999999999999999999}"), "merchantId",
          "merchantId has a number that is out of range" },
        { T("{\"x\":1e999}"), "x", "x has a number that is out of range" },
        { T("99999999999999999999"), "",
          "the body has a number that is out of range" },
        { T("[99999999999999999999]"), "",
          "the body has a number that is out of range" }

#undef T
    };

    (void) state;

    for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_VOID; op++) {
        for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {

            if (parse(op, cases[i].text, cases[i].len, NULL, NULL)
                != PAYMENT_INVALID
                || strcmp(fault.field, cases[i].field) != 0
                || strstr(fault.detail, cases[i].detail) == NULL)
            {
                fail_msg("%s came to %d, \"%s\": %s", cases[i].text,
                         (int) fault.outcome, fault.field, fault.detail);
            }
        }
    }
}


static void
nesting(void **state)
{
    unsigned  depth, i;
    char     *p;

    (void) state;

    /* a known limit, and no limit of the stack's */

    for (depth = 2000; depth < 12000; depth += 9000) {
        p = body + sprintf(body, "{\"merchantId\":\"M\",\"x\":");

        for (i = 0; i < depth; i++) {
            *p++ = '[';
        }

        for (i = 0; i < depth; i++) {
            *p++ = ']';
        }

        *p++ = '}';

        if (depth == 2000) {
            assert_int_equal(parse(PAYMENT_VOID, body, (size_t) (p - body),
                                   NULL, NULL), PAYMENT_OK);

        } else {
            assert_int_equal(parse(PAYMENT_VOID, body, (size_t) (p - body),
                                   NULL, NULL), PAYMENT_INVALID);
            assert_non_null(strstr(fault.detail, "nested too deeply"));
        }
    }

    for (i = 0; i < 60000; i++) {
        body[i] = (i % 5 == 0) ? '{' : "\"a\":"[i % 5 - 1];
    }

    assert_int_equal(parse(PAYMENT_VOID, body, 60000, NULL, NULL),
                     PAYMENT_INVALID);
}


static void
unknown_members(void **state)
{
    size_t    i;
    unsigned  op;

    static const struct {
        const char  *text;
        const char  *field;
    } cases[] = {
        { "{\"merchantId\":\"M\",\"x\":1}", "x" },
        { "{\"merchantid\":1,\"merchantId\":\"M\"}", "merchantid" },
        { "{\"x\":{\"amount\":[1,{}]},\"merchantId\":\"M\"}", "x" },
        { "{\"x\":null,\"merchantId\":\"M\"}", "x" },
        { "{\"merchantId \":null,\"merchantId\":\"M\"}", "merchantId " },
        { "{\"\xea\xb0\x80\":1,\"merchantId\":\"M\"}", "\xea\xb0\x80" },
        { "{\"a\\n\\\"\\u007f\\u0085\":1,\"merchantId\":\"M\"}", "a????" },
        { "{\"\":1,\"merchantId\":\"M\"}", "" },

        /* known elsewhere */
        { "{\"merchantId\":\"M\",\"amount\":1}", "amount" },
        { "{\"merchantId\":\"M\",\"currency\":\"KRW\"}", "currency" },
        { "{\"merchantId\":\"M\",\"final\":true}", "final" },
        { "{\"merchantId\":\"M\",\"reason\":\"x\"}", "reason" },
        { "{\"merchantId\":\"M\",\"reason\":null}", "reason" }
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rules.refuse_unknown = 0;

        assert_int_equal(parse(PAYMENT_VOID, cases[i].text,
                               strlen(cases[i].text), NULL, NULL),
                         PAYMENT_OK);
        assert_int_equal(r.amount, 0);
        assert_string_equal(r.currency, "");
        assert_int_equal(r.reason_len, 0);

        rules.refuse_unknown = 1;

        assert_int_equal(parse(PAYMENT_VOID, cases[i].text,
                               strlen(cases[i].text), NULL, NULL),
                         PAYMENT_INVALID);
        assert_string_equal(fault.field, cases[i].field);
        assert_true(fault.field[0] == '\0'
                    || strstr(fault.detail, fault.field) != NULL);
    }

    /* what is known is not refused */

    for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_VOID; op++) {
        accepted(op, NULL, NULL);
        payment_request_free(&r);
    }

    /* a name that is too long to show is cut where a character ends */

    for (i = 0; i < 4; i++) {
        (void) sprintf(body, "{\"%.*s%s:1}", (int) i, "xyz",
                       repeat("\xf0\x9f\x92\xb3", 40) + 1);

        assert_int_equal(parse(PAYMENT_VOID, body, strlen(body), NULL, NULL),
                         PAYMENT_INVALID);
        assert_int_equal(strlen(fault.field), i + (63 - i) / 4 * 4);
    }

    (void) sprintf(body, "{%s:1}", repeat("\\n", 70));
    assert_int_equal(parse(PAYMENT_VOID, body, strlen(body), NULL, NULL),
                     PAYMENT_INVALID);
    assert_int_equal(strlen(fault.field), 63);
}


static void
header_keys(void **state)
{
    size_t   i;
    uint8_t  hash[PAYMENT_KEY_HASH_SIZE];
    char     header[600];

    static const char  without_key[] = "{\"merchantId\":\"M\"}";

    /* the header, and the same key in the body */

    static const struct {
        const char  *header;
        const char  *key;
    } good[] = {
        { "abc", "\"abc\"" },
        { "\"abc\"", "\"abc\"" },
        { "8e03978e-40d5-43e8-bc93-6894a57f9324",
          "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"" },
        { "  abc\t", "\"abc\"" },
        { " \"abc\" ", "\"abc\"" },
        { "\" abc \"", "\" abc \"" },
        { "\"a b,c;d\"", "\"a b,c;d\"" },
        { "\"a\\\"b\\\\c\"", "\"a\\\"b\\\\c\"" },
        { "\"\\\\\"", "\"\\\\\"" },
        { "a;b=c", "\"a;b=c\"" },
        { "!#$%&'()*+-./:<=>?@[]^_`{|}~", "\"!#$%&'()*+-./:<=>?@[]^_`{|}~\"" },
        { "0", "\"0\"" }
    };

    static const char  *const bad[] = {
        "", " ", "\t", "\"", "\"\"", "\" \"", "\"abc", "abc\"", "a\"b",
        "\"a\"b", "\"a\" b", "\"a\";p=1", "\"a\", \"b\"", "\"a\",\"b\"",
        "a b", "a,b", "a, b", "a\\b", "\\\"a\\\"", "\"a\\b\"", "\"a\\\"",
        "\"a\\", "\"\\", "\xea\xb0\x80", "\"\xea\xb0\x80\"", "a\x7f",
        "\"a\x7f\"", "\"a\tb\"", "a\tb", "\"a\x01\"", "\xff"
    };

    (void) state;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(parse(PAYMENT_VOID, without_key,
                               sizeof(without_key) - 1, good[i].header, NULL),
                         PAYMENT_OK);
        assert_int_equal(r.has_key, 1);
        memcpy(hash, r.key_hash, sizeof(hash));

        (void) sprintf(body, "{\"merchantId\":\"M\",\"idempotencyKey\":%s}",
                       good[i].key);

        assert_int_equal(parse(PAYMENT_VOID, body, strlen(body), NULL, NULL),
                         PAYMENT_OK);
        assert_memory_equal(r.key_hash, hash, sizeof(hash));

        /* both, and the same */

        assert_int_equal(parse(PAYMENT_VOID, body, strlen(body),
                               good[i].header, NULL), PAYMENT_OK);
        assert_memory_equal(r.key_hash, hash, sizeof(hash));

        /* both, and not the same */

        assert_int_equal(parse(PAYMENT_VOID, body, strlen(body), "other",
                               NULL), PAYMENT_INVALID);
        assert_string_equal(fault.field, "idempotencyKey");
        assert_non_null(strstr(fault.detail, "differs from"));
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (parse(PAYMENT_VOID, without_key, sizeof(without_key) - 1, bad[i],
                  NULL) != PAYMENT_INVALID
            || strcmp(fault.field, "Idempotency-Key") != 0)
        {
            fail_msg("header \"%s\" came to %d", bad[i], (int) fault.outcome);
        }
    }

    /* 255 characters of the key, not of the header */

    memset(header, 'k', sizeof(header));
    header[255] = '\0';
    assert_int_equal(parse(PAYMENT_VOID, without_key, sizeof(without_key) - 1,
                           header, NULL), PAYMENT_OK);

    header[255] = 'k';
    header[256] = '\0';
    assert_int_equal(parse(PAYMENT_VOID, without_key, sizeof(without_key) - 1,
                           header, NULL), PAYMENT_INVALID);
    assert_non_null(strstr(fault.detail, "1 to 255 characters"));

    for (i = 0; i < 256; i++) {
        header[1 + 2 * i] = '\\';
        header[2 + 2 * i] = '"';
    }

    header[0] = '"';
    header[511] = '"';
    header[512] = '\0';
    assert_int_equal(parse(PAYMENT_VOID, without_key, sizeof(without_key) - 1,
                           header, NULL), PAYMENT_OK);

    header[511] = '\\';
    header[513] = '"';
    header[514] = '\0';
    header[512] = '"';
    assert_int_equal(parse(PAYMENT_VOID, without_key, sizeof(without_key) - 1,
                           header, NULL), PAYMENT_INVALID);

    /* a header does for authorize, too */

    body_of(PAYMENT_AUTHORIZE, "idempotencyKey", NULL);
    assert_int_equal(parse(PAYMENT_AUTHORIZE, body, strlen(body), "abc",
                           NULL), PAYMENT_OK);
    assert_int_equal(r.has_key, 1);
    payment_request_free(&r);
}


static void
identities(void **state)
{
    size_t    i, len;
    unsigned  op;
    char      longest[PAYMENT_MERCHANT_CHARS + 2];

    static const char  *const bad[] = {
        "", " ", "a\nb", "a\x7f", "\xff", "\xe2\x82"
    };

    (void) state;

    for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_VOID; op++) {

        /* the body may name the same merchant, or none */

        len = body_of(op, NULL, NULL);
        assert_int_equal(parse(op, body, len, NULL, "MERCHANT-1"),
                         PAYMENT_OK);
        payment_request_free(&r);

        len = body_of(op, "merchantId", NULL);
        assert_int_equal(parse(op, body, len, NULL, "MERCHANT-9"),
                         PAYMENT_OK);
        assert_int_equal(r.merchant_len, 10);
        assert_memory_equal(r.merchant, "MERCHANT-9", 10);
        payment_request_free(&r);

        len = body_of(op, "merchantId", "null");
        assert_int_equal(parse(op, body, len, NULL, "MERCHANT-9"),
                         PAYMENT_OK);
        payment_request_free(&r);

        /* another one, or a longer or a shorter name */

        len = body_of(op, NULL, NULL);

        assert_int_equal(parse(op, body, len, NULL, "MERCHANT-2"),
                         PAYMENT_MERCHANT_MISMATCH);
        assert_string_equal(fault.field, "merchantId");
        assert_null(strstr(fault.detail, "MERCHANT-2"));

        assert_int_equal(parse(op, body, len, NULL, "MERCHANT-"),
                         PAYMENT_MERCHANT_MISMATCH);
        assert_int_equal(parse(op, body, len, NULL, "MERCHANT-10"),
                         PAYMENT_MERCHANT_MISMATCH);
        assert_int_equal(parse(op, body, len, NULL, "merchant-1"),
                         PAYMENT_MERCHANT_MISMATCH);

        /* what is no merchantId is a fault of the body all the same */

        len = body_of(op, "merchantId", "17");
        assert_int_equal(parse(op, body, len, NULL, "MERCHANT-1"),
                         PAYMENT_INVALID);

        /* nobody, or a name that no merchant can have */

        len = body_of(op, NULL, NULL);

        for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            assert_int_equal(parse(op, body, len, NULL, bad[i]),
                             PAYMENT_UNAUTHORIZED);
            assert_string_equal(fault.field, "");
        }

        memset(longest, 'm', sizeof(longest));
        longest[PAYMENT_MERCHANT_CHARS + 1] = '\0';
        assert_int_equal(parse(op, body, len, NULL, longest),
                         PAYMENT_UNAUTHORIZED);
    }

    /* with a name from elsewhere a body may say nothing */

    for (i = 0; i < 2; i++) {
        assert_int_equal(parse(PAYMENT_CAPTURE, " \r\n", i * 3, NULL, "M"),
                         PAYMENT_OK);
        assert_int_equal(r.amount, 0);
        assert_int_equal(r.has_key, 0);

        assert_int_equal(parse(PAYMENT_VOID, " \r\n", i * 3, "key", "M"),
                         PAYMENT_OK);
        assert_int_equal(r.has_key, 1);

        assert_int_equal(parse(PAYMENT_REFUND, " \r\n", i * 3, NULL, "M"),
                         PAYMENT_INVALID);
        assert_string_equal(fault.field, "reason");

        assert_int_equal(parse(PAYMENT_AUTHORIZE, " \r\n", i * 3, NULL, "M"),
                         PAYMENT_INVALID);
        assert_string_equal(fault.field, "amount");
    }

    r.operation = PAYMENT_VOID;
    assert_int_equal(payment_request_parse(&r, &rules, NULL, 0, NULL, 0,
                                           "M", 1, &fault), PAYMENT_OK);
    assert_int_equal(payment_request_parse(&r, &rules, NULL, 0, NULL, 0,
                                           NULL, 0, &fault),
                     PAYMENT_INVALID);
}


static payment_outcome_e
get(const char *merchant, const char *identity)
{
    memset(&r, 0xa5, sizeof(payment_request_t));
    r.operation = PAYMENT_GET;
    r.merchant_len = strlen(merchant);
    memcpy(r.merchant, merchant, r.merchant_len);

    return payment_request_parse(&r, &rules, "not read", 8, "\"not read", 9,
                                 identity, identity ? strlen(identity) : 0,
                                 &fault);
}


static void
payment_gets(void **state)
{
    (void) state;

    assert_int_equal(get("M", NULL), PAYMENT_OK);
    assert_int_equal(r.merchant_len, 1);
    assert_int_equal(r.has_key, 0);
    assert_null(r.metadata);

    assert_int_equal(get("", "M"), PAYMENT_OK);
    assert_int_equal(r.merchant_len, 1);
    assert_memory_equal(r.merchant, "M", 1);

    assert_int_equal(get("M", "M"), PAYMENT_OK);

    assert_int_equal(get("M", "N"), PAYMENT_MERCHANT_MISMATCH);
    assert_string_equal(fault.field, "merchantId");

    assert_int_equal(get("M", ""), PAYMENT_UNAUTHORIZED);

    assert_int_equal(get("", NULL), PAYMENT_INVALID);
    assert_string_equal(fault.field, "merchantId");
    assert_string_equal(fault.detail, "merchantId is required");

    assert_int_equal(get(" ", NULL), PAYMENT_INVALID);
    assert_string_equal(fault.field, "merchantId");

    assert_int_equal(get("\xff", NULL), PAYMENT_INVALID);
}


/* key: of the query; header: as it came; each may be NULL */

static payment_outcome_e
lookup(const char *key, const char *header)
{
    memset(&r, 0xa5, sizeof(payment_request_t));
    r.operation = PAYMENT_LOOKUP;
    r.merchant_len = 1;
    r.merchant[0] = 'M';

    return payment_request_parse(&r, &rules, key, key ? strlen(key) : 0,
                                 header, header ? strlen(header) : 0,
                                 NULL, 0, &fault);
}


static void
payment_lookups(void **state)
{
    uint8_t  hash[PAYMENT_KEY_HASH_SIZE];

    (void) state;

    /* the hash is the one by which the key is kept */

    assert_int_equal(parse(PAYMENT_VOID, "", 0, "\"k 1\"", "M"), PAYMENT_OK);
    memcpy(hash, r.key_hash, sizeof(hash));

    assert_int_equal(lookup("k 1", NULL), PAYMENT_OK);
    assert_int_equal(r.has_key, 1);
    assert_memory_equal(r.key_hash, hash, sizeof(hash));
    assert_null(r.metadata);

    assert_int_equal(lookup(NULL, "\"k 1\""), PAYMENT_OK);
    assert_memory_equal(r.key_hash, hash, sizeof(hash));

    assert_int_equal(lookup("k 1", "\"k 1\""), PAYMENT_OK);
    assert_int_equal(lookup("k 1", "k1"), PAYMENT_INVALID);
    assert_string_equal(fault.field, "idempotencyKey");

    assert_int_equal(lookup(NULL, NULL), PAYMENT_INVALID);
    assert_string_equal(fault.field, "idempotencyKey");

    assert_int_equal(lookup("", NULL), PAYMENT_INVALID);
    assert_int_equal(lookup("\xff", NULL), PAYMENT_INVALID);
    assert_string_equal(fault.field, "idempotencyKey");

    assert_int_equal(lookup("k", ","), PAYMENT_INVALID);
    assert_string_equal(fault.field, "Idempotency-Key");

    r.operation = PAYMENT_LOOKUP;
    r.merchant_len = 0;
    assert_int_equal(payment_request_parse(&r, &rules, "k", 1, NULL, 0,
                                           NULL, 0, &fault), PAYMENT_INVALID);
    assert_string_equal(fault.field, "merchantId");

    assert_int_equal(payment_request_parse(&r, &rules, "k 1", 3, NULL, 0,
                                           "M", 1, &fault), PAYMENT_OK);
    assert_memory_equal(r.key_hash, hash, sizeof(hash));
}


/*
 * Both are stored, so they are fixed here.  In Python:
 *
 *     hashlib.sha256(merchant + b'\0' + key).digest()[:16]
 *
 *     hashlib.sha256(bytes([1, operation]) + payment_id (not for authorize)
 *         + struct.pack('>q4s', amount, currency)
 *         + struct.pack('>H', len(merchant)) + merchant
 *         + struct.pack('>H', len(reason)) + reason
 *         + (b'\1' if final)
 *         + (b'\2' + struct.pack('>H', len(reference)) + reference, if any)
 *         + metadata).digest()[:8]
 */

static void
hash_vectors(void **state)
{
    size_t    i, j;
    char      text[40];

    static const struct {
        unsigned     operation;
        const char  *body;
        const char  *key_hash;
        const char  *fingerprint;
    } cases[] = {

        { PAYMENT_AUTHORIZE,
          "{\"merchantId\":\"MERCHANT-1\",\"amount\":15000,"
          "\"currency\":\"KRW\",\"idempotencyKey\":\"key-1\"}",
          "0fc05220bdb04dcf6ee13e1ea7d20440", "cd02f7a29f281493" },

        { PAYMENT_AUTHORIZE,
          "{\"merchantId\":\"MERCHANT-1\",\"amount\":15000,"
          "\"currency\":\"KRW\",\"idempotencyKey\":\"key-1\","
          "\"metadata\":{\"b\":\"2\",\"a\":\"1\"}}",
          "0fc05220bdb04dcf6ee13e1ea7d20440", "1932f1bac6b51cf7" },

        { PAYMENT_CAPTURE,
          "{\"merchantId\":\"MERCHANT-1\",\"idempotencyKey\":\"key-1\"}",
          "0fc05220bdb04dcf6ee13e1ea7d20440", "14827352fc95ccde" },

        { PAYMENT_CAPTURE,
          "{\"merchantId\":\"MERCHANT-1\",\"idempotencyKey\":\"key-1\","
          "\"reference\":\"r-1\",\"final\":true}",
          "0fc05220bdb04dcf6ee13e1ea7d20440", "ba352b1d9dbb0686" },

        { PAYMENT_REFUND,
          "{\"merchantId\":\"MERCHANT-1\",\"idempotencyKey\":\"key-1\","
          "\"amount\":400,\"reason\":\"broken\"}",
          "0fc05220bdb04dcf6ee13e1ea7d20440", "da16fb92783b3c62" },

        { PAYMENT_VOID,
          "{\"merchantId\":\"MERCHANT-1\",\"idempotencyKey\":\"key-1\"}",
          "0fc05220bdb04dcf6ee13e1ea7d20440", "ff3e8ce64db69330" },

        { PAYMENT_VOID,
          "{\"merchantId\":\"\xea\xb0\x80\xeb\xa7\xb9\xec\xa0\x90\","
          "\"idempotencyKey\":\"\\ud0a4\"}",
          "35e6edd40cd5513906a1385e72c01796", NULL }
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse(cases[i].operation, cases[i].body,
                               strlen(cases[i].body), NULL, NULL),
                         PAYMENT_OK);

        for (j = 0; j < PAYMENT_KEY_HASH_SIZE; j++) {
            (void) sprintf(text + 2 * j, "%02x", r.key_hash[j]);
        }

        assert_string_equal(text, cases[i].key_hash);

        for (j = 0; j < PAYMENT_FINGERPRINT_SIZE; j++) {
            (void) sprintf(text + 2 * j, "%02x", r.fingerprint[j]);
        }

        if (cases[i].fingerprint != NULL) {
            assert_string_equal(text, cases[i].fingerprint);
        }

        payment_request_free(&r);
    }
}


/* one group means one thing; no two groups mean the same */

static void
fingerprints(void **state)
{
    size_t    i, j;
    uint8_t   prints[32][PAYMENT_FINGERPRINT_SIZE];

    static const struct {
        unsigned     group;
        unsigned     operation;
        const char  *body;
    } cases[] = {

        { 1, PAYMENT_AUTHORIZE, "{\"merchantId\":\"M\",\"amount\":1,"
          "\"currency\":\"KRW\",\"idempotencyKey\":\"k\"}" },
        { 1, PAYMENT_AUTHORIZE, " {\n\"idempotencyKey\" : \"other\" ,\"cu"
          "rrency\":\"KR\\u0057\",\"merchantId\":\"\\u004d\",\"amount\":1}" },
        { 1, PAYMENT_AUTHORIZE, "{\"merchantId\":\"M\",\"amount\":1,"
          "\"currency\":\"KRW\",\"idempotencyKey\":\"k\",\"x\":1,"
          "\"metadata\":{},\"reason\":\"ignored here\"}" },
        { 2, PAYMENT_AUTHORIZE, "{\"merchantId\":\"M\",\"amount\":2,"
          "\"currency\":\"KRW\",\"idempotencyKey\":\"k\"}" },
        { 3, PAYMENT_AUTHORIZE, "{\"merchantId\":\"M\",\"amount\":1,"
          "\"currency\":\"USD\",\"idempotencyKey\":\"k\"}" },
        { 4, PAYMENT_AUTHORIZE, "{\"merchantId\":\"N\",\"amount\":1,"
          "\"currency\":\"KRW\",\"idempotencyKey\":\"k\"}" },
        { 5, PAYMENT_AUTHORIZE, "{\"merchantId\":\"M\",\"amount\":1,"
          "\"currency\":\"KRW\",\"idempotencyKey\":\"k\","
          "\"metadata\":{\"a\":\"1\",\"b\":\"2\"}}" },
        { 5, PAYMENT_AUTHORIZE, "{\"metadata\":{\"b\":\"\\u0032\", "
          "\"\\u0061\":\"1\"},\"merchantId\":\"M\",\"amount\":1,"
          "\"currency\":\"KRW\",\"idempotencyKey\":\"k\"}" },
        { 6, PAYMENT_AUTHORIZE, "{\"merchantId\":\"M\",\"amount\":1,"
          "\"currency\":\"KRW\",\"idempotencyKey\":\"k\","
          "\"metadata\":{\"a\":\"2\",\"b\":\"1\"}}" },

        { 7, PAYMENT_CAPTURE, "{\"merchantId\":\"M\"}" },
        { 7, PAYMENT_CAPTURE, "{\"merchantId\":\"M\",\"amount\":null}" },
        { 8, PAYMENT_CAPTURE, "{\"merchantId\":\"M\",\"amount\":1}" },
        { 9, PAYMENT_CAPTURE,
          "{\"merchantId\":\"M\",\"amount\":1,\"currency\":\"KRW\"}" },
        { 10, PAYMENT_VOID, "{\"merchantId\":\"M\"}" },
        { 11, PAYMENT_REFUND, "{\"merchantId\":\"M\",\"reason\":\"x\"}" },
        { 12, PAYMENT_REFUND, "{\"merchantId\":\"M\",\"reason\":\"y\"}" },
        { 13, PAYMENT_REFUND,
          "{\"merchantId\":\"M\",\"reason\":\"x\",\"amount\":1}" },
        { 14, PAYMENT_REFUND,
          "{\"merchantId\":\"M\",\"reason\":\"x\","
          "\"metadata\":{\"x\":\"x\"}}" },

        { 7, PAYMENT_CAPTURE, "{\"merchantId\":\"M\",\"final\":false}" },
        { 15, PAYMENT_CAPTURE, "{\"merchantId\":\"M\",\"final\":true}" },
        { 16, PAYMENT_CAPTURE, "{\"merchantId\":\"M\",\"final\":true,"
          "\"metadata\":{\"x\":\"x\"}}" },
        { 17, PAYMENT_CAPTURE, "{\"merchantId\":\"M\","
          "\"metadata\":{\"x\":\"x\"}}" },
        { 18, PAYMENT_CAPTURE, "{\"merchantId\":\"M\","
          "\"reference\":\"x\"}" },
        { 19, PAYMENT_CAPTURE, "{\"merchantId\":\"M\","
          "\"reference\":\"xx\"}" },
        { 20, PAYMENT_CAPTURE, "{\"merchantId\":\"M\",\"final\":true,"
          "\"reference\":\"x\"}" },
        { 20, PAYMENT_CAPTURE, "{\"reference\":\"\\u0078\","
          "\"final\":true,\"merchantId\":\"M\"}" },
        { 1, PAYMENT_AUTHORIZE, "{\"merchantId\":\"M\",\"amount\":1,"
          "\"currency\":\"KRW\",\"idempotencyKey\":\"k\","
          "\"reference\":\"ignored here\"}" }
    };

#define CASES_N  (sizeof(cases) / sizeof(cases[0]))

    (void) state;

    for (i = 0; i < CASES_N; i++) {
        assert_int_equal(parse(cases[i].operation, cases[i].body,
                               strlen(cases[i].body), NULL, NULL),
                         PAYMENT_OK);
        memcpy(prints[i], r.fingerprint, PAYMENT_FINGERPRINT_SIZE);
        payment_request_free(&r);
    }

    for (i = 0; i < CASES_N; i++) {
        for (j = 0; j < CASES_N; j++) {
            assert_int_equal(memcmp(prints[i], prints[j],
                                    PAYMENT_FINGERPRINT_SIZE) == 0,
                             cases[i].group == cases[j].group);
        }
    }

    /* another payment is another meaning, though not of authorize */

    memcpy(body, cases[9].body, strlen(cases[9].body));
    r.operation = PAYMENT_CAPTURE;
    memset(r.payment_id, 0x77, PAYMENT_ID_SIZE);
    assert_int_equal(payment_request_parse(&r, &rules, body,
                                           strlen(cases[9].body), NULL, 0,
                                           NULL, 0, &fault), PAYMENT_OK);
    assert_memory_not_equal(r.fingerprint, prints[9],
                            PAYMENT_FINGERPRINT_SIZE);

    memcpy(body, cases[0].body, strlen(cases[0].body));
    r.operation = PAYMENT_AUTHORIZE;
    assert_int_equal(payment_request_parse(&r, &rules, body,
                                           strlen(cases[0].body), NULL, 0,
                                           NULL, 0, &fault), PAYMENT_OK);
    assert_memory_equal(r.fingerprint, prints[0], PAYMENT_FINGERPRINT_SIZE);

    /* and a merchant proved is the merchant named */

    assert_int_equal(parse(PAYMENT_VOID, "", 0, NULL, "M"), PAYMENT_OK);
    assert_memory_equal(r.fingerprint, prints[13], PAYMENT_FINGERPRINT_SIZE);
}


/* the hash of merchant and key keeps them apart */

static void
key_scopes(void **state)
{
    uint8_t  hash[PAYMENT_KEY_HASH_SIZE];

    (void) state;

    assert_int_equal(parse(PAYMENT_VOID, "", 0, "bc", "a"), PAYMENT_OK);
    memcpy(hash, r.key_hash, sizeof(hash));

    assert_int_equal(parse(PAYMENT_VOID, "", 0, "c", "ab"), PAYMENT_OK);
    assert_memory_not_equal(hash, r.key_hash, sizeof(hash));

    assert_int_equal(parse(PAYMENT_VOID, "", 0, "bc", "b"), PAYMENT_OK);
    assert_memory_not_equal(hash, r.key_hash, sizeof(hash));

    /* one key for one merchant, whatever the operation */

    assert_int_equal(parse(PAYMENT_CAPTURE, "", 0, "bc", "a"), PAYMENT_OK);
    assert_memory_equal(hash, r.key_hash, sizeof(hash));
}


/* every byte of a right body replaced by every byte, dropped, doubled */

static void
mutations(void **state)
{
    char      text[300], changed[301];
    size_t    len, i;
    unsigned  op, c, done;

    (void) state;

    done = 0;

    for (op = PAYMENT_AUTHORIZE; op <= PAYMENT_REFUND; op += 2) {
        len = body_of(op, NULL, NULL);
        assert_true(len < sizeof(text));
        memcpy(text, body, len);

        for (i = 0; i < len; i++) {
            for (c = 0; c < 256; c++) {
                memcpy(changed, text, len);
                changed[i] = (char) c;
                done += parse(op, changed, len, NULL, NULL) == PAYMENT_OK;
                payment_request_free(&r);
            }

            memcpy(changed, text, i);
            memcpy(changed + i, text + i + 1, len - i - 1);
            (void) parse(op, changed, len - 1, NULL, NULL);
            payment_request_free(&r);

            memcpy(changed, text, i);
            memcpy(changed + i + 1, text + i, len - i);
            changed[i] = text[i];
            (void) parse(op, changed, len + 1, NULL, NULL);
            payment_request_free(&r);

            (void) parse(op, text, i, NULL, NULL);
            payment_request_free(&r);
        }
    }

    assert_true(done > 1000);
}


/*
 * No memory for jansson's n-th piece, for every n: nothing breaks, nothing is
 * lost.  (Without memory for a string jansson takes the string for a syntax
 * error, so that a 400 is possible.)
 */

static unsigned  allocations_left;


static void *
scarce_malloc(size_t size)
{
    if (allocations_left == 0) {
        return NULL;
    }

    allocations_left--;

    return malloc(size);
}


static void
no_memory(void **state)
{
    size_t             len;
    unsigned           n;
    payment_outcome_e  outcome;

    (void) state;

    json_set_alloc_funcs(scarce_malloc, free);

    outcome = PAYMENT_UNAVAILABLE;

    for (n = 0; n < 200 && outcome != PAYMENT_OK; n++) {
        len = body_of(PAYMENT_AUTHORIZE, NULL, NULL);
        allocations_left = n;
        outcome = parse(PAYMENT_AUTHORIZE, body, len, NULL, NULL);

        assert_true(outcome == PAYMENT_OK || outcome == PAYMENT_UNAVAILABLE
                    || outcome == PAYMENT_INVALID);
        assert_true(n > 0 || outcome == PAYMENT_UNAVAILABLE);
        payment_request_free(&r);
    }

    allocations_left = 0;
    outcome = parse(PAYMENT_VOID, "", 0, NULL, "M");

    json_set_alloc_funcs(malloc, free);

    assert_int_equal(outcome, PAYMENT_UNAVAILABLE);
    assert_in_range(n, 10, 199);
}


#define with_rules(test)  cmocka_unit_test_setup(test, fresh_rules)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        with_rules(right_requests),
        with_rules(absent_members),
        with_rules(reference_bodies),
        with_rules(wrong_types),
        with_rules(amounts),
        with_rules(rules_of_authorize),
        with_rules(currencies),
        with_rules(texts),
        with_rules(merchants),
        with_rules(metadata),
        with_rules(malformed),
        with_rules(nesting),
        with_rules(unknown_members),
        with_rules(header_keys),
        with_rules(identities),
        with_rules(payment_gets),
        with_rules(payment_lookups),
        with_rules(hash_vectors),
        with_rules(fingerprints),
        with_rules(key_scopes),
        with_rules(mutations),
        with_rules(no_memory)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
