/*
 * What goes out, to the byte: answers, events, problems, times; and that it is
 * JSON within its size, whatever the texts hold.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "payment.h"


#define CREATED  INT64_C(1763835166123)
#define UPDATED  INT64_C(1763835167004)

#define ID_TEXT  "019aacb5-2c6b-7000-8010-00000000abcd"
#define CURSOR_TEXT  "AZqstSxrcACAEAAAAACrzQAAAAAAAAAA"


static char  buf[PAYMENT_PAYLOAD_SIZE + PAYMENT_METADATA_SIZE];


static void
payment_of(payment_t *p, payment_status_e status, int64_t captured,
    int64_t refunded)
{
    memset(p, 0, sizeof(payment_t));

    assert_int_equal(payment_id_parse(p->id, ID_TEXT, 36), 1);
    memcpy(p->merchant, "MERCHANT-1", 10);
    p->merchant_len = 10;
    memcpy(p->currency, "KRW", 4);
    p->status = status;
    p->amount = 15000;
    p->captured = captured;
    p->refunded = refunded;
    p->operation_amount = 15000;
    p->version = 3;
    p->created_ms = CREATED;
    p->updated_ms = UPDATED;
}


static json_t *
loaded(size_t len)
{
    json_t        *json;
    json_error_t   error;

    json = json_loadb(buf, len, JSON_REJECT_DUPLICATES|JSON_ALLOW_NUL,
                      &error);
    if (json == NULL) {
        fail_msg("not JSON: %s: %.*s", error.text, (int) len, buf);
    }

    return json;
}


static void
response(void **state)
{
    size_t             i, len;
    payment_t          p;
    payment_request_t  r;

    static const struct {
        payment_operation_e  operation;
        payment_status_e     status;
        int64_t              captured;
        int64_t              refunded;
        const char          *text;
    } cases[] = {

        { PAYMENT_AUTHORIZE, PAYMENT_AUTHORIZED, 0, 0,
          "{\"paymentId\":\"" ID_TEXT "\",\"status\":\"AUTHORIZED\","
          "\"amount\":15000,\"currency\":\"KRW\",\"capturedAmount\":0,"
          "\"refundedAmount\":0,\"createdAt\":\"2025-11-22T18:12:46.123Z\","
          "\"ledgerEntries\":[],\"message\":\"Payment authorized\"}" },

        { PAYMENT_CAPTURE, PAYMENT_CAPTURED, 15000, 0,
          "{\"paymentId\":\"" ID_TEXT "\",\"status\":\"CAPTURED\","
          "\"amount\":15000,\"currency\":\"KRW\",\"capturedAmount\":15000,"
          "\"refundedAmount\":0,\"createdAt\":\"2025-11-22T18:12:46.123Z\","
          "\"ledgerEntries\":[],\"message\":\"Payment captured\"}" },

        { PAYMENT_CAPTURE, PAYMENT_PARTIALLY_CAPTURED, 1, 0,
          "{\"paymentId\":\"" ID_TEXT "\",\"status\":\"PARTIALLY_CAPTURED\","
          "\"amount\":15000,\"currency\":\"KRW\",\"capturedAmount\":1,"
          "\"refundedAmount\":0,\"createdAt\":\"2025-11-22T18:12:46.123Z\","
          "\"ledgerEntries\":[],"
          "\"message\":\"Payment partially captured\"}" },

        { PAYMENT_REFUND, PAYMENT_REFUNDED, 15000, 15000,
          "{\"paymentId\":\"" ID_TEXT "\",\"status\":\"REFUNDED\","
          "\"amount\":15000,\"currency\":\"KRW\",\"capturedAmount\":15000,"
          "\"refundedAmount\":15000,"
          "\"createdAt\":\"2025-11-22T18:12:46.123Z\","
          "\"ledgerEntries\":[],\"message\":\"Payment refunded\"}" },

        { PAYMENT_REFUND, PAYMENT_PARTIALLY_REFUNDED, 15000, 14999,
          "{\"paymentId\":\"" ID_TEXT "\",\"status\":\"PARTIALLY_REFUNDED\","
          "\"amount\":15000,\"currency\":\"KRW\",\"capturedAmount\":15000,"
          "\"refundedAmount\":14999,"
          "\"createdAt\":\"2025-11-22T18:12:46.123Z\","
          "\"ledgerEntries\":[],"
          "\"message\":\"Payment partially refunded\"}" },

        { PAYMENT_VOID, PAYMENT_VOIDED, 0, 0,
          "{\"paymentId\":\"" ID_TEXT "\",\"status\":\"VOIDED\","
          "\"amount\":15000,\"currency\":\"KRW\",\"capturedAmount\":0,"
          "\"refundedAmount\":0,\"createdAt\":\"2025-11-22T18:12:46.123Z\","
          "\"ledgerEntries\":[],\"message\":\"Payment voided\"}" },

        { PAYMENT_GET, PAYMENT_CAPTURED, 15000, 0,
          "{\"paymentId\":\"" ID_TEXT "\",\"status\":\"CAPTURED\","
          "\"amount\":15000,\"currency\":\"KRW\",\"capturedAmount\":15000,"
          "\"refundedAmount\":0,\"createdAt\":\"2025-11-22T18:12:46.123Z\","
          "\"merchantId\":\"MERCHANT-1\",\"version\":3,"
          "\"updatedAt\":\"2025-11-22T18:12:47.004Z\","
          "\"ledgerEntries\":[],\"message\":\"Payment found\"}" }
    };

    (void) state;

    memset(&r, 0, sizeof(payment_request_t));

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        payment_of(&p, cases[i].status, cases[i].captured, cases[i].refunded);
        r.operation = cases[i].operation;

        len = payment_render_response(buf, PAYMENT_RESPONSE_SIZE, &p, &r);
        buf[len] = '\0';
        assert_string_equal(buf, cases[i].text);

        json_decref(loaded(len));
    }

    payment_of(&p, PAYMENT_VOIDED, 0, 0);
    r.operation = PAYMENT_VOID;
    memcpy(r.reference, "a\"b", 3);
    r.reference_len = 3;

    len = payment_render_response(buf, PAYMENT_RESPONSE_SIZE, &p, &r);
    buf[len] = '\0';
    assert_string_equal(buf,
        "{\"paymentId\":\"" ID_TEXT "\",\"status\":\"VOIDED\","
        "\"amount\":15000,\"currency\":\"KRW\",\"capturedAmount\":0,"
        "\"refundedAmount\":0,\"createdAt\":\"2025-11-22T18:12:46.123Z\","
        "\"reference\":\"a\\\"b\","
        "\"ledgerEntries\":[],\"message\":\"Payment voided\"}");

    /* an authorization that ends; that it has ended is a GET's to tell */

    payment_of(&p, PAYMENT_VOIDED, 0, 0);
    p.expires_ms = CREATED + 86400000;
    p.expired_ms = CREATED + 86400881;
    memset(&r, 0, sizeof(payment_request_t));
    r.operation = PAYMENT_AUTHORIZE;

    len = payment_render_response(buf, PAYMENT_RESPONSE_SIZE, &p, &r);
    buf[len] = '\0';
    assert_non_null(strstr(buf, "\"createdAt\":\"2025-11-22T18:12:46.123Z\","
                                "\"expiresAt\":\"2025-11-23T18:12:46.123Z\","
                                "\"ledgerEntries\":[]"));
    json_decref(loaded(len));

    r.operation = PAYMENT_GET;

    len = payment_render_response(buf, PAYMENT_RESPONSE_SIZE, &p, &r);
    buf[len] = '\0';
    assert_non_null(strstr(buf, "\"updatedAt\":\"2025-11-22T18:12:47.004Z\","
                                "\"expiredAt\":\"2025-11-23T18:12:47.004Z\","
                                "\"ledgerEntries\":[]"));
    json_decref(loaded(len));
}


