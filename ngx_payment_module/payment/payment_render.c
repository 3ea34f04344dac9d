/*
 * The JSON that goes out: answers, events, problems, and times in them.
 *
 * Each function appends to a buffer whose size it checked once, at its start,
 * against what the texts can grow to.  Whatever bytes the texts hold, the
 * output is valid UTF-8 and valid JSON.  Pure; any process.
 */

#include <string.h>

#include "payment.h"


#define PAYMENT_TIME_MAX_MS  INT64_C(253402300799999)   /* the end of 9999 */


static char *payment_render_payment(char *p, const payment_t *payment);
static char *payment_render_changes(char *p, const payment_t *payment);
static size_t payment_render_len(const char *text, size_t size);
static char *payment_render_text(char *p, const char *text);
static char *payment_render_int(char *p, int64_t n);
static char *payment_render_digits(char *p, unsigned n, unsigned digits);
static char *payment_render_json(char *p, const char *json, size_t len);
static char *payment_render_id(char *p, const uint8_t *id);
static char *payment_render_quoted_time(char *p, int64_t unix_ms);
static const char *payment_render_message(const payment_t *p,
    payment_operation_e operation);


#define payment_render_literal(p, text)                                       \
    ((char *) memcpy(p, text, sizeof(text) - 1) + sizeof(text) - 1)


size_t
payment_render_response(char *buf, size_t size, const payment_t *payment,
    const payment_request_t *r)
{
    char  *p;

    if (size < PAYMENT_FIXED_SIZE + 6 * payment->merchant_len
               + 6 * r->reference_len
               + (payment_operation_reads(r->operation) ? r->metadata_len : 0))
    {
        return 0;
    }

    p = payment_render_payment(buf, payment);

    if (r->reference_len != 0) {
        p = payment_render_literal(p, ",\"reference\":");
        p = payment_text_json(p, r->reference, r->reference_len);
    }

    if (payment_operation_reads(r->operation)) {
        p = payment_render_literal(p, ",\"merchantId\":");
        p = payment_text_json(p, payment->merchant, payment->merchant_len);
        p = payment_render_changes(p, payment);

        if (r->metadata_len != 0) {
            p = payment_render_literal(p, ",\"metadata\":");
            p = payment_render_json(p, r->metadata, r->metadata_len);
        }
    }

    p = payment_render_literal(p, ",\"ledgerEntries\":[],\"message\":\"");
    p = payment_render_text(p, payment_render_message(payment, r->operation));
    p = payment_render_literal(p, "\"}");

    return (size_t) (p - buf);
}


size_t
payment_render_found(char *buf, size_t size, const payment_t *payment,
    const payment_request_t *r, const payment_kept_t *kept)
{
    char  *p;

    if (size < payment_render_size(payment, r)) {
        return 0;
    }

    /* it goes on where the payment would end with its brace */

    p = buf + payment_render_response(buf, size, payment, r) - 1;

    p = payment_render_literal(p, ",\"operation\":{\"type\":\"");
    p = payment_render_text(p, payment_name_operation(kept->operation));
    p = payment_render_literal(p, "\",\"status\":\"");
    p = payment_render_text(p, payment_name_status(kept->status));
    p = payment_render_literal(p, "\",\"version\":");
    p = payment_render_int(p, kept->version);
    p = payment_render_literal(p, ",\"capturedAmount\":");
    p = payment_render_int(p, kept->captured);
    p = payment_render_literal(p, ",\"refundedAmount\":");
    p = payment_render_int(p, kept->refunded);
    p = payment_render_literal(p, "}}");

    return (size_t) (p - buf);
}


size_t
payment_render_done(char *buf, size_t size, const payment_done_t *done)
{
    char  *p;

    if (size < PAYMENT_FIXED_SIZE + 6 * done->reason_len
               + 6 * done->reference_len + done->metadata_len)
    {
        return 0;
    }

    p = payment_render_literal(buf, "{\"type\":\"");
    p = payment_render_text(p, payment_name_operation(done->operation));
    p = payment_render_literal(p, "\",\"version\":");
    p = payment_render_int(p, done->version);
    p = payment_render_literal(p, ",\"status\":\"");
    p = payment_render_text(p, payment_name_status(done->status));
    p = payment_render_literal(p, "\",\"amount\":");
    p = payment_render_int(p, done->amount);
    p = payment_render_literal(p, ",\"createdAt\":");
    p = payment_render_quoted_time(p, done->created_ms);

    if (done->reason_len != 0) {
        p = payment_render_literal(p, ",\"reason\":");
        p = payment_text_json(p, done->reason, done->reason_len);
    }

    if (done->reference_len != 0) {
        p = payment_render_literal(p, ",\"reference\":");
        p = payment_text_json(p, done->reference, done->reference_len);
    }

    if (done->metadata_len != 0) {
        p = payment_render_literal(p, ",\"metadata\":");
        p = payment_render_json(p, done->metadata, done->metadata_len);
    }

    *p++ = '}';

    return (size_t) (p - buf);
}


