/*
 * Deleting what was published; see ngx_payment_delete.h.
 */

#include "ngx_payment_delete.h"


static void ngx_payment_delete_timer(ngx_event_t *ev);


void
ngx_payment_delete_init(ngx_payment_delete_t *d)
{
    d->timer.handler = ngx_payment_delete_timer;
    d->timer.data = d;
    d->timer.log = d->sh->log;
    d->timer.cancelable = 1;
}


void
ngx_payment_delete_close(ngx_payment_delete_t *d)
{
    if (d->timer.timer_set) {
        ngx_del_timer(&d->timer);
    }
}


void
ngx_payment_delete_acked(ngx_payment_delete_t *d)
{
    if (payment_inflight_count(&d->sh->table, PAYMENT_EVENT_ACKED)
        >= NGX_PAYMENT_FENCE_IDS_MAX / 2)
    {
        d->due = 1;
        ngx_payment_fence_soon(d->fence);
        return;
    }

    if (!d->timer.timer_set) {
        ngx_add_timer(&d->timer, NGX_PAYMENT_DELETE_DELAY);
    }
}


void
ngx_payment_delete_all(ngx_payment_delete_t *d)
{
    d->due = 1;
}


static void
ngx_payment_delete_timer(ngx_event_t *ev)
{
    ngx_payment_delete_t *d = ev->data;

    d->due = 1;
    ngx_payment_fence_next(d->fence);
}


ngx_int_t
ngx_payment_delete_step(void *part, uint64_t now_ms)
{
    ngx_payment_delete_t *d = part;

    ngx_uint_t                   n;
    ngx_str_t                    condition;
    ngx_payment_outbox_shard_t  *sh;

    sh = d->sh;

    if (payment_inflight_count(&sh->table, PAYMENT_EVENT_ACKED) == 0
        || (!d->due && sh->lease.state == PAYMENT_LEASE_HELD))
    {
        return NGX_DECLINED;
    }

    d->due = 0;

    n = ngx_payment_fence_collect(d->fence, PAYMENT_EVENT_ACKED, 0,
                                  NGX_PAYMENT_FENCE_IDS_MAX);
    ngx_payment_fence_condition(d->fence, n, &condition);

    ngx_payment_fence_begin_fenced(d->fence, "");

    if (sh->conf->archive) {
        d->work = ngx_payment_fence_move(d->fence, "outbox_event",
                                         "outbox_archive", ", archived_at",
                                         ", UTC_TIMESTAMP(3)", &condition);

    } else {
        d->work = ngx_payment_fence_add(d->fence,
                      "DELETE FROM outbox_event WHERE " NGX_PAYMENT_FENCED
                      " AND %V", &condition);
    }

    ngx_payment_fence_commit(d->fence);

    return NGX_OK;
}


void
ngx_payment_delete_done(void *part, ngx_uint_t lost)
{
    ngx_payment_delete_t *d = part;

    ngx_int_t                    rc;
    payment_event_t             *e;
    ngx_payment_outbox_shard_t  *sh;

    sh = d->sh;

    rc = ngx_payment_fence_check(d->fence, lost, "deleting published events");

    if (rc == NGX_OK) {
        (void) ngx_atomic_fetch_add(&sh->stats->deleted,
                                    (ngx_atomic_int_t) d->work->affected);
    }

    while ((e = payment_inflight_first(&sh->table, PAYMENT_EVENT_DELETING))
           != NULL)
    {
        if (rc == NGX_OK) {
            ngx_payment_outbox_shard_forget(sh, e);

        } else {
            /* whether or not it was done: the next try may find nothing */
            payment_inflight_move(e, PAYMENT_EVENT_ACKED);
        }
    }

    if (payment_inflight_count(&sh->table, PAYMENT_EVENT_ACKED)) {
        ngx_payment_delete_acked(d);
    }

    sh->handlers->deleted(sh->data);
}