static void
found(void **state)
{
    size_t             len;
    payment_t          p;
    payment_request_t  r;

    static const payment_kept_t  kept = {
        PAYMENT_CAPTURE, PAYMENT_PARTIALLY_CAPTURED, 2, 700, 0
    };

    (void) state;

    memset(&r, 0, sizeof(payment_request_t));
    r.operation = PAYMENT_LOOKUP;
    payment_of(&p, PAYMENT_PARTIALLY_REFUNDED, 700, 100);

    len = payment_render_found(buf, PAYMENT_FOUND_SIZE, &p, &r, &kept);
    buf[len] = '\0';
    assert_string_equal(buf,
        "{\"paymentId\":\"" ID_TEXT "\",\"status\":\"PARTIALLY_REFUNDED\","
        "\"amount\":15000,\"currency\":\"KRW\",\"capturedAmount\":700,"
        "\"refundedAmount\":100,\"createdAt\":\"2025-11-22T18:12:46.123Z\","
        "\"merchantId\":\"MERCHANT-1\",\"version\":3,"
        "\"updatedAt\":\"2025-11-22T18:12:47.004Z\","
        "\"ledgerEntries\":[],\"message\":\"Payment found\","
        "\"operation\":{\"type\":\"capture\","
        "\"status\":\"PARTIALLY_CAPTURED\",\"version\":2,"
        "\"capturedAmount\":700,\"refundedAmount\":0}}");

    json_decref(loaded(len));
}


