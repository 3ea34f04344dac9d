/*
 * The lease of a shard: the statements of payment_lease_rules.h, sent and
 * answered on the fence's connection, so that they never run beside a fenced
 * statement of our own.
 *
 * Owner: the helper process.
 * Limits: one statement in flight, for times.statement_ms at most.
 *
 * Beyond the rules: a life of this helper that ended without giving its leases
 * back has left its uuid in shared memory; when its process is gone, its
 * successor takes the lease from it at once instead of waiting for its end.
 */

#include "ngx_payment_relay.h"


/* PROLONGED of payment_lease_rules.h; takes at_most, in milliseconds, twice */

#define NGX_PAYMENT_LEASE_PROLONGED                                           \
    "LEAST(GREATEST(lock_until, UTC_TIMESTAMP(3) "                            \
    "+ INTERVAL %uL000 MICROSECOND), UTC_TIMESTAMP(3) "                       \
    "+ INTERVAL %uL000 MICROSECOND + INTERVAL 1 MINUTE) "


static void ngx_payment_lease_acquire(ngx_payment_relay_t *r);
static void ngx_payment_lease_extend(ngx_payment_relay_t *r);
static void ngx_payment_lease_release(ngx_payment_relay_t *r);
static void ngx_payment_lease_beat(ngx_payment_relay_t *r);
static void ngx_payment_lease_leave(ngx_payment_relay_t *r);
static void ngx_payment_lease_insert(ngx_payment_relay_t *r);
static ngx_uint_t ngx_payment_lease_failed(ngx_payment_relay_t *r);
static void ngx_payment_lease_answer(ngx_payment_relay_t *r, uint64_t now_ms);
static void ngx_payment_lease_acquired(ngx_payment_relay_t *r,
    uint64_t now_ms);
static void ngx_payment_lease_view(ngx_payment_relay_t *r, uint64_t now_ms);
static uint64_t ngx_payment_lease_value(ngx_payment_db_stmt_t *stmt);
static void ngx_payment_lease_timer(ngx_event_t *ev);


