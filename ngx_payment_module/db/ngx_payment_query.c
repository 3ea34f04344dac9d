/* One question on a connection of its own: see ngx_payment_query.h. */

#include "ngx_payment_query.h"
#include "ngx_payment_rights.h"


static void ngx_payment_query_ready(ngx_payment_db_t *db);
static void ngx_payment_query_down(ngx_payment_db_t *db);
static void ngx_payment_query_answer(ngx_payment_db_t *db, ngx_uint_t lost);
static void ngx_payment_query_timeout(ngx_event_t *ev);
static void ngx_payment_query_post(ngx_payment_query_t *q, const char *error);
static void ngx_payment_query_end(ngx_event_t *ev);


/* The server ends the query by itself when nobody waits for it any more. */

static const char *const  ngx_payment_query_session[] = {
    "SET SESSION max_statement_time = 10, SESSION lock_wait_timeout = 2",
    "SET SESSION TRANSACTION READ ONLY",
    NULL
};


void
ngx_payment_query_start(ngx_payment_query_t *q)
{
    ngx_payment_assert(!q->active);

    ngx_memzero(&q->db, sizeof(ngx_payment_db_t));
    ngx_memzero(&q->stmt, sizeof(ngx_payment_db_stmt_t));
    ngx_memzero(&q->timer, sizeof(ngx_event_t));
    ngx_memzero(&q->end, sizeof(ngx_event_t));

    q->active = 1;
    q->error = NULL;
    q->stmt.sql = q->sql;

    q->timer.handler = ngx_payment_query_timeout;
    q->timer.data = q;
    q->timer.log = ngx_cycle->log;

    q->end.handler = ngx_payment_query_end;
    q->end.data = q;
    q->end.log = ngx_cycle->log;

    q->db.shard = q->shard;
    q->db.log = ngx_cycle->log;
    q->db.data = q;
    q->db.ready = ngx_payment_query_ready;
    q->db.down = ngx_payment_query_down;
    q->db.session = ngx_payment_query_session;

    ngx_add_timer(&q->timer, q->timeout);

    ngx_payment_db_open(&q->db);
}


void
ngx_payment_query_cancel(ngx_payment_query_t *q)
{
    if (!q->active) {
        return;
    }

    q->active = 0;

    if (q->timer.timer_set) {
        ngx_del_timer(&q->timer);
    }

    if (q->end.posted) {
        ngx_delete_posted_event(&q->end);
    }

    ngx_payment_db_close(&q->db);
}


static void
ngx_payment_query_ready(ngx_payment_db_t *db)
{
    ngx_payment_query_t *q = db->data;

    if (q->end.posted) {
        return;
    }

    ngx_payment_db_exchange(db, &q->stmt, 1, q->timeout,
                            ngx_payment_query_answer);
}


static void
ngx_payment_query_down(ngx_payment_db_t *db)
{
    ngx_payment_query_t *q = db->data;

    /* the shard's other servers are tried first */

    if (db->failures >= q->shard->servers.nelts) {
        ngx_payment_query_post(q, "the database is away");
    }
}


static void
ngx_payment_query_answer(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_payment_query_t *q = db->data;

    if (lost) {
        ngx_payment_query_post(q, "the connection to the database was lost");
        return;
    }

    if (q->stmt.error) {
        ngx_log_error(NGX_LOG_ERR, db->log, 0,
                      "payment: shard \"%V\": a query for an operator "
                      "failed: (%ui) %s%s",
                      &q->shard->name, q->stmt.error, q->stmt.message,
                      ngx_payment_rights_advice(q->stmt.error));
        ngx_payment_query_post(q, "the database refused the query");
        return;
    }

    if (q->stmt.result) {
        q->rows(q->data, q->stmt.result);
    }

    ngx_payment_query_post(q, NULL);
}


static void
ngx_payment_query_timeout(ngx_event_t *ev)
{
    ngx_payment_query_post(ev->data, "the database did not answer in time");
}


/*
 * The connection goes on working after it has called a handler, so that no
 * handler may close it, let alone free it: that is left to a posted event.
 */

static void
ngx_payment_query_post(ngx_payment_query_t *q, const char *error)
{
    if (q->end.posted) {
        return;
    }

    q->error = error;
    ngx_post_event(&q->end, &ngx_posted_events);
}


static void
ngx_payment_query_end(ngx_event_t *ev)
{
    ngx_payment_query_t *q = ev->data;

    ngx_payment_query_cancel(q);

    q->done(q->data, q->error);
}
