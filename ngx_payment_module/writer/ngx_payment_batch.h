/*
 * A batch: operations that share one transaction.
 *
 *     FORMED -> RUNNING -> ENDED
 *                |  ^
 *         +------+  |
 *         v         |
 *     PAUSED ---> READY
 *
 * A batch is passive: the writer forms it, moves it from state to state and
 * divides it, and a transaction runs it.
 *
 * Owner: the writer.  Limits: the rows that it was created for.
 */

#ifndef NGX_PAYMENT_BATCH_H
#define NGX_PAYMENT_BATCH_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_op.h"


typedef enum {
    NGX_PAYMENT_BATCH_WRITES = 0,  /* authorizations and changes */
    NGX_PAYMENT_BATCH_REPEATS,     /* of operations with keys that were used */
    NGX_PAYMENT_BATCH_READS,       /* of single payments */
    NGX_PAYMENT_BATCH_LISTS,       /* of many, which takes longer */
    NGX_PAYMENT_BATCH_WAITER       /* changes that wait for a payment's lock */
} ngx_payment_batch_kind_e;


/* Moved by one function of the writer's, which also has the queue and timer. */

typedef enum {
    NGX_PAYMENT_BATCH_FORMED = 0,  /* new */
    NGX_PAYMENT_BATCH_RUNNING,     /* on a line */
    NGX_PAYMENT_BATCH_PAUSED,      /* until its timer makes it READY */
    NGX_PAYMENT_BATCH_READY,       /* in the writer's queue, for a line */
    NGX_PAYMENT_BATCH_ENDED        /* off the line, to be told and freed */
} ngx_payment_batch_state_e;


struct ngx_payment_batch_s {
    ngx_queue_t                queue;       /* while READY */
    ngx_payment_batch_kind_e   kind;
    ngx_payment_batch_state_e  state;

    ngx_payment_op_t         **ops;         /* in order of arrival */
    ngx_uint_t                 n;
    ngx_uint_t                 changes;     /* those that are not authorize */
    ngx_uint_t                 forbidden;   /* those that only a key may save */
    ngx_uint_t                 lookups;     /* those that want no more */
    ngx_uint_t                 pages;       /* those that want operations */
    ngx_uint_t                 references;  /* those that have one */

    ngx_payment_op_t         **keys;        /* room for those that a transaction
                                               writes, by key hash */
    ngx_uint_t                 nkeys;

    ngx_uint_t                 tries;
    uint64_t                   started_us;
    ngx_event_t                timer;       /* of READY and PAUSED */
    void                      *data;        /* the writer's */

    unsigned                   unknown:1;   /* COMMIT was sent, and its answer
                                               not seen */
};


/* it changes nothing */
#define ngx_payment_batch_reads(b)                                            \
    ((b)->kind == NGX_PAYMENT_BATCH_REPEATS                                   \
     || (b)->kind == NGX_PAYMENT_BATCH_READS                                  \
     || (b)->kind == NGX_PAYMENT_BATCH_LISTS)


/* NULL: no memory.  The writer sets timer.handler and data. */
ngx_payment_batch_t *ngx_payment_batch_create(ngx_uint_t rows_max,
    ngx_log_t *log);
void ngx_payment_batch_destroy(ngx_payment_batch_t *b);

void ngx_payment_batch_add(ngx_payment_batch_t *b, ngx_payment_op_t *op);

/* Takes one operation out. */
void ngx_payment_batch_remove(ngx_payment_batch_t *b, ngx_payment_op_t *op);

/* Takes the operations of one standing out and appends them to a queue. */
void ngx_payment_batch_take(ngx_payment_batch_t *b,
    ngx_payment_op_standing_e standing, ngx_queue_t *taken);

/* The last n operations become a batch of their own, of WRITES, with as many
 * tries behind it; NULL: no memory. */
ngx_payment_batch_t *ngx_payment_batch_split(ngx_payment_batch_t *b,
    ngx_uint_t n);

/* When the last of its operations is to be told. */
ngx_msec_t ngx_payment_batch_deadline(const ngx_payment_batch_t *b);

#endif /* NGX_PAYMENT_BATCH_H */
