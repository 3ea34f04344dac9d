/*
 * What a payment is, with no word of nginx or of a database: requests, states,
 * money, ids, and the JSON that goes in and out.  Compiled into the module and,
 * on its own, into the unit tests and the fuzzer.
 *
 * Every function here is pure: no I/O, no clock, no global state (but for the
 * context of payment_hash.c).  Buffers are the caller's, their sizes are the
 * limits below.
 */

#ifndef PAYMENT_H
#define PAYMENT_H

#include <stddef.h>
#include <stdint.h>


#define PAYMENT_ID_SIZE            16
#define PAYMENT_ID_OWN_SIZE        10   /* the bytes after come from key_hash */
#define PAYMENT_ID_END_SIZE        (PAYMENT_ID_SIZE - PAYMENT_ID_OWN_SIZE)
#define PAYMENT_ID_TEXT_LEN        36
#define PAYMENT_KEY_HASH_SIZE      16
#define PAYMENT_FINGERPRINT_SIZE   8
#define PAYMENT_SECRET_SIZE        16   /* of an installation */
#define PAYMENT_HASH_SIZE          32

/* characters as clients count them; a character is at most 4 bytes */
#define PAYMENT_MERCHANT_CHARS     32
#define PAYMENT_MERCHANT_SIZE      (PAYMENT_MERCHANT_CHARS * 4)
#define PAYMENT_BODY_KEY_CHARS     64
#define PAYMENT_HEADER_KEY_LEN     255
#define PAYMENT_REASON_CHARS       128
#define PAYMENT_REASON_SIZE        (PAYMENT_REASON_CHARS * 4)
#define PAYMENT_REFERENCE_CHARS    64
#define PAYMENT_REFERENCE_SIZE     (PAYMENT_REFERENCE_CHARS * 4)
#define PAYMENT_METADATA_MEMBERS   20
#define PAYMENT_METADATA_NAME_LEN  40
#define PAYMENT_METADATA_VALUE_LEN 500
/* as JSON: an escape has 2 bytes at most, see payment_request_pair() */
#define PAYMENT_METADATA_SIZE      (2 + PAYMENT_METADATA_MEMBERS              \
                                    * (2 * (PAYMENT_METADATA_NAME_LEN         \
                                            + PAYMENT_METADATA_VALUE_LEN) + 6))
#define PAYMENT_TRACEPARENT_LEN    55
#define PAYMENT_TRACESTATE_LEN     512   /* what W3C asks to be passed on */
#define PAYMENT_TIME_LEN           24

#define PAYMENT_PAGE_OPERATIONS    20    /* of one answer to OPERATIONS */

/* payments of one answer to LIST */
#define PAYMENT_LIST_LIMIT_USUAL   20
#define PAYMENT_LIST_LIMIT_MAX     100
#define PAYMENT_LIST_DIGEST_SIZE   8
#define PAYMENT_LIST_CURSOR_LEN    32    /* bytes of text */

/* 2^53 - 1: what every JSON reader can hold exactly */
#define PAYMENT_AMOUNT_MAX         INT64_C(9007199254740991)

#define PAYMENT_SLOTS              1024

#define PAYMENT_FIELD_SIZE         64
#define PAYMENT_DETAIL_SIZE        256

/*
 * The longest answer and the longest payload of an event, without metadata;
 * the longest problem.  A byte of text becomes at most the 6 bytes of an
 * escape, and the rest of each is less than PAYMENT_FIXED_SIZE.
 */
#define PAYMENT_FIXED_SIZE         512
#define PAYMENT_RESPONSE_SIZE      (PAYMENT_FIXED_SIZE                        \
                                    + 6 * PAYMENT_MERCHANT_SIZE               \
                                    + 6 * PAYMENT_REFERENCE_SIZE)
#define PAYMENT_PAYLOAD_SIZE       (PAYMENT_RESPONSE_SIZE                     \
                                    + 6 * PAYMENT_REASON_SIZE)
#define PAYMENT_FOUND_SIZE         (PAYMENT_RESPONSE_SIZE                     \
                                    + PAYMENT_FIXED_SIZE)
/* one operation among those of its payment */
#define PAYMENT_DONE_SIZE          (PAYMENT_FIXED_SIZE                        \
                                    + 6 * PAYMENT_REASON_SIZE                 \
                                    + 6 * PAYMENT_REFERENCE_SIZE              \
                                    + PAYMENT_METADATA_SIZE)
