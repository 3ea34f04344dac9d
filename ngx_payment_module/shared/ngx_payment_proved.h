/*
 * Events that are known to be on disk, because this nginx has the server's
 * answer to the COMMIT that wrote them: the helper may publish them when it
 * reads their rows, and need not commit anything itself to be sure of it (the
 * barrier, see ngx_payment_reader.h).
 *
 * An event that is not here may be on disk as well.  In shared memory, for all
 * processes: a table of words, each of which is a hash of an event's payment,
 * its version, and the choice of the server that has answered, so that what one
 * server has on disk proves nothing of another.  A word has a place in a bucket
 * that its own bits name, where it takes that of the oldest.  Words are written
 * and read without a lock; where a word is written in two halves, one that is
 * read in between is nobody's.
 *
 * Limits: an event is forgotten when seven more have come to its bucket.  When
 * NGX_PAYMENT_PROVED_BUCKETS events have followed it, it is so with one in ten
 * thousand; with four times as many, with one in nine.
 */

#ifndef NGX_PAYMENT_PROVED_H
#define NGX_PAYMENT_PROVED_H

#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_PAYMENT_PROVED_BUCKETS   1024
#define NGX_PAYMENT_PROVED_PLACES    7
#define NGX_PAYMENT_PROVED_ID_LEN    36      /* a payment's id, as a text */


/* a line of the processor's cache */

typedef struct {
    volatile uint64_t  words[NGX_PAYMENT_PROVED_PLACES];     /* 0: none */
    ngx_atomic_t       added;
} ngx_payment_proved_bucket_t;


typedef struct {
    ngx_payment_proved_bucket_t  buckets[NGX_PAYMENT_PROVED_BUCKETS];
} ngx_payment_proved_t;


/* id: NGX_PAYMENT_PROVED_ID_LEN bytes; choice: of the connection, see
 * ngx_payment_common.h.  Never 0. */

static ngx_inline uint64_t
ngx_payment_proved_word(const u_char *id, uint32_t version, uint64_t choice)
{
    size_t    i, len;
    uint64_t  word, part;

    word = choice ^ ((uint64_t) version << 32 | version);

    for (i = 0; i < NGX_PAYMENT_PROVED_ID_LEN; i += len) {
        len = ngx_min(sizeof(part), NGX_PAYMENT_PROVED_ID_LEN - i);
        part = 0;
        ngx_memcpy(&part, id + i, len);

        /* as in MurmurHash3's last step: each bit changes half of them */
        word = (word ^ part) * 0xff51afd7ed558ccdULL;
        word = (word ^ (word >> 33)) * 0xc4ceb9fe1a85ec53ULL;
        word ^= word >> 33;
    }

    return word ? word : 1;
}


static ngx_inline ngx_payment_proved_bucket_t *
ngx_payment_proved_bucket(ngx_payment_proved_t *proved, uint64_t word)
{
    return &proved->buckets[word % NGX_PAYMENT_PROVED_BUCKETS];
}


static ngx_inline void
ngx_payment_proved_add(ngx_payment_proved_t *proved, uint64_t word)
{
    ngx_payment_proved_bucket_t  *b;

    b = ngx_payment_proved_bucket(proved, word);

    b->words[ngx_atomic_fetch_add(&b->added, 1) % NGX_PAYMENT_PROVED_PLACES] =
        word;
}


static ngx_inline ngx_uint_t
ngx_payment_proved_has(ngx_payment_proved_t *proved, uint64_t word)
{
    ngx_uint_t                    i;
    ngx_payment_proved_bucket_t  *b;

    b = ngx_payment_proved_bucket(proved, word);

    for (i = 0; i < NGX_PAYMENT_PROVED_PLACES; i++) {
        if (b->words[i] == word) {
            return 1;
        }
    }

    return 0;
}

#endif /* NGX_PAYMENT_PROVED_H */
