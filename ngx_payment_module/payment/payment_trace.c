/*
 * W3C's trace context: is a traceparent header one, and what is it in the
 * version that is spoken here, 00; and what of the tracestate that comes with
 * it is passed on.
 *
 * Pure; any process.
 */

#include <string.h>

#include "payment.h"


#define PAYMENT_TRACE_MEMBERS      32
#define PAYMENT_TRACE_TEXT_LEN     256   /* of a member's key, or its value */
#define PAYMENT_TRACE_MEMBER_LEN   128   /* a longer one is the first to go */

/* where the number of a trace ends, and where its last 56 bits begin */
#define PAYMENT_TRACE_END          35
#define PAYMENT_TRACE_LAST_AT      (PAYMENT_TRACE_END - 14)


typedef struct {
    const char  *text;
    size_t       len;                    /* 0: empty, or left out */
} payment_trace_member_t;


static int payment_trace_hex(const char *text, size_t len, int *zeros);
static unsigned payment_trace_digit(char c);
static size_t payment_trace_split(
    payment_trace_member_t members[PAYMENT_TRACE_MEMBERS],
    const payment_trace_member_t *whole);
static void payment_trace_trim(payment_trace_member_t *m);
static int payment_trace_is_member(const payment_trace_member_t *m);
static void payment_trace_shorten(payment_trace_member_t *members, size_t n);
static size_t payment_trace_leave_out(payment_trace_member_t *members,
    size_t n, size_t len, size_t most);


int
payment_trace_parse(char out[PAYMENT_TRACEPARENT_LEN], const char *text,
    size_t len)
{
    int  no_trace, no_parent, any, flags;

    if (len < PAYMENT_TRACEPARENT_LEN
        || !payment_trace_hex(text, 2, &any)
        || memcmp(text, "ff", 2) == 0
        || text[2] != '-'
        || !payment_trace_hex(text + 3, 32, &no_trace) || no_trace
        || text[35] != '-'
        || !payment_trace_hex(text + 36, 16, &no_parent) || no_parent
        || text[52] != '-'
        || !payment_trace_hex(text + 53, 2, &any))
    {
        return 0;
    }

    /* version 00 ends here; a later one may go on after another dash */

    if (len > PAYMENT_TRACEPARENT_LEN
        && (memcmp(text, "00", 2) == 0
            || text[PAYMENT_TRACEPARENT_LEN] != '-'))
    {
        return 0;
    }

    memcpy(out, text, PAYMENT_TRACEPARENT_LEN);
    memcpy(out, "00", 2);

    /* of the flags, those that are defined: sampled, random */

    flags = text[54] <= '9' ? text[54] - '0' : text[54] - 'a' + 10;
    out[53] = '0';
    out[54] = (char) ('0' + (flags & 3));

    return 1;
}


/* Lower-case digits alone; *zeros: there is no other digit than 0. */

static int
payment_trace_hex(const char *text, size_t len, int *zeros)
{
    size_t  i;

    *zeros = 1;

    for (i = 0; i < len; i++) {
        if (!((text[i] >= '0' && text[i] <= '9')
              || (text[i] >= 'a' && text[i] <= 'f')))
        {
            return 0;
        }

        if (text[i] != '0') {
            *zeros = 0;
        }
    }

    return 1;
}


int
payment_trace_sampled(const char traceparent[PAYMENT_TRACEPARENT_LEN],
    uint64_t bound)
{
    size_t    i;
    uint64_t  last;

    last = 0;

    for (i = PAYMENT_TRACE_LAST_AT; i < PAYMENT_TRACE_END; i++) {
        last = last << 4 | payment_trace_digit(traceparent[i]);
    }

    return (payment_trace_digit(traceparent[PAYMENT_TRACEPARENT_LEN - 1]) & 1)
           && last < bound;
}


static unsigned
payment_trace_digit(char c)
{
    return (unsigned) (c <= '9' ? c - '0' : c - 'a' + 10);
}


/* The grammar is that of level 2, which takes all that level 1 takes. */