static void
listed(void **state)
{
    size_t             len, all;
    payment_t          p;
    payment_list_t     list;
    payment_request_t  r;
    char               one[PAYMENT_LISTED_SIZE];

    (void) state;

    memset(&list, 0, sizeof(payment_list_t));
    memset(&r, 0, sizeof(payment_request_t));
    memcpy(r.merchant, "M\"1", 3);
    r.merchant_len = 3;

    payment_of(&p, PAYMENT_CAPTURED, 700, 0);
    p.expires_ms = CREATED;
    p.expired_ms = CREATED + 1;

    len = payment_render_listed(one, sizeof(one), &p);
    all = payment_render_list(buf, sizeof(buf), &r, &list, one, len, p.id);
    buf[all] = '\0';
    assert_string_equal(buf,
        "{\"merchantId\":\"M\\\"1\",\"payments\":["
        "{\"paymentId\":\"" ID_TEXT "\",\"status\":\"CAPTURED\","
        "\"amount\":15000,\"currency\":\"KRW\",\"capturedAmount\":700,"
        "\"refundedAmount\":0,\"createdAt\":\"2025-11-22T18:12:46.123Z\","
        "\"expiresAt\":\"2025-11-22T18:12:46.123Z\",\"version\":3,"
        "\"updatedAt\":\"2025-11-22T18:12:47.004Z\","
        "\"expiredAt\":\"2025-11-22T18:12:46.124Z\"}],"
        "\"nextCursor\":\"" CURSOR_TEXT "\"}");

    json_decref(loaded(all));

    all = payment_render_list(buf, sizeof(buf), &r, &list, NULL, 0, NULL);
    buf[all] = '\0';
    assert_string_equal(buf, "{\"merchantId\":\"M\\\"1\",\"payments\":[]}");
}


