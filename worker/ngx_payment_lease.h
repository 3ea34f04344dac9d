/*
 * The lease of a shard: the statements of payment_lease_rules.h, sent and
 * answered as a job of the fenced connection, so that they never run beside a
 * fenced statement of our own.
 *
 * Owner: the helper process.
 * Limits: one statement in flight, for times.statement_ms at most; a lease
 * that is being given back waits for at_most_ms, at the longest, until what
 * Kafka has is deleted.
 */

#ifndef NGX_PAYMENT_LEASE_H
#define NGX_PAYMENT_LEASE_H

#include "ngx_payment_fence.h"


/*
 * A node that waits for the lease asks several times a second, and its UPDATE
 * would lock the row that the holder's transactions lock.  So it looks first,
 * without a lock, and takes the lease only when that says that it can.
 */

typedef enum {
    NGX_PAYMENT_LEASE_LOOK_NONE = 0,
    NGX_PAYMENT_LEASE_LOOKING,
    NGX_PAYMENT_LEASE_LOOK_FREE    /* take it */
} ngx_payment_lease_look_e;


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_fence_t         *fence;

    payment_lease_action_e       action;      /* the statement in flight */
    ngx_payment_lease_look_e     look;        /* before an ACQUIRE */
    ngx_payment_db_stmt_t       *change;      /* what it changes */
    ngx_payment_db_stmt_t       *answer;      /* what is asked then */
    ngx_event_t                  timer;       /* the next step is due */
    uint64_t                     drain_until_ms;  /* it is given back then */
    uint64_t                     ahead_since_ms;  /* another's lease ends too
                                                     late; 0: it does not */
} ngx_payment_lease_t;


/* Wants the lease from now on. */
void ngx_payment_lease_open(ngx_payment_lease_t *l);
void ngx_payment_lease_close(ngx_payment_lease_t *l);

/* a job of the fence */
ngx_int_t ngx_payment_lease_step(void *part, uint64_t now_ms);
void ngx_payment_lease_done(void *part, ngx_uint_t lost);

#endif /* NGX_PAYMENT_LEASE_H */