size_t
payment_trace_state(char out[PAYMENT_TRACESTATE_LEN], const char *text,
    size_t len)
{
    char                    *p;
    size_t                   i, n;
    payment_trace_member_t   whole, members[PAYMENT_TRACE_MEMBERS];

    whole.text = text;
    whole.len = len;
    payment_trace_trim(&whole);

    n = payment_trace_split(members, &whole);

    if (n == 0) {
        return 0;
    }

    if (whole.len <= PAYMENT_TRACESTATE_LEN) {
        memcpy(out, whole.text, whole.len);
        return whole.len;
    }

    payment_trace_shorten(members, n);
    p = out;

    for (i = 0; i < n; i++) {

        if (members[i].len == 0) {
            continue;
        }

        if (p > out) {
            *p++ = ',';
        }

        memcpy(p, members[i].text, members[i].len);
        p += members[i].len;
    }

    return (size_t) (p - out);
}


/* Returns how many members there are, empty ones among them; 0: they are too
 * many, or all empty, or one of them is not what a member must be. */

static size_t
payment_trace_split(payment_trace_member_t members[PAYMENT_TRACE_MEMBERS],
    const payment_trace_member_t *whole)
{
    size_t       n, used;
    const char  *text, *end, *comma;

    text = whole->text;
    end = text + whole->len;
    used = 0;

    for (n = 0; text <= end; n++) {

        if (n == PAYMENT_TRACE_MEMBERS) {
            return 0;
        }

        comma = memchr(text, ',', (size_t) (end - text));

        if (comma == NULL) {
            comma = end;
        }

        members[n].text = text;
        members[n].len = (size_t) (comma - text);
        payment_trace_trim(&members[n]);

        if (members[n].len > 0) {

            if (!payment_trace_is_member(&members[n])) {
                return 0;
            }

            used++;
        }

        text = comma + 1;
    }

    return used ? n : 0;
}


/* Takes the white space at both ends away. */

static void
payment_trace_trim(payment_trace_member_t *m)
{
    while (m->len > 0 && (m->text[0] == ' ' || m->text[0] == '\t')) {
        m->text++;
        m->len--;
    }

    while (m->len > 0
           && (m->text[m->len - 1] == ' ' || m->text[m->len - 1] == '\t'))
    {
        m->len--;
    }
}


/* A key, an equals sign, a value, and nothing else. */

static int
payment_trace_is_member(const payment_trace_member_t *m)
{
    char         c;
    size_t       i, key, value;
    const char  *equals;

    equals = memchr(m->text, '=', m->len);

    if (equals == NULL) {
        return 0;
    }

    key = (size_t) (equals - m->text);
    value = m->len - key - 1;

    if (key == 0 || key > PAYMENT_TRACE_TEXT_LEN
        || value == 0 || value > PAYMENT_TRACE_TEXT_LEN)
    {
        return 0;
    }

    for (i = 0; i < key; i++) {
        c = m->text[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')
              || (i > 0 && memchr("_-*/@", c, 5) != NULL)))
        {
            return 0;
        }
    }

    for (i = key + 1; i < m->len; i++) {
        c = m->text[i];

        if (c < ' ' || c > '~' || c == '=') {
            return 0;
        }
    }

    return 1;
}


/* Leaves out members until the others fit, with commas between them. */

static void
payment_trace_shorten(payment_trace_member_t *members, size_t n)
{
    size_t  i, len;

    len = 0;

    for (i = 0; i < n; i++) {
        len += members[i].len ? members[i].len + 1 : 0;
    }

    len = payment_trace_leave_out(members, n, len, PAYMENT_TRACE_MEMBER_LEN);
    (void) payment_trace_leave_out(members, n, len, 0);
}


/* Those that are longer than most, from the last one on, as far as needed.  len
 * is that of all, with a comma behind each. */

static size_t
payment_trace_leave_out(payment_trace_member_t *members, size_t n, size_t len,
    size_t most)
{
    while (n-- > 0 && len > PAYMENT_TRACESTATE_LEN + 1) {

        if (members[n].len > most) {
            len -= members[n].len + 1;
            members[n].len = 0;
        }
    }

    return len;
}
