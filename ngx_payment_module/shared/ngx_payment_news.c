/* Events from workers to the helper: see ngx_payment_news.h. */

#include "ngx_payment_news.h"


/* about a millisecond, where each of the others has its turn meanwhile */
#define NGX_PAYMENT_NEWS_TRIES     2000
#define NGX_PAYMENT_NEWS_YIELD     100


ngx_uint_t
ngx_payment_news_lock(const ngx_payment_news_t *news)
{
    ngx_uint_t  i;

    for (i = 1; i <= NGX_PAYMENT_NEWS_TRIES; i++) {

        if (ngx_shmtx_trylock(news->mutex)) {
            return 1;
        }

        if (i % NGX_PAYMENT_NEWS_YIELD) {
            ngx_cpu_pause();

        } else {
            ngx_sched_yield();
        }
    }

    return 0;
}


ngx_int_t
ngx_payment_news_put(const ngx_payment_news_t *news,
    const ngx_payment_shard_t *shard, const ngx_payment_news_commit_t *commit,
    const ngx_str_t columns[NGX_PAYMENT_NEWS_COLUMNS])
{
    size_t                    size;
    u_char                   *p;
    ngx_uint_t                i;
    ngx_payment_news_ring_t  *ring;
    ngx_payment_news_item_t  *item;

    ring = news->ring;
    size = 0;

    for (i = 0; i < NGX_PAYMENT_NEWS_COLUMNS; i++) {
        size += columns[i].len;
    }

    if (size > NGX_PAYMENT_NEWS_TEXT
        || (ngx_atomic_int_t) (ring->put.n - ring->taken.n)
           >= NGX_PAYMENT_NEWS_ITEMS)
    {
        return NGX_DECLINED;
    }

    item = &ring->items[ring->put.n % NGX_PAYMENT_NEWS_ITEMS];

    item->commit = *commit;
    item->shard = shard->common;
    p = item->text;

    for (i = 0; i < NGX_PAYMENT_NEWS_COLUMNS; i++) {
        item->lens[i] = (uint16_t) columns[i].len;
        p = ngx_cpymem(p, columns[i].data, columns[i].len);
    }

    /* the item before its number: the helper has no lock */

    ngx_memory_barrier();
    ring->put.n++;

    return NGX_OK;
}


ngx_int_t
ngx_payment_news_take(const ngx_payment_news_t *news,
    ngx_payment_news_item_t *item)
{
    size_t                          size;
    ngx_uint_t                      i;
    ngx_atomic_uint_t               taken;
    ngx_payment_news_ring_t        *ring;
    const ngx_payment_news_item_t  *oldest;

    ring = news->ring;

    do {
        taken = ring->taken.n;

        if ((ngx_atomic_int_t) (ring->put.n - taken) <= 0) {
            return NGX_DECLINED;
        }

        ngx_memory_barrier();

        oldest = &ring->items[taken % NGX_PAYMENT_NEWS_ITEMS];
        ngx_memcpy(item, oldest, offsetof(ngx_payment_news_item_t, text));

        /* any size, if another helper has taken it and a worker puts the next
         * one there; then it is not ours */

        for (size = 0, i = 0; i < NGX_PAYMENT_NEWS_COLUMNS; i++) {
            size += item->lens[i];
        }

        ngx_memcpy(item->text, oldest->text,
                   ngx_min(size, NGX_PAYMENT_NEWS_TEXT));

    } while (!ngx_atomic_cmp_set(&ring->taken.n, taken, taken + 1));

    return NGX_OK;
}