#define PAYMENT_PAGE_SIZE          (PAYMENT_PAGE_OPERATIONS                   \
                                    * (1 + PAYMENT_DONE_SIZE))
/* one payment among those of its merchant: it has no text of a client's */
#define PAYMENT_LISTED_SIZE        PAYMENT_FIXED_SIZE
#define PAYMENT_PROBLEM_BASE_LEN   256
#define PAYMENT_PROBLEM_SIZE       (PAYMENT_FIXED_SIZE                        \
                                    + PAYMENT_PROBLEM_BASE_LEN                \
                                    + 6 * (PAYMENT_FIELD_SIZE                 \
                                           + 2 * PAYMENT_DETAIL_SIZE))


/* the values of operation and status are the indexes of the database's ENUMs */

typedef enum {
    PAYMENT_AUTHORIZE = 1,
    PAYMENT_CAPTURE,
    PAYMENT_REFUND,
    PAYMENT_VOID,
    PAYMENT_EXPIRE,                  /* nobody asks for it: its time has come */
    PAYMENT_GET,
    PAYMENT_LOOKUP,                  /* by idempotency key */
    PAYMENT_OPERATIONS,              /* of a payment: a page of them */
    PAYMENT_LIST                     /* a merchant's payments: a page of them */
} payment_operation_e;

/* the database's ENUM has none of these: they change nothing */
#define payment_operation_reads(operation)  ((operation) >= PAYMENT_GET)


typedef enum {
    PAYMENT_AUTHORIZED = 1,
    PAYMENT_PARTIALLY_CAPTURED,
    PAYMENT_CAPTURED,
    PAYMENT_PARTIALLY_REFUNDED,
    PAYMENT_REFUNDED,
    PAYMENT_VOIDED
} payment_status_e;


/*
 * What an operation can come to.  PAYMENT_OK and PAYMENT_REPLAYED are answered
 * with 200; each of the others has one HTTP status and one code: see
 * payment_name_error().
 */

typedef enum {
    PAYMENT_OK = 0,
    PAYMENT_REPLAYED,                /* the same request was answered before */
    PAYMENT_INVALID,                 /* 400 INVALID_REQUEST */
    PAYMENT_UNAUTHORIZED,            /* 401 UNAUTHORIZED */
    PAYMENT_FORBIDDEN,               /* 403 FORBIDDEN */
    PAYMENT_MERCHANT_MISMATCH,       /* 403 MERCHANT_MISMATCH */
    PAYMENT_NOT_FOUND,               /* 404 NOT_FOUND */
    PAYMENT_METHOD_NOT_ALLOWED,      /* 405 METHOD_NOT_ALLOWED */
    PAYMENT_DUPLICATE,               /* 409 DUPLICATE_REQUEST */
    PAYMENT_CAPTURE_CONFLICT,        /* 409 CAPTURE_CONFLICT */
    PAYMENT_REFUND_CONFLICT,         /* 409 REFUND_CONFLICT */
    PAYMENT_VOID_CONFLICT,           /* 409 VOID_CONFLICT */
    PAYMENT_EXPIRED,                 /* 409 AUTHORIZATION_EXPIRED */
    PAYMENT_GONE,                    /* 410 PAYMENT_GONE */
    PAYMENT_TOO_LARGE,               /* 413 PAYLOAD_TOO_LARGE */
    PAYMENT_UNSUPPORTED_TYPE,        /* 415 UNSUPPORTED_MEDIA_TYPE */
    PAYMENT_KEY_REUSED,              /* 422 IDEMPOTENCY_KEY_REUSED */
    PAYMENT_RATE_LIMITED,            /* 429 RATE_LIMIT_EXCEEDED */
    PAYMENT_UNAVAILABLE,             /* 503 SERVICE_UNAVAILABLE */
    PAYMENT_OUTCOME_UNKNOWN          /* 504 OUTCOME_UNKNOWN */
} payment_outcome_e;


typedef struct {
    unsigned     status;             /* HTTP */
    const char  *code;               /* "NOT_FOUND" */
    const char  *title;              /* "Not Found" */
} payment_error_t;


typedef struct {
    unsigned     refuse_unknown;     /* an unknown member is an error */
    unsigned     void_remainder;     /* a void releases what was not captured,
                                        also after a part was */

    /* these bind authorize only: what was authorized can be finished */
    int64_t      max_amount;         /* 1 .. PAYMENT_AMOUNT_MAX */

    /* allowed ISO 4217 codes, "KRWUSD": no separator, n of them; 0: all */
    const char  *currencies;
    size_t       currencies_n;
} payment_rules_t;


