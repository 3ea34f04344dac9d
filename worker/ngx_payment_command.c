/*
 * Carries out what an operator asked of the helper; see ngx_payment_command.h.
 *
 * Owner: the helper process.  Limits: one command at a time; a replay ends
 * with its exchange.
 */

#include "ngx_payment_relay.h"
#include "ngx_payment_command.h"


static ngx_int_t ngx_payment_command_breaker(ngx_payment_outbox_t *o,
    ngx_uint_t op);
static ngx_uint_t ngx_payment_command_replay(ngx_payment_outbox_t *o,
    ngx_atomic_uint_t command);


static const char  *ngx_payment_command_names[] = {
    "none", "pause", "resume", "breaker force-open", "breaker close",
    "breaker reset", "breaker disable", "replay"
};


void
ngx_payment_command_run(ngx_payment_outbox_t *o)
{
    ngx_uint_t                   op, status;
    ngx_atomic_uint_t            command;
    ngx_payment_helper_stats_t  *helper;

    helper = &o->stats->helper;
    command = helper->command;

    if (command == 0 || o->command) {
        return;
    }

    o->command = command;
    op = ngx_payment_command_op(command);
    status = NGX_PAYMENT_COMMAND_DONE;

    if (op > NGX_PAYMENT_COMMAND_REPLAY) {
        ngx_payment_command_done(o, NGX_PAYMENT_COMMAND_UNKNOWN);
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, o->log, 0,
                  "payment outbox: operator: %s",
                  ngx_payment_command_names[op]);

    switch (op) {

    case NGX_PAYMENT_COMMAND_PAUSE:
        helper->paused = 1;
        break;

    case NGX_PAYMENT_COMMAND_RESUME:
        helper->paused = 0;
        break;

    case NGX_PAYMENT_COMMAND_REPLAY:
        status = ngx_payment_command_replay(o, command);
        break;

    default:
        if (ngx_payment_command_breaker(o, op) != NGX_OK) {
            status = NGX_PAYMENT_COMMAND_UNKNOWN;
        }

        break;
    }

    if (status) {
        ngx_payment_command_done(o, status);
    }
}


static ngx_int_t
ngx_payment_command_breaker(ngx_payment_outbox_t *o, ngx_uint_t op)
{
    int       rc;
    uint64_t  now;

    if (!o->breaker_on) {
        return NGX_ERROR;
    }

    now = ngx_payment_clock_ns();

    switch (op) {

    case NGX_PAYMENT_COMMAND_BREAKER_OPEN:
        rc = payment_breaker_force(&o->breaker, now,
                                   PAYMENT_BREAKER_FORCED_OPEN);
        break;

    case NGX_PAYMENT_COMMAND_BREAKER_CLOSE:
        rc = payment_breaker_force(&o->breaker, now, PAYMENT_BREAKER_CLOSED);
        break;

    case NGX_PAYMENT_COMMAND_BREAKER_RESET:
        payment_breaker_reset(&o->breaker, now);
        rc = 0;
        break;

    case NGX_PAYMENT_COMMAND_BREAKER_DISABLE:
        rc = payment_breaker_force(&o->breaker, now, PAYMENT_BREAKER_DISABLED);
        break;

    default:
        rc = -1;
        break;
    }

    return rc == 0 ? NGX_OK : NGX_ERROR;
}


/* 0: it is under way */

static ngx_uint_t
ngx_payment_command_replay(ngx_payment_outbox_t *o, ngx_atomic_uint_t command)
{
    ngx_uint_t            shard;
    ngx_payment_relay_t  *r;

    shard = ngx_payment_command_shard(command);

    if (shard >= o->nrelays || ngx_payment_command_id(command) == 0) {
        return NGX_PAYMENT_COMMAND_UNKNOWN;
    }

    r = &o->relays[shard];

    if (r->fence.lease.state != PAYMENT_LEASE_HELD) {
        return NGX_PAYMENT_COMMAND_NOT_HERE;
    }

    r->fence.replay_id = ngx_payment_command_id(command);
    ngx_payment_fence_soon(r);

    return 0;
}


void
ngx_payment_command_done(ngx_payment_outbox_t *o, ngx_uint_t status)
{
    ngx_uint_t                   count;
    ngx_payment_helper_stats_t  *helper;

    helper = &o->stats->helper;
    count = ngx_payment_result_count(helper->command_result) + 1;

    helper->command_result = ngx_payment_command_result(count,
                                       ngx_payment_command_op(o->command),
                                       status);
    ngx_memory_barrier();

    /* whoever asked may have taken it back, and another asked since */

    (void) ngx_atomic_cmp_set(&helper->command, o->command,
                              NGX_PAYMENT_COMMAND_NONE);
    o->command = 0;
}
