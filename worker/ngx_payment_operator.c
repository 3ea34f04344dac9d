/*
 * An operator's commands; see ngx_payment_operator.h.
 */

#include "ngx_payment_operator.h"


static void ngx_payment_operator_forget(ngx_payment_relays_t *relays);
static ngx_uint_t ngx_payment_operator_status(ngx_payment_relays_t *relays,
    ngx_atomic_uint_t command);
static ngx_int_t ngx_payment_operator_breaker(ngx_payment_breaker_t *b,
    ngx_uint_t op);
static ngx_uint_t ngx_payment_operator_replay(ngx_payment_relays_t *relays,
    ngx_atomic_uint_t command);


static const char  *ngx_payment_operator_names[] = {
    "none", "breaker force-open", "breaker close", "breaker reset",
    "breaker disable", "replay"
};


void
ngx_payment_operator_run(ngx_payment_relays_t *relays)
{
    ngx_uint_t         status;
    ngx_atomic_uint_t  command;

    ngx_payment_operator_forget(relays);

    command = ngx_payment_command_take(&relays->command);

    if (command == 0) {
        return;
    }

    status = ngx_payment_operator_status(relays, command);

    if (status) {
        ngx_payment_command_done(&relays->command, status);
    }
}


/* Only a replay is under way for longer than its call. */

static void
ngx_payment_operator_forget(ngx_payment_relays_t *relays)
{
    ngx_uint_t  shard;

    if (!ngx_payment_command_taken_back(&relays->command)) {
        return;
    }

    shard = ngx_payment_command_shard(relays->command.word);

    if (ngx_payment_dead_cancel_replay(&relays->relays[shard].dead) == NGX_OK) {
        ngx_payment_command_drop(&relays->command);
    }
}


/* How the command went; 0: it is under way. */

static ngx_uint_t
ngx_payment_operator_status(ngx_payment_relays_t *relays,
    ngx_atomic_uint_t command)
{
    ngx_uint_t  op;

    op = ngx_payment_command_op(command);

    if (op > NGX_PAYMENT_COMMAND_REPLAY) {
        return NGX_PAYMENT_COMMAND_UNKNOWN;
    }

    ngx_log_error(NGX_LOG_NOTICE, relays->log, 0,
                  "payment outbox: operator: %s",
                  ngx_payment_operator_names[op]);

    if (op == NGX_PAYMENT_COMMAND_REPLAY) {
        return ngx_payment_operator_replay(relays, command);
    }

    return ngx_payment_operator_breaker(&relays->breaker, op) == NGX_OK
           ? NGX_PAYMENT_COMMAND_DONE : NGX_PAYMENT_COMMAND_UNKNOWN;
}


static ngx_int_t
ngx_payment_operator_breaker(ngx_payment_breaker_t *b, ngx_uint_t op)
{
    switch (op) {

    case NGX_PAYMENT_COMMAND_BREAKER_OPEN:
        return ngx_payment_breaker_force(b, PAYMENT_BREAKER_FORCED_OPEN);

    case NGX_PAYMENT_COMMAND_BREAKER_CLOSE:
        return ngx_payment_breaker_force(b, PAYMENT_BREAKER_CLOSED);

    case NGX_PAYMENT_COMMAND_BREAKER_DISABLE:
        return ngx_payment_breaker_force(b, PAYMENT_BREAKER_DISABLED);

    case NGX_PAYMENT_COMMAND_BREAKER_RESET:
        return ngx_payment_breaker_reset(b);

    default:
        return NGX_ERROR;
    }
}


static ngx_uint_t
ngx_payment_operator_replay(ngx_payment_relays_t *relays,
    ngx_atomic_uint_t command)
{
    uint64_t    id;
    ngx_uint_t  shard;

    shard = ngx_payment_command_shard(command);
    id = ngx_payment_command_id(command);

    if (shard >= relays->n || id == 0) {
        return NGX_PAYMENT_COMMAND_UNKNOWN;
    }

    return ngx_payment_relay_replay(&relays->relays[shard], id) == NGX_OK
           ? 0 : NGX_PAYMENT_COMMAND_NOT_HERE;
}
