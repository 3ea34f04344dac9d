/*
 * Forgets idempotency keys older than their retention.  Done by the holder of
 * the lease, on the fenced connection while that has nothing better to do.
 *
 * idempotency_key has no index by age, on purpose, so the old ones are found by
 * a walk along the primary key, some hundred keys at a step.  The keys are
 * hashes, so how far the walk has come is how much of the table it has seen; it
 * is paced to take an eighth of the retention.  A key is forgotten at most that
 * much later than it could be.  The position is in shared memory, so that the
 * next helper goes on where the last one stopped.
 *
 * Looking takes no lock.  Deletion names the keys one by one, at most
 * NGX_PAYMENT_PURGE_MAX, and so waits for nobody who inserts beside them.
 *
 * Owner: the helper process.
 * Limits: one step in flight; a fifth of the connection's time at most.
 */

#ifndef NGX_PAYMENT_PURGE_H
#define NGX_PAYMENT_PURGE_H

#include "ngx_payment_fence.h"


/* Keys of a step, and of one that is behind its plan.  What payments feel of it
 * is how long it takes (bench/upkeep.sh); but each has its price besides. */
#define NGX_PAYMENT_PURGE_STEP        500
#define NGX_PAYMENT_PURGE_STEP_LATE   2000
#define NGX_PAYMENT_PURGE_LATE        1000      /* ms */

/* a quarter of a step's keys is deleted at once */
#define NGX_PAYMENT_PURGE_MAX         (NGX_PAYMENT_PURGE_STEP_LATE / 4)


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_fence_t         *fence;

    ngx_payment_db_stmt_t       *end_stmt;    /* a look: where it ends */
    ngx_payment_db_stmt_t       *old_stmt;    /* a look: which are old */

    ngx_uint_t                   step;        /* keys that it looks at */
    u_char                       end[16];     /* of the step under way */
    ngx_uint_t                   n;           /* keys to delete; 0: look */
    ngx_str_t                    sql;         /* deletes them */
    uint64_t                     step_ms;     /* when the step began */
    uint64_t                     next_ms;
} ngx_payment_purge_t;


ngx_int_t ngx_payment_purge_init(ngx_payment_purge_t *p);

/* a job of the fence */
ngx_int_t ngx_payment_purge_step(void *part, uint64_t now_ms);
void ngx_payment_purge_done(void *part, ngx_uint_t lost);

#endif /* NGX_PAYMENT_PURGE_H */
