/*
 * Leases in a simulated world: two to five nodes, one to four shards, an hour
 * of statements that are late, lost, stuck behind row locks or carried out
 * long after they were given up, of nodes that crash, stop, freeze and return
 * with clocks that run 1 % fast or slow, and of a database that goes away,
 * loses a row or has its clock set.
 *
 * What must hold at every moment is in sim_check(), sim_apply() and
 * sim_settled().  All chance comes from one seed.
 *
 *   LEASE_SIM_RUNS=12   hours a kind of world
 *   LEASE_SIM_SEED=1    the first of them; without it a new one each time
 *   LEASE_SIM_LOG=1     say what happens, all of it
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "payment_lease_rules.h"


#define NODES_MAX       5
#define SHARDS_MAX      4
#define NODE_ROWS_MAX   64
#define STATEMENTS_MAX  1024
#define EVENTS_MAX      65536

#define MS              UINT64_C(1000)       /* true time is in microseconds */
#define SECOND          UINT64_C(1000000)
#define HOUR            (3600 * SECOND)
#define NEVER           UINT64_MAX
#define DB_EPOCH_MS     INT64_C(1760000000000)

/* an answer later than that is a fault of its own */
#define PROMPT          (20 * MS)

#define LOCK_WAIT_MAX   (5 * SECOND)

#define NOBODY          0

/* a fenced DELETE of the relay, beside the lease's own statements */
#define ACTION_DELETE   100


typedef struct {
    unsigned                  present:1;
    int64_t                   lock_until_ms;
    int64_t                   locked_at_ms;
    uint64_t                  epoch;
    uint32_t                  owner;         /* a life, or NOBODY */

    uint64_t                  epoch_max;     /* ever given out */
    uint64_t                  write_epoch;   /* of the last fenced DELETE */
    uint64_t                  acquired_at;   /* the last time */
    uint64_t                  released_at;   /* the last time */

    struct {
        uint32_t                  life;
        int64_t                   lock_until_ms;
        uint64_t                  held;
    } nodes[NODE_ROWS_MAX];
    unsigned                  nnodes;
} shard_t;


typedef struct {
    unsigned                  busy:1;
    int                       action;
    unsigned                  node;
    unsigned                  shard;
    uint32_t                  life;
    uint32_t                  predecessor;   /* the node's dead life before */
    uint64_t                  sent_at;
    unsigned                  given_up:1;

    uint64_t                  epoch;
    uint64_t                  grace_ms;
    uint64_t                  held;

    int64_t                   now_ms;        /* the statement's NOW */
    unsigned                  done:1;        /* a row matched */
    struct {
        uint32_t                  life;
        uint64_t                  held;
    } view[NODE_ROWS_MAX];
    unsigned                  nview;
} statement_t;


typedef struct {
    unsigned                  alive:1;
    unsigned                  stopping:1;
    uint32_t                  life;
    uint32_t                  predecessor;
    uint64_t                  frozen_until;
    uint64_t                  cut_until;     /* from the database */
    uint64_t                  healthy_since;
    uint64_t                  wake_at;
    double                    rate;
    uint64_t                  offset;
    payment_lease_node_t      rules;
    payment_lease_t           leases[SHARDS_MAX];
    statement_t              *sent[SHARDS_MAX];
    unsigned                  draining[SHARDS_MAX];
    uint64_t                  delete_at[SHARDS_MAX];
    unsigned                  deleting[SHARDS_MAX];
} node_t;


typedef enum {
    EVENT_WAKE,
    EVENT_START,         /* the statement begins in the database */
    EVENT_APPLY,         /* it has its locks and takes effect */
    EVENT_ANSWER,
    EVENT_DRAINED,
    EVENT_KILL,          /* a stop that took too long */
    EVENT_BIRTH,
    EVENT_FAULT,
    EVENT_CHECK
} event_e;


typedef struct {
    uint64_t                  at;
    uint64_t                  order;
    event_e                   type;
    unsigned                  node;
    unsigned                  shard;
    uint32_t                  life;
    statement_t              *statement;
} event_t;


typedef struct {
    uint64_t                  seed;
    uint64_t                  random;
    uint64_t                  now;
    uint64_t                  order;
    unsigned                  nnodes;
    unsigned                  nshards;
    uint32_t                  lives;
    payment_lease_conf_t      conf;
    payment_lease_times_t     times;

    unsigned                  faults:1;
    unsigned                  jumps:1;
    unsigned                  deletes:1;
    int64_t                   jump_ms;
    uint64_t                  jumped_at;     /* the last time */
    uint64_t                  born_at;       /* the last life of any node */

    node_t                    nodes[NODES_MAX];
    shard_t                   shards[SHARDS_MAX];
    statement_t               statements[STATEMENTS_MAX];
    event_t                   events[EVENTS_MAX];
    unsigned                  nevents;
} sim_t;


/* over all runs of a kind */

