/*
 * How soon the outbox reads again; see payment_pace.h.
 */

#include "payment_pace.h"


void
payment_pace_init(payment_pace_t *p, uint64_t max_ns)
{
    p->max_ns = max_ns;
    p->began_ns = 0;
    p->rate = 0;
    p->took_ns = PAYMENT_PACE_READ_NS;
}


/* What a read found came since the one before began. */

uint64_t
payment_pace_read(payment_pace_t *p, uint64_t began_ns, uint64_t ended_ns,
    uint32_t n)
{
    double    weight, meanwhile;
    uint64_t  since, took;

    since = (began_ns > p->began_ns) ? began_ns - p->began_ns : 1;
    p->began_ns = began_ns;

    weight = (double) since / (double) (since + PAYMENT_PACE_MEMORY_NS);
    p->rate += weight * ((double) n / (double) since - p->rate);

    took = (ended_ns > began_ns) ? ended_ns - began_ns : 0;
    took = (took > PAYMENT_PACE_READ_NS) ? took : PAYMENT_PACE_READ_NS;
    p->took_ns += ((double) took - p->took_ns) / PAYMENT_PACE_READS;

    meanwhile = p->rate * p->took_ns;

    if (meanwhile >= PAYMENT_PACE_FULL) {
        return p->max_ns;
    }

    return (uint64_t) ((double) p->max_ns * meanwhile / PAYMENT_PACE_FULL);
}
