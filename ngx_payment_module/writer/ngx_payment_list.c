/*
 * Pages of merchants' payments: see ngx_payment_list.h.
 */

#include "ngx_payment_assert.h"
#include "ngx_payment_list.h"
#include "ngx_payment_look.h"


/* an index that a statement names is not there: the header of the library calls
 * it ER_KEY_DOES_NOT_EXITS or ER_KEY_DOES_NOT_EXISTS */
#define NGX_PAYMENT_LIST_NO_INDEX  1176

/* of SQL for one page: the ids are asked for twice, each with the merchant */
#define NGX_PAYMENT_LIST_LEN                                                  \
    (2048 + 4 * PAYMENT_MERCHANT_SIZE)     /* bytes */


static u_char *ngx_payment_list_sql(u_char *p, const ngx_payment_op_t *op,
    ngx_uint_t place, const ngx_payment_look_texts_t *texts);
static u_char *ngx_payment_list_ids(u_char *p, const ngx_payment_op_t *op,
    ngx_uint_t rows);
static u_char *ngx_payment_list_filters(u_char *p, const payment_list_t *list);
static ngx_int_t ngx_payment_list_row(ngx_payment_op_t *op, MYSQL_RES *res,
    MYSQL_ROW row);


ngx_uint_t
ngx_payment_list_add(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n,
    const ngx_payment_shard_t *shard)
{
    u_char                          *p;
    ngx_str_t                       *sql;
    ngx_uint_t                       i;
    ngx_payment_op_t                *op;
    const ngx_payment_look_texts_t  *texts;

    texts = ngx_payment_look_texts(shard);

    ngx_memzero(&stmts[n], sizeof(ngx_payment_db_stmt_t));
    sql = &stmts[n].sql;
    sql->data = ngx_pnalloc(pool, b->n * NGX_PAYMENT_LIST_LEN);
    if (sql->data == NULL) {
        return 0;
    }

    p = sql->data;

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        op->done.len = 0;
        op->done_rows = 0;
        op->done_more = 0;

        if (i) {
            p = ngx_sprintf(p, " UNION ALL ");
        }

        p = ngx_payment_list_sql(p, op, i, texts);
    }

    sql->len = p - sql->data;

    ngx_payment_assert(sql->len <= b->n * NGX_PAYMENT_LIST_LEN);

    if (ngx_payment_look_barrier(b, pool, &stmts[n + 1], 1) != NGX_OK) {
        return 0;
    }

    return n + 2;
}


/*
 * A page, and one more row, by which it is seen whether others follow.  Of rows
 * that are looked at, the last one's id goes with them, in a row of its own, if
 * there may be others below it: all that these had is on the page, or the page
 * is full.
 *
 * Two statements in one see the same payments.
 */

static u_char *
ngx_payment_list_sql(u_char *p, const ngx_payment_op_t *op, ngx_uint_t place,
    const ngx_payment_look_texts_t *texts)
{
    ngx_uint_t             filters;
    const payment_list_t  *list;

    list = op->list;
    filters = payment_list_filters(list);

    *p++ = '(';
    p = ngx_sprintf(p, texts->listed, place);
    p = ngx_sprintf(p, " FROM (");
    p = ngx_payment_list_ids(p, op, filters ? NGX_PAYMENT_LIST_EXAMINED
                                            : list->limit + 1);
    p = ngx_sprintf(p, ") k STRAIGHT_JOIN payment p FORCE INDEX (PRIMARY)"
                       " ON p.id = k.id WHERE TRUE");
    p = ngx_payment_list_filters(p, list);
    p = ngx_sprintf(p, " ORDER BY p.id DESC LIMIT %ui)",
                    (ngx_uint_t) list->limit + 1);

    if (filters) {
        p = ngx_sprintf(p, " UNION ALL (");
        p = ngx_sprintf(p, texts->listed_end, place);
        p = ngx_sprintf(p, " FROM (");
        p = ngx_payment_list_ids(p, op, NGX_PAYMENT_LIST_EXAMINED);
        p = ngx_sprintf(p, ") k HAVING COUNT(*) = %d)",
                        NGX_PAYMENT_LIST_EXAMINED);
    }

    return p;
}


