/*
 * libFuzzer target: a whole request, and everything that is made of it.
 *
 * Input: one line, then the body.  The line's first byte says the operation,
 * its second is flags, the rest is text for the Idempotency-Key header or for
 * the proved merchant.  What is checked is not only that nothing breaks: the
 * limits of payment.h hold for what was accepted, the meaning does not depend
 * on how the JSON was written, and all that goes out is JSON within its size.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "payment.h"


#define FUZZ_HEADER    0x01        /* the line's rest is the header */
#define FUZZ_IDENTITY  0x02        /* MERCHANT-1 is proved */
#define FUZZ_REFUSE    0x04        /* unknown members are refused */
#define FUZZ_NAMED     0x08        /* the line's rest is proved */
#define FUZZ_STRICT    0x10        /* two currencies, at most 50000 */

#define check(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);   \
            abort();                                                          \
        }                                                                     \
    } while (0)


typedef struct {
    payment_operation_e   operation;
    payment_rules_t       rules;
    const char           *header;
    size_t                header_len;
    const char           *identity;
    size_t                identity_len;
} fuzz_setting_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_setting(fuzz_setting_t *s, const char *line, size_t len);
static payment_outcome_e fuzz_parse(payment_request_t *r,
    const fuzz_setting_t *s, const char *body, size_t len,
    payment_fault_t *fault);
static void fuzz_lookup(const fuzz_setting_t *s, const char *key, size_t len);
static void fuzz_list(const char *query, size_t len);
static void fuzz_listed(const payment_list_t *list, payment_argument_t *args);
static void fuzz_trace(const char *text, size_t len);
static void fuzz_refused(const payment_request_t *r,
    const fuzz_setting_t *s, const payment_fault_t *fault);
static void fuzz_problem(const payment_fault_t *fault);
static void fuzz_accepted(const payment_request_t *r,
    const fuzz_setting_t *s);
static void fuzz_metadata(const payment_request_t *r);
static void fuzz_written_otherwise(const payment_request_t *r,
    const fuzz_setting_t *s, const char *body, size_t len);
static void fuzz_lived(const payment_request_t *r);
static void fuzz_rendered(const payment_t *p, const payment_request_t *r);
static json_t *fuzz_json(const char *text, size_t len, size_t size);
static int fuzz_text(const char *text, size_t len, size_t chars_max);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char               *line, *body;
    size_t              line_len, body_len;
    const uint8_t      *end;
    fuzz_setting_t      setting;
    payment_fault_t     fault, again;
    payment_request_t   r, second;

    end = memchr(data, '\n', size);
    line_len = end ? (size_t) (end - data) : size;
    body_len = end ? size - line_len - 1 : 0;

    /* exact copies: the first byte too many is somebody else's */

    line = malloc(line_len ? line_len : 1);
    body = malloc(body_len ? body_len : 1);
    check(line != NULL && body != NULL);

    memcpy(line, data, line_len);

    if (body_len != 0) {
        memcpy(body, end + 1, body_len);
    }

    fuzz_setting(&setting, line, line_len);
    fuzz_lookup(&setting, body, body_len);
    fuzz_list(body, body_len);
    fuzz_trace(body, body_len);

    if (fuzz_parse(&r, &setting, body, body_len, &fault) == PAYMENT_OK) {

        check(fuzz_parse(&second, &setting, body, body_len, &again)
              == PAYMENT_OK);
        check(memcmp(second.fingerprint, r.fingerprint,
                     PAYMENT_FINGERPRINT_SIZE) == 0);
        payment_request_free(&second);

        fuzz_accepted(&r, &setting);
        fuzz_written_otherwise(&r, &setting, body, body_len);
        fuzz_lived(&r);

    } else {
        fuzz_refused(&r, &setting, &fault);
    }

    payment_request_free(&r);
    free(line);
    free(body);

    return 0;
}