static void
event(void **state)
{
    size_t             len;
    payment_t          p;
    payment_request_t  r;

    (void) state;

    memset(&r, 0, sizeof(payment_request_t));
    payment_of(&p, PAYMENT_AUTHORIZED, 0, 0);
    p.version = 1;
    p.updated_ms = CREATED;

    r.operation = PAYMENT_AUTHORIZE;

    len = payment_render_event(buf, sizeof(buf), &p, &r);
    buf[len] = '\0';
    assert_string_equal(buf,
        "{\"eventType\":\"authorized\",\"paymentId\":\"" ID_TEXT "\","
        "\"merchantId\":\"MERCHANT-1\",\"amount\":15000,\"currency\":\"KRW\","
        "\"status\":\"AUTHORIZED\",\"version\":1,\"capturedAmount\":0,"
        "\"refundedAmount\":0,\"operationAmount\":15000,"
        "\"occurredAt\":\"2025-11-22T18:12:46.123Z\"}");

    payment_of(&p, PAYMENT_PARTIALLY_REFUNDED, 15000, 400);
    p.operation_amount = 400;

    r.operation = PAYMENT_REFUND;
    memcpy(r.reason, "too \"small\"", 11);
    r.reason_len = 11;
    memcpy(r.reference, "r-1", 3);
    r.reference_len = 3;
    r.metadata = (char *) "{\"order\":\"17\"}";
    r.metadata_len = 14;

    len = payment_render_event(buf, sizeof(buf), &p, &r);
    buf[len] = '\0';
    assert_string_equal(buf,
        "{\"eventType\":\"refunded\",\"paymentId\":\"" ID_TEXT "\","
        "\"merchantId\":\"MERCHANT-1\",\"amount\":15000,\"currency\":\"KRW\","
        "\"status\":\"PARTIALLY_REFUNDED\",\"version\":3,"
        "\"capturedAmount\":15000,\"refundedAmount\":400,"
        "\"operationAmount\":400,\"reason\":\"too \\\"small\\\"\","
        "\"reference\":\"r-1\","
        "\"metadata\":{\"order\":\"17\"},"
        "\"occurredAt\":\"2025-11-22T18:12:47.004Z\"}");

    json_decref(loaded(len));

    /* only a refund has a reason */

    r.operation = PAYMENT_CAPTURE;
    p.status = PAYMENT_CAPTURED;
    r.metadata_len = 0;

    len = payment_render_event(buf, sizeof(buf), &p, &r);
    buf[len] = '\0';
    assert_null(strstr(buf, "reason"));
    assert_null(strstr(buf, "metadata"));
    assert_non_null(strstr(buf, "\"eventType\":\"captured\""));

    /* nobody has asked for it, and it brings nothing */

    memset(&r, 0, sizeof(payment_request_t));
    payment_of(&p, PAYMENT_PARTIALLY_CAPTURED, 700, 0);
    p.expires_ms = UPDATED;
    payment_state_expire(&p, UPDATED);
    r.operation = PAYMENT_EXPIRE;

    len = payment_render_event(buf, sizeof(buf), &p, &r);
    buf[len] = '\0';
    assert_string_equal(buf,
        "{\"eventType\":\"expired\",\"paymentId\":\"" ID_TEXT "\","
        "\"merchantId\":\"MERCHANT-1\",\"amount\":15000,\"currency\":\"KRW\","
        "\"status\":\"CAPTURED\",\"version\":4,\"capturedAmount\":700,"
        "\"refundedAmount\":0,\"operationAmount\":14300,"
        "\"occurredAt\":\"2025-11-22T18:12:47.004Z\"}");

    json_decref(loaded(len));
}


