/*
 * The transaction of a batch, on its line: see ngx_payment_batch.h for the
 * straight way.
 *
 *     [READ] -> WRITE -> COMMIT -> settled
 *
 * Off that way:
 *   - a statement failed: ROLLBACK, then by reason: a used key is looked up and
 *     answered, and the rest runs again; what the server rolled back waits and
 *     runs again, and in the end is halved until the guilty one stands alone;
 *   - a payment's row is locked by somebody else: its operations leave the
 *     batch, to try again later, so that nobody else waits with them;
 *   - the connection died before COMMIT was sent: nothing happened, again;
 *   - it died after: the outcome is unknown.  The keys are read back under a
 *     lock, so that a commit that is still under way is waited for.  What is
 *     found was committed; what is not was rolled back and runs again.
 *
 * Nothing is answered before the transaction has ended: even a conflict may
 * be due to a change of the same batch.
 */

#include "ngx_payment_batch_private.h"
#include "ngx_payment_doorbell.h"

#include <mysqld_error.h>


#define NGX_PAYMENT_BATCH_LOCKED_PARTS  8

#define NGX_PAYMENT_HEX_LEN          (3 + 2 * 16)     /* x'..' of 16 bytes */
#define NGX_PAYMENT_BATCH_TIMEOUT(b) ((b)->writer->shard->read_timeout)

/* asked with everything that is only read: what a server says that has become a
 * replica while we rested may have been true once */
#define NGX_PAYMENT_BATCH_IS_REPLICA "SELECT @@global.read_only"

#define NGX_PAYMENT_EPOCH_MS(column)                                          \
    "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', " column ") DIV 1000"


static void ngx_payment_batch_read(ngx_payment_batch_t *b);
static void ngx_payment_batch_read_done(ngx_payment_db_t *db, ngx_uint_t lost);
static ngx_uint_t ngx_payment_batch_is_primary(ngx_payment_db_stmt_t *s);
static void ngx_payment_batch_load(ngx_payment_batch_t *b, MYSQL_RES *res);
static void ngx_payment_batch_missing_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_batch_let_go(ngx_payment_batch_t *b);
static payment_t *ngx_payment_batch_row_of(ngx_payment_batch_t *b,
    const uint8_t *id);
static void ngx_payment_batch_apply(ngx_payment_batch_t *b);
static void ngx_payment_batch_write(ngx_payment_batch_t *b);
static ngx_int_t ngx_payment_batch_fill(ngx_payment_batch_t *b);
static void ngx_payment_batch_write_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_batch_commit_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_batch_failed(ngx_payment_batch_t *b,
    const char *phase, ngx_payment_db_stmt_t *s);
static void ngx_payment_batch_rollback(ngx_payment_batch_t *b,
    ngx_payment_db_error_e reason);
static void ngx_payment_batch_rollback_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_batch_resolve(ngx_payment_batch_t *b);
static void ngx_payment_batch_resolve_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_batch_get(ngx_payment_batch_t *b);
static void ngx_payment_batch_get_done(ngx_payment_db_t *db, ngx_uint_t lost);

static ngx_int_t ngx_payment_batch_sql(ngx_payment_batch_t *b, ngx_str_t *sql,
    const char *head, const char *tail, ngx_uint_t by_payment);
static ngx_uint_t ngx_payment_batch_found(ngx_payment_batch_t *b,
    MYSQL_RES *res);
static void ngx_payment_batch_found_row(ngx_payment_batch_t *b, MYSQL_ROW row,
    ngx_payment_op_t *op);
static void ngx_payment_batch_log(ngx_payment_batch_t *b, const char *phase,
    ngx_payment_db_stmt_t *s);


/*
 * What waits for a lock gives up, be it a row's or a table's (which a backup
 * may hold for a moment), and before read_timeout does: an error leaves nothing
 * to be found out.  And what the network took away from us must not keep
 * its own: the server ends a transaction that says nothing, or a COMMIT that
 * never arrived would lock its keys for as long as the server believes in the
 * connection, which is hours.
 */

const char *const  ngx_payment_batch_session[] = {
    "SET SESSION time_zone = '+00:00',"
    " sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
    " innodb_lock_wait_timeout = 1, lock_wait_timeout = 1,"
    " idle_transaction_timeout = 2, autocommit = 0",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    NULL
};