typedef struct {
    uint64_t                  acquired;
    uint64_t                  takeovers;
    uint64_t                  takeover_max;
    uint64_t                  handed_over;
    uint64_t                  lost;
    uint64_t                  given_up;
    uint64_t                  faults;
    uint64_t                  overlaps;
    uint64_t                  fenced;
} totals_t;


static sim_t     sim;
static totals_t  totals;
static int       logging;


static void sim_node_birth(unsigned n);
static void sim_wake(unsigned n);
static void sim_apply(statement_t *s);
static void sim_answer(statement_t *s);


static void
sim_fail(const char *what, unsigned shard)
{
    unsigned                i;
    const payment_lease_t  *l;

    for (i = 0; i < sim.nnodes; i++) {
        l = &sim.nodes[i].leases[shard];
        print_error("node %u: life %u alive %d frozen until %" PRIu64
                    " state %d epoch %" PRIu64 " deadline %" PRIu64 "\n", i,
                    sim.nodes[i].life, sim.nodes[i].alive,
                    sim.nodes[i].frozen_until, l->state, l->epoch,
                    l->deadline);
    }

    fail_msg("LEASE_SIM_SEED=%" PRIu64 " at %" PRIu64 " us, shard %u: %s",
             sim.seed, sim.now, shard, what);
}


static void
sim_log(unsigned node, unsigned shard, const char *what, uint64_t value)
{
    if (logging) {
        print_message("%10.3f node %u shard %u %s %" PRIu64 "\n",
                      (double) sim.now / 1000, node, shard, what, value);
    }
}


/* chance */

static uint64_t
chance(void)
{
    uint64_t  x;

    sim.random += UINT64_C(0x9e3779b97f4a7c15);
    x = sim.random;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);

    return x ^ (x >> 31);
}


static uint64_t
between(uint64_t low, uint64_t high)
{
    return low + chance() % (high - low + 1);
}


static int
one_in(unsigned n)
{
    return chance() % n == 0;
}


/* events: a heap, the earliest first, of equals the one added first */

static int
event_before(const event_t *a, const event_t *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}


static event_t *
event_add(event_e type, uint64_t at, unsigned node)
{
    unsigned  i, parent;
    event_t   e;

    assert_true(sim.nevents < EVENTS_MAX);

    memset(&e, 0, sizeof(event_t));
    e.at = at;
    e.order = sim.order++;
    e.type = type;
    e.node = node;

    i = sim.nevents++;

    while (i > 0) {
        parent = (i - 1) / 2;

        if (!event_before(&e, &sim.events[parent])) {
            break;
        }

        sim.events[i] = sim.events[parent];
        i = parent;
    }

    sim.events[i] = e;

    return &sim.events[i];
}


static event_t
event_take(void)
{
    unsigned  i, child;
    event_t   first, last;

    first = sim.events[0];
    last = sim.events[--sim.nevents];
    i = 0;

    for ( ;; ) {
        child = 2 * i + 1;

        if (child >= sim.nevents) {
            break;
        }

        if (child + 1 < sim.nevents
            && event_before(&sim.events[child + 1], &sim.events[child]))
        {
            child++;
        }

        if (!event_before(&sim.events[child], &last)) {
            break;
        }

        sim.events[i] = sim.events[child];
        i = child;
    }

    sim.events[i] = last;

    return first;
}


/* clocks */

static uint64_t
local_ms(const node_t *node, uint64_t at)
{
    return (uint64_t) ((double) at * node->rate) / 1000 + node->offset;
}


static uint64_t
true_time(const node_t *node, uint64_t ms)
{
    uint64_t  at;

    at = (uint64_t) ((double) ((ms - node->offset) * 1000) / node->rate);

    while (local_ms(node, at) < ms) {
        at += 100;
    }

    return at;
}


static int64_t
database_ms(uint64_t at)
{
    return DB_EPOCH_MS + (int64_t) (at / 1000) + sim.jump_ms;
}


static void
life_uuid(uint32_t life, char *uuid)
{
    /* the order of uuids is not that of births */

    snprintf(uuid, PAYMENT_LEASE_UUID_LEN + 1,
             "%08" PRIx32 "-0000-4000-8000-%012" PRIx32,
             life * UINT32_C(2654435761), life);
}


static uint32_t
uuid_life(const char *uuid)
{
    return (uint32_t) strtoul(uuid + 24, NULL, 16);
}


/* invariants */

static int
producing(const node_t *node, unsigned shard)
{
    /* a frozen node counts: it may come to at any time */

    return node->alive
           && payment_lease_may_produce(&node->leases[shard],
                                        local_ms(node, sim.now));
}


/* no two produce, unless the database's clock was set just before */