static void
fuzz_setting(fuzz_setting_t *s, const char *line, size_t len)
{
    unsigned char  flags;

    flags = len > 1 ? (unsigned char) line[1] : 0;

    memset(s, 0, sizeof(fuzz_setting_t));

    s->operation = PAYMENT_AUTHORIZE
                   + (len > 0 ? (unsigned char) line[0] % 4U : 0);
    s->rules.max_amount = PAYMENT_AMOUNT_MAX;
    s->rules.refuse_unknown = (flags & FUZZ_REFUSE) != 0;
    s->rules.void_remainder = s->rules.refuse_unknown;

    if (flags & FUZZ_STRICT) {
        s->rules.max_amount = 50000;
        s->rules.currencies = "KRWUSD";
        s->rules.currencies_n = 2;
    }

    if (flags & FUZZ_HEADER) {
        s->header = line + 2;
        s->header_len = len - 2;
    }

    if (flags & FUZZ_IDENTITY) {
        s->identity = "MERCHANT-1";
        s->identity_len = 10;

    } else if (flags & FUZZ_NAMED) {
        s->identity = line + 2;
        s->identity_len = len - 2;
    }
}


static payment_outcome_e
fuzz_parse(payment_request_t *r, const fuzz_setting_t *s, const char *body,
    size_t len, payment_fault_t *fault)
{
    unsigned           i;
    payment_outcome_e  outcome;

    memset(r, 0xa5, sizeof(payment_request_t));
    memset(fault, 0xa5, sizeof(payment_fault_t));

    r->operation = s->operation;

    for (i = 0; i < PAYMENT_ID_SIZE; i++) {
        r->payment_id[i] = (uint8_t) i;
    }

    outcome = payment_request_parse(r, &s->rules, body, len, s->header,
                                    s->header_len, s->identity,
                                    s->identity_len, fault);
    if (outcome == PAYMENT_OK && r->forbidden) {
        /* to be refused, unless its key was used under other rules */
        check(r->has_key);
        payment_request_free(r);
        outcome = PAYMENT_INVALID;
    }

    check(outcome == fault->outcome);

    return outcome;
}


/* the body is a key in a query, and any bytes at all; the merchant is right */

static void
fuzz_lookup(const fuzz_setting_t *s, const char *key, size_t len)
{
    payment_fault_t    fault;
    fuzz_setting_t     setting;
    payment_request_t  r;

    setting = *s;
    setting.operation = PAYMENT_LOOKUP;
    setting.identity = "MERCHANT-1";
    setting.identity_len = 10;

    memset(&r, 0xa5, sizeof(payment_request_t));
    r.operation = PAYMENT_LOOKUP;
    r.merchant_len = 0;

    if (payment_request_parse(&r, &setting.rules, key, len, s->header,
                              s->header_len, "MERCHANT-1", 10, &fault)
        == PAYMENT_OK)
    {
        check(r.has_key && r.merchant_len == 10);
        check(fuzz_text(key, len, PAYMENT_BODY_KEY_CHARS));

    } else {
        fuzz_refused(&r, &setting, &fault);
    }

    /* or the cursor of a page */

    r.operation = PAYMENT_OPERATIONS;
    r.merchant_len = 0;

    if (payment_request_parse(&r, &setting.rules, key, len, NULL, 0,
                              "MERCHANT-1", 10, &fault)
        == PAYMENT_OK)
    {
        check(r.after > 0 && len > 0);

    } else {
        fuzz_refused(&r, &setting, &fault);
    }
}


/* the body is a query, without escapes; and the merchant's name is right */

