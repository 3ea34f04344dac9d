/*
 * The lease of a shard's outbox as its holder sees it: what to ask the
 * database and when, until when to produce, when to hand over.  Pure: no
 * clock, no I/O, no allocation, no global; the caller sends the statements.
 *
 * Owner: the helper process; one payment_lease_node_t for the helper's life,
 * one payment_lease_t a shard; one thread.
 * Limits: 64 nodes in view; leases of 1 s to a day; one statement in flight a
 * lease.
 *
 *
 * THE STATEMENTS
 *
 * Table outbox_lease in the shard's own database, in its time, so that the
 * nodes' clocks don't matter.  NOW stands for UTC_TIMESTAMP(3), PROLONGED for
 *
 *   LEAST(GREATEST(lock_until, NOW + at_most), NOW + at_most + 1 minute)
 *
 *   ACQUIRE  UPDATE SET epoch = LAST_INSERT_ID(epoch + 1), owner_uuid = :me,
 *              locked_by = :host, locked_at = NOW, lock_until = PROLONGED
 *            WHERE name = :lease
 *              AND (lock_until <= NOW - :grace OR owner_uuid = :me)
 *            1 row: on_acquired(), epoch = insert id; else on_refused()
 *   EXTEND   UPDATE SET lock_until = PROLONGED
 *            WHERE name = :lease AND owner_uuid = :me AND epoch = :epoch
 *              AND lock_until > NOW
 *            a row matched: on_extended(); else on_lost()
 *   RELEASE  UPDATE SET owner_uuid = '', lock_until = GREATEST(NOW,
 *              LEAST(locked_at + at_least, NOW + at_least))
 *            WHERE name = :lease AND owner_uuid = :me AND epoch = :epoch
 *            any count: on_released()
 *   BEAT     INSERT (name, lock_until, locked_at, locked_by, epoch,
 *              owner_uuid)
 *            VALUES (CONCAT('node/', :me), NOW + alive, NOW, :host, :told,
 *              :me)
 *            ON DUPLICATE KEY UPDATE lock_until = VALUES(lock_until),
 *              epoch = VALUES(epoch);
 *            SELECT name, epoch, owner_uuid
 *            WHERE name = :lease
 *              OR (name LIKE 'node/%' AND lock_until > NOW)
 *            view_begin(), view_node() for each node, on_view()
 *   LEAVE    DELETE WHERE name = CONCAT('node/', :me), and, to sweep after
 *            the dead, any node row out of date for an hour; on_done()
 *   INSERT   INSERT IGNORE (:lease, NOW + at_most, NOW, '',
 *              FLOOR(UNIX_TIMESTAMP(NOW) * 1000), '')
 *            on_done()
 *
 * Rows matched are meant, not rows changed (CLIENT_FOUND_ROWS): PROLONGED may
 * change nothing.  When a statement got no answer by the time that
 * payment_lease_next() says, or an error: close that connection, on_error().
 *
 * The statement may still take effect later, and each does no harm then.  The
 * fences are owner and epoch; ACQUIRE takes again what is ours unawares, and
 * may name, beside :me, earlier lives of this node that are known to be dead.
 * MariaDB takes NOW when a statement starts, so one that waits for a row lock
 * comes with an old NOW: GREATEST, so that it can't shorten what a later one
 * has got.  LEAST, so that a clock set back can't make a lease last for hours;
 * it leaves a minute, which innodb_lock_wait_timeout of this session must be
 * well below.
 *
 * AHEAD is lock_until > NOW + at_most + 61 s, which no statement writes: the
 * clock was set back since by more than that, and the lease's holder, if it
 * lives, puts it right with its next EXTEND.  A node that has found it so for
 * at_most by its own clock, without a break, may ACQUIRE with "OR AHEAD": the
 * holder's own deadline has passed by then.  So a holder that dies while the
 * clock is set back is waited for until at_most and a minute have passed, and
 * no longer.
 *
 * INSERT is for a row that somebody deleted.  The old holder may not know yet,
 * so the new row is nobody's for a full at_most, and its epoch is above all
 * earlier ones, since a lease changes hands less than once a millisecond.  The
 * migration puts in the first row, out of date, so that nobody waits for it.
 *
 *
 * WHY NO TWO PRODUCE AT ONCE
 *
 * The database gives out the lease until T = (start of the statement) +
 * at_most.  The holder counts from before it sent the statement and stops a
 * margin earlier.  The margin covers clocks that run at different speeds, a
 * late look at the clock, and messages on the way.  Only a database clock that
 * jumps ahead breaks this; then the old holder learns of its loss with its
 * next EXTEND, at most a third of at_most later, and every statement that
 * deletes or moves rows carries owner and epoch and finds nothing to do.
 *
 *
 * FAIR SHARES
 *
 * Each node's own row tells how many leases it holds.  A node that wants a
 * free lease gives way to those with fewer: it asks only for one that has been
 * free for (number of live nodes with fewer) x handicap.  A node that holds at
 * least two more than the poorest live one, and is the richest (of equals, the
 * smallest uuid), hands one over: stops producing, waits for what is in
 * flight, releases; the poorest comes first by the handicap.  So counts end
 * within one of each other, and a lease moves only when that helps.  Errors
 * here cost fairness for a while, never safety.
 *
 * A node that can't publish a shard's events tells so by a number of leases
 * above every real one, PAYMENT_LEASE_UNABLE more than it has.  So it gives
 * way to all others; and if it has the lease, and another live node does not
 * tell the same, it hands that lease over.
 */

