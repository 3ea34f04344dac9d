/*
 * The rules of a lease; see payment_lease_rules.h for the protocol and why it
 * is sound.
 *
 * Owner: the helper process; one thread.
 * Limits: a view of 64 nodes is walked once a beat; all else is constant.
 */

#include <assert.h>
#include <string.h>

#include "payment_lease_rules.h"


/* One view may have seen the poorer node between giving up one lease and
 * taking the next, so two views in a row must agree. */

#define PAYMENT_LEASE_SURPLUS_VIEWS  2


static payment_lease_action_e payment_lease_due(payment_lease_t *lease,
    uint64_t now_ms, uint64_t *until_ms);
static int payment_lease_at(uint64_t at_ms, uint64_t now_ms,
    uint64_t *until_ms);
static uint64_t payment_lease_grace(const payment_lease_t *lease,
    uint64_t now_ms);
static void payment_lease_lose(payment_lease_t *lease, uint64_t now_ms);
static int payment_lease_is_surplus(const payment_lease_t *lease,
    uint64_t now_ms);
static payment_lease_action_e payment_lease_answered(payment_lease_t *lease);
static void payment_lease_set_state(payment_lease_t *lease,
    payment_lease_state_e state);
static void payment_lease_renew(payment_lease_t *lease, uint64_t sent_at);
static uint64_t payment_lease_jitter(payment_lease_node_t *node, uint64_t ms);
static uint64_t payment_lease_min(uint64_t a, uint64_t b);
static uint64_t payment_lease_max(uint64_t a, uint64_t b);


const char *
payment_lease_conf_check(const payment_lease_conf_t *conf)
{
    if (conf->at_most_ms < PAYMENT_LEASE_AT_MOST_MS_MIN
        || conf->at_most_ms > PAYMENT_LEASE_AT_MOST_MS_MAX)
    {
        return "payment_outbox_lock_at_most_for must be between 1s and 1d";
    }

    if (conf->at_least_ms > conf->at_most_ms) {
        return "payment_outbox_lock_at_least_for must not be longer than "
               "payment_outbox_lock_at_most_for";
    }

    return NULL;
}


/*
 * For 1 s and 30 s: extend after 333 and 10000, stop 100 and 1000 early, give
 * a statement 250 and 5000, try again after 50 and 250, ask every 250, beat
 * every 333 and 1000.
 */

void
payment_lease_times(uint64_t at_most_ms, payment_lease_times_t *times)
{
    times->extend_ms = at_most_ms / 3;
    times->margin_ms = payment_lease_min(at_most_ms / 10, 1000);
    times->statement_ms = payment_lease_min(at_most_ms / 4, 5000);
    times->retry_ms = payment_lease_min(at_most_ms / 20, 250);
    times->interval_ms = 250;
    times->handicap_ms = 2 * times->interval_ms;
    times->beat_ms = payment_lease_min(at_most_ms / 3, 1000);
    times->alive_ms = 3 * times->beat_ms;
    times->hand_over_ms = 2 * times->alive_ms;
}


void
payment_lease_node_init(payment_lease_node_t *node,
    const payment_lease_conf_t *conf, const char *uuid, uint64_t seed)
{
    assert(payment_lease_conf_check(conf) == NULL);
    assert(strlen(uuid) == PAYMENT_LEASE_UUID_LEN);

    memset(node, 0, sizeof(payment_lease_node_t));

    node->conf = *conf;
    memcpy(node->uuid, uuid, PAYMENT_LEASE_UUID_LEN);
    node->random = seed;

    payment_lease_times(conf->at_most_ms, &node->times);
}


void
payment_lease_init(payment_lease_t *lease, payment_lease_node_t *node,
    uint64_t now_ms)
{
    memset(lease, 0, sizeof(payment_lease_t));

    lease->node = node;
    payment_lease_start(lease, now_ms);
}


payment_lease_action_e
payment_lease_next(payment_lease_t *lease, uint64_t now_ms,
    uint64_t *until_ms)
{
    payment_lease_action_e  action;

    if (lease->sent != PAYMENT_LEASE_WAIT) {
        *until_ms = lease->sent_at + lease->node->times.statement_ms;
        return PAYMENT_LEASE_WAIT;
    }

    *until_ms = PAYMENT_LEASE_NEVER;

    action = payment_lease_due(lease, now_ms, until_ms);

    if (action == PAYMENT_LEASE_WAIT) {
        return action;
    }

    switch (action) {

    case PAYMENT_LEASE_ACQUIRE:
        lease->grace_ms = payment_lease_grace(lease, now_ms);
        lease->node->acquiring++;
        break;

    case PAYMENT_LEASE_BEAT:
        lease->announced = 1;
        break;

    default:
        break;
    }

    lease->sent = action;
    lease->sent_at = now_ms;
    *until_ms = now_ms + lease->node->times.statement_ms;

    return action;
}