static const char  ngx_payment_batch_sql_payments[] =
    "SELECT id, merchant_id, currency, status + 0, amount, captured_amount,"
    " refunded_amount, version, " NGX_PAYMENT_EPOCH_MS("created_at") ", "
    NGX_PAYMENT_EPOCH_MS("updated_at") " FROM payment WHERE id IN (";

static const char  ngx_payment_batch_sql_keys[] =
    "SELECT i.key_hash, i.fingerprint, p.id, COALESCE(i.status + 0, 1),"
    " COALESCE(i.version, 1), COALESCE(i.captured_amount, 0),"
    " COALESCE(i.refunded_amount, 0), p.currency, p.amount, "
    NGX_PAYMENT_EPOCH_MS("p.created_at")
    " FROM idempotency_key i STRAIGHT_JOIN payment p ON p.id ="
    " CONCAT(i.payment_id, SUBSTR(i.key_hash, LENGTH(i.payment_id) + 1))"
    " WHERE i.key_hash IN (";


void
ngx_payment_batch_execute(ngx_payment_batch_t *b)
{
    ngx_uint_t  i;

    if (b->unknown) {
        ngx_payment_batch_resolve(b);
        return;
    }

    b->npayments = 0;
    b->reason = NGX_PAYMENT_DB_OK;

    for (i = 0; i < b->n; i++) {
        b->ops[i]->outcome = PAYMENT_OK;
        b->ops[i]->applied = 0;
        b->ops[i]->found = 0;
        b->ops[i]->held = 0;
    }

    if (b->get) {
        ngx_payment_batch_get(b);

    } else if (b->changes) {
        ngx_payment_batch_read(b);

    } else {
        ngx_payment_batch_write(b);
    }
}


/*
 * READ: locks the payments, and only then looks at the keys, so that the key of
 * a change which has just let go of its payment is seen.  But for the one batch
 * whose business it is, nothing is waited for: one row that somebody holds
 * would hold up all of the batch, and the line.
 */

static void
ngx_payment_batch_read(ngx_payment_batch_t *b)
{
    ngx_memzero(b->stmts, 3 * sizeof(ngx_payment_db_stmt_t));
    ngx_str_set(&b->stmts[2].sql, NGX_PAYMENT_BATCH_IS_REPLICA);

    if (ngx_payment_batch_sql(b, &b->stmts[0].sql,
                              ngx_payment_batch_sql_payments,
                              b->waits ? ") ORDER BY id FOR UPDATE"
                                       : ") ORDER BY id FOR UPDATE SKIP LOCKED",
                              1)
        != NGX_OK
        || ngx_payment_batch_sql(b, &b->stmts[1].sql,
                                 ngx_payment_batch_sql_keys, ")", 0)
           != NGX_OK)
    {
        ngx_payment_batch_again(b);
        return;
    }

    b->state = NGX_PAYMENT_BATCH_READ;
    ngx_payment_db_exchange(&b->line->db, b->stmts, 3,
                            NGX_PAYMENT_BATCH_TIMEOUT(b),
                            ngx_payment_batch_read_done);
}


static void
ngx_payment_batch_read_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t            i, held;
    ngx_payment_op_t     *op;
    ngx_payment_line_t   *line;
    ngx_payment_batch_t  *b;

    line = db->data;
    b = line->batch;
    held = 0;

    if (lost) {
        ngx_payment_batch_again(b);
        return;
    }

    if (b->waits && b->stmts[0].error == ER_LOCK_WAIT_TIMEOUT) {

        /* in vain: to the end of the line */

        for (i = 0; i < b->n; i++) {
            b->ops[i]->held = 1;
        }

        ngx_payment_batch_log(b, "reading", &b->stmts[0]);
        ngx_payment_batch_let_go(b);
        ngx_payment_batch_rollback(b, NGX_PAYMENT_DB_OK);
        return;
    }

    for (i = 0; i < 3; i++) {
        if (b->stmts[i].error) {
            ngx_payment_batch_failed(b, "reading", &b->stmts[i]);
            return;
        }
    }

    if (!ngx_payment_batch_is_primary(&b->stmts[2])) {
        ngx_payment_batch_rollback(b, NGX_PAYMENT_DB_UNFIT);
        return;
    }

    ngx_payment_batch_load(b, b->stmts[0].result);

    if (b->payments == NULL) {
        ngx_payment_batch_rollback(b, NGX_PAYMENT_DB_RETRY);
        return;
    }

    (void) ngx_payment_batch_found(b, b->stmts[1].result);

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation != PAYMENT_AUTHORIZE && !op->found
            && ngx_payment_batch_row_of(b, op->request.payment_id) == NULL)
        {
            op->held = 1;
            held = 1;
        }
    }

    if (!held) {
        ngx_payment_batch_apply(b);
        ngx_payment_batch_write(b);
        return;
    }

    /* held by somebody, or not there at all: an unlocked look tells */

    ngx_memzero(b->stmts, sizeof(ngx_payment_db_stmt_t));

    if (ngx_payment_batch_sql(b, &b->stmts[0].sql,
                              "SELECT id FROM payment WHERE id IN (", ")", 1)
        != NGX_OK)
    {
        ngx_payment_batch_rollback(b, NGX_PAYMENT_DB_RETRY);
        return;
    }

    ngx_payment_db_exchange(db, b->stmts, 1, NGX_PAYMENT_BATCH_TIMEOUT(b),
                            ngx_payment_batch_missing_done);
}