/* One valid request.  Texts are UTF-8, not terminated, without NUL. */

typedef struct {
    payment_operation_e  operation;

    uint8_t   payment_id[PAYMENT_ID_SIZE];   /* authorize: not set by parsing */
    uint8_t   key_hash[PAYMENT_KEY_HASH_SIZE];
    uint8_t   fingerprint[PAYMENT_FINGERPRINT_SIZE];
    unsigned  has_key;               /* 0: parsing did not set key_hash */
    unsigned  forbidden;             /* by a rule: payment_request_parse() */
    unsigned  final;                 /* capture: no other one follows */
    unsigned  void_remainder;        /* void: the rule's */

    int64_t   amount;                /* 0: not given (the whole of it) */
    char      currency[4];           /* terminated; "": not given */
    int64_t   lifetime_ms;           /* authorize: the caller sets it after
                                        parsing; 0: it never expires */

    size_t    merchant_len;
    size_t    reason_len;
    size_t    reference_len;
    size_t    metadata_len;
    char      merchant[PAYMENT_MERCHANT_SIZE];
    char      reason[PAYMENT_REASON_SIZE];
    char      reference[PAYMENT_REFERENCE_SIZE];
    char     *metadata;              /* a JSON object, malloc()ed, or NULL;
                                        members in order of their names; of GET
                                        and LOOKUP: what authorize brought */
    uint32_t  after;                 /* OPERATIONS: those of later versions */
} payment_request_t;


/* What is wrong with a request: the member, and a sentence about it. */

typedef struct {
    payment_outcome_e  outcome;
    char               field[PAYMENT_FIELD_SIZE]; /* "": of no one member */
    char               detail[PAYMENT_DETAIL_SIZE];
} payment_fault_t;


/* payment_fault.c: fills all of it; returns the outcome. */

payment_outcome_e payment_fault_set(payment_fault_t *fault,
    payment_outcome_e outcome, const char *field, const char *fmt, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 4, 5)))
#endif
    ;


/* A payment as its row says, and as an answer shows it. */

typedef struct {
    uint8_t           id[PAYMENT_ID_SIZE];
    size_t            merchant_len;
    char              merchant[PAYMENT_MERCHANT_SIZE];
    char              currency[4];
    payment_status_e  status;
    int64_t           amount;
    int64_t           captured;
    int64_t           refunded;
    int64_t           operation_amount;  /* what the last operation moved; an
                                            event shows it, no row has it */
    uint32_t          version;
    int64_t           created_ms;    /* Unix time */
    int64_t           updated_ms;
    int64_t           expires_ms;    /* the authorization; 0: never */
    int64_t           expired_ms;    /* when that was done; 0: it was not */
} payment_t;


/* What the row of an idempotency key says of the operation that took it. */

typedef struct {
    payment_operation_e  operation;
    payment_status_e     status;     /* of the payment, as it was then */
    uint32_t             version;
    int64_t              captured;
    int64_t              refunded;
} payment_kept_t;


/* An operation that was done; the texts are not terminated, and may be NULL. */

typedef struct {
    payment_operation_e  operation;
    payment_status_e     status;     /* of the payment, as it was then */
    uint32_t             version;
    int64_t              amount;     /* that it moved */
    int64_t              created_ms;
    const char          *reason;
    const char          *reference;
    const char          *metadata;   /* a JSON object */
    size_t               reason_len;
    size_t               reference_len;
    size_t               metadata_len;
} payment_done_t;


/* Which payments of its merchant a LIST wants: all of these hold. */

typedef struct {
    unsigned  limit;                 /* payments, 1 .. PAYMENT_LIST_LIMIT_MAX */
    unsigned  statuses;              /* 1 << each payment_status_e; 0: any */
    char      currency[4];           /* terminated; "": any */
    int64_t   amount_min;            /* of amount, both included */
    int64_t   amount_max;
    uint8_t   first[PAYMENT_ID_SIZE];   /* ids from this one on */
    uint8_t   end[PAYMENT_ID_SIZE];     /* and below this one */
    uint8_t   digest[PAYMENT_LIST_DIGEST_SIZE]; /* of all this but limit, as the
                                        first page has it, and the merchant */
} payment_list_t;

