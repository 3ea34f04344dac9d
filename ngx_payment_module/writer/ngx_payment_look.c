/*
 * What the database has of a batch: see ngx_payment_look.h.
 */

#include "ngx_payment_assert.h"
#include "ngx_payment_look.h"


/* x'..', and a comma: of a key or an id, and of the end of an id */
#define NGX_PAYMENT_LOOK_HEX_LEN       (4 + 2 * 16)
#define NGX_PAYMENT_LOOK_END_LEN       (4 + 2 * PAYMENT_ID_END_SIZE)

/* Of how many keys the worker says what ids end with: the server goes over all
 * of them for each, and with more than these it takes longer than by itself. */
#define NGX_PAYMENT_LOOK_ENDS_MAX      32
#define NGX_PAYMENT_LOOK_ENDS          '?'      /* their mark in a text */

/* rows of payment_barrier: enough that two transactions rarely want the same */
#define NGX_PAYMENT_LOOK_BARRIERS      256
#define NGX_PAYMENT_LOOK_BARRIER_LEN   256     /* bytes of SQL */


static u_char *ngx_payment_look_ends(u_char *p, const ngx_payment_batch_t *b,
    const ngx_payment_shard_t *shard);
static u_char *ngx_payment_look_list(u_char *p, const ngx_payment_batch_t *b,
    ngx_payment_look_list_e list);
static ngx_uint_t ngx_payment_look_listed(const ngx_payment_op_t *op,
    ngx_payment_look_list_e list);
static void ngx_payment_look_found_row(const ngx_payment_batch_t *b,
    uint64_t by, MYSQL_RES *res, MYSQL_ROW row, ngx_payment_op_t *op);


/* the payment p: what ngx_payment_look_row() reads */
#define NGX_PAYMENT_LOOK_PAYMENT                                              \
    "SELECT p.id, p.merchant_id, p.currency, p.status + 0, p.amount,"         \
    " p.captured_amount, p.refunded_amount, p.version, "                      \
    NGX_PAYMENT_DB_MS("p.created_at") ", "                                    \
    NGX_PAYMENT_DB_MS("p.updated_at")

/* and ngx_payment_look_expiry() */
#define NGX_PAYMENT_LOOK_EXPIRY                                               \
    ", " NGX_PAYMENT_DB_MS("p.expires_at") ", "                               \
    NGX_PAYMENT_DB_MS("p.expired_at")

#define NGX_PAYMENT_LOOK_OF_PAYMENTS  " WHERE p.id IN ("

/* what the authorization brought as metadata */

#define NGX_PAYMENT_LOOK_FIRST                                                \
    " LEFT JOIN payment_operation o ON o.payment_id = p.id AND o.version = 1"

/* The id of a payment, which its own key's row has only the beginning of: see
 * payment_id_make(). */

#define NGX_PAYMENT_LOOK_ID_OF_KEY(end)                                       \
    "CONCAT(i.payment_id, CASE WHEN LENGTH(i.payment_id) = 16 THEN ''"        \
    " WHEN (ORD(SUBSTR(i.payment_id, 10)) ^ ORD(SUBSTR(i.key_hash, 10))) & 15"\
    " THEN " end " ELSE SUBSTR(i.key_hash, 11) END)"

#define NGX_PAYMENT_LOOK_END                                                  \
    "LEFT(UNHEX(SHA2(CONCAT((SELECT secret FROM payment_identity),"           \
    " i.key_hash), 256)), 6)"

/* ngx_payment_look_kept() reads them */

#define NGX_PAYMENT_LOOK_KEPT                                                 \
    "i.status + 0, i.version, i.captured_amount, i.refunded_amount"

#define NGX_PAYMENT_LOOK_FROM_KEYS_BY(end)                                    \
    " FROM idempotency_key i LEFT JOIN payment p"                             \
    " ON p.id = " NGX_PAYMENT_LOOK_ID_OF_KEY(end)

