/*
 * The archive's partitions: new days ahead are made, and old days dropped.
 * The database's own procedure does it, and knows how many.
 *
 * Owner: the helper process.
 * Limits: once in NGX_PAYMENT_ARCHIVE_INTERVAL.
 */

#ifndef NGX_PAYMENT_ARCHIVE_H
#define NGX_PAYMENT_ARCHIVE_H

#include "ngx_payment_fence.h"


#define NGX_PAYMENT_ARCHIVE_INTERVAL  (3600 * 1000)     /* ms */
#define NGX_PAYMENT_ARCHIVE_RETRY     (60 * 1000)       /* ms, after an error */


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_fence_t         *fence;
    uint64_t                     next_ms;
} ngx_payment_archive_t;


/* a job of the fence */
ngx_int_t ngx_payment_archive_step(void *part, uint64_t now_ms);
void ngx_payment_archive_done(void *part, ngx_uint_t lost);

#endif /* NGX_PAYMENT_ARCHIVE_H */
