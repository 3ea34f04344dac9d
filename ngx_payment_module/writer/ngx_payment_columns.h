/*
 * The bulk statements of a batch and the arrays that they bind.
 *
 * A line has one set of columns, bound once when its connection is ready; a
 * batch fills the rows in and sets the count.  Texts are not copied: they must
 * live until the exchange has ended.
 */

#ifndef NGX_PAYMENT_COLUMNS_H
#define NGX_PAYMENT_COLUMNS_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_db.h"
#include "ngx_payment_news.h"
#include "ngx_payment_op.h"
#include "ngx_payment_shard.h"


typedef enum {
    NGX_PAYMENT_STMT_CHANGES = 0,  /* UPDATE payment, guarded by its version */
    NGX_PAYMENT_STMT_KEYS,         /* INSERT INTO idempotency_key */
    NGX_PAYMENT_STMT_PAYMENTS,     /* INSERT INTO payment */
    NGX_PAYMENT_STMT_EVENTS,       /* INSERT INTO outbox_event */
    NGX_PAYMENT_STMT_OPERATIONS,   /* INSERT INTO payment_operation, where the
                                      shard has that */
    NGX_PAYMENT_STMT_EXPIRIES,     /* INSERT INTO payment_expiry, likewise */
    NGX_PAYMENT_STMTS
} ngx_payment_stmt_e;


typedef struct ngx_payment_columns_s   ngx_payment_columns_t;


/* SQL for ngx_payment_db_t.prepare: the statements that the shard has, in the
 * order of ngx_payment_stmt_e */
const char *const *ngx_payment_columns_sql(const ngx_payment_shard_t *shard);

ngx_payment_columns_t *ngx_payment_columns_create(ngx_uint_t rows_max,
    const ngx_payment_shard_t *shard, ngx_log_t *log);
void ngx_payment_columns_destroy(ngx_payment_columns_t *columns);

/* Binds to a connection that has just become ready. */
ngx_int_t ngx_payment_columns_bind(ngx_payment_columns_t *columns,
    ngx_payment_db_t *db);

void ngx_payment_columns_reset(ngx_payment_columns_t *columns);

/* Each appends a row; that of a payment which may expire, one to the queue of
 * those, too.  version is the payment's before the change. */
void ngx_payment_columns_add_change(ngx_payment_columns_t *columns,
    const payment_t *p, uint32_t version);
void ngx_payment_columns_add_key(ngx_payment_columns_t *columns,
    const ngx_payment_op_t *op);
void ngx_payment_columns_add_payment(ngx_payment_columns_t *columns,
    const ngx_payment_op_t *op);
void ngx_payment_columns_add_event(ngx_payment_columns_t *columns,
    const ngx_payment_op_t *op, const u_char *payload, size_t len);
void ngx_payment_columns_add_operation(ngx_payment_columns_t *columns,
    const ngx_payment_op_t *op);

/* Statements that have rows, ready for an exchange, in the order of
 * ngx_payment_stmt_e; returns how many. */
ngx_uint_t ngx_payment_columns_statements(ngx_payment_columns_t *columns,
    ngx_payment_db_t *db, ngx_payment_db_stmt_t *stmts);

/* The events that were added are committed, by that COMMIT: news for the
 * helper. */
void ngx_payment_columns_tell(ngx_payment_columns_t *columns,
    const ngx_payment_news_t *news, const ngx_payment_shard_t *shard,
    const ngx_payment_news_commit_t *commit);

#endif /* NGX_PAYMENT_COLUMNS_H */
