/*
 * The lease's statements and their answers; see ngx_payment_lease.h.
 *
 * Beyond the rules of payment_lease_rules.h: a life of this helper that ended
 * without giving its leases back has left its uuid in shared memory.  When its
 * process is gone, its successor takes the lease from that uuid at once
 * instead of waiting for the lease's end.
 */

#include "ngx_payment_lease.h"
#include "ngx_payment_row.h"


/* PROLONGED of payment_lease_rules.h; takes at_most, in milliseconds, twice */

#define NGX_PAYMENT_LEASE_PROLONGED                                           \
    "LEAST(GREATEST(lock_until, UTC_TIMESTAMP(3) "                            \
    "+ INTERVAL %uL000 MICROSECOND), UTC_TIMESTAMP(3) "                       \
    "+ INTERVAL %uL000 MICROSECOND + INTERVAL 1 MINUTE) "


/* takes the grace in milliseconds, this node's uuid, and its predecessors' */

#define NGX_PAYMENT_LEASE_FREE                                                \
    "lock_until <= UTC_TIMESTAMP(3) - INTERVAL %uL000 MICROSECOND "           \
    "OR owner_uuid IN ('%s'%s)"


/* AHEAD of payment_lease_rules.h; takes at_most in milliseconds */

#define NGX_PAYMENT_LEASE_AHEAD                                               \
    "lock_until > UTC_TIMESTAMP(3) + INTERVAL %uL000 MICROSECOND "            \
    "+ INTERVAL 61 SECOND"

#define NGX_PAYMENT_LEASE_AHEAD_SIZE  128


static ngx_uint_t ngx_payment_lease_drained(ngx_payment_outbox_shard_t *sh);
static void ngx_payment_lease_look(ngx_payment_lease_t *l);
static void ngx_payment_lease_acquire(ngx_payment_lease_t *l);
static void ngx_payment_lease_extend(ngx_payment_lease_t *l);
static void ngx_payment_lease_release(ngx_payment_lease_t *l);
static void ngx_payment_lease_beat(ngx_payment_lease_t *l);
static void ngx_payment_lease_leave(ngx_payment_lease_t *l);
static void ngx_payment_lease_insert(ngx_payment_lease_t *l);
static ngx_uint_t ngx_payment_lease_found_free(ngx_payment_lease_t *l,
    uint64_t now_ms);
static ngx_uint_t ngx_payment_lease_forsaken(ngx_payment_lease_t *l,
    uint64_t now_ms);
static void ngx_payment_lease_answer(ngx_payment_lease_t *l, uint64_t now_ms);
static void ngx_payment_lease_acquired(ngx_payment_lease_t *l,
    uint64_t now_ms);
static void ngx_payment_lease_view(ngx_payment_lease_t *l, uint64_t now_ms);
static uint64_t ngx_payment_lease_value(ngx_payment_db_stmt_t *stmt);
static void ngx_payment_lease_timer(ngx_event_t *ev);


static void  (*ngx_payment_lease_statements[])(ngx_payment_lease_t *l) = {
    NULL,                                  /* PAYMENT_LEASE_WAIT */
    ngx_payment_lease_beat,
    ngx_payment_lease_look,
    ngx_payment_lease_extend,
    ngx_payment_lease_release,
    ngx_payment_lease_insert,
    ngx_payment_lease_leave
};


static const char  *ngx_payment_lease_phases[] = {
    "waiting",
    "telling of this node",
    "acquiring the lease",
    "extending the lease",
    "releasing the lease",
    "making the row of the lease",
    "leaving"
};


void
ngx_payment_lease_open(ngx_payment_lease_t *l)
{
    payment_lease_init(&l->sh->lease, &l->sh->node->rules,
                       ngx_payment_clock_ms());

    l->timer.handler = ngx_payment_lease_timer;
    l->timer.data = l;
    l->timer.log = l->sh->log;
    l->timer.cancelable = 1;
}


