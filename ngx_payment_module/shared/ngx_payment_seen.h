/*
 * Idempotency keys that were used a short while ago, as far as this nginx has
 * seen: a request with one of them is most likely a repeat, and is looked up
 * before it is written in vain.
 *
 * With each key goes a mark of the server that has its row on disk, as somebody
 * was told already.  A repeat that finds the row there says nothing new, and
 * nothing that a crash could take back.
 *
 * In shared memory, for all processes: a table of words, each of which is 48
 * bits of a key's hash and 16 of a mark, in the line that other bits of the
 * hash name.  A line has room for NGX_PAYMENT_SEEN_WAYS, and a new word takes
 * the place of the oldest.  Written and read without a lock: of two words that
 * are written to one place at once, one is forgotten.
 */

#ifndef NGX_PAYMENT_SEEN_H
#define NGX_PAYMENT_SEEN_H

#include <ngx_config.h>
#include <ngx_core.h>


/* 983 040 places, 8 MiB.  A key that was added half a million others ago is
 * known with 99 in 100, one of a million ago with 44. */
#define NGX_PAYMENT_SEEN_LINES    65536
#define NGX_PAYMENT_SEEN_WAYS     15

#define NGX_PAYMENT_SEEN_KEY      UINT64_C(0xffffffffffff0000)
#define NGX_PAYMENT_SEEN_MARK     UINT64_C(0xffff)

/* of a key that was met, but not told of */
#define NGX_PAYMENT_SEEN_ONLY     0


/* two lines of the processor's cache */

typedef struct {
    volatile uint64_t        words[NGX_PAYMENT_SEEN_WAYS];  /* 0: none */
    volatile uint64_t        next;                          /* the oldest's */
} ngx_payment_seen_line_t;


typedef struct {
    ngx_payment_seen_line_t  lines[NGX_PAYMENT_SEEN_LINES];
} ngx_payment_seen_t;


/* The mark of a server, by the choice of a connection to it, and its shard, as
 * any number that is the shard's own; never NGX_PAYMENT_SEEN_ONLY.  Of 65 535
 * pairs, one has the mark of another. */

static ngx_inline ngx_uint_t
ngx_payment_seen_mark(uint64_t shard, uint64_t choice)
{
    uint64_t  mark;

    /* as in MurmurHash3's last step: each bit changes half of them */

    mark = (choice ^ (shard << 32 | shard >> 32)) * 0xff51afd7ed558ccdULL;
    mark = (mark ^ (mark >> 33)) * 0xc4ceb9fe1a85ec53ULL;

    return (ngx_uint_t) (mark >> 33) % NGX_PAYMENT_SEEN_MARK + 1;
}


/* key_hash: at least 12 bytes, each as good as random */

static ngx_inline uint64_t
ngx_payment_seen_key(const uint8_t *key_hash)
{
    uint64_t  key;

    ngx_memcpy(&key, key_hash + 4, sizeof(uint64_t));

    key &= NGX_PAYMENT_SEEN_KEY;

    return key ? key : NGX_PAYMENT_SEEN_KEY;
}


static ngx_inline ngx_payment_seen_line_t *
ngx_payment_seen_line(ngx_payment_seen_t *seen, const uint8_t *key_hash)
{
    uint32_t  n;

    ngx_memcpy(&n, key_hash, sizeof(uint32_t));

    return &seen->lines[n % NGX_PAYMENT_SEEN_LINES];
}


/* NULL: the key is not known. */

static ngx_inline volatile uint64_t *
ngx_payment_seen_find(ngx_payment_seen_t *seen, const uint8_t *key_hash)
{
    uint64_t                  key;
    ngx_uint_t                i;
    ngx_payment_seen_line_t  *line;

    key = ngx_payment_seen_key(key_hash);
    line = ngx_payment_seen_line(seen, key_hash);

    for (i = 0; i < NGX_PAYMENT_SEEN_WAYS; i++) {
        if ((line->words[i] & NGX_PAYMENT_SEEN_KEY) == key) {
            return &line->words[i];
        }
    }

    return NULL;
}


/* Is the key known, and by which mark? */

static ngx_inline ngx_uint_t
ngx_payment_seen_has(ngx_payment_seen_t *seen, const uint8_t *key_hash,
    ngx_uint_t *mark)
{
    volatile uint64_t  *word;

    word = ngx_payment_seen_find(seen, key_hash);
    *mark = word ? (ngx_uint_t) (*word & NGX_PAYMENT_SEEN_MARK)
                 : NGX_PAYMENT_SEEN_ONLY;

    return word != NULL;
}


/* A known key keeps its place, and its mark, if the new one is none. */

static ngx_inline void
ngx_payment_seen_add(ngx_payment_seen_t *seen, const uint8_t *key_hash,
    ngx_uint_t mark)
{
    uint64_t                  word;
    volatile uint64_t        *known;
    ngx_payment_seen_line_t  *line;

    word = ngx_payment_seen_key(key_hash) | mark;
    known = ngx_payment_seen_find(seen, key_hash);

    if (known == NULL) {
        line = ngx_payment_seen_line(seen, key_hash);
        line->words[line->next++ % NGX_PAYMENT_SEEN_WAYS] = word;

    } else if (mark != NGX_PAYMENT_SEEN_ONLY && *known != word) {
        *known = word;
    }
}

#endif /* NGX_PAYMENT_SEEN_H */
