/* Events from workers to the helper: see ngx_payment_news.h. */

#include "ngx_payment_news.h"


ngx_int_t
ngx_payment_news_put(const ngx_payment_news_t *news,
    const ngx_payment_shard_t *shard, uint64_t choice, uint64_t since_ns,
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
        || (ngx_atomic_int_t) (ring->put - ring->taken)
           >= NGX_PAYMENT_NEWS_ITEMS)
    {
        return NGX_DECLINED;
    }

    item = &ring->items[ring->put % NGX_PAYMENT_NEWS_ITEMS];

    item->choice = choice;
    item->since_ns = since_ns;
    item->shard = shard->common;
    p = item->text;

    for (i = 0; i < NGX_PAYMENT_NEWS_COLUMNS; i++) {
        item->lens[i] = (uint16_t) columns[i].len;
        p = ngx_cpymem(p, columns[i].data, columns[i].len);
    }

    /* the item before its number: the helper has no lock */

    ngx_memory_barrier();
    ring->put++;

    return NGX_OK;
}


ngx_int_t
ngx_payment_news_take(const ngx_payment_news_t *news,
    ngx_payment_news_item_t *item)
{
    ngx_atomic_uint_t         taken;
    ngx_payment_news_ring_t  *ring;

    ring = news->ring;

    do {
        taken = ring->taken;

        if ((ngx_atomic_int_t) (ring->put - taken) <= 0) {
            return NGX_DECLINED;
        }

        ngx_memory_barrier();

        *item = ring->items[taken % NGX_PAYMENT_NEWS_ITEMS];

    } while (!ngx_atomic_cmp_set(&ring->taken, taken, taken + 1));

    return NGX_OK;
}