static void  (*ngx_payment_lease_statements[])(ngx_payment_relay_t *r) = {
    NULL,                                  /* PAYMENT_LEASE_WAIT */
    ngx_payment_lease_beat,
    ngx_payment_lease_acquire,
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
ngx_payment_lease_open(ngx_payment_relay_t *r)
{
    ngx_payment_fence_t  *f;

    f = &r->fence;

    payment_lease_init(&f->lease, &r->outbox->node, ngx_payment_clock_ms());

    f->timer.handler = ngx_payment_lease_timer;
    f->timer.data = r;
    f->timer.log = r->log;
    f->timer.cancelable = 1;
}


ngx_int_t
ngx_payment_lease_step(ngx_payment_relay_t *r)
{
    uint64_t              now, until;
    ngx_payment_fence_t  *f;

    f = &r->fence;
    now = ngx_payment_clock_ms();

    f->action = payment_lease_next(&f->lease, now, &until);

    if (f->action == PAYMENT_LEASE_WAIT) {

        if (until != PAYMENT_LEASE_NEVER) {
            ngx_add_timer(&f->timer, (ngx_msec_t) (until - ngx_min(until, now))
                                     + 1);
        }

        return NGX_DECLINED;
    }

    f->n = 0;
    ngx_payment_lease_statements[f->action](r);
    ngx_payment_fence_send(r, NGX_PAYMENT_FENCE_LEASE);

    return NGX_OK;
}


/*
 * An event that is handed out must be delivered or given up before the lease
 * can have run out: hence the producer's timeout.
 */

ngx_uint_t
ngx_payment_lease_allows(ngx_payment_relay_t *r, uint64_t now_ns)
{
    return payment_lease_remaining(&r->fence.lease, now_ns / 1000000)
           > r->outbox->producer_timeout;
}


static void
ngx_payment_lease_acquire(ngx_payment_relay_t *r)
{
    u_char                *p;
    ngx_payment_outbox_t  *o;
    ngx_payment_fence_t   *f;

    o = r->outbox;
    f = &r->fence;

    p = ngx_sprintf(f->sql[0],
            "UPDATE outbox_lease SET epoch = LAST_INSERT_ID(epoch + 1), "
            "owner_uuid = '%s', locked_by = '%s', "
            "locked_at = UTC_TIMESTAMP(3), lock_until = "
            NGX_PAYMENT_LEASE_PROLONGED
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' AND (lock_until <= "
            "UTC_TIMESTAMP(3) - INTERVAL %uL000 MICROSECOND "
            "OR owner_uuid IN ('%s'%s))",
            o->uuid, o->host, o->node.conf.at_most_ms,
            o->node.conf.at_most_ms, f->lease.grace_ms, o->uuid,
            o->predecessors);

    ngx_payment_fence_statement(r, f->sql[0], p);

    p = ngx_sprintf(f->sql[1], "SELECT LAST_INSERT_ID()");
    ngx_payment_fence_statement(r, f->sql[1], p);
}


/* The second says whether it is ours: the first changes nothing when two fall
 * into one millisecond. */

static void
ngx_payment_lease_extend(ngx_payment_relay_t *r)
{
    u_char                *p;
    ngx_payment_outbox_t  *o;
    ngx_payment_fence_t   *f;

    o = r->outbox;
    f = &r->fence;

    p = ngx_sprintf(f->sql[0],
            "UPDATE outbox_lease SET lock_until = "
            NGX_PAYMENT_LEASE_PROLONGED
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "AND owner_uuid = '%s' AND epoch = %uL "
            "AND lock_until > UTC_TIMESTAMP(3)",
            o->node.conf.at_most_ms, o->node.conf.at_most_ms, o->uuid,
            f->lease.epoch);

    ngx_payment_fence_statement(r, f->sql[0], p);

    p = ngx_sprintf(f->sql[1],
            "SELECT COUNT(*) FROM outbox_lease "
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "AND owner_uuid = '%s' AND epoch = %uL "
            "AND lock_until > UTC_TIMESTAMP(3)",
            o->uuid, f->lease.epoch);

    ngx_payment_fence_statement(r, f->sql[1], p);
}


static void
ngx_payment_lease_release(ngx_payment_relay_t *r)
{
    u_char                *p;
    ngx_payment_outbox_t  *o;
    ngx_payment_fence_t   *f;

    o = r->outbox;
    f = &r->fence;

    p = ngx_sprintf(f->sql[0],
            "UPDATE outbox_lease SET owner_uuid = '', lock_until = GREATEST("
            "UTC_TIMESTAMP(3), LEAST(locked_at, UTC_TIMESTAMP(3)) "
            "+ INTERVAL %uL000 MICROSECOND) "
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "AND owner_uuid = '%s' AND epoch = %uL",
            o->node.conf.at_least_ms, o->uuid, f->lease.epoch);

    ngx_payment_fence_statement(r, f->sql[0], p);
}


static void
ngx_payment_lease_beat(ngx_payment_relay_t *r)
{
    u_char                *p;
    ngx_payment_outbox_t  *o;
    ngx_payment_fence_t   *f;

    o = r->outbox;
    f = &r->fence;

    p = ngx_sprintf(f->sql[0],
            "INSERT INTO outbox_lease (name, lock_until, locked_at, "
            "locked_by, epoch, owner_uuid) VALUES ('node/%s', "
            "UTC_TIMESTAMP(3) + INTERVAL %uL000 MICROSECOND, "
            "UTC_TIMESTAMP(3), '%s', %uD, '%s') ON DUPLICATE KEY UPDATE "
            "lock_until = VALUES(lock_until), epoch = VALUES(epoch)",
            o->uuid, o->node.times.alive_ms, o->host, o->node.held, o->uuid);

    ngx_payment_fence_statement(r, f->sql[0], p);

    p = ngx_sprintf(f->sql[1],
            "SELECT name, epoch, owner_uuid FROM outbox_lease "
            "WHERE name = '" NGX_PAYMENT_LEASE_NAME "' "
            "OR (name LIKE 'node/%%' AND lock_until > UTC_TIMESTAMP(3))");

    ngx_payment_fence_statement(r, f->sql[1], p);
}


static void
ngx_payment_lease_leave(ngx_payment_relay_t *r)
{
    u_char               *p;
    ngx_payment_fence_t  *f;

    f = &r->fence;

    p = ngx_sprintf(f->sql[0],
            "DELETE FROM outbox_lease "
            "WHERE name IN ('node/%s', 'reader/%s') "
            "OR (name LIKE 'node/%%' "
            "AND lock_until < UTC_TIMESTAMP(3) - INTERVAL 1 HOUR) "
            "OR (name LIKE 'reader/%%' "
            "AND lock_until < UTC_TIMESTAMP(3) - INTERVAL 1 HOUR)",
            r->outbox->uuid, r->outbox->uuid);

    ngx_payment_fence_statement(r, f->sql[0], p);
}


static void
ngx_payment_lease_insert(ngx_payment_relay_t *r)
{
    u_char               *p;
    ngx_payment_fence_t  *f;

    f = &r->fence;

    p = ngx_sprintf(f->sql[0],
            "INSERT IGNORE INTO outbox_lease (name, lock_until, locked_at, "
            "locked_by, epoch, owner_uuid) VALUES ('" NGX_PAYMENT_LEASE_NAME
            "', UTC_TIMESTAMP(3) + INTERVAL %uL000 MICROSECOND, "
            "UTC_TIMESTAMP(3), '', FLOOR(UNIX_TIMESTAMP(UTC_TIMESTAMP(3)) "
            "* 1000), '')",
            r->outbox->node.conf.at_most_ms);

    ngx_payment_fence_statement(r, f->sql[0], p);
}


void
ngx_payment_lease_done(ngx_payment_relay_t *r, ngx_uint_t lost)
{
    uint64_t              now;
    ngx_uint_t            held;
    ngx_payment_fence_t  *f;

    f = &r->fence;
    now = ngx_payment_clock_ms();
    held = (f->lease.state != PAYMENT_LEASE_FREE);

    if (lost || ngx_payment_lease_failed(r)) {
        (void) ngx_atomic_fetch_add(&r->stats->errors, 1);
        payment_lease_on_error(&f->lease, now);

    } else {
        ngx_payment_lease_answer(r, now);
    }

    if (held && f->lease.state == PAYMENT_LEASE_FREE) {
        ngx_payment_relay_unleased(r);
    }
}


static ngx_uint_t
ngx_payment_lease_failed(ngx_payment_relay_t *r)
{
    ngx_uint_t            i;
    ngx_payment_fence_t  *f;

    f = &r->fence;

    for (i = 0; i < f->n; i++) {
        if (f->stmts[i].error) {
            ngx_payment_relay_db_error(r, ngx_payment_lease_phases[f->action],
                                       f->stmts[i].error, f->stmts[i].message);
            return 1;
        }
    }

    return 0;
}


static void
ngx_payment_lease_answer(ngx_payment_relay_t *r, uint64_t now_ms)
{
    ngx_payment_fence_t  *f;

    f = &r->fence;

    switch (f->action) {

    case PAYMENT_LEASE_ACQUIRE:
        if (f->stmts[0].affected == 1) {
            ngx_payment_lease_acquired(r, now_ms);

        } else {
            payment_lease_on_refused(&f->lease, now_ms);
        }

        break;

    case PAYMENT_LEASE_EXTEND:
        if (ngx_payment_lease_value(&f->stmts[1]) == 1) {
            payment_lease_on_extended(&f->lease, now_ms);

        } else {
            ngx_log_error(NGX_LOG_WARN, r->log, 0,
                          "payment outbox: shard \"%V\": lease lost, epoch %uL:"
                          " it ran out or was taken", &r->shard->name,
                          f->lease.epoch);

            (void) ngx_atomic_fetch_add(&r->stats->leases_lost, 1);
            payment_lease_on_lost(&f->lease, now_ms);
        }

        break;

    case PAYMENT_LEASE_RELEASE:
        ngx_log_error(NGX_LOG_NOTICE, r->log, 0,
                      "payment outbox: shard \"%V\": lease released, epoch %uL",
                      &r->shard->name, f->lease.epoch);

        payment_lease_on_released(&f->lease, now_ms);
        break;

    case PAYMENT_LEASE_BEAT:
        ngx_payment_lease_view(r, now_ms);
        break;

    default:
        payment_lease_on_done(&f->lease, now_ms);
        break;
    }
}


static void
ngx_payment_lease_acquired(ngx_payment_relay_t *r, uint64_t now_ms)
{
    uint64_t              epoch;
    ngx_payment_fence_t  *f;

    f = &r->fence;
    epoch = ngx_payment_lease_value(&f->stmts[1]);

    payment_lease_on_acquired(&f->lease, now_ms, epoch);

    ngx_log_error(NGX_LOG_NOTICE, r->log, 0,
                  "payment outbox: shard \"%V\": lease acquired, epoch %uL",
                  &r->shard->name, epoch);

    (void) ngx_atomic_fetch_add(&r->stats->acquired, 1);
    r->stats->epoch = epoch;

    ngx_payment_relay_leased(r);
}


static void
ngx_payment_lease_view(ngx_payment_relay_t *r, uint64_t now_ms)
{
    ngx_uint_t            present, held;
    MYSQL_ROW             row;
    ngx_payment_fence_t  *f;

    f = &r->fence;
    present = 0;
    held = (f->lease.state != PAYMENT_LEASE_FREE);

    payment_lease_view_begin(&f->lease);

    while ((row = mysql_fetch_row(f->stmts[1].result)) != NULL) {

        if (ngx_strcmp(row[0], NGX_PAYMENT_LEASE_NAME) == 0) {
            present = 1;

        } else {
            payment_lease_view_node(&f->lease, row[2],
                                    ngx_payment_row_number(row[1]));
        }
    }

    payment_lease_on_view(&f->lease, now_ms, (int) present);

    if (held && f->lease.state == PAYMENT_LEASE_FREE) {
        ngx_log_error(NGX_LOG_ERR, r->log, 0,
                      "payment outbox: shard \"%V\": lease lost, epoch %uL: "
                      "its row is not there", &r->shard->name, f->lease.epoch);

        (void) ngx_atomic_fetch_add(&r->stats->leases_lost, 1);
    }
}


static uint64_t
ngx_payment_lease_value(ngx_payment_db_stmt_t *stmt)
{
    MYSQL_ROW  row;

    row = stmt->result ? mysql_fetch_row(stmt->result) : NULL;

    return row ? ngx_payment_row_number(row[0]) : 0;
}


static void
ngx_payment_lease_timer(ngx_event_t *ev)
{
    ngx_payment_fence_next(ev->data);
}
