/*
 * A batch: operations that share one transaction.
 *
 *     READ      what changes are about: payments FOR UPDATE, keys   (changes)
 *               and whether what was not found is not there, or is locked
 *     WRITE     four bulk statements, pipelined
 *     COMMIT
 *
 * so an all-authorize batch costs two round trips.  What leads away from that
 * path, and back to it, is in ngx_payment_transaction.c.  Every batch takes its
 * locks in one order: payments by id, then keys by hash.
 */

#ifndef NGX_PAYMENT_BATCH_H
#define NGX_PAYMENT_BATCH_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_writer.h"


typedef enum {
    NGX_PAYMENT_BATCH_READY = 0,   /* wants a line */
    NGX_PAYMENT_BATCH_READ,
    NGX_PAYMENT_BATCH_WRITE,
    NGX_PAYMENT_BATCH_COMMIT,
    NGX_PAYMENT_BATCH_ROLLBACK,    /* after an error; with it, looks keys up */
    NGX_PAYMENT_BATCH_RESOLVE,     /* did the lost COMMIT happen? */
    NGX_PAYMENT_BATCH_GET,         /* reads for clients */
    NGX_PAYMENT_BATCH_WAIT         /* for its timer: to be tried again */
} ngx_payment_batch_state_e;


struct ngx_payment_batch_s {
    ngx_queue_t                queue;       /* in writer->ready */
    ngx_payment_batch_state_e  state;
    ngx_payment_writer_t      *writer;
    ngx_payment_line_t        *line;

    ngx_payment_op_t         **ops;         /* in order of arrival */
    ngx_payment_op_t         **keys;        /* those written, by key hash */
    ngx_uint_t                 n;
    ngx_uint_t                 nkeys;
    ngx_uint_t                 changes;     /* not authorize */

    payment_t                 *payments;    /* that changes are about, by id */
    uint32_t                  *versions;    /* ... before any change */
    ngx_uint_t                 npayments;
    ngx_uint_t                 nupdates;

    ngx_uint_t                 tries;
    ngx_payment_db_error_e     reason;      /* why it is being rolled back */
    ngx_payment_db_stmt_t      stmts[NGX_PAYMENT_DB_STMTS_MAX];
    ngx_pool_t                *pool;        /* of one attempt */
    ngx_event_t                timer;
    uint64_t                   started_us;

    unsigned                   get:1;       /* reads only */
    unsigned                   unknown:1;   /* COMMIT sent, answer not seen */
    unsigned                   locked:1;    /* by somebody else: 1205 */
    unsigned                   waits:1;     /* for one payment's lock */
};


/* Takes operations off a queue; NULL: no memory, or none is left to do. */
ngx_payment_batch_t *ngx_payment_batch_create(ngx_payment_writer_t *writer,
    ngx_queue_t *queue, ngx_uint_t get);

/* Runs a READY batch on a free line. */
void ngx_payment_batch_run(ngx_payment_batch_t *batch,
    ngx_payment_line_t *line);

/* Takes an operation out of a batch that is not on a line and whose outcome is
 * certain: NGX_OK, or NGX_AGAIN. */
ngx_int_t ngx_payment_batch_remove(ngx_payment_batch_t *batch,
    ngx_payment_op_t *op);

/* Answers 503 for a READY batch that no server can take. */
void ngx_payment_batch_abandon(ngx_payment_batch_t *batch);

void ngx_payment_batch_destroy(ngx_payment_batch_t *batch);

/* What a line's connection runs first: for ngx_payment_db_t.session. */
extern const char *const  ngx_payment_batch_session[];

#endif /* NGX_PAYMENT_BATCH_H */
