/*
 * One request's JSON, read strictly and completely: whatever is wrong with it
 * is found here, before a database hears of it, and is told with the name of
 * the member.
 *
 * Pure; any process.  Memory: what payment_json.h says while parsing, and
 * PAYMENT_METADATA_SIZE at most afterwards.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "payment_json.h"


/* The first byte that is hashed: see payment_request_fingerprint(). */
#define PAYMENT_FINGERPRINT_VERSION  1

/* these stand where metadata would begin with its brace */
#define PAYMENT_FINGERPRINT_FINAL      1
#define PAYMENT_FINGERPRINT_REFERENCE  2


typedef enum {
    PAYMENT_MEMBER_MERCHANT = 0,
    PAYMENT_MEMBER_AMOUNT,
    PAYMENT_MEMBER_CURRENCY,
    PAYMENT_MEMBER_FINAL,
    PAYMENT_MEMBER_REASON,
    PAYMENT_MEMBER_REFERENCE,
    PAYMENT_MEMBER_KEY,
    PAYMENT_MEMBER_METADATA,
    PAYMENT_MEMBERS_N
} payment_member_e;


typedef struct {
    const char  *name;
    unsigned     operations;             /* bits: PAYMENT_ON(operation) */
} payment_member_t;


typedef struct {
    const char  *name;
    const char  *value;
    size_t       name_len;
    size_t       value_len;
} payment_pair_t;


static void payment_request_clear(payment_request_t *r,
    const payment_rules_t *rules, payment_fault_t *fault);
static payment_outcome_e payment_request_identity(payment_request_t *r,
    const char *identity, size_t identity_len, payment_fault_t *fault);
static void payment_request_members(payment_request_t *r,
    const payment_rules_t *rules, const json_t *json, const json_t **members,
    payment_fault_t *rule);
static payment_outcome_e payment_request_merchant(payment_request_t *r,
    const json_t *value, const char *identity, payment_fault_t *fault);
static payment_outcome_e payment_request_amount(payment_request_t *r,
    const payment_rules_t *rules, const json_t *value, payment_fault_t *rule,
    payment_fault_t *fault);
static payment_outcome_e payment_request_amount_fault(payment_fault_t *fault,
    int64_t max);
static payment_outcome_e payment_request_currency(payment_request_t *r,
    const payment_rules_t *rules, const json_t *value, payment_fault_t *rule,
    payment_fault_t *fault);
static payment_outcome_e payment_request_final(payment_request_t *r,
    const json_t *value, payment_fault_t *fault);
static payment_outcome_e payment_request_reason(payment_request_t *r,
    const json_t *value, payment_fault_t *fault);
static payment_outcome_e payment_request_reference(payment_request_t *r,
    const json_t *value, payment_fault_t *fault);
static payment_outcome_e payment_request_query(payment_request_t *r,
    const char *text, size_t len, const char *header, size_t header_len,
    payment_fault_t *fault);
static payment_outcome_e payment_request_cursor(payment_request_t *r,
    const char *cursor, size_t len, payment_fault_t *fault);
static payment_outcome_e payment_request_key(payment_request_t *r,
    unsigned given, const char *key, size_t len, const char *header,
    size_t header_len, payment_fault_t *fault);
static payment_outcome_e payment_request_header_key(char *key, size_t *key_len,
    const char *header, size_t len, payment_fault_t *fault);
static payment_outcome_e payment_request_metadata(payment_request_t *r,
    const json_t *value, payment_fault_t *fault);
static payment_outcome_e payment_request_pair(payment_pair_t *pair,
    const char *name, const json_t *value, payment_fault_t *fault);
static payment_outcome_e payment_request_fingerprint(payment_request_t *r,
    payment_fault_t *fault);


#define PAYMENT_ON(operation)  (1U << (operation))

#define PAYMENT_ON_ANY                                                        \
    (PAYMENT_ON(PAYMENT_AUTHORIZE) | PAYMENT_ON(PAYMENT_CAPTURE)              \
     | PAYMENT_ON(PAYMENT_REFUND) | PAYMENT_ON(PAYMENT_VOID))

#define PAYMENT_ON_CHANGE                                                     \
    (PAYMENT_ON_ANY & ~PAYMENT_ON(PAYMENT_AUTHORIZE))

