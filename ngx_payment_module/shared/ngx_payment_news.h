/*
 * News: events that a worker of this nginx has committed just now, as their
 * rows are.  The helper may publish them at once, and finds their rows later,
 * to delete them; so it need not read the table for each of them.  The table
 * stays the truth: whatever is not here, or came here in vain, is read there.
 *
 * A ring in shared memory.  Workers put events into it under a lock that the
 * master takes from one that dies; the helper takes them out without it.  Only
 * a payment's first event is news, since it follows no other one.
 *
 * Limits: NGX_PAYMENT_NEWS_ITEMS events of NGX_PAYMENT_NEWS_TEXT bytes; others
 * are missed, as those are that the helper does not want.
 */

#ifndef NGX_PAYMENT_NEWS_H
#define NGX_PAYMENT_NEWS_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_shard.h"
#include "ngx_payment_stats.h"


#define NGX_PAYMENT_NEWS_ITEMS    2048      /* a power of 2 */
#define NGX_PAYMENT_NEWS_TEXT     978       /* bytes of an event's texts */
#define NGX_PAYMENT_NEWS_LINE     64        /* bytes of a line of a cache */


/* columns of outbox_event, in the order of NGX_PAYMENT_ROW_COLUMNS */

typedef enum {
    NGX_PAYMENT_NEWS_AGGREGATEID = 0,
    NGX_PAYMENT_NEWS_TYPE,
    NGX_PAYMENT_NEWS_MERCHANT,
    NGX_PAYMENT_NEWS_CREATED_AT,
    NGX_PAYMENT_NEWS_TRACEPARENT,
    NGX_PAYMENT_NEWS_TRACESTATE,
    NGX_PAYMENT_NEWS_PAYLOAD,
    NGX_PAYMENT_NEWS_COLUMNS
} ngx_payment_news_column_e;


typedef struct {
    uint64_t      choice;       /* of the connection; ngx_payment_common.h */
    uint64_t      sent_ns;      /* COMMIT was sent then, */
    uint64_t      answered_us;  /* and answered then, in Unix time */
} ngx_payment_news_commit_t;


typedef struct {
    ngx_payment_news_commit_t  commit;
    void                      *shard;   /* what all processes share of it */
    uint16_t                   lens[NGX_PAYMENT_NEWS_COLUMNS];
    u_char                     text[NGX_PAYMENT_NEWS_TEXT];
                                        /* one after the other */
} ngx_payment_news_item_t;


/* Workers write one of the numbers for each event and the helper the other, so
 * a line of the cache that held both would go to and fro. */

typedef union {
    ngx_atomic_t             n;
    u_char                   line[NGX_PAYMENT_NEWS_LINE];
} ngx_payment_news_number_t;


typedef struct {
    ngx_payment_news_number_t  put;     /* items, since the start */
    ngx_payment_news_number_t  taken;
    ngx_atomic_t               wanted[NGX_PAYMENT_SHARDS_MAX];
    ngx_atomic_t               missed[NGX_PAYMENT_SHARDS_MAX];  /* not put */
    ngx_payment_news_item_t    items[NGX_PAYMENT_NEWS_ITEMS];
} ngx_payment_news_ring_t;


/* what a process knows of the ring */

typedef struct {
    ngx_payment_news_ring_t  *ring;
    ngx_shmtx_t              *mutex;
} ngx_payment_news_t;


/* Takes the lock, which ngx_shmtx_unlock() gives back.  0: another worker has
 * it for longer than putting takes; it may be stopped, which must stop nobody
 * else. */
ngx_uint_t ngx_payment_news_lock(const ngx_payment_news_t *news);

/* Puts an event there, while the lock is held.  NGX_DECLINED: it is too long,
 * or there is no room. */
ngx_int_t ngx_payment_news_put(const ngx_payment_news_t *news,
    const ngx_payment_shard_t *shard, const ngx_payment_news_commit_t *commit,
    const ngx_str_t columns[NGX_PAYMENT_NEWS_COLUMNS]);

/* Takes the oldest event out.  NGX_DECLINED: there is none.  While nginx is
 * reloaded two helpers may ask: one of them has it. */
ngx_int_t ngx_payment_news_take(const ngx_payment_news_t *news,
    ngx_payment_news_item_t *item);

#endif /* NGX_PAYMENT_NEWS_H */