size_t
payment_render_operations(char *buf, size_t size, const payment_t *payment,
    const char *done, size_t done_len, uint32_t next)
{
    char  *p;

    if (size < 2 * PAYMENT_FIXED_SIZE + done_len) {
        return 0;
    }

    p = payment_render_literal(buf, "{\"paymentId\":");
    p = payment_render_id(p, payment->id);
    p = payment_render_literal(p, ",\"operations\":[");

    if (done_len != 0) {
        memcpy(p, done, done_len);
        p += done_len;
    }

    *p++ = ']';

    if (next != 0) {
        p = payment_render_literal(p, ",\"nextCursor\":\"");
        p = payment_render_int(p, next);
        *p++ = '"';
    }

    *p++ = '}';

    return (size_t) (p - buf);
}


size_t
payment_render_event(char *buf, size_t size, const payment_t *payment,
    const payment_request_t *r)
{
    char  *p;

    if (size < PAYMENT_FIXED_SIZE + 6 * payment->merchant_len
               + 6 * r->reason_len + 6 * r->reference_len + r->metadata_len)
    {
        return 0;
    }

    p = payment_render_literal(buf, "{\"eventType\":\"");
    p = payment_render_text(p, payment_name_event(r->operation));
    p = payment_render_literal(p, "\",\"paymentId\":");
    p = payment_render_id(p, payment->id);
    p = payment_render_literal(p, ",\"merchantId\":");
    p = payment_text_json(p, payment->merchant, payment->merchant_len);
    p = payment_render_literal(p, ",\"amount\":");
    p = payment_render_int(p, payment->amount);
    p = payment_render_literal(p, ",\"currency\":");
    p = payment_text_json(p, payment->currency,
                          payment_render_len(payment->currency, 3));
    p = payment_render_literal(p, ",\"status\":\"");
    p = payment_render_text(p, payment_name_status(payment->status));
    p = payment_render_literal(p, "\",\"version\":");
    p = payment_render_int(p, payment->version);
    p = payment_render_literal(p, ",\"capturedAmount\":");
    p = payment_render_int(p, payment->captured);
    p = payment_render_literal(p, ",\"refundedAmount\":");
    p = payment_render_int(p, payment->refunded);
    p = payment_render_literal(p, ",\"operationAmount\":");
    p = payment_render_int(p, payment->operation_amount);

    if (r->operation == PAYMENT_REFUND) {
        p = payment_render_literal(p, ",\"reason\":");
        p = payment_text_json(p, r->reason, r->reason_len);
    }

    if (r->reference_len != 0) {
        p = payment_render_literal(p, ",\"reference\":");
        p = payment_text_json(p, r->reference, r->reference_len);
    }

    if (r->metadata_len != 0) {
        p = payment_render_literal(p, ",\"metadata\":");
        p = payment_render_json(p, r->metadata, r->metadata_len);
    }

    p = payment_render_literal(p, ",\"occurredAt\":");
    p = payment_render_quoted_time(p, payment->updated_ms);
    *p++ = '}';

    return (size_t) (p - buf);
}


size_t
payment_render_listed(char *buf, size_t size, const payment_t *payment)
{
    char  *p;

    if (size < PAYMENT_LISTED_SIZE) {
        return 0;
    }

    p = payment_render_payment(buf, payment);
    p = payment_render_changes(p, payment);
    *p++ = '}';

    return (size_t) (p - buf);
}