void
ngx_payment_lease_close(ngx_payment_lease_t *l)
{
    if (l->timer.timer_set) {
        ngx_del_timer(&l->timer);
    }
}


static void
ngx_payment_lease_timer(ngx_event_t *ev)
{
    ngx_payment_lease_t *l = ev->data;

    ngx_payment_fence_next(l->fence);
}


ngx_int_t
ngx_payment_lease_step(void *part, uint64_t now_ms)
{
    ngx_payment_lease_t *l = part;

    uint64_t                     until;
    ngx_payment_outbox_shard_t  *sh;

    sh = l->sh;

    if (sh->lease.state != PAYMENT_LEASE_DRAINING) {
        l->drain_until_ms = now_ms + sh->node->rules.conf.at_most_ms;

    } else if (ngx_payment_lease_drained(sh) || now_ms >= l->drain_until_ms) {
        payment_lease_on_drained(&sh->lease, now_ms);
    }

    if (l->look == NGX_PAYMENT_LEASE_LOOK_FREE) {
        /* the rules wait for the answer of this ACQUIRE */
        l->look = NGX_PAYMENT_LEASE_LOOK_NONE;

        ngx_payment_fence_begin(l->fence);
        ngx_payment_lease_acquire(l);
        ngx_payment_fence_send(l->fence);

        return NGX_OK;
    }

    l->action = payment_lease_next(&sh->lease, now_ms, &until);

    if (l->action == PAYMENT_LEASE_WAIT) {

        if (until != PAYMENT_LEASE_NEVER) {
            ngx_add_timer(&l->timer,
                          (ngx_msec_t) (until - ngx_min(until, now_ms)) + 1);
        }

        return NGX_DECLINED;
    }

    ngx_payment_fence_begin(l->fence);
    ngx_payment_lease_statements[l->action](l);
    ngx_payment_fence_send(l->fence);

    return NGX_OK;
}


/* Nothing is with Kafka, and nothing that Kafka has is in the table. */

static ngx_uint_t
ngx_payment_lease_drained(ngx_payment_outbox_shard_t *sh)
{
    return payment_inflight_count(&sh->table, PAYMENT_EVENT_SENT) == 0
           && payment_inflight_count(&sh->table, PAYMENT_EVENT_EARLY) == 0
           && payment_inflight_count(&sh->table, PAYMENT_EVENT_ACKED) == 0
           && payment_inflight_count(&sh->table, PAYMENT_EVENT_UNSURE) == 0
           && payment_inflight_count(&sh->table, PAYMENT_EVENT_DELETING) == 0;
}


static void
ngx_payment_lease_look(ngx_payment_lease_t *l)
{
    ngx_payment_node_t  *node;

    node = l->sh->node;
    l->look = NGX_PAYMENT_LEASE_LOOKING;

    l->answer = ngx_payment_fence_add(l->fence,
            "SELECT " NGX_PAYMENT_LEASE_FREE ", " NGX_PAYMENT_LEASE_AHEAD
            " FROM outbox_lease WHERE name = '" NGX_PAYMENT_LEASE_NAME "'",
            l->sh->lease.grace_ms, node->rules.uuid, node->predecessors,
            node->rules.conf.at_most_ms);
}


