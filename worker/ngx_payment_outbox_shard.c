/*
 * What all parts of a shard's outbox need; see ngx_payment_outbox_shard.h.
 */

#include "ngx_payment_outbox_shard.h"
#include "ngx_payment_rights.h"
#include "ngx_payment_row.h"

#include <mysqld_error.h>


static ngx_uint_t ngx_payment_outbox_shard_unfit(ngx_uint_t error);
static void ngx_payment_outbox_shard_fetch(ngx_payment_outbox_shard_t *sh,
    uint64_t payment);


ngx_int_t
ngx_payment_outbox_shard_init(ngx_payment_outbox_shard_t *sh, size_t capacity)
{
    if (payment_inflight_create(&sh->table, capacity, ngx_payment_row_free)
        != 0
        || payment_aside_create(&sh->aside, NGX_PAYMENT_OUTBOX_ASIDE * capacity)
           != 0)
    {
        return NGX_ERROR;
    }

    sh->table.owner = sh->data;

    return NGX_OK;
}


ngx_int_t
ngx_payment_outbox_shard_check(ngx_payment_outbox_shard_t *sh,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n, ngx_uint_t lost,
    const char *phase, ngx_uint_t *last)
{
    const char             *note;
    ngx_payment_db_stmt_t  *failed;

    failed = lost ? NULL : ngx_payment_db_error_of(stmts, n);

    if (!lost && failed == NULL) {
        *last = 0;
        return NGX_OK;
    }

    (void) ngx_atomic_fetch_add(&sh->stats->errors, 1);

    if (failed == NULL) {
        /* the connection's loss is in the log */
        return NGX_ERROR;
    }

    sh->stats->last_error = ngx_payment_stats_error(failed->error,
                                                ngx_payment_unix_us() / 1000);

    if (*last != failed->error) {
        *last = failed->error;

        /* what fails on each new connection is new each time */

        note = ngx_payment_storm_note(&sh->failures, failed->error);

        if (note) {
            ngx_log_error(NGX_LOG_ERR, sh->log, 0,
                          "payment outbox: shard \"%V\": %s failed: (%ui) "
                          "%s%s%s", &sh->shard->name, phase, failed->error,
                          failed->message,
                          ngx_payment_rights_advice(failed->error), note);
        }
    }

    if (ngx_payment_outbox_shard_unfit(failed->error)) {
        sh->handlers->unfit(sh->data);
    }

    return NGX_ERROR;
}


/* Does the error say that this server can't write, whatever it is asked? */

static ngx_uint_t
ngx_payment_outbox_shard_unfit(ngx_uint_t error)
{
    return ngx_payment_db_classify(error) == NGX_PAYMENT_DB_UNFIT
           || error == ER_UNKNOWN_COM_ERROR;     /* Galera, not Primary */
}


ngx_msec_t
ngx_payment_outbox_shard_pause(ngx_uint_t failures)
{
    ngx_msec_t  pause;

    pause = NGX_PAYMENT_OUTBOX_RETRY_MIN << ngx_min(failures - 1, 8);

    return ngx_min(pause, NGX_PAYMENT_OUTBOX_RETRY_MAX);
}


void
ngx_payment_outbox_shard_forget(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e)
{
    ngx_payment_outbox_shard_vacate(sh, e);

    if (e->state == PAYMENT_EVENT_DELETING && sh->reading) {
        payment_inflight_move(e, PAYMENT_EVENT_GONE);
        return;
    }

    if (e->state != PAYMENT_EVENT_DELETING) {
        /* its row may still be there */
        payment_floor_lower(&sh->settled, e->id);
    }

    payment_inflight_remove(e);
}


ngx_int_t
ngx_payment_outbox_shard_set_aside(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e)
{
    uint64_t          now;
    payment_event_t  *next;

    if (payment_aside_room(&sh->aside) < 1 + (e->occupies ? e->queued : 0)) {

        now = ngx_payment_clock_ms();

        if (now >= sh->crowded_until_ms) {
            sh->crowded_until_ms = now + NGX_PAYMENT_OUTBOX_CROWDED;
            ngx_log_error(NGX_LOG_WARN, sh->log, 0,
                          "payment outbox: shard \"%V\": %uz events wait for "
                          "others, for a topic or for a partition, and no more "
                          "can be set aside: reading may stop until they are "
                          "published", &sh->shard->name, sh->aside.n);
        }

        return NGX_DECLINED;
    }

    if (sh->aside.n == 0 || e->committed_us < sh->aside_oldest_us) {
        sh->aside_oldest_us = e->committed_us;
    }

    while (e) {
        next = e->occupies ? payment_inflight_vacate(e) : NULL;

        sh->aside_gate = ngx_max(sh->aside_gate, e->gate);

        (void) payment_aside_add(&sh->aside, e->id, e->payment,
                                 e->committed_us);
        payment_inflight_remove(e);

        e = next;
    }

    return NGX_OK;
}


