/*
 * Deleting what was published; see ngx_payment_delete.h.
 */

#include "ngx_payment_delete.h"
#include "ngx_payment_row.h"


static ngx_uint_t ngx_payment_delete_same(payment_event_t *e, MYSQL_ROW row,
    unsigned long *lengths);
static void ngx_payment_delete_timer(ngx_event_t *ev);


void
ngx_payment_delete_init(ngx_payment_delete_t *d)
{
    d->rows_max = NGX_PAYMENT_FENCE_IDS_MAX;

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
        >= NGX_PAYMENT_DELETE_ENOUGH)
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


/* looking at what is UNSURE */

ngx_int_t
ngx_payment_delete_look_step(void *part, uint64_t now_ms)
{
    ngx_payment_delete_t *d = part;

    ngx_uint_t  n;
    ngx_str_t   condition;

    n = ngx_payment_fence_collect(d->fence, PAYMENT_EVENT_UNSURE, 0,
                                  NGX_PAYMENT_FENCE_IDS_MAX);
    if (n == 0) {
        return NGX_DECLINED;
    }

    d->looked_at = ngx_payment_fence_condition(d->fence, n, &condition);
    d->doubts = d->sh->doubts;

    ngx_payment_fence_begin(d->fence);
    d->work = ngx_payment_fence_add(d->fence,
                  "SELECT id, version, aggregateid FROM outbox_event WHERE %V",
                  &condition);
    ngx_payment_fence_send(d->fence);

    return NGX_OK;
}


void
ngx_payment_delete_look_done(void *part, ngx_uint_t lost)
{
    ngx_payment_delete_t *d = part;

    MYSQL_ROW                    row;
    ngx_uint_t                   i, gone;
    payment_event_t             *e;
    ngx_payment_outbox_shard_t  *sh;

    sh = d->sh;

    if (ngx_payment_fence_check_plain(d->fence, lost,
                                      "looking at published events")
        != NGX_OK
        || d->doubts != sh->doubts)
    {
        return;
    }

    sh->reads++;

    while ((row = mysql_fetch_row(d->work->result)) != NULL) {

        e = payment_inflight_find(&sh->table, ngx_payment_row_number(row[0]));

        if (e && e->state == PAYMENT_EVENT_UNSURE
            && ngx_payment_delete_same(e, row,
                                      mysql_fetch_lengths(d->work->result)))
        {
            e->read = sh->reads;
            payment_inflight_move(e, PAYMENT_EVENT_ACKED);
        }
    }

    /* a row was deleted by a transaction whose answer was lost, or the
     * database has lost it and may have given its id to another */

    gone = 0;

    for (i = 0; i < d->looked_at; i++) {
        e = payment_inflight_find(&sh->table, d->fence->ids[i]);

        if (e && e->state == PAYMENT_EVENT_UNSURE) {
            payment_floor_lower(&sh->settled, e->id);
            payment_inflight_remove(e);
            gone++;
        }
    }

    if (gone) {
        ngx_log_error(NGX_LOG_NOTICE, sh->log, 0,
                      "payment outbox: shard \"%V\": of %ui published events, "
                      "the rows of %ui are gone, or their ids were given to "
                      "others", &sh->shard->name, d->looked_at, gone);
    }

    if (gone && sh->reading) {
        /* the read under way may show rows that are not there, or others that
         * have their ids, as if they were known */
        sh->handlers->overrun(sh->data);
    }

    d->due = 1;
    sh->handlers->deleted(sh->data);
}


/* The lease is given back: where are the rows of what was published when they
 * had not been seen? */

ngx_int_t
ngx_payment_delete_find_step(void *part, uint64_t now_ms)
{
    ngx_payment_delete_t *d = part;

    ngx_payment_outbox_shard_t *sh = d->sh;

    if (payment_inflight_count(&sh->table, PAYMENT_EVENT_EARLY) == 0
        || sh->lease.state == PAYMENT_LEASE_HELD)
    {
        return NGX_DECLINED;
    }

    if (d->find_from == 0) {
        d->find_from = ngx_max(ngx_max(sh->floor.id, sh->settled.id), 1);
        d->find_began_ns = ngx_payment_clock_ns();
    }

    ngx_payment_fence_begin(d->fence);
    d->work = ngx_payment_fence_add(d->fence,
                  "SELECT id, version, aggregateid FROM outbox_event "
                  "WHERE id >= %uL ORDER BY id LIMIT %d",
                  d->find_from, NGX_PAYMENT_DELETE_FIND);
    ngx_payment_fence_send(d->fence);

    return NGX_OK;
}