#ifndef PAYMENT_LEASE_RULES_H_INCLUDED
#define PAYMENT_LEASE_RULES_H_INCLUDED


#include <stddef.h>
#include <stdint.h>


#define PAYMENT_LEASE_AT_MOST_MS_MIN  1000
#define PAYMENT_LEASE_AT_MOST_MS_MAX  86400000
#define PAYMENT_LEASE_STALE_MS_MAX    60000
#define PAYMENT_LEASE_NODES_MAX       64
#define PAYMENT_LEASE_UUID_LEN        36
#define PAYMENT_LEASE_NEVER           UINT64_MAX
#define PAYMENT_LEASE_UNABLE          1000000

/* Of poorer nodes, how many are waited for: one that has died, but whose row
 * still vouches for it, must not keep others from the lease for long. */
#define PAYMENT_LEASE_RANK_MAX        4


typedef struct {
    uint64_t                  at_most_ms;
    uint64_t                  at_least_ms;
} payment_lease_conf_t;


/* all that follows from at_most; in milliseconds */

typedef struct {
    uint64_t                  extend_ms;     /* a third of at_most */
    uint64_t                  margin_ms;     /* stop producing so early */
    uint64_t                  statement_ms;  /* longest wait for an answer */
    uint64_t                  retry_ms;      /* after an error */
    uint64_t                  interval_ms;   /* between two ACQUIREs */
    uint64_t                  handicap_ms;   /* for each poorer node */
    uint64_t                  beat_ms;
    uint64_t                  alive_ms;      /* what a BEAT vouches for */
    uint64_t                  hand_over_ms;  /* between two of a node */
} payment_lease_times_t;


/* what the caller is to do now */

typedef enum {
    PAYMENT_LEASE_WAIT = 0,
    PAYMENT_LEASE_BEAT,
    PAYMENT_LEASE_ACQUIRE,
    PAYMENT_LEASE_EXTEND,
    PAYMENT_LEASE_RELEASE,
    PAYMENT_LEASE_INSERT,
    PAYMENT_LEASE_LEAVE
} payment_lease_action_e;


typedef enum {
    PAYMENT_LEASE_FREE = 0,      /* not ours */
    PAYMENT_LEASE_HELD,
    PAYMENT_LEASE_DRAINING,      /* ours; hand out nothing, wait for reports */
    PAYMENT_LEASE_RELEASING      /* nothing is in flight any more */
} payment_lease_state_e;


typedef struct {
    payment_lease_conf_t      conf;
    payment_lease_times_t     times;
    char                      uuid[PAYMENT_LEASE_UUID_LEN + 1];
    uint64_t                  random;

    uint32_t                  held;          /* leases in HELD */
    uint32_t                  acquiring;     /* ACQUIREs in flight */
    uint64_t                  hand_over_at;  /* not before */
} payment_lease_node_t;


typedef struct {
    char                      uuid[PAYMENT_LEASE_UUID_LEN + 1];
    uint32_t                  held;
} payment_lease_peer_t;


