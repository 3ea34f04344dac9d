/*
 * The time that somebody had for what they were asked; see payment_stopwatch.h.
 */

#include "payment_stopwatch.h"


void
payment_stopwatch_init(payment_stopwatch_t *w, uint64_t now_ns,
    uint64_t gap_ns)
{
    w->seen_ns = now_ns;
    w->time_ns = now_ns;
    w->held_until_ns = 0;
    w->gap_ns = gap_ns;
    w->stood_ns = 0;
}


uint64_t
payment_stopwatch_look(payment_stopwatch_t *w, uint64_t now_ns)
{
    uint64_t  from;

    if (now_ns <= w->seen_ns) {
        return w->time_ns;
    }

    from = w->seen_ns > w->held_until_ns ? w->seen_ns : w->held_until_ns;

    if (now_ns - w->seen_ns > w->gap_ns) {
        w->stood_ns = w->time_ns;

    } else if (now_ns > from) {
        w->time_ns += now_ns - from;
    }

    w->seen_ns = now_ns;

    return w->time_ns;
}


void
payment_stopwatch_hold(payment_stopwatch_t *w, uint64_t now_ns,
    uint64_t until_ns)
{
    (void) payment_stopwatch_look(w, now_ns);

    if (until_ns > w->held_until_ns) {
        w->held_until_ns = until_ns;
    }
}