static void
sim_check(unsigned shard)
{
    unsigned  i, n;

    n = 0;

    for (i = 0; i < sim.nnodes; i++) {
        n += (unsigned) producing(&sim.nodes[i], shard);
    }

    if (n < 2) {
        return;
    }

    totals.overlaps++;

    if (sim.jumped_at == 0) {
        sim_fail("two nodes may produce", shard);
    }

    /* a statement may have come through with the clock as it was before */

    if (sim.now - sim.jumped_at > sim.conf.at_most_ms * MS + LOCK_WAIT_MAX) {
        sim_fail("two nodes may produce long after the jump", shard);
    }
}


/* since when somebody could have taken the free lease; NEVER: nobody could */

static uint64_t
free_since(unsigned shard)
{
    node_t           *node;
    shard_t          *row;
    uint64_t          healthy, expired;
    unsigned          i;
    payment_lease_t  *lease;

    row = &sim.shards[shard];

    if (sim.jumps || !row->present) {
        return NEVER;
    }

    healthy = NEVER;

    for (i = 0; i < sim.nnodes; i++) {
        node = &sim.nodes[i];
        lease = &node->leases[shard];

        if (!node->alive || node->stopping
            || (lease->sent != PAYMENT_LEASE_WAIT
                && local_ms(node, sim.now) - lease->sent_at > PROMPT / MS))
        {
            continue;
        }

        if (node->healthy_since < healthy) {
            healthy = node->healthy_since;
        }
    }

    if (healthy == NEVER) {
        return NEVER;
    }

    expired = (uint64_t) (row->lock_until_ms - DB_EPOCH_MS) * 1000;

    /* a RELEASE behind locks frees it in the past */

    if (expired < row->released_at) {
        expired = row->released_at;
    }

    return expired > healthy ? expired : healthy;
}


static void
sim_check_free(unsigned shard)
{
    unsigned  poorer;
    uint64_t  since, bound;

    since = free_since(shard);

    if (since >= sim.now) {
        return;
    }

    /* all the others may be poorer, for all that this node knows; and one that
     * was born again is two of them, for as long as its last BEAT vouches for
     * it and the view is of before */

    poorer = sim.nnodes - 1;

    if (poorer > PAYMENT_LEASE_RANK_MAX
        || sim.now - sim.born_at < 2 * sim.times.alive_ms * MS)
    {
        poorer = PAYMENT_LEASE_RANK_MAX;
    }

    bound = sim.times.interval_ms + sim.times.handicap_ms * poorer + 150;

    if (sim.now - since > bound * MS) {
        sim_fail("a free lease was not taken in time", shard);
    }
}


/* the database */

static int64_t
smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}


static int64_t
larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}


static int64_t
sim_prolonged(const shard_t *row, int64_t now_ms)
{
    int64_t  until;

    until = now_ms + (int64_t) sim.conf.at_most_ms;

    return smaller(larger(row->lock_until_ms, until),
                   until + PAYMENT_LEASE_STALE_MS_MAX);
}


static void
sim_apply_beat(statement_t *s)
{
    unsigned   i;
    shard_t   *row;

    row = &sim.shards[s->shard];

    for (i = 0; i < row->nnodes; i++) {
        if (row->nodes[i].life == s->life) {
            break;
        }
    }

    if (i == row->nnodes) {

        /* what is out of date is not seen: its place can be used again */

        for (i = 0; i < row->nnodes; i++) {
            if (row->nodes[i].lock_until_ms <= s->now_ms) {
                break;
            }
        }

        assert_true(i < NODE_ROWS_MAX);

        if (i == row->nnodes) {
            row->nnodes++;
        }
    }

    row->nodes[i].life = s->life;
    row->nodes[i].held = s->held;
    row->nodes[i].lock_until_ms = s->now_ms + (int64_t) sim.times.alive_ms;

    s->nview = 0;

    for (i = 0; i < row->nnodes; i++) {
        if (row->nodes[i].lock_until_ms > s->now_ms) {
            s->view[s->nview].life = row->nodes[i].life;
            s->view[s->nview].held = row->nodes[i].held;
            s->nview++;
        }
    }

    s->done = row->present;
}


static void
sim_apply_acquire(statement_t *s)
{
    shard_t   *row;
    uint64_t   since;

    row = &sim.shards[s->shard];

    s->done = row->present
              && (row->lock_until_ms <= s->now_ms - (int64_t) s->grace_ms
                  || row->owner == s->life
                  || (row->owner == s->predecessor
                      && s->predecessor != NOBODY));

    if (!s->done) {
        return;
    }

    sim_check_free(s->shard);
    since = free_since(s->shard);

    if (since < sim.now && row->owner != s->life) {
        totals.takeovers++;

        if (sim.now - since > totals.takeover_max) {
            totals.takeover_max = sim.now - since;
        }
    }

    row->owner = s->life;
    row->epoch++;
    row->locked_at_ms = s->now_ms;
    row->lock_until_ms = sim_prolonged(row, s->now_ms);
    row->acquired_at = sim.now;

    s->epoch = row->epoch;
    totals.acquired++;

    if (row->epoch <= row->epoch_max) {
        sim_fail("an epoch was given out twice", s->shard);
    }

    row->epoch_max = row->epoch;
}


