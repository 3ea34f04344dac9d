/*
 * Idempotency keys that were used a short while ago, as far as this nginx has
 * seen: a request with one of them is most likely a repeat, and is looked up
 * before it is written in vain.
 *
 * A hint and no more.  In shared memory, for all processes: a table of tags,
 * each of which is some bits of a key's hash, at the place that other bits of
 * it name.  A key takes the place of the one that was there before, and is
 * forgotten like that.  Single words, written and read without a lock.
 */

#ifndef NGX_PAYMENT_SEEN_H
#define NGX_PAYMENT_SEEN_H

#include <ngx_config.h>
#include <ngx_core.h>


/* After as many keys as there are places, a third of them is known still; of
 * 65535 keys that are new, one is taken for known. */
#define NGX_PAYMENT_SEEN_PLACES   (1024 * 1024)


typedef struct {
    volatile uint16_t  tags[NGX_PAYMENT_SEEN_PLACES];     /* 0: none */
} ngx_payment_seen_t;


/* key_hash: at least 6 bytes, each as good as random */

static ngx_inline uint16_t
ngx_payment_seen_tag(const uint8_t *key_hash)
{
    uint16_t  tag;

    ngx_memcpy(&tag, key_hash + 4, sizeof(uint16_t));

    return tag ? tag : 1;
}


static ngx_inline volatile uint16_t *
ngx_payment_seen_place(ngx_payment_seen_t *seen, const uint8_t *key_hash)
{
    uint32_t  n;

    ngx_memcpy(&n, key_hash, sizeof(uint32_t));

    return &seen->tags[n % NGX_PAYMENT_SEEN_PLACES];
}


static ngx_inline void
ngx_payment_seen_add(ngx_payment_seen_t *seen, const uint8_t *key_hash)
{
    *ngx_payment_seen_place(seen, key_hash) = ngx_payment_seen_tag(key_hash);
}


static ngx_inline ngx_uint_t
ngx_payment_seen_has(ngx_payment_seen_t *seen, const uint8_t *key_hash)
{
    return *ngx_payment_seen_place(seen, key_hash)
           == ngx_payment_seen_tag(key_hash);
}

#endif /* NGX_PAYMENT_SEEN_H */
