/*
 * The transaction of a batch: see ngx_payment_transaction.h for the straight
 * way, which is
 *
 *     [READ] -> WRITE -> COMMIT -> DONE
 *
 * What leads off that way:
 *   - A statement fails: ROLLBACK, and then the reason decides.  A key that was
 *     used before is looked up, so that its operation is answered and the
 *     others run again; what the server rolled back runs again after a pause;
 *     what it refuses is divided until the operation to blame is alone.
 *   - Another transaction holds the row of a payment: the operations on that
 *     payment leave the batch, so that no other operation waits with them.
 *   - The key of an operation was used, probably: it is looked up with the
 *     WRITE, or alone if the others of the batch are of that kind, too.  What
 *     is not found leaves the batch, and is written with the next one.
 *   - A client looks a key up, and it is not there: only if no transaction has
 *     inserted it, and no operation of this node is about to, is it nobody's.
 *     Otherwise the look-up leaves the batch, and asks again a moment later.
 *   - The connection dies before COMMIT was sent: nothing has happened, and the
 *     batch runs again.
 *   - A key or a payment was found by reading: InnoDB shows what was committed
 *     before its log is on disk, so that a crash could take it back.  It is
 *     told only after a COMMIT of this connection that began after the look and
 *     that changed a row, the barrier's, if the batch itself changes none.
 *   - The connection dies after that: the outcome is unknown.  The batch's next
 *     run only reads its keys, under a lock, so that a COMMIT which is still
 *     under way is waited for.  A key that is found was committed; one that is
 *     not was rolled back, and its operation runs again.
 *
 * No operation has its outcome before the transaction has ended: even a
 * conflict may be due to a change of the same batch.
 *
 * An exchange may be over before the call that starts it returns, and with it
 * the transaction, and the transaction's end may begin the next one.  So every
 * function here that starts an exchange, or calls a function that does, or
 * calls ngx_payment_transaction_end(), does that as its last statement.
 */

#include "ngx_payment_assert.h"
#include "ngx_payment_doorbell.h"
#include "ngx_payment_storm.h"
#include "ngx_payment_transaction.h"

#include <mysqld_error.h>


#if (NGX_PAYMENT_SECRET_LEN != PAYMENT_SECRET_SIZE)
#error "the secret of an installation is what the ids of payments are made with"
#endif


#define NGX_PAYMENT_TRANSACTION_POOL          16384   /* bytes, at first */

/* for how long a server that nobody has claimed is not asked about that */
#define NGX_PAYMENT_TRANSACTION_UNGUARDED     1000    /* ms */

/* how many batches are made of one that has waited for a lock in vain */
#define NGX_PAYMENT_TRANSACTION_LOCKED_PARTS  8

#define NGX_PAYMENT_HEX_LEN          (3 + 2 * 16)     /* x'..' of 16 bytes */

/* of SQL for one page of operations */
#define NGX_PAYMENT_TRANSACTION_PAGE_LEN      512     /* bytes */

/* of SQL that looks for one reference */
#define NGX_PAYMENT_TRANSACTION_REFERENCE_LEN                                 \
    (256 + 2 * PAYMENT_REFERENCE_SIZE)                /* bytes */

/* rows of payment_barrier: enough that two transactions rarely want the same */
#define NGX_PAYMENT_TRANSACTION_BARRIERS      256
#define NGX_PAYMENT_TRANSACTION_BARRIER_LEN   256     /* bytes of SQL */

/* COMMIT for a user who may write in spite of read_only: a primary may have
 * been demoted since the transaction began */
#define NGX_PAYMENT_TRANSACTION_COMMIT_MIGHTY                                 \
    "BEGIN NOT ATOMIC IF CONCAT(@@global.read_only) NOT IN ('0', 'OFF')"      \
    " THEN ROLLBACK; SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1290,"         \
    " MESSAGE_TEXT = 'the server is read-only, though not for this user';"    \
    " END IF; COMMIT; END"

/* what a list in SQL is of */

typedef enum {
    NGX_PAYMENT_TRANSACTION_PAYMENTS = 0,  /* ids, of changes and reads */
    NGX_PAYMENT_TRANSACTION_KEYS,          /* key hashes, of all operations */
    NGX_PAYMENT_TRANSACTION_SEEN,          /* those that are to be looked up */
    NGX_PAYMENT_TRANSACTION_LOOKUPS        /* those that a client looks up */
} ngx_payment_transaction_list_e;


#define NGX_PAYMENT_EPOCH_MS(column)                                          \
    "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', " column ") DIV 1000"