static void
sim_apply(statement_t *s)
{
    int        ours;
    int64_t    at_least;
    unsigned   i;
    shard_t   *row;

    row = &sim.shards[s->shard];
    ours = row->present && row->owner == s->life && row->epoch == s->epoch;

    switch (s->action) {

    case PAYMENT_LEASE_BEAT:
        sim_apply_beat(s);
        break;

    case PAYMENT_LEASE_ACQUIRE:
        sim_apply_acquire(s);
        break;

    case PAYMENT_LEASE_EXTEND:
        s->done = ours && row->lock_until_ms > s->now_ms;

        if (s->done) {
            row->lock_until_ms = sim_prolonged(row, s->now_ms);
        }

        break;

    case PAYMENT_LEASE_RELEASE:

        if (ours) {
            at_least = row->locked_at_ms + (int64_t) sim.conf.at_least_ms;
            at_least = smaller(at_least,
                               s->now_ms + (int64_t) sim.conf.at_least_ms);
            row->lock_until_ms = larger(s->now_ms, at_least);
            row->released_at = sim.now;
            row->owner = NOBODY;
        }

        break;

    case PAYMENT_LEASE_INSERT:

        if (!row->present) {
            row->present = 1;
            row->owner = NOBODY;
            row->locked_at_ms = s->now_ms;
            row->lock_until_ms = s->now_ms + (int64_t) sim.conf.at_most_ms;
            row->epoch = (uint64_t) s->now_ms;
        }

        break;

    case PAYMENT_LEASE_LEAVE:

        for (i = 0; i < row->nnodes; i++) {
            if (row->nodes[i].life == s->life) {
                row->nodes[i] = row->nodes[--row->nnodes];
            }
        }

        break;

    case ACTION_DELETE:
        s->done = ours && row->lock_until_ms > s->now_ms;

        if (!s->done) {
            totals.fenced++;
            break;
        }

        if (s->epoch < row->write_epoch) {
            sim_fail("an old epoch deleted", s->shard);
        }

        row->write_epoch = s->epoch;
        break;
    }
}


/* a node */

static void
sim_unwell(node_t *node, uint64_t until)
{
    if (node->healthy_since < until) {
        node->healthy_since = until;
    }
}


static void
sim_node_freezes(unsigned n, uint64_t until)
{
    node_t    *node;
    uint64_t   wake_at;

    node = &sim.nodes[n];

    if (node->alive && node->frozen_until < until) {

        /* the answers that have piled up may come before the timer */

        wake_at = until + between(0, 5 * MS);

        node->frozen_until = until;
        node->wake_at = wake_at;
        sim_unwell(node, wake_at);
        event_add(EVENT_WAKE, wake_at, n);
    }
}


static statement_t *
sim_send(unsigned n, unsigned shard, int action)
{
    unsigned          i;
    node_t           *node;
    event_t          *e;
    uint64_t          at;
    statement_t      *s;
    payment_lease_t  *l;

    node = &sim.nodes[n];
    l = &node->leases[shard];

    for (i = 0; i < STATEMENTS_MAX; i++) {
        if (!sim.statements[i].busy) {
            break;
        }
    }

    assert_true(i < STATEMENTS_MAX);

    s = &sim.statements[i];
    memset(s, 0, offsetof(statement_t, view));
    s->busy = 1;
    s->action = action;
    s->node = n;
    s->shard = shard;
    s->life = node->life;
    s->predecessor = node->predecessor;
    s->sent_at = sim.now;
    s->epoch = l->epoch;
    s->grace_ms = l->grace_ms;
    s->held = node->rules.held;

    /* START, APPLY and ANSWER: on the way, behind locks, on the way back */

    if (node->cut_until > sim.now && one_in(2)) {

        /* never arrives */

        s->busy = 0;
        return NULL;
    }

    at = sim.now + between(MS / 5, 3 * MS);

    if (sim.faults) {
        at += one_in(500) ? between(0, 10 * SECOND)
              : one_in(50) ? between(0, 300 * MS) : 0;
    }

    e = event_add(EVENT_START, at, n);
    e->statement = s;

    /* the worst moment: a statement is out, and its answer will be old */

    if (sim.faults && one_in(action == PAYMENT_LEASE_ACQUIRE ? 1000 : 5000)) {
        sim_node_freezes(n, sim.now + between(0, 2 * sim.conf.at_most_ms
                                                 * MS));
    }

    return s;
}


