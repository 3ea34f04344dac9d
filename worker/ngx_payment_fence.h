/*
 * The connection on which a shard's rows are changed, and whose turn it is.
 *
 * A table of jobs, the most urgent first, is looked through whenever the
 * connection is free: the first job whose needs hold and that has something
 * to do sends one exchange.
 *
 * A fenced exchange first locks the lease and finds it to be ours.  It is sent
 * as a whole, so each statement must be harmless when one before it failed.
 * @f is 1 only when the lease is ours; @@in_transaction is 0 after an error
 * that rolled back, and with it the lock on the lease's row; and a deletion
 * after an insertion asks whether that succeeded.
 *
 * Owner: the helper process.
 * Limits: one exchange in flight, a round trip each, of at most
 * NGX_PAYMENT_FENCE_STMTS statements and NGX_PAYMENT_FENCE_IDS_MAX rows; it is
 * given up after times.statement_ms, so that the lease can still be extended
 * afterwards.
 */

#ifndef NGX_PAYMENT_FENCE_H
#define NGX_PAYMENT_FENCE_H

#include "ngx_payment_outbox_shard.h"


#define NGX_PAYMENT_FENCE_STMTS       8
#define NGX_PAYMENT_FENCE_IDS_MAX     4000
#define NGX_PAYMENT_FENCE_RETRY       200          /* ms, after an error */

/* bytes of a condition: its ranges, its single ids, and what joins them */
#define NGX_PAYMENT_FENCE_RANGES      (24 * 1024)
#define NGX_PAYMENT_FENCE_SINGLES     (24 * 1024)
#define NGX_PAYMENT_FENCE_CONDITION                                           \
    (NGX_PAYMENT_FENCE_RANGES + NGX_PAYMENT_FENCE_SINGLES + 64)

/* bytes of all statements of an exchange; two of them hold a condition */
#define NGX_PAYMENT_FENCE_TEXT                                                \
    (NGX_PAYMENT_FENCE_STMTS * NGX_PAYMENT_SQL_SIZE                           \
     + 2 * NGX_PAYMENT_FENCE_CONDITION)

/* the condition of every statement that changes rows under the lease */
#define NGX_PAYMENT_FENCED            "@f = 1 AND @@in_transaction = 1"


typedef enum {
    NGX_PAYMENT_FENCE_ANY = 0,        /* whether or not the lease is ours */
    NGX_PAYMENT_FENCE_OURS,           /* also while it is being given back */
    NGX_PAYMENT_FENCE_HELD
} ngx_payment_fence_needs_e;


typedef struct {
    ngx_payment_fence_needs_e    needs;

    /* NGX_OK: an exchange was sent; NGX_DECLINED: there is nothing to do */
    ngx_int_t                  (*step)(void *part, uint64_t now_ms);
    void                       (*done)(void *part, ngx_uint_t lost);
    void                        *part;
} ngx_payment_fence_job_t;


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_db_t             db;

    ngx_payment_fence_job_t     *jobs;        /* the most urgent first */
    ngx_uint_t                   njobs;
    ngx_payment_fence_job_t     *job;         /* under way; NULL: none */

    ngx_payment_db_stmt_t        stmts[NGX_PAYMENT_FENCE_STMTS];
    ngx_uint_t                   n;
    ngx_payment_db_stmt_t       *ours;        /* tells whether the lease is */
    u_char                      *text;        /* of the statements */
    u_char                      *last;

    uint64_t                    *ids;
    u_char                      *pieces;      /* ranges, then single ids */
    u_char                      *condition;

    ngx_event_t                  kick;
    ngx_event_t                  retry;
    uint64_t                     retry_at_ms; /* after an error */
    unsigned                     connected:1; /* once at least */
} ngx_payment_fence_t;


ngx_int_t ngx_payment_fence_init(ngx_payment_fence_t *f);
void ngx_payment_fence_open(ngx_payment_fence_t *f);
void ngx_payment_fence_close(ngx_payment_fence_t *f);

/* Runs the most urgent job, if the connection is free; soon: not from within
 * this call. */
void ngx_payment_fence_next(ngx_payment_fence_t *f);
void ngx_payment_fence_soon(ngx_payment_fence_t *f);

/* For jobs: begin an exchange of plain statements, or a fenced one in which
 * the variables of set are NULL first; add statements; send them. */
void ngx_payment_fence_begin(ngx_payment_fence_t *f);
void ngx_payment_fence_begin_fenced(ngx_payment_fence_t *f, const char *set);
ngx_payment_db_stmt_t *ngx_payment_fence_add(ngx_payment_fence_t *f,
    const char *fmt, ...);
void ngx_payment_fence_send(ngx_payment_fence_t *f);
void ngx_payment_fence_commit(ngx_payment_fence_t *f);

/*
 * Adds what moves rows of table from under condition into table to: the
 * insertion, which is returned, and the deletion, which depends on it.
 * Columns and values are those that to has beside the row's.
 */
ngx_payment_db_stmt_t *ngx_payment_fence_move(ngx_payment_fence_t *f,
    const char *from, const char *to, const char *columns, const char *values,
    ngx_str_t *condition);

/* Up to max events of a state, sorted by id, into f->ids; returns how many. */
ngx_uint_t ngx_payment_fence_collect(ngx_payment_fence_t *f,
    payment_event_state_e state, ngx_uint_t followers, ngx_uint_t max);

/*
 * "(id BETWEEN 1 AND 20 OR id IN (30,32))" of the first n of f->ids, as far
 * as the text fits.  Their events become DELETING.
 */
void ngx_payment_fence_condition(ngx_payment_fence_t *f, ngx_uint_t n,
    ngx_str_t *condition);

/*
 * Did a fenced exchange do what it should?  NGX_OK; else NGX_ERROR, the reason
 * is in the log, and the lease is known to be lost when that was it.
 */
ngx_int_t ngx_payment_fence_check(ngx_payment_fence_t *f, ngx_uint_t lost,
    const char *phase);

#endif /* NGX_PAYMENT_FENCE_H */
