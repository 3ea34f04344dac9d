/*
 * Deletes the rows of events that Kafka has acknowledged, many at a time, or
 * moves them to the archive.
 *
 * An event is its payment and its version; its row's id is a number that
 * another server, or this one after a TRUNCATE, a restored dump or a crash,
 * may have given to another event.  So when a connection was made anew, or a
 * deletion failed, the acknowledged events are UNSURE: their rows are looked
 * at on the connection that deletes, and those that are still theirs become
 * ACKED again.  The others are forgotten, and their ids read as new ones.
 *
 * Owner: the helper process.
 * Limits: NGX_PAYMENT_FENCE_IDS_MAX rows at a time, half as many after each
 * failure, so that one row that can't be deleted keeps few others.
 *
 * A deletion has a price of its own, whatever its size: a transaction under the
 * lease, and a flush of the log.  So a row waits NGX_PAYMENT_DELETE_DELAY for
 * others, unless NGX_PAYMENT_DELETE_ENOUGH wait: were this helper killed, all
 * of them would be published again.
 */

#ifndef NGX_PAYMENT_DELETE_H
#define NGX_PAYMENT_DELETE_H

#include "ngx_payment_fence.h"


#define NGX_PAYMENT_DELETE_DELAY      100      /* ms */
#define NGX_PAYMENT_DELETE_ENOUGH     500      /* rows */
#define NGX_PAYMENT_DELETE_FIND       4000     /* rows looked at at a time */


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_fence_t         *fence;

    ngx_payment_db_stmt_t       *work;        /* the statement that counts */
    ngx_uint_t                   rows_max;    /* of the next deletion */
    ngx_uint_t                   looked_at;   /* rows, of the look under way */
    ngx_uint_t                   doubts;      /* when it began */
    uint64_t                     find_from;   /* where the look for rows that
                                                 were not seen goes on; 0: none
                                                 is under way */
    uint64_t                     find_began_ns;
    ngx_event_t                  timer;
    unsigned                     due:1;
} ngx_payment_delete_t;


void ngx_payment_delete_init(ngx_payment_delete_t *d);
void ngx_payment_delete_close(ngx_payment_delete_t *d);

/* An event became ACKED: its row is deleted soon, with others. */
void ngx_payment_delete_acked(ngx_payment_delete_t *d);

/* All that are ACKED are to be deleted when the fence's turn comes next. */
void ngx_payment_delete_all(ngx_payment_delete_t *d);

/* jobs of the fence */
ngx_int_t ngx_payment_delete_look_step(void *part, uint64_t now_ms);
void ngx_payment_delete_look_done(void *part, ngx_uint_t lost);

ngx_int_t ngx_payment_delete_find_step(void *part, uint64_t now_ms);
void ngx_payment_delete_find_done(void *part, ngx_uint_t lost);

ngx_int_t ngx_payment_delete_step(void *part, uint64_t now_ms);
void ngx_payment_delete_done(void *part, ngx_uint_t lost);

#endif /* NGX_PAYMENT_DELETE_H */