static void
fuzz_list(const char *query, size_t len)
{
    int                 name_len;
    unsigned            i;
    const char         *p, *end, *last, *name;
    payment_list_t      list;
    payment_fault_t     fault;
    payment_argument_t  args[PAYMENT_LIST_ARGUMENTS];

    memset(args, 0, sizeof(args));
    last = query + len;

    for (p = query; p < last; p = end + 1) {

        end = memchr(p, '&', (size_t) (last - p));
        if (end == NULL) {
            end = last;
        }

        for (i = 0; i < PAYMENT_LIST_ARGUMENTS; i++) {
            name = payment_list_name((payment_list_argument_e) i);
            name_len = (int) strlen(name);

            if (end - p > name_len && memcmp(p, name, strlen(name)) == 0
                && p[name_len] == '=')
            {
                args[i].text = p + name_len + 1;
                args[i].len = (size_t) (end - args[i].text);
            }
        }
    }

    memset(&list, 0xa5, sizeof(payment_list_t));
    memset(&fault, 0xa5, sizeof(payment_fault_t));

    if (payment_list_parse(&list, args, "MERCHANT-1", 10, &fault)
        == PAYMENT_OK)
    {
        fuzz_listed(&list, args);
        return;
    }

    check(fault.outcome == PAYMENT_INVALID && fault.field[0] != '\0');
    fuzz_problem(&fault);
}


/* what was accepted is within its bounds; its cursor is good for it, at any
 * number of payments a page, and for no other merchant */

static void
fuzz_listed(const payment_list_t *list, payment_argument_t *args)
{
    char             cursor[PAYMENT_LIST_CURSOR_LEN];
    uint8_t          id[PAYMENT_ID_SIZE];
    payment_list_t   next;
    payment_fault_t  fault;

    check(list->limit >= 1 && list->limit <= PAYMENT_LIST_LIMIT_MAX);
    check(list->statuses < 1U << (PAYMENT_VOIDED + 1)
          && (list->statuses & 1) == 0);
    check(list->currency[0] == '\0' || payment_money_exponent(list->currency, 3)
          >= 0);
    check(list->amount_min >= 1 && list->amount_min <= list->amount_max
          && list->amount_max <= PAYMENT_AMOUNT_MAX);
    check(list->currency[0] != '\0'
          || (list->amount_min == 1 && list->amount_max == PAYMENT_AMOUNT_MAX));

    memcpy(id, list->end, PAYMENT_ID_SIZE);
    id[PAYMENT_ID_SIZE - 1] ^= 1;

    payment_list_cursor(cursor, list, id);
    args[PAYMENT_LIST_CURSOR].text = cursor;
    args[PAYMENT_LIST_CURSOR].len = sizeof(cursor);
    args[PAYMENT_LIST_LIMIT].text = NULL;

    check(payment_list_parse(&next, args, "MERCHANT-1", 10, &fault)
          == PAYMENT_OK);
    check(memcmp(next.first, list->first, PAYMENT_ID_SIZE) == 0);
    check(memcmp(next.digest, list->digest, PAYMENT_LIST_DIGEST_SIZE) == 0);
    check(memcmp(next.end, id, PAYMENT_ID_SIZE) <= 0);

    check(payment_list_parse(&next, args, "MERCHANT-2", 10, &fault)
          == PAYMENT_INVALID);
}


/* the body is a header of a trace: what goes on of it goes on from there as it
 * is, and has whole members of it in their order */

static void
fuzz_trace(const char *text, size_t len)
{
    char         parent[PAYMENT_TRACEPARENT_LEN], same[PAYMENT_TRACEPARENT_LEN];
    char         state[PAYMENT_TRACESTATE_LEN], again[PAYMENT_TRACESTATE_LEN];
    size_t       n, member;
    const char  *p, *end, *comma, *from, *last;

    if (payment_trace_parse(parent, text, len)) {
        check(payment_trace_parse(same, parent, sizeof(parent)));
        check(memcmp(same, parent, sizeof(parent)) == 0);
    }

    n = payment_trace_state(state, text, len);
    check(n <= PAYMENT_TRACESTATE_LEN);

    if (n == 0) {
        return;
    }

    check(payment_trace_state(again, state, n) == n);
    check(memcmp(again, state, n) == 0);

    from = text;
    last = text + len;

    for (p = state, end = state + n; p < end; p = comma + 1) {
        comma = memchr(p, ',', (size_t) (end - p));
        comma = comma ? comma : end;
        member = (size_t) (comma - p);

        while ((size_t) (last - from) >= member
               && memcmp(from, p, member) != 0)
        {
            from++;
        }

        check((size_t) (last - from) >= member);
        from += member;
    }
}