/* The most urgent first: to keep or release the lease that is ours, to leave,
 * to tell that this node lives, and last to ask for a lease. */

static payment_lease_action_e
payment_lease_due(payment_lease_t *lease, uint64_t now_ms,
    uint64_t *until_ms)
{
    switch (lease->state) {

    case PAYMENT_LEASE_HELD:
    case PAYMENT_LEASE_DRAINING:

        if (payment_lease_at(lease->extend_at, now_ms, until_ms)) {
            return PAYMENT_LEASE_EXTEND;
        }

        break;

    case PAYMENT_LEASE_RELEASING:

        if (payment_lease_at(lease->release_at, now_ms, until_ms)) {
            return PAYMENT_LEASE_RELEASE;
        }

        break;

    case PAYMENT_LEASE_FREE:

        if (!lease->wanted && lease->announced) {
            return PAYMENT_LEASE_LEAVE;
        }

        break;
    }

    if (!lease->wanted) {
        return PAYMENT_LEASE_WAIT;
    }

    if (payment_lease_at(lease->beat_at, now_ms, until_ms)) {
        return PAYMENT_LEASE_BEAT;
    }

    if (lease->state == PAYMENT_LEASE_FREE
        && payment_lease_at(lease->acquire_at, now_ms, until_ms))
    {
        return lease->missing ? PAYMENT_LEASE_INSERT : PAYMENT_LEASE_ACQUIRE;
    }

    return PAYMENT_LEASE_WAIT;
}


static int
payment_lease_at(uint64_t at_ms, uint64_t now_ms, uint64_t *until_ms)
{
    if (now_ms >= at_ms) {
        return 1;
    }

    *until_ms = payment_lease_min(*until_ms, at_ms);

    return 0;
}


/* how long a lease must have been free before we may ask for it */

static uint64_t
payment_lease_grace(const payment_lease_t *lease, uint64_t now_ms)
{
    uint32_t                     i, mine, rank;
    const payment_lease_node_t  *node;

    node = lease->node;

    if (lease->viewed_at == 0
        || now_ms - lease->viewed_at > node->times.alive_ms)
    {
        return 0;
    }

    rank = 0;
    mine = (uint32_t) payment_lease_told(lease) + node->acquiring;

    for (i = 0; i < lease->npeers; i++) {
        rank += lease->peers[i].held < mine;
    }

    if (rank > PAYMENT_LEASE_RANK_MAX) {
        rank = PAYMENT_LEASE_RANK_MAX;
    }

    return rank * node->times.handicap_ms;
}


void
payment_lease_on_acquired(payment_lease_t *lease, uint64_t now_ms,
    uint64_t epoch)
{
    if (payment_lease_answered(lease) != PAYMENT_LEASE_ACQUIRE) {
        return;
    }

    assert(lease->state == PAYMENT_LEASE_FREE);

    lease->epoch = epoch;
    lease->acquired_at = now_ms;
    lease->surplus_seen = 0;

    payment_lease_renew(lease, lease->sent_at);

    if (lease->wanted) {
        payment_lease_set_state(lease, PAYMENT_LEASE_HELD);

        /* the other nodes should soon see that this one holds a lease more */

        lease->beat_at = now_ms;
        return;
    }

    /* The lease was stopped while its ACQUIRE was on the way: give it back. */

    payment_lease_set_state(lease, PAYMENT_LEASE_RELEASING);
    lease->release_at = now_ms;
}


void
payment_lease_on_refused(payment_lease_t *lease, uint64_t now_ms)
{
    payment_lease_answered(lease);

    lease->acquire_at = now_ms
        + payment_lease_jitter(lease->node, lease->node->times.interval_ms);
}


void
payment_lease_on_extended(payment_lease_t *lease, uint64_t now_ms)
{
    (void) now_ms;

    /* A lease that was fenced meanwhile has no EXTEND to be answered for, and
     * stays FREE. */

    if (payment_lease_answered(lease) == PAYMENT_LEASE_EXTEND) {
        payment_lease_renew(lease, lease->sent_at);
    }
}


void
payment_lease_on_lost(payment_lease_t *lease, uint64_t now_ms)
{
    if (payment_lease_answered(lease) == PAYMENT_LEASE_EXTEND) {
        payment_lease_lose(lease, now_ms);
    }
}


void
payment_lease_on_fenced(payment_lease_t *lease, uint64_t now_ms)
{
    payment_lease_lose(lease, now_ms);
}