static void
ngx_payment_lease_acquire(ngx_payment_lease_t *l)
{
    u_char               ahead[NGX_PAYMENT_LEASE_AHEAD_SIZE];
    uint64_t             at_most;
    ngx_payment_node_t  *node;

    node = l->sh->node;
    at_most = node->rules.conf.at_most_ms;
    ahead[0] = '\0';

    if (ngx_payment_lease_forsaken(l, ngx_payment_clock_ms())) {
        ngx_log_error(NGX_LOG_WARN, l->sh->log, 0,
                      "payment outbox: shard \"%V\": nobody extends the lease, "
                      "which ends too late: the database's clock was set back, "
                      "and the lease is taken", &l->sh->shard->name);

        (void) ngx_snprintf(ahead, sizeof(ahead),
                            " OR " NGX_PAYMENT_LEASE_AHEAD "%Z", at_most);
    }

    l->change = ngx_payment_fence_add(l->fence,
            "UPDATE outbox_lease SET epoch = LAST_INSERT_ID(epoch + 1), "
            "owner_uuid = '%s', locked_by = '%s', "
            "locked_at = UTC_TIMESTAMP(3), lock_until = "
            NGX_PAYMENT_LEASE_PROLONGED
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "AND (" NGX_PAYMENT_LEASE_FREE "%s)" NGX_PAYMENT_TOPOLOGY_OURS,
            node->rules.uuid, node->host, at_most, at_most,
            l->sh->lease.grace_ms, node->rules.uuid, node->predecessors,
            ahead, (uint64_t) l->sh->shard->common->epoch);

    l->answer = ngx_payment_fence_add(l->fence, "SELECT LAST_INSERT_ID()");
}


/* The answer says whether the lease is ours: the change counts no row when two
 * extensions fall into one millisecond. */

static void
ngx_payment_lease_extend(ngx_payment_lease_t *l)
{
    uint64_t             at_most;
    ngx_payment_node_t  *node;

    node = l->sh->node;
    at_most = node->rules.conf.at_most_ms;

    l->change = ngx_payment_fence_add(l->fence,
            "UPDATE outbox_lease SET lock_until = "
            NGX_PAYMENT_LEASE_PROLONGED
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "AND owner_uuid = '%s' AND epoch = %uL "
            "AND lock_until > UTC_TIMESTAMP(3)" NGX_PAYMENT_TOPOLOGY_OURS,
            at_most, at_most, node->rules.uuid, l->sh->lease.epoch,
            (uint64_t) l->sh->shard->common->epoch);

    l->answer = ngx_payment_fence_add(l->fence,
            "SELECT COUNT(*) FROM outbox_lease "
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "AND owner_uuid = '%s' AND epoch = %uL "
            "AND lock_until > UTC_TIMESTAMP(3)" NGX_PAYMENT_TOPOLOGY_OURS,
            node->rules.uuid, l->sh->lease.epoch,
            (uint64_t) l->sh->shard->common->epoch);
}


static void
ngx_payment_lease_release(ngx_payment_lease_t *l)
{
    (void) ngx_payment_fence_add(l->fence,
            "UPDATE outbox_lease SET owner_uuid = '', lock_until = GREATEST("
            "UTC_TIMESTAMP(3), LEAST(locked_at, UTC_TIMESTAMP(3)) "
            "+ INTERVAL %uL000 MICROSECOND) "
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "AND owner_uuid = '%s' AND epoch = %uL",
            l->sh->node->rules.conf.at_least_ms, l->sh->node->rules.uuid,
            l->sh->lease.epoch);
}


static void
ngx_payment_lease_beat(ngx_payment_lease_t *l)
{
    ngx_payment_node_t  *node;

    node = l->sh->node;

    (void) ngx_payment_fence_add(l->fence,
            "INSERT INTO outbox_lease (name, lock_until, locked_at, "
            "locked_by, epoch, owner_uuid) VALUES ('node/%s', "
            "UTC_TIMESTAMP(3) + INTERVAL %uL000 MICROSECOND, "
            "UTC_TIMESTAMP(3), '%s', %uL, '%s') ON DUPLICATE KEY UPDATE "
            "lock_until = VALUES(lock_until), epoch = VALUES(epoch)",
            node->rules.uuid, node->rules.times.alive_ms, node->host,
            payment_lease_told(&l->sh->lease), node->rules.uuid);

    l->answer = ngx_payment_fence_add(l->fence,
            "SELECT name, epoch, owner_uuid FROM outbox_lease "
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "OR (name LIKE 'node/%%' AND lock_until > UTC_TIMESTAMP(3))");
}