#define NGX_PAYMENT_LOOK_FROM_KEYS                                            \
    NGX_PAYMENT_LOOK_FROM_KEYS_BY(NGX_PAYMENT_LOOK_END)

#define NGX_PAYMENT_LOOK_OF_KEYS  " WHERE i.key_hash IN ("

#define NGX_PAYMENT_LOOK_KEYS_COLUMNS                                         \
    "SELECT i.key_hash, i.fingerprint, p.id, " NGX_PAYMENT_LOOK_KEPT          \
    ", p.currency, p.amount, " NGX_PAYMENT_DB_MS("p.created_at")

#define NGX_PAYMENT_LOOK_LOOKUPS_COLUMNS(metadata)                            \
    NGX_PAYMENT_LOOK_PAYMENT ", " metadata ", i.key_hash, i.operation + 0, "  \
    NGX_PAYMENT_LOOK_KEPT

#define NGX_PAYMENT_LOOK_LISTED_END                                           \
    "SELECT MIN(k.id), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,"  \
    " %ui"

static const ngx_payment_look_texts_t  ngx_payment_look_texts_usual = {
    .payments =
        NGX_PAYMENT_LOOK_PAYMENT " FROM payment p"
        NGX_PAYMENT_LOOK_OF_PAYMENTS,
    .payments_first =
        NGX_PAYMENT_LOOK_PAYMENT ", o.metadata FROM payment p"
        NGX_PAYMENT_LOOK_FIRST NGX_PAYMENT_LOOK_OF_PAYMENTS,
    .keys =
        NGX_PAYMENT_LOOK_KEYS_COLUMNS
        NGX_PAYMENT_LOOK_FROM_KEYS NGX_PAYMENT_LOOK_OF_KEYS,
    .repeats =
        NGX_PAYMENT_LOOK_KEYS_COLUMNS
        NGX_PAYMENT_LOOK_FROM_KEYS_BY("ELT(?)") NGX_PAYMENT_LOOK_OF_KEYS,
    .lookups =
        NGX_PAYMENT_LOOK_LOOKUPS_COLUMNS("NULL")
        NGX_PAYMENT_LOOK_FROM_KEYS NGX_PAYMENT_LOOK_OF_KEYS,
    .lookups_first =
        NGX_PAYMENT_LOOK_LOOKUPS_COLUMNS("o.metadata")
        NGX_PAYMENT_LOOK_FROM_KEYS NGX_PAYMENT_LOOK_FIRST
        NGX_PAYMENT_LOOK_OF_KEYS,
    .listed = NGX_PAYMENT_LOOK_PAYMENT ", %ui",
    .listed_end = NGX_PAYMENT_LOOK_LISTED_END
};

static const ngx_payment_look_texts_t  ngx_payment_look_texts_expiry = {
    .payments =
        NGX_PAYMENT_LOOK_PAYMENT ", NULL" NGX_PAYMENT_LOOK_EXPIRY
        " FROM payment p" NGX_PAYMENT_LOOK_OF_PAYMENTS,
    .payments_first =
        NGX_PAYMENT_LOOK_PAYMENT ", o.metadata" NGX_PAYMENT_LOOK_EXPIRY
        " FROM payment p" NGX_PAYMENT_LOOK_FIRST NGX_PAYMENT_LOOK_OF_PAYMENTS,
    .keys =
        NGX_PAYMENT_LOOK_KEYS_COLUMNS NGX_PAYMENT_LOOK_EXPIRY
        NGX_PAYMENT_LOOK_FROM_KEYS NGX_PAYMENT_LOOK_OF_KEYS,
    .repeats =
        NGX_PAYMENT_LOOK_KEYS_COLUMNS NGX_PAYMENT_LOOK_EXPIRY
        NGX_PAYMENT_LOOK_FROM_KEYS_BY("ELT(?)") NGX_PAYMENT_LOOK_OF_KEYS,
    .lookups =
        NGX_PAYMENT_LOOK_LOOKUPS_COLUMNS("NULL") NGX_PAYMENT_LOOK_EXPIRY
        NGX_PAYMENT_LOOK_FROM_KEYS NGX_PAYMENT_LOOK_OF_KEYS,
    .lookups_first =
        NGX_PAYMENT_LOOK_LOOKUPS_COLUMNS("o.metadata") NGX_PAYMENT_LOOK_EXPIRY
        NGX_PAYMENT_LOOK_FROM_KEYS NGX_PAYMENT_LOOK_FIRST
        NGX_PAYMENT_LOOK_OF_KEYS,
    .listed = NGX_PAYMENT_LOOK_PAYMENT ", %ui" NGX_PAYMENT_LOOK_EXPIRY,
    .listed_end = NGX_PAYMENT_LOOK_LISTED_END ", NULL, NULL"
};