static void
problem(void **state)
{
    size_t           len;
    payment_t        p;
    payment_fault_t  fault;

    (void) state;

    memset(&fault, 0, sizeof(payment_fault_t));
    fault.outcome = PAYMENT_INVALID;
    strcpy(fault.field, "amount");
    strcpy(fault.detail, "amount is required");

    len = payment_render_problem(buf, PAYMENT_PROBLEM_SIZE, &fault, NULL,
                                 NULL);
    buf[len] = '\0';
    assert_string_equal(buf,
        "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,"
        "\"detail\":\"amount is required\",\"code\":\"INVALID_REQUEST\","
        "\"message\":\"amount is required\",\"field\":\"amount\"}");

    payment_of(&p, PAYMENT_VOIDED, 0, 0);
    fault.outcome = PAYMENT_CAPTURE_CONFLICT;
    fault.field[0] = '\0';
    strcpy(fault.detail, "a \"quoted\" \\ word");

    len = payment_render_problem(buf, PAYMENT_PROBLEM_SIZE, &fault, p.id,
                                 NULL);
    buf[len] = '\0';
    assert_string_equal(buf,
        "{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,"
        "\"detail\":\"a \\\"quoted\\\" \\\\ word\","
        "\"code\":\"CAPTURE_CONFLICT\","
        "\"message\":\"a \\\"quoted\\\" \\\\ word\","
        "\"paymentId\":\"" ID_TEXT "\"}");

    /* a type of its own for each code */

    len = payment_render_problem(buf, PAYMENT_PROBLEM_SIZE, &fault, NULL,
                                 "https://example.net/problems#");
    buf[len] = '\0';
    assert_non_null(strstr(buf, "{\"type\":"
                           "\"https://example.net/problems#CAPTURE_CONFLICT\","
                           "\"title\":\"Conflict\","));
}


static void
errors(void **state)
{
    size_t                  i;
    const payment_error_t  *error;

    static const struct {
        payment_outcome_e  outcome;
        unsigned           status;
        const char        *code;
    } cases[] = {
        { PAYMENT_OK, 200, "OK" },
        { PAYMENT_REPLAYED, 200, "OK" },
        { PAYMENT_INVALID, 400, "INVALID_REQUEST" },
        { PAYMENT_UNAUTHORIZED, 401, "UNAUTHORIZED" },
        { PAYMENT_MERCHANT_MISMATCH, 403, "MERCHANT_MISMATCH" },
        { PAYMENT_NOT_FOUND, 404, "NOT_FOUND" },
        { PAYMENT_METHOD_NOT_ALLOWED, 405, "METHOD_NOT_ALLOWED" },
        { PAYMENT_DUPLICATE, 409, "DUPLICATE_REQUEST" },
        { PAYMENT_CAPTURE_CONFLICT, 409, "CAPTURE_CONFLICT" },
        { PAYMENT_REFUND_CONFLICT, 409, "REFUND_CONFLICT" },
        { PAYMENT_VOID_CONFLICT, 409, "VOID_CONFLICT" },
        { PAYMENT_EXPIRED, 409, "AUTHORIZATION_EXPIRED" },
        { PAYMENT_GONE, 410, "PAYMENT_GONE" },
        { PAYMENT_TOO_LARGE, 413, "PAYLOAD_TOO_LARGE" },
        { PAYMENT_UNSUPPORTED_TYPE, 415, "UNSUPPORTED_MEDIA_TYPE" },
        { PAYMENT_KEY_REUSED, 422, "IDEMPOTENCY_KEY_REUSED" },
        { PAYMENT_RATE_LIMITED, 429, "RATE_LIMIT_EXCEEDED" },
        { PAYMENT_UNAVAILABLE, 503, "SERVICE_UNAVAILABLE" },
        { PAYMENT_OUTCOME_UNKNOWN, 504, "OUTCOME_UNKNOWN" },
        { (payment_outcome_e) (PAYMENT_OUTCOME_UNKNOWN + 1), 500,
          "INTERNAL_ERROR" }
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        error = payment_name_error(cases[i].outcome);

        assert_int_equal(error->status, cases[i].status);
        assert_string_equal(error->code, cases[i].code);
        assert_true(error->title[0] != '\0');
    }
}


/* the worst texts there can be, valid or not, fit the sizes of the header */