static void
payment_lease_lose(payment_lease_t *lease, uint64_t now_ms)
{
    if (lease->state == PAYMENT_LEASE_FREE) {
        return;
    }

    lease->lost_total++;

    payment_lease_set_state(lease, PAYMENT_LEASE_FREE);

    /* The lease may have run out with nobody there to take it: ask at once. */

    lease->acquire_at = now_ms;
}


void
payment_lease_on_released(payment_lease_t *lease, uint64_t now_ms)
{
    if (payment_lease_answered(lease) != PAYMENT_LEASE_RELEASE) {
        return;
    }

    payment_lease_set_state(lease, PAYMENT_LEASE_FREE);

    lease->acquire_at = now_ms
        + payment_lease_jitter(lease->node, lease->node->times.interval_ms);

    /* the other nodes should soon see that this one holds a lease less */

    lease->beat_at = now_ms;
}


void
payment_lease_on_done(payment_lease_t *lease, uint64_t now_ms)
{
    switch (payment_lease_answered(lease)) {

    case PAYMENT_LEASE_LEAVE:

        /* If the lease was started again meanwhile, the next BEAT puts the
         * node's row back. */

        lease->announced = 0;
        break;

    case PAYMENT_LEASE_INSERT:
        lease->missing = 0;
        lease->acquire_at = now_ms
           + payment_lease_jitter(lease->node, lease->node->times.interval_ms);
        break;

    default:
        break;
    }
}


/* The statement failed, or nobody knows whether it took effect. */

void
payment_lease_on_error(payment_lease_t *lease, uint64_t now_ms)
{
    uint64_t  retry_at;

    retry_at = now_ms
        + payment_lease_jitter(lease->node, lease->node->times.retry_ms);

    switch (payment_lease_answered(lease)) {

    case PAYMENT_LEASE_BEAT:
        lease->beat_at = retry_at;
        break;

    case PAYMENT_LEASE_ACQUIRE:
    case PAYMENT_LEASE_INSERT:
        lease->acquire_at = now_ms
           + payment_lease_jitter(lease->node, lease->node->times.interval_ms);
        break;

    case PAYMENT_LEASE_EXTEND:
        lease->extend_at = retry_at;
        break;

    case PAYMENT_LEASE_RELEASE:
        lease->release_at = retry_at;
        break;

    case PAYMENT_LEASE_LEAVE:

        /* The node's row runs out by itself: a shutdown does not wait for it
         * to be deleted. */

        lease->announced = 0;
        break;

    case PAYMENT_LEASE_WAIT:
        break;
    }
}


void
payment_lease_view_begin(payment_lease_t *lease)
{
    lease->npeers = 0;
    lease->viewed_at = 0;
}


void
payment_lease_view_node(payment_lease_t *lease, const char *uuid,
    uint64_t held)
{
    payment_lease_peer_t  *peer;

    if (lease->npeers == PAYMENT_LEASE_NODES_MAX
        || strcmp(uuid, lease->node->uuid) == 0
        || strlen(uuid) != PAYMENT_LEASE_UUID_LEN)
    {
        return;
    }

    peer = &lease->peers[lease->npeers++];

    memcpy(peer->uuid, uuid, PAYMENT_LEASE_UUID_LEN + 1);
    peer->held = (uint32_t) payment_lease_min(held, UINT32_MAX);
}


void
payment_lease_on_view(payment_lease_t *lease, uint64_t now_ms,
    int row_present)
{
    payment_lease_node_t  *node;

    if (payment_lease_answered(lease) != PAYMENT_LEASE_BEAT) {
        return;
    }

    node = lease->node;

    lease->beat_at = now_ms + payment_lease_jitter(node, node->times.beat_ms);

    /* The view is as old as its statement, not as the answer; 0 means that
     * there never was one. */

    lease->viewed_at = payment_lease_max(lease->sent_at, 1);

    if (!row_present) {

        payment_lease_lose(lease, now_ms);
        lease->missing = 1;
        return;
    }

    lease->missing = 0;

    if (!payment_lease_is_surplus(lease, now_ms)) {
        lease->surplus_seen = 0;
        return;
    }

    if (++lease->surplus_seen < PAYMENT_LEASE_SURPLUS_VIEWS) {
        return;
    }

    lease->surplus_seen = 0;
    lease->handed_over_total++;
    node->hand_over_at = now_ms + node->times.hand_over_ms;

    payment_lease_set_state(lease, PAYMENT_LEASE_DRAINING);
}