static void
ngx_payment_batch_missing_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    MYSQL_ROW             row;
    ngx_uint_t            i;
    ngx_payment_op_t     *op;
    ngx_payment_line_t   *line;
    ngx_payment_batch_t  *b;

    line = db->data;
    b = line->batch;

    if (lost) {
        ngx_payment_batch_again(b);
        return;
    }

    if (b->stmts[0].error) {
        ngx_payment_batch_failed(b, "reading", &b->stmts[0]);
        return;
    }

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (!op->held) {
            continue;
        }

        op->held = 0;
        mysql_data_seek(b->stmts[0].result, 0);

        while ((row = mysql_fetch_row(b->stmts[0].result)) != NULL) {
            if (ngx_memcmp(op->request.payment_id, row[0], PAYMENT_ID_SIZE)
                == 0)
            {
                op->held = 1;
                break;
            }
        }
    }

    ngx_payment_batch_let_go(b);
    ngx_payment_batch_apply(b);
    ngx_payment_batch_write(b);
}


/* Whose payments are held leave the batch; it may end up with none. */

static void
ngx_payment_batch_let_go(ngx_payment_batch_t *b)
{
    ngx_uint_t         i, n;
    ngx_payment_op_t  *op;

    for (i = 0, n = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->held) {
            b->changes--;
            ngx_payment_writer_hold(b->writer, op);
            continue;
        }

        b->ops[n++] = op;
    }

    b->n = n;
}


static ngx_uint_t
ngx_payment_batch_is_primary(ngx_payment_db_stmt_t *s)
{
    MYSQL_ROW  row;

    row = mysql_fetch_row(s->result);

    return row && row[0] && row[0][0] == '0';
}


static void
ngx_payment_batch_row(payment_t *p, MYSQL_ROW row, unsigned long *lens)
{
    ngx_memcpy(p->id, row[0], PAYMENT_ID_SIZE);
    p->merchant_len = ngx_min(lens[1], PAYMENT_MERCHANT_SIZE);
    ngx_memcpy(p->merchant, row[1], p->merchant_len);
    (void) ngx_cpystrn((u_char *) p->currency, (u_char *) row[2], 4);
    p->status = atoi(row[3]);
    p->amount = strtoll(row[4], NULL, 10);
    p->captured = strtoll(row[5], NULL, 10);
    p->refunded = strtoll(row[6], NULL, 10);
    p->version = (uint32_t) strtoul(row[7], NULL, 10);
    p->created_ms = strtoll(row[8], NULL, 10);
    p->updated_ms = strtoll(row[9], NULL, 10);
}


static void
ngx_payment_batch_load(ngx_payment_batch_t *b, MYSQL_RES *res)
{
    size_t      n;
    MYSQL_ROW   row;

    n = (size_t) mysql_num_rows(res);

    b->npayments = 0;
    b->payments = ngx_pcalloc(b->pool, (n + 1) * sizeof(payment_t));
    b->versions = ngx_pcalloc(b->pool, (n + 1) * sizeof(uint32_t));

    if (b->payments == NULL || b->versions == NULL) {
        b->payments = NULL;
        return;
    }

    while ((row = mysql_fetch_row(res)) != NULL) {
        ngx_payment_batch_row(&b->payments[b->npayments], row,
                              mysql_fetch_lengths(res));
        b->versions[b->npayments] = b->payments[b->npayments].version;
        b->npayments++;
    }
}