#define PAYMENT_ON_MONEY                                                      \
    (PAYMENT_ON_ANY & ~PAYMENT_ON(PAYMENT_VOID))


/*
 * By payment_member_e.  Of several faults the first in this order is told, but
 * a rule that forbids the request before any of them; unknown members come
 * first.
 */

static const payment_member_t  payment_members[PAYMENT_MEMBERS_N] = {
    { "merchantId", PAYMENT_ON_ANY },
    { "amount", PAYMENT_ON_MONEY },
    { "currency", PAYMENT_ON_MONEY },
    { "final", PAYMENT_ON(PAYMENT_CAPTURE) },
    { "reason", PAYMENT_ON(PAYMENT_REFUND) },
    { "reference", PAYMENT_ON_CHANGE },
    { "idempotencyKey", PAYMENT_ON_ANY },
    { "metadata", PAYMENT_ON_ANY }
};


payment_outcome_e
payment_request_parse(payment_request_t *r, const payment_rules_t *rules,
    const char *body, size_t body_len, const char *header_key,
    size_t header_key_len, const char *identity, size_t identity_len,
    payment_fault_t *fault)
{
    json_t             *json;
    const json_t       *members[PAYMENT_MEMBERS_N];
    payment_fault_t     rule;
    payment_outcome_e   outcome;

    payment_request_clear(r, rules, fault);

    if (identity != NULL) {
        outcome = payment_request_identity(r, identity, identity_len, fault);
        if (outcome != PAYMENT_OK) {
            return outcome;
        }
    }

    if (payment_operation_reads(r->operation)) {
        outcome = payment_request_merchant(r, NULL, identity, fault);

        return outcome != PAYMENT_OK
               ? outcome
               : payment_request_query(r, body, body_len, header_key,
                                       header_key_len, fault);
    }

    json = NULL;

    outcome = payment_json_load(&json, body, body_len, identity != NULL, fault);
    if (outcome != PAYMENT_OK) {
        return outcome;
    }

    payment_request_members(r, rules, json, members, &rule);

    if ((outcome = payment_request_merchant(r,
                       members[PAYMENT_MEMBER_MERCHANT], identity, fault))
        == PAYMENT_OK
        && (outcome = payment_request_amount(r, rules,
                          members[PAYMENT_MEMBER_AMOUNT], &rule, fault))
        == PAYMENT_OK
        && (outcome = payment_request_currency(r, rules,
                          members[PAYMENT_MEMBER_CURRENCY], &rule, fault))
        == PAYMENT_OK
        && (outcome = payment_request_final(r,
                          members[PAYMENT_MEMBER_FINAL], fault))
        == PAYMENT_OK
        && (outcome = payment_request_reason(r,
                          members[PAYMENT_MEMBER_REASON], fault))
        == PAYMENT_OK
        && (outcome = payment_request_reference(r,
                          members[PAYMENT_MEMBER_REFERENCE], fault))
        == PAYMENT_OK
        && (outcome = payment_request_key(r,
                          members[PAYMENT_MEMBER_KEY] != NULL,
                          json_string_value(members[PAYMENT_MEMBER_KEY]),
                          json_string_length(members[PAYMENT_MEMBER_KEY]),
                          header_key, header_key_len, fault))
        == PAYMENT_OK
        && (outcome = payment_request_metadata(r,
                          members[PAYMENT_MEMBER_METADATA], fault))
        == PAYMENT_OK)
    {
        outcome = payment_request_fingerprint(r, fault);
    }

    json_decref(json);

    if (!r->forbidden || outcome == PAYMENT_UNAVAILABLE) {
        return outcome;
    }

    *fault = rule;

    if (outcome == PAYMENT_OK && r->has_key) {
        return PAYMENT_OK;
    }

    payment_request_free(r);

    return fault->outcome;
}


void
payment_request_free(payment_request_t *r)
{
    free(r->metadata);

    r->metadata = NULL;
    r->metadata_len = 0;
}


int
payment_request_merchant_valid(const char *text, size_t len)
{
    return payment_text_valid(text, len, PAYMENT_MERCHANT_CHARS, 0);
}