static void ngx_payment_transaction_repeats(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_repeats_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_read(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_read_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static ngx_int_t ngx_payment_transaction_references_sql(
    ngx_payment_transaction_t *t, ngx_str_t *sql);
static void ngx_payment_transaction_mark_referred(
    ngx_payment_transaction_t *t, MYSQL_RES *res);
static ngx_uint_t ngx_payment_transaction_mark_missing(
    ngx_payment_transaction_t *t);
static void ngx_payment_transaction_look(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_look_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_let_go(ngx_payment_transaction_t *t,
    ngx_payment_op_standing_e standing);
static ngx_uint_t ngx_payment_transaction_is_primary(
    ngx_payment_transaction_t *t, const ngx_payment_db_stmt_t *s);
static ngx_int_t ngx_payment_transaction_load(ngx_payment_transaction_t *t,
    MYSQL_RES *res);
static payment_t *ngx_payment_transaction_locate(ngx_payment_transaction_t *t,
    const uint8_t *id);
static payment_t *ngx_payment_transaction_payment(
    ngx_payment_transaction_t *t, const payment_request_t *r);
static void ngx_payment_transaction_apply(ngx_payment_transaction_t *t);
static ngx_uint_t ngx_payment_transaction_is_referred(
    ngx_payment_transaction_t *t, ngx_uint_t i);
static void ngx_payment_transaction_write(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_write_none(ngx_payment_transaction_t *t,
    ngx_uint_t found);
static ngx_uint_t ngx_payment_transaction_is_guarded(
    const ngx_payment_transaction_t *t);
static ngx_int_t ngx_payment_transaction_fill(ngx_payment_transaction_t *t);
static ngx_int_t ngx_payment_transaction_add_event(
    ngx_payment_transaction_t *t, ngx_payment_op_t *op);
static void ngx_payment_transaction_write_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_commit(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_commit_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static ngx_uint_t ngx_payment_transaction_add_commit(
    ngx_payment_transaction_t *t, ngx_payment_db_stmt_t *stmts);
static ngx_uint_t ngx_payment_transaction_confirmed(
    ngx_payment_transaction_t *t);
static ngx_int_t ngx_payment_transaction_barrier(ngx_payment_transaction_t *t,
    ngx_payment_db_stmt_t *s, ngx_uint_t if_found);
static void ngx_payment_transaction_confirm(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_confirm_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_failed(ngx_payment_transaction_t *t,
    const char *phase, ngx_payment_db_stmt_t *s);
static void ngx_payment_transaction_renew_ids(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_rollback(ngx_payment_transaction_t *t,
    ngx_payment_db_error_e reason);
static void ngx_payment_transaction_rollback_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static ngx_payment_transaction_end_e ngx_payment_transaction_verdict(
    ngx_payment_transaction_t *t, ngx_uint_t lost);
static void ngx_payment_transaction_resolve(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_resolve_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static void ngx_payment_transaction_get(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_get_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static ngx_int_t ngx_payment_transaction_read_looks(
    ngx_payment_transaction_t *t);
static ngx_int_t ngx_payment_transaction_payments(ngx_payment_transaction_t *t,
    MYSQL_RES *res);
static ngx_int_t ngx_payment_transaction_lookups(ngx_payment_transaction_t *t,
    MYSQL_RES *res);
static ngx_int_t ngx_payment_transaction_lookup_row(ngx_payment_op_t *op,
    MYSQL_ROW row, unsigned long *lens);
static ngx_int_t ngx_payment_transaction_metadata(ngx_payment_op_t *op,
    const char *metadata, unsigned long len);
static ngx_uint_t ngx_payment_transaction_add_pages(
    ngx_payment_transaction_t *t, ngx_uint_t n);
static ngx_int_t ngx_payment_transaction_pages(ngx_payment_transaction_t *t,
    MYSQL_RES *res);
static ngx_int_t ngx_payment_transaction_page_row(ngx_payment_transaction_t *t,
    ngx_payment_op_t *op, MYSQL_ROW row, unsigned long *lens);
static void ngx_payment_transaction_doubt(ngx_payment_transaction_t *t);
static void ngx_payment_transaction_doubt_done(ngx_payment_db_t *db,
    ngx_uint_t lost);
static ngx_uint_t ngx_payment_transaction_add_look(
    ngx_payment_transaction_t *t, ngx_uint_t n, const char *head,
    const char *tail, ngx_payment_transaction_list_e list);
static void ngx_payment_transaction_ask_looks(ngx_payment_transaction_t *t,
    ngx_uint_t n, ngx_payment_db_done_pt done);
static void ngx_payment_transaction_ask(ngx_payment_transaction_t *t,
    const char *head, const char *tail, ngx_payment_transaction_list_e list,
    ngx_payment_db_done_pt done);
static ngx_int_t ngx_payment_transaction_asked(ngx_payment_transaction_t *t,
    const char *phase, ngx_uint_t lost);
static ngx_int_t ngx_payment_transaction_check(ngx_payment_transaction_t *t,
    const char *phase, ngx_uint_t lost);

static ngx_payment_shard_stats_t *ngx_payment_transaction_stats(
    ngx_payment_transaction_t *t);
static void ngx_payment_transaction_exchange(ngx_payment_transaction_t *t,
    ngx_uint_t n, ngx_payment_db_done_pt done);
static void ngx_payment_transaction_end(ngx_payment_transaction_t *t,
    ngx_payment_transaction_end_e end);
static ngx_int_t ngx_payment_transaction_sql(ngx_payment_transaction_t *t,
    ngx_str_t *sql, const char *head, const char *tail,
    ngx_payment_transaction_list_e list);
static ngx_uint_t ngx_payment_transaction_listed(const ngx_payment_op_t *op,
    ngx_payment_transaction_list_e list);
static ngx_uint_t ngx_payment_transaction_found(ngx_payment_transaction_t *t,
    MYSQL_RES *res);
static void ngx_payment_transaction_found_row(ngx_payment_transaction_t *t,
    MYSQL_ROW row, ngx_payment_op_t *op);
static void ngx_payment_transaction_log(ngx_payment_transaction_t *t,
    const char *phase, const ngx_payment_db_stmt_t *s);


/*
 * Whoever waits for a lock, be it a row's or a table's (which a backup may hold
 * for a moment), gives up before read_timeout is over: an error leaves nothing
 * to be found out.  And the server ends a transaction that has said nothing for
 * two seconds: a COMMIT that the network has lost would otherwise lock its keys
 * for as long as the server believes in the connection, which is hours.  The
 * answer to a COMMIT says which GTID it got, where there is a binary log.
 */

const char *const  ngx_payment_transaction_session[] = {
    "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1,"
    " idle_transaction_timeout = 2, autocommit = 0,"
    " session_track_system_variables = 'last_gtid'",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    NULL
};


/* what ngx_payment_transaction_row() reads */

#define NGX_PAYMENT_TRANSACTION_PAYMENT                                       \
    "SELECT p.id, p.merchant_id, p.currency, p.status + 0, p.amount,"         \
    " p.captured_amount, p.refunded_amount, p.version, "                      \
    NGX_PAYMENT_EPOCH_MS("p.created_at") ", "                                 \
    NGX_PAYMENT_EPOCH_MS("p.updated_at")

static const char  ngx_payment_transaction_sql_payments[] =
    NGX_PAYMENT_TRANSACTION_PAYMENT " FROM payment p WHERE p.id IN (";

/* the same, and what the authorization brought as metadata */

#define NGX_PAYMENT_TRANSACTION_FIRST                                         \
    " LEFT JOIN payment_operation o ON o.payment_id = p.id AND o.version = 1"

static const char  ngx_payment_transaction_sql_payments_first[] =
    NGX_PAYMENT_TRANSACTION_PAYMENT ", o.metadata FROM payment p"
    NGX_PAYMENT_TRANSACTION_FIRST " WHERE p.id IN (";

/* The id of a payment, which its own key's row has only the beginning of: see
 * payment_id_make(). */

#define NGX_PAYMENT_TRANSACTION_ID_OF_KEY                                     \
    "CONCAT(i.payment_id, CASE WHEN LENGTH(i.payment_id) = 16 THEN ''"        \
    " WHEN (ORD(SUBSTR(i.payment_id, 10)) ^ ORD(SUBSTR(i.key_hash, 10))) & 15"\
    " THEN LEFT(UNHEX(SHA2(CONCAT((SELECT secret FROM payment_identity),"     \
    " i.key_hash), 256)), 6) ELSE SUBSTR(i.key_hash, 11) END)"

#define NGX_PAYMENT_TRANSACTION_KEPT                                          \
    "COALESCE(i.status + 0, 1), COALESCE(i.version, 1),"                      \
    " COALESCE(i.captured_amount, 0), COALESCE(i.refunded_amount, 0)"

#define NGX_PAYMENT_TRANSACTION_FROM_KEYS                                     \
    " FROM idempotency_key i LEFT JOIN payment p"                             \
    " ON p.id = " NGX_PAYMENT_TRANSACTION_ID_OF_KEY

#define NGX_PAYMENT_TRANSACTION_OF_KEYS  " WHERE i.key_hash IN ("

static const char  ngx_payment_transaction_sql_keys[] =
    "SELECT i.key_hash, i.fingerprint, p.id, " NGX_PAYMENT_TRANSACTION_KEPT
    ", p.currency, p.amount, " NGX_PAYMENT_EPOCH_MS("p.created_at")
    NGX_PAYMENT_TRANSACTION_FROM_KEYS NGX_PAYMENT_TRANSACTION_OF_KEYS;

static const char  ngx_payment_transaction_sql_lookups[] =
    NGX_PAYMENT_TRANSACTION_PAYMENT ", NULL, i.key_hash, i.operation + 0, "
    NGX_PAYMENT_TRANSACTION_KEPT NGX_PAYMENT_TRANSACTION_FROM_KEYS
    NGX_PAYMENT_TRANSACTION_OF_KEYS;

static const char  ngx_payment_transaction_sql_lookups_first[] =
    NGX_PAYMENT_TRANSACTION_PAYMENT ", o.metadata, i.key_hash,"
    " i.operation + 0, " NGX_PAYMENT_TRANSACTION_KEPT
    NGX_PAYMENT_TRANSACTION_FROM_KEYS NGX_PAYMENT_TRANSACTION_FIRST
    NGX_PAYMENT_TRANSACTION_OF_KEYS;

static const char  ngx_payment_transaction_sql_pages[] =
    "version, operation + 0, status + 0, amount, "
    NGX_PAYMENT_EPOCH_MS("created_at") ", reason, reference, metadata"
    " FROM payment_operation WHERE payment_id = ";


void
ngx_payment_transaction_run(ngx_payment_transaction_t *t,
    ngx_payment_batch_t *b)
{
    ngx_uint_t  i;

    ngx_payment_assert(t->batch == NULL && b->n > 0);

    t->batch = b;
    t->npayments = 0;
    t->nupdates = 0;
    t->error = 0;
    t->reason = NGX_PAYMENT_DB_OK;

    t->pool = ngx_create_pool(NGX_PAYMENT_TRANSACTION_POOL, t->log);
    if (t->pool == NULL) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    if (b->unknown) {
        ngx_payment_transaction_resolve(t);
        return;
    }

    for (i = 0; i < b->n; i++) {
        b->ops[i]->outcome = PAYMENT_OK;
        b->ops[i]->standing = NGX_PAYMENT_OP_UNDECIDED;
    }

    if (b->kind == NGX_PAYMENT_BATCH_READS) {
        ngx_payment_transaction_get(t);

    } else if (b->seen == b->n) {
        ngx_payment_transaction_repeats(t);

    } else if (b->changes || b->forbidden) {
        ngx_payment_transaction_read(t);

    } else {
        ngx_payment_transaction_write(t);
    }
}


/* Nothing but likely repeats: those that are none are written afterwards. */

static void
ngx_payment_transaction_repeats(ngx_payment_transaction_t *t)
{
    ngx_payment_transaction_ask(t, ngx_payment_transaction_sql_keys, ")",
                                NGX_PAYMENT_TRANSACTION_KEYS,
                                ngx_payment_transaction_repeats_done);
}


static void
ngx_payment_transaction_repeats_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_transaction_t  *t;

    t = db->data;

    if (ngx_payment_transaction_asked(t, "looking keys up", lost) != NGX_OK) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    (void) ngx_payment_transaction_found(t, t->stmts[1].result);

    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_REST);
}


/*
 * READ: locks the payments, and only then looks at the keys, so that the key of
 * a change which has just let go of its payment is seen.  Only a batch of the
 * kind WAITER waits for a lock here: in any other, one row that another
 * transaction holds would hold up all operations, and the connection.
 */

static void
ngx_payment_transaction_read(ngx_payment_transaction_t *t)
{
    ngx_uint_t   n;
    const char  *tail;

    tail = (t->batch->kind == NGX_PAYMENT_BATCH_WAITER)
           ? ") ORDER BY p.id FOR UPDATE"
           : ") ORDER BY p.id FOR UPDATE SKIP LOCKED";

    /* with forbidden operations the keys are locked, and so waited for if they
     * are about to be committed: the INSERT that would wait is never made */

    n = t->batch->forbidden ? 4 : 3;

    ngx_memzero(t->stmts, (n + 1) * sizeof(ngx_payment_db_stmt_t));

    if (ngx_payment_transaction_sql(t, &t->stmts[0].sql,
                                    ngx_payment_transaction_sql_payments,
                                    tail, NGX_PAYMENT_TRANSACTION_PAYMENTS)
        != NGX_OK
        || (t->batch->forbidden
            && ngx_payment_transaction_sql(t, &t->stmts[1].sql,
                                           "SELECT 1 FROM idempotency_key"
                                           " WHERE key_hash IN (",
                                           ") LOCK IN SHARE MODE",
                                           NGX_PAYMENT_TRANSACTION_KEYS)
               != NGX_OK)
        || ngx_payment_transaction_sql(t, &t->stmts[n - 2].sql,
                                       ngx_payment_transaction_sql_keys,
                                       ")", NGX_PAYMENT_TRANSACTION_KEYS)
           != NGX_OK)
    {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    t->stmts[n - 1].sql = *ngx_payment_topology_sql(t->shard->durability, 0);

    /* behind the locks of the payments, so that it is true until COMMIT */

    if (t->shard->operations && t->batch->references
        && ngx_payment_transaction_references_sql(t, &t->stmts[n++].sql)
           != NGX_OK)
    {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    ngx_payment_transaction_exchange(t, n, ngx_payment_transaction_read_done);
}


/* One row for each operation whose payment has another one with its reference:
 * its place in the batch. */

static ngx_int_t
ngx_payment_transaction_references_sql(ngx_payment_transaction_t *t,
    ngx_str_t *sql)
{
    u_char               *p;
    ngx_uint_t            i;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;

    sql->data = ngx_pnalloc(t->pool, b->references
                                     * NGX_PAYMENT_TRANSACTION_REFERENCE_LEN);
    if (sql->data == NULL) {
        return NGX_ERROR;
    }

    p = sql->data;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];
        op->referred = 0;

        if (op->request.reference_len == 0) {
            continue;
        }

        p = ngx_sprintf(p, "%s(SELECT %ui FROM payment_operation"
                           " WHERE payment_id = ",
                        p == sql->data ? "" : " UNION ALL ", i);
        p = ngx_payment_db_hex(p, op->request.payment_id, PAYMENT_ID_SIZE);
        p = ngx_sprintf(p, " AND reference = CONVERT(");
        p = ngx_payment_db_hex(p, (u_char *) op->request.reference,
                               op->request.reference_len);
        p = ngx_sprintf(p, " USING utf8mb4) LIMIT 1)");
    }

    sql->len = p - sql->data;

    ngx_payment_assert(sql->len <= b->references
                                   * NGX_PAYMENT_TRANSACTION_REFERENCE_LEN);

    return NGX_OK;
}


static void
ngx_payment_transaction_mark_referred(ngx_payment_transaction_t *t,
    MYSQL_RES *res)
{
    MYSQL_ROW  row;

    while ((row = mysql_fetch_row(res)) != NULL) {
        t->batch->ops[atoi(row[0])]->referred = 1;
    }
}


static void
ngx_payment_transaction_read_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t                  i, n;
    ngx_payment_batch_t        *b;
    ngx_payment_db_stmt_t      *s;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (lost) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    if (b->kind == NGX_PAYMENT_BATCH_WAITER
        && t->stmts[0].error == ER_LOCK_WAIT_TIMEOUT)
    {
        for (i = 0; i < b->n; i++) {
            b->ops[i]->standing = NGX_PAYMENT_OP_BLOCKED;
        }

        ngx_payment_transaction_log(t, "reading", &t->stmts[0]);
        ngx_payment_transaction_let_go(t, NGX_PAYMENT_OP_BLOCKED);
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_OK);
        return;
    }

    s = ngx_payment_db_error_of(t->stmts, db->n);
    if (s) {
        ngx_payment_transaction_failed(t, "reading", s);
        return;
    }

    n = db->n;

    if (t->shard->operations && b->references) {
        ngx_payment_transaction_mark_referred(t, t->stmts[--n].result);
    }

    if (!ngx_payment_transaction_is_primary(t, &t->stmts[n - 1])) {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_UNFIT);
        return;
    }

    if (ngx_payment_transaction_load(t, t->stmts[0].result) != NGX_OK) {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
        return;
    }

    (void) ngx_payment_transaction_found(t, t->stmts[n - 2].result);

    if (ngx_payment_transaction_mark_missing(t)) {
        ngx_payment_transaction_look(t);
        return;
    }

    ngx_payment_transaction_apply(t);
    ngx_payment_transaction_write(t);
}


/* Operations whose payment was not read are BLOCKED, until a look without locks
 * tells which of these payments are not there at all.  Returns how many. */

static ngx_uint_t
ngx_payment_transaction_mark_missing(ngx_payment_transaction_t *t)
{
    ngx_uint_t            i, n;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;

    for (i = 0, n = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation != PAYMENT_AUTHORIZE
            && op->standing != NGX_PAYMENT_OP_FOUND
            && ngx_payment_transaction_locate(t, op->request.payment_id)
               == NULL)
        {
            op->standing = NGX_PAYMENT_OP_BLOCKED;
            n++;
        }
    }

    return n;
}


static void
ngx_payment_transaction_look(ngx_payment_transaction_t *t)
{
    ngx_memzero(t->stmts, sizeof(ngx_payment_db_stmt_t));

    if (ngx_payment_transaction_sql(t, &t->stmts[0].sql,
                                    "SELECT id FROM payment WHERE id IN (",
                                    ")", NGX_PAYMENT_TRANSACTION_PAYMENTS)
        != NGX_OK)
    {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
        return;
    }

    ngx_payment_transaction_exchange(t, 1, ngx_payment_transaction_look_done);
}


static void
ngx_payment_transaction_look_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    MYSQL_ROW                   row;
    ngx_uint_t                  i;
    ngx_payment_op_t           *op;
    ngx_payment_batch_t        *b;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (lost) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    if (t->stmts[0].error) {
        ngx_payment_transaction_failed(t, "reading", &t->stmts[0]);
        return;
    }

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->standing != NGX_PAYMENT_OP_BLOCKED) {
            continue;
        }

        op->standing = NGX_PAYMENT_OP_UNDECIDED;
        mysql_data_seek(t->stmts[0].result, 0);

        while ((row = mysql_fetch_row(t->stmts[0].result)) != NULL) {
            if (ngx_memcmp(op->request.payment_id, row[0], PAYMENT_ID_SIZE)
                == 0)
            {
                op->standing = NGX_PAYMENT_OP_BLOCKED;
                break;
            }
        }
    }

    ngx_payment_transaction_let_go(t, NGX_PAYMENT_OP_BLOCKED);
    ngx_payment_transaction_apply(t);
    ngx_payment_transaction_write(t);
}