/* The loaded payments are in order of their ids. */

static payment_t *
ngx_payment_batch_row_of(ngx_payment_batch_t *b, const uint8_t *id)
{
    int         rc;
    ngx_uint_t  low, high, mid;
    payment_t  *p;

    low = 0;
    high = b->npayments;

    while (low < high) {
        mid = (low + high) / 2;
        p = &b->payments[mid];
        rc = ngx_memcmp(id, p->id, PAYMENT_ID_SIZE);

        if (rc == 0) {
            return p;
        }

        if (rc < 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }

    return NULL;
}


/* Another's payment is not there: its existence is not ours to tell. */

static payment_t *
ngx_payment_batch_payment(ngx_payment_batch_t *b, const payment_request_t *r)
{
    payment_t  *p;

    p = ngx_payment_batch_row_of(b, r->payment_id);

    if (p == NULL || p->merchant_len != r->merchant_len
        || ngx_memcmp(p->merchant, r->merchant, r->merchant_len) != 0)
    {
        return NULL;
    }

    return p;
}


/* Does the changes, one after the other, on the payments in memory. */

static void
ngx_payment_batch_apply(ngx_payment_batch_t *b)
{
    ngx_uint_t          i;
    payment_t          *p;
    ngx_payment_op_t   *op;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation == PAYMENT_AUTHORIZE
            || op->outcome != PAYMENT_OK)
        {
            continue;
        }

        p = ngx_payment_batch_payment(b, &op->request);

        if (p == NULL) {
            op->outcome = PAYMENT_NOT_FOUND;
            op->fault.outcome = PAYMENT_NOT_FOUND;
            (void) ngx_cpystrn((u_char *) op->fault.detail,
                               (u_char *) "no such payment",
                               sizeof(op->fault.detail));
            continue;
        }

        op->outcome = payment_state_apply(p, &op->request, op->now_ms,
                                          &op->fault);
        op->payment = *p;

        if (op->outcome == PAYMENT_OK) {
            op->applied = 1;
        }
    }
}


/* WRITE: four bulk statements, sent together */

static void
ngx_payment_batch_write(ngx_payment_batch_t *b)
{
    ngx_uint_t           i, n;
    ngx_payment_op_t    *op;
    ngx_payment_stmt_e   which[NGX_PAYMENT_STMTS];

    b->nkeys = 0;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation == PAYMENT_AUTHORIZE
            && op->outcome == PAYMENT_OK)
        {
            ngx_memcpy(op->payment.id, op->request.payment_id,
                       PAYMENT_ID_SIZE);
            payment_state_open(&op->payment, &op->request, op->now_ms);
            op->applied = 1;
        }

        if (op->applied) {
            b->keys[b->nkeys++] = op;
        }
    }

    if (b->nkeys == 0) {
        /* replays and conflicts only: what was locked is let go */
        ngx_payment_batch_rollback(b, NGX_PAYMENT_DB_OK);
        return;
    }

    if (ngx_payment_batch_fill(b) != NGX_OK) {
        ngx_payment_batch_rollback(b, NGX_PAYMENT_DB_RETRY);
        return;
    }

    ngx_memzero(b->stmts, NGX_PAYMENT_STMTS * sizeof(ngx_payment_db_stmt_t));
    n = ngx_payment_columns_statements(b->line->columns, &b->line->db,
                                       b->stmts, which);

    b->state = NGX_PAYMENT_BATCH_WRITE;
    ngx_payment_db_exchange(&b->line->db, b->stmts, n,
                            NGX_PAYMENT_BATCH_TIMEOUT(b),
                            ngx_payment_batch_write_done);
}


