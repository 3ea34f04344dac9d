/*
 * What payment_outbox_admin asks of the helper, through the shared zone.
 *
 * Pausing is a state: helper.paused is written by a worker and looked at by
 * the helper whenever it would hand out an event.  It stays through a reload.
 *
 * What is to be done to the breaker is a command: helper.command is 0, or one
 * command that is not yet carried out.  A worker puts one in where there is
 * none, rings the doorbell, and waits until it is 0 again; the helper carries
 * it out, publishes the breaker's snapshot, and only then clears it.  Should
 * nobody do so in time, the worker takes its command back.  A helper that
 * drains leaves the command to its successor.
 */

#ifndef NGX_PAYMENT_COMMAND_H
#define NGX_PAYMENT_COMMAND_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_stats.h"


typedef enum {
    NGX_PAYMENT_COMMAND_NONE = 0,
    NGX_PAYMENT_COMMAND_FORCE_OPEN,   /* payment_breaker_force(FORCED_OPEN) */
    NGX_PAYMENT_COMMAND_CLOSE,        /* payment_breaker_force(CLOSED) */
    NGX_PAYMENT_COMMAND_DISABLE,      /* payment_breaker_force(DISABLED) */
    NGX_PAYMENT_COMMAND_RESET         /* payment_breaker_reset() */
} ngx_payment_command_e;


/* The worker: 1 if it is put in, 0 if another one waits there. */

static ngx_inline ngx_uint_t
ngx_payment_command_put(ngx_payment_helper_stats_t *h,
    ngx_payment_command_e command)
{
    return ngx_atomic_cmp_set(&h->command, NGX_PAYMENT_COMMAND_NONE, command);
}


/* The worker, after its time is up: 1 if nobody had carried it out. */

static ngx_inline ngx_uint_t
ngx_payment_command_take_back(ngx_payment_helper_stats_t *h,
    ngx_payment_command_e command)
{
    return ngx_atomic_cmp_set(&h->command, command, NGX_PAYMENT_COMMAND_NONE);
}


/* The helper: what is to be done, or NGX_PAYMENT_COMMAND_NONE. */

static ngx_inline ngx_payment_command_e
ngx_payment_command_get(ngx_payment_helper_stats_t *h)
{
    return (ngx_payment_command_e) h->command;
}


/* The helper, when it is done and the snapshot shows it. */

static ngx_inline void
ngx_payment_command_done(ngx_payment_helper_stats_t *h,
    ngx_payment_command_e command)
{
    (void) ngx_atomic_cmp_set(&h->command, command, NGX_PAYMENT_COMMAND_NONE);
}

#endif /* NGX_PAYMENT_COMMAND_H */