/* a refusal names a member, in a sentence, and is a problem in JSON */

static void
fuzz_refused(const payment_request_t *r, const fuzz_setting_t *s,
    const payment_fault_t *fault)
{
    check(fault->outcome == PAYMENT_INVALID
          || (s->identity != NULL
              && (fault->outcome == PAYMENT_UNAUTHORIZED
                  || fault->outcome == PAYMENT_MERCHANT_MISMATCH)));

    check(r->metadata == NULL);

    fuzz_problem(fault);
}


static void
fuzz_problem(const payment_fault_t *fault)
{
    char    *buf;
    json_t  *problem;
    size_t   len;

    static const uint8_t  id[PAYMENT_ID_SIZE];

    check(memchr(fault->field, '\0', PAYMENT_FIELD_SIZE) != NULL);
    check(memchr(fault->detail, '\0', PAYMENT_DETAIL_SIZE) != NULL);
    check(strlen(fault->detail) < PAYMENT_DETAIL_SIZE - 1);
    check(fuzz_text(fault->detail, strlen(fault->detail),
                    PAYMENT_DETAIL_SIZE));
    check(fault->field[0] == '\0'
          || fuzz_text(fault->field, strlen(fault->field),
                       PAYMENT_FIELD_SIZE));
    check(strstr(fault->detail, fault->field) != NULL);

    buf = malloc(PAYMENT_PROBLEM_SIZE);
    check(buf != NULL);

    len = payment_render_problem(buf, PAYMENT_PROBLEM_SIZE, fault, id,
                                 fault->field[0] ? "urn:problem:" : NULL);
    problem = fuzz_json(buf, len, PAYMENT_PROBLEM_SIZE);

    check(strcmp(json_string_value(json_object_get(problem, "detail")),
                 fault->detail) == 0);
    check(fault->field[0] == '\0'
          || strcmp(json_string_value(json_object_get(problem, "field")),
                    fault->field) == 0);

    json_decref(problem);
    free(buf);
}


static void
fuzz_accepted(const payment_request_t *r, const fuzz_setting_t *s)
{
    check(r->operation == s->operation);
    check(r->merchant_len <= PAYMENT_MERCHANT_SIZE);
    check(payment_request_merchant_valid(r->merchant, r->merchant_len));
    check(fuzz_text(r->merchant, r->merchant_len, PAYMENT_MERCHANT_CHARS));
    check(s->identity == NULL
          || (s->identity_len == r->merchant_len
              && memcmp(s->identity, r->merchant, r->merchant_len) == 0));
    check(s->header == NULL || r->has_key);

    check(r->amount >= 0 && r->amount <= PAYMENT_AMOUNT_MAX);
    check(r->currency[3] == '\0');
    check(r->currency[0] == '\0'
          || payment_money_exponent(r->currency, 3) >= 0);

    if (r->operation == PAYMENT_AUTHORIZE) {
        check(r->has_key);
        check(r->amount >= 1 && r->amount <= s->rules.max_amount);
        check(r->currency[0] != '\0');
        check(s->rules.currencies == NULL
              || strcmp(r->currency, "KRW") == 0
              || strcmp(r->currency, "USD") == 0);
    }

    check(!r->final || r->operation == PAYMENT_CAPTURE);

    if (r->operation == PAYMENT_REFUND) {
        check(r->reason_len <= PAYMENT_REASON_SIZE);
        check(fuzz_text(r->reason, r->reason_len, PAYMENT_REASON_CHARS));

    } else {
        check(r->reason_len == 0);
    }

    check(r->reference_len == 0 || r->operation != PAYMENT_AUTHORIZE);
    check(r->reference_len <= PAYMENT_REFERENCE_SIZE);
    check(r->reference_len == 0
          || fuzz_text(r->reference, r->reference_len,
                       PAYMENT_REFERENCE_CHARS));

    if (r->operation == PAYMENT_VOID) {
        check(r->amount == 0 && r->currency[0] == '\0');
    }

    fuzz_metadata(r);
}


