/*
 * Where a shard's table begins; see payment_floor.h.
 */

#include "payment_floor.h"


void
payment_floor_forget(payment_floor_t *f)
{
    f->id = 0;
    f->candidate = 0;
    f->since_ms = 0;
}


void
payment_floor_seen(payment_floor_t *f, uint64_t lowest, uint64_t began_ms,
    uint64_t ended_ms)
{
    if (f->candidate && lowest >= f->candidate) {

        if (began_ms < f->since_ms + PAYMENT_FLOOR_LAG_MS) {
            return;
        }

        f->id = f->candidate;
    }

    payment_floor_lower(f, lowest);

    f->candidate = lowest;
    f->since_ms = ended_ms;
}


void
payment_floor_lower(payment_floor_t *f, uint64_t id)
{
    if (id < f->id) {
        f->id = id;
    }

    if (id < f->candidate) {
        f->candidate = id;
    }
}
