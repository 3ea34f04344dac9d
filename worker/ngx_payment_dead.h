/*
 * Dead letters: rows that Kafka will not take are moved to outbox_dead, and an
 * operator has them replayed.
 *
 * With "block", an event whose payment has a dead letter follows it there, so
 * that nothing of the payment is published out of order, and nothing that can
 * not be published fills the table of known events.
 *
 * An event is its payment and its version, here as there: a letter that is in
 * outbox_dead already is not put there twice, one whose id is that of another
 * letter gets a new one, and no row is deleted that has no letter.  A replay
 * puts the payment's letters in front of all that waits, in the order of their
 * versions, whatever their ids were.
 *
 * The letters that are there are counted once a second, for the gauge, in an
 * exchange of its own, which is cut short after 0.1 s: it shares its connection
 * with the lease.
 *
 * Owner: the helper process.
 * Limits: one dead letter at a time, NGX_PAYMENT_DEAD_FOLLOWERS of those that
 * follow; one replay, with all of its payment; NGX_PAYMENT_DEAD_COUNT letters
 * are counted.
 */

#ifndef NGX_PAYMENT_DEAD_H
#define NGX_PAYMENT_DEAD_H

#include "ngx_payment_fence.h"


#define NGX_PAYMENT_DEAD_FOLLOWERS    500
#define NGX_PAYMENT_DEAD_COUNT        10000   /* more are shown as so many */


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_fence_t         *fence;
    const char                *(*reason)(payment_event_t *e);

    ngx_payment_db_stmt_t       *work;        /* the statement that counts */
    ngx_payment_db_stmt_t       *place;       /* of a replay: where it goes */
    uint64_t                     replay_id;   /* dead letter; 0: none */
    ngx_payment_db_stmt_t       *count;       /* how many letters there are */
    uint64_t                     count_at_ms; /* they are counted again */
    unsigned                     replaying:1; /* its exchange is under way */
} ngx_payment_dead_t;


/* An operator wants a dead letter to be published: replayed() follows. */
void ngx_payment_dead_want_replay(ngx_payment_dead_t *d, uint64_t id);

/* NGX_OK: a replay was wanted and had not begun, and will not be done. */
ngx_int_t ngx_payment_dead_cancel_replay(ngx_payment_dead_t *d);

/* jobs of the fence */
ngx_int_t ngx_payment_dead_step(void *part, uint64_t now_ms);
void ngx_payment_dead_done(void *part, ngx_uint_t lost);

ngx_int_t ngx_payment_dead_replay_step(void *part, uint64_t now_ms);
void ngx_payment_dead_replay_done(void *part, ngx_uint_t lost);

ngx_int_t ngx_payment_dead_count_step(void *part, uint64_t now_ms);
void ngx_payment_dead_count_done(void *part, ngx_uint_t lost);

#endif /* NGX_PAYMENT_DEAD_H */