/* The newest ids of a merchant, of a range: of the index alone. */

static u_char *
ngx_payment_list_ids(u_char *p, const ngx_payment_op_t *op, ngx_uint_t rows)
{
    p = ngx_sprintf(p, "SELECT id FROM payment FORCE INDEX (payment_merchant)"
                       " WHERE merchant_id = _utf8mb4 ");
    p = ngx_payment_db_hex(p, (u_char *) op->request.merchant,
                           op->request.merchant_len);
    p = ngx_sprintf(p, " AND id >= ");
    p = ngx_payment_db_hex(p, op->list->first, PAYMENT_ID_SIZE);
    p = ngx_sprintf(p, " AND id < ");
    p = ngx_payment_db_hex(p, op->list->end, PAYMENT_ID_SIZE);

    /* with merchant_id before it MariaDB would read all of them, and sort */

    return ngx_sprintf(p, " ORDER BY id DESC LIMIT %ui", rows);
}


static u_char *
ngx_payment_list_filters(u_char *p, const payment_list_t *list)
{
    ngx_uint_t  status;

    if (list->statuses) {
        p = ngx_sprintf(p, " AND p.status + 0 IN (0");

        for (status = PAYMENT_AUTHORIZED; status <= PAYMENT_VOIDED; status++) {
            if (list->statuses & 1U << status) {
                p = ngx_sprintf(p, ", %ui", status);
            }
        }

        *p++ = ')';
    }

    if (list->currency[0]) {
        p = ngx_sprintf(p, " AND p.currency = '%s' AND p.amount BETWEEN %L"
                           " AND %L", list->currency, list->amount_min,
                        list->amount_max);
    }

    return p;
}


ngx_uint_t
ngx_payment_list_lacks_index(const ngx_payment_db_stmt_t *s)
{
    return s->error == NGX_PAYMENT_LIST_NO_INDEX;
}


ngx_int_t
ngx_payment_list_results(const ngx_payment_batch_t *b,
    const ngx_payment_db_stmt_t *s)
{
    MYSQL_ROW          row;
    ngx_payment_op_t  *op;

    while ((row = mysql_fetch_row(s->result)) != NULL) {
        op = b->ops[atoi(row[NGX_PAYMENT_LOOK_PLACE])];

        if (row[1] == NULL) {

            /* the id that ends what was looked at, and no payment */

            if (!op->done_more) {
                ngx_memcpy(op->payment.id, row[0], PAYMENT_ID_SIZE);
                op->done_more = 1;
            }

            continue;
        }

        if (op->done_rows == op->list->limit) {
            op->done_more = 1;
            continue;
        }

        if (ngx_payment_list_row(op, s->result, row) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* Appends an element to the answer, which has room for all of them. */

static ngx_int_t
ngx_payment_list_row(ngx_payment_op_t *op, MYSQL_RES *res, MYSQL_ROW row)
{
    u_char  *p;

    if (op->done.data == NULL) {
        op->done.data = ngx_alloc(op->list->limit * (1 + PAYMENT_LISTED_SIZE),
                                  ngx_cycle->log);
        if (op->done.data == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_payment_look_row(&op->payment, row, mysql_fetch_lengths(res));
    ngx_payment_look_expiry(&op->payment, res, row, NGX_PAYMENT_LOOK_EXPIRES);

    p = op->done.data + op->done.len;

    if (op->done_rows) {
        *p++ = ',';
    }

    p += payment_render_listed((char *) p, PAYMENT_LISTED_SIZE, &op->payment);

    op->done.len = p - op->done.data;
    op->done_rows++;

    return NGX_OK;
}
