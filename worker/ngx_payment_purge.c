/*
 * Forgetting: idempotency keys older than their retention, and the archive's
 * oldest days.  Done by the holder of the lease, on the fence's connection
 * while that has nothing better to do.
 *
 * idempotency_key has no index by age, on purpose, so the old ones are found by
 * a walk along the primary key, a step of NGX_PAYMENT_PURGE_STEP keys at a
 * time.  The keys are hashes, so how far the walk has come is how much of the
 * table it has seen; it is paced to take an eighth of the retention.  A key is
 * forgotten at most that much later than it could be.
 *
 * Looking takes no lock.  Deletion names the keys one by one, at most
 * NGX_PAYMENT_PURGE_MAX, and so waits for nobody who inserts beside them.
 *
 * Owner: the helper process.
 * Limits: one step in flight; a fifth of the connection's time at most.
 */

#include "ngx_payment_relay.h"


#define NGX_PAYMENT_PURGE_STEP        2000
#define NGX_PAYMENT_PURGE_MAX         500
#define NGX_PAYMENT_PURGE_WALKS       8         /* in a retention */
#define NGX_PAYMENT_PURGE_WALK_MIN    1000      /* ms */
#define NGX_PAYMENT_PURGE_WALK_MAX    (3 * 3600 * 1000)
#define NGX_PAYMENT_PURGE_PAUSE_MAX   1000      /* ms between two steps */
#define NGX_PAYMENT_PURGE_SHARE       5

#define NGX_PAYMENT_ARCHIVE_INTERVAL  (3600 * 1000)     /* ms */
#define NGX_PAYMENT_ARCHIVE_RETRY     (60 * 1000)


#define NGX_PAYMENT_PURGE_KEY_LEN     (sizeof(",x''") - 1 + 32)

/* without a time of its own a key is as old as its payment, whose id begins
 * with Unix milliseconds; takes the retention in seconds */
#define NGX_PAYMENT_PURGE_IS_OLD                                              \
    "COALESCE(created_at, TIMESTAMP'1970-01-01 00:00:00' + INTERVAL "         \
    "CONV(HEX(LEFT(payment_id, 6)), 16, 10) DIV 1000 SECOND) "                \
    "< UTC_TIMESTAMP() - INTERVAL %T SECOND"


static ngx_int_t ngx_payment_purge_look(ngx_payment_relay_t *r);
static void ngx_payment_purge_looked(ngx_payment_relay_t *r, uint64_t now_ms);
static void ngx_payment_purge_delete(ngx_payment_relay_t *r);
static void ngx_payment_purge_pace(ngx_payment_relay_t *r, uint64_t now_ms);
static uint64_t ngx_payment_purge_walk_ms(ngx_payment_relay_t *r);
static double ngx_payment_purge_fraction(const u_char *key);
static void ngx_payment_purge_unhex(u_char *key, const char *text);