static ngx_int_t
ngx_payment_batch_fill(ngx_payment_batch_t *b)
{
    size_t                  len;
    u_char                 *payload;
    ngx_uint_t              i;
    ngx_payment_op_t       *op;
    ngx_payment_columns_t  *columns;
    static u_char           scratch[PAYMENT_PAYLOAD_SIZE];

    columns = b->line->columns;
    ngx_payment_columns_reset(columns);
    b->nupdates = 0;

    for (i = 0; i < b->npayments; i++) {
        if (b->payments[i].version != b->versions[i]) {
            ngx_payment_columns_add_change(columns, &b->payments[i],
                                           b->versions[i]);
            b->nupdates++;
        }
    }

    for (i = 0; i < b->nkeys; i++) {            /* still in order of arrival */
        op = b->keys[i];

        if (op->request.operation == PAYMENT_AUTHORIZE) {
            ngx_payment_columns_add_payment(columns, op);
        }

        payment_id_format((char *) op->id_text, op->payment.id);

        payload = scratch;

        if (op->request.metadata_len) {
            payload = ngx_pnalloc(b->pool, PAYMENT_PAYLOAD_SIZE
                                           + op->request.metadata_len);
            if (payload == NULL) {
                return NGX_ERROR;
            }
        }

        len = payment_render_event((char *) payload,
                                   PAYMENT_PAYLOAD_SIZE
                                   + op->request.metadata_len,
                                   &op->payment, &op->request);

        if (payload == scratch) {
            payload = ngx_pnalloc(b->pool, len);
            if (payload == NULL) {
                return NGX_ERROR;
            }

            ngx_memcpy(payload, scratch, len);
        }

        ngx_payment_columns_add_event(columns, op, payload, len);
    }

    qsort(b->keys, b->nkeys, sizeof(ngx_payment_op_t *),
          ngx_payment_batch_cmp_keys);

    for (i = 0; i < b->nkeys; i++) {
        ngx_payment_columns_add_key(columns, b->keys[i]);
    }

    return NGX_OK;
}


static void
ngx_payment_batch_write_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t            i, n;
    ngx_payment_line_t   *line;
    ngx_payment_batch_t  *b;

    line = db->data;
    b = line->batch;
    n = db->n;

    if (lost) {
        ngx_payment_batch_again(b);
        return;
    }

    for (i = 0; i < n; i++) {
        if (b->stmts[i].error) {
            ngx_payment_batch_failed(b, "writing", &b->stmts[i]);
            return;
        }
    }

    if (b->nupdates && b->stmts[0].affected != b->nupdates) {
        ngx_log_error(NGX_LOG_ALERT, b->writer->log, 0,
                      "payment: %uL of %ui locked payments changed by another",
                      b->nupdates - b->stmts[0].affected, b->nupdates);
        ngx_payment_batch_rollback(b, NGX_PAYMENT_DB_RETRY);
        return;
    }

    ngx_memzero(b->stmts, sizeof(ngx_payment_db_stmt_t));
    ngx_str_set(&b->stmts[0].sql, "COMMIT");

    b->state = NGX_PAYMENT_BATCH_COMMIT;
    ngx_payment_db_exchange(db, b->stmts, 1, NGX_PAYMENT_BATCH_TIMEOUT(b),
                            ngx_payment_batch_commit_done);
}


static void
ngx_payment_batch_commit_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    uint64_t               us;
    ngx_payment_line_t    *line;
    ngx_payment_batch_t   *b;
    ngx_payment_writer_t  *writer;

    line = db->data;
    b = line->batch;
    writer = b->writer;

    if (lost || b->stmts[0].error) {

        /* an error is no proof either: only the keys are */

        b->unknown = 1;

        if (!lost) {
            ngx_payment_batch_log(b, "committing", &b->stmts[0]);
            ngx_payment_db_reset(db);
        }

        ngx_payment_batch_again(b);
        return;
    }

    us = ngx_payment_now_us() - b->started_us;
    ngx_payment_histogram_add(&writer->conf->stats->commit_time, us);
    (void) ngx_atomic_fetch_add(&writer->stats->batches, 1);
    (void) ngx_atomic_fetch_add(&writer->stats->rows,
                                (ngx_atomic_int_t) b->nkeys);

    ngx_payment_doorbell_ring(writer->conf->doorbell,
                              &writer->conf->stats->doorbell_armed);
    ngx_payment_batch_settle(b);
}


/* A statement failed; a used key is no failure, and not worth a line. */

static void
ngx_payment_batch_failed(ngx_payment_batch_t *b, const char *phase,
    ngx_payment_db_stmt_t *s)
{
    ngx_payment_db_error_e  reason;

    reason = ngx_payment_db_classify(s->error);

    if (reason != NGX_PAYMENT_DB_DUPLICATE) {
        ngx_payment_batch_log(b, phase, s);
    }

    b->locked = (s->error == ER_LOCK_WAIT_TIMEOUT);

    ngx_payment_batch_rollback(b, reason);
}