void
ngx_payment_delete_find_done(void *part, ngx_uint_t lost)
{
    ngx_payment_delete_t *d = part;

    uint64_t                     id;
    MYSQL_ROW                    row;
    ngx_uint_t                   rows;
    unsigned long               *lengths;
    payment_event_t             *e;
    ngx_payment_outbox_shard_t  *sh;

    sh = d->sh;

    if (ngx_payment_fence_check_plain(d->fence, lost,
                                      "looking for published events")
        != NGX_OK)
    {
        d->find_from = 0;
        return;
    }

    sh->reads++;

    for (rows = 0; (row = mysql_fetch_row(d->work->result)) != NULL; rows++) {

        lengths = mysql_fetch_lengths(d->work->result);
        id = ngx_payment_row_number(row[0]);
        d->find_from = id + 1;

        if (ngx_payment_row_number(row[1]) == 1) {
            (void) ngx_payment_outbox_shard_meet(sh, id, (u_char *) row[2],
                                                 lengths[2]);
        }
    }

    d->due = 1;

    if (rows < NGX_PAYMENT_DELETE_FIND) {

        /* what was not among them was deleted by somebody else */

        while ((e = payment_inflight_first(&sh->table, PAYMENT_EVENT_EARLY))
               != NULL
               && e->since_ns < d->find_began_ns)
        {
            payment_inflight_remove(e);
        }

        d->find_from = 0;
    }

    sh->handlers->deleted(sh->data);
}


static ngx_uint_t
ngx_payment_delete_same(payment_event_t *e, MYSQL_ROW row,
    unsigned long *lengths)
{
    return e->version == ngx_payment_row_number(row[1])
           && e->payment == payment_inflight_hash(row[2], lengths[2]);
}


/* deleting */

ngx_int_t
ngx_payment_delete_step(void *part, uint64_t now_ms)
{
    ngx_payment_delete_t *d = part;

    ngx_uint_t                   n;
    ngx_str_t                    condition;
    ngx_payment_outbox_shard_t  *sh;

    static const ngx_payment_fence_move_t  archive = {
        "outbox_event", "outbox_archive", "id", ", archived_at",
        ", UTC_TIMESTAMP(3)", "", ""
    };

    sh = d->sh;

    if (payment_inflight_count(&sh->table, PAYMENT_EVENT_ACKED) == 0
        || (!d->due && sh->lease.state == PAYMENT_LEASE_HELD))
    {
        return NGX_DECLINED;
    }

    d->due = 0;

    n = ngx_payment_fence_collect(d->fence, PAYMENT_EVENT_ACKED, 0,
                                  d->rows_max);
    n = ngx_payment_fence_condition(d->fence, n, &condition);
    ngx_payment_fence_deleting(d->fence, n);

    ngx_payment_fence_begin_fenced(d->fence, "");
    ngx_payment_fence_verify(d->fence, &condition);

    if (sh->conf->archive) {
        d->work = ngx_payment_fence_move(d->fence, &archive, &condition);

    } else {
        d->work = ngx_payment_fence_add(d->fence,
                      "DELETE FROM outbox_event WHERE " NGX_PAYMENT_FENCED
                      " AND %V", d->fence->turn, &condition);
    }

    ngx_payment_fence_commit(d->fence);

    return NGX_OK;
}


void
ngx_payment_delete_done(void *part, ngx_uint_t lost)
{
    ngx_payment_delete_t *d = part;

    ngx_int_t                    rc;
    ngx_uint_t                   n, certain;
    payment_event_t             *e;
    ngx_payment_outbox_shard_t  *sh;

    sh = d->sh;
    n = payment_inflight_count(&sh->table, PAYMENT_EVENT_DELETING);

    rc = ngx_payment_fence_check(d->fence, lost, "deleting published events");

    /* MariaDB reports a DELETE that was killed as done, with no rows; and
     * nothing was deleted if one of the rows was another's */

    certain = rc == NGX_OK && d->work->affected == n;

    if (rc == NGX_OK) {
        (void) ngx_atomic_fetch_add(&sh->stats->deleted,
                                    (ngx_atomic_int_t) d->work->affected);
        d->rows_max = ngx_min(2 * d->rows_max, NGX_PAYMENT_FENCE_IDS_MAX);

    } else {
        d->rows_max = ngx_max(n / 2, 1);
    }

    while ((e = payment_inflight_first(&sh->table, PAYMENT_EVENT_DELETING))
           != NULL)
    {
        if (certain) {
            ngx_payment_outbox_shard_forget(sh, e);

        } else {
            /* whether or not it was done */
            payment_inflight_move(e, PAYMENT_EVENT_UNSURE);
        }
    }

    if (payment_inflight_count(&sh->table, PAYMENT_EVENT_ACKED)) {
        ngx_payment_delete_acked(d);
    }

    sh->handlers->deleted(sh->data);
}