static void
payment_request_clear(payment_request_t *r, const payment_rules_t *rules,
    payment_fault_t *fault)
{
    r->has_key = 0;
    r->forbidden = 0;
    r->final = 0;
    r->void_remainder = rules->void_remainder;
    r->amount = 0;
    memset(r->currency, 0, sizeof(r->currency));
    r->reason_len = 0;
    r->reference_len = 0;
    r->metadata_len = 0;
    r->metadata = NULL;
    r->after = 0;

    if (!payment_operation_reads(r->operation)) {
        r->merchant_len = 0;
    }

    fault->outcome = PAYMENT_OK;
    fault->field[0] = '\0';
    fault->detail[0] = '\0';
}


static payment_outcome_e
payment_request_identity(payment_request_t *r, const char *identity,
    size_t identity_len, payment_fault_t *fault)
{
    if (!payment_request_merchant_valid(identity, identity_len)) {
        return payment_fault_set(fault, PAYMENT_UNAUTHORIZED, "",
                                 identity_len == 0
                                 ? "the merchant is not authenticated"
                                 : "the authenticated name cannot be "
                                   "that of a merchant");
    }

    if (payment_operation_reads(r->operation) && r->merchant_len != 0
        && (r->merchant_len != identity_len
            || memcmp(r->merchant, identity, identity_len) != 0))
    {
        return payment_fault_set(fault, PAYMENT_MERCHANT_MISMATCH,
                                 "merchantId", "merchantId is not the "
                                 "merchant that is authenticated");
    }

    memcpy(r->merchant, identity, identity_len);
    r->merchant_len = identity_len;

    return PAYMENT_OK;
}


/* *rule is filled in, with r->forbidden, if a member must not be there. */

static void
payment_request_members(payment_request_t *r, const payment_rules_t *rules,
    const json_t *json, const json_t **members, payment_fault_t *rule)
{
    void        *iter;
    json_t      *object;
    unsigned     i;
    const char  *name;
    char         show[PAYMENT_FIELD_SIZE];

    for (i = 0; i < PAYMENT_MEMBERS_N; i++) {
        members[i] = NULL;
    }

    object = (json_t *) json;

    for (iter = json_object_iter(object);
         iter != NULL;
         iter = json_object_iter_next(object, iter))
    {
        name = json_object_iter_key(iter);

        for (i = 0; i < PAYMENT_MEMBERS_N; i++) {
            if (strcmp(name, payment_members[i].name) == 0) {
                break;
            }
        }

        if (i < PAYMENT_MEMBERS_N
            && (payment_members[i].operations & PAYMENT_ON(r->operation)))
        {
            members[i] = json_object_iter_value(iter);

            if (json_is_null(members[i])) {
                members[i] = NULL;
            }

            continue;
        }

        if (rules->refuse_unknown && !r->forbidden) {
            payment_text_show(show, name, strlen(name));

            r->forbidden = 1;
            (void) payment_fault_set(rule, PAYMENT_INVALID, show,
                                     i < PAYMENT_MEMBERS_N
                                     ? "%s means nothing in this request"
                                     : "%s is not a known member",
                                     show[0] != '\0' ? show
                                                     : "the empty name");
        }
    }
}


static payment_outcome_e
payment_request_merchant(payment_request_t *r, const json_t *value,
    const char *identity, payment_fault_t *fault)
{
    size_t       len;
    const char  *text;

    if (value != NULL) {
        text = json_string_value(value);
        len = json_string_length(value);

    } else if (r->merchant_len != 0) {
        text = r->merchant;
        len = r->merchant_len;

    } else {
        return payment_fault_set(fault, PAYMENT_INVALID, "merchantId",
                                 "merchantId is required");
    }

    if (text == NULL || !payment_request_merchant_valid(text, len)) {
        return payment_fault_set(fault, PAYMENT_INVALID, "merchantId",
                                 "merchantId must be a string of 1 to %d "
                                 "characters, not blank and without "
                                 "control characters",
                                 PAYMENT_MERCHANT_CHARS);
    }

    if (identity != NULL
        && (len != r->merchant_len || memcmp(text, r->merchant, len) != 0))
    {
        return payment_fault_set(fault, PAYMENT_MERCHANT_MISMATCH,
                                 "merchantId", "merchantId is not the "
                                 "merchant that is authenticated");
    }

    memmove(r->merchant, text, len);
    r->merchant_len = len;

    return PAYMENT_OK;
}


/* An amount that is not given stays 0: all that is left is moved. */

