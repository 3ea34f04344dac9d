/*
 * Ends authorizations whose lifetime is over: what was not captured is
 * released.  Done by the holder of the lease, on the fenced connection while
 * that has nothing better to do.
 *
 * payment_expiry is a queue in order of time, with a row for each authorization
 * that has a lifetime.  A look takes the first rows whose time has come by the
 * database's clock, and waits for nobody.  Those
 * whose payments are still open become a change of state, an event and, where
 * operations are kept, an operation, in one fenced exchange: it locks the
 * payments and leaves out those that somebody else holds or has changed since,
 * which the next step looks at again.  A capture that has the lock first is
 * done, and then there is nothing, or less, to release; one that comes later
 * finds the payment expired.
 *
 * A step has NGX_PAYMENT_EXPIRY_CALM rows, however many are overdue: payments
 * that are made meanwhile do not feel it.  Only while more authorizations
 * expire in a second than half of what such steps can end, steps double, up to
 * NGX_PAYMENT_EXPIRY_STEP rows.
 *
 * A step that the database refuses is tried again with half of its rows, and in
 * the end with one: if that is refused, too, the next looks begin behind it,
 * until the end of the queue is reached.  So one row that cannot be changed
 * does not keep all others.
 *
 * While anybody has a snapshot open, InnoDB keeps the rows that were deleted
 * since, and a look that begins before them goes over all of them.  So looks
 * begin at the floor: the first row that the last one saw, or
 * NGX_PAYMENT_EXPIRY_LAG_MS before its time if that is earlier.  A row is
 * written with a time to come, so that it is not below that unless its commit
 * took longer than its lifetime and the lag together.  Others may be: after the
 * database's clock was set or a table restored, or by an operator's hand.
 * They are found by a look of its own, at all that is below the floor, once a
 * second.  A look is cut short after 0.5 s.  If it was one below the floor,
 * the next asks for one row only, which is done by itself: the rows that come
 * first are found so, and those behind too many deleted ones when the snapshot
 * is closed.  If it was one from the floor, or from the head, where nothing is
 * known yet, the next ones begin NGX_PAYMENT_EXPIRY_BACK seconds ago, and ever
 * later, until one is not cut short.
 *
 * Owner: the helper process.
 * Limits: one step in flight; a fifth of the connection's time at most, and a
 * twentieth for looks below the floor.
 */

#ifndef NGX_PAYMENT_EXPIRY_H
#define NGX_PAYMENT_EXPIRY_H

#include "ngx_payment_fence.h"
#include "ngx_payment_storm.h"
#include "payment.h"


/* rows of the queue, of one step */
#define NGX_PAYMENT_EXPIRY_CALM       8
#define NGX_PAYMENT_EXPIRY_STEP       64

/* s: where looks begin when one from the head was cut short: 30 days ago, and a
 * quarter of that with each one more that is */
#define NGX_PAYMENT_EXPIRY_BACK       (30 * 86400)

#define NGX_PAYMENT_EXPIRY_LAG_MS     30000


/* a place in the queue */

typedef struct {
    uint64_t                     time_us;       /* Unix time, the database's */
    uint8_t                      id[PAYMENT_ID_SIZE];
} ngx_payment_expiry_place_t;


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_fence_t         *fence;

    /* a look: the head of the queue, and how long that is; NULL: not asked */
    ngx_payment_db_stmt_t       *head_stmt;
    ngx_payment_db_stmt_t       *count_stmt;

    /* a change: which payments are locked, and what became of them; NULL where
     * operations are not kept */
    ngx_payment_db_stmt_t       *lock_stmt;
    ngx_payment_db_stmt_t       *update_stmt;
    ngx_payment_db_stmt_t       *event_stmt;
    ngx_payment_db_stmt_t       *operation_stmt;
    ngx_payment_db_stmt_t       *delete_stmt;

    /* the step under way, as pieces of SQL */
    ngx_uint_t                   max;           /* rows */
    ngx_uint_t                   pace;          /* rows of the next one, unless
                                                   the database refuses it */
    ngx_uint_t                   seen;          /* rows; 0: look */
    ngx_uint_t                   limit;         /* rows of the look */
    uint64_t                     epoch;         /* of the lease, at the look */
    ngx_uint_t                   doubts;        /* likewise */
    ngx_uint_t                   n;             /* that are to expire */
    ngx_uint_t                   closed;        /* that need not */
    ngx_uint_t                   more;          /* the queue may have others */
    int64_t                      clock_ms;      /* the database's */
    uint8_t                      taken[NGX_PAYMENT_EXPIRY_STEP]
                                      [PAYMENT_ID_SIZE];
    ngx_str_t                    ids;
    ngx_str_t                    versions;
    ngx_str_t                    events;
    ngx_str_t                    rows;          /* of the queue */
    ngx_str_t                    done;          /* those that are closed */
    uint64_t                     last_us;       /* when the last row's time
                                                   came */

    /* behind which row to look, as a condition; empty: from the floor */
    ngx_str_t                    behind;

    ngx_payment_expiry_place_t   floor;         /* if it is known */
    ngx_uint_t                   back;          /* else: from so many seconds
                                                   ago on; 0: from the head */
    uint64_t                     below_ms;      /* when to look below it next */
    unsigned                     known:1;       /* the floor is */
    unsigned                     below:1;       /* the step is one below it */
    unsigned                     single:1;      /* of one row, if it is */

    uint64_t                     step_ms;       /* when the step began */
    uint64_t                     next_ms;
    uint64_t                     count_ms;      /* when to count next */
    uint64_t                     counted_ms;    /* when it was, */
    ngx_uint_t                   swept;         /* and rows since then */
    ngx_payment_storm_t          refusals;      /* lines about single rows */
} ngx_payment_expiry_t;


ngx_int_t ngx_payment_expiry_init(ngx_payment_expiry_t *x);

/* a job of the fence */
ngx_int_t ngx_payment_expiry_step(void *part, uint64_t now_ms);
void ngx_payment_expiry_done(void *part, ngx_uint_t lost);

#endif /* NGX_PAYMENT_EXPIRY_H */