typedef struct {
    payment_lease_node_t     *node;

    payment_lease_state_e     state;
    uint64_t                  epoch;         /* while the state is not FREE */
    uint64_t                  grace_ms;      /* for the ACQUIRE in flight */

    payment_lease_action_e    sent;          /* the statement in flight */
    uint64_t                  sent_at;

    uint64_t                  acquired_at;   /* when we heard of it */
    uint64_t                  deadline;      /* produce before */
    uint64_t                  extend_at;
    uint64_t                  acquire_at;
    uint64_t                  release_at;
    uint64_t                  beat_at;

    unsigned                  unable:1;      /* to publish this shard */
    unsigned                  wanted:1;
    unsigned                  announced:1;   /* our node row may exist */
    unsigned                  missing:1;     /* the lease's row does not */

    /* the other live nodes, by the last BEAT */
    payment_lease_peer_t      peers[PAYMENT_LEASE_NODES_MAX];
    uint32_t                  npeers;
    uint64_t                  viewed_at;     /* 0: never, or being read */
    uint32_t                  surplus_seen;  /* views in a row */

    /* for the status */
    uint64_t                  lost_total;
    uint64_t                  handed_over_total;
} payment_lease_t;


/* NULL when all is well, else a sentence that names the wrong directive */

const char *payment_lease_conf_check(const payment_lease_conf_t *conf);

void payment_lease_times(uint64_t at_most_ms, payment_lease_times_t *times);


/* conf is valid, the uuid this process life's own, the seed any number */

void payment_lease_node_init(payment_lease_node_t *node,
    const payment_lease_conf_t *conf, const char *uuid, uint64_t seed);

/* wanted from now on */

void payment_lease_init(payment_lease_t *lease, payment_lease_node_t *node,
    uint64_t now_ms);


/*
 * Times are monotonic milliseconds.  now of payment_lease_next() must not be
 * later than the sending of the statement (a time cached by the event loop is
 * fine), now of payment_lease_may_produce() must be fresh.
 *
 * Ask after each answer and at *until: an action that is not WAIT counts as
 * sent, and is to be sent now, or payment_lease_on_error() called.  While a
 * statement is in flight *until is when to give it up.
 */

payment_lease_action_e payment_lease_next(payment_lease_t *lease,
    uint64_t now_ms, uint64_t *until_ms);

void payment_lease_on_acquired(payment_lease_t *lease, uint64_t now_ms,
    uint64_t epoch);
void payment_lease_on_refused(payment_lease_t *lease, uint64_t now_ms);
void payment_lease_on_extended(payment_lease_t *lease, uint64_t now_ms);

void payment_lease_on_lost(payment_lease_t *lease, uint64_t now_ms);
void payment_lease_on_released(payment_lease_t *lease, uint64_t now_ms);
void payment_lease_on_done(payment_lease_t *lease, uint64_t now_ms);
void payment_lease_on_error(payment_lease_t *lease, uint64_t now_ms);

void payment_lease_view_begin(payment_lease_t *lease);
void payment_lease_view_node(payment_lease_t *lease, const char *uuid,
    uint64_t held);
void payment_lease_on_view(payment_lease_t *lease, uint64_t now_ms,
    int row_present);


/* At any time: can this node publish the shard's events? */

void payment_lease_set_able(payment_lease_t *lease, uint64_t now_ms, int able);

/* what a BEAT tells: how many leases the node has */

uint64_t payment_lease_told(const payment_lease_t *lease);


/*
 * At any time: a fenced statement found that the lease is not ours any more.
 * The lease's own statement in flight, if any, is still to be answered for.
 */

void payment_lease_on_fenced(payment_lease_t *lease, uint64_t now_ms);

/* nothing is in flight to Kafka, or the caller won't wait for it any longer */

void payment_lease_on_drained(payment_lease_t *lease, uint64_t now_ms);

/* stop: drain, release, leave.  start: want it again, as after init */

void payment_lease_stop(payment_lease_t *lease, uint64_t now_ms);
void payment_lease_start(payment_lease_t *lease, uint64_t now_ms);

/* after a stop: everything is given back */

int payment_lease_gone(const payment_lease_t *lease);


/* false also when HELD but not extended in time; it may come back */

int payment_lease_may_produce(const payment_lease_t *lease, uint64_t now_ms);

/* how long yet; a message handed out should not live longer */

uint64_t payment_lease_remaining(const payment_lease_t *lease,
    uint64_t now_ms);


#endif /* PAYMENT_LEASE_RULES_H_INCLUDED */