static void
sim_statement_step(event_t *e)
{
    uint64_t      at;
    event_t      *next;
    statement_t  *s;

    static const char  *names[] = {
        "", "beat", "acquire", "extend", "release", "insert", "leave"
    };

    s = e->statement;

    if (s->action != ACTION_DELETE) {
        sim_log(s->node, s->shard, e->type == EVENT_START ? "start"
                : e->type == EVENT_APPLY ? "apply" : "answer", s->life);
        sim_log(s->node, s->shard, names[s->action], s->done);
    }

    switch (e->type) {

    case EVENT_START:
        s->now_ms = database_ms(sim.now);
        at = sim.now;

        if (sim.faults && one_in(300)) {
            at += between(0, LOCK_WAIT_MAX);
        }

        next = event_add(EVENT_APPLY, at, s->node);
        break;

    case EVENT_APPLY:
        sim_apply(s);

        at = sim.now + between(MS / 5, 3 * MS);

        if (sim.faults && one_in(100)) {
            at += between(0, SECOND);
        }

        next = event_add(EVENT_ANSWER, at, s->node);
        break;

    default:
        sim_answer(s);
        return;
    }

    next->statement = s;
}


static void
sim_answer(statement_t *s)
{
    char              uuid[PAYMENT_LEASE_UUID_LEN + 1];
    node_t           *node;
    event_t          *e;
    uint64_t          now_ms;
    unsigned          i;
    payment_lease_t  *l;

    node = &sim.nodes[s->node];

    if (!node->alive || node->life != s->life || s->given_up) {
        s->busy = 0;
        return;
    }

    if (node->frozen_until > sim.now) {
        e = event_add(EVENT_ANSWER, node->frozen_until, s->node);
        e->statement = s;
        return;
    }

    if (sim.now - s->sent_at > PROMPT) {
        sim_unwell(node, sim.now);
    }

    s->busy = 0;
    l = &node->leases[s->shard];
    now_ms = local_ms(node, sim.now);

    if (s->action == ACTION_DELETE) {
        node->deleting[s->shard] = 0;

        /* what came of it is about this tenure only while it lasts */

        if (!s->done && l->state != PAYMENT_LEASE_FREE
            && l->epoch == s->epoch)
        {
            payment_lease_on_fenced(l, now_ms);
        }

        sim_wake(s->node);
        return;
    }

    node->sent[s->shard] = NULL;

    switch (s->action) {

    case PAYMENT_LEASE_BEAT:
        payment_lease_view_begin(l);

        for (i = 0; i < s->nview; i++) {
            life_uuid(s->view[i].life, uuid);
            payment_lease_view_node(l, uuid, s->view[i].held);
        }

        payment_lease_on_view(l, now_ms, s->done);
        break;

    case PAYMENT_LEASE_ACQUIRE:
        if (s->done) {
            payment_lease_on_acquired(l, now_ms, s->epoch);

        } else {
            payment_lease_on_refused(l, now_ms);
        }

        break;

    case PAYMENT_LEASE_EXTEND:
        if (s->done) {
            payment_lease_on_extended(l, now_ms);

        } else {
            payment_lease_on_lost(l, now_ms);
        }

        break;

    case PAYMENT_LEASE_RELEASE:
        payment_lease_on_released(l, now_ms);
        break;

    default:
        payment_lease_on_done(l, now_ms);
        break;
    }

    sim_check(s->shard);
    sim_wake(s->node);
}


/* what a helper does on its timer: all that its leases want */

static void
sim_wake(unsigned n)
{
    node_t                  *node;
    event_t                 *e;
    uint64_t                 now_ms, until, first;
    unsigned                 i, gone;
    payment_lease_t         *l;
    payment_lease_action_e   action;

    node = &sim.nodes[n];

    if (!node->alive || node->frozen_until > sim.now) {
        return;
    }

    gone = 0;
    first = PAYMENT_LEASE_NEVER;
    now_ms = local_ms(node, sim.now);

    for (i = 0; i < sim.nshards; i++) {
        l = &node->leases[i];

        for ( ;; ) {
            action = payment_lease_next(l, now_ms, &until);

            if (action != PAYMENT_LEASE_WAIT) {
                node->sent[i] = sim_send(n, i, action);
                continue;
            }

            if (l->sent == PAYMENT_LEASE_WAIT || now_ms < until) {
                break;
            }

            if (node->sent[i]) {
                node->sent[i]->given_up = 1;
                node->sent[i] = NULL;
            }

            sim_log(n, i, "given up", l->sent);
            totals.given_up++;
            sim_unwell(node, sim.now);
            payment_lease_on_error(l, now_ms);
        }

        if (until < first) {
            first = until;
        }

        if (l->state == PAYMENT_LEASE_DRAINING && !node->draining[i]) {
            node->draining[i] = 1;
            e = event_add(EVENT_DRAINED, sim.now + between(0, 500 * MS), n);
            e->shard = i;
            e->life = node->life;
        }

        if (l->state != PAYMENT_LEASE_DRAINING) {
            node->draining[i] = 0;
        }

        if (producing(node, i) && !node->deleting[i]
            && node->delete_at[i] <= sim.now)
        {
            node->delete_at[i] = sim.now + SECOND;
            node->deleting[i] = sim_send(n, i, ACTION_DELETE) != NULL;
        }

        gone += (unsigned) payment_lease_gone(l);
    }

    if (node->stopping && gone == sim.nshards) {
        node->alive = 0;
        event_add(EVENT_BIRTH, sim.now + between(0, 20 * SECOND), n);
        return;
    }

    /* frozen in the middle: it wakes when it comes to */

    if (first == PAYMENT_LEASE_NEVER || node->frozen_until > sim.now) {
        return;
    }

    node->wake_at = true_time(node, first);
    event_add(EVENT_WAKE, node->wake_at, n);
}


