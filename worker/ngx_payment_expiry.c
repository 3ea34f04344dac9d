/*
 * The end of authorizations: see ngx_payment_expiry.h.
 */

#include "ngx_payment_expiry.h"
#include "ngx_payment_row.h"

#include <mysqld_error.h>


#define NGX_PAYMENT_EXPIRY_PAUSE      1000      /* ms, with nothing to do */
#define NGX_PAYMENT_EXPIRY_SHARE      5
#define NGX_PAYMENT_EXPIRY_SHARE_BELOW  20
#define NGX_PAYMENT_EXPIRY_LONG       10000     /* ms, for what may wait */
#define NGX_PAYMENT_EXPIRY_COUNT      10000     /* rows; more are shown as so
                                                   many */

/* bytes of SQL: x'..' or a text of an id, a version with it, a row of the
 * queue, and the row of an event without its texts */
#define NGX_PAYMENT_EXPIRY_ID         (4 + 2 * PAYMENT_ID_SIZE)
#define NGX_PAYMENT_EXPIRY_VERSION    (NGX_PAYMENT_EXPIRY_ID + 12)
#define NGX_PAYMENT_EXPIRY_ROW        (NGX_PAYMENT_EXPIRY_ID + 160)
#define NGX_PAYMENT_EXPIRY_EVENT      256
#define NGX_PAYMENT_EXPIRY_BEHIND     (NGX_PAYMENT_EXPIRY_ID + 240)
#define NGX_PAYMENT_EXPIRY_RANGE      (NGX_PAYMENT_EXPIRY_ID + 240)

/* of all events: the longest has neither a reason nor a reference */
#define NGX_PAYMENT_EXPIRY_EVENTS     (64 * 1024)
#define NGX_PAYMENT_EXPIRY_PAYLOAD                                            \
    (PAYMENT_FIXED_SIZE + 6 * PAYMENT_MERCHANT_SIZE)

#define NGX_PAYMENT_EXPIRY_SQL                                                \
    (NGX_PAYMENT_EXPIRY_STEP * (2 * NGX_PAYMENT_EXPIRY_ID                     \
                                + NGX_PAYMENT_EXPIRY_VERSION                  \
                                + NGX_PAYMENT_EXPIRY_ROW)                     \
     + NGX_PAYMENT_EXPIRY_BEHIND + NGX_PAYMENT_EXPIRY_EVENTS)

/* ids are in two of the statements */
#if NGX_PAYMENT_EXPIRY_SQL + NGX_PAYMENT_EXPIRY_STEP * 36                     \
    > NGX_PAYMENT_FENCE_RANGES + NGX_PAYMENT_FENCE_SINGLES                    \
      + NGX_PAYMENT_FENCE_CONDITION
#error "a step of the expiry does not fit into the fence's text"
#endif

/* as with the purge: rows that are deleted and still seen by a snapshot; takes
 * milliseconds, so many at most, of which a look may need twice as many */
#define NGX_PAYMENT_EXPIRY_BRIEFLY                                            \
    "SET STATEMENT max_statement_time = 0.%03uL FOR "
#define NGX_PAYMENT_EXPIRY_BRIEF_MS   500

/* columns of the look: of the queue, and the first one of the payment, whose id
 * is NULL where it was removed */
#define NGX_PAYMENT_EXPIRY_COL_ID       0
#define NGX_PAYMENT_EXPIRY_COL_TIME     1
#define NGX_PAYMENT_EXPIRY_COL_CLOCK    2
#define NGX_PAYMENT_EXPIRY_COL_PAYMENT  3


static ngx_int_t ngx_payment_expiry_look(ngx_payment_expiry_t *x);
static u_char *ngx_payment_expiry_range(ngx_payment_expiry_t *x, u_char *p);
static ngx_int_t ngx_payment_expiry_change(ngx_payment_expiry_t *x);
static ngx_payment_db_stmt_t *ngx_payment_expiry_expect(
    ngx_payment_expiry_t *x, ngx_payment_db_stmt_t *stmt);
static ngx_uint_t ngx_payment_expiry_cut(ngx_payment_expiry_t *x,
    uint64_t now_ms);
static void ngx_payment_expiry_looked(ngx_payment_expiry_t *x,
    uint64_t now_ms);
