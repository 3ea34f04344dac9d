/*
 * W3C's trace context: is a traceparent header one, and what is it in the
 * version that is spoken here, 00.
 *
 * Pure; any process.
 */

#include <string.h>

#include "payment.h"


static int payment_trace_hex(const char *text, size_t len, int *zeros);


int
payment_trace_parse(char out[PAYMENT_TRACEPARENT_LEN], const char *text,
    size_t len)
{
    int  no_trace, no_parent, any;

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
