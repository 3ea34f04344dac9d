/*
 * Moving dead letters and replaying them; see ngx_payment_dead.h.
 */

#include "ngx_payment_dead.h"
#include "ngx_payment_row.h"

#include <mysqld_error.h>


#define NGX_PAYMENT_DEAD_VALUES       256      /* bytes: reason, attempts */

/* ms, from one count to the next, and to that after one that took too long */
#define NGX_PAYMENT_DEAD_PAUSE        1000
#define NGX_PAYMENT_DEAD_PAUSE_LONG   10000

/* Letters that were deleted while somebody has a snapshot open are gone over;
 * nobody waits for the count, but the lease waits behind it.  In seconds. */
#define NGX_PAYMENT_DEAD_BRIEFLY                                              \
    "SET STATEMENT max_statement_time = 0.1 FOR "

/* a letter's id: that of the event, unless another letter has it */
#define NGX_PAYMENT_DEAD_ID                                                   \
    "IF(EXISTS (SELECT 1 FROM outbox_dead d WHERE d.id = outbox_event.id), "  \
    "GREATEST((SELECT MAX(id) FROM outbox_dead), "                            \
    "(SELECT MAX(id) FROM outbox_event)) "                                    \
    "+ ROW_NUMBER() OVER (ORDER BY version), id)"

/* beginnings of conditions about the letters of an event's payment */
#define NGX_PAYMENT_DEAD_LETTER                                               \
    "(SELECT 1 FROM outbox_dead d "                                           \
    "WHERE d.aggregateid = outbox_event.aggregateid"
#define NGX_PAYMENT_DEAD_SAME                                                 \
    NGX_PAYMENT_DEAD_LETTER " AND d.version = outbox_event.version)"


static void ngx_payment_dead_buried(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e);
static void ngx_payment_dead_follow(payment_event_t *e);
static void ngx_payment_dead_came_back(ngx_payment_dead_t *d);


ngx_int_t
ngx_payment_dead_step(void *part, uint64_t now_ms)
{
    ngx_payment_dead_t *d = part;

    u_char                     values[NGX_PAYMENT_DEAD_VALUES];
    ngx_str_t                  condition;
    ngx_uint_t                 n, attempts;
    const char                *reason;
    payment_event_t           *e;
    ngx_payment_fence_move_t   move;

    e = payment_inflight_first(&d->sh->table, PAYMENT_EVENT_DEAD);

    if (e == NULL) {
        return NGX_DECLINED;
    }

    move.from = "outbox_event";
    move.to = "outbox_dead";
    move.id = NGX_PAYMENT_DEAD_ID;
    move.columns = ", reason, attempts, dead_at";
    move.delete_if = " AND EXISTS " NGX_PAYMENT_DEAD_SAME;

    if (e->follower) {
        reason = "follows a dead letter of its payment";
        attempts = 0;
        n = ngx_payment_fence_collect(d->fence, PAYMENT_EVENT_DEAD, 1,
                                      NGX_PAYMENT_DEAD_FOLLOWERS);
        move.insert_if = " AND EXISTS " NGX_PAYMENT_DEAD_LETTER ")"
                         " AND NOT EXISTS " NGX_PAYMENT_DEAD_SAME;

    } else {
        reason = d->reason(e);
        attempts = e->attempts;
        d->fence->ids[0] = e->id;
        n = 1;
        move.insert_if = " AND NOT EXISTS " NGX_PAYMENT_DEAD_SAME;
    }

    n = ngx_payment_fence_condition(d->fence, n, &condition);
    ngx_payment_fence_deleting(d->fence, n);

    (void) ngx_snprintf(values, sizeof(values),
                        ", '%s', %ui, UTC_TIMESTAMP(3)%Z", reason, attempts);
    move.values = (char *) values;

    ngx_payment_fence_begin_fenced(d->fence, "");
    ngx_payment_fence_verify(d->fence, &condition);
    d->work = ngx_payment_fence_move(d->fence, &move, &condition);
    ngx_payment_fence_commit(d->fence);

    return NGX_OK;
}