static void ngx_payment_expiry_empty(ngx_payment_expiry_t *x);
static void ngx_payment_expiry_first(ngx_payment_expiry_t *x, MYSQL_ROW row);
static void ngx_payment_expiry_counted(ngx_payment_expiry_t *x,
    uint64_t now_ms);
static void ngx_payment_expiry_set_floor(ngx_payment_expiry_t *x,
    uint64_t time_ms, const char *id, uint64_t clock_ms);
static ngx_int_t ngx_payment_expiry_take(ngx_payment_expiry_t *x,
    MYSQL_ROW row, const unsigned long *lens);
static void ngx_payment_expiry_read(payment_t *p, MYSQL_ROW row,
    const unsigned long *lens);
static ngx_int_t ngx_payment_expiry_take_event(ngx_payment_expiry_t *x,
    const payment_t *p, const u_char *hex);
static void ngx_payment_expiry_changed(ngx_payment_expiry_t *x,
    uint64_t now_ms);
static ngx_int_t ngx_payment_expiry_check(ngx_payment_expiry_t *x,
    ngx_uint_t n);
static void ngx_payment_expiry_refused(ngx_payment_expiry_t *x);
static void ngx_payment_expiry_keep_up(ngx_payment_expiry_t *x, uint64_t now_ms,
    ngx_uint_t due);
static void ngx_payment_expiry_pause(ngx_payment_expiry_t *x, uint64_t now_ms,
    ngx_uint_t more);