/* 1 if a payment's row has to be looked at, and not its id alone */
#define payment_list_filters(list)                                            \
    ((list)->statuses != 0 || (list)->currency[0] != '\0')


/* payment_hash.c: SHA-256 of some parts, one after the other; 1, or 0 without
 * memory. */

typedef struct {
    const void  *data;
    size_t       len;
} payment_bytes_t;

int payment_hash(uint8_t digest[PAYMENT_HASH_SIZE],
    const payment_bytes_t *parts, unsigned n);


/*
 * payment_request.c
 *
 * Parses and validates one request completely.  body may be NULL with body_len
 * 0 where the operation has none.  header_key is the Idempotency-Key header as
 * it came, or NULL; identity is the merchant that the connection proved, or
 * NULL where the body's word is taken; an identity that cannot be a merchantId,
 * also an empty one, is PAYMENT_UNAUTHORIZED.  r->operation is set by the
 * caller; for capture, refund, void the caller also sets r->payment_id.  For
 * GET neither body nor header_key is read: the caller sets r->merchant and
 * r->merchant_len (0 if the client named none; then identity must be there).
 * The same for LOOKUP, where body is the key that the query names, or NULL, and
 * for OPERATIONS, where body is the query's cursor; and for LIST, whose other
 * arguments payment_list_parse() reads afterwards.
 *
 * An empty body is an empty object where identity is given.
 *
 * Returns PAYMENT_OK, or fills in *fault and returns its outcome: INVALID,
 * UNAUTHORIZED, MERCHANT_MISMATCH, or UNAVAILABLE without memory.  After
 * PAYMENT_OK the caller owns r->metadata: payment_request_free().
 *
 * A request with a key that breaks nothing but a rule is PAYMENT_OK, too, with
 * r->forbidden, and *fault says which rule.  It may repeat what was done before
 * the rules became tighter, and is answered then; what is new is refused with
 * *fault.
 */

payment_outcome_e payment_request_parse(payment_request_t *r,
    const payment_rules_t *rules, const char *body, size_t body_len,
    const char *header_key, size_t header_key_len,
    const char *identity, size_t identity_len, payment_fault_t *fault);
void payment_request_free(payment_request_t *r);

/* 1 if text has 1 to PAYMENT_MERCHANT_CHARS characters, not all blank, and no
   control characters */
int payment_request_merchant_valid(const char *text, size_t len);


/*
 * payment_list.c: the arguments of a LIST, and its cursor.
 *
 * payment_list_parse() reads the arguments, by payment_list_argument_e; one
 * that is not given has the text NULL.  It returns PAYMENT_OK, or fills in
 * *fault and returns its outcome: INVALID, or UNAVAILABLE without memory.  The
 * merchant is the one whose payments are listed.
 *
 * payment_list_cursor() writes the cursor of what is below an id in the list.
 */

typedef enum {
    PAYMENT_LIST_STATUS = 0,
    PAYMENT_LIST_CURRENCY,
    PAYMENT_LIST_AMOUNT_MIN,
    PAYMENT_LIST_AMOUNT_MAX,
    PAYMENT_LIST_CREATED_FROM,
    PAYMENT_LIST_CREATED_TO,
    PAYMENT_LIST_LIMIT,
    PAYMENT_LIST_CURSOR,
    PAYMENT_LIST_ARGUMENTS
} payment_list_argument_e;

typedef struct {
    const char  *text;               /* not terminated; NULL: not given */
    size_t       len;
} payment_argument_t;

/* what an argument is called in the query */
const char *payment_list_name(payment_list_argument_e i);
payment_outcome_e payment_list_parse(payment_list_t *list,
    const payment_argument_t *args, const char *merchant, size_t merchant_len,
    payment_fault_t *fault);
void payment_list_cursor(char text[PAYMENT_LIST_CURSOR_LEN],
    const payment_list_t *list, const uint8_t id[PAYMENT_ID_SIZE]);


/*
 * payment_money.c: ISO 4217.  Returns the number of decimals of a minor unit
 * (0, 2, 3, 4), or -1 for a code that is not in the standard or has no minor
 * unit there (gold, test codes).  Capital letters only.
 */

int payment_money_exponent(const char *code, size_t len);