void
ngx_payment_dead_done(void *part, ngx_uint_t lost)
{
    ngx_payment_dead_t *d = part;

    ngx_int_t                    rc;
    ngx_uint_t                   all;
    payment_event_t             *e;
    ngx_payment_outbox_shard_t  *sh;

    sh = d->sh;

    rc = ngx_payment_fence_check(d->fence, lost, "moving dead letters");

    all = rc == NGX_OK
          && d->work->affected
             >= payment_inflight_count(&sh->table, PAYMENT_EVENT_DELETING);

    if (rc == NGX_OK) {
        (void) ngx_atomic_fetch_add(&sh->stats->dead,
                                    (ngx_atomic_int_t) d->work->affected);
    }

    e = payment_inflight_first(&sh->table, PAYMENT_EVENT_DELETING);

    if (rc == NGX_OK && d->work->affected == 0 && !e->follower) {
        /* the row is not that event's any more: look again at what is there */
        ngx_payment_outbox_shard_forget(sh, e);
        sh->handlers->overrun(sh->data);
    }

    while ((e = payment_inflight_first(&sh->table, PAYMENT_EVENT_DELETING))
           != NULL)
    {
        if (rc != NGX_OK) {
            payment_inflight_move(e, PAYMENT_EVENT_DEAD);
            continue;
        }

        if (!all) {
            /* some stayed, whose letter somebody has deleted */
            payment_floor_lower(&sh->settled, e->id);
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

    sh->handlers->moved(sh->data);
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
 * A dead letter goes back with all of its payment, under ids below that of
 * everything that waits: so they are found as late commits are, ahead of what
 * the payment had since.  That is below the floor, so that a row which is not
 * committed yet is above them, too; only where there is no room is it below
 * what can be seen.  In a table that was emptied a moment ago and counts from 1
 * again there are no such ids, and the replay fails until that is published.  A
 * letter that is still in the table, too, as older releases may have left it,
 * only loses its copy.
 */

ngx_int_t
ngx_payment_dead_replay_step(void *part, uint64_t now_ms)
{
    ngx_payment_dead_t *d = part;

    static ngx_str_t  condition = ngx_string("aggregateid = @a");

    static const ngx_payment_fence_move_t  move = {
        "outbox_dead", "outbox_event",
        "IF(@m > @k, @m - @k - 1 + ROW_NUMBER() OVER (ORDER BY version), -1)",
        "", "",
        " AND NOT EXISTS (SELECT 1 FROM outbox_event e "
        "WHERE e.id = outbox_dead.id "
        "AND e.aggregateid = outbox_dead.aggregateid "
        "AND e.version = outbox_dead.version)",
        ""
    };

    if (d->replay_id == 0) {
        return NGX_DECLINED;
    }

    if (!d->sh->handlers->replaying(d->sh->data)) {
        d->replay_id = 0;
        return NGX_DECLINED;
    }

    d->replaying = 1;
    d->sh->replaying = 1;

    ngx_payment_fence_begin_fenced(d->fence, ", @a = NULL");

    d->place = ngx_payment_fence_add(d->fence,
               "SELECT @a := aggregateid, @k := (SELECT COUNT(*) "
               "FROM outbox_dead d "
               "WHERE d.aggregateid = outbox_dead.aggregateid), "
               "@m := IF(@k < %uL, %uL, COALESCE("
               "(SELECT MIN(id) FROM outbox_event WHERE id >= %uL), "
               "(SELECT MAX(id) + 1 FROM outbox_dead))) "
               "FROM outbox_dead WHERE id = %uL",
               d->sh->floor.id, d->sh->floor.id, d->sh->floor.id,
               d->replay_id);

    d->work = ngx_payment_fence_move(d->fence, &move, &condition);
    ngx_payment_fence_commit(d->fence);

    return NGX_OK;
}


/* The rows that came back, if they did, are below all others. */

static void
ngx_payment_dead_came_back(ngx_payment_dead_t *d)
{
    uint64_t   letters, lowest;
    MYSQL_ROW  row;

    row = d->place->result ? mysql_fetch_row(d->place->result) : NULL;

    if (row && row[1] && row[2]) {
        letters = ngx_payment_row_number(row[1]);
        lowest = ngx_payment_row_number(row[2]);

        lowest -= ngx_min(letters, lowest);
        payment_floor_lower(&d->sh->floor, lowest);
        payment_floor_lower(&d->sh->settled, lowest);
    }
}


void
ngx_payment_dead_replay_done(void *part, ngx_uint_t lost)
{
    ngx_payment_dead_t *d = part;

    ngx_int_t                    rc;
    ngx_uint_t                   n;
    ngx_payment_outbox_shard_t  *sh;

    sh = d->sh;

    ngx_payment_dead_came_back(d);

    rc = ngx_payment_fence_check(d->fence, lost, "replaying a dead letter");

    /* the operator may ask again at once */
    d->fence->job->retry_at_ms = 0;

    if (rc == NGX_OK) {
        n = (ngx_uint_t) d->work->affected;

        ngx_log_error(NGX_LOG_NOTICE, sh->log, 0,
                      "payment outbox: shard \"%V\": dead letter %uL replayed, "
                      "%ui events", &sh->shard->name, d->replay_id, n);

        rc = n ? NGX_OK : NGX_DECLINED;
    }

    d->replay_id = 0;
    d->replaying = 0;
    sh->replaying = 0;

    sh->handlers->replayed(sh->data, rc);
}


ngx_int_t
ngx_payment_dead_count_step(void *part, uint64_t now_ms)
{
    ngx_payment_dead_t *d = part;

    if (now_ms < d->count_at_ms) {
        return NGX_DECLINED;
    }

    ngx_payment_fence_begin(d->fence);

    d->count = ngx_payment_fence_add(d->fence,
               NGX_PAYMENT_DEAD_BRIEFLY
               "SELECT COUNT(*) FROM (SELECT 1 FROM outbox_dead LIMIT %d) d",
               NGX_PAYMENT_DEAD_COUNT);

    ngx_payment_fence_send(d->fence);

    return NGX_OK;
}


/* While it is cut short the gauge keeps what was counted last. */

void
ngx_payment_dead_count_done(void *part, ngx_uint_t lost)
{
    ngx_payment_dead_t *d = part;

    uint64_t   now;
    MYSQL_ROW  row;

    now = ngx_payment_clock_ms();

    if (!lost && d->count->error == ER_STATEMENT_TIMEOUT) {
        d->count_at_ms = now + NGX_PAYMENT_DEAD_PAUSE_LONG;
        return;
    }

    d->count_at_ms = now + (lost ? NGX_PAYMENT_DEAD_PAUSE_LONG
                                 : NGX_PAYMENT_DEAD_PAUSE);

    if (ngx_payment_fence_check_plain(d->fence, lost, "counting dead letters")
        != NGX_OK)
    {
        return;
    }

    row = d->count->result ? mysql_fetch_row(d->count->result) : NULL;

    if (row && d->sh->lease.state != PAYMENT_LEASE_FREE) {
        d->sh->gauges->dead_counted = ngx_payment_row_number(row[0]) + 1;
    }
}