ngx_int_t
ngx_payment_expiry_init(ngx_payment_expiry_t *x)
{
    u_char  *p;

    if (!x->sh->shard->expiry) {
        return NGX_OK;
    }

    p = ngx_alloc(NGX_PAYMENT_EXPIRY_SQL, x->sh->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    x->ids.data = p;
    p += NGX_PAYMENT_EXPIRY_STEP * NGX_PAYMENT_EXPIRY_ID;

    x->done.data = p;
    p += NGX_PAYMENT_EXPIRY_STEP * NGX_PAYMENT_EXPIRY_ID;

    x->versions.data = p;
    p += NGX_PAYMENT_EXPIRY_STEP * NGX_PAYMENT_EXPIRY_VERSION;

    x->rows.data = p;
    p += NGX_PAYMENT_EXPIRY_STEP * NGX_PAYMENT_EXPIRY_ROW;

    x->behind.data = p;
    p += NGX_PAYMENT_EXPIRY_BEHIND;

    x->events.data = p;

    x->max = NGX_PAYMENT_EXPIRY_CALM;
    x->pace = NGX_PAYMENT_EXPIRY_CALM;

    return NGX_OK;
}


ngx_int_t
ngx_payment_expiry_step(void *part, uint64_t now_ms)
{
    ngx_payment_expiry_t *x = part;

    if (!x->sh->shard->expiry || now_ms < x->next_ms) {
        return NGX_DECLINED;
    }

    x->step_ms = now_ms;

    if (x->epoch != x->sh->lease.epoch || x->doubts != x->sh->doubts) {
        /* another node may have done since what was seen, or it was seen on
         * another server */
        x->epoch = x->sh->lease.epoch;
        x->doubts = x->sh->doubts;
        x->seen = 0;
        x->known = 0;
        x->back = 0;
        x->single = 0;
    }

    if (x->seen) {
        return ngx_payment_expiry_change(x);
    }

    x->below = (x->known && now_ms >= x->below_ms);
    x->limit = (x->below && x->single) ? 1 : x->max;

    return ngx_payment_expiry_look(x);
}


static ngx_int_t
ngx_payment_expiry_look(ngx_payment_expiry_t *x)
{
    u_char     range[NGX_PAYMENT_EXPIRY_RANGE];
    uint64_t   brief_ms;
    ngx_str_t  in;

    /* the exchange must not be given up for it */
    brief_ms = ngx_min(NGX_PAYMENT_EXPIRY_BRIEF_MS,
                       x->sh->node->rules.times.statement_ms / 4);

    in.data = range;
    in.len = ngx_payment_expiry_range(x, range) - range;

    ngx_payment_fence_begin(x->fence);

    x->count_stmt = NULL;

    /* first: its clock may become the floor of the look */

    if (!x->below && x->step_ms >= x->count_ms) {
        x->count_ms = x->step_ms + NGX_PAYMENT_EXPIRY_PAUSE;
        x->count_stmt = ngx_payment_fence_add(x->fence,
            NGX_PAYMENT_EXPIRY_BRIEFLY
            "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM payment_expiry "
            "WHERE expires_at <= UTC_TIMESTAMP(3)%V LIMIT %d) e), "
            "(SELECT COUNT(*) FROM (SELECT 1 FROM payment_expiry "
            "WHERE expires_at <= UTC_TIMESTAMP(3) "
            "AND expires_at > UTC_TIMESTAMP(3) - INTERVAL 1 SECOND "
            "LIMIT %d) e), " NGX_PAYMENT_DB_MS("UTC_TIMESTAMP(3)"),
            brief_ms, &in, NGX_PAYMENT_EXPIRY_COUNT, NGX_PAYMENT_EXPIRY_COUNT);
    }

    x->head_stmt = ngx_payment_fence_add(x->fence,
            NGX_PAYMENT_EXPIRY_BRIEFLY
            "SELECT e.payment_id, " NGX_PAYMENT_DB_MS("e.expires_at") ", "
            NGX_PAYMENT_DB_MS("UTC_TIMESTAMP(3)") ", "
            "p.id, p.merchant_id, p.currency, p.status + 0, p.amount, "
            "p.captured_amount, p.refunded_amount, p.version, "
            NGX_PAYMENT_DB_MS("p.updated_at") ", "
            NGX_PAYMENT_DB_MS("p.expires_at")
            " FROM (SELECT expires_at, payment_id FROM payment_expiry "
            "WHERE expires_at <= UTC_TIMESTAMP(3)%V%V "
            "ORDER BY expires_at, payment_id LIMIT %ui) e "
            "LEFT JOIN payment p ON p.id = e.payment_id "
            "ORDER BY e.expires_at, e.payment_id",
            brief_ms, &in, &x->behind, x->limit);

    ngx_payment_fence_send(x->fence);

    return NGX_OK;
}


/* Which part of the queue to look at, in a form that is a range of its key. */

static u_char *
ngx_payment_expiry_range(ngx_payment_expiry_t *x, u_char *p)
{
    u_char  *end, id[NGX_PAYMENT_EXPIRY_ID];

    if (x->known) {
        end = ngx_payment_db_hex(id, x->floor.id, PAYMENT_ID_SIZE);

        return ngx_sprintf(p, " AND (expires_at %s " NGX_PAYMENT_FENCE_TIME
                           " OR (expires_at = " NGX_PAYMENT_FENCE_TIME
                           " AND payment_id %s %*s))",
                           x->below ? "<" : ">", x->floor.time_us,
                           x->floor.time_us, x->below ? "<" : ">=",
                           end - id, id);
    }

    if (x->back) {
        return ngx_sprintf(p, " AND expires_at >= UTC_TIMESTAMP(3) "
                           "- INTERVAL %ui SECOND", x->back);
    }

    return p;
}


/*
 * @e: the payments that are locked, and are as the look has seen them; @n: how
 * many; @s: how many statements have changed as many rows.  All of them must
 * have, or the exchange is rolled back: MariaDB reports a statement that was
 * killed as done.  If what sets these variables is killed, too, @s has another
 * value than the one it must have in the end.  The UPDATE names no other
 * payment, since it would wait for the lock of each one that it names.
 */

static ngx_int_t
ngx_payment_expiry_change(ngx_payment_expiry_t *x)
{
    ngx_payment_fence_t  *f;

    f = x->fence;

    ngx_payment_fence_begin_fenced(f, ", @e = NULL, @n = 0, @s = 0");

    x->lock_stmt = ngx_payment_fence_add(f,
            "SELECT @n := COUNT(*), @e := GROUP_CONCAT(HEX(id)) FROM payment "
            "WHERE " NGX_PAYMENT_FENCED " AND id IN (%V) "
            "AND FIND_IN_SET(CONCAT(HEX(id), '-', version), '%V') "
            "FOR UPDATE SKIP LOCKED",
            f->turn, &x->ids, &x->versions);

    x->update_stmt = ngx_payment_expiry_expect(x,
            ngx_payment_fence_add(f,
            "EXECUTE IMMEDIATE CONCAT(\"UPDATE payment SET status = "
            "IF(captured_amount = 0, 'VOIDED', 'CAPTURED'), "
            "version = version + 1, "
            "updated_at = GREATEST(updated_at, " NGX_PAYMENT_FENCE_TIME "), "
            "expired_at = GREATEST(updated_at, " NGX_PAYMENT_FENCE_TIME ") "
            "WHERE " NGX_PAYMENT_FENCED " AND id IN (x'\", "
            "COALESCE(REPLACE(@e, ',', \"',x'\"), ''), \"')\")",
            (uint64_t) x->clock_ms * 1000, (uint64_t) x->clock_ms * 1000,
            f->turn));

    x->event_stmt = ngx_payment_expiry_expect(x,
            ngx_payment_fence_add(f,
            "INSERT INTO outbox_event (aggregatetype, aggregateid, type, "
            "merchant_id, version, created_at, payload) "
            "SELECT 'payment', v.a, 'expired', v.m, v.v, UTC_TIMESTAMP(6), v.p "
            "FROM (SELECT NULL h, NULL a, NULL m, NULL v, NULL p%V) v "
            "WHERE " NGX_PAYMENT_FENCED " AND FIND_IN_SET(v.h, @e)",
            &x->events, f->turn));

    x->operation_stmt = NULL;

    if (x->sh->shard->operations) {
        x->operation_stmt = ngx_payment_expiry_expect(x,
            ngx_payment_fence_add(f,
            "INSERT INTO payment_operation (payment_id, version, operation, "
            "status, amount, created_at) "
            "SELECT id, version, 'expire', status, amount - captured_amount, "
            "updated_at FROM payment "
            "WHERE " NGX_PAYMENT_FENCED " AND id IN (%V) "
            "AND FIND_IN_SET(HEX(id), @e)",
            f->turn, &x->ids));
    }

    x->delete_stmt = ngx_payment_fence_add(f,
            "DELETE FROM payment_expiry WHERE " NGX_PAYMENT_FENCED " AND (%V) "
            "AND FIND_IN_SET(HEX(payment_id), CONCAT_WS(',', @e, '%V'))",
            f->turn, &x->rows, &x->done);

    (void) ngx_payment_fence_add(f,
            "EXECUTE IMMEDIATE IF(@f = %uL AND @s = %d "
            "AND ROW_COUNT() = @n + %ui, 'COMMIT', 'ROLLBACK')",
            f->turn, x->operation_stmt ? 3 : 2, x->closed);

    ngx_payment_fence_send(f);

    return NGX_OK;
}


/* ROW_COUNT() is -1 after a statement that failed. */

static ngx_payment_db_stmt_t *
ngx_payment_expiry_expect(ngx_payment_expiry_t *x, ngx_payment_db_stmt_t *stmt)
{
    (void) ngx_payment_fence_add(x->fence,
                                 "SET @s = IF(ROW_COUNT() = @n, @s + 1, 0)");

    return stmt;
}


void
ngx_payment_expiry_done(void *part, ngx_uint_t lost)
{
    ngx_payment_expiry_t *x = part;

    uint64_t    now;
    ngx_int_t   rc;
    ngx_uint_t  change;

    now = ngx_payment_clock_ms();
    change = x->seen;

    if (!change && !lost && ngx_payment_expiry_cut(x, now)) {
        return;
    }

    rc = change ? ngx_payment_fence_check(x->fence, lost,
                                          "expiring authorizations")
                : ngx_payment_fence_check_plain(x->fence, lost,
                                                "looking for expired "
                                                "authorizations");
    if (rc != NGX_OK) {
        /* the step once more, later */

        if (change && !lost) {
            ngx_payment_expiry_refused(x);
        }

        x->seen = 0;
        x->next_ms = now + NGX_PAYMENT_EXPIRY_PAUSE;

        if (x->below) {
            x->below_ms = now + NGX_PAYMENT_EXPIRY_LONG;
        }

        return;
    }

    if (change) {
        ngx_payment_expiry_changed(x, now);
    } else {
        ngx_payment_expiry_looked(x, now);
    }
}


/* Was the look cut short, and is there another way?  A count that was is left
 * out for a while. */

static ngx_uint_t
ngx_payment_expiry_cut(ngx_payment_expiry_t *x, uint64_t now_ms)
{
    uint64_t  took;

    took = ngx_max(now_ms - x->step_ms, 1);

    if (x->count_stmt && x->count_stmt->error == ER_STATEMENT_TIMEOUT) {
        x->count_stmt->error = 0;
        x->count_ms = now_ms + NGX_PAYMENT_EXPIRY_LONG;
    }

    if (x->head_stmt->error != ER_STATEMENT_TIMEOUT) {
        return 0;
    }

    if (x->below) {
        x->single = 1;
        x->below_ms = now_ms + NGX_PAYMENT_EXPIRY_SHARE_BELOW * took;
        x->next_ms = now_ms;
        return 1;
    }

    if (x->back == NGX_PAYMENT_EXPIRY_LAG_MS / 1000) {
        /* it is not for what was deleted */
        return 0;
    }

    if (x->back == 0) {
        ngx_log_error(NGX_LOG_NOTICE, x->sh->log, 0,
                      "payment outbox: shard \"%V\": rows of payment_expiry "
                      "that were deleted are still seen by a snapshot, and "
                      "are too many to go over: what comes before them "
                      "expires later", &x->sh->shard->name);
    }

    x->known = 0;
    x->back = x->back ? ngx_max(x->back / 4, NGX_PAYMENT_EXPIRY_LAG_MS / 1000)
                      : NGX_PAYMENT_EXPIRY_BACK;
    x->next_ms = now_ms + NGX_PAYMENT_EXPIRY_SHARE * took;

    return 1;
}


/* What is to be done is written now, while the result is there, and sent with
 * the next step. */

static void
ngx_payment_expiry_looked(ngx_payment_expiry_t *x, uint64_t now_ms)
{
    MYSQL_ROW   row;
    MYSQL_RES  *res;

    res = x->head_stmt->result;

    ngx_payment_expiry_empty(x);

    while ((row = mysql_fetch_row(res)) != NULL) {

        if (x->seen == 0) {
            ngx_payment_expiry_first(x, row);

            if (x->below && !x->single) {
                /* from there on once more, with all that follows */
                x->below_ms = now_ms + NGX_PAYMENT_EXPIRY_PAUSE;
                x->next_ms = now_ms;
                return;
            }
        }

        if (ngx_payment_expiry_take(x, row, mysql_fetch_lengths(res))
            != NGX_OK)
        {
            break;
        }

        x->seen++;
    }

    x->more = (row != NULL || x->seen == x->limit);

    if (x->count_stmt && x->count_stmt->result) {
        ngx_payment_expiry_counted(x, now_ms);
    }

    if (x->seen == 0 && x->below) {
        x->single = 0;
        x->below_ms = now_ms + ngx_max(NGX_PAYMENT_EXPIRY_PAUSE,
                                       NGX_PAYMENT_EXPIRY_SHARE_BELOW
                                       * (now_ms - x->step_ms));
        x->next_ms = now_ms;
        return;
    }

    if (x->seen == 0) {
        x->behind.len = 0;
        ngx_payment_expiry_pause(x, now_ms, 0);
        return;
    }

    if (x->n == 0) {
        /* no list may be empty, and nothing is equal to NULL */
        x->ids.len = ngx_sprintf(x->ids.data, "NULL") - x->ids.data;
    }

    /* at once: the fence comes back to it */
    x->next_ms = now_ms;
}


static void
ngx_payment_expiry_empty(ngx_payment_expiry_t *x)
{
    x->n = 0;
    x->closed = 0;
    x->ids.len = 0;
    x->done.len = 0;
    x->versions.len = 0;
    x->rows.len = 0;
    x->events.len = 0;

    if (!x->below && x->behind.len == 0) {
        x->sh->gauges->overdue_us = 0;
    }
}


/* The first row is the floor, unless there are others before it: one that was
 * passed by, or those below which a single one was looked for. */

static void
ngx_payment_expiry_first(ngx_payment_expiry_t *x, MYSQL_ROW row)
{
    uint64_t  time_ms;

    time_ms = ngx_payment_row_number(row[NGX_PAYMENT_EXPIRY_COL_TIME]);

    x->clock_ms = (int64_t) ngx_payment_row_number(
                                           row[NGX_PAYMENT_EXPIRY_COL_CLOCK]);

    if (x->below ? x->single : x->behind.len != 0) {
        return;
    }

    ngx_payment_expiry_set_floor(x, time_ms, row[NGX_PAYMENT_EXPIRY_COL_ID],
                                 (uint64_t) x->clock_ms);

    if (!x->below) {
        x->sh->gauges->overdue_us = 1000 * time_ms;
    }
}


/* The clock is read before the look: a row that came between the two is not
 * below it. */

static void
ngx_payment_expiry_counted(ngx_payment_expiry_t *x, uint64_t now_ms)
{
    uint64_t           clock_ms;
    MYSQL_ROW          row;
    static const char  lowest[PAYMENT_ID_SIZE];

    row = mysql_fetch_row(x->count_stmt->result);

    if (row == NULL) {
        return;
    }

    x->sh->gauges->overdue = ngx_payment_row_number(row[0]);

    ngx_payment_expiry_keep_up(x, now_ms,
                               (ngx_uint_t) ngx_payment_row_number(row[1]));

    if (x->seen == 0 && x->behind.len == 0) {
        clock_ms = ngx_payment_row_number(row[2]);
        ngx_payment_expiry_set_floor(x, clock_ms, lowest, clock_ms);
    }
}


static void
ngx_payment_expiry_set_floor(ngx_payment_expiry_t *x, uint64_t time_ms,
    const char *id, uint64_t clock_ms)
{
    if (time_ms > clock_ms - NGX_PAYMENT_EXPIRY_LAG_MS) {
        x->floor.time_us = 1000 * (clock_ms - NGX_PAYMENT_EXPIRY_LAG_MS);
        ngx_memzero(x->floor.id, PAYMENT_ID_SIZE);

    } else {
        x->floor.time_us = 1000 * time_ms;
        ngx_memcpy(x->floor.id, id, PAYMENT_ID_SIZE);
    }

    x->known = 1;
    x->back = 0;
}


/*
 * due: how many came due in the last second and are still there.  These are all
 * that did if the sweep is later than a second; if it is not, it keeps up.  It
 * is to be twice as fast as they come, so that it catches up, too.
 */

static void
ngx_payment_expiry_keep_up(ngx_payment_expiry_t *x, uint64_t now_ms,
    ngx_uint_t due)
{
    uint64_t  swept;

    swept = 1000 * (uint64_t) x->swept / ngx_max(now_ms - x->counted_ms, 1);

    if (2 * due > swept) {
        x->pace = ngx_min(2 * x->pace, NGX_PAYMENT_EXPIRY_STEP);

    } else if (due < swept / 5) {
        x->pace = ngx_max(x->pace / 2, NGX_PAYMENT_EXPIRY_CALM);
    }

    x->counted_ms = now_ms;
    x->swept = 0;
}


/* NGX_DECLINED: the step ends before this row. */

static ngx_int_t
ngx_payment_expiry_take(ngx_payment_expiry_t *x, MYSQL_ROW row,
    const unsigned long *lens)
{
    u_char      *p, *id, hex[2 * PAYMENT_ID_SIZE];
    uint64_t     time_us;
    payment_t    payment;
    ngx_uint_t   i;

    id = (u_char *) row[NGX_PAYMENT_EXPIRY_COL_ID];
    time_us = 1000 * ngx_payment_row_number(row[NGX_PAYMENT_EXPIRY_COL_TIME]);

    for (i = 0; i < x->seen; i++) {
        if (ngx_memcmp(x->taken[i], id, PAYMENT_ID_SIZE) == 0) {
            /* somebody has given it another time: one after the other */
            return NGX_DECLINED;
        }
    }

    /* in capital letters, as HEX() has it */

    (void) ngx_hex_dump(hex, id, PAYMENT_ID_SIZE);

    for (i = 0; i < sizeof(hex); i++) {
        hex[i] = ngx_toupper(hex[i]);
    }

    ngx_payment_expiry_read(&payment, &row[NGX_PAYMENT_EXPIRY_COL_PAYMENT],
                            &lens[NGX_PAYMENT_EXPIRY_COL_PAYMENT]);

    if (payment_state_is_overdue(&payment, x->clock_ms)) {

        if (ngx_payment_expiry_take_event(x, &payment, hex) != NGX_OK) {
            return NGX_DECLINED;
        }

        p = x->ids.data + x->ids.len;
        p = ngx_sprintf(p, "%sx'%*s'", x->n ? "," : "", sizeof(hex), hex);
        x->ids.len = p - x->ids.data;

        p = x->versions.data + x->versions.len;
        p = ngx_sprintf(p, "%s%*s-%uD", x->n ? "," : "", sizeof(hex), hex,
                        payment.version);
        x->versions.len = p - x->versions.data;

        x->n++;

    } else {
        p = x->done.data + x->done.len;
        p = ngx_sprintf(p, "%s%*s", x->closed ? "," : "", sizeof(hex), hex);
        x->done.len = p - x->done.data;

        x->closed++;
    }

    p = x->rows.data + x->rows.len;
    p = ngx_sprintf(p, "%s(expires_at = " NGX_PAYMENT_FENCE_TIME
                       " AND payment_id = x'%*s')",
                    x->seen ? " OR " : "", time_us, sizeof(hex), hex);
    x->rows.len = p - x->rows.data;

    ngx_memcpy(x->taken[x->seen], id, PAYMENT_ID_SIZE);
    x->last_us = time_us;

    return NGX_OK;
}


/* A payment that was removed has no lifetime. */

static void
ngx_payment_expiry_read(payment_t *p, MYSQL_ROW row, const unsigned long *lens)
{
    ngx_memzero(p, sizeof(payment_t));

    if (row[0] == NULL || row[9] == NULL) {
        return;
    }

    ngx_memcpy(p->id, row[0], PAYMENT_ID_SIZE);
    p->merchant_len = ngx_min(lens[1], PAYMENT_MERCHANT_SIZE);
    ngx_memcpy(p->merchant, row[1], p->merchant_len);
    (void) ngx_cpystrn((u_char *) p->currency, (u_char *) row[2],
                       sizeof(p->currency));
    p->status = (payment_status_e) ngx_payment_row_number(row[3]);
    p->amount = (int64_t) ngx_payment_row_number(row[4]);
    p->captured = (int64_t) ngx_payment_row_number(row[5]);
    p->refunded = (int64_t) ngx_payment_row_number(row[6]);
    p->version = (uint32_t) ngx_payment_row_number(row[7]);
    p->updated_ms = (int64_t) ngx_payment_row_number(row[8]);
    p->expires_ms = (int64_t) ngx_payment_row_number(row[9]);
}


/* The event of the payment as it will be. */

static ngx_int_t
ngx_payment_expiry_take_event(ngx_payment_expiry_t *x, const payment_t *p,
    const u_char *hex)
{
    size_t                     len;
    u_char                    *end, *last;
    payment_t                  after;
    u_char                     id[PAYMENT_ID_TEXT_LEN];
    char                       payload[NGX_PAYMENT_EXPIRY_PAYLOAD];
    static payment_request_t   request = { .operation = PAYMENT_EXPIRE };

    after = *p;
    payment_state_expire(&after, x->clock_ms);
    payment_id_format((char *) id, after.id);

    len = payment_render_event(payload, sizeof(payload), &after, &request);

    ngx_payment_assert(len > 0);

    last = x->events.data + NGX_PAYMENT_EXPIRY_EVENTS;
    end = x->events.data + x->events.len;

    if ((size_t) (last - end) < NGX_PAYMENT_EXPIRY_EVENT
                                + 2 * (len + after.merchant_len))
    {
        return NGX_DECLINED;
    }

    end = ngx_sprintf(end, " UNION ALL SELECT '%*s', '%*s', ",
                      (size_t) 2 * PAYMENT_ID_SIZE, hex, sizeof(id), id);
    end = ngx_payment_db_hex(end, (u_char *) after.merchant,
                             after.merchant_len);
    end = ngx_sprintf(end, ", %uD, ", after.version);
    end = ngx_payment_db_hex(end, (u_char *) payload, len);

    x->events.len = end - x->events.data;

    return NGX_OK;
}


static void
ngx_payment_expiry_changed(ngx_payment_expiry_t *x, uint64_t now_ms)
{
    MYSQL_ROW   row;
    ngx_uint_t  n, more;

    row = mysql_fetch_row(x->lock_stmt->result);
    n = row ? (ngx_uint_t) ngx_payment_row_number(row[0]) : 0;
    more = (x->more || n + x->closed < x->seen) && n + x->closed;

    if (x->below) {
        /* a row that somebody holds, or that is refused, can wait */
        x->below_ms = now_ms + (more ? NGX_PAYMENT_EXPIRY_SHARE_BELOW
                                       * ngx_max(now_ms - x->step_ms, 1)
                                     : NGX_PAYMENT_EXPIRY_LONG);
    }

    if (ngx_payment_expiry_check(x, n) != NGX_OK) {
        ngx_payment_expiry_refused(x);
        x->seen = 0;
        x->next_ms = now_ms + NGX_PAYMENT_EXPIRY_PAUSE;
        return;
    }

    x->seen = 0;
    x->max = x->pace;
    x->swept += n + x->closed;

    (void) ngx_atomic_fetch_add(&x->sh->stats->expired, (ngx_atomic_int_t) n);

    ngx_payment_expiry_pause(x, now_ms, more);
}


/* Has each statement changed its rows?  If not, all was rolled back. */

static ngx_int_t
ngx_payment_expiry_check(ngx_payment_expiry_t *x, ngx_uint_t n)
{
    ngx_payment_db_stmt_t  *failed;

    failed = NULL;

    if (x->update_stmt->affected != n) {
        failed = x->update_stmt;

    } else if (x->event_stmt->affected != n) {
        failed = x->event_stmt;

    } else if (x->operation_stmt && x->operation_stmt->affected != n) {
        failed = x->operation_stmt;

    } else if (x->delete_stmt->affected != n + x->closed) {
        failed = x->delete_stmt;
        n += x->closed;
    }

    if (failed == NULL) {
        return NGX_OK;
    }

    ngx_payment_db_interrupted(failed, n);

    return ngx_payment_fence_check_plain(x->fence, 0,
                                         "expiring authorizations");
}


/* Is it a row's fault?  Then the step is halved, or it is the row's. */

static void
ngx_payment_expiry_refused(ngx_payment_expiry_t *x)
{
    u_char                  id[PAYMENT_ID_TEXT_LEN], hex[40], *p;
    const char             *note;
    ngx_payment_db_stmt_t  *failed;

    failed = ngx_payment_db_error_of(x->fence->stmts, x->fence->n);

    if (failed == NULL) {
        return;
    }

    switch (ngx_payment_db_classify(failed->error)) {

    case NGX_PAYMENT_DB_REFUSED:
    case NGX_PAYMENT_DB_DUPLICATE:
        break;

    default:
        if (failed->error != ER_QUERY_INTERRUPTED) {
            return;
        }

        /* fewer rows than there should be */
    }

    if (x->seen > 1) {
        x->max = x->seen / 2;
        return;
    }

    if (!x->below) {
        p = ngx_payment_db_hex(hex, x->taken[0], PAYMENT_ID_SIZE);

        x->behind.len = ngx_sprintf(x->behind.data,
                                " AND expires_at >= " NGX_PAYMENT_FENCE_TIME
                                " AND (expires_at > " NGX_PAYMENT_FENCE_TIME
                                " OR payment_id > %*s)",
                                x->last_us, x->last_us, p - hex, hex)
                        - x->behind.data;
    }

    note = ngx_payment_storm_note(&x->refusals, failed->error);

    if (note) {
        payment_id_format((char *) id, x->taken[0]);

        ngx_log_error(NGX_LOG_ERR, x->sh->log, 0,
                      "payment outbox: shard \"%V\": payment %*s cannot "
                      "expire, those after it go on: (%ui) %s%s",
                      &x->sh->shard->name, sizeof(id), id, failed->error,
                      failed->message, note);
    }
}


/* more: the queue has others, perhaps; the pause keeps the share of the
 * connection small. */

static void
ngx_payment_expiry_pause(ngx_payment_expiry_t *x, uint64_t now_ms,
    ngx_uint_t more)
{
    x->next_ms = now_ms + (more ? NGX_PAYMENT_EXPIRY_SHARE
                                  * ngx_max(now_ms - x->step_ms, 1)
                                : NGX_PAYMENT_EXPIRY_PAUSE);
}
