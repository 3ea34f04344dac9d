/*
 * From many ids to few conditions; see payment_ranges.h.
 */

#include <stdlib.h>

#include "payment_ranges.h"


static int payment_ranges_compare(const void *one, const void *two);
static char *payment_ranges_text(char *p, const char *text);
static char *payment_ranges_number(char *p, uint64_t n);


void
payment_ranges_sort(uint64_t *ids, size_t n)
{
    size_t  i;

    /* mostly they come in order */

    for (i = 1; i < n; i++) {
        if (ids[i - 1] > ids[i]) {
            qsort(ids, n, sizeof(uint64_t), payment_ranges_compare);
            return;
        }
    }
}


size_t
payment_ranges_write(payment_ranges_t *r, const uint64_t *ids, size_t n,
    char *ranges, size_t ranges_size, char *singles, size_t singles_size)
{
    char    *p, *s;
    size_t   i, run;

    r->ranges = ranges;
    r->ranges_n = 0;
    r->singles = singles;
    r->singles_n = 0;

    p = ranges;
    s = singles;

    for (i = 0; i < n; i += run) {

        run = 1;

        while (i + run < n && ids[i + run] == ids[i] + run) {
            run++;
        }

        if (run >= PAYMENT_RANGE_IDS_MIN) {

            if ((size_t) (p - ranges) + PAYMENT_RANGE_LEN > ranges_size) {
                break;
            }

            /* the last of the run is left to the singles */
            run--;

            p = payment_ranges_text(p, r->ranges_n ? " OR id BETWEEN "
                                                   : "id BETWEEN ");
            p = payment_ranges_number(p, ids[i]);
            p = payment_ranges_text(p, " AND ");
            p = payment_ranges_number(p, ids[i + run - 1]);

            r->ranges_n += run;
            continue;
        }

        if ((size_t) (s - singles) + PAYMENT_RANGE_ID_LEN > singles_size) {
            break;
        }

        /* one by one, so that what fits is taken */
        run = 1;

        if (r->singles_n) {
            *s++ = ',';
        }

        s = payment_ranges_number(s, ids[i]);
        r->singles_n++;
    }

    r->ranges_len = (size_t) (p - ranges);
    r->singles_len = (size_t) (s - singles);

    return i;
}


static int
payment_ranges_compare(const void *one, const void *two)
{
    uint64_t  a, b;

    a = *(const uint64_t *) one;
    b = *(const uint64_t *) two;

    return (a > b) - (a < b);
}


static char *
payment_ranges_text(char *p, const char *text)
{
    while (*text) {
        *p++ = *text++;
    }

    return p;
}


static char *
payment_ranges_number(char *p, uint64_t n)
{
    char    digits[20];
    size_t  len;

    len = 0;

    do {
        digits[len++] = (char) ('0' + n % 10);
        n /= 10;
    } while (n);

    while (len) {
        *p++ = digits[--len];
    }

    return p;
}
