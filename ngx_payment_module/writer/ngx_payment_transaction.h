/*
 * The transaction of a batch on one connection.
 *
 *     READ      what changes are about: payments FOR UPDATE, keys   (changes)
 *               and whether what was not found is not there, or is locked
 *     WRITE     the bulk statements, pipelined
 *     COMMIT
 *
 * so a batch of authorizations costs two round trips, and one of likely repeats
 * costs one.  Every transaction takes its locks in one order: payments by id,
 * then keys by hash.
 *
 * A transaction knows its batch and its connection, and never what happens to
 * the batch afterwards: it reports one of five ends, and the writer acts on it.
 *
 * Owner: a line of the writer, which has one for its whole life.  Limits:
 * shard->read_timeout for each round trip.
 */

#ifndef NGX_PAYMENT_TRANSACTION_H
#define NGX_PAYMENT_TRANSACTION_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_batch.h"
#include "ngx_payment_columns.h"
#include "ngx_payment_db.h"
#include "ngx_payment_look.h"
#include "ngx_payment_news.h"
#include "ngx_payment_proved.h"
#include "ngx_payment_seen.h"
#include "ngx_payment_span.h"


typedef struct ngx_payment_transaction_s   ngx_payment_transaction_t;


typedef enum {
    NGX_PAYMENT_TRANSACTION_DONE = 0,  /* all operations have outcomes */
    NGX_PAYMENT_TRANSACTION_REST,      /* those FOUND have outcomes; the others
                                          are to run again at once */
    NGX_PAYMENT_TRANSACTION_AGAIN,     /* run the batch again, after a pause */
    NGX_PAYMENT_TRANSACTION_DIVIDE,    /* run it again in t->parts batches */
    NGX_PAYMENT_TRANSACTION_REFUSED    /* the database refuses the only
                                          operation that there is */
} ngx_payment_transaction_end_e;


struct ngx_payment_transaction_s {
    /* set by the owner, once */
    ngx_payment_shard_t         *shard;
    ngx_payment_stats_t         *stats;
    ngx_fd_t                     doorbell;
    ngx_payment_proved_t        *proved;
    const ngx_payment_news_t    *news;
    ngx_payment_span_conf_t     *spans;     /* NULL: no traces */
    ngx_log_t                   *log;
    ngx_payment_db_t            *db;        /* whose data is the transaction */
    ngx_payment_columns_t       *columns;   /* bound to the connection */
    void                        *data;

    /* These operations have left the batch, which goes on without them: they
     * are BLOCKED, and another transaction has locked their payments, or
     * UNSURE. */
    void                       (*left)(ngx_payment_transaction_t *t,
                                       ngx_queue_t *ops);

    /* The transaction has ended, and t->batch is NULL: it may run the next. */
    void                       (*ended)(ngx_payment_transaction_t *t,
                                        ngx_payment_batch_t *b,
                                        ngx_payment_transaction_end_e end);

    ngx_msec_t                   guarded_at;    /* it asked who has the
                                                   payments */

    /* of the batch that runs; NULL: none does */
    ngx_payment_batch_t         *batch;
    ngx_pool_t                  *pool;

    ngx_payment_loaded_t         loaded;    /* what changes are about */
    int64_t                      clock_ms;  /* the server's, behind their locks;
                                               where authorizations expire */
    ngx_uint_t                   guarded;   /* it asks who has them */
    uint64_t                     commit_ns; /* when COMMIT was sent */
    uint64_t                     sent_us;   /* the same, of traces alone */

    /* why it is rolled back: the server's error, and what that means; also for
     * the owner, when it has ended */
    ngx_uint_t                   error;
    ngx_payment_db_error_e       reason;
    ngx_uint_t                   parts;     /* with DIVIDE */

    ngx_payment_db_stmt_t        stmts[NGX_PAYMENT_DB_STMTS_MAX];
};


/* What a connection runs first: for ngx_payment_db_t.session. */
extern const char *const  ngx_payment_transaction_session[];

/* Runs a batch, on a connection that is IDLE.  ended() follows, perhaps from
 * within this call. */
void ngx_payment_transaction_run(ngx_payment_transaction_t *t,
    ngx_payment_batch_t *b);

/* What of its connection and shard goes into marks: see ngx_payment_seen.h. */
uint64_t ngx_payment_transaction_by(const ngx_payment_transaction_t *t);

#endif /* NGX_PAYMENT_TRANSACTION_H */
