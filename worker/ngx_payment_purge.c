/*
 * The slow walk through idempotency_key; see ngx_payment_purge.h.
 */

#include "ngx_payment_purge.h"
#include "ngx_payment_row.h"


#define NGX_PAYMENT_PURGE_WALKS       8         /* in a retention */
#define NGX_PAYMENT_PURGE_WALK_MIN    1000      /* ms */
#define NGX_PAYMENT_PURGE_WALK_MAX    (3 * 3600 * 1000)
#define NGX_PAYMENT_PURGE_PAUSE_MAX   1000      /* ms between two steps */
#define NGX_PAYMENT_PURGE_SHARE       5

#define NGX_PAYMENT_PURGE_KEY_LEN     (sizeof(",x''") - 1 + 32)
#define NGX_PAYMENT_PURGE_SQL_SIZE                                            \
    (NGX_PAYMENT_SQL_SIZE + NGX_PAYMENT_PURGE_MAX * NGX_PAYMENT_PURGE_KEY_LEN)

/* a deletion of many keys must fit beside the fence's other texts */
#if NGX_PAYMENT_PURGE_MAX * 36 > NGX_PAYMENT_FENCE_RANGES
#error "a deletion of keys does not fit into the fence's text"
#endif

/* Keys that were deleted while somebody has a snapshot open must be gone over;
 * if they are too many, the step waits until they are not.  In seconds. */
#define NGX_PAYMENT_PURGE_BRIEFLY                                             \
    "SET STATEMENT max_statement_time = 0.5 FOR "

/* Without a time of its own a key is as old as its payment, whose id begins
 * with Unix milliseconds, by the clock of the node that took it.  A server's
 * clock that was set ahead makes no key old: it is to be old by this helper's,
 * too.  Takes the helper's time, and the retention in seconds. */
#define NGX_PAYMENT_PURGE_IS_OLD                                              \
    "COALESCE(created_at, TIMESTAMP'1970-01-01 00:00:00' + INTERVAL "         \
    "CONV(HEX(LEFT(payment_id, 6)), 16, 10) DIV 1000 SECOND) "                \
    "< LEAST(UTC_TIMESTAMP(), TIMESTAMP'1970-01-01 00:00:00' + INTERVAL %T "  \
    "SECOND) - INTERVAL %T SECOND"


static ngx_int_t ngx_payment_purge_look(ngx_payment_purge_t *p);
static void ngx_payment_purge_looked(ngx_payment_purge_t *p, uint64_t now_ms);
static void ngx_payment_purge_pace(ngx_payment_purge_t *p, uint64_t now_ms);
static uint64_t ngx_payment_purge_walk_ms(ngx_payment_purge_t *p);
static double ngx_payment_purge_fraction(const u_char *key);
static void ngx_payment_purge_unhex(u_char *key, const char *text);