/* Operations of one standing leave the batch, which may be empty then. */

static void
ngx_payment_transaction_let_go(ngx_payment_transaction_t *t,
    ngx_payment_op_standing_e standing)
{
    ngx_queue_t  ops;

    ngx_queue_init(&ops);
    ngx_payment_batch_take(t->batch, standing, &ops);

    t->left(t, &ops);
}


static ngx_uint_t
ngx_payment_transaction_is_primary(ngx_payment_transaction_t *t,
    const ngx_payment_db_stmt_t *s)
{
    if (ngx_payment_topology_fit(t->shard, s->result)) {
        return 1;
    }

    (void) ngx_atomic_fetch_add(&ngx_payment_transaction_stats(t)->refused, 1);

    return 0;
}


static void
ngx_payment_transaction_row(payment_t *p, MYSQL_ROW row, unsigned long *lens)
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


static ngx_int_t
ngx_payment_transaction_load(ngx_payment_transaction_t *t, MYSQL_RES *res)
{
    size_t      n;
    MYSQL_ROW   row;
    payment_t  *p;

    n = (size_t) mysql_num_rows(res);

    t->npayments = 0;
    t->payments = ngx_pcalloc(t->pool, (n + 1) * sizeof(payment_t));
    t->versions = ngx_pcalloc(t->pool, (n + 1) * sizeof(uint32_t));

    if (t->payments == NULL || t->versions == NULL) {
        return NGX_ERROR;
    }

    while ((row = mysql_fetch_row(res)) != NULL) {
        p = &t->payments[t->npayments];
        ngx_payment_transaction_row(p, row, mysql_fetch_lengths(res));
        t->versions[t->npayments] = p->version;
        t->npayments++;
    }

    return NGX_OK;
}


