/*
 * The connection on which a shard's rows are changed, and whose turn it is.
 *
 * A table of jobs, the most urgent first, is looked through whenever the
 * connection is free: the first job whose needs hold and that has something
 * to do sends one exchange.
 *
 * A fenced exchange first locks the lease and finds it to be ours.  It is sent
 * as a whole, so each statement must be harmless when any of those before it
 * failed.  @f is the exchange's turn only when the lease is ours, and the turn
 * below zero only when the insertion before a deletion succeeded, too: what an
 * earlier exchange has left in @f is neither.  @@in_transaction is 0 after an
 * error that rolled back, and with it the lock on the lease's row.
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


#define NGX_PAYMENT_FENCE_STMTS       12
#define NGX_PAYMENT_FENCE_IDS_MAX     4000
#define NGX_PAYMENT_FENCE_RUNS        64      /* of ids, see verify() */

/* bytes of a condition: its ranges, its single ids, and what joins them */
#define NGX_PAYMENT_FENCE_RANGES      (24 * 1024)
#define NGX_PAYMENT_FENCE_SINGLES     (24 * 1024)
#define NGX_PAYMENT_FENCE_CONDITION                                           \
    (NGX_PAYMENT_FENCE_RANGES + NGX_PAYMENT_FENCE_SINGLES + 256)

/* bytes of all statements of an exchange; three of them hold a condition */
#define NGX_PAYMENT_FENCE_TEXT                                                \
    (NGX_PAYMENT_FENCE_STMTS * NGX_PAYMENT_SQL_SIZE                           \
     + 3 * NGX_PAYMENT_FENCE_CONDITION)

/* the condition of every statement that changes rows under the lease; takes
 * the exchange's turn */
#define NGX_PAYMENT_FENCED            "@f = %uL AND @@in_transaction = 1"


/* when a row was written: takes Unix time in microseconds */
#define NGX_PAYMENT_FENCE_TIME                                                \
    "TIMESTAMP'1970-01-01 00:00:00' + INTERVAL %uL MICROSECOND"


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

    /* a job that failed pauses, and the others go on */
    uint64_t                     retry_at_ms;
    ngx_uint_t                   failures;    /* in a row */
    ngx_uint_t                   last_error;  /* logged */
} ngx_payment_fence_job_t;


/* How rows are moved from one table to another. */

typedef struct {
    const char                  *from;
    const char                  *to;
    const char                  *id;          /* an expression */
    const char                  *columns;     /* what to has besides: ", a" */
    const char                  *values;      /* and their values: ", 1" */

    /* what is asked beside the condition, " AND a = 1", or nothing: "" */
    const char                  *insert_if;
    const char                  *delete_if;
} ngx_payment_fence_move_t;


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_db_t             db;

    ngx_payment_fence_job_t     *jobs;        /* the most urgent first */
    ngx_uint_t                   njobs;
    ngx_payment_fence_job_t     *job;         /* under way; NULL: none */

    ngx_payment_db_stmt_t        stmts[NGX_PAYMENT_FENCE_STMTS];
    ngx_uint_t                   n;
    uint64_t                     turn;        /* of the fenced exchange, as it
                                                 is from verify() on */
    uint64_t                     leased;      /* what it was before */
    ngx_payment_db_stmt_t       *ours;        /* tells whether the lease is */
    ngx_payment_db_stmt_t       *inserted;    /* of a move; NULL: none is */
    ngx_payment_db_stmt_t       *removed;
    u_char                      *text;        /* of the statements */
    u_char                      *last;

    uint64_t                    *ids;
    u_char                      *pieces;      /* ranges, then single ids */
    u_char                      *condition;

    ngx_event_t                  kick;
    ngx_event_t                  retry;
    unsigned                     connected:1; /* once at least */
    unsigned                     unfit:1;     /* the connection is given up */
} ngx_payment_fence_t;


ngx_int_t ngx_payment_fence_init(ngx_payment_fence_t *f);
void ngx_payment_fence_open(ngx_payment_fence_t *f);
void ngx_payment_fence_close(ngx_payment_fence_t *f);

/* Runs the most urgent job, if the connection is free; soon: not from within
 * this call. */
void ngx_payment_fence_next(ngx_payment_fence_t *f);
void ngx_payment_fence_soon(ngx_payment_fence_t *f);

/* The server can't write: the connection is given up when it is free. */
void ngx_payment_fence_give_up(ngx_payment_fence_t *f);

/* For jobs: begin an exchange of plain statements, or a fenced one in which
 * the variables of set are NULL first; add statements; send them. */
void ngx_payment_fence_begin(ngx_payment_fence_t *f);
void ngx_payment_fence_begin_fenced(ngx_payment_fence_t *f, const char *set);
ngx_payment_db_stmt_t *ngx_payment_fence_add(ngx_payment_fence_t *f,
    const char *fmt, ...);
void ngx_payment_fence_send(ngx_payment_fence_t *f);
void ngx_payment_fence_commit(ngx_payment_fence_t *f);

/*
 * Adds what moves rows of a table into another: the insertion, and the
 * deletion, which is returned and depends on it.  The exchange is rolled back
 * when the deletion fails or removes fewer rows than were inserted, so that no
 * row is ever in both or in neither.
 */
ngx_payment_db_stmt_t *ngx_payment_fence_move(ngx_payment_fence_t *f,
    const ngx_payment_fence_move_t *m, ngx_str_t *condition);

/* Up to max events of a state, sorted by id, into f->ids; returns how many. */
ngx_uint_t ngx_payment_fence_collect(ngx_payment_fence_t *f,
    payment_event_state_e state, ngx_uint_t followers, ngx_uint_t max);

/* "(id BETWEEN 1 AND 20 OR id IN (30,32))" of the first n of f->ids, as far as
 * the text fits; returns how many they are. */
ngx_uint_t ngx_payment_fence_condition(ngx_payment_fence_t *f, ngx_uint_t n,
    ngx_str_t *condition);

/* The events of the first n of f->ids become DELETING, in this order. */
void ngx_payment_fence_deleting(ngx_payment_fence_t *f, ngx_uint_t n);

/*
 * Only if the ids of the events that are DELETING, whose rows the condition
 * names, are still theirs does the rest of the fenced exchange change anything:
 * they can have been given to others, by a TRUNCATE or a dump.  Until the
 * transaction ends nobody can do that.
 */
void ngx_payment_fence_verify(ngx_payment_fence_t *f,
    const ngx_str_t *condition);

/*
 * Did a fenced exchange do what it should?  NGX_OK; else NGX_ERROR, the reason
 * is in the log, and the lease is known to be lost when that was it.
 */
ngx_int_t ngx_payment_fence_check(ngx_payment_fence_t *f, ngx_uint_t lost,
    const char *phase);

/* The same of an exchange that is not fenced. */
ngx_int_t ngx_payment_fence_check_plain(ngx_payment_fence_t *f,
    ngx_uint_t lost, const char *phase);

#endif /* NGX_PAYMENT_FENCE_H */
