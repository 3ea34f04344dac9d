/* The references of a batch: see ngx_payment_references.h. */

#include "ngx_payment_assert.h"
#include "ngx_payment_references.h"


/* of SQL that looks for one reference */
#define NGX_PAYMENT_REFERENCES_LEN                                            \
    (256 + 2 * PAYMENT_REFERENCE_SIZE)                /* bytes */


static u_char *ngx_payment_references_list(u_char *p,
    const ngx_payment_batch_t *b, ngx_uint_t first);
static ngx_uint_t ngx_payment_references_refers(const ngx_payment_batch_t *b,
    ngx_uint_t i, const ngx_payment_op_t *other);


ngx_int_t
ngx_payment_references_sql(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_str_t *sql)
{
    u_char            *p;
    ngx_uint_t         i;
    ngx_payment_op_t  *op;

    sql->data = ngx_pnalloc(pool, b->references * NGX_PAYMENT_REFERENCES_LEN);
    if (sql->data == NULL) {
        return NGX_ERROR;
    }

    p = sql->data;

    for (i = 0; i < b->n; i++) {
        b->ops[i]->referred = 0;
    }

    for (i = 0; i < b->n; i++) {
        op = b->ops[i];

        if (op->request.reference_len == 0
            || ngx_payment_references_refers(b, 0, op) < i)
        {
            continue;
        }

        p = ngx_sprintf(p, "%s(SELECT payment_id, reference"
                           " FROM payment_operation WHERE payment_id = ",
                        p == sql->data ? "" : " UNION ALL ");
        p = ngx_payment_db_hex(p, op->request.payment_id, PAYMENT_ID_SIZE);
        p = ngx_payment_references_list(p, b, i);
    }

    sql->len = p - sql->data;

    ngx_payment_assert(sql->len <= b->references * NGX_PAYMENT_REFERENCES_LEN);

    return NGX_OK;
}


/* The list of references that are brought for the payment of an operation, from
 * that operation on. */

static u_char *
ngx_payment_references_list(u_char *p, const ngx_payment_batch_t *b,
    ngx_uint_t first)
{
    ngx_uint_t         i;
    ngx_payment_op_t  *op;

    for (i = first;
         i < b->n;
         i = ngx_payment_references_refers(b, i + 1, b->ops[first]))
    {
        op = b->ops[i];

        p = ngx_sprintf(p, "%sCONVERT(",
                        i == first ? " AND reference IN (" : ",");
        p = ngx_payment_db_hex(p, (u_char *) op->request.reference,
                               op->request.reference_len);
        p = ngx_sprintf(p, " USING utf8mb4)");
    }

    return ngx_sprintf(p, "))");
}


/* The place of the first operation, from this one on, that brings a reference
 * for the payment of another one; b->n: there is none. */

static ngx_uint_t
ngx_payment_references_refers(const ngx_payment_batch_t *b, ngx_uint_t i,
    const ngx_payment_op_t *other)
{
    const payment_request_t  *r;

    for ( /* void */ ; i < b->n; i++) {
        r = &b->ops[i]->request;

        if (r->reference_len
            && ngx_memcmp(r->payment_id, other->request.payment_id,
                          PAYMENT_ID_SIZE) == 0)
        {
            break;
        }
    }

    return i;
}


void
ngx_payment_references_mark_referred(const ngx_payment_batch_t *b,
    MYSQL_RES *res)
{
    MYSQL_ROW                 row;
    ngx_uint_t                i;
    ngx_payment_op_t         *op;
    const unsigned long      *lens;
    const payment_request_t  *r;

    while ((row = mysql_fetch_row(res)) != NULL) {
        lens = mysql_fetch_lengths(res);

        for (i = 0; i < b->n; i++) {
            op = b->ops[i];
            r = &op->request;

            if (r->reference_len && r->reference_len == lens[1]
                && ngx_memcmp(r->reference, row[1], lens[1]) == 0
                && ngx_memcmp(r->payment_id, row[0], PAYMENT_ID_SIZE) == 0)
            {
                op->referred = 1;
            }
        }
    }
}


ngx_uint_t
ngx_payment_references_is_referred(const ngx_payment_batch_t *b,
    ngx_uint_t i)
{
    ngx_payment_op_t         *op, *other;
    const payment_request_t  *r;

    op = b->ops[i];
    r = &op->request;

    if (r->reference_len == 0) {
        return 0;
    }

    if (op->referred) {
        return 1;
    }

    while (i--) {
        other = b->ops[i];

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
