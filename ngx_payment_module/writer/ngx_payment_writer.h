/*
 * The writer of one shard in one worker: takes operations, forms batches, and
 * sees each batch through to its end on one of the shard's connections.
 *
 * Natural batching: a free connection takes everything that waits, at once.
 * One connection is kept busy; the others are spares, used when the busy one
 * takes longer than spare_delay, and for reads.  Everything that waits is
 * bounded: the queue by count, bytes and time, a batch by rows and bytes.
 * Who wants a payment that another transaction holds steps aside, asks again
 * from time to time, and at most one of them, on at most one connection, waits.
 */

#ifndef NGX_PAYMENT_WRITER_H
#define NGX_PAYMENT_WRITER_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_columns.h"
#include "ngx_payment_db.h"
#include "ngx_payment_op.h"
#include "ngx_payment_stats.h"


#define NGX_PAYMENT_BATCH_SIZE_MAX   1024


typedef struct ngx_payment_writer_s    ngx_payment_writer_t;
typedef struct ngx_payment_line_s      ngx_payment_line_t;


typedef struct {
    ngx_uint_t                batch_size;       /* rows */
    size_t                    batch_bytes;
    ngx_msec_t                spare_delay;
    ngx_uint_t                queue_size;       /* operations */
    size_t                    queue_bytes;
    ngx_msec_t                queue_timeout;
    ngx_uint_t                retries;
    ngx_msec_t                retry_interval;
    ngx_msec_t                retry_max_interval;
    ngx_payment_stats_t      *stats;
    ngx_fd_t                  doorbell;         /* -1: no outbox here */
} ngx_payment_writer_conf_t;


/* A connection of the writer and the batch that is on it. */

struct ngx_payment_line_s {
    ngx_payment_db_t          db;
    ngx_payment_writer_t     *writer;
    ngx_payment_batch_t      *batch;            /* NULL: free, if db is IDLE */
    ngx_payment_columns_t    *columns;          /* what its statements bind */
    ngx_msec_t                since;            /* it has had the batch */
};


struct ngx_payment_writer_s {
    ngx_payment_shard_t              *shard;
    const ngx_payment_writer_conf_t  *conf;
    ngx_payment_shard_stats_t        *stats;
    ngx_payment_gauges_t             *gauges;
    ngx_log_t                        *log;

    ngx_queue_t               writes;           /* of ngx_payment_op_t */
    ngx_queue_t               reads;
    ngx_queue_t               held;             /* back to writes, later */
    ngx_queue_t               waiting;          /* for one payment's lock */
    ngx_uint_t                queued;           /* in all of them */
    size_t                    queued_bytes;

    ngx_queue_t               ready;            /* batches that want a line */
    ngx_uint_t                batches;          /* alive, wherever they are */
    ngx_payment_batch_t      *waiter;           /* one of them, from waiting */

    ngx_payment_line_t       *lines;
    ngx_uint_t                nlines;

    ngx_event_t               dispatch;         /* posted */
    ngx_event_t               timer;            /* spare, or queue timeout */
    ngx_event_t               hold_timer;       /* set while somebody is held */

    unsigned                  down:1;           /* no server can be reached */
    unsigned                  dispatching:1;
};


ngx_payment_writer_t *ngx_payment_writer_create(ngx_cycle_t *cycle,
    ngx_payment_shard_t *shard, const ngx_payment_writer_conf_t *conf);
void ngx_payment_writer_close(ngx_payment_writer_t *writer);

/*
 * Takes an operation over.  NGX_OK: op->settled will be called, later.
 * NGX_BUSY: the queue is full; NGX_DECLINED: the shard is down; both leave the
 * operation to the caller.
 */
ngx_int_t ngx_payment_writer_submit(ngx_payment_writer_t *writer,
    ngx_payment_op_t *op);

/*
 * Nobody waits any more (client gone: NGX_DONE leaves the payment to go on), or
 * time is up: NGX_OK means it was taken back unexecuted and freed, NGX_AGAIN
 * that its outcome is not known yet; settled will not be called in either case.
 */
void ngx_payment_op_detach(ngx_payment_op_t *op);
ngx_int_t ngx_payment_writer_cancel(ngx_payment_writer_t *writer,
    ngx_payment_op_t *op);


/* Between writer and batch. */

/* an operation is done with: tells its owner, and those that follow it */
void ngx_payment_writer_settle(ngx_payment_writer_t *writer,
    ngx_payment_op_t *op, payment_outcome_e outcome);

/* takes an operation back from its batch, with those that follow it, to be
 * begun anew after a pause; one that is too late for that is settled */
void ngx_payment_writer_hold(ngx_payment_writer_t *writer,
    ngx_payment_op_t *op);

/* gives free lines what waits */
void ngx_payment_writer_dispatch(ngx_payment_writer_t *writer);

/* asks for dispatch() as soon as this round of events is over */
void ngx_payment_writer_wake(ngx_payment_writer_t *writer);

#endif /* NGX_PAYMENT_WRITER_H */
