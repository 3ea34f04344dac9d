/*
 * A request's body as JSON: see payment_json.h.
 */

#include <inttypes.h>
#include <string.h>

#include "payment_json.h"


/* The place in a body at which jansson found a fault. */

typedef struct {
    const char  *name;                   /* of the member there, raw */
    size_t       name_len;
    unsigned     depth;                  /* 1: the member itself */
} payment_json_place_t;


static payment_outcome_e payment_json_fault(const json_error_t *error,
    const char *body, size_t body_len, payment_fault_t *fault);
static payment_json_place_t payment_json_place(const char *body, size_t len);


payment_outcome_e
payment_json_load(json_t **json, const char *body, size_t body_len,
    unsigned may_be_empty, payment_fault_t *fault)
{
    size_t        blank;
    json_error_t  error;

    blank = 0;

    while (blank < body_len
           && (body[blank] == ' ' || body[blank] == '\t'
               || body[blank] == '\r' || body[blank] == '\n'))
    {
        blank++;
    }

    if (blank == body_len) {

        if (!may_be_empty) {
            return payment_fault_set(fault, PAYMENT_INVALID, "",
                                     "the body is empty: it must be a "
                                     "JSON object");
        }

        *json = json_object();

        if (*json == NULL) {
            return payment_fault_set(fault, PAYMENT_UNAVAILABLE, "",
                                     "there is no memory left");
        }

        return PAYMENT_OK;
    }

    if (body_len >= 3 && memcmp(body, "\xef\xbb\xbf", 3) == 0) {
        return payment_fault_set(fault, PAYMENT_INVALID, "",
                                 "the body begins with a byte order mark: "
                                 "JSON has none");
    }

    /* jansson overlooks a NUL after a number or a word */

    if (memchr(body, '\0', body_len) != NULL) {
        return payment_fault_set(fault, PAYMENT_INVALID, "",
                                 "the body has a NUL byte");
    }

    /* where jansson has no memory for the object itself it sets no code */

    memset(&error, 0, sizeof(json_error_t));

    *json = json_loadb(body, body_len,
                       JSON_REJECT_DUPLICATES|JSON_DECODE_ANY, &error);

    if (*json == NULL) {
        return payment_json_fault(&error, body, body_len, fault);
    }

    if (!json_is_object(*json)) {
        json_decref(*json);
        return payment_fault_set(fault, PAYMENT_INVALID, "",
                                 "the body must be a JSON object");
    }

    return PAYMENT_OK;
}


/*
 * jansson's own error texts quote the body, which may hold what must not get
 * into a log: these sentences quote a member's name at most.
 */

static payment_outcome_e
payment_json_fault(const json_error_t *error, const char *body,
    size_t body_len, payment_fault_t *fault)
{
    size_t           len;
    const char      *what;
    payment_json_place_t  place;
    char             name[PAYMENT_FIELD_SIZE];

    len = error->position > 0 ? (size_t) error->position : 0;

    place = payment_json_place(body, len < body_len ? len : body_len);
    payment_text_show(name, place.name, place.name_len);

    switch (json_error_code(error)) {

    case json_error_unknown:
    case json_error_out_of_memory:
        return payment_fault_set(fault, PAYMENT_UNAVAILABLE, "",
                                 "there is no memory left");

    case json_error_duplicate_key:
        return payment_fault_set(fault, PAYMENT_INVALID, name,
                                 place.depth == 1
                                 ? "%s is given more than once"
                                 : "%s names a member more than once",
                                 name[0] != '\0' ? name
                                 : place.depth == 1 ? "the empty name"
                                                    : "the body");

    case json_error_numeric_overflow:

        if (place.depth == 1 && strcmp(name, "amount") == 0) {
            return payment_fault_set(fault, PAYMENT_INVALID, name,
                                     "amount must be a positive integer "
                                     "of minor units, at most %" PRId64,
                                     PAYMENT_AMOUNT_MAX);
        }

        return payment_fault_set(fault, PAYMENT_INVALID, name,
                                 "%s has a number that is out of range",
                                 name[0] != '\0' ? name : "the body");

    case json_error_null_character:
    case json_error_null_byte_in_key:
        return payment_fault_set(fault, PAYMENT_INVALID, name,
                                 "%s has a NUL character",
                                 name[0] != '\0' ? name : "the body");

    case json_error_invalid_utf8:
        what = "not in UTF-8";
        break;

    case json_error_premature_end_of_input:
        what = "unfinished";
        break;

    case json_error_end_of_input_expected:
        what = "followed by something else";
        break;

    case json_error_stack_overflow:
        what = "nested too deeply";
        break;

    default:
        what = "malformed";
    }

    return payment_fault_set(fault, PAYMENT_INVALID, "",
                             "the body's JSON is %s at line %d, column %d",
                             what, error->line, error->column);
}


/*
 * Finds the member of the top object in which the first len bytes of a body
 * end.  jansson has read these bytes before, so they are JSON up to the very
 * end.
 */

static payment_json_place_t
payment_json_place(const char *body, size_t len)
{
    char             c;
    size_t           i, begin;
    unsigned         depth, object, name_next;
    payment_json_place_t  place;

    place.name = "";
    place.name_len = 0;

    depth = 0;
    object = 0;
    name_next = 0;

    for (i = 0; i < len; i++) {
        c = body[i];

        switch (c) {

        case '{':
        case '[':
            if (depth++ == 0) {
                object = (c == '{');
                name_next = object;
            }

            break;

        case '}':
        case ']':
            depth -= (depth != 0);
            break;

        case ':':
            if (depth == 1) {
                name_next = 0;
            }

            break;

        case ',':
            if (depth == 1) {
                name_next = object;
            }

            break;

        case '"':
            begin = ++i;

            while (i < len && body[i] != '"') {
                i += (body[i] == '\\') ? 2 : 1;
            }

            if (depth == 1 && name_next) {
                place.name = body + begin;
                place.name_len = (i < len ? i : len) - begin;
            }

            break;
        }
    }

    place.depth = depth;

    return place;
}
