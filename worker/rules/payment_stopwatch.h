/*
 * The time that somebody who is asked to do something has had for it.  It goes
 * with the clock, and stands still while they are not to blame for waiting:
 * while they are held, and while this process did not run (SIGSTOP, a virtual
 * machine that is moved), so that it could hear no answer.  Pure: no clock, no
 * I/O.
 *
 * That the process did not run is what a gap between two looks at the stopwatch
 * tells, of PAYMENT_STOPWATCH_GAP_NS or what its owner says: so it is to be
 * looked at more often than that.
 *
 * Owner: the helper process; its producer has one.
 * Limits: constant time; it never goes back, whatever the clock that it is
 * told.
 */

#ifndef PAYMENT_STOPWATCH_H_INCLUDED
#define PAYMENT_STOPWATCH_H_INCLUDED


#include <stdint.h>


#define PAYMENT_STOPWATCH_GAP_NS  UINT64_C(500000000)


typedef struct {
    uint64_t  seen_ns;            /* the clock, at the last look, */
    uint64_t  time_ns;            /* and this time */
    uint64_t  held_until_ns;      /* by the clock */
    uint64_t  gap_ns;             /* longer ones are not counted */
    uint64_t  stood_ns;           /* its time in the latest of these */
} payment_stopwatch_t;


void payment_stopwatch_init(payment_stopwatch_t *w, uint64_t now_ns,
    uint64_t gap_ns);

/* Its time, in ns, which is never 0 if the clock was not when it began. */

uint64_t payment_stopwatch_look(payment_stopwatch_t *w, uint64_t now_ns);

/* Has the process run ever since that time of the stopwatch, so that what took
 * from then until now was measured? */

static inline int
payment_stopwatch_ran(const payment_stopwatch_t *w, uint64_t since_ns)
{
    return since_ns > w->stood_ns;
}


/* It stands still until then by the clock.  Until the latest of several. */

void payment_stopwatch_hold(payment_stopwatch_t *w, uint64_t now_ns,
    uint64_t until_ns);


#endif /* PAYMENT_STOPWATCH_H_INCLUDED */