size_t
payment_render_list(char *buf, size_t size, const payment_request_t *r,
    const payment_list_t *list, const char *listed, size_t listed_len,
    const uint8_t *below)
{
    char  *p;

    if (size < PAYMENT_FIXED_SIZE + listed_len + 6 * r->merchant_len) {
        return 0;
    }

    p = payment_render_literal(buf, "{\"merchantId\":");
    p = payment_text_json(p, r->merchant, r->merchant_len);
    p = payment_render_literal(p, ",\"payments\":[");

    if (listed_len != 0) {
        p = payment_render_json(p, listed, listed_len);
    }

    *p++ = ']';

    if (below != NULL) {
        p = payment_render_literal(p, ",\"nextCursor\":\"");
        payment_list_cursor(p, list, below);
        p += PAYMENT_LIST_CURSOR_LEN;
        *p++ = '"';
    }

    *p++ = '}';

    return (size_t) (p - buf);
}


/* The beginning of a payment, without its end. */

static char *
payment_render_payment(char *p, const payment_t *payment)
{
    p = payment_render_literal(p, "{\"paymentId\":");
    p = payment_render_id(p, payment->id);
    p = payment_render_literal(p, ",\"status\":\"");
    p = payment_render_text(p, payment_name_status(payment->status));
    p = payment_render_literal(p, "\",\"amount\":");
    p = payment_render_int(p, payment->amount);
    p = payment_render_literal(p, ",\"currency\":");
    p = payment_text_json(p, payment->currency,
                          payment_render_len(payment->currency, 3));
    p = payment_render_literal(p, ",\"capturedAmount\":");
    p = payment_render_int(p, payment->captured);
    p = payment_render_literal(p, ",\"refundedAmount\":");
    p = payment_render_int(p, payment->refunded);
    p = payment_render_literal(p, ",\"createdAt\":");
    p = payment_render_quoted_time(p, payment->created_ms);

    if (payment->expires_ms != 0) {
        p = payment_render_literal(p, ",\"expiresAt\":");
        p = payment_render_quoted_time(p, payment->expires_ms);
    }

    return p;
}


/* Which of its versions this is. */

static char *
payment_render_changes(char *p, const payment_t *payment)
{
    p = payment_render_literal(p, ",\"version\":");
    p = payment_render_int(p, payment->version);
    p = payment_render_literal(p, ",\"updatedAt\":");
    p = payment_render_quoted_time(p, payment->updated_ms);

    if (payment->expired_ms != 0) {
        p = payment_render_literal(p, ",\"expiredAt\":");
        p = payment_render_quoted_time(p, payment->expired_ms);
    }

    return p;
}


/*
 * RFC 9457, with the members of the service that this one takes over from:
 * code, message, paymentId.  code is what tells one problem from another, and
 * so does the type where an installation has a base for it.  The title is that
 * of the HTTP status.
 */

size_t
payment_render_problem(char *buf, size_t size, const payment_fault_t *fault,
    const uint8_t *payment_id, const char *base)
{
    char                   *p;
    size_t                  base_len, field_len, detail_len;
    const payment_error_t  *error;

    field_len = payment_render_len(fault->field, sizeof(fault->field));
    detail_len = payment_render_len(fault->detail, sizeof(fault->detail));
    base_len = base ? payment_render_len(base, PAYMENT_PROBLEM_BASE_LEN) : 0;

    if (size < PAYMENT_FIXED_SIZE + base_len
               + 6 * (field_len + 2 * detail_len))
    {
        return 0;
    }

    error = payment_name_error(fault->outcome);

    p = payment_render_literal(buf, "{\"type\":\"");

    if (base != NULL) {
        memcpy(p, base, base_len);
        p = payment_render_text(p + base_len, error->code);

    } else {
        p = payment_render_literal(p, "about:blank");
    }

    p = payment_render_literal(p, "\",\"title\":\"");
    p = payment_render_text(p, error->title);
    p = payment_render_literal(p, "\",\"status\":");
    p = payment_render_int(p, error->status);
    p = payment_render_literal(p, ",\"detail\":");
    p = payment_text_json(p, fault->detail, detail_len);
    p = payment_render_literal(p, ",\"code\":\"");
    p = payment_render_text(p, error->code);
    p = payment_render_literal(p, "\",\"message\":");
    p = payment_text_json(p, fault->detail, detail_len);

    if (field_len != 0) {
        p = payment_render_literal(p, ",\"field\":");
        p = payment_text_json(p, fault->field, field_len);
    }

    if (payment_id != NULL) {
        p = payment_render_literal(p, ",\"paymentId\":");
        p = payment_render_id(p, payment_id);
    }

    *p++ = '}';

    return (size_t) (p - buf);
}


/* A time before 1970 is shown as 1970, one after 9999 as the end of 9999. */

