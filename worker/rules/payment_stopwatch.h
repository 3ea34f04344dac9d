/*
 * The time that somebody who is asked to do something has had for it.  It goes
 * with the clock, and stands still while they are not to blame for waiting:
 * while they are held, and while this process did not run (SIGSTOP, a virtual
 * machine that is moved), so that it could hear no answer.  Pure: no clock, no
 * I/O.
 *
 * That the process did not run is what PAYMENT_STOPWATCH_GAP_NS without a look
 * at the stopwatch tells: so it is to be looked at more often than that.
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
} payment_stopwatch_t;


void payment_stopwatch_init(payment_stopwatch_t *w, uint64_t now_ns);

/* Its time, in ns, which is never 0 if the clock was not when it began. */

uint64_t payment_stopwatch_look(payment_stopwatch_t *w, uint64_t now_ns);

/* It stands still until then by the clock.  Until the latest of several. */

void payment_stopwatch_hold(payment_stopwatch_t *w, uint64_t now_ns,
    uint64_t until_ns);


#endif /* PAYMENT_STOPWATCH_H_INCLUDED */