/* The loaded payments are in order of their ids. */

static payment_t *
ngx_payment_transaction_locate(ngx_payment_transaction_t *t,
    const uint8_t *id)
{
    int         rc;
    ngx_uint_t  low, high, mid;
    payment_t  *p;

    low = 0;
    high = t->npayments;

    while (low < high) {
        mid = (low + high) / 2;
        p = &t->payments[mid];
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


/* To a merchant, another merchant's payment is not there. */

static payment_t *
ngx_payment_transaction_payment(ngx_payment_transaction_t *t,
    const payment_request_t *r)
{
    payment_t  *p;

    p = ngx_payment_transaction_locate(t, r->payment_id);

    if (p == NULL || p->merchant_len != r->merchant_len
        || ngx_memcmp(p->merchant, r->merchant, r->merchant_len) != 0)
    {
        return NULL;
    }

    return p;
}


/* Does the changes, one after the other, on the payments in memory.  What the
 * rules forbid, and no key has saved, has the outcome that was kept for it. */

static void
ngx_payment_transaction_apply(ngx_payment_transaction_t *t)
{
    ngx_uint_t            i;
    payment_t            *p;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.forbidden && op->outcome == PAYMENT_OK) {
            op->outcome = op->fault.outcome;
        }

        if (op->request.operation == PAYMENT_AUTHORIZE
            || op->outcome != PAYMENT_OK)
        {
            continue;
        }

        p = ngx_payment_transaction_payment(t, &op->request);

        if (p == NULL) {
            ngx_payment_op_fail(op, PAYMENT_NOT_FOUND, "no such payment");
            continue;
        }

        op->outcome = ngx_payment_transaction_is_referred(t, i)
                      ? payment_state_refer(&op->request, &op->fault)
                      : payment_state_apply(p, &op->request,
                                            op->now_us / 1000, &op->fault);
        op->payment = *p;

        if (op->outcome == PAYMENT_OK) {
            op->standing = NGX_PAYMENT_OP_APPLIED;
        }
    }
}


/* Has the payment of an operation another one with the same reference, in the
 * database or, before it, in the batch?  Where operations are not kept, nobody
 * knows. */

static ngx_uint_t
ngx_payment_transaction_is_referred(ngx_payment_transaction_t *t,
    ngx_uint_t i)
{
    ngx_payment_op_t         *op, *other;
    const payment_request_t  *r;

    op = t->batch->ops[i];
    r = &op->request;

    if (!t->shard->operations || r->reference_len == 0) {
        return 0;
    }

    if (op->referred) {
        return 1;
    }

    while (i--) {
        other = t->batch->ops[i];

        if (other->standing == NGX_PAYMENT_OP_APPLIED
            && other->request.reference_len == r->reference_len
            && ngx_memcmp(other->request.reference, r->reference,
                          r->reference_len) == 0
            && ngx_memcmp(other->request.payment_id, r->payment_id,
                          PAYMENT_ID_SIZE) == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* WRITE: the bulk statements, a look at keys, and the topology, sent
 * together. */

static void
ngx_payment_transaction_write(ngx_payment_transaction_t *t)
{
    ngx_uint_t            i, n, found;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;
    b->nkeys = 0;
    found = 0;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->seen) {
            op->standing = NGX_PAYMENT_OP_MISSED;
            continue;
        }

        if (op->request.operation == PAYMENT_AUTHORIZE
            && op->outcome == PAYMENT_OK)
        {
            if (!op->has_id
                && !payment_id_make(op->request.payment_id, op->now_us,
                                    op->slot, op->request.key_hash,
                                    t->shard->secret))
            {
                ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
                return;
            }

            op->has_id = 1;
            ngx_memcpy(op->payment.id, op->request.payment_id,
                       PAYMENT_ID_SIZE);
            payment_state_open(&op->payment, &op->request, op->now_us / 1000);
            op->standing = NGX_PAYMENT_OP_APPLIED;
        }

        if (op->standing == NGX_PAYMENT_OP_APPLIED) {
            b->keys[b->nkeys++] = op;

        } else if (op->standing == NGX_PAYMENT_OP_FOUND) {
            found = 1;
        }
    }

    if (b->nkeys == 0) {
        ngx_payment_transaction_write_none(t, found);
        return;
    }

    if (ngx_payment_transaction_fill(t) != NGX_OK) {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
        return;
    }

    ngx_memzero(t->stmts,
                (NGX_PAYMENT_STMTS + 2) * sizeof(ngx_payment_db_stmt_t));
    n = ngx_payment_columns_statements(t->columns, t->db, t->stmts);

    if (b->seen
        && ngx_payment_transaction_sql(t, &t->stmts[n++].sql,
                                       ngx_payment_transaction_sql_keys, ")",
                                       NGX_PAYMENT_TRANSACTION_SEEN)
           != NGX_OK)
    {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
        return;
    }

    t->guarded = ngx_payment_transaction_is_guarded(t);

    if (t->guarded) {
        /* locked: who moves the payments to another server, by that row, moves
         * them after this COMMIT */

        t->stmts[n++].sql = *ngx_payment_topology_sql(t->shard->durability, 1);
        t->guarded_at = ngx_current_msec;
    }

    ngx_payment_transaction_exchange(t, n, ngx_payment_transaction_write_done);
}


/* Replays and conflicts only: the payments' locks are let go.  A conflict, too,
 * tells a client what was done before. */

static void
ngx_payment_transaction_write_none(ngx_payment_transaction_t *t,
    ngx_uint_t found)
{
    if (found || t->npayments) {
        ngx_payment_transaction_confirm(t);
    } else {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_OK);
    }
}


/*
 * Is the topology asked for together with the writes?  Where no server has
 * claimed the payments it is left to read_only, which the server sees to by
 * itself: then, once in a while, whether that is still so.
 */

static ngx_uint_t
ngx_payment_transaction_is_guarded(const ngx_payment_transaction_t *t)
{
    return t->shard->common->claimed
           || t->shard->durability != NGX_PAYMENT_DURABILITY_LOCAL
           || t->db->mighty
           || ngx_current_msec - t->guarded_at
              >= NGX_PAYMENT_TRANSACTION_UNGUARDED;
}


static ngx_int_t
ngx_payment_transaction_fill(ngx_payment_transaction_t *t)
{
    ngx_uint_t            i;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;
    ngx_payment_columns_reset(t->columns);

    for (i = 0; i < t->npayments; i++) {
        if (t->payments[i].version != t->versions[i]) {
            ngx_payment_columns_add_change(t->columns, &t->payments[i],
                                           t->versions[i]);
            t->nupdates++;
        }
    }

    /* b->keys is still in order of arrival, which is the events' order */

    for (i = 0; i < b->nkeys; i++) {
        op = b->keys[i];

        if (op->request.operation == PAYMENT_AUTHORIZE) {
            ngx_payment_columns_add_payment(t->columns, op);
        }

        if (ngx_payment_transaction_add_event(t, op) != NGX_OK) {
            return NGX_ERROR;
        }

        if (t->shard->operations) {
            ngx_payment_columns_add_operation(t->columns, op);
        }
    }

    qsort(b->keys, b->nkeys, sizeof(ngx_payment_op_t *),
          ngx_payment_op_cmp_keys);

    for (i = 0; i < b->nkeys; i++) {
        ngx_payment_columns_add_key(t->columns, b->keys[i]);
    }

    return NGX_OK;
}


/* Without metadata an event's size is bounded well, so that it is rendered in
 * one place and copied at its true length. */