static payment_outcome_e
payment_request_amount(payment_request_t *r, const payment_rules_t *rules,
    const json_t *value, payment_fault_t *rule, payment_fault_t *fault)
{
    int64_t  amount, max;

    if (value == NULL) {

        if (r->operation != PAYMENT_AUTHORIZE) {
            return PAYMENT_OK;
        }

        return payment_fault_set(fault, PAYMENT_INVALID, "amount",
                                 "amount is required");
    }

    max = r->operation == PAYMENT_AUTHORIZE ? rules->max_amount
                                            : PAYMENT_AMOUNT_MAX;

    if (json_is_real(value)) {
        return payment_fault_set(fault, PAYMENT_INVALID, "amount",
                                 "amount must be an integer of minor "
                                 "units, written without a fraction or "
                                 "an exponent");
    }

    amount = json_is_integer(value) ? json_integer_value(value) : 0;

    if (amount < 1 || amount > PAYMENT_AMOUNT_MAX) {
        return payment_request_amount_fault(fault, max);
    }

    if (amount > max && !r->forbidden) {
        r->forbidden = 1;
        (void) payment_request_amount_fault(rule, max);
    }

    r->amount = amount;

    return PAYMENT_OK;
}


static payment_outcome_e
payment_request_amount_fault(payment_fault_t *fault, int64_t max)
{
    return payment_fault_set(fault, PAYMENT_INVALID, "amount",
                             "amount must be a positive integer of "
                             "minor units, at most %" PRId64, max);
}


static payment_outcome_e
payment_request_currency(payment_request_t *r, const payment_rules_t *rules,
    const json_t *value, payment_fault_t *rule, payment_fault_t *fault)
{
    size_t       i;
    const char  *code;

    if (value == NULL) {

        if (r->operation != PAYMENT_AUTHORIZE) {
            return PAYMENT_OK;
        }

        return payment_fault_set(fault, PAYMENT_INVALID, "currency",
                                 "currency is required");
    }

    code = json_string_value(value);

    if (code == NULL
        || payment_money_exponent(code, json_string_length(value)) < 0)
    {
        return payment_fault_set(fault, PAYMENT_INVALID, "currency",
                                 "currency must be an ISO 4217 code of "
                                 "three capital letters");
    }

    memcpy(r->currency, code, 3);

    if (r->operation != PAYMENT_AUTHORIZE || rules->currencies_n == 0) {
        return PAYMENT_OK;
    }

    for (i = 0; i < rules->currencies_n; i++) {
        if (memcmp(rules->currencies + 3 * i, code, 3) == 0) {
            return PAYMENT_OK;
        }
    }

    if (!r->forbidden) {
        r->forbidden = 1;
        (void) payment_fault_set(rule, PAYMENT_INVALID, "currency",
                                 "currency %s is not accepted here",
                                 r->currency);
    }

    return PAYMENT_OK;
}


static payment_outcome_e
payment_request_final(payment_request_t *r, const json_t *value,
    payment_fault_t *fault)
{
    if (value == NULL) {
        return PAYMENT_OK;
    }

    if (!json_is_boolean(value)) {
        return payment_fault_set(fault, PAYMENT_INVALID, "final",
                                 "final must be true or false");
    }

    r->final = json_is_true(value);

    return PAYMENT_OK;
}


static payment_outcome_e
payment_request_reason(payment_request_t *r, const json_t *value,
    payment_fault_t *fault)
{
    size_t       len;
    const char  *text;

    if (r->operation != PAYMENT_REFUND) {
        return PAYMENT_OK;
    }

    if (value == NULL) {
        return payment_fault_set(fault, PAYMENT_INVALID, "reason",
                                 "reason is required");
    }

    text = json_string_value(value);
    len = json_string_length(value);

    if (text == NULL
        || !payment_text_valid(text, len, PAYMENT_REASON_CHARS, 1))
    {
        return payment_fault_set(fault, PAYMENT_INVALID, "reason",
                                 "reason must be a string of 1 to %d "
                                 "characters, not blank and without "
                                 "control characters other than tabs and "
                                 "line ends", PAYMENT_REASON_CHARS);
    }

    memcpy(r->reason, text, len);
    r->reason_len = len;

    return PAYMENT_OK;
}


