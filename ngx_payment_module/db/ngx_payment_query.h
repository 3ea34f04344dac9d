/*
 * One question to a shard's database, on a connection of its own that lives
 * as long as the question: for an operator's rare looks, so that they neither
 * wait behind payments nor delay any.
 *
 * Owner: a worker.  Limits: one statement that only reads, one result, and a
 * timeout for all of it, connecting included.
 */

#ifndef NGX_PAYMENT_QUERY_H
#define NGX_PAYMENT_QUERY_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_db.h"


typedef struct {
    /* set by the owner */
    ngx_payment_shard_t       *shard;
    ngx_str_t                  sql;
    ngx_msec_t                 timeout;
    void                      *data;

    /* with the result, before done() and only if there is one */
    void                     (*rows)(void *data, MYSQL_RES *result);

    /* from the event loop: the query may be freed, or started again; error is
     * NULL or a sentence for the operator, the log has the rest */
    void                     (*done)(void *data, const char *error);

    /* private */
    ngx_payment_db_t           db;
    ngx_payment_db_stmt_t      stmt;
    ngx_event_t                timer;
    ngx_event_t                end;         /* posted: see the source */
    const char                *error;
    unsigned                   active:1;
} ngx_payment_query_t;


/* done() follows, never from within this call. */
void ngx_payment_query_start(ngx_payment_query_t *q);

/* Nobody wants to know any more: done() will not be called. */
void ngx_payment_query_cancel(ngx_payment_query_t *q);

#endif /* NGX_PAYMENT_QUERY_H */
