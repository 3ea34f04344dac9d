/*
 * Moving dead letters and replaying them; see ngx_payment_dead.h.
 */

#include "ngx_payment_dead.h"


#define NGX_PAYMENT_DEAD_VALUES       256      /* bytes: reason, attempts */


static void ngx_payment_dead_buried(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e);
static void ngx_payment_dead_follow(payment_event_t *e);


ngx_int_t
ngx_payment_dead_step(void *part, uint64_t now_ms)
{
    ngx_payment_dead_t *d = part;

    u_char               values[NGX_PAYMENT_DEAD_VALUES];
    ngx_str_t            condition;
    ngx_uint_t           n, attempts;
    const char          *reason;
    payment_event_t     *e;
    payment_inflight_t  *table;

    table = &d->sh->table;
    e = payment_inflight_first(table, PAYMENT_EVENT_DEAD);

    if (e == NULL) {
        return NGX_DECLINED;
    }

    if (e->follower) {
        reason = "follows a dead letter of its payment";
        attempts = 0;
        n = ngx_payment_fence_collect(d->fence, PAYMENT_EVENT_DEAD, 1,
                                      NGX_PAYMENT_DEAD_FOLLOWERS);

    } else {
        reason = d->reason(e);
        attempts = e->attempts;
        d->fence->ids[0] = e->id;
        n = 1;
    }

    (void) ngx_snprintf(values, sizeof(values),
                        ", '%s', %ui, UTC_TIMESTAMP(3)%Z", reason, attempts);

    ngx_payment_fence_condition(d->fence, n, &condition);

    ngx_payment_fence_begin_fenced(d->fence, "");
    d->work = ngx_payment_fence_move(d->fence, "outbox_event", "outbox_dead",
                                     ", reason, attempts, dead_at",
                                     (char *) values, &condition);
    ngx_payment_fence_commit(d->fence);

    return NGX_OK;
}


void
ngx_payment_dead_done(void *part, ngx_uint_t lost)
{
    ngx_payment_dead_t *d = part;

    ngx_int_t                    rc;
    payment_event_t             *e;
    ngx_payment_outbox_shard_t  *sh;

    sh = d->sh;

    rc = ngx_payment_fence_check(d->fence, lost, "moving dead letters");

    if (rc == NGX_OK) {
        (void) ngx_atomic_fetch_add(&sh->stats->dead,
                                    (ngx_atomic_int_t) d->work->affected);
    }

    while ((e = payment_inflight_first(&sh->table, PAYMENT_EVENT_DELETING))
           != NULL)
    {
        if (rc != NGX_OK) {
            payment_inflight_move(e, PAYMENT_EVENT_DEAD);
            continue;
        }

        if (!e->follower) {
            ngx_log_error(NGX_LOG_ERR, sh->log, 0,
                          "payment outbox: shard \"%V\": event %uL is a dead "
                          "letter after %ud attempts: %s",
                          &sh->shard->name, e->id, (ngx_uint_t) e->attempts,
                          d->reason(e));
        }

        ngx_payment_dead_buried(sh, e);
    }

    sh->handlers->moved(sh->data, rc);
}


/*
 * An event's row is with the dead letters now, and with "block" the later
 * events of its payment follow it: those that wait behind it, and those that
 * were read and are ready.  Those that were not read yet are the reader's.
 */

static void
ngx_payment_dead_buried(ngx_payment_outbox_shard_t *sh, payment_event_t *e)
{
    uint64_t          payment;
    payment_event_t  *other, *next;

    payment = e->payment;

    if (sh->conf->dead_letter == NGX_PAYMENT_DEAD_DIVERT) {
        ngx_payment_outbox_shard_forget(sh, e);
        return;
    }

    for (other = e->occupies ? payment_inflight_vacate(e) : NULL;
         other;
         other = next)
    {
        next = payment_inflight_vacate(other);
        ngx_payment_dead_follow(other);
    }

    ngx_payment_outbox_shard_forget(sh, e);

    for (other = payment_inflight_first(&sh->table, PAYMENT_EVENT_READY);
         other;
         other = next)
    {
        next = other->next;

        if (other->payment == payment) {
            ngx_payment_dead_follow(other);
        }
    }
}


static void
ngx_payment_dead_follow(payment_event_t *e)
{
    payment_inflight_free_data(e);
    e->follower = 1;
    payment_inflight_move(e, PAYMENT_EVENT_DEAD);
}


/* replaying */

void
ngx_payment_dead_want_replay(ngx_payment_dead_t *d, uint64_t id)
{
    d->replay_id = id;
    ngx_payment_fence_soon(d->fence);
}


ngx_int_t
ngx_payment_dead_cancel_replay(ngx_payment_dead_t *d)
{
    if (d->replay_id == 0 || d->replaying) {
        return NGX_DECLINED;
    }

    d->replay_id = 0;

    return NGX_OK;
}


/*
 * A dead letter goes back with all of its payment and under their old ids: so
 * they are found as late commits are, ahead of what the payment had since.
 */

ngx_int_t
ngx_payment_dead_replay_step(void *part, uint64_t now_ms)
{
    ngx_payment_dead_t *d = part;

    static ngx_str_t  condition = ngx_string("aggregateid = @a");

    if (d->replay_id == 0) {
        return NGX_DECLINED;
    }

    d->replaying = 1;

    ngx_payment_fence_begin_fenced(d->fence, ", @a = NULL");

    (void) ngx_payment_fence_add(d->fence,
               "SELECT aggregateid INTO @a FROM outbox_dead WHERE id = %uL",
               d->replay_id);

    d->work = ngx_payment_fence_move(d->fence, "outbox_dead", "outbox_event",
                                     "", "", &condition);
    ngx_payment_fence_commit(d->fence);

    return NGX_OK;
}


void
ngx_payment_dead_replay_done(void *part, ngx_uint_t lost)
{
    ngx_payment_dead_t *d = part;

    ngx_int_t                    rc;
    ngx_uint_t                   n;
    ngx_payment_outbox_shard_t  *sh;

    sh = d->sh;

    rc = ngx_payment_fence_check(d->fence, lost, "replaying a dead letter");

    if (rc == NGX_OK) {
        n = (ngx_uint_t) d->work->affected;

        ngx_log_error(NGX_LOG_NOTICE, sh->log, 0,
                      "payment outbox: shard \"%V\": dead letter %uL replayed, "
                      "%ui events", &sh->shard->name, d->replay_id, n);

        rc = n ? NGX_OK : NGX_DECLINED;
    }

    d->replay_id = 0;
    d->replaying = 0;

    sh->handlers->replayed(sh->data, rc);
}
