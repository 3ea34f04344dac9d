/* The keys of operations under way: see ngx_payment_underway.h. */

#include "ngx_payment_underway.h"


/* The lowest byte of a word: a process slot, and a bit by which the word is not
 * that of a free place. */
#define NGX_PAYMENT_UNDERWAY_SLOT   (NGX_PAYMENT_PROCESSES - 1)
#define NGX_PAYMENT_UNDERWAY_TAKEN  NGX_PAYMENT_PROCESSES
#define NGX_PAYMENT_UNDERWAY_BYTE   0xff


#if (NGX_PAYMENT_PROCESSES != 128)
#error "a process slot and one more bit are a byte of ngx_payment_underway_t"
#endif


static ngx_atomic_t *ngx_payment_underway_place(
    ngx_payment_underway_t *underway, const uint8_t *key_hash, ngx_uint_t i);
static ngx_atomic_uint_t ngx_payment_underway_word(const uint8_t *key_hash);
static ngx_uint_t ngx_payment_underway_swap(ngx_payment_underway_t *underway,
    const uint8_t *key_hash, ngx_atomic_uint_t old, ngx_atomic_uint_t word);


static ngx_atomic_t *
ngx_payment_underway_place(ngx_payment_underway_t *underway,
    const uint8_t *key_hash, ngx_uint_t i)
{
    uint32_t  n;

    ngx_memcpy(&n, key_hash, sizeof(uint32_t));

    return &underway->words[(n + i) % NGX_PAYMENT_UNDERWAY_PLACES];
}


static ngx_atomic_uint_t
ngx_payment_underway_word(const uint8_t *key_hash)
{
    ngx_atomic_uint_t  word;

    ngx_memcpy(&word, key_hash + 8, sizeof(ngx_atomic_uint_t));

    return (word & ~(ngx_atomic_uint_t) NGX_PAYMENT_UNDERWAY_BYTE)
           | NGX_PAYMENT_UNDERWAY_TAKEN
           | ((ngx_atomic_uint_t) ngx_process_slot % NGX_PAYMENT_PROCESSES);
}


/* The first word that is old, if there is one in reach, becomes word. */

static ngx_uint_t
ngx_payment_underway_swap(ngx_payment_underway_t *underway,
    const uint8_t *key_hash, ngx_atomic_uint_t old, ngx_atomic_uint_t word)
{
    ngx_uint_t     i;
    ngx_atomic_t  *place;

    for (i = 0; i < NGX_PAYMENT_UNDERWAY_REACH; i++) {
        place = ngx_payment_underway_place(underway, key_hash, i);

        if (*place == old && ngx_atomic_cmp_set(place, old, word)) {
            return 1;
        }
    }

    return 0;
}


void
ngx_payment_underway_add(ngx_payment_underway_t *underway,
    const uint8_t *key_hash)
{
    (void) ngx_payment_underway_swap(underway, key_hash, 0,
                                     ngx_payment_underway_word(key_hash));
}


void
ngx_payment_underway_remove(ngx_payment_underway_t *underway,
    const uint8_t *key_hash)
{
    (void) ngx_payment_underway_swap(underway, key_hash,
                                     ngx_payment_underway_word(key_hash), 0);
}


ngx_uint_t
ngx_payment_underway_has(ngx_payment_underway_t *underway,
    const ngx_payment_stats_t *stats, const uint8_t *key_hash)
{
    ngx_uint_t         i, slot;
    ngx_atomic_uint_t  word, ours;

    ours = ngx_payment_underway_word(key_hash);

    for (i = 0; i < NGX_PAYMENT_UNDERWAY_REACH; i++) {
        word = *ngx_payment_underway_place(underway, key_hash, i);

        if ((word ^ ours) > NGX_PAYMENT_UNDERWAY_SLOT) {
            continue;
        }

        slot = word & NGX_PAYMENT_UNDERWAY_SLOT;

        if (ngx_payment_stats_alive(stats->workers[slot].pid)) {
            return 1;
        }
    }

    return 0;
}


void
ngx_payment_underway_begin(ngx_payment_underway_t *underway)
{
    ngx_uint_t         i;
    ngx_atomic_uint_t  word, ours;

    ours = NGX_PAYMENT_UNDERWAY_TAKEN
           | ((ngx_atomic_uint_t) ngx_process_slot % NGX_PAYMENT_PROCESSES);

    for (i = 0; i < NGX_PAYMENT_UNDERWAY_PLACES; i++) {
        word = underway->words[i];

        if ((word & NGX_PAYMENT_UNDERWAY_BYTE) == ours) {
            (void) ngx_atomic_cmp_set(&underway->words[i], word, 0);
        }
    }
}