size_t
payment_render_time(char *buf, int64_t unix_ms)
{
    char      *p;
    unsigned   ms, days, seconds, century, year, month, day;

    if (unix_ms < 0) {
        unix_ms = 0;

    } else if (unix_ms > PAYMENT_TIME_MAX_MS) {
        unix_ms = PAYMENT_TIME_MAX_MS;
    }

    ms = (unsigned) (unix_ms % 1000);
    unix_ms /= 1000;
    seconds = (unsigned) (unix_ms % 86400);

    /*
     * Days to a date of the Gregorian calendar, counted from March 1 of year
     * 0, so that a leap day is the last day of its year; 719468 days lie
     * between that and 1970.
     */

    days = (unsigned) (unix_ms / 86400) + 719468;

    century = (4 * days + 3) / 146097;
    days -= century * 146097 / 4;
    year = (4 * days + 3) / 1461;
    days -= year * 1461 / 4;
    year += century * 100;
    month = (5 * days + 2) / 153;
    day = days - (153 * month + 2) / 5 + 1;

    if (month < 10) {
        month += 3;

    } else {
        month -= 9;
        year++;
    }

    p = payment_render_digits(buf, year, 4);
    *p++ = '-';
    p = payment_render_digits(p, month, 2);
    *p++ = '-';
    p = payment_render_digits(p, day, 2);
    *p++ = 'T';
    p = payment_render_digits(p, seconds / 3600, 2);
    *p++ = ':';
    p = payment_render_digits(p, seconds / 60 % 60, 2);
    *p++ = ':';
    p = payment_render_digits(p, seconds % 60, 2);
    *p++ = '.';
    p = payment_render_digits(p, ms, 3);
    *p++ = 'Z';

    return (size_t) (p - buf);
}


static const char *
payment_render_message(const payment_t *p, payment_operation_e operation)
{
    switch (operation) {

    case PAYMENT_AUTHORIZE:
        return "Payment authorized";

    case PAYMENT_CAPTURE:
        return p->status == PAYMENT_CAPTURED ? "Payment captured"
                                             : "Payment partially captured";

    case PAYMENT_REFUND:
        return p->status == PAYMENT_REFUNDED ? "Payment refunded"
                                             : "Payment partially refunded";

    case PAYMENT_VOID:
        return p->status == PAYMENT_VOIDED ? "Payment voided"
                                           : "Remainder released";

    case PAYMENT_EXPIRE:
    case PAYMENT_GET:
    case PAYMENT_LOOKUP:
    case PAYMENT_OPERATIONS:
    case PAYMENT_LIST:
        break;
    }

    return "Payment found";
}


/* The length of a text that ends with a NUL, unless it fills its array. */

static size_t
payment_render_len(const char *text, size_t size)
{
    const char  *end;

    end = memchr(text, '\0', size);

    return end != NULL ? (size_t) (end - text) : size;
}


/* Appends one of our own words, in which nothing needs an escape. */

static char *
payment_render_text(char *p, const char *text)
{
    size_t  len;

    len = strlen(text);
    memcpy(p, text, len);

    return p + len;
}


static char *
payment_render_int(char *p, int64_t n)
{
    char      digits[20];
    size_t    i;
    uint64_t  u;

    u = (uint64_t) n;

    if (n < 0) {
        *p++ = '-';
        u = 0 - u;
    }

    i = sizeof(digits);

    do {
        digits[--i] = (char) ('0' + u % 10);
        u /= 10;
    } while (u != 0);

    memcpy(p, digits + i, sizeof(digits) - i);

    return p + sizeof(digits) - i;
}


static char *
payment_render_digits(char *p, unsigned n, unsigned digits)
{
    unsigned  i;

    for (i = digits; i > 0; i--) {
        p[i - 1] = (char) ('0' + n % 10);
        n /= 10;
    }

    return p + digits;
}


/* Appends what is JSON already. */

static char *
payment_render_json(char *p, const char *json, size_t len)
{
    memcpy(p, json, len);

    return p + len;
}


static char *
payment_render_id(char *p, const uint8_t *id)
{
    *p++ = '"';
    payment_id_format(p, id);
    p += PAYMENT_ID_TEXT_LEN;
    *p++ = '"';

    return p;
}


static char *
payment_render_quoted_time(char *p, int64_t unix_ms)
{
    *p++ = '"';
    p += payment_render_time(p, unix_ms);
    *p++ = '"';

    return p;
}