static void
sim_node_birth(unsigned n)
{
    char       uuid[PAYMENT_LEASE_UUID_LEN + 1];
    node_t    *node;
    unsigned   i;
    uint32_t   predecessor;

    node = &sim.nodes[n];

    if (node->alive) {
        return;
    }

    predecessor = one_in(2) ? node->life : NOBODY;

    memset(node, 0, sizeof(node_t));

    node->predecessor = predecessor;
    node->alive = 1;
    node->life = ++sim.lives;
    node->healthy_since = sim.now;
    sim.born_at = sim.now;
    node->offset = between(1, 1000000000);
    node->rate = 0.99 + (double) between(0, 2000) / 100000;

    life_uuid(node->life, uuid);
    assert_int_equal(uuid_life(uuid), node->life);

    payment_lease_node_init(&node->rules, &sim.conf, uuid, chance());

    for (i = 0; i < sim.nshards; i++) {
        payment_lease_init(&node->leases[i], &node->rules,
                           local_ms(node, sim.now));
    }

    sim_wake(n);
}


static void
sim_node_dies(unsigned n)
{
    unsigned  i;

    if (!sim.nodes[n].alive) {
        return;
    }

    for (i = 0; i < sim.nshards; i++) {
        totals.handed_over += sim.nodes[n].leases[i].handed_over_total;
        totals.lost += sim.nodes[n].leases[i].lost_total;
    }

    sim.nodes[n].alive = 0;
}


static void
sim_node_stops(unsigned n)
{
    node_t    *node;
    event_t   *e;
    unsigned   i;

    node = &sim.nodes[n];

    if (!node->alive || node->stopping || node->frozen_until > sim.now) {
        return;
    }

    node->stopping = 1;

    for (i = 0; i < sim.nshards; i++) {
        totals.handed_over += node->leases[i].handed_over_total;
        totals.lost += node->leases[i].lost_total;
        payment_lease_stop(&node->leases[i], local_ms(node, sim.now));
    }

    e = event_add(EVENT_KILL, sim.now + 5 * SECOND, n);
    e->life = node->life;

    sim_wake(n);
}


static void
sim_fault(void)
{
    unsigned  i, n, kind;
    uint64_t  length;

    totals.faults++;

    n = (unsigned) between(0, sim.nnodes - 1);
    length = between(0, 2 * sim.conf.at_most_ms * MS);

    /* without clocks set and rows deleted there are eight kinds */

    kind = (unsigned) between(0, 11);
    sim_log(n, 0, "fault", kind);

    switch (kind) {

    case 0:
    case 1:
        if (sim.nodes[n].alive) {
            sim_node_dies(n);
            event_add(EVENT_BIRTH, sim.now + between(0, 60 * SECOND), n);
        }

        break;

    case 2:
    case 3:
        sim_node_stops(n);
        break;

    case 4:
    case 5:
        sim_node_freezes(n, sim.now + length);
        break;

    case 6:
        sim.nodes[n].cut_until = sim.now + length;
        sim_unwell(&sim.nodes[n], sim.now + length);
        break;

    case 7:
        for (i = 0; i < sim.nnodes; i++) {
            sim.nodes[i].cut_until = sim.now + length;
            sim_unwell(&sim.nodes[i], sim.now + length);
        }

        break;

    case 8:
    case 9:
        if (sim.deletes) {
            sim.shards[between(0, sim.nshards - 1)].present = 0;
        }

        break;

    default:
        if (!sim.jumps) {
            break;
        }

        sim.jumped_at = sim.now;
        sim.jump_ms += (int64_t) between(0, 120000) - 60000;

        break;
    }
}