static void
ngx_payment_lease_leave(ngx_payment_lease_t *l)
{
    (void) ngx_payment_fence_add(l->fence,
            "DELETE FROM outbox_lease "
            "WHERE name IN ('node/%s', 'reader/%s') "
            "OR (name LIKE 'node/%%' "
            "AND lock_until < UTC_TIMESTAMP(3) - INTERVAL 1 HOUR) "
            "OR (name LIKE 'reader/%%' "
            "AND lock_until < UTC_TIMESTAMP(3) - INTERVAL 1 HOUR)",
            l->sh->node->rules.uuid, l->sh->node->rules.uuid);
}


static void
ngx_payment_lease_insert(ngx_payment_lease_t *l)
{
    (void) ngx_payment_fence_add(l->fence,
            "INSERT IGNORE INTO outbox_lease (name, lock_until, locked_at, "
            "locked_by, epoch, owner_uuid) VALUES ('" NGX_PAYMENT_LEASE_NAME
            "', UTC_TIMESTAMP(3) + INTERVAL %uL000 MICROSECOND, "
            "UTC_TIMESTAMP(3), '', FLOOR(UNIX_TIMESTAMP(UTC_TIMESTAMP(3)) "
            "* 1000), '')",
            l->sh->node->rules.conf.at_most_ms);
}


void
ngx_payment_lease_done(void *part, ngx_uint_t lost)
{
    ngx_payment_lease_t *l = part;

    uint64_t                     now;
    ngx_uint_t                   ours, looked;
    ngx_payment_outbox_shard_t  *sh;

    sh = l->sh;
    now = ngx_payment_clock_ms();
    ours = (sh->lease.state != PAYMENT_LEASE_FREE);
    looked = (l->look == NGX_PAYMENT_LEASE_LOOKING);
    l->look = NGX_PAYMENT_LEASE_LOOK_NONE;

    if (ngx_payment_fence_check_plain(l->fence, lost,
                                      ngx_payment_lease_phases[l->action])
        == NGX_OK)
    {
        if (looked && ngx_payment_lease_found_free(l, now)) {
            /* the fence comes back to the lease at once */
            l->look = NGX_PAYMENT_LEASE_LOOK_FREE;

        } else if (looked) {
            payment_lease_on_refused(&sh->lease, now);

        } else {
            ngx_payment_lease_answer(l, now);
        }

    } else {
        l->ahead_since_ms = 0;
        payment_lease_on_error(&sh->lease, now);
    }

    if (ours && sh->lease.state == PAYMENT_LEASE_FREE) {
        sh->handlers->unleased(sh->data);
    }
}


/* What a look found: can the lease be taken? */

static ngx_uint_t
ngx_payment_lease_found_free(ngx_payment_lease_t *l, uint64_t now_ms)
{
    MYSQL_ROW  row;

    row = mysql_fetch_row(l->answer->result);

    if (row == NULL || row[1][0] == '0') {
        l->ahead_since_ms = 0;

    } else if (l->ahead_since_ms == 0) {
        l->ahead_since_ms = now_ms;
    }

    return row && (row[0][0] == '1' || ngx_payment_lease_forsaken(l, now_ms));
}


/* The database's clock was set back, and nobody has extended the lease since:
 * its holder would have, and then it would end sooner. */

static ngx_uint_t
ngx_payment_lease_forsaken(ngx_payment_lease_t *l, uint64_t now_ms)
{
    return l->ahead_since_ms
           && now_ms - l->ahead_since_ms >= l->sh->node->rules.conf.at_most_ms;
}