/*
 * payment_state.c: the only place that changes a payment.
 *
 * payment_state_open() makes the payment of an authorize request.
 * payment_state_apply() does a capture, refund or void, or leaves *p as it was
 * and returns the conflict with a sentence in *fault (PAYMENT_NOT_FOUND for
 * another merchant's payment).  payment_state_expire() releases what was not
 * captured when its time has come, if payment_state_is_overdue().  All keep
 * 0 <= refunded <= captured <= amount, raise version by one (open: to 1), and
 * set operation_amount.
 */

void payment_state_open(payment_t *p, const payment_request_t *r,
    int64_t now_ms);
payment_outcome_e payment_state_apply(payment_t *p, const payment_request_t *r,
    int64_t now_ms, payment_fault_t *fault);
/* 1 if what was not captured is to be released by clock_ms, and was not yet */
int payment_state_is_overdue(const payment_t *p, int64_t clock_ms);
void payment_state_expire(payment_t *p, int64_t clock_ms);
/* PAYMENT_OK, or PAYMENT_EXPIRED for a capture or void that comes too late by
   clock_ms, whether or not the payment has been expired */
payment_outcome_e payment_state_in_time(const payment_t *p,
    const payment_request_t *r, int64_t clock_ms, payment_fault_t *fault);
/* the outcome where another operation of the payment has r's reference: a
   conflict, whatever the payment's state is */
payment_outcome_e payment_state_refer(const payment_request_t *r,
    payment_fault_t *fault);


/*
 * payment_name.c: the words for the enums above.  A value that is none of its
 * enum has the name "", or the error 500 INTERNAL_ERROR.
 */

const char *payment_name_status(payment_status_e status);       /* "CAPTURED" */
const char *payment_name_operation(payment_operation_e operation); /* "void" */
const char *payment_name_event(payment_operation_e operation); /* "captured" */
const payment_error_t *payment_name_error(payment_outcome_e outcome);


/*
 * payment_id.c: UUIDv7 (RFC 9562) with the shard slot in it.
 *
 * Layout: 48 bits Unix milliseconds, version 7, 12 bits of the millisecond's
 * fraction (RFC 9562, 6.2, method 3), variant, then of rand_b's 62 bits the
 * first 10 are the slot and 52 the key's: SHA-256(secret, key_hash) begins with
 * the bytes from PAYMENT_ID_OWN_SIZE on.  So an id and its key's hash belong
 * together, and nobody without the secret can tell.  now_us: Unix time in
 * microseconds.  slot: CRC-32 (IEEE, as in zlib) of the merchant, modulo
 * PAYMENT_SLOTS.  Test vectors in t/unit/test_id.c.
 *
 * A row that holds key_hash, too, needs only the first PAYMENT_ID_OWN_SIZE
 * bytes of the id that was made from it.  Ids of before there was a secret end
 * as key_hash does, also in the 4 bits before these bytes: those of an id with
 * a secret are never equal to key_hash's, and tell the two kinds apart.
 *
 * 1, or 0 without memory.
 */

int payment_id_make(uint8_t id[PAYMENT_ID_SIZE], int64_t now_us,
    unsigned slot, const uint8_t key_hash[PAYMENT_KEY_HASH_SIZE],
    const uint8_t secret[PAYMENT_SECRET_SIZE]);
/* what such an id ends with, behind its first PAYMENT_ID_OWN_SIZE bytes; 1, or
 * 0 without memory */
int payment_id_end(uint8_t end[PAYMENT_ID_END_SIZE],
    const uint8_t key_hash[PAYMENT_KEY_HASH_SIZE],
    const uint8_t secret[PAYMENT_SECRET_SIZE]);
unsigned payment_id_merchant_slot(const char *merchant, size_t len);
void payment_id_format(char text[PAYMENT_ID_TEXT_LEN],
    const uint8_t id[PAYMENT_ID_SIZE]);
/* 1 if text is a UUID (8-4-4-4-12, hex of either case), else 0 */
int payment_id_parse(uint8_t id[PAYMENT_ID_SIZE], const char *text,
    size_t len);


/*
 * payment_text.c: UTF-8 and JSON strings.  A control character is U+0000 to
 * U+001F or U+007F to U+009F; breaks allows tab, line feed and carriage return
 * among them.
 */

/* the length of the character at text, 1 to 4 bytes; 0 if it is not UTF-8 */
unsigned payment_text_decode(uint32_t *c, const char *text, size_t len);
/* 1 if text has 1 to chars_max characters, not all of them blank, and no
   control characters */
int payment_text_valid(const char *text, size_t len, size_t chars_max,
    unsigned breaks);