static payment_outcome_e
payment_request_reference(payment_request_t *r, const json_t *value,
    payment_fault_t *fault)
{
    size_t       len;
    const char  *text;

    if (value == NULL) {
        return PAYMENT_OK;
    }

    text = json_string_value(value);
    len = json_string_length(value);

    if (text == NULL
        || !payment_text_valid(text, len, PAYMENT_REFERENCE_CHARS, 0))
    {
        return payment_fault_set(fault, PAYMENT_INVALID, "reference",
                                 "reference must be a string of 1 to %d "
                                 "characters, not blank and without "
                                 "control characters",
                                 PAYMENT_REFERENCE_CHARS);
    }

    memcpy(r->reference, text, len);
    r->reference_len = len;

    return PAYMENT_OK;
}


/* What a request that reads has besides its merchant. */

static payment_outcome_e
payment_request_query(payment_request_t *r, const char *text, size_t len,
    const char *header, size_t header_len, payment_fault_t *fault)
{
    switch (r->operation) {

    case PAYMENT_LOOKUP:
        return payment_request_key(r, text != NULL, text, len, header,
                                   header_len, fault);

    case PAYMENT_OPERATIONS:
        return payment_request_cursor(r, text, len, fault);

    default: /* PAYMENT_GET */
        return PAYMENT_OK;
    }
}


/* The version after which the page begins, as an answer told it. */

static payment_outcome_e
payment_request_cursor(payment_request_t *r, const char *cursor, size_t len,
    payment_fault_t *fault)
{
    size_t    i;
    uint64_t  version;

    if (cursor == NULL) {
        return PAYMENT_OK;
    }

    version = 0;

    for (i = 0; i < len && version <= UINT32_MAX; i++) {

        if (cursor[i] < '0' || cursor[i] > '9') {
            break;
        }

        version = 10 * version + (uint64_t) (cursor[i] - '0');
    }

    if (len == 0 || i < len || version == 0 || version > UINT32_MAX) {
        return payment_fault_set(fault, PAYMENT_INVALID, "cursor",
                                 "cursor must be the nextCursor of an answer");
    }

    r->after = (uint32_t) version;

    return PAYMENT_OK;
}


/* The key may come in the body (or the query), or in the header, or in both if
 * equal.  What is given there and is no string has no text: key is NULL. */

static payment_outcome_e
payment_request_key(payment_request_t *r, unsigned given, const char *key,
    size_t len, const char *header, size_t header_len, payment_fault_t *fault)
{
    size_t              header_key_len;
    uint8_t             digest[PAYMENT_HASH_SIZE];
    payment_bytes_t     parts[3];
    payment_outcome_e   outcome;
    char                header_key[PAYMENT_HEADER_KEY_LEN];

    header_key_len = 0;

    if (given
        && (key == NULL
            || !payment_text_valid(key, len, PAYMENT_BODY_KEY_CHARS, 0)))
    {
        return payment_fault_set(fault, PAYMENT_INVALID,
                                 "idempotencyKey", "idempotencyKey "
                                 "must be a string of 1 to %d "
                                 "characters, not blank and without "
                                 "control characters",
                                 PAYMENT_BODY_KEY_CHARS);
    }

    if (header != NULL) {
        outcome = payment_request_header_key(header_key, &header_key_len,
                                             header, header_len, fault);
        if (outcome != PAYMENT_OK) {
            return outcome;
        }

        if (key == NULL) {
            key = header_key;
            len = header_key_len;

        } else if (len != header_key_len || memcmp(key, header_key, len) != 0)
        {
            return payment_fault_set(fault, PAYMENT_INVALID,
                                     "idempotencyKey", "idempotencyKey "
                                     "differs from the Idempotency-Key "
                                     "header");
        }
    }

    if (key == NULL) {

        if (r->operation != PAYMENT_AUTHORIZE
            && r->operation != PAYMENT_LOOKUP)
        {
            return PAYMENT_OK;
        }

        return payment_fault_set(fault, PAYMENT_INVALID, "idempotencyKey",
                                 "idempotencyKey is required, or an "
                                 "Idempotency-Key header");
    }

    parts[0].data = r->merchant;
    parts[0].len = r->merchant_len;
    parts[1].data = "";
    parts[1].len = 1;
    parts[2].data = key;
    parts[2].len = len;

    if (!payment_hash(digest, parts, 3)) {
        return payment_fault_set(fault, PAYMENT_UNAVAILABLE, "",
                                 "there is no memory left");
    }

    memcpy(r->key_hash, digest, PAYMENT_KEY_HASH_SIZE);
    r->has_key = 1;

    return PAYMENT_OK;
}