static void
longest(void **state)
{
    int                c;
    size_t             len, size;
    json_t            *json;
    payment_t          p;
    payment_done_t     done;
    payment_list_t     list;
    payment_fault_t    fault;
    payment_request_t  r;
    char               one[PAYMENT_LISTED_SIZE];
    char               base[PAYMENT_PROBLEM_BASE_LEN + 1];
    static char        metadata[PAYMENT_METADATA_SIZE];

    static const payment_kept_t  kept = {
        PAYMENT_AUTHORIZE, PAYMENT_PARTIALLY_REFUNDED, UINT32_MAX, INT64_MIN,
        INT64_MIN
    };

    (void) state;

    payment_of(&p, PAYMENT_PARTIALLY_REFUNDED, INT64_MIN, INT64_MIN);
    p.amount = INT64_MIN;
    p.operation_amount = INT64_MIN;
    p.version = UINT32_MAX;
    p.created_ms = INT64_MAX;
    p.updated_ms = INT64_MIN;
    p.expires_ms = INT64_MAX;
    p.expired_ms = INT64_MAX;

    memset(&list, 0, sizeof(payment_list_t));
    memset(&r, 0, sizeof(payment_request_t));
    memset(metadata, ' ', sizeof(metadata));
    metadata[0] = '{';
    metadata[sizeof(metadata) - 1] = '}';

    r.operation = PAYMENT_REFUND;
    r.metadata = metadata;
    r.metadata_len = sizeof(metadata);

    memset(&done, 0, sizeof(payment_done_t));
    done.operation = PAYMENT_AUTHORIZE;
    done.status = PAYMENT_PARTIALLY_REFUNDED;
    done.version = UINT32_MAX;
    done.amount = INT64_MIN;
    done.reason_len = PAYMENT_REASON_SIZE;
    done.reference_len = PAYMENT_REFERENCE_SIZE;
    done.metadata = metadata;
    done.metadata_len = sizeof(metadata);

    fault.outcome = PAYMENT_UNSUPPORTED_TYPE;

    memset(base, 'x', PAYMENT_PROBLEM_BASE_LEN);
    base[PAYMENT_PROBLEM_BASE_LEN] = '\0';

    for (c = 0; c < 256; c++) {
        memset(p.merchant, c, sizeof(p.merchant));
        p.merchant_len = sizeof(p.merchant);
        memset(p.currency, c ? c : 'X', sizeof(p.currency));
        memset(r.reason, c, sizeof(r.reason));
        r.reason_len = sizeof(r.reason);
        memset(r.reference, c, sizeof(r.reference));
        r.reference_len = sizeof(r.reference);
        memset(fault.field, c, sizeof(fault.field));
        memset(fault.detail, c, sizeof(fault.detail));

        r.operation = PAYMENT_GET;
        size = payment_render_size(&p, &r);
        assert_in_range(size, 1, PAYMENT_FOUND_SIZE + PAYMENT_METADATA_SIZE);
        assert_in_range(size, 1, sizeof(buf));

        len = payment_render_response(buf, size, &p, &r);
        assert_in_range(len, 1, size);
        json_decref(loaded(len));

        len = payment_render_found(buf, size, &p, &r, &kept);
        assert_in_range(len, 1, size);
        json_decref(loaded(len));

        done.reason = r.reason;
        done.reference = r.reference;
        len = payment_render_done(buf, PAYMENT_DONE_SIZE, &done);
        assert_in_range(len, 1, PAYMENT_DONE_SIZE);
        json_decref(loaded(len));

        memcpy(r.merchant, p.merchant, sizeof(r.merchant));
        r.merchant_len = p.merchant_len;
        len = payment_render_listed(one, sizeof(one), &p);
        assert_in_range(len, 1, sizeof(one));
        size = PAYMENT_FIXED_SIZE + len + 6 * r.merchant_len;
        len = payment_render_list(buf, size, &r, &list, one, len, p.id);
        assert_in_range(len, 1, size);
        json_decref(loaded(len));
        r.operation = PAYMENT_REFUND;

        len = payment_render_event(buf, sizeof(buf), &p, &r);
        assert_in_range(len, 1, sizeof(buf));
        json = loaded(len);

        if (c < 0x80) {
            assert_int_equal(json_string_length(json_object_get(json,
                                                                "reason")),
                             r.reason_len);
            assert_memory_equal(json_string_value(json_object_get(json,
                                                                  "reason")),
                                r.reason, r.reason_len);
        }

        json_decref(json);

        len = payment_render_problem(buf, PAYMENT_PROBLEM_SIZE, &fault, p.id,
                                     base);
        assert_in_range(len, 1, PAYMENT_PROBLEM_SIZE);
        json_decref(loaded(len));
    }

    /* an event always fits the column */

    assert_true(PAYMENT_PAYLOAD_SIZE + PAYMENT_METADATA_SIZE < 65536);
}


