/*
 * From many ids to few conditions: which rows a statement is about, as SQL.
 * A range spans only ids that are in the list one by one; never a gap, since a
 * row may still be committed there.  Pure.
 *
 * A statement that deletes a range also locks the row that shows it the end,
 * and waits if somebody is still inserting that.  So a range leaves out the
 * last of its ids, which is then that row and ours, and goes to the list.
 *
 * Limits: writes no more than it is told, and says how many ids it covered.
 */

#ifndef PAYMENT_RANGES_H_INCLUDED
#define PAYMENT_RANGES_H_INCLUDED


#include <stddef.h>
#include <stdint.h>


/*
 * A range costs the server's optimizer two dives into the index, about 14 us;
 * an id in a list about 1 us.  So a range must be worth it.  At least 2.
 */
#define PAYMENT_RANGE_IDS_MIN   16

/* the longest "id BETWEEN a AND b OR " and the longest "a," */
#define PAYMENT_RANGE_LEN       64
#define PAYMENT_RANGE_ID_LEN    21


typedef struct {
    char    *ranges;        /* "id BETWEEN 1 AND 20 OR ..", not terminated */
    size_t   ranges_len;    /* 0: there is none */
    size_t   ranges_n;      /* ids in them */
    char    *singles;       /* "21,23,27", not terminated */
    size_t   singles_len;
    size_t   singles_n;
} payment_ranges_t;


/* Sorts the ids, which must differ. */

void payment_ranges_sort(uint64_t *ids, size_t n);

/*
 * Of sorted ids, as many as fit: the ranges into one buffer, the rest into
 * another.  Returns how many of the ids are covered, from the first on.
 */

size_t payment_ranges_write(payment_ranges_t *r, const uint64_t *ids, size_t n,
    char *ranges, size_t ranges_size, char *singles, size_t singles_size);


#endif /* PAYMENT_RANGES_H_INCLUDED */
