/*
 * The transaction of a batch on one connection: its struct, and what all ways
 * of a batch have in common.  The ways are in files of their own:
 *
 *   ngx_payment_transaction_run.c      READ, WRITE and COMMIT, and which way a
 *                                      batch takes
 *   ngx_payment_transaction_repeats.c  likely repeats
 *   ngx_payment_transaction_reads.c    reads for clients
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

/* What of its connection and shard goes into marks: see ngx_payment_seen.h. */
uint64_t ngx_payment_transaction_by(const ngx_payment_transaction_t *t);


/*
 * All below is for the files of the ways alone.
 *
 * An exchange may be over before the call that starts it returns, and with it
 * the transaction, and the transaction's end may begin the next one.  So every
 * function that starts an exchange, or calls a function that does, or calls
 * ngx_payment_transaction_end(), does that as its last statement.
 */

/* Starts an exchange of the first n of t->stmts. */
void ngx_payment_transaction_exchange(ngx_payment_transaction_t *t,
    ngx_uint_t n, ngx_payment_db_done_pt done);

/* One exchange for a look without a transaction of its own: is the server the
 * primary still, what does it have, and will that stay? */
void ngx_payment_transaction_ask(ngx_payment_transaction_t *t,
    const char *head, const char *tail, ngx_payment_look_list_e list,
    ngx_payment_db_done_pt done);

/* The same for looks of reads, which may find nothing, and have been added from
 * the second statement on; n: how many statements there are, or 0. */
void ngx_payment_transaction_ask_reads(ngx_payment_transaction_t *t,
    ngx_uint_t n, ngx_payment_db_done_pt done);

/* Was the server the primary still, when it was asked so, and what
 * ngx_payment_transaction_check() asks? */
ngx_int_t ngx_payment_transaction_asked(ngx_payment_transaction_t *t,
    const char *phase, ngx_uint_t lost);

/* Did the connection live through an exchange after which none but a new one is
 * to be trusted, was every statement accepted, and the COMMIT confirmed? */
ngx_int_t ngx_payment_transaction_check(ngx_payment_transaction_t *t,
    const char *phase, ngx_uint_t lost);

/* COMMIT, and behind it the question whether a replica has confirmed it, where
 * one is to.  Returns how many statements. */
ngx_uint_t ngx_payment_transaction_add_commit(ngx_payment_transaction_t *t,
    ngx_payment_db_stmt_t *stmts);

/*
 * Is an answer that there is nothing confirmed, too?  A primary that was
 * replaced, and does not know of it yet, has not what was made since.  With
 * durability replica it can be told from the one that has the payments: no
 * replica confirms what it commits.
 */
ngx_uint_t ngx_payment_transaction_confirms_none(
    const ngx_payment_transaction_t *t);

/*
 * Is the topology asked for together with the writes, or with a look at what
 * was told before?  Where no server has claimed the payments it is left to
 * read_only, which the server sees to by itself: then, once in a while, whether
 * that is still so.
 */
ngx_uint_t ngx_payment_transaction_is_guarded(
    const ngx_payment_transaction_t *t);

/* s has asked for the topology: are payments written to this server? */
ngx_uint_t ngx_payment_transaction_is_primary(ngx_payment_transaction_t *t,
    const ngx_payment_db_stmt_t *s);

/* Operations of one standing leave the batch, which may be empty then. */
void ngx_payment_transaction_let_go(ngx_payment_transaction_t *t,
    ngx_payment_op_standing_e standing);

/* Calls ended(). */
void ngx_payment_transaction_end(ngx_payment_transaction_t *t,
    ngx_payment_transaction_end_e end);

ngx_payment_shard_stats_t *ngx_payment_transaction_stats(
    ngx_payment_transaction_t *t);

/* A statement has failed. */
void ngx_payment_transaction_log(ngx_payment_transaction_t *t,
    const char *phase, const ngx_payment_db_stmt_t *s);

#endif /* NGX_PAYMENT_TRANSACTION_H */