const ngx_payment_look_texts_t *
ngx_payment_look_texts(const ngx_payment_shard_t *shard)
{
    return shard->expiry ? &ngx_payment_look_texts_expiry
                         : &ngx_payment_look_texts_usual;
}


/* SQL with a list of hex literals, so that no byte of a client's can be SQL. */

ngx_int_t
ngx_payment_look_sql(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_str_t *sql, const char *head, const char *tail,
    ngx_payment_look_list_e list)
{
    u_char  *p;

    sql->data = ngx_pnalloc(pool, ngx_strlen(head) + ngx_strlen(tail)
                                  + sizeof("NULL") - 1
                                  + b->n * NGX_PAYMENT_LOOK_HEX_LEN);
    if (sql->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(sql->data, head, ngx_strlen(head));
    p = ngx_payment_look_list(p, b, list);
    p = ngx_cpymem(p, tail, ngx_strlen(tail));
    sql->len = p - sql->data;

    return NGX_OK;
}


ngx_int_t
ngx_payment_look_repeats(const ngx_payment_batch_t *b,
    const ngx_payment_shard_t *shard, ngx_pool_t *pool, ngx_str_t *sql)
{
    size_t       size;
    u_char      *p;
    const char  *head, *mark;

    if (b->n > NGX_PAYMENT_LOOK_ENDS_MAX) {
        return ngx_payment_look_sql(b, pool, sql,
                                    ngx_payment_look_texts(shard)->keys, ")",
                                    NGX_PAYMENT_LOOK_KEYS);
    }

    head = ngx_payment_look_texts(shard)->repeats;
    mark = ngx_strchr(head, NGX_PAYMENT_LOOK_ENDS);

    size = ngx_strlen(head) + sizeof("FIELD(i.key_hash,))")
           + b->n * (2 * NGX_PAYMENT_LOOK_HEX_LEN + NGX_PAYMENT_LOOK_END_LEN);

    sql->data = ngx_pnalloc(pool, size);
    if (sql->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(sql->data, head, mark - head);

    p = ngx_payment_look_ends(p, b, shard);
    if (p == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(p, mark + 1, ngx_strlen(mark + 1));
    p = ngx_payment_look_list(p, b, NGX_PAYMENT_LOOK_KEYS);
    *p++ = ')';
    sql->len = p - sql->data;

    ngx_payment_assert(sql->len <= size);

    return NGX_OK;
}


/* Which key of the list it is, and the ends of the ids that each of them makes;
 * NULL: no memory. */

static u_char *
ngx_payment_look_ends(u_char *p, const ngx_payment_batch_t *b,
    const ngx_payment_shard_t *shard)
{
    uint8_t     end[PAYMENT_ID_END_SIZE];
    ngx_uint_t  i;

    p = ngx_cpymem(p, "FIELD(i.key_hash,", sizeof("FIELD(i.key_hash,") - 1);
    p = ngx_payment_look_list(p, b, NGX_PAYMENT_LOOK_KEYS);
    *p++ = ')';

    for (i = 0; i < b->n; i++) {
        if (!payment_id_end(end, b->ops[i]->request.key_hash, shard->secret)) {
            return NULL;
        }

        *p++ = ',';
        p = ngx_payment_db_hex(p, end, PAYMENT_ID_END_SIZE);
    }

    return p;
}


static u_char *
ngx_payment_look_list(u_char *p, const ngx_payment_batch_t *b,
    ngx_payment_look_list_e list)
{
    ngx_uint_t         i, n;
    ngx_payment_op_t  *op;

    n = 0;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (!ngx_payment_look_listed(op, list)) {
            continue;
        }

        if (n++) {
            *p++ = ',';
        }

        p = ngx_payment_db_hex(p, list == NGX_PAYMENT_LOOK_PAYMENTS
                                  ? op->request.payment_id
                                  : op->request.key_hash, 16);
    }

    if (n == 0) {
        /* no list may be empty, and nothing is equal to NULL */
        p = ngx_cpymem(p, "NULL", 4);
    }

    return p;
}


static ngx_uint_t
ngx_payment_look_listed(const ngx_payment_op_t *op,
    ngx_payment_look_list_e list)
{
    switch (list) {

    case NGX_PAYMENT_LOOK_PAYMENTS:
        return op->request.operation != PAYMENT_AUTHORIZE
               && op->request.operation != PAYMENT_LOOKUP;

    case NGX_PAYMENT_LOOK_LOOKUPS:
        return op->request.operation == PAYMENT_LOOKUP;

    default: /* NGX_PAYMENT_LOOK_KEYS */
        return 1;
    }
}


ngx_int_t
ngx_payment_look_barrier(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_payment_db_stmt_t *s, ngx_uint_t if_found)
{
    u_char  *p;

    p = ngx_pnalloc(pool, NGX_PAYMENT_LOOK_BARRIER_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(s, sizeof(ngx_payment_db_stmt_t));
    s->sql.data = p;
    p = ngx_sprintf(p, "INSERT INTO payment_barrier (id, turns)"
                       " SELECT %ui, 1 FROM DUAL%s"
                       " ON DUPLICATE KEY UPDATE"
                       " turns = payment_barrier.turns + 1",
                    (ngx_uint_t) (b->started_us % NGX_PAYMENT_LOOK_BARRIERS),
                    if_found ? " WHERE FOUND_ROWS()" : "");
    s->sql.len = p - s->sql.data;

    ngx_payment_assert(s->sql.len < NGX_PAYMENT_LOOK_BARRIER_LEN);

    return NGX_OK;
}


ngx_uint_t
ngx_payment_look_add(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n, const char *head,
    const char *tail, ngx_payment_look_list_e list)
{
    ngx_memzero(&stmts[n], sizeof(ngx_payment_db_stmt_t));

    if (ngx_payment_look_sql(b, pool, &stmts[n].sql, head, tail, list) != NGX_OK
        || ngx_payment_look_barrier(b, pool, &stmts[n + 1], 1) != NGX_OK)
    {
        return 0;
    }

    return n + 2;
}


ngx_int_t
ngx_payment_look_load(ngx_payment_loaded_t *loaded, ngx_pool_t *pool,
    MYSQL_RES *res)
{
    size_t      n;
    MYSQL_ROW   row;
    payment_t  *p;

    n = (size_t) mysql_num_rows(res);

    loaded->n = 0;
    loaded->payments = ngx_pcalloc(pool, (n + 1) * sizeof(payment_t));
    loaded->versions = ngx_pcalloc(pool, (n + 1) * sizeof(uint32_t));

    if (loaded->payments == NULL || loaded->versions == NULL) {
        return NGX_ERROR;
    }

    while ((row = mysql_fetch_row(res)) != NULL) {
        p = &loaded->payments[loaded->n];
        ngx_payment_look_row(p, row, mysql_fetch_lengths(res));
        ngx_payment_look_expiry(p, res, row, NGX_PAYMENT_LOOK_EXPIRES);
        loaded->versions[loaded->n] = p->version;
        loaded->n++;
    }

    return NGX_OK;
}


void
ngx_payment_look_row(payment_t *p, MYSQL_ROW row, const unsigned long *lens)
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


void
ngx_payment_look_expiry(payment_t *p, MYSQL_RES *res, MYSQL_ROW row,
    ngx_uint_t at)
{
    p->expires_ms = 0;
    p->expired_ms = 0;

    if (mysql_num_fields(res) <= at) {
        return;
    }

    if (row[at]) {
        p->expires_ms = strtoll(row[at], NULL, 10);
    }

    if (row[at + 1]) {
        p->expired_ms = strtoll(row[at + 1], NULL, 10);
    }
}


void
ngx_payment_look_kept(payment_kept_t *kept, MYSQL_ROW columns)
{
    kept->status = columns[0] ? atoi(columns[0]) : PAYMENT_AUTHORIZED;
    kept->version = columns[1] ? (uint32_t) strtoul(columns[1], NULL, 10) : 1;
    kept->captured = columns[2] ? strtoll(columns[2], NULL, 10) : 0;
    kept->refunded = columns[3] ? strtoll(columns[3], NULL, 10) : 0;
}


payment_t *
ngx_payment_look_locate(const ngx_payment_loaded_t *loaded,
    const uint8_t *id)
{
    int         rc;
    ngx_uint_t  low, high, mid;
    payment_t  *p;

    low = 0;
    high = loaded->n;

    while (low < high) {
        mid = (low + high) / 2;
        p = &loaded->payments[mid];
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


payment_t *
ngx_payment_look_payment(const ngx_payment_loaded_t *loaded,
    const payment_request_t *r)
{
    payment_t  *p;

    p = ngx_payment_look_locate(loaded, r->payment_id);

    if (p == NULL || p->merchant_len != r->merchant_len
        || ngx_memcmp(p->merchant, r->merchant, r->merchant_len) != 0)
    {
        return NULL;
    }

    return p;
}


ngx_uint_t
ngx_payment_look_found(ngx_payment_batch_t *b, uint64_t by, MYSQL_RES *res)
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
                ngx_payment_look_found_row(b, by, res, row, op);
                n++;
                break;
            }
        }
    }

    return n;
}


static void
ngx_payment_look_found_row(const ngx_payment_batch_t *b, uint64_t by,
    MYSQL_RES *res, MYSQL_ROW row, ngx_payment_op_t *op)
{
    payment_t          *p;
    ngx_uint_t          ours;
    payment_kept_t      kept;
    payment_request_t  *r;

    r = &op->request;
    p = &op->payment;

    /* what this batch wrote itself, in a COMMIT whose answer was lost, is no
     * replay: the client has not seen it */

    ours = b->unknown && op->standing == NGX_PAYMENT_OP_APPLIED
           && row[2] && ngx_memcmp(p->id, row[2], PAYMENT_ID_SIZE) == 0;

    op->standing = NGX_PAYMENT_OP_FOUND;
    ngx_payment_look_kept(&kept, &row[3]);

    op->found = row[2] ? ngx_payment_seen_mark(by, (uint8_t *) row[2],
                                               kept.version)
                       : NGX_PAYMENT_SEEN_ONLY;

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
    p->status = kept.status;
    p->version = kept.version;
    p->captured = kept.captured;
    p->refunded = kept.refunded;
    (void) ngx_cpystrn((u_char *) p->currency, (u_char *) row[7], 4);
    p->amount = strtoll(row[8], NULL, 10);
    p->created_ms = strtoll(row[9], NULL, 10);
    p->updated_ms = p->created_ms;
    ngx_payment_look_expiry(p, res, row, NGX_PAYMENT_LOOK_KEYS_EXPIRES);
}