/* ROLLBACK, by reason; DB_OK means that there was nothing to write */

static void
ngx_payment_batch_rollback(ngx_payment_batch_t *b,
    ngx_payment_db_error_e reason)
{
    ngx_uint_t  n;

    n = 1;
    b->reason = reason;

    ngx_memzero(b->stmts, 3 * sizeof(ngx_payment_db_stmt_t));
    ngx_str_set(&b->stmts[0].sql, "ROLLBACK");

    if (reason != NGX_PAYMENT_DB_OK) {
        (void) ngx_atomic_fetch_add(&b->writer->stats->rollbacks, 1);
    }

    if (reason == NGX_PAYMENT_DB_DUPLICATE) {
        (void) ngx_atomic_fetch_add(&b->writer->stats->duplicates, 1);

        if (ngx_payment_batch_sql(b, &b->stmts[1].sql,
                                  ngx_payment_batch_sql_keys, ")", 0)
            != NGX_OK)
        {
            b->reason = NGX_PAYMENT_DB_RETRY;

        } else {
            /* ends what the SELECT began, or its metadata lock would stay */
            ngx_str_set(&b->stmts[2].sql, "ROLLBACK");
            n = 3;
        }
    }

    b->state = NGX_PAYMENT_BATCH_ROLLBACK;
    ngx_payment_db_exchange(&b->line->db, b->stmts, n,
                            NGX_PAYMENT_BATCH_TIMEOUT(b),
                            ngx_payment_batch_rollback_done);
}


static void
ngx_payment_batch_rollback_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t            i;
    ngx_payment_line_t   *line;
    ngx_payment_batch_t  *b;

    line = db->data;
    b = line->batch;

    /* what is lost is rolled back; but no key was looked up then */

    if (lost && b->reason != NGX_PAYMENT_DB_OK
        && b->reason != NGX_PAYMENT_DB_REFUSED)
    {
        ngx_payment_batch_again(b);
        return;
    }

    for (i = 0; !lost && i < db->n; i++) {
        if (b->stmts[i].error) {
            ngx_payment_batch_log(b, "rolling back", &b->stmts[i]);
            ngx_payment_db_reset(db);

            if (b->reason == NGX_PAYMENT_DB_OK) {
                break;
            }

            ngx_payment_batch_again(b);
            return;
        }
    }

    switch (b->reason) {

    case NGX_PAYMENT_DB_OK:
        ngx_payment_batch_settle(b);
        return;

    case NGX_PAYMENT_DB_DUPLICATE:
        if (ngx_payment_batch_found(b, b->stmts[1].result) == 0) {
            ngx_payment_batch_again(b);
            return;
        }

        ngx_payment_batch_drop_found(b);

        if (b->n == 0) {
            ngx_payment_batch_settle(b);
            return;
        }

        ngx_payment_batch_release(b);
        ngx_payment_batch_ready(b);
        return;

    case NGX_PAYMENT_DB_REFUSED:
        if (b->n == 1) {
            ngx_payment_batch_give_up(b, PAYMENT_UNAVAILABLE,
                                      "the database refused the payment");
            return;
        }

        ngx_payment_batch_release(b);
        ngx_payment_batch_split(b, 2);
        return;

    case NGX_PAYMENT_DB_UNFIT:
    case NGX_PAYMENT_DB_STALE:
        ngx_payment_db_reset(db);
        ngx_payment_batch_again(b);
        return;

    default:

        /* a lock was waited for in vain, for a second: waiting for it again
         * with all the others would cost them their answers */

        if (b->locked && b->n > 1) {
            ngx_payment_batch_release(b);
            ngx_payment_batch_split(b, NGX_PAYMENT_BATCH_LOCKED_PARTS);
            return;
        }

        ngx_payment_batch_again(b);
        return;
    }
}


/* RESOLVE: a locking read waits for a commit that is still under way */

static void
ngx_payment_batch_resolve(ngx_payment_batch_t *b)
{
    ngx_memzero(b->stmts, 3 * sizeof(ngx_payment_db_stmt_t));

    if (ngx_payment_batch_sql(b, &b->stmts[0].sql, ngx_payment_batch_sql_keys,
                              ") LOCK IN SHARE MODE", 0)
        != NGX_OK)
    {
        ngx_payment_batch_again(b);
        return;
    }

    ngx_str_set(&b->stmts[1].sql, NGX_PAYMENT_BATCH_IS_REPLICA);
    ngx_str_set(&b->stmts[2].sql, "ROLLBACK");

    b->state = NGX_PAYMENT_BATCH_RESOLVE;
    ngx_payment_db_exchange(&b->line->db, b->stmts, 3,
                            NGX_PAYMENT_BATCH_TIMEOUT(b),
                            ngx_payment_batch_resolve_done);
}