ngx_int_t
ngx_payment_purge_init(ngx_payment_purge_t *p)
{
    p->step = NGX_PAYMENT_PURGE_STEP;
    p->sql.data = ngx_alloc(NGX_PAYMENT_PURGE_SQL_SIZE, p->sh->log);

    return p->sql.data ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_payment_purge_step(void *part, uint64_t now_ms)
{
    ngx_payment_purge_t *p = part;

    if (p->sh->conf->idempotency_retention == 0 || now_ms < p->next_ms) {
        return NGX_DECLINED;
    }

    p->step_ms = now_ms;

    if (p->n == 0) {
        return ngx_payment_purge_look(p);
    }

    ngx_payment_fence_begin(p->fence);
    p->old_stmt = ngx_payment_fence_add(p->fence, "%V", &p->sql);
    ngx_payment_fence_send(p->fence);

    return NGX_OK;
}


/* Two questions: where does the step end, and what in it is old? */

static ngx_int_t
ngx_payment_purge_look(ngx_payment_purge_t *p)
{
    u_char                      *end, key[64];
    ngx_payment_outbox_stats_t  *stats;

    stats = p->sh->stats;

    if (stats->purge_started_ms == 0) {
        stats->purge_started_ms = p->step_ms;
        ngx_memzero(stats->purge_position, sizeof(stats->purge_position));
    }

    end = ngx_payment_db_hex(key, stats->purge_position,
                             sizeof(stats->purge_position));
    *end = '\0';

    ngx_payment_fence_begin(p->fence);

    p->end_stmt = ngx_payment_fence_add(p->fence,
            NGX_PAYMENT_PURGE_BRIEFLY
            "SELECT HEX(MAX(key_hash)), COUNT(*) FROM (SELECT key_hash "
            "FROM idempotency_key WHERE key_hash > %s ORDER BY key_hash "
            "LIMIT %ui) t", key, p->step);

    p->old_stmt = ngx_payment_fence_add(p->fence,
            NGX_PAYMENT_PURGE_BRIEFLY
            "SELECT HEX(key_hash) FROM (SELECT key_hash, payment_id, "
            "created_at FROM idempotency_key WHERE key_hash > %s "
            "ORDER BY key_hash LIMIT %ui) t WHERE " NGX_PAYMENT_PURGE_IS_OLD
            " ORDER BY key_hash LIMIT %ui",
            key, p->step, ngx_time(), p->sh->conf->idempotency_retention,
            p->step / 4);

    ngx_payment_fence_send(p->fence);

    return NGX_OK;
}


void
ngx_payment_purge_done(void *part, ngx_uint_t lost)
{
    ngx_payment_purge_t *p = part;

    uint64_t  now;

    now = ngx_payment_clock_ms();

    if (ngx_payment_fence_check_plain(p->fence, lost,
                                      "purging idempotency keys")
        != NGX_OK)
    {
        /* the step once more, later */
        p->n = 0;
        p->next_ms = now + NGX_PAYMENT_PURGE_PAUSE_MAX;
        return;
    }

    if (p->n == 0) {
        ngx_payment_purge_looked(p, now);
        return;
    }

    (void) ngx_atomic_fetch_add(&p->sh->stats->purged,
                                (ngx_atomic_int_t) p->old_stmt->affected);

    ngx_memcpy(p->sh->stats->purge_position, p->end, sizeof(p->end));
    p->n = 0;

    ngx_payment_purge_pace(p, now);
}


static void
ngx_payment_purge_looked(ngx_payment_purge_t *p, uint64_t now_ms)
{
    u_char     *text, *end;
    ngx_uint_t  seen;
    MYSQL_ROW   row;

    row = mysql_fetch_row(p->end_stmt->result);
    seen = row ? (ngx_uint_t) ngx_payment_row_number(row[1]) : 0;

    if (seen == 0) {
        /* the end: the next walk begins when its time has come */

        p->next_ms = ngx_max(p->sh->stats->purge_started_ms
                             + ngx_payment_purge_walk_ms(p),
                             now_ms + NGX_PAYMENT_PURGE_WALK_MIN);
        p->sh->stats->purge_started_ms = 0;
        return;
    }

    ngx_payment_purge_unhex(p->end, row[0]);

    /* The deletion is written now, while the result is there, and sent with
     * the next step. */

    end = p->sql.data + NGX_PAYMENT_PURGE_SQL_SIZE;
    text = ngx_slprintf(p->sql.data, end,
                        "DELETE FROM idempotency_key WHERE "
                        NGX_PAYMENT_PURGE_IS_OLD " AND key_hash IN (",
                        ngx_time(), p->sh->conf->idempotency_retention);

    while ((row = mysql_fetch_row(p->old_stmt->result)) != NULL) {
        text = ngx_slprintf(text, end, "%sx'%s'", p->n ? "," : "", row[0]);
        p->n++;

        if (p->n == p->step / 4) {
            /* there may be more of them: the step ends here */
            ngx_payment_purge_unhex(p->end, row[0]);
        }
    }

    text = ngx_slprintf(text, end, ")");

    ngx_payment_assert(text < end);

    p->sql.len = text - p->sql.data;

    if (p->n) {
        /* at once: the fence comes back to it */
        p->next_ms = now_ms;
        return;
    }

    ngx_memcpy(p->sh->stats->purge_position, p->end, sizeof(p->end));
    ngx_payment_purge_pace(p, now_ms);
}


/*
 * The next step is made when the plan comes to where the walk is, so that steps
 * come evenly; but within NGX_PAYMENT_PURGE_PAUSE_MAX, and so late that their
 * share of the connection stays small.
 */

static void
ngx_payment_purge_pace(ngx_payment_purge_t *p, uint64_t now_ms)
{
    uint64_t  least, planned_ms;

    least = NGX_PAYMENT_PURGE_SHARE * ngx_max(now_ms - p->step_ms, 1);

    planned_ms = p->sh->stats->purge_started_ms
                 + (uint64_t) (ngx_payment_purge_fraction(
                                   p->sh->stats->purge_position)
                               * (double) ngx_payment_purge_walk_ms(p));

    p->next_ms = ngx_max(ngx_min(planned_ms,
                                 now_ms + NGX_PAYMENT_PURGE_PAUSE_MAX),
                         now_ms + least);

    p->step = (planned_ms + NGX_PAYMENT_PURGE_LATE < now_ms)
              ? NGX_PAYMENT_PURGE_STEP_LATE : NGX_PAYMENT_PURGE_STEP;
}


static uint64_t
ngx_payment_purge_walk_ms(ngx_payment_purge_t *p)
{
    uint64_t  ms;

    ms = (uint64_t) p->sh->conf->idempotency_retention * 1000
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
