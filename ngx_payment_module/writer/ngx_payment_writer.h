/*
 * The writer of one shard in one worker: takes operations, forms batches, and
 * sees each batch through to its end on one of the shard's connections.
 *
 * Natural batching: a free connection takes everything that waits, at once.
 * One connection is kept busy; the others are spares, used when the busy one
 * takes longer than spare_delay, and for reads.  Everything that waits is
 * bounded: the queue by count, bytes and time, a batch by rows and bytes.
 * An operation whose key was used a short while ago is looked up, beside what
 * is written meanwhile, and written only if its key is not found.
 * An operation whose payment another transaction holds steps aside and asks
 * again from time to time; the operations on one such payment at a time, on one
 * connection, wait for its lock.  So does a look-up of a key that is not there,
 * while an operation with that key is under way.
 */

#ifndef NGX_PAYMENT_WRITER_H
#define NGX_PAYMENT_WRITER_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_op.h"
#include "ngx_payment_news.h"
#include "ngx_payment_proved.h"
#include "ngx_payment_seen.h"
#include "ngx_payment_shard.h"
#include "ngx_payment_span.h"
#include "ngx_payment_stats.h"
#include "ngx_payment_underway.h"


#define NGX_PAYMENT_BATCH_SIZE_MAX   1024


typedef struct ngx_payment_writer_s    ngx_payment_writer_t;


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
    ngx_payment_seen_t       *seen;
    ngx_payment_proved_t     *proved;
    ngx_payment_news_t        news;
    ngx_payment_underway_t   *underway;
    ngx_payment_span_conf_t  *spans;            /* NULL: no traces */
    ngx_fd_t                  doorbell;         /* -1: no outbox here */
} ngx_payment_writer_conf_t;


ngx_payment_writer_t *ngx_payment_writer_create(ngx_cycle_t *cycle,
    ngx_payment_shard_t *shard, const ngx_payment_writer_conf_t *conf);
void ngx_payment_writer_close(ngx_payment_writer_t *w);

/* Of one worker: an idle connection asks once a second what each transaction
 * asks, whether its server may be written to, so that health and metrics tell
 * of it also where no payments come. */
void ngx_payment_writer_watch(ngx_payment_writer_t *w);

/*
 * Takes an operation over.  NGX_OK: op->settled will be called, later.
 * NGX_BUSY: the queue is full; NGX_DECLINED: the shard is down; both leave the
 * operation to the caller.
 */
ngx_int_t ngx_payment_writer_submit(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);

/*
 * Time is up for an operation.  NGX_OK: it was taken back unexecuted and freed.
 * NGX_AGAIN: it is under way, and its outcome is not known yet; nobody will be
 * told of it.  op->settled is not called in either case.
 */
ngx_int_t ngx_payment_writer_cancel(ngx_payment_writer_t *w,
    ngx_payment_op_t *op);

#endif /* NGX_PAYMENT_WRITER_H */
