/*
 * The archive's partitions: new days ahead are made, and old days dropped.
 * The database's own procedure does it, in steps that are short and wait for
 * nobody, and says after each what is left to do.
 *
 * Owner: the helper process.
 * Limits: one step in flight; a fifth of the connection's time at most; after a
 * change of partitions, for which commits wait some milliseconds, nothing for
 * NGX_PAYMENT_ARCHIVE_CHANGE; when all is done, for
 * NGX_PAYMENT_ARCHIVE_INTERVAL.
 */

#ifndef NGX_PAYMENT_ARCHIVE_H
#define NGX_PAYMENT_ARCHIVE_H

#include "ngx_payment_fence.h"


#define NGX_PAYMENT_ARCHIVE_INTERVAL  (3600 * 1000)     /* ms */
#define NGX_PAYMENT_ARCHIVE_RETRY     (60 * 1000)       /* ms, after an error */
#define NGX_PAYMENT_ARCHIVE_CHANGE    5000              /* ms */
#define NGX_PAYMENT_ARCHIVE_SHARE     5


/* what outbox_archive_upkeep() says in @outbox_archive_more */

enum {
    NGX_PAYMENT_ARCHIVE_DONE = 0,
    NGX_PAYMENT_ARCHIVE_MORE,
    NGX_PAYMENT_ARCHIVE_BUSY       /* somebody reads the archive: later */
};


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_fence_t         *fence;
    ngx_payment_db_stmt_t       *answer;
    uint64_t                     step_ms;     /* when the step began */
    uint64_t                     next_ms;
    uint64_t                     partitions;  /* a digest of their names,
                                                 after the last step */
} ngx_payment_archive_t;


/* a job of the fence */
ngx_int_t ngx_payment_archive_step(void *part, uint64_t now_ms);
void ngx_payment_archive_done(void *part, ngx_uint_t lost);

#endif /* NGX_PAYMENT_ARCHIVE_H */
