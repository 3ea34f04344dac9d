/*
 * Idempotency keys that were used a short while ago, as far as this nginx has
 * seen: a request with one of them is most likely a repeat, and is looked up
 * before it is written in vain.
 *
 * A hint and no more.  In shared memory, for all processes: a table of tags,
 * each of which is 32 bits of a key's hash, in the line of the cache that other
 * bits of it name.  A line has room for NGX_PAYMENT_SEEN_WAYS, and a new one
 * takes the place of the oldest.  Single words, written and read without a
 * lock: of two that are written to one place at once, one is forgotten.
 */

#ifndef NGX_PAYMENT_SEEN_H
#define NGX_PAYMENT_SEEN_H

#include <ngx_config.h>
#include <ngx_core.h>


/* 983 040 places, 4 MiB.  A key that was added half a million others ago is
 * known with 99 in 100, one of a million ago with 44; of 286 million keys that
 * are new, one is taken for known. */
#define NGX_PAYMENT_SEEN_LINES    65536
#define NGX_PAYMENT_SEEN_WAYS     15


typedef struct {
    volatile uint32_t        tags[NGX_PAYMENT_SEEN_WAYS];   /* 0: none */
    volatile uint32_t        next;                          /* the oldest's */
} ngx_payment_seen_line_t;


typedef struct {
    ngx_payment_seen_line_t  lines[NGX_PAYMENT_SEEN_LINES];
} ngx_payment_seen_t;


/* key_hash: at least 8 bytes, each as good as random */

static ngx_inline uint32_t
ngx_payment_seen_tag(const uint8_t *key_hash)
{
    uint32_t  tag;

    ngx_memcpy(&tag, key_hash + 4, sizeof(uint32_t));

    return tag ? tag : 1;
}


static ngx_inline ngx_payment_seen_line_t *
ngx_payment_seen_line(ngx_payment_seen_t *seen, const uint8_t *key_hash)
{
    uint32_t  n;

    ngx_memcpy(&n, key_hash, sizeof(uint32_t));

    return &seen->lines[n % NGX_PAYMENT_SEEN_LINES];
}


static ngx_inline ngx_uint_t
ngx_payment_seen_has(ngx_payment_seen_t *seen, const uint8_t *key_hash)
{
    uint32_t                  tag;
    ngx_uint_t                i;
    ngx_payment_seen_line_t  *line;

    tag = ngx_payment_seen_tag(key_hash);
    line = ngx_payment_seen_line(seen, key_hash);

    for (i = 0; i < NGX_PAYMENT_SEEN_WAYS; i++) {
        if (line->tags[i] == tag) {
            return 1;
        }
    }

    return 0;
}


static ngx_inline void
ngx_payment_seen_add(ngx_payment_seen_t *seen, const uint8_t *key_hash)
{
    ngx_payment_seen_line_t  *line;

    if (!ngx_payment_seen_has(seen, key_hash)) {
        line = ngx_payment_seen_line(seen, key_hash);
        line->tags[line->next++ % NGX_PAYMENT_SEEN_WAYS] =
            ngx_payment_seen_tag(key_hash);
    }
}

#endif /* NGX_PAYMENT_SEEN_H */
