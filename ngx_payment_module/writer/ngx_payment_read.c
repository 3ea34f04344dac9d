/*
 * Reads for clients: see ngx_payment_read.h.
 */

#include "ngx_payment_assert.h"
#include "ngx_payment_look.h"
#include "ngx_payment_read.h"


/* of SQL for one page of operations */
#define NGX_PAYMENT_READ_PAGE_LEN      512     /* bytes */


static ngx_int_t ngx_payment_read_payments(ngx_payment_batch_t *b,
    ngx_pool_t *pool, MYSQL_RES *res, ngx_uint_t metadata);
static ngx_int_t ngx_payment_read_lookups(ngx_payment_batch_t *b,
    MYSQL_RES *res);
static ngx_int_t ngx_payment_read_lookup(ngx_payment_op_t *op, MYSQL_RES *res,
    MYSQL_ROW row);
static ngx_int_t ngx_payment_read_metadata(ngx_payment_op_t *op, MYSQL_ROW row,
    const unsigned long *lens);
static ngx_uint_t ngx_payment_read_add_pages(const ngx_payment_batch_t *b,
    ngx_pool_t *pool, ngx_payment_db_stmt_t *stmts, ngx_uint_t n);
static ngx_int_t ngx_payment_read_pages(const ngx_payment_batch_t *b,
    MYSQL_RES *res);
static ngx_int_t ngx_payment_read_page_row(ngx_payment_op_t *op, MYSQL_ROW row,
    const unsigned long *lens);
static ngx_int_t ngx_payment_read_page_begin(ngx_payment_op_t *op);
static ngx_int_t ngx_payment_read_page_add(ngx_payment_op_t *op,
    const payment_done_t *done);
static ngx_uint_t ngx_payment_read_is_missed(const ngx_payment_op_t *op);


static const char  ngx_payment_read_sql_pages[] =
    "version, operation + 0, status + 0, amount, "
    NGX_PAYMENT_DB_MS("created_at") ", reason, reference, metadata"
    " FROM payment_operation WHERE payment_id = ";


ngx_uint_t
ngx_payment_read_add(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n,
    const ngx_payment_shard_t *shard)
{
    const ngx_payment_look_texts_t  *texts;

    texts = ngx_payment_look_texts(shard);

    if (b->lookups < b->n) {
        n = ngx_payment_look_add(b, pool, stmts, n, shard->operations
                                 ? texts->payments_first : texts->payments,
                                 ") ORDER BY p.id", NGX_PAYMENT_LOOK_PAYMENTS);
    }

    if (b->pages && n) {
        n = ngx_payment_read_add_pages(b, pool, stmts, n);
    }

    if (b->lookups && n) {
        n = ngx_payment_look_add(b, pool, stmts, n, shard->operations
                                 ? texts->lookups_first : texts->lookups,
                                 ")", NGX_PAYMENT_LOOK_LOOKUPS);
    }

    return n;
}


ngx_int_t
ngx_payment_read_results(ngx_payment_batch_t *b, ngx_pool_t *pool,
    const ngx_payment_db_stmt_t *s, ngx_uint_t metadata)
{
    if (b->lookups < b->n) {

        if (ngx_payment_read_payments(b, pool, s->result, metadata) != NGX_OK) {
            return NGX_ERROR;
        }

        s += 2;
    }

    if (b->pages) {

        if (ngx_payment_read_pages(b, s->result) != NGX_OK) {
            return NGX_ERROR;
        }

        s += 2;
    }

    return b->lookups ? ngx_payment_read_lookups(b, s->result) : NGX_OK;
}