static void
sim_event(event_t *e)
{
    node_t    *node;
    unsigned   i;

    node = &sim.nodes[e->node];

    switch (e->type) {

    case EVENT_WAKE:
        if (e->at == node->wake_at) {
            sim_wake(e->node);
        }

        break;

    case EVENT_START:
    case EVENT_APPLY:
    case EVENT_ANSWER:
        sim_statement_step(e);
        break;

    case EVENT_DRAINED:
        if (node->alive && node->life == e->life) {

            if (node->frozen_until > sim.now) {
                sim.nodes[e->node].draining[e->shard] = 0;
                break;
            }

            payment_lease_on_drained(&node->leases[e->shard],
                                     local_ms(node, sim.now));
            sim_wake(e->node);
        }

        break;

    case EVENT_KILL:
        if (node->alive && node->life == e->life) {
            node->alive = 0;
            event_add(EVENT_BIRTH, sim.now + between(0, 20 * SECOND),
                      e->node);
        }

        break;

    case EVENT_BIRTH:
        sim_node_birth(e->node);
        break;

    case EVENT_FAULT:
        if (sim.faults) {
            sim_fault();
            event_add(EVENT_FAULT, sim.now + between(0, 40 * SECOND), 0);
        }

        break;

    case EVENT_CHECK:
        for (i = 0; i < sim.nshards; i++) {
            sim_check_free(i);
            sim_check(i);
        }

        event_add(EVENT_CHECK, sim.now + SECOND, 0);
        break;
    }
}


static void
sim_run_until(uint64_t end)
{
    event_t  e;

    while (sim.events[0].at <= end) {
        e = event_take();
        sim.now = e.at;
        sim_event(&e);
    }

    sim.now = end;
}


static void
sim_start(uint64_t seed, unsigned nnodes, unsigned nshards,
    uint64_t at_most_ms, uint64_t at_least_ms)
{
    unsigned  i;

    memset(&sim, 0, sizeof(sim_t));

    sim.seed = seed;
    sim.random = seed;
    sim.nnodes = nnodes;
    sim.nshards = nshards;
    sim.conf.at_most_ms = at_most_ms;
    sim.conf.at_least_ms = at_least_ms;
    sim.now = SECOND;

    assert_null(payment_lease_conf_check(&sim.conf));
    payment_lease_times(at_most_ms, &sim.times);

    /* as the migration leaves it */

    for (i = 0; i < nshards; i++) {
        sim.shards[i].present = 1;
        sim.shards[i].lock_until_ms = DB_EPOCH_MS;
        sim.shards[i].locked_at_ms = DB_EPOCH_MS;
    }

    for (i = 0; i < nnodes; i++) {
        event_add(EVENT_BIRTH, sim.now + between(0, 5 * SECOND), i);
    }

    event_add(EVENT_CHECK, sim.now, 0);
}


/* each shard has its producer */

static int
sim_owned(void)
{
    unsigned  i, n, owners;

    for (n = 0; n < sim.nshards; n++) {
        owners = 0;

        for (i = 0; i < sim.nnodes; i++) {
            owners += (unsigned) producing(&sim.nodes[i], n);
        }

        if (owners != 1) {
            return 0;
        }
    }

    return 1;
}


/* and the shares are fair */

static int
sim_shared(void)
{
    unsigned  i, n, alive, mine, least, most;

    least = UINT32_MAX;
    most = 0;
    alive = 0;

    for (i = 0; i < sim.nnodes; i++) {

        if (!sim.nodes[i].alive) {
            continue;
        }

        alive++;
        mine = 0;

        for (n = 0; n < sim.nshards; n++) {
            mine += (unsigned) producing(&sim.nodes[i], n);
        }

        assert_true(mine <= sim.nodes[i].rules.held);

        least = mine < least ? mine : least;
        most = mine > most ? mine : most;
    }

    return sim_owned() && alive > 0 && most - least <= 1;
}


/* the world is well again: fair shares come, and then nothing moves */

static void
sim_settled(void)
{
    unsigned  i;
    uint64_t  at;

    sim.faults = 0;

    for (i = 0; i < sim.nnodes; i++) {
        sim.nodes[i].cut_until = 0;
    }

    /* the last that were stopped, frozen or given up; a deleted row's wait */

    at = sim.now + 60 * SECOND + 4 * sim.conf.at_most_ms * MS;

    if (sim.jumps) {

        /* a clock set back prolongs a lease by as much */

        at += 1800 * SECOND;
    }

    sim_run_until(at);

    for (i = 0; i < sim.nnodes; i++) {
        if (!sim.nodes[i].alive || sim.nodes[i].frozen_until > sim.now) {
            sim_fail("a node did not come back", 0);
        }
    }

    sim_run_until(sim.now + 60 * SECOND);

    if (!sim_shared()) {
        sim_fail("shares are not fair", 0);
    }

    sim_run_until(sim.now + 60 * SECOND);

    for (i = 0; i < sim.nshards; i++) {
        if (sim.now - sim.shards[i].acquired_at < 60 * SECOND) {
            sim_fail("leases still move", i);
        }
    }

    if (!sim_shared()) {
        sim_fail("shares are not fair any more", 0);
    }

    for (i = 0; i < sim.nnodes; i++) {
        sim_node_dies(i);
    }
}


static uint64_t
setting(const char *name, uint64_t value)
{
    const char  *text;

    text = getenv(name);

    return text != NULL ? strtoull(text, NULL, 10) : value;
}