static ngx_int_t
ngx_payment_transaction_add_event(ngx_payment_transaction_t *t,
    ngx_payment_op_t *op)
{
    size_t          size, len;
    u_char         *payload, *event;
    static u_char   scratch[PAYMENT_PAYLOAD_SIZE];

    payment_id_format((char *) op->id_text, op->payment.id);

    size = PAYMENT_PAYLOAD_SIZE + op->request.metadata_len;
    payload = scratch;

    if (op->request.metadata_len) {
        payload = ngx_pnalloc(t->pool, size);
        if (payload == NULL) {
            return NGX_ERROR;
        }
    }

    len = payment_render_event((char *) payload, size, &op->payment,
                               &op->request);
    event = payload;

    if (payload == scratch) {
        event = ngx_pnalloc(t->pool, len);
        if (event == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(event, scratch, len);
    }

    ngx_payment_columns_add_event(t->columns, op, event, len);

    return NGX_OK;
}


static void
ngx_payment_transaction_write_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_batch_t        *b;
    ngx_payment_db_stmt_t      *s;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (lost) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    s = ngx_payment_db_error_of(t->stmts, db->n);
    if (s) {
        ngx_payment_transaction_failed(t, "writing", s);
        return;
    }

    if (t->nupdates && t->stmts[0].affected != t->nupdates) {
        ngx_log_error(NGX_LOG_ALERT, t->log, 0,
                      "payment: %uL of %ui locked payments changed by another",
                      t->nupdates - t->stmts[0].affected, t->nupdates);
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
        return;
    }

    /* behind the bulk statements: the keys, and the topology */

    s = &t->stmts[db->n];

    if ((t->guarded && !ngx_payment_transaction_is_primary(t, --s))
        || !ngx_payment_common_stands(t->shard, db->choice))
    {
        /* another server has become the primary meanwhile */
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_UNFIT);
        return;
    }

    if (b->seen) {
        (void) ngx_payment_transaction_found(t, (--s)->result);
        ngx_payment_transaction_let_go(t, NGX_PAYMENT_OP_MISSED);
    }

    ngx_payment_transaction_commit(t);
}


static void
ngx_payment_transaction_commit(ngx_payment_transaction_t *t)
{
    ngx_uint_t  n;

    n = ngx_payment_transaction_add_commit(t, t->stmts);

    ngx_payment_transaction_exchange(t, n, ngx_payment_transaction_commit_done);
}


static void
ngx_payment_transaction_commit_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    uint64_t                    us;
    ngx_payment_batch_t        *b;
    ngx_payment_shard_stats_t  *stats;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (ngx_payment_transaction_check(t, "committing", lost) != NGX_OK) {

        /* an error is no proof either: only the keys are */

        b->unknown = 1;

        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    us = ngx_payment_now_us() - b->started_us;
    stats = ngx_payment_transaction_stats(t);

    ngx_payment_histogram_add(&t->stats->commit_time, us);
    (void) ngx_atomic_fetch_add(&stats->batches, 1);
    (void) ngx_atomic_fetch_add(&stats->rows, (ngx_atomic_int_t) b->nkeys);

    ngx_payment_doorbell_ring(t->doorbell,
                              &t->stats->doorbell_armed[t->shard->index]);

    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_DONE);
}


/* COMMIT, and behind it the question whether a replica has confirmed it, where
 * one is to.  Returns how many statements. */

static ngx_uint_t
ngx_payment_transaction_add_commit(ngx_payment_transaction_t *t,
    ngx_payment_db_stmt_t *stmts)
{
    ngx_memzero(stmts, 2 * sizeof(ngx_payment_db_stmt_t));

    if (t->db->mighty) {
        ngx_str_set(&stmts[0].sql, NGX_PAYMENT_TRANSACTION_COMMIT_MIGHTY);
    } else {
        ngx_str_set(&stmts[0].sql, "COMMIT");
    }

    if (t->shard->durability == NGX_PAYMENT_DURABILITY_LOCAL) {
        return 1;
    }

    stmts[1].sql = *ngx_payment_topology_unconfirmed_sql();

    return 2;
}


/* The answer to that question, which is the last of an exchange.  It counts for
 * the whole server: whether the commit that lacks a replica was this one, or
 * another one meanwhile, is found out by the next. */

static ngx_uint_t
ngx_payment_transaction_confirmed(ngx_payment_transaction_t *t)
{
    uint64_t                before;
    ngx_payment_db_stmt_t  *s;

    s = &t->stmts[t->db->n - 1];

    if (s->sql.data != ngx_payment_topology_unconfirmed_sql()->data) {
        return 1;
    }

    before = t->db->unconfirmed;
    t->db->unconfirmed = ngx_payment_topology_sum(s->result);

    return t->db->unconfirmed == before;
}


/* What makes the next COMMIT reach the disk.  With if_found, it does nothing if
 * the statement before it found no row. */

static ngx_int_t
ngx_payment_transaction_barrier(ngx_payment_transaction_t *t,
    ngx_payment_db_stmt_t *s, ngx_uint_t if_found)
{
    u_char  *p;

    p = ngx_pnalloc(t->pool, NGX_PAYMENT_TRANSACTION_BARRIER_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(s, sizeof(ngx_payment_db_stmt_t));
    s->sql.data = p;
    p = ngx_sprintf(p, "INSERT INTO payment_barrier (id, turns)"
                       " SELECT %ui, 1 FROM DUAL%s"
                       " ON DUPLICATE KEY UPDATE"
                       " turns = payment_barrier.turns + 1",
                    (ngx_uint_t) ngx_random()
                    % NGX_PAYMENT_TRANSACTION_BARRIERS,
                    if_found ? " WHERE FOUND_ROWS()" : "");
    s->sql.len = p - s->sql.data;

    ngx_payment_assert(s->sql.len < NGX_PAYMENT_TRANSACTION_BARRIER_LEN);

    return NGX_OK;
}


/* Nothing is to be written, but something was found. */

static void
ngx_payment_transaction_confirm(ngx_payment_transaction_t *t)
{
    ngx_uint_t  n;

    if (ngx_payment_transaction_barrier(t, t->stmts, 0) != NGX_OK) {
        ngx_payment_transaction_rollback(t, NGX_PAYMENT_DB_RETRY);
        return;
    }

    n = 1 + ngx_payment_transaction_add_commit(t, &t->stmts[1]);

    ngx_payment_transaction_exchange(t, n,
                                     ngx_payment_transaction_confirm_done);
}


static void
ngx_payment_transaction_confirm_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_transaction_t  *t;

    t = db->data;

    ngx_payment_transaction_end(t,
        ngx_payment_transaction_check(t, "confirming", lost) == NGX_OK
        ? NGX_PAYMENT_TRANSACTION_DONE : NGX_PAYMENT_TRANSACTION_AGAIN);
}


/* A statement failed.  A used key is no failure, and not worth a line. */

static void
ngx_payment_transaction_failed(ngx_payment_transaction_t *t,
    const char *phase, ngx_payment_db_stmt_t *s)
{
    ngx_payment_db_error_e  reason;

    reason = ngx_payment_db_classify(s->error);

    if (reason == NGX_PAYMENT_DB_DUPLICATE && s->stmt
        && s->stmt == t->db->stmts[NGX_PAYMENT_STMT_PAYMENTS])
    {
        /* not a used key, but an id that another payment has */
        ngx_payment_transaction_renew_ids(t);
        reason = NGX_PAYMENT_DB_RETRY;
    }

    if (reason != NGX_PAYMENT_DB_DUPLICATE) {
        ngx_payment_transaction_log(t, phase, s);
    }

    t->error = s->error;

    ngx_payment_transaction_rollback(t, reason);
}


/* Payments are made anew, at a microsecond of their own, so that no two of the
 * batch can have one id. */

static void
ngx_payment_transaction_renew_ids(ngx_payment_transaction_t *t)
{
    int64_t            now_us;
    ngx_uint_t         i;
    ngx_payment_op_t  *op;

    now_us = (int64_t) ngx_payment_unix_us();

    for (i = 0; i < t->batch->n; i++) {
        op = t->batch->ops[i];

        if (op->request.operation == PAYMENT_AUTHORIZE) {
            op->now_us = now_us + (int64_t) i;
            op->has_id = 0;
        }
    }
}


/* ROLLBACK, for a reason; NGX_PAYMENT_DB_OK: there was nothing to write. */