static int
payment_lease_is_surplus(const payment_lease_t *lease, uint64_t now_ms)
{
    uint32_t                     i, mine, poorest;
    const payment_lease_node_t  *node;
    const payment_lease_peer_t  *peer;

    node = lease->node;
    mine = node->held;
    poorest = mine;

    if (lease->state != PAYMENT_LEASE_HELD
        || !lease->wanted
        || (now_ms < node->hand_over_at && !lease->unable))
    {
        return 0;
    }

    /* Until at_least has passed, nobody else could acquire a lease that this
     * node releases. */

    if (now_ms - lease->acquired_at < node->conf.at_least_ms) {
        return 0;
    }

    for (i = 0; i < lease->npeers; i++) {
        peer = &lease->peers[i];

        if (peer->held >= PAYMENT_LEASE_UNABLE) {
            continue;
        }

        if (lease->unable) {
            return 1;
        }

        if (peer->held > mine
            || (peer->held == mine && strcmp(peer->uuid, node->uuid) < 0))
        {
            return 0;
        }

        if (peer->held < poorest) {
            poorest = peer->held;
        }
    }

    return mine - poorest >= 2;
}


void
payment_lease_set_able(payment_lease_t *lease, uint64_t now_ms, int able)
{
    if (lease->unable == !able) {
        return;
    }

    lease->unable = !able;

    /* the others should soon know */

    if (lease->wanted) {
        lease->beat_at = now_ms;
    }
}


uint64_t
payment_lease_told(const payment_lease_t *lease)
{
    return lease->node->held + (lease->unable ? PAYMENT_LEASE_UNABLE : 0);
}


void
payment_lease_on_drained(payment_lease_t *lease, uint64_t now_ms)
{
    if (lease->state == PAYMENT_LEASE_DRAINING) {
        payment_lease_set_state(lease, PAYMENT_LEASE_RELEASING);
        lease->release_at = now_ms;
    }
}


void
payment_lease_stop(payment_lease_t *lease, uint64_t now_ms)
{
    (void) now_ms;

    lease->wanted = 0;

    if (lease->state == PAYMENT_LEASE_HELD) {
        payment_lease_set_state(lease, PAYMENT_LEASE_DRAINING);
    }
}


/* A lease that is being given back is released first, and wanted after. */

void
payment_lease_start(payment_lease_t *lease, uint64_t now_ms)
{
    lease->wanted = 1;
    lease->beat_at = now_ms;
    lease->acquire_at = now_ms;
}


int
payment_lease_gone(const payment_lease_t *lease)
{
    return !lease->wanted
           && lease->state == PAYMENT_LEASE_FREE
           && lease->sent == PAYMENT_LEASE_WAIT
           && !lease->announced;
}


int
payment_lease_may_produce(const payment_lease_t *lease, uint64_t now_ms)
{
    return lease->state == PAYMENT_LEASE_HELD && now_ms < lease->deadline;
}


uint64_t
payment_lease_remaining(const payment_lease_t *lease, uint64_t now_ms)
{
    return payment_lease_may_produce(lease, now_ms)
           ? lease->deadline - now_ms : 0;
}


/* The statement in flight was answered, or given up.  Returns which it was. */

static payment_lease_action_e
payment_lease_answered(payment_lease_t *lease)
{
    payment_lease_action_e  action;

    action = lease->sent;
    lease->sent = PAYMENT_LEASE_WAIT;

    if (action == PAYMENT_LEASE_ACQUIRE) {
        assert(lease->node->acquiring > 0);
        lease->node->acquiring--;
    }

    return action;
}


static void
payment_lease_set_state(payment_lease_t *lease, payment_lease_state_e state)
{
    if (lease->state == PAYMENT_LEASE_HELD) {
        assert(lease->node->held > 0);
        lease->node->held--;
    }

    if (state == PAYMENT_LEASE_HELD) {
        lease->node->held++;
    }

    lease->state = state;
}


/* The lease's time is counted from before the statement was sent, so that the
 * holder never believes in more time than the database gave. */

static void
payment_lease_renew(payment_lease_t *lease, uint64_t sent_at)
{
    payment_lease_node_t  *node;

    node = lease->node;

    lease->deadline = sent_at + node->conf.at_most_ms - node->times.margin_ms;
    lease->extend_at = sent_at + node->times.extend_ms;
}


/* Between three quarters of the time and all of it, so that nodes do not stay
 * in step. */

static uint64_t
payment_lease_jitter(payment_lease_node_t *node, uint64_t ms)
{
    uint64_t  x;

    /* splitmix64: any seed will do */

    node->random += UINT64_C(0x9e3779b97f4a7c15);
    x = node->random;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;

    return ms - x % (ms / 4 + 1);
}


static uint64_t
payment_lease_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}


static uint64_t
payment_lease_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
