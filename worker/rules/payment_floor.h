/*
 * Where a shard's table begins: an id below which no row is, and none will
 * come.  Whoever looks for rows from there on need not go over those that were
 * deleted before, which InnoDB keeps for as long as anybody has a snapshot open
 * that may show them.  Pure.
 *
 * The lowest id that there is, also among rows that are not committed yet, is
 * such an id, but for one case: a statement takes its ids a moment before it
 * writes its first row.  So the lowest id counts when it is
 * PAYMENT_FLOOR_LAG_MS old and nothing has come below it since; workers wait
 * for a lock for 1 s, and for their disk they wait with everybody else.
 *
 * What comes below all the same is no commit of a worker: a replay, whose ids
 * are told here, and a table that was emptied or restored, which the caller has
 * to look for.
 *
 * The reader keeps a second one, of rows that it does not know: where those
 * begin it looks for late ones.  There, "row" means "unknown row".
 *
 * Limits: constant time, and three numbers.
 */

#ifndef PAYMENT_FLOOR_H_INCLUDED
#define PAYMENT_FLOOR_H_INCLUDED


#include <stdint.h>


#define PAYMENT_FLOOR_LAG_MS    2000


typedef struct {
    uint64_t   id;              /* 0: it is not known */
    uint64_t   candidate;       /* it will be that, if nothing comes below */
    uint64_t   since_ms;        /* when the candidate was seen */
} payment_floor_t;


/* Nothing is known any more. */

void payment_floor_forget(payment_floor_t *f);

/* A look that began and ended at these times, monotonic, saw no row below an
 * id; committed or not. */

void payment_floor_seen(payment_floor_t *f, uint64_t lowest,
    uint64_t began_ms, uint64_t ended_ms);

/* Rows may be there, from this id on. */

void payment_floor_lower(payment_floor_t *f, uint64_t id);


#endif /* PAYMENT_FLOOR_H_INCLUDED */