/* less room than the texts could need: nothing at all is written */

static void
no_room(void **state)
{
    size_t             size;
    payment_t          p;
    payment_list_t     list;
    payment_fault_t    fault;
    payment_request_t  r;

    static const payment_kept_t  kept = {
        PAYMENT_AUTHORIZE, PAYMENT_AUTHORIZED, 1, 0, 0
    };

    (void) state;

    payment_of(&p, PAYMENT_AUTHORIZED, 0, 0);
    memset(&r, 0, sizeof(payment_request_t));
    r.operation = PAYMENT_AUTHORIZE;

    memset(&list, 0, sizeof(payment_list_t));
    memset(&fault, 0, sizeof(payment_fault_t));
    fault.outcome = PAYMENT_NOT_FOUND;
    strcpy(fault.detail, "there is no such payment");

    memset(buf, 0x5a, sizeof(buf));

    for (size = 0; size < PAYMENT_FIXED_SIZE; size++) {
        assert_int_equal(payment_render_response(buf, size, &p, &r), 0);
        assert_int_equal(payment_render_found(buf, size, &p, &r, &kept), 0);
        assert_int_equal(payment_render_event(buf, size, &p, &r), 0);
        assert_int_equal(payment_render_listed(buf, size, &p), 0);
        assert_int_equal(payment_render_list(buf, size, &r, &list, NULL, 0,
                                             NULL),
                         0);
        assert_int_equal(payment_render_problem(buf, size, &fault, p.id,
                                                NULL),
                         0);
        assert_int_equal(buf[0], 0x5a);
    }
}