/* 1 if text is UTF-8 without control characters; it may be empty */
int payment_text_plain(const char *text, size_t len, unsigned breaks);
/* a client's name for something, cut at a character's end to fit a sentence */
void payment_text_show(char show[PAYMENT_FIELD_SIZE], const char *text,
    size_t len);
/* writes a quoted JSON string of at most 2 + 6 * len bytes; returns its end */
char *payment_text_json(char *buf, const char *text, size_t len);


/*
 * payment_trace.c: 1 if text is a traceparent header of W3C's trace context, in
 * version 00 or a later one; out is the same in version 00.  0: it is to be
 * ignored, and out is as it was.
 */

int payment_trace_parse(char out[PAYMENT_TRACEPARENT_LEN], const char *text,
    size_t len);

/*
 * The same file: is the trace of a valid traceparent one of those whose spans
 * are sent to a collector?  It is if its flag says so, and its last 56 bits,
 * which are random, are less than bound; so that all who have the same bound
 * decide alike.  PAYMENT_TRACE_ALL is a bound for all.
 */

#define PAYMENT_TRACE_ALL  (UINT64_C(1) << 56)

int payment_trace_sampled(const char traceparent[PAYMENT_TRACEPARENT_LEN],
    uint64_t bound);

/*
 * The same file: the length of what is to be passed on of a tracestate header,
 * whose lines are joined by commas in text; 0: nothing, as it is empty or is
 * none.  What fits into out is passed on as it is, but for the white space
 * around it.  Of a longer one, whole members are left out: first those of more
 * than 128 characters, then any, from the end until the rest fits.
 */

size_t payment_trace_state(char out[PAYMENT_TRACESTATE_LEN], const char *text,
    size_t len);


/*
 * payment_render.c: each returns the length written, never more than size; the
 * sizes above always suffice, and for less than they need these return 0 and
 * write nothing.  Output is deterministic to the byte: a replay is the same
 * text.  r is the request that is answered.
 */

size_t payment_render_response(char *buf, size_t size, const payment_t *p,
    const payment_request_t *r);
/* the answer to LOOKUP: the payment as GET shows it, and what the key's
   operation came to; needs PAYMENT_FOUND_SIZE */
size_t payment_render_found(char *buf, size_t size, const payment_t *p,
    const payment_request_t *r, const payment_kept_t *kept);
/* what is enough for either of them, of these texts */
#define payment_render_size(p, r)                                             \
    (2 * PAYMENT_FIXED_SIZE + 6 * ((p)->merchant_len + (r)->reference_len)    \
     + (payment_operation_reads((r)->operation) ? (r)->metadata_len : 0))
/* an element of the answer to OPERATIONS; needs PAYMENT_DONE_SIZE */
size_t payment_render_done(char *buf, size_t size, const payment_done_t *done);
/* that answer; done: its elements with commas between them; next: the version
   of the last one, if others follow, or 0.  Needs 2 * PAYMENT_FIXED_SIZE
   + done_len. */
size_t payment_render_operations(char *buf, size_t size, const payment_t *p,
    const char *done, size_t done_len, uint32_t next);
/* an element of the answer to LIST; needs PAYMENT_LISTED_SIZE */
size_t payment_render_listed(char *buf, size_t size, const payment_t *p);
/* that answer; listed: its elements with commas between them; below: the id
   that the next page is below, or NULL.  Needs PAYMENT_FIXED_SIZE + listed_len
   + 6 * r->merchant_len. */
size_t payment_render_list(char *buf, size_t size, const payment_request_t *r,
    const payment_list_t *list, const char *listed, size_t listed_len,
    const uint8_t *below);
/* needs PAYMENT_PAYLOAD_SIZE + r->metadata_len; p as the operation left it */
size_t payment_render_event(char *buf, size_t size, const payment_t *p,
    const payment_request_t *r);
/* payment_id may be NULL.  base is the beginning of a URI that the code ends,
   of at most PAYMENT_PROBLEM_BASE_LEN bytes that JSON need not escape; or NULL:
   the type is about:blank. */
size_t payment_render_problem(char *buf, size_t size,
    const payment_fault_t *fault, const uint8_t *payment_id, const char *base);
/* "2026-11-22T18:12:46.123Z", PAYMENT_TIME_LEN bytes */
size_t payment_render_time(char *buf, int64_t unix_ms);

#endif /* PAYMENT_H */