void
ngx_payment_outbox_shard_set_aside_behind(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e)
{
    payment_event_t  *next;

    if (!e->occupies || e->queued == 0
        || payment_aside_room(&sh->aside) < e->queued)
    {
        return;
    }

    next = payment_inflight_vacate(e);

    (void) ngx_payment_outbox_shard_set_aside(sh, next);

    payment_inflight_occupy(e);
}


uint64_t
ngx_payment_outbox_shard_oldest_aside(ngx_payment_outbox_shard_t *sh,
    uint64_t now_ms)
{
    if (sh->aside.n == 0) {
        return 0;
    }

    if (sh->aside_taken && now_ms >= sh->aside_aged_ms + NGX_PAYMENT_OUTBOX_AGE)
    {
        sh->aside_taken = 0;
        sh->aside_aged_ms = now_ms;
        sh->aside_oldest_us = payment_aside_oldest(&sh->aside);
    }

    return sh->aside_oldest_us;
}


void
ngx_payment_outbox_shard_forget_aside(ngx_payment_outbox_shard_t *sh)
{
    payment_aside_forget(&sh->aside);

    sh->aside_gate = 0;
    sh->astray = 0;
}


void
ngx_payment_outbox_shard_vacate(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e)
{
    payment_event_t  *next;

    next = e->occupies ? payment_inflight_vacate(e) : NULL;

    if (next == NULL && sh->aside.n && payment_inflight_occupant(e) == NULL) {
        ngx_payment_outbox_shard_fetch(sh, e->payment);
    }
}


/* As many as may wait behind one; their rows are read again, by their ids. */

static void
ngx_payment_outbox_shard_fetch(ngx_payment_outbox_shard_t *sh,
    uint64_t payment)
{
    uint64_t          id;
    ngx_uint_t        i;
    payment_event_t  *e;

    for (i = 0; i < NGX_PAYMENT_OUTBOX_BEHIND; i++) {

        id = payment_aside_take(&sh->aside, payment);

        if (id == 0) {
            return;
        }

        sh->aside_taken = 1;

        e = payment_inflight_add(&sh->table, id, PAYMENT_EVENT_WANTED);

        if (e == NULL) {
            payment_floor_lower(&sh->settled, id);
            sh->astray = 1;
            return;
        }

        e->payment = payment;
        e->gate = sh->aside_gate;
    }
}


uint64_t
ngx_payment_outbox_shard_early_id(const u_char *aggregateid, size_t len)
{
    u_char  id[NGX_PAYMENT_PROVED_ID_LEN];

    /* whoever else writes rows may have shorter ids */

    ngx_memzero(id, sizeof(id));
    ngx_memcpy(id, aggregateid, ngx_min(sizeof(id), len));

    return PAYMENT_INFLIGHT_EARLY | ngx_payment_proved_word(id, 1, 0);
}


ngx_int_t
ngx_payment_outbox_shard_meet(ngx_payment_outbox_shard_t *sh, uint64_t id,
    const u_char *aggregateid, size_t len)
{
    payment_event_t  *e, *other;

    if (sh->table.early == 0) {
        return NGX_DECLINED;
    }

    e = payment_inflight_find(&sh->table,
                              ngx_payment_outbox_shard_early_id(aggregateid,
                                                                len));

    if (e == NULL || e->payment != payment_inflight_hash(aggregateid, len)) {
        return NGX_DECLINED;
    }

    other = payment_inflight_find(&sh->table, id);

    if (other && (other->state != PAYMENT_EVENT_WANTED || other->attempts)) {
        return NGX_DECLINED;
    }

    if (other) {
        payment_inflight_remove(other);
    }

    payment_inflight_rename(e, id);
    e->read = sh->reads;

    /* that row is on the server that ids are of now */
    e->doubted = 0;

    if (e->state == PAYMENT_EVENT_EARLY) {
        payment_inflight_move(e, PAYMENT_EVENT_ACKED);
    }

    return NGX_OK;
}