static void
sim_hours(const char *what, unsigned jumps, unsigned deletes)
{
    uint64_t  i, seed, runs, at_most, at_least;

    static const uint64_t  at_mosts[] = { 1000, 3000, 30000 };

    logging = setting("LEASE_SIM_LOG", 0) != 0;
    runs = setting("LEASE_SIM_RUNS", 12);
    seed = setting("LEASE_SIM_SEED", (uint64_t) time(NULL) * 1000);

    memset(&totals, 0, sizeof(totals_t));

    for (i = 0; i < runs; i++) {
        sim.random = seed + i;
        at_most = at_mosts[between(0, 2)];
        at_least = one_in(3) ? 0 : one_in(2) ? 1000 : between(0, at_most);

        sim_start(seed + i, (unsigned) between(2, NODES_MAX),
                  (unsigned) between(1, SHARDS_MAX), at_most, at_least);

        sim.faults = 1;
        sim.jumps = jumps & 1;
        sim.deletes = deletes & 1;
        event_add(EVENT_FAULT, sim.now + 10 * SECOND, 0);

        sim_run_until(HOUR);
        sim_settled();
    }

    print_message("%s: LEASE_SIM_SEED=%" PRIu64 " LEASE_SIM_RUNS=%" PRIu64
                  ": %" PRIu64 " faults, %" PRIu64 " acquired, %" PRIu64
                  " taken over at most %" PRIu64 " ms after they were free, %"
                  PRIu64 " handed over, %" PRIu64 " lost, %" PRIu64
                  " statements given up, %" PRIu64 " fenced, %" PRIu64
                  " overlaps seen\n", what, seed, runs, totals.faults,
                  totals.acquired, totals.takeovers,
                  totals.takeover_max / 1000, totals.handed_over, totals.lost,
                  totals.given_up, totals.fenced, totals.overlaps);

    assert_true(totals.acquired > runs);
    assert_true(runs < 10 || totals.lost > 0);
    assert_true(runs < 10 || totals.fenced > 0);
}


static void
test_hours_of_faults(void **state)
{
    (void) state;

    sim_hours("faults", 0, 0);
    assert_int_equal(totals.overlaps, 0);
}


static void
test_hours_of_deleted_rows(void **state)
{
    (void) state;

    sim_hours("deleted rows", 0, 1);
    assert_int_equal(totals.overlaps, 0);
}


static void
test_hours_of_a_jumping_clock(void **state)
{
    (void) state;

    sim_hours("jumping clock", 1, 0);
}


/* two nodes, two shards: what an operator sees when one goes and comes back */

static void
two_nodes(uint64_t seed, uint64_t at_most_ms)
{
    unsigned  n;
    uint64_t  gone_at;

    sim_start(seed, 2, 2, at_most_ms, 1000);
    sim_run_until(30 * SECOND);

    if (!sim_shared()) {
        sim_fail("not one each after the start", 0);
    }

    for (n = 0; n < 2; n++) {

        /* killed: within at_most and an interval */

        sim_run_until(sim.now + between(0, 20 * SECOND));
        sim_node_dies(n);
        gone_at = sim.now;

        while (!sim_shared()) {
            sim_run_until(sim.now + MS);

            if (sim.now - gone_at > (at_most_ms + 250 + 50) * MS) {
                sim_fail("not taken over in time", 0);
            }
        }

        sim_run_until(sim.now + between(0, 60 * SECOND));
        sim_node_birth(n);
        sim_run_until(sim.now + 30 * SECOND);

        if (!sim_shared()) {
            sim_fail("not one each again", 0);
        }

        /* stopped: within a second of its last report */

        sim_run_until(sim.now + between(0, 20 * SECOND));
        sim_node_stops(n);

        while (sim.nodes[n].alive) {
            sim_run_until(sim.now + MS);
        }

        gone_at = sim.now;

        /* it may be born again before that: then the shares come later */

        while (!sim_owned()) {
            sim_run_until(sim.now + MS);

            if (sim.now - gone_at > SECOND) {
                sim_fail("not taken over in time after a stop", 0);
            }
        }

        /* it is born again by itself */

        sim_run_until(sim.now + 60 * SECOND);

        if (!sim_shared()) {
            sim_fail("not one each after the stop", 0);
        }
    }
}


static void
test_two_nodes_two_shards(void **state)
{
    uint64_t  i, seed;

    (void) state;

    seed = setting("LEASE_SIM_SEED", (uint64_t) time(NULL) * 1000);
    print_message("LEASE_SIM_SEED=%" PRIu64 "\n", seed);

    for (i = 0; i < 60; i++) {
        two_nodes(seed + i, i % 3 == 0 ? 1000 : i % 3 == 1 ? 3000 : 30000);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_two_nodes_two_shards),
        cmocka_unit_test(test_hours_of_faults),
        cmocka_unit_test(test_hours_of_deleted_rows),
        cmocka_unit_test(test_hours_of_a_jumping_clock),
    };

    return cmocka_run_group_tests_name("lease_sim", tests, NULL, NULL);
}