static void
fuzz_metadata(const payment_request_t *r)
{
    json_t      *metadata, *value;
    const char  *name, *before;

    check((r->metadata == NULL) == (r->metadata_len == 0));

    if (r->metadata == NULL) {
        return;
    }

    metadata = fuzz_json(r->metadata, r->metadata_len, PAYMENT_METADATA_SIZE);

    check(json_object_size(metadata) >= 1);
    check(json_object_size(metadata) <= PAYMENT_METADATA_MEMBERS);

    before = "";

    json_object_foreach(metadata, name, value) {
        check(strcmp(before, name) < 0);
        check(strlen(name) <= PAYMENT_METADATA_NAME_LEN);
        check(json_is_string(value));
        check(json_string_length(value) <= PAYMENT_METADATA_VALUE_LEN);
        before = name;
    }

    json_decref(metadata);
}


/* the same JSON in another order, with other escapes and other white space */

static void
fuzz_written_otherwise(const payment_request_t *r, const fuzz_setting_t *s,
    const char *body, size_t len)
{
    char               *text;
    size_t              i;
    json_t             *json;
    payment_fault_t     fault;
    payment_request_t   second;

    static const size_t  flags[] = {
        JSON_SORT_KEYS|JSON_COMPACT,
        JSON_ENSURE_ASCII|JSON_INDENT(3)|JSON_ESCAPE_SLASH
    };

    json = json_loadb(body, len, 0, NULL);

    if (json == NULL) {
        check(s->identity != NULL);

        for (i = 0; i < len; i++) {
            check(memchr(" \t\r\n", body[i], 4) != NULL);
        }

        return;
    }

    for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        text = json_dumps(json, flags[i]);
        check(text != NULL);

        check(fuzz_parse(&second, s, text, strlen(text), &fault)
              == PAYMENT_OK);
        check(memcmp(second.fingerprint, r->fingerprint,
                     PAYMENT_FINGERPRINT_SIZE) == 0);
        check(second.has_key == r->has_key);
        check(!r->has_key || memcmp(second.key_hash, r->key_hash,
                                    PAYMENT_KEY_HASH_SIZE) == 0);
        check(second.amount == r->amount);
        check(second.final == r->final);
        check(second.reference_len == r->reference_len);
        check(second.metadata_len == r->metadata_len);
        check(r->metadata == NULL
              || memcmp(second.metadata, r->metadata, r->metadata_len) == 0);

        payment_request_free(&second);
        free(text);
    }

    json_decref(json);
}


/* a payment that this request begins, or meets in each state */

static void
fuzz_lived(const payment_request_t *r)
{
    int                status;
    payment_t          p, before;
    payment_fault_t    fault;
    payment_outcome_e  outcome;

    if (r->operation == PAYMENT_AUTHORIZE) {
        payment_state_open(&p, r, INT64_C(1763835166123));
        fuzz_rendered(&p, r);
        return;
    }

    for (status = PAYMENT_AUTHORIZED; status <= PAYMENT_VOIDED; status++) {

        memset(&p, 0, sizeof(payment_t));
        memcpy(p.merchant, r->merchant, r->merchant_len);
        p.merchant_len = r->merchant_len;
        memcpy(p.currency, "KRW", 4);
        p.status = (payment_status_e) status;
        p.amount = 50000;
        p.captured = status == PAYMENT_AUTHORIZED || status == PAYMENT_VOIDED
                     ? 0 : status == PAYMENT_PARTIALLY_CAPTURED ? 700 : 50000;
        p.refunded = status == PAYMENT_REFUNDED
                     ? 50000 : status == PAYMENT_PARTIALLY_REFUNDED ? 9 : 0;
        p.version = 7;
        before = p;

        outcome = payment_state_apply(&p, r, INT64_C(1763835166123), &fault);

        if (outcome != PAYMENT_OK) {
            check(outcome == fault.outcome);
            check(memcmp(&p, &before, sizeof(payment_t)) == 0);
            fuzz_problem(&fault);
            continue;
        }

        check(p.version == 8);
        check(p.operation_amount >= 1 && p.operation_amount <= p.amount);
        check(r->amount == 0 || r->amount == p.operation_amount);
        check(0 <= p.refunded && p.refunded <= p.captured
              && p.captured <= p.amount);
        check(!r->final || p.status == PAYMENT_CAPTURED);

        fuzz_rendered(&p, r);
    }
}