static void
strings(void **state)
{
    char    out[64], *end;
    size_t  i;

    static const struct {
        const char  *text;
        size_t       len;
        const char  *quoted;
    } cases[] = {
        { "", 0, "\"\"" },
        { "plain", 5, "\"plain\"" },
        { "a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\"" },
        { "\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"" },
        { "\0\x01\x0b\x1f\x7f", 5,
          "\"\\u0000\\u0001\\u000b\\u001f\x7f\"" },

        /* two, three, four bytes; the ends of each range */

        { "\xc2\x80\xdf\xbf", 4, "\"\xc2\x80\xdf\xbf\"" },
        { "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", 12,
          "\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"" },
        { "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8,
          "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"" },

        /* a lone continuation, overlong, a surrogate, too high, cut off */

        { "\x80", 1, "\"\xef\xbf\xbd\"" },
        { "\xc0\x80", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "\xc1\xbf", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "\xe0\x9f\xbf", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "\xf0\x8f\xbf\xbf", 4,
          "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "\xf4\x90\x80\x80", 4,
          "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "\xf5", 1, "\"\xef\xbf\xbd\"" },
        { "\xff", 1, "\"\xef\xbf\xbd\"" },
        { "\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "\xc3(", 2, "\"\xef\xbf\xbd(\"" }
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        end = payment_text_json(out, cases[i].text, cases[i].len);
        *end = '\0';

        assert_in_range(end - out, 2, 2 + 6 * cases[i].len);
        assert_string_equal(out, cases[i].quoted);
    }
}


static void
utf8(void **state)
{
    char      text[4];
    uint32_t  c, decoded;
    unsigned  n;

    (void) state;

    for (c = 0; c <= 0x110000; c++) {

        if (c < 0x80) {
            n = 1;
            text[0] = (char) c;

        } else if (c < 0x800) {
            n = 2;
            text[0] = (char) (0xc0 | c >> 6);

        } else if (c < 0x10000) {
            n = 3;
            text[0] = (char) (0xe0 | c >> 12);
            text[1] = (char) (0x80 | (c >> 6 & 0x3f));

        } else {
            n = 4;
            text[0] = (char) (0xf0 | c >> 18);
            text[1] = (char) (0x80 | (c >> 12 & 0x3f));
            text[2] = (char) (0x80 | (c >> 6 & 0x3f));
        }

        if (n > 1) {
            text[n - 1] = (char) (0x80 | (c & 0x3f));
        }

        decoded = 0;

        if ((c >= 0xd800 && c < 0xe000) || c > 0x10ffff) {
            assert_int_equal(payment_text_decode(&decoded, text, n), 0);
            continue;
        }

        assert_int_equal(payment_text_decode(&decoded, text, 4), n);
        assert_int_equal(decoded, c);
        assert_int_equal(payment_text_decode(&decoded, text, n - 1), 0);
    }
}


static void
times(void **state)
{
    char    text[25];
    size_t  i;

    static const struct {
        int64_t      ms;
        const char  *iso;
    } cases[] = {
        { 0, "1970-01-01T00:00:00.000Z" },
        { 1, "1970-01-01T00:00:00.001Z" },
        { CREATED, "2025-11-22T18:12:46.123Z" },
        { INT64_C(951782399999), "2000-02-28T23:59:59.999Z" },
        { INT64_C(951782400000), "2000-02-29T00:00:00.000Z" },
        { INT64_C(4107542400000), "2100-03-01T00:00:00.000Z" },
        { INT64_C(2147483648000), "2038-01-19T03:14:08.000Z" },
        { INT64_C(253402300799999), "9999-12-31T23:59:59.999Z" },
        { INT64_C(253402300800000), "9999-12-31T23:59:59.999Z" },
        { INT64_MAX, "9999-12-31T23:59:59.999Z" },
        { -1, "1970-01-01T00:00:00.000Z" },
        { INT64_MIN, "1970-01-01T00:00:00.000Z" }
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(text, '#', sizeof(text));
        assert_int_equal(payment_render_time(text, cases[i].ms), 24);
        assert_memory_equal(text, cases[i].iso, 24);
        assert_int_equal(text[24], '#');
    }
}


/* every day there is, at odd times of day, as the C library counts them */

static void
calendar(void **state)
{
    char        text[24], expected[64];
    time_t      t;
    int64_t     day;
    struct tm  *tm;

    (void) state;

    for (day = 0; day < INT64_C(2932897); day++) {

        t = (time_t) (day * 86400 + day * 7919 % 86400);
        tm = gmtime(&t);

        (void) snprintf(expected, sizeof(expected),
                        "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                        tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday,
                        tm->tm_hour, tm->tm_min, tm->tm_sec,
                        (int) (day % 1000));

        payment_render_time(text, (int64_t) t * 1000 + day % 1000);

        if (memcmp(text, expected, 24) != 0) {
            fail_msg("%.24s is not %s", text, expected);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(response),
        cmocka_unit_test(found),
        cmocka_unit_test(listed),
        cmocka_unit_test(event),
        cmocka_unit_test(problem),
        cmocka_unit_test(errors),
        cmocka_unit_test(longest),
        cmocka_unit_test(no_room),
        cmocka_unit_test(strings),
        cmocka_unit_test(utf8),
        cmocka_unit_test(times),
        cmocka_unit_test(calendar)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