static void
ngx_payment_transaction_rollback(ngx_payment_transaction_t *t,
    ngx_payment_db_error_e reason)
{
    ngx_uint_t                  n;
    ngx_payment_shard_stats_t  *stats;

    n = 1;
    stats = ngx_payment_transaction_stats(t);
    t->reason = reason;

    ngx_memzero(t->stmts, 2 * sizeof(ngx_payment_db_stmt_t));
    ngx_str_set(&t->stmts[0].sql, "ROLLBACK");

    if (reason != NGX_PAYMENT_DB_OK) {
        (void) ngx_atomic_fetch_add(&stats->rollbacks, 1);
    }

    if (reason == NGX_PAYMENT_DB_DUPLICATE) {
        (void) ngx_atomic_fetch_add(&stats->duplicate_batches, 1);

        t->stmts[1].sql = *ngx_payment_topology_sql(t->shard->durability, 0);
        n = ngx_payment_transaction_add_look(t, 2,
                                             ngx_payment_transaction_sql_keys,
                                             ")", NGX_PAYMENT_TRANSACTION_KEYS);

        if (n == 0) {
            t->reason = NGX_PAYMENT_DB_RETRY;
            n = 1;

        } else {
            n += ngx_payment_transaction_add_commit(t, &t->stmts[n]);
        }
    }

    ngx_payment_transaction_exchange(t, n,
                                     ngx_payment_transaction_rollback_done);
}


static void
ngx_payment_transaction_rollback_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_transaction_t  *t;

    t = db->data;

    ngx_payment_transaction_end(t, ngx_payment_transaction_verdict(t, lost));
}


/* What becomes of a batch that was rolled back, by the reason. */

static ngx_payment_transaction_end_e
ngx_payment_transaction_verdict(ngx_payment_transaction_t *t, ngx_uint_t lost)
{
    ngx_uint_t  failed;

    failed = (ngx_payment_transaction_check(t, "rolling back", lost)
              != NGX_OK);

    switch (t->reason) {

    case NGX_PAYMENT_DB_OK:

        /* where ROLLBACK failed, the end of the connection does its work */

        return NGX_PAYMENT_TRANSACTION_DONE;

    case NGX_PAYMENT_DB_DUPLICATE:

        if (!failed && !ngx_payment_transaction_is_primary(t, &t->stmts[1])) {
            ngx_payment_db_leave(t->db);

            return NGX_PAYMENT_TRANSACTION_AGAIN;
        }

        if (failed
            || ngx_payment_transaction_found(t, t->stmts[2].result) == 0)
        {
            return NGX_PAYMENT_TRANSACTION_AGAIN;
        }

        return NGX_PAYMENT_TRANSACTION_REST;

    case NGX_PAYMENT_DB_REFUSED:

        if (t->batch->n == 1) {
            return NGX_PAYMENT_TRANSACTION_REFUSED;
        }

        t->parts = 2;

        return NGX_PAYMENT_TRANSACTION_DIVIDE;

    case NGX_PAYMENT_DB_UNFIT:

        ngx_payment_db_leave(t->db);

        return NGX_PAYMENT_TRANSACTION_AGAIN;

    case NGX_PAYMENT_DB_STALE:

        ngx_payment_db_reset(t->db);

        return NGX_PAYMENT_TRANSACTION_AGAIN;

    default: /* NGX_PAYMENT_DB_RETRY */

        /* a lock was waited for in vain, for a second: to wait for it again
         * with all the others would cost them their answers */

        if (!failed && t->error == ER_LOCK_WAIT_TIMEOUT && t->batch->n > 1) {
            t->parts = NGX_PAYMENT_TRANSACTION_LOCKED_PARTS;

            return NGX_PAYMENT_TRANSACTION_DIVIDE;
        }

        return NGX_PAYMENT_TRANSACTION_AGAIN;
    }
}


/* RESOLVE: a locking read waits for a COMMIT that is still under way. */

static void
ngx_payment_transaction_resolve(ngx_payment_transaction_t *t)
{
    ngx_payment_transaction_ask(t, ngx_payment_transaction_sql_keys,
                                ") LOCK IN SHARE MODE",
                                NGX_PAYMENT_TRANSACTION_KEYS,
                                ngx_payment_transaction_resolve_done);
}


static void
ngx_payment_transaction_resolve_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t                  i, found;
    ngx_payment_batch_t        *b;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (ngx_payment_transaction_asked(t, "resolving", lost) != NGX_OK) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    /* what was found before was lost together with this COMMIT, perhaps */

    for (i = 0; i < b->n; i++) {
        if (b->ops[i]->standing == NGX_PAYMENT_OP_FOUND) {
            b->ops[i]->standing = NGX_PAYMENT_OP_UNDECIDED;
        }
    }

    found = ngx_payment_transaction_found(t, t->stmts[1].result);
    b->unknown = 0;

    (void) ngx_atomic_fetch_add(&ngx_payment_transaction_stats(t)->resolved, 1);

    ngx_log_error(NGX_LOG_NOTICE, t->log, 0,
                  "payment: shard \"%V\": outcome of a lost commit found out: "
                  "%s, %ui of %ui operations were committed",
                  &t->shard->name, found ? "done" : "not done", found, b->n);

    if (found) {
        ngx_payment_doorbell_ring(t->doorbell,
                                  &t->stats->doorbell_armed[t->shard->index]);
    }

    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_REST);
}


/* GET, LOOKUP and OPERATIONS: reads for clients. */

static void
ngx_payment_transaction_get(ngx_payment_transaction_t *t)
{
    ngx_uint_t            n;
    ngx_payment_batch_t  *b;

    b = t->batch;
    n = 1;

    if (b->lookups < b->n) {
        n = ngx_payment_transaction_add_look(t, n, t->shard->operations
                                ? ngx_payment_transaction_sql_payments_first
                                : ngx_payment_transaction_sql_payments,
                                ") ORDER BY p.id",
                                NGX_PAYMENT_TRANSACTION_PAYMENTS);
    }

    if (b->pages && n) {
        n = ngx_payment_transaction_add_pages(t, n);
    }

    if (b->lookups && n) {
        n = ngx_payment_transaction_add_look(t, n, t->shard->operations
                                ? ngx_payment_transaction_sql_lookups_first
                                : ngx_payment_transaction_sql_lookups,
                                ")", NGX_PAYMENT_TRANSACTION_LOOKUPS);
    }

    ngx_payment_transaction_ask_looks(t, n, ngx_payment_transaction_get_done);
}


static void
ngx_payment_transaction_get_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t                  i, missed;
    ngx_payment_op_t           *op;
    ngx_payment_batch_t        *b;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (ngx_payment_transaction_asked(t, "reading", lost) != NGX_OK
        || ngx_payment_transaction_read_looks(t) != NGX_OK)
    {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    for (i = 0, missed = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation == PAYMENT_LOOKUP
            && op->standing != NGX_PAYMENT_OP_FOUND)
        {
            missed = 1;
        }
    }

    if (missed) {
        ngx_payment_transaction_doubt(t);
        return;
    }

    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_DONE);
}


/* What the looks have found, in the order in which they were added. */

static ngx_int_t
ngx_payment_transaction_read_looks(ngx_payment_transaction_t *t)
{
    ngx_payment_batch_t    *b;
    ngx_payment_db_stmt_t  *s;

    b = t->batch;
    s = &t->stmts[1];

    if (b->lookups < b->n) {

        if (ngx_payment_transaction_payments(t, s->result) != NGX_OK) {
            return NGX_ERROR;
        }

        s += 2;
    }

    if (b->pages) {

        if (ngx_payment_transaction_pages(t, s->result) != NGX_OK) {
            return NGX_ERROR;
        }

        s += 2;
    }

    return b->lookups ? ngx_payment_transaction_lookups(t, s->result) : NGX_OK;
}