/*
 * The header's value is a string of structured fields (RFC 9651), which is
 * printable ASCII in quotes, with a backslash before a quote or a backslash;
 * or, as many clients send it, a bare word.  A bare word with a comma may be
 * two headers that a proxy joined, and is refused.
 */

static payment_outcome_e
payment_request_header_key(char *key, size_t *key_len, const char *header,
    size_t len, payment_fault_t *fault)
{
    char         c;
    size_t       n;
    unsigned     quoted, closed;
    const char  *p, *end;

    p = header;
    end = header + len;

    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    while (p < end && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }

    quoted = (p < end && *p == '"');
    closed = !quoted;
    p += quoted;

    for (n = 0; p < end; n++) {
        c = *p++;

        if (quoted && c == '"') {
            closed = 1;
            break;
        }

        if (quoted && c == '\\') {

            if (p == end || (*p != '"' && *p != '\\')) {
                goto malformed;
            }

            c = *p++;

        } else if (c < 0x20 || c > 0x7e) {
            goto malformed;

        } else if (!quoted
                   && (c == ' ' || c == '"' || c == ',' || c == '\\'))
        {
            goto malformed;
        }

        if (n == PAYMENT_HEADER_KEY_LEN) {
            return payment_fault_set(fault, PAYMENT_INVALID,
                                     "Idempotency-Key",
                                     "the Idempotency-Key header must "
                                     "have 1 to %d characters",
                                     PAYMENT_HEADER_KEY_LEN);
        }

        key[n] = c;
    }

    if (!closed || p != end) {
        goto malformed;
    }

    if (!payment_text_valid(key, n, PAYMENT_HEADER_KEY_LEN, 0)) {
        return payment_fault_set(fault, PAYMENT_INVALID,
                                 "Idempotency-Key",
                                 "the Idempotency-Key header is blank");
    }

    *key_len = n;

    return PAYMENT_OK;

malformed:

    return payment_fault_set(fault, PAYMENT_INVALID, "Idempotency-Key",
                             "the Idempotency-Key header must be one "
                             "string in double quotes, or one word of "
                             "printable ASCII");
}


/* An empty object says no more than no metadata, and is treated like it. */

static payment_outcome_e
payment_request_metadata(payment_request_t *r, const json_t *value,
    payment_fault_t *fault)
{
    char               *p;
    void               *iter;
    json_t             *object;
    size_t              i, j, n, size;
    payment_pair_t      pair, pairs[PAYMENT_METADATA_MEMBERS];
    payment_outcome_e   outcome;

    if (value == NULL) {
        return PAYMENT_OK;
    }

    if (!json_is_object(value)
        || json_object_size(value) > PAYMENT_METADATA_MEMBERS)
    {
        return payment_fault_set(fault, PAYMENT_INVALID, "metadata",
                                 "metadata must be an object of at most "
                                 "%d strings", PAYMENT_METADATA_MEMBERS);
    }

    object = (json_t *) value;
    size = 2;
    n = 0;

    for (iter = json_object_iter(object);
         iter != NULL;
         iter = json_object_iter_next(object, iter))
    {
        outcome = payment_request_pair(&pair, json_object_iter_key(iter),
                                       json_object_iter_value(iter), fault);
        if (outcome != PAYMENT_OK) {
            return outcome;
        }

        size += 2 * (pair.name_len + pair.value_len) + 6;

        for (i = n; i > 0 && strcmp(pairs[i - 1].name, pair.name) > 0; i--) {
            pairs[i] = pairs[i - 1];
        }

        pairs[i] = pair;
        n++;
    }

    if (n == 0) {
        return PAYMENT_OK;
    }

    r->metadata = malloc(size);

    if (r->metadata == NULL) {
        return payment_fault_set(fault, PAYMENT_UNAVAILABLE, "",
                                 "there is no memory left");
    }

    p = r->metadata;
    *p++ = '{';

    for (j = 0; j < n; j++) {

        if (j != 0) {
            *p++ = ',';
        }

        p = payment_text_json(p, pairs[j].name, pairs[j].name_len);
        *p++ = ':';
        p = payment_text_json(p, pairs[j].value, pairs[j].value_len);
    }

    *p++ = '}';

    r->metadata_len = (size_t) (p - r->metadata);

    return PAYMENT_OK;
}