static void
ngx_payment_batch_resolve_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t            i, found;
    ngx_payment_line_t   *line;
    ngx_payment_batch_t  *b;

    line = db->data;
    b = line->batch;

    if (lost) {
        ngx_payment_batch_again(b);
        return;
    }

    for (i = 0; i < 3; i++) {
        if (b->stmts[i].error) {
            ngx_payment_batch_log(b, "resolving", &b->stmts[i]);
            ngx_payment_db_reset(db);
            ngx_payment_batch_again(b);
            return;
        }
    }

    if (!ngx_payment_batch_is_primary(&b->stmts[1])) {
        ngx_payment_db_reset(db);
        ngx_payment_batch_again(b);
        return;
    }

    found = ngx_payment_batch_found(b, b->stmts[0].result);

    (void) ngx_atomic_fetch_add(&b->writer->stats->resolved, 1);

    ngx_log_error(NGX_LOG_NOTICE, b->writer->log, 0,
                  "payment: shard \"%V\": outcome of a lost commit found out: "
                  "%s, %ui of %ui operations were committed",
                  &b->writer->shard->name,
                  found ? "done" : "not done", found, b->n);

    b->unknown = 0;

    if (found) {
        ngx_payment_doorbell_ring(b->writer->conf->doorbell,
                                  &b->writer->conf->stats->doorbell_armed);
    }

    ngx_payment_batch_drop_found(b);

    if (b->n == 0) {
        ngx_payment_batch_settle(b);
        return;
    }

    ngx_payment_batch_release(b);
    ngx_payment_batch_ready(b);
}


/* GET: reads for clients; the ROLLBACK ends the SELECT's transaction */

static void
ngx_payment_batch_get(ngx_payment_batch_t *b)
{
    ngx_memzero(b->stmts, 3 * sizeof(ngx_payment_db_stmt_t));

    if (ngx_payment_batch_sql(b, &b->stmts[0].sql,
                              ngx_payment_batch_sql_payments,
                              ") ORDER BY id", 1)
        != NGX_OK)
    {
        ngx_payment_batch_again(b);
        return;
    }

    ngx_str_set(&b->stmts[1].sql, NGX_PAYMENT_BATCH_IS_REPLICA);
    ngx_str_set(&b->stmts[2].sql, "ROLLBACK");

    b->state = NGX_PAYMENT_BATCH_GET;
    ngx_payment_db_exchange(&b->line->db, b->stmts, 3,
                            NGX_PAYMENT_BATCH_TIMEOUT(b),
                            ngx_payment_batch_get_done);
}


static void
ngx_payment_batch_get_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t            i;
    payment_t            *p;
    ngx_payment_op_t     *op;
    ngx_payment_line_t   *line;
    ngx_payment_batch_t  *b;

    line = db->data;
    b = line->batch;

    if (lost) {
        ngx_payment_batch_again(b);
        return;
    }

    for (i = 0; i < 3; i++) {
        if (b->stmts[i].error) {
            ngx_payment_batch_log(b, "reading", &b->stmts[i]);
            ngx_payment_db_reset(db);
            ngx_payment_batch_again(b);
            return;
        }
    }

    if (!ngx_payment_batch_is_primary(&b->stmts[1])) {
        b->reason = NGX_PAYMENT_DB_UNFIT;
        ngx_payment_db_reset(db);
        ngx_payment_batch_again(b);
        return;
    }

    ngx_payment_batch_load(b, b->stmts[0].result);

    if (b->payments == NULL) {
        ngx_payment_batch_again(b);
        return;
    }

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];
        p = ngx_payment_batch_payment(b, &op->request);

        if (p) {
            op->payment = *p;
            continue;
        }

        op->outcome = PAYMENT_NOT_FOUND;
        op->fault.outcome = PAYMENT_NOT_FOUND;
        (void) ngx_cpystrn((u_char *) op->fault.detail,
                           (u_char *) "no such payment",
                           sizeof(op->fault.detail));
    }

    ngx_payment_batch_settle(b);
}