static void
ngx_payment_lease_answer(ngx_payment_lease_t *l, uint64_t now_ms)
{
    ngx_payment_outbox_shard_t  *sh;

    sh = l->sh;

    switch (l->action) {

    case PAYMENT_LEASE_ACQUIRE:
        if (l->change->affected == 1) {
            ngx_payment_lease_acquired(l, now_ms);

        } else {
            payment_lease_on_refused(&sh->lease, now_ms);
        }

        break;

    case PAYMENT_LEASE_EXTEND:
        if (ngx_payment_lease_value(l->answer) == 1) {
            payment_lease_on_extended(&sh->lease, now_ms);

        } else {
            ngx_log_error(NGX_LOG_WARN, sh->log, 0,
                          "payment outbox: shard \"%V\": lease lost, epoch %uL:"
                          " it ran out or was taken", &sh->shard->name,
                          sh->lease.epoch);

            (void) ngx_atomic_fetch_add(&sh->stats->leases_lost, 1);
            payment_lease_on_lost(&sh->lease, now_ms);
        }

        break;

    case PAYMENT_LEASE_RELEASE:
        ngx_log_error(NGX_LOG_NOTICE, sh->log, 0,
                      "payment outbox: shard \"%V\": lease released, epoch %uL",
                      &sh->shard->name, sh->lease.epoch);

        payment_lease_on_released(&sh->lease, now_ms);
        break;

    case PAYMENT_LEASE_BEAT:
        ngx_payment_lease_view(l, now_ms);
        break;

    default:
        payment_lease_on_done(&sh->lease, now_ms);
        break;
    }
}


static void
ngx_payment_lease_acquired(ngx_payment_lease_t *l, uint64_t now_ms)
{
    uint64_t                     epoch;
    ngx_payment_outbox_shard_t  *sh;

    sh = l->sh;
    epoch = ngx_payment_lease_value(l->answer);
    l->ahead_since_ms = 0;

    payment_lease_on_acquired(&sh->lease, now_ms, epoch);

    ngx_log_error(NGX_LOG_NOTICE, sh->log, 0,
                  "payment outbox: shard \"%V\": lease acquired, epoch %uL",
                  &sh->shard->name, epoch);

    (void) ngx_atomic_fetch_add(&sh->stats->acquired, 1);
    sh->stats->epoch = epoch;

    sh->handlers->leased(sh->data);
}


static void
ngx_payment_lease_view(ngx_payment_lease_t *l, uint64_t now_ms)
{
    ngx_uint_t                   present, ours;
    MYSQL_ROW                    row;
    payment_lease_state_e        before;
    ngx_payment_outbox_shard_t  *sh;

    sh = l->sh;
    present = 0;
    ours = (sh->lease.state != PAYMENT_LEASE_FREE);

    payment_lease_view_begin(&sh->lease);

    while ((row = mysql_fetch_row(l->answer->result)) != NULL) {

        if (ngx_strcmp(row[0], NGX_PAYMENT_LEASE_NAME) == 0) {
            present = 1;

        } else {
            payment_lease_view_node(&sh->lease, row[2],
                                    ngx_payment_row_number(row[1]));
        }
    }

    before = sh->lease.state;

    payment_lease_on_view(&sh->lease, now_ms, (int) present);

    if (before == PAYMENT_LEASE_HELD
        && sh->lease.state == PAYMENT_LEASE_DRAINING)
    {
        ngx_log_error(NGX_LOG_NOTICE,
                      sh->log, 0, "payment outbox: shard \"%V\": handing the "
                      "lease over, epoch %uL: %s", &sh->shard->name,
                      sh->lease.epoch,
                      sh->lease.unable ? "nothing can be published from here"
                                       : "another node has fewer");
    }

    if (ours && sh->lease.state == PAYMENT_LEASE_FREE) {
        ngx_log_error(NGX_LOG_ERR, sh->log, 0,
                      "payment outbox: shard \"%V\": lease lost, epoch %uL: "
                      "its row is not there", &sh->shard->name,
                      sh->lease.epoch);

        (void) ngx_atomic_fetch_add(&sh->stats->leases_lost, 1);
    }
}


static uint64_t
ngx_payment_lease_value(ngx_payment_db_stmt_t *stmt)
{
    MYSQL_ROW  row;

    row = stmt->result ? mysql_fetch_row(stmt->result) : NULL;

    return row ? ngx_payment_row_number(row[0]) : 0;
}