static ngx_int_t
ngx_payment_transaction_payments(ngx_payment_transaction_t *t, MYSQL_RES *res)
{
    MYSQL_ROW             row;
    payment_t            *p;
    ngx_uint_t            i;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;

    if (ngx_payment_transaction_load(t, res) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation == PAYMENT_LOOKUP) {
            continue;
        }

        p = ngx_payment_transaction_payment(t, &op->request);

        if (p == NULL) {
            ngx_payment_op_fail(op, PAYMENT_NOT_FOUND, "no such payment");
            continue;
        }

        op->payment = *p;

        if (!t->shard->operations || op->request.operation != PAYMENT_GET) {
            continue;
        }

        mysql_data_seek(res, p - t->payments);
        row = mysql_fetch_row(res);

        if (ngx_payment_transaction_metadata(op, row[10],
                                             mysql_fetch_lengths(res)[10])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* Several clients may look up one key. */

static ngx_int_t
ngx_payment_transaction_lookups(ngx_payment_transaction_t *t, MYSQL_RES *res)
{
    MYSQL_ROW             row;
    ngx_uint_t            i;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;

    while ((row = mysql_fetch_row(res)) != NULL) {
        for (i = 0; i < b->n; i++) {
            op = b->ops[i];

            if (op->request.operation == PAYMENT_LOOKUP
                && ngx_memcmp(op->request.key_hash, row[11],
                              PAYMENT_KEY_HASH_SIZE) == 0
                && ngx_payment_transaction_lookup_row(op, row,
                                                      mysql_fetch_lengths(res))
                   != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_payment_transaction_lookup_row(ngx_payment_op_t *op, MYSQL_ROW row,
    unsigned long *lens)
{
    op->standing = NGX_PAYMENT_OP_FOUND;

    if (row[0] == NULL) {
        ngx_payment_op_fail(op, PAYMENT_GONE,
                            "the payment of this idempotency key was removed");
        return NGX_OK;
    }

    op->outcome = PAYMENT_OK;
    ngx_payment_transaction_row(&op->payment, row, lens);

    op->kept.operation = atoi(row[12]);
    op->kept.status = atoi(row[13]);
    op->kept.version = (uint32_t) strtoul(row[14], NULL, 10);
    op->kept.captured = strtoll(row[15], NULL, 10);
    op->kept.refunded = strtoll(row[16], NULL, 10);

    return ngx_payment_transaction_metadata(op, row[10], lens[10]);
}


/* What the authorization brought, for the answer to a request that reads. */

static ngx_int_t
ngx_payment_transaction_metadata(ngx_payment_op_t *op, const char *metadata,
    unsigned long len)
{
    payment_request_t  *r;

    r = &op->request;
    payment_request_free(r);

    if (metadata == NULL) {
        return NGX_OK;
    }

    r->metadata = malloc(len);
    if (r->metadata == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(r->metadata, metadata, len);
    r->metadata_len = len;

    return NGX_OK;
}


/*
 * The next page of each payment's operations, and one more row, by which it is
 * seen whether others follow.  A row begins with the place of its operation in
 * the batch, since several may ask for one payment.
 */

static ngx_uint_t
ngx_payment_transaction_add_pages(ngx_payment_transaction_t *t, ngx_uint_t n)
{
    u_char               *p;
    ngx_uint_t            i;
    ngx_str_t            *sql;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;

    ngx_memzero(&t->stmts[n], sizeof(ngx_payment_db_stmt_t));
    sql = &t->stmts[n].sql;
    sql->data = ngx_pnalloc(t->pool, b->pages
                                     * NGX_PAYMENT_TRANSACTION_PAGE_LEN);
    if (sql->data == NULL) {
        return 0;
    }

    p = sql->data;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation != PAYMENT_OPERATIONS) {
            continue;
        }

        op->done.len = 0;
        op->done_rows = 0;
        op->done_more = 0;

        p = ngx_sprintf(p, "%s(SELECT %ui, %s",
                        p == sql->data ? "" : " UNION ALL ", i,
                        ngx_payment_transaction_sql_pages);
        p = ngx_payment_db_hex(p, op->request.payment_id, PAYMENT_ID_SIZE);
        p = ngx_sprintf(p, " AND version > %uD ORDER BY version LIMIT %d)",
                        op->request.after, PAYMENT_PAGE_OPERATIONS + 1);
    }

    sql->len = p - sql->data;

    ngx_payment_assert(sql->len <= b->pages * NGX_PAYMENT_TRANSACTION_PAGE_LEN);

    if (ngx_payment_transaction_barrier(t, &t->stmts[n + 1], 1) != NGX_OK) {
        return 0;
    }

    return n + 2;
}


static ngx_int_t
ngx_payment_transaction_pages(ngx_payment_transaction_t *t, MYSQL_RES *res)
{
    MYSQL_ROW          row;
    ngx_payment_op_t  *op;

    while ((row = mysql_fetch_row(res)) != NULL) {
        op = t->batch->ops[atoi(row[0])];

        if (op->done_rows == PAYMENT_PAGE_OPERATIONS) {
            op->done_more = 1;
            continue;
        }

        if (ngx_payment_transaction_page_row(t, op, row,
                                             mysql_fetch_lengths(res))
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* Appends an element to the answer. */

static ngx_int_t
ngx_payment_transaction_page_row(ngx_payment_transaction_t *t,
    ngx_payment_op_t *op, MYSQL_ROW row, unsigned long *lens)
{
    size_t           size;
    u_char          *p, *data;
    payment_done_t   done;

    done.version = (uint32_t) strtoul(row[1], NULL, 10);
    done.operation = atoi(row[2]);
    done.status = atoi(row[3]);
    done.amount = strtoll(row[4], NULL, 10);
    done.created_ms = strtoll(row[5], NULL, 10);
    done.reason = row[6];
    done.reason_len = lens[6];
    done.reference = row[7];
    done.reference_len = lens[7];
    done.metadata = row[8];
    done.metadata_len = lens[8];

    size = ngx_min(PAYMENT_DONE_SIZE, PAYMENT_FIXED_SIZE + 6 * lens[6]
                                      + 6 * lens[7] + lens[8]);

    data = ngx_alloc(op->done.len + 1 + size, t->log);
    if (data == NULL) {
        return NGX_ERROR;
    }

    p = data;

    if (op->done.len) {
        p = ngx_cpymem(p, op->done.data, op->done.len);
        *p++ = ',';
    }

    p += payment_render_done((char *) p, size, &done);

    if (op->done.data) {
        ngx_free(op->done.data);
    }

    op->done.data = data;
    op->done.len = p - data;
    op->done_rows++;
    op->done_last = done.version;

    return NGX_OK;
}


/*
 * A key that was not found is told to be nobody's only if no transaction, of
 * whichever node, has inserted it: it would be committed a moment later.  READ
 * UNCOMMITTED shows it, and waits for nobody.
 */

static void
ngx_payment_transaction_doubt(ngx_payment_transaction_t *t)
{
    ngx_memzero(t->stmts, 3 * sizeof(ngx_payment_db_stmt_t));

    ngx_str_set(&t->stmts[0].sql,
                "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED");
    ngx_str_set(&t->stmts[2].sql, "COMMIT");

    if (ngx_payment_transaction_sql(t, &t->stmts[1].sql,
                                    "SELECT key_hash FROM idempotency_key"
                                    " WHERE key_hash IN (", ")",
                                    NGX_PAYMENT_TRANSACTION_LOOKUPS)
        != NGX_OK)
    {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    ngx_payment_transaction_exchange(t, 3, ngx_payment_transaction_doubt_done);
}


static void
ngx_payment_transaction_doubt_done(ngx_payment_db_t *db, ngx_uint_t lost)
{
    MYSQL_ROW                   row;
    ngx_uint_t                  i;
    ngx_payment_op_t           *op;
    ngx_payment_batch_t        *b;
    ngx_payment_transaction_t  *t;

    t = db->data;
    b = t->batch;

    if (ngx_payment_transaction_check(t, "looking keys up", lost) != NGX_OK) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation != PAYMENT_LOOKUP
            || op->standing == NGX_PAYMENT_OP_FOUND)
        {
            continue;
        }

        if (op->underway) {
            op->standing = NGX_PAYMENT_OP_BLOCKED;
            continue;
        }

        mysql_data_seek(t->stmts[1].result, 0);

        while ((row = mysql_fetch_row(t->stmts[1].result)) != NULL) {
            if (ngx_memcmp(op->request.key_hash, row[0], PAYMENT_KEY_HASH_SIZE)
                == 0)
            {
                op->standing = NGX_PAYMENT_OP_BLOCKED;
                break;
            }
        }

        if (op->standing != NGX_PAYMENT_OP_BLOCKED) {
            ngx_payment_op_fail(op, PAYMENT_NOT_FOUND,
                                "nothing was done with this idempotency key");
        }
    }

    ngx_payment_transaction_let_go(t, NGX_PAYMENT_OP_BLOCKED);
    ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_DONE);
}


/* One exchange for a look without a transaction of its own: is the server the
 * primary still, what does it have, and will that stay? */

static void
ngx_payment_transaction_ask(ngx_payment_transaction_t *t, const char *head,
    const char *tail, ngx_payment_transaction_list_e list,
    ngx_payment_db_done_pt done)
{
    ngx_uint_t  n;

    n = ngx_payment_transaction_add_look(t, 1, head, tail, list);

    ngx_payment_transaction_ask_looks(t, n, done);
}


/* A look, and what makes the COMMIT that follows confirm what it finds.
 * Returns how many statements the exchange has then; 0: no memory. */

static ngx_uint_t
ngx_payment_transaction_add_look(ngx_payment_transaction_t *t, ngx_uint_t n,
    const char *head, const char *tail, ngx_payment_transaction_list_e list)
{
    ngx_memzero(&t->stmts[n], sizeof(ngx_payment_db_stmt_t));

    if (ngx_payment_transaction_sql(t, &t->stmts[n].sql, head, tail, list)
        != NGX_OK
        || ngx_payment_transaction_barrier(t, &t->stmts[n + 1], 1) != NGX_OK)
    {
        return 0;
    }

    return n + 2;
}


/* Asks for the looks that have been added from the second statement on; n: how
 * many statements there are, or 0. */

static void
ngx_payment_transaction_ask_looks(ngx_payment_transaction_t *t, ngx_uint_t n,
    ngx_payment_db_done_pt done)
{
    if (n == 0) {
        ngx_payment_transaction_end(t, NGX_PAYMENT_TRANSACTION_AGAIN);
        return;
    }

    ngx_memzero(t->stmts, sizeof(ngx_payment_db_stmt_t));
    t->stmts[0].sql = *ngx_payment_topology_sql(t->shard->durability, 0);

    n += ngx_payment_transaction_add_commit(t, &t->stmts[n]);

    ngx_payment_transaction_exchange(t, n, done);
}


static ngx_int_t
ngx_payment_transaction_asked(ngx_payment_transaction_t *t, const char *phase,
    ngx_uint_t lost)
{
    if (!lost && t->stmts[0].error == 0
        && !ngx_payment_transaction_is_primary(t, &t->stmts[0]))
    {
        t->reason = NGX_PAYMENT_DB_UNFIT;
        ngx_payment_db_leave(t->db);
        return NGX_ERROR;
    }

    return ngx_payment_transaction_check(t, phase, lost);
}


/* Did the connection live through an exchange after which none but a new one is
 * to be trusted, was every statement accepted, and the COMMIT confirmed? */

static ngx_int_t
ngx_payment_transaction_check(ngx_payment_transaction_t *t,
    const char *phase, ngx_uint_t lost)
{
    ngx_payment_db_stmt_t  *s;

    if (lost) {
        return NGX_ERROR;
    }

    s = ngx_payment_db_error_of(t->stmts, t->db->n);

    if (s) {
        ngx_payment_transaction_log(t, phase, s);

        if (ngx_payment_db_classify(s->error) == NGX_PAYMENT_DB_UNFIT) {
            ngx_payment_db_leave(t->db);
        } else {
            ngx_payment_db_reset(t->db);
        }

        return NGX_ERROR;
    }

    if (ngx_payment_transaction_confirmed(t)) {

        if (t->db->gtid[0]) {
            ngx_payment_gtid_confirmed(t->shard, t->db->gtid);
        }

    } else {
        (void) ngx_atomic_fetch_add(
            &ngx_payment_transaction_stats(t)->unconfirmed, 1);
        t->db->gtid[0] = '\0';
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_payment_shard_stats_t *
ngx_payment_transaction_stats(ngx_payment_transaction_t *t)
{
    return &t->stats->shards[t->shard->index];
}


static void
ngx_payment_transaction_exchange(ngx_payment_transaction_t *t, ngx_uint_t n,
    ngx_payment_db_done_pt done)
{
    ngx_payment_db_exchange(t->db, t->stmts, n, t->shard->read_timeout, done);
}


static void
ngx_payment_transaction_end(ngx_payment_transaction_t *t,
    ngx_payment_transaction_end_e end)
{
    ngx_payment_batch_t  *b;

    b = t->batch;
    t->batch = NULL;

    if (t->pool) {
        ngx_destroy_pool(t->pool);
        t->pool = NULL;
    }

    t->ended(t, b, end);
}


/* SQL with a list of hex literals, so that no byte of a client's can be SQL. */

static ngx_int_t
ngx_payment_transaction_sql(ngx_payment_transaction_t *t, ngx_str_t *sql,
    const char *head, const char *tail, ngx_payment_transaction_list_e list)
{
    u_char               *p;
    ngx_uint_t            i, n;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;

    sql->data = ngx_pnalloc(t->pool, ngx_strlen(head) + ngx_strlen(tail)
                                     + b->n * (NGX_PAYMENT_HEX_LEN + 1));
    if (sql->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(sql->data, head, ngx_strlen(head));
    n = 0;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (!ngx_payment_transaction_listed(op, list)) {
            continue;
        }

        if (n++) {
            *p++ = ',';
        }

        p = ngx_payment_db_hex(p, list == NGX_PAYMENT_TRANSACTION_PAYMENTS
                                  ? op->request.payment_id
                                  : op->request.key_hash, 16);
    }

    if (n == 0) {
        /* no list may be empty, and nothing is equal to NULL */
        p = ngx_cpymem(p, "NULL", 4);
    }

    p = ngx_cpymem(p, tail, ngx_strlen(tail));
    sql->len = p - sql->data;

    return NGX_OK;
}


static ngx_uint_t
ngx_payment_transaction_listed(const ngx_payment_op_t *op,
    ngx_payment_transaction_list_e list)
{
    switch (list) {

    case NGX_PAYMENT_TRANSACTION_PAYMENTS:
        return op->request.operation != PAYMENT_AUTHORIZE
               && op->request.operation != PAYMENT_LOOKUP;

    case NGX_PAYMENT_TRANSACTION_SEEN:
        return op->seen;

    case NGX_PAYMENT_TRANSACTION_LOOKUPS:
        return op->request.operation == PAYMENT_LOOKUP;

    default: /* NGX_PAYMENT_TRANSACTION_KEYS */
        return 1;
    }
}


/* Operations whose keys are in the database have an outcome now, and none is to
 * be looked up any more.  Returns how many have. */

static ngx_uint_t
ngx_payment_transaction_found(ngx_payment_transaction_t *t, MYSQL_RES *res)
{
    ngx_uint_t            i, n;
    MYSQL_ROW             row;
    ngx_payment_op_t     *op;
    ngx_payment_batch_t  *b;

    b = t->batch;
    n = 0;

    for (i = 0; i < b->n; i++) {
        b->ops[i]->seen = 0;
    }

    b->seen = 0;

    while ((row = mysql_fetch_row(res)) != NULL) {
        for (i = 0; i < b->n; i++) {
            op = b->ops[i];

            if (ngx_memcmp(op->request.key_hash, row[0],
                           PAYMENT_KEY_HASH_SIZE) == 0)
            {
                ngx_payment_transaction_found_row(t, row, op);
                n++;
                break;
            }
        }
    }

    return n;
}


static void
ngx_payment_transaction_found_row(ngx_payment_transaction_t *t, MYSQL_ROW row,
    ngx_payment_op_t *op)
{
    payment_t          *p;
    ngx_uint_t          ours;
    payment_request_t  *r;

    r = &op->request;
    p = &op->payment;

    /* what this batch wrote itself, in a COMMIT whose answer was lost, is no
     * replay: the client has not seen it */

    ours = t->batch->unknown && op->standing == NGX_PAYMENT_OP_APPLIED
           && row[2] && ngx_memcmp(p->id, row[2], PAYMENT_ID_SIZE) == 0;

    op->standing = NGX_PAYMENT_OP_FOUND;

    if (ngx_memcmp(r->fingerprint, row[1], PAYMENT_FINGERPRINT_SIZE) != 0) {
        ngx_payment_op_fail(op, PAYMENT_KEY_REUSED,
                            "the idempotency key was used before, "
                            "with another request");
        return;
    }

    if (row[2] == NULL) {
        ngx_payment_op_fail(op, PAYMENT_GONE,
                            "the payment of this idempotency key was removed");
        return;
    }

    op->outcome = ours ? PAYMENT_OK : PAYMENT_REPLAYED;

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
ngx_payment_transaction_log(ngx_payment_transaction_t *t, const char *phase,
    const ngx_payment_db_stmt_t *s)
{
    const char                  *note;
    ngx_payment_server_t        *server;
    static ngx_payment_storm_t   storm;

    note = ngx_payment_storm_note(&storm, s->error);

    if (note == NULL) {
        return;
    }

    server = (ngx_payment_server_t *) t->shard->servers.elts + t->db->server;

    ngx_log_error(NGX_LOG_ERR, t->log, 0,
                  "payment: shard \"%V\": %s a batch of %ui failed, "
                  "try %ui, server %V: (%ui) %s%s",
                  &t->shard->name, phase, t->batch->n, t->batch->tries + 1,
                  &server->name, s->error, s->message, note);
}