static void
fuzz_rendered(const payment_t *p, const payment_request_t *r)
{
    char    *buf;
    json_t  *json;
    size_t   len, size;

    static payment_request_t     get;
    static const payment_kept_t  kept = {
        PAYMENT_REFUND, PAYMENT_PARTIALLY_REFUNDED, 3, 50000, 9
    };

    size = payment_render_size(p, r);
    check(size <= PAYMENT_FOUND_SIZE);
    buf = malloc(size);
    check(buf != NULL);

    len = payment_render_response(buf, size, p, r);
    json = fuzz_json(buf, len, size);
    check(json_string_length(json_object_get(json, "reference"))
          == r->reference_len);
    json_decref(json);

    get.operation = PAYMENT_GET;

    len = payment_render_response(buf, size, p, &get);
    json = fuzz_json(buf, len, size);
    check(json_string_length(json_object_get(json, "merchantId"))
          == r->merchant_len);
    check(memcmp(json_string_value(json_object_get(json, "merchantId")),
                 r->merchant, r->merchant_len) == 0);
    json_decref(json);

    get.operation = PAYMENT_LOOKUP;

    len = payment_render_found(buf, size, p, &get, &kept);
    json_decref(fuzz_json(buf, len, size));

    free(buf);

    /* the least that is promised to be enough */

    size = PAYMENT_FIXED_SIZE + 6 * r->merchant_len + 6 * r->reason_len
           + 6 * r->reference_len + r->metadata_len;
    check(size <= PAYMENT_PAYLOAD_SIZE + r->metadata_len);

    buf = malloc(size);
    check(buf != NULL);

    len = payment_render_event(buf, size, p, r);
    json = fuzz_json(buf, len, size);
    check(json_integer_value(json_object_get(json, "operationAmount"))
          == p->operation_amount);
    check(json_object_size(json_object_get(json, "metadata"))
          <= PAYMENT_METADATA_MEMBERS);

    if (r->operation == PAYMENT_REFUND) {
        check(json_string_length(json_object_get(json, "reason"))
              == r->reason_len);
        check(memcmp(json_string_value(json_object_get(json, "reason")),
                     r->reason, r->reason_len) == 0);
    }

    json_decref(json);

    check(payment_render_event(buf, size - 1, p, r) == 0);

    free(buf);
}


static json_t *
fuzz_json(const char *text, size_t len, size_t size)
{
    json_t  *json;

    check(len > 0 && len <= size);

    json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

    check(json != NULL);
    check(json_is_object(json));

    return json;
}


/* 1 to chars_max characters of UTF-8, counted another way than the parser's */

static int
fuzz_text(const char *text, size_t len, size_t chars_max)
{
    size_t   i, chars;
    json_t  *json;

    json = json_stringn(text, len);

    if (json == NULL) {
        return 0;
    }

    json_decref(json);

    for (i = 0, chars = 0; i < len; i++) {
        chars += ((unsigned char) text[i] & 0xc0) != 0x80;
    }

    return chars >= 1 && chars <= chars_max;
}
