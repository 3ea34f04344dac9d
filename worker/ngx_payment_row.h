/*
 * One row of outbox_event: its texts in one piece of memory, and the times
 * that go with them.  What the helper knows of an event beside its row is a
 * payment_event_t, see payment_inflight.h.
 *
 * Owner: the helper process.  Limits: a row, which the schema bounds.
 */

#ifndef NGX_PAYMENT_ROW_H
#define NGX_PAYMENT_ROW_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_clock.h"
#include "ngx_payment_news.h"

#include <mysql.h>


/* What a SELECT must name, in this order, for ngx_payment_row_create(). */
#define NGX_PAYMENT_ROW_COLUMNS                                               \
    "id, version, aggregateid, type, merchant_id, created_at, traceparent, "  \
    "tracestate, payload"

typedef enum {
    NGX_PAYMENT_ROW_ID = 0,
    NGX_PAYMENT_ROW_VERSION,
    NGX_PAYMENT_ROW_AGGREGATEID,
    NGX_PAYMENT_ROW_TYPE,
    NGX_PAYMENT_ROW_MERCHANT,
    NGX_PAYMENT_ROW_CREATED_AT,
    NGX_PAYMENT_ROW_TRACEPARENT,
    NGX_PAYMENT_ROW_TRACESTATE,
    NGX_PAYMENT_ROW_PAYLOAD,
    NGX_PAYMENT_ROW_COLUMNS_N
} ngx_payment_row_column_e;

/* all columns of outbox_event but the id, for copying rows from table to
 * table */
#define NGX_PAYMENT_ROW_ALL                                                   \
    "aggregatetype, aggregateid, type, merchant_id, version, created_at, " \
    "traceparent, tracestate, payload"

/* "2026-11-22T18:00:00.123456Z" */
#define NGX_PAYMENT_ROW_TIME_LEN      27


typedef struct {
    uint64_t     id;
    uint32_t     version;
    size_t       size;              /* of this and its texts */
    uint64_t     created_us;        /* Unix time */
    u_char       time[NGX_PAYMENT_ROW_TIME_LEN];

    /* terminated, as the broker's library wants them */
    ngx_str_t    aggregateid;
    ngx_str_t    type;
    ngx_str_t    merchant;
    ngx_str_t    traceparent;       /* empty: none */
    ngx_str_t    tracestate;        /* empty: none */
    ngx_str_t    payload;
} ngx_payment_row_t;


/* malloc()ed; NULL when out of memory or when the columns are not an event's */
ngx_payment_row_t *ngx_payment_row_create(MYSQL_ROW columns,
    unsigned long *lengths, ngx_log_t *log);

/* The same of an event that was told of, and has no id yet. */
ngx_payment_row_t *ngx_payment_row_create_told(
    const ngx_payment_news_item_t *item, ngx_log_t *log);

void ngx_payment_row_free(void *row);

/* a column that is an unsigned integer; 0 when it is NULL */
uint64_t ngx_payment_row_number(const char *text);

#endif /* NGX_PAYMENT_ROW_H */
