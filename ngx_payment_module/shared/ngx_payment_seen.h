/*
 * Idempotency keys that were used a short while ago, as far as this nginx has
 * seen: a request with one of them is most likely a repeat, and is looked up
 * before it is written in vain.
 *
 * With each key goes a mark of its row, as somebody was told of it, and of the
 * server which had that on disk.  A repeat that finds this row there says
 * nothing new, and nothing that a crash could take back.  It is the row's and
 * not the key's alone, since keys are forgotten and used anew.
 *
 * In shared memory, for all processes: a table of words, each of which is 32
 * bits of a key's hash and 32 of a mark, in the line that other bits of the
 * hash name.  A line has room for NGX_PAYMENT_SEEN_WAYS, and a new word takes
 * the place of the oldest.  Written and read without a lock: of two words that
 * are written to one place at once, one is forgotten.
 */

#ifndef NGX_PAYMENT_SEEN_H
#define NGX_PAYMENT_SEEN_H

#include <ngx_config.h>
#include <ngx_core.h>


/* 983 040 places, 8 MiB.  A key that was added half a million others ago is
 * known with 99 in 100, one of a million ago with 44; of 286 million keys that
 * are new, one is taken for known. */
#define NGX_PAYMENT_SEEN_LINES    65536
#define NGX_PAYMENT_SEEN_WAYS     15

#define NGX_PAYMENT_SEEN_KEY      UINT64_C(0xffffffff00000000)
#define NGX_PAYMENT_SEEN_MARK     UINT64_C(0x00000000ffffffff)

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


static ngx_inline uint64_t
ngx_payment_seen_mix(uint64_t word)
{
    /* MurmurHash3's last step: each bit changes half of them */

    word = (word ^ (word >> 33)) * 0xff51afd7ed558ccdULL;
    word = (word ^ (word >> 33)) * 0xc4ceb9fe1a85ec53ULL;

    return word ^ (word >> 33);
}


/* A server, by the choice of a connection to it and its shard, as any number
 * that is the shard's own; and the durability.  Never 0. */

static ngx_inline uint64_t
ngx_payment_seen_by(uint64_t shard, uint64_t choice, ngx_uint_t durability)
{
    uint64_t  by;

    by = ngx_payment_seen_mix(ngx_payment_seen_mix(choice) ^ shard)
         + durability;

    return by ? by : 1;
}


/* The mark of a row, which says to what version of which payment its operation
 * led; id: 16 bytes.  Never NGX_PAYMENT_SEEN_ONLY. */

static ngx_inline ngx_uint_t
ngx_payment_seen_mark(uint64_t by, const uint8_t *id, uint32_t version)
{
    uint64_t  half[2], mark;

    ngx_memcpy(half, id, sizeof(half));

    mark = ngx_payment_seen_mix(by ^ half[0]);
    mark = ngx_payment_seen_mix(mark ^ half[1]);
    mark = ngx_payment_seen_mix(mark ^ version) & NGX_PAYMENT_SEEN_MARK;

    return mark ? (ngx_uint_t) mark : 1;
}


/* key_hash: at least 8 bytes, each as good as random */

static ngx_inline uint64_t
ngx_payment_seen_key(const uint8_t *key_hash)
{
    uint32_t  key;

    ngx_memcpy(&key, key_hash + 4, sizeof(uint32_t));

    return (uint64_t) (key ? key : 1) << 32;
}


static ngx_inline ngx_payment_seen_line_t *
ngx_payment_seen_line(ngx_payment_seen_t *seen, const uint8_t *key_hash)
{
    uint32_t  n;

    ngx_memcpy(&n, key_hash, sizeof(uint32_t));

    return &seen->lines[n % NGX_PAYMENT_SEEN_LINES];
}


/* The place of a key, and the word that is there; NULL: it is not known. */

static ngx_inline volatile uint64_t *
ngx_payment_seen_find(ngx_payment_seen_t *seen, const uint8_t *key_hash,
    uint64_t *word)
{
    uint64_t                  key;
    ngx_uint_t                i;
    ngx_payment_seen_line_t  *line;

    key = ngx_payment_seen_key(key_hash);
    line = ngx_payment_seen_line(seen, key_hash);

    for (i = 0; i < NGX_PAYMENT_SEEN_WAYS; i++) {
        *word = line->words[i];

        if ((*word & NGX_PAYMENT_SEEN_KEY) == key) {
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
    uint64_t  word;

    if (ngx_payment_seen_find(seen, key_hash, &word) == NULL) {
        *mark = NGX_PAYMENT_SEEN_ONLY;
        return 0;
    }

    *mark = (ngx_uint_t) (word & NGX_PAYMENT_SEEN_MARK);

    return 1;
}


/* A known key keeps its place, and its mark, if the new one is none. */

static ngx_inline void
ngx_payment_seen_add(ngx_payment_seen_t *seen, const uint8_t *key_hash,
    ngx_uint_t mark)
{
    uint64_t                  word, old;
    volatile uint64_t        *known;
    ngx_payment_seen_line_t  *line;

    word = ngx_payment_seen_key(key_hash) | mark;
    known = ngx_payment_seen_find(seen, key_hash, &old);

    if (known == NULL) {
        line = ngx_payment_seen_line(seen, key_hash);
        line->words[line->next++ % NGX_PAYMENT_SEEN_WAYS] = word;

    } else if (mark != NGX_PAYMENT_SEEN_ONLY && old != word) {
        *known = word;
    }
}

#endif /* NGX_PAYMENT_SEEN_H */
