/*
 * One event as it stands in outbox_event: a row's texts in one piece of
 * memory, and the times that go with them.
 *
 * Owner: the helper process.  Limits: a row, which the schema bounds.
 */

#ifndef NGX_PAYMENT_EVENT_H
#define NGX_PAYMENT_EVENT_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <mysql.h>

#include "ngx_payment_clock.h"


/* what a SELECT must name, in this order, for ngx_payment_event_create() */
#define NGX_PAYMENT_EVENT_COLUMNS                                             \
    "id, version, aggregatetype, aggregateid, type, merchant_id, created_at, " \
    "traceparent, payload"
#define NGX_PAYMENT_EVENT_COLUMNS_N   9

/* "2026-11-22T18:00:00.123456Z" */
#define NGX_PAYMENT_EVENT_TIME_LEN    27


typedef struct {
    uint64_t     id;
    uint32_t     version;
    size_t       size;              /* of this and its texts */
    uint64_t     created_us;        /* Unix time */
    u_char       time[NGX_PAYMENT_EVENT_TIME_LEN];

    /* terminated, as the broker's library wants them */
    ngx_str_t    aggregatetype;
    ngx_str_t    aggregateid;
    ngx_str_t    type;
    ngx_str_t    merchant;
    ngx_str_t    traceparent;       /* empty: none */
    ngx_str_t    payload;
} ngx_payment_event_t;


/* malloc()ed; NULL when out of memory or when the row is not an event */
ngx_payment_event_t *ngx_payment_event_create(MYSQL_ROW row,
    unsigned long *lengths, ngx_log_t *log);
void ngx_payment_event_free(void *event);

/* a column that is an unsigned integer; 0 when it is NULL */
uint64_t ngx_payment_event_number(const char *text);

#endif /* NGX_PAYMENT_EVENT_H */