static ngx_int_t
ngx_payment_read_payments(ngx_payment_batch_t *b, ngx_pool_t *pool,
    MYSQL_RES *res, ngx_uint_t metadata)
{
    MYSQL_ROW              row;
    payment_t             *p;
    ngx_uint_t             i;
    ngx_payment_op_t      *op;
    ngx_payment_loaded_t   loaded;

    if (ngx_payment_look_load(&loaded, pool, res) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation == PAYMENT_LOOKUP) {
            continue;
        }

        p = ngx_payment_look_payment(&loaded, &op->request);

        if (p == NULL) {
            ngx_payment_op_fail(op, PAYMENT_NOT_FOUND, "no such payment");
            continue;
        }

        op->payment = *p;

        if (!metadata || op->request.operation != PAYMENT_GET) {
            continue;
        }

        mysql_data_seek(res, p - loaded.payments);
        row = mysql_fetch_row(res);

        if (ngx_payment_read_metadata(op, row, mysql_fetch_lengths(res))
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* Several clients may look up one key. */

static ngx_int_t
ngx_payment_read_lookups(ngx_payment_batch_t *b, MYSQL_RES *res)
{
    MYSQL_ROW          row;
    ngx_uint_t         i;
    ngx_payment_op_t  *op;

    while ((row = mysql_fetch_row(res)) != NULL) {
        for (i = 0; i < b->n; i++) {
            op = b->ops[i];

            if (op->request.operation == PAYMENT_LOOKUP
                && ngx_memcmp(op->request.key_hash, row[NGX_PAYMENT_LOOK_KEY],
                              PAYMENT_KEY_HASH_SIZE) == 0
                && ngx_payment_read_lookup(op, res, row) != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_payment_read_lookup(ngx_payment_op_t *op, MYSQL_RES *res, MYSQL_ROW row)
{
    MYSQL_ROW             kept;
    const unsigned long  *lens;

    op->standing = NGX_PAYMENT_OP_FOUND;

    if (row[0] == NULL) {
        ngx_payment_op_fail(op, PAYMENT_GONE,
                            "the payment of this idempotency key was removed");
        return NGX_OK;
    }

    op->outcome = PAYMENT_OK;
    lens = mysql_fetch_lengths(res);
    ngx_payment_look_row(&op->payment, row, lens);
    ngx_payment_look_expiry(&op->payment, res, row,
                            NGX_PAYMENT_LOOK_LOOKUPS_EXPIRES);

    kept = &row[NGX_PAYMENT_LOOK_KEY + 1];
    op->kept.operation = atoi(kept[0]);
    ngx_payment_look_kept(&op->kept, &kept[1]);

    return ngx_payment_read_metadata(op, row, lens);
}


/* What the authorization brought, for the answer to a request that reads. */

static ngx_int_t
ngx_payment_read_metadata(ngx_payment_op_t *op, MYSQL_ROW row,
    const unsigned long *lens)
{
    size_t              len;
    const char         *metadata;
    payment_request_t  *r;

    r = &op->request;
    metadata = row[NGX_PAYMENT_LOOK_METADATA];
    len = lens[NGX_PAYMENT_LOOK_METADATA];

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
ngx_payment_read_add_pages(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n)
{
    u_char            *p;
    ngx_uint_t         i;
    ngx_str_t         *sql;
    ngx_payment_op_t  *op;

    ngx_memzero(&stmts[n], sizeof(ngx_payment_db_stmt_t));
    sql = &stmts[n].sql;
    sql->data = ngx_pnalloc(pool, b->pages * NGX_PAYMENT_READ_PAGE_LEN);
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
                        ngx_payment_read_sql_pages);
        p = ngx_payment_db_hex(p, op->request.payment_id, PAYMENT_ID_SIZE);
        p = ngx_sprintf(p, " AND version > %uD ORDER BY version LIMIT %d)",
                        op->request.after, PAYMENT_PAGE_OPERATIONS + 1);
    }

    sql->len = p - sql->data;

    ngx_payment_assert(sql->len <= b->pages * NGX_PAYMENT_READ_PAGE_LEN);

    if (ngx_payment_look_barrier(b, pool, &stmts[n + 1], 1) != NGX_OK) {
        return 0;
    }

    return n + 2;
}


static ngx_int_t
ngx_payment_read_pages(const ngx_payment_batch_t *b, MYSQL_RES *res)
{
    MYSQL_ROW          row;
    ngx_uint_t         i;
    ngx_payment_op_t  *op;

    while ((row = mysql_fetch_row(res)) != NULL) {
        op = b->ops[atoi(row[0])];

        if (op->done_rows == PAYMENT_PAGE_OPERATIONS) {
            op->done_more = 1;
            continue;
        }

        if (ngx_payment_read_page_row(op, row, mysql_fetch_lengths(res))
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.operation == PAYMENT_OPERATIONS
            && op->outcome == PAYMENT_OK
            && ngx_payment_read_page_begin(op) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_payment_read_page_row(ngx_payment_op_t *op, MYSQL_ROW row,
    const unsigned long *lens)
{
    payment_done_t  done;

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

    if (done.version > 1 && ngx_payment_read_page_begin(op) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_payment_read_page_add(op, &done);
}


/* The authorization, where it has no row: see
 * ngx_payment_columns_add_operation(). */

static ngx_int_t
ngx_payment_read_page_begin(ngx_payment_op_t *op)
{
    payment_done_t  done;

    if (op->request.after || op->done_rows) {
        return NGX_OK;
    }

    ngx_memzero(&done, sizeof(payment_done_t));

    done.version = 1;
    done.operation = PAYMENT_AUTHORIZE;
    done.status = PAYMENT_AUTHORIZED;
    done.amount = op->payment.amount;
    done.created_ms = op->payment.created_ms;

    return ngx_payment_read_page_add(op, &done);
}


/* Appends an element to the answer. */

static ngx_int_t
ngx_payment_read_page_add(ngx_payment_op_t *op, const payment_done_t *done)
{
    size_t   size;
    u_char  *p, *data;

    size = ngx_min(PAYMENT_DONE_SIZE, PAYMENT_FIXED_SIZE
                                      + 6 * done->reason_len
                                      + 6 * done->reference_len
                                      + done->metadata_len);

    data = ngx_alloc(op->done.len + 1 + size, ngx_cycle->log);
    if (data == NULL) {
        return NGX_ERROR;
    }

    p = data;

    if (op->done.len) {
        p = ngx_cpymem(p, op->done.data, op->done.len);
        *p++ = ',';
    }

    p += payment_render_done((char *) p, size, done);

    if (op->done.data) {
        ngx_free(op->done.data);
    }

    op->done.data = data;
    op->done.len = p - data;
    op->done_rows++;
    op->done_last = done->version;

    return NGX_OK;
}


ngx_uint_t
ngx_payment_read_missed(const ngx_payment_batch_t *b)
{
    ngx_uint_t  i;

    for (i = 0; i < b->n; i++) {
        if (ngx_payment_read_is_missed(b->ops[i])) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_payment_read_is_missed(const ngx_payment_op_t *op)
{
    return op->request.operation == PAYMENT_LOOKUP
           && op->standing != NGX_PAYMENT_OP_FOUND;
}


void
ngx_payment_read_doubted(ngx_payment_batch_t *b, MYSQL_RES *res)
{
    MYSQL_ROW          row;
    ngx_uint_t         i;
    ngx_payment_op_t  *op;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (!ngx_payment_read_is_missed(op)) {
            continue;
        }

        if (op->underway) {
            op->standing = NGX_PAYMENT_OP_BLOCKED;
            continue;
        }

        mysql_data_seek(res, 0);

        while ((row = mysql_fetch_row(res)) != NULL) {
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
}