/*
 * As a name or a value has no control characters but three, each of its bytes
 * becomes two bytes of JSON at most.  That bounds an event's payload, and with
 * it the width of its column.
 */

static payment_outcome_e
payment_request_pair(payment_pair_t *pair, const char *name,
    const json_t *value, payment_fault_t *fault)
{
    char  show[PAYMENT_FIELD_SIZE];

    pair->name = name;
    pair->name_len = strlen(name);
    pair->value = json_string_value(value);
    pair->value_len = json_string_length(value);

    payment_text_show(show, pair->name, pair->name_len);

    if (pair->name_len < 1 || pair->name_len > PAYMENT_METADATA_NAME_LEN
        || !payment_text_plain(pair->name, pair->name_len, 0))
    {
        return payment_fault_set(fault, PAYMENT_INVALID, "metadata",
                                 "metadata: the name \"%s\" must have 1 "
                                 "to %d bytes and no control character",
                                 show, PAYMENT_METADATA_NAME_LEN);
    }

    if (pair->value == NULL || pair->value_len > PAYMENT_METADATA_VALUE_LEN
        || !payment_text_plain(pair->value, pair->value_len, 1))
    {
        return payment_fault_set(fault, PAYMENT_INVALID, "metadata",
                                 "metadata: the value of \"%s\" must be a "
                                 "string of at most %d bytes without "
                                 "control characters other than tabs and "
                                 "line ends", show,
                                 PAYMENT_METADATA_VALUE_LEN);
    }

    return PAYMENT_OK;
}


/*
 * The fingerprint is a hash of what the request means.  Each part has its
 * length before it, or a fixed length, so that two meanings never make the
 * same bytes.  Neither the key nor white space nor the order of members is part
 * of it.  As it is stored, PAYMENT_FINGERPRINT_VERSION has to be raised with
 * each change here.
 */

static payment_outcome_e
payment_request_fingerprint(payment_request_t *r, payment_fault_t *fault)
{
    uint8_t          digest[PAYMENT_HASH_SIZE];
    unsigned         i;
    unsigned char   *p;
    payment_bytes_t  parts[2];
    unsigned char    text[2 + PAYMENT_ID_SIZE + 8 + 4 + 2 + 2
                          + PAYMENT_MERCHANT_SIZE + PAYMENT_REASON_SIZE
                          + 1 + 1 + 2 + PAYMENT_REFERENCE_SIZE];

    p = text;

    *p++ = PAYMENT_FINGERPRINT_VERSION;
    *p++ = (unsigned char) r->operation;

    if (r->operation != PAYMENT_AUTHORIZE) {
        memcpy(p, r->payment_id, PAYMENT_ID_SIZE);
        p += PAYMENT_ID_SIZE;
    }

    for (i = 0; i < 8; i++) {
        *p++ = (unsigned char) ((uint64_t) r->amount >> (56 - 8 * i));
    }

    memcpy(p, r->currency, 4);
    p += 4;

    *p++ = (unsigned char) (r->merchant_len >> 8);
    *p++ = (unsigned char) r->merchant_len;
    memcpy(p, r->merchant, r->merchant_len);
    p += r->merchant_len;

    *p++ = (unsigned char) (r->reason_len >> 8);
    *p++ = (unsigned char) r->reason_len;
    memcpy(p, r->reason, r->reason_len);
    p += r->reason_len;

    if (r->final) {
        *p++ = PAYMENT_FINGERPRINT_FINAL;
    }

    if (r->reference_len != 0) {
        *p++ = PAYMENT_FINGERPRINT_REFERENCE;
        *p++ = (unsigned char) (r->reference_len >> 8);
        *p++ = (unsigned char) r->reference_len;
        memcpy(p, r->reference, r->reference_len);
        p += r->reference_len;
    }

    parts[0].data = text;
    parts[0].len = (size_t) (p - text);
    parts[1].data = r->metadata;
    parts[1].len = r->metadata_len;

    if (!payment_hash(digest, parts, r->metadata_len ? 2 : 1)) {
        payment_request_free(r);
        return payment_fault_set(fault, PAYMENT_UNAVAILABLE, "",
                                 "there is no memory left");
    }

    memcpy(r->fingerprint, digest, PAYMENT_FINGERPRINT_SIZE);

    return PAYMENT_OK;
}