ngx_int_t
ngx_payment_purge_init(ngx_payment_relay_t *r)
{
    r->purge.sql = ngx_alloc(NGX_PAYMENT_SQL_SIZE
                             + NGX_PAYMENT_PURGE_MAX
                               * NGX_PAYMENT_PURGE_KEY_LEN, r->log);

    return r->purge.sql ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_payment_purge_step(ngx_payment_relay_t *r, uint64_t now_ms)
{
    ngx_payment_purge_t  *p;

    p = &r->purge;

    if (r->outbox->conf->idempotency_retention == 0 || now_ms < p->next_ms) {
        return NGX_DECLINED;
    }

    p->step_ms = now_ms;

    if (p->n) {
        ngx_payment_purge_delete(r);
        return NGX_OK;
    }

    return ngx_payment_purge_look(r);
}


/* Two questions: where does the step end, and what in it is old? */

static ngx_int_t
ngx_payment_purge_look(ngx_payment_relay_t *r)
{
    u_char               *sql, *from, key[64];
    ngx_payment_fence_t  *f;

    f = &r->fence;
    f->n = 0;

    if (r->purge.walk_started_ms == 0) {
        r->purge.walk_started_ms = r->purge.step_ms;
    }

    from = ngx_payment_db_hex(key, r->purge.position,
                              sizeof(r->purge.position));
    *from = '\0';

    sql = ngx_sprintf(f->sql[0],
            "SELECT HEX(MAX(key_hash)), COUNT(*) FROM (SELECT key_hash "
            "FROM idempotency_key WHERE key_hash > %s ORDER BY key_hash "
            "LIMIT %d) t", key, NGX_PAYMENT_PURGE_STEP);
    ngx_payment_fence_statement(r, f->sql[0], sql);

    sql = ngx_sprintf(f->sql[1],
            "SELECT HEX(key_hash) FROM (SELECT key_hash, payment_id, "
            "created_at FROM idempotency_key WHERE key_hash > %s "
            "ORDER BY key_hash LIMIT %d) t WHERE " NGX_PAYMENT_PURGE_IS_OLD
            " ORDER BY key_hash LIMIT %d",
            key, NGX_PAYMENT_PURGE_STEP,
            r->outbox->conf->idempotency_retention, NGX_PAYMENT_PURGE_MAX);
    ngx_payment_fence_statement(r, f->sql[1], sql);

    ngx_payment_fence_send(r, NGX_PAYMENT_FENCE_PURGE);

    return NGX_OK;
}


void
ngx_payment_purge_done(ngx_payment_relay_t *r, ngx_uint_t lost)
{
    uint64_t              now;
    ngx_uint_t            i;
    ngx_payment_fence_t  *f;
    ngx_payment_purge_t  *p;

    f = &r->fence;
    p = &r->purge;
    now = ngx_payment_clock_ms();

    for (i = 0; !lost && i < f->n; i++) {
        if (f->stmts[i].error) {
            ngx_payment_relay_db_error(r, "purging idempotency keys",
                                       f->stmts[i].error, f->stmts[i].message);
            lost = 1;
        }
    }

    if (lost) {
        /* the step once more, later */
        (void) ngx_atomic_fetch_add(&r->stats->errors, 1);
        p->n = 0;
        p->next_ms = now + NGX_PAYMENT_PURGE_PAUSE_MAX;
        return;
    }

    if (p->n == 0) {
        ngx_payment_purge_looked(r, now);
        return;
    }

    (void) ngx_atomic_fetch_add(&r->stats->purged,
                                (ngx_atomic_int_t) f->stmts[0].affected);

    ngx_memcpy(p->position, p->end, sizeof(p->position));
    p->n = 0;

    ngx_payment_purge_pace(r, now);
}


static void
ngx_payment_purge_looked(ngx_payment_relay_t *r, uint64_t now_ms)
{
    u_char               *text;
    ngx_uint_t            seen;
    MYSQL_ROW             row;
    ngx_payment_fence_t  *f;
    ngx_payment_purge_t  *p;

    f = &r->fence;
    p = &r->purge;

    row = mysql_fetch_row(f->stmts[0].result);
    seen = row ? (ngx_uint_t) ngx_payment_row_number(row[1]) : 0;

    if (seen == 0) {
        /* the end: the next walk begins when its time has come */

        p->next_ms = ngx_max(p->walk_started_ms + ngx_payment_purge_walk_ms(r),
                             now_ms + NGX_PAYMENT_PURGE_WALK_MIN);
        p->walk_started_ms = 0;
        ngx_memzero(p->position, sizeof(p->position));
        return;
    }

    ngx_payment_purge_unhex(p->end, row[0]);

    /* what is old: the deletion is written now, and sent next */

    text = ngx_sprintf(p->sql,
            "DELETE FROM idempotency_key WHERE " NGX_PAYMENT_PURGE_IS_OLD
            " AND key_hash IN (",
            r->outbox->conf->idempotency_retention);

    while ((row = mysql_fetch_row(f->stmts[1].result)) != NULL) {
        text = ngx_sprintf(text, "%sx'%s'", p->n ? "," : "", row[0]);
        p->n++;

        if (p->n == NGX_PAYMENT_PURGE_MAX) {
            /* there may be more of them: the step ends here */
            ngx_payment_purge_unhex(p->end, row[0]);
        }
    }

    *text++ = ')';
    p->sql_end = text;

    if (p->n) {
        /* at once: fence_next() comes back to it */
        p->next_ms = now_ms;
        return;
    }

    ngx_memcpy(p->position, p->end, sizeof(p->position));
    ngx_payment_purge_pace(r, now_ms);
}


static void
ngx_payment_purge_delete(ngx_payment_relay_t *r)
{
    r->fence.n = 0;

    ngx_payment_fence_statement(r, r->purge.sql, r->purge.sql_end);
    ngx_payment_fence_send(r, NGX_PAYMENT_FENCE_PURGE);
}


/* ahead of the plan: the longest pause; behind it: only as long as keeps our
 * share of the connection small */

static void
ngx_payment_purge_pace(ngx_payment_relay_t *r, uint64_t now_ms)
{
    double                planned;
    uint64_t              pause, took;
    ngx_payment_purge_t  *p;

    p = &r->purge;

    took = now_ms - p->step_ms;
    planned = (double) (now_ms - p->walk_started_ms)
              / (double) ngx_payment_purge_walk_ms(r);

    pause = (ngx_payment_purge_fraction(p->position) > planned)
            ? NGX_PAYMENT_PURGE_PAUSE_MAX : NGX_PAYMENT_PURGE_SHARE;

    p->next_ms = now_ms + ngx_max(pause, NGX_PAYMENT_PURGE_SHARE * took);
}


static uint64_t
ngx_payment_purge_walk_ms(ngx_payment_relay_t *r)
{
    uint64_t  ms;

    ms = (uint64_t) r->outbox->conf->idempotency_retention * 1000
         / NGX_PAYMENT_PURGE_WALKS;

    ms = ngx_max(ms, NGX_PAYMENT_PURGE_WALK_MIN);

    return ngx_min(ms, NGX_PAYMENT_PURGE_WALK_MAX);
}


static double
ngx_payment_purge_fraction(const u_char *key)
{
    ngx_uint_t  i;
    double      fraction, weight;

    fraction = 0;
    weight = 1.0 / 256;

    for (i = 0; i < 6; i++) {
        fraction += key[i] * weight;
        weight /= 256;
    }

    return fraction;
}


static void
ngx_payment_purge_unhex(u_char *key, const char *text)
{
    ngx_uint_t  i;

    for (i = 0; i < 16; i++) {
        key[i] = (u_char) ngx_hextoi((u_char *) text + 2 * i, 2);
    }
}


/* the archive: new days ahead, old days away; the database knows how many */

ngx_int_t
ngx_payment_archive_step(ngx_payment_relay_t *r, uint64_t now_ms)
{
    u_char               *sql;
    ngx_payment_fence_t  *f;

    if (!r->outbox->conf->archive || now_ms < r->purge.archive_ms) {
        return NGX_DECLINED;
    }

    r->purge.archive_ms = now_ms + NGX_PAYMENT_ARCHIVE_INTERVAL;

    f = &r->fence;
    f->n = 0;

    sql = ngx_sprintf(f->sql[0], "CALL outbox_archive_upkeep()");
    ngx_payment_fence_statement(r, f->sql[0], sql);
    ngx_payment_fence_send(r, NGX_PAYMENT_FENCE_ARCHIVE);

    return NGX_OK;
}


void
ngx_payment_archive_done(ngx_payment_relay_t *r, ngx_uint_t lost)
{
    if (!lost && r->fence.stmts[0].error == 0) {
        return;
    }

    r->purge.archive_ms = ngx_payment_clock_ms() + NGX_PAYMENT_ARCHIVE_RETRY;

    (void) ngx_atomic_fetch_add(&r->stats->errors, 1);

    if (!lost) {
        ngx_payment_relay_db_error(r, "keeping up the archive's partitions",
                                   r->fence.stmts[0].error,
                                   r->fence.stmts[0].message);
    }
}