/* SQL with a list of the operations' payment ids (of changes and reads) or key
 * hashes: hex literals, so no byte of a client's can be SQL. */

static ngx_int_t
ngx_payment_batch_sql(ngx_payment_batch_t *b, ngx_str_t *sql,
    const char *head, const char *tail, ngx_uint_t by_payment)
{
    u_char            *p;
    ngx_uint_t         i, n;
    payment_request_t *r;

    sql->data = ngx_pnalloc(b->pool, ngx_strlen(head) + ngx_strlen(tail)
                                     + b->n * (NGX_PAYMENT_HEX_LEN + 1));
    if (sql->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(sql->data, head, ngx_strlen(head));
    n = 0;

    for (i = 0; i < b->n; i++) {
        r = &b->ops[i]->request;

        if (by_payment && r->operation == PAYMENT_AUTHORIZE) {
            continue;
        }

        if (n++) {
            *p++ = ',';
        }

        p = ngx_payment_db_hex(p, by_payment ? r->payment_id : r->key_hash,
                               16);
    }

    p = ngx_cpymem(p, tail, ngx_strlen(tail));
    sql->len = p - sql->data;

    return NGX_OK;
}


/* Keys that are in the database: their operations have an outcome now. */

static ngx_uint_t
ngx_payment_batch_found(ngx_payment_batch_t *b, MYSQL_RES *res)
{
    ngx_uint_t         i, n;
    MYSQL_ROW          row;
    ngx_payment_op_t  *op;

    n = 0;

    while ((row = mysql_fetch_row(res)) != NULL) {
        for (i = 0; i < b->n; i++) {
            op = b->ops[i];

            if (ngx_memcmp(op->request.key_hash, row[0],
                           PAYMENT_KEY_HASH_SIZE) == 0)
            {
                ngx_payment_batch_found_row(b, row, op);
                n++;
                break;
            }
        }
    }

    return n;
}


static void
ngx_payment_batch_found_row(ngx_payment_batch_t *b, MYSQL_ROW row,
    ngx_payment_op_t *op)
{
    payment_t           *p;
    payment_request_t   *r;

    r = &op->request;
    p = &op->payment;
    op->found = 1;

    if (ngx_memcmp(r->fingerprint, row[1], PAYMENT_FINGERPRINT_SIZE) != 0) {
        op->applied = 0;
        op->outcome = PAYMENT_KEY_REUSED;
        op->fault.outcome = PAYMENT_KEY_REUSED;
        (void) ngx_cpystrn((u_char *) op->fault.detail, (u_char *)
                           "the idempotency key was used before, "
                           "with another request", sizeof(op->fault.detail));
        return;
    }

    /* what we wrote ourselves, in a COMMIT whose answer was lost, is no
     * replay: the client has not seen it */

    if (b->unknown && op->applied
        && ngx_memcmp(p->id, row[2], PAYMENT_ID_SIZE) == 0)
    {
        op->outcome = PAYMENT_OK;

    } else {
        op->outcome = PAYMENT_REPLAYED;
    }

    op->applied = 0;

    ngx_memcpy(p->id, row[2], PAYMENT_ID_SIZE);
    p->merchant_len = r->merchant_len;
    ngx_memcpy(p->merchant, r->merchant, r->merchant_len);
    p->status = atoi(row[3]);
    p->version = (uint32_t) strtoul(row[4], NULL, 10);
    p->captured = strtoll(row[5], NULL, 10);
    p->refunded = strtoll(row[6], NULL, 10);
    (void) ngx_cpystrn((u_char *) p->currency, (u_char *) row[7], 4);
    p->amount = strtoll(row[8], NULL, 10);
    p->created_ms = strtoll(row[9], NULL, 10);
    p->updated_ms = p->created_ms;
}


static void
ngx_payment_batch_log(ngx_payment_batch_t *b, const char *phase,
    ngx_payment_db_stmt_t *s)
{
    ngx_payment_server_t  *server;

    server = (ngx_payment_server_t *) b->writer->shard->servers.elts
             + b->line->db.server;

    ngx_log_error(NGX_LOG_ERR, b->writer->log, 0,
                  "payment: shard \"%V\": %s a batch of %ui failed, "
                  "try %ui, server %V: (%ui) %s",
                  &b->writer->shard->name, phase, b->n, b->tries + 1,
                  &server->name, s->error, s->message);
}
