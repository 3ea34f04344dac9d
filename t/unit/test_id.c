/*
 * Payment ids and shard slots: the layout of RFC 9562, the slot inside it, and
 * the vectors that fix the hash of a merchant for ever.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "payment.h"


/* python3 -c 'import zlib; print(zlib.crc32("MERCHANT-1".encode()) % 1024)' */

static const struct {
    const char  *merchant;
    unsigned     slot;
} slots[] = {
    { "", 0 },
    { "M", 672 },
    { "MERCHANT-1", 830 },
    { "MERCHANT-2", 644 },
    { "MERCHANT-999", 423 },
    { "MERCHANT-1000", 998 },
    { "merchant-1", 619 },
    { "a b", 211 },
    { "123456789", 0xcbf43926 % 1024 },
    { "\xea\xb0\x80\xeb\xa7\xb9\xec\xa0\x90", 48 }
};


static const uint8_t  ones[16] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
};

static const uint8_t  zeros[16];


/* the slot as a reader of ids finds it: the 10 bits after the variant */

static unsigned
slot_of(const uint8_t id[PAYMENT_ID_SIZE])
{
    return (unsigned) (id[8] & 0x3f) << 4 | id[9] >> 4;
}


static void
slots_of_merchants(void **state)
{
    size_t  i;
    char    longest[PAYMENT_MERCHANT_SIZE];

    (void) state;

    for (i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        assert_int_equal(payment_id_merchant_slot(slots[i].merchant,
                                                  strlen(slots[i].merchant)),
                         slots[i].slot);
    }

    for (i = 0; i < sizeof(longest); i += 4) {
        memcpy(longest + i, "\xf0\x9f\x92\xb3", 4);
    }

    assert_int_equal(payment_id_merchant_slot(longest, sizeof(longest)), 100);

    /* no byte is special */

    assert_int_equal(payment_id_merchant_slot("\0", 1), 0xd202ef8d % 1024);
}


/* The ends of ids are what this says, for a key of zeros:
 *
 * python3 -c 'import hashlib; print(hashlib.sha256(b"0123456789abcdef" +
 *             bytes(16)).hexdigest()[:14])'
 */

static void
make(uint8_t id[PAYMENT_ID_SIZE], int64_t now_us, unsigned slot,
    const uint8_t *key_hash)
{
    uint8_t         end[PAYMENT_ID_END_SIZE];
    const uint8_t  *secret;

    secret = (const uint8_t *) "0123456789abcdef";

    assert_true(payment_id_make(id, now_us, slot, key_hash, secret));
    assert_true(payment_id_end(end, key_hash, secret));
    assert_memory_equal(id + PAYMENT_ID_OWN_SIZE, end, PAYMENT_ID_END_SIZE);
}


static void
layout(void **state)
{
    char     text[PAYMENT_ID_TEXT_LEN + 1];
    uint8_t  id[PAYMENT_ID_SIZE];

    (void) state;

    text[PAYMENT_ID_TEXT_LEN] = '\0';

    make(id, INT64_C(0x0123456789ab) * 1000, 0, zeros);
    payment_id_format(text, id);
    assert_string_equal(text, "01234567-89ab-7000-800d-2d3eddc3b828");

    /* the half byte would be 0xf, and that one is the key's */

    make(id, INT64_C(0x0123456789ab) * 1000 + 999, 0, ones);
    payment_id_format(text, id);
    assert_string_equal(text, "01234567-89ab-7ffb-8007-d1b611df093c");

    make(id, INT64_C(0x0123456789ab) * 1000, 1023, zeros);
    payment_id_format(text, id);
    assert_string_equal(text, "01234567-89ab-7000-bffd-2d3eddc3b828");

    make(id, INT64_C(0x0123456789ab) * 1000 + 500, 0x2a5, ones);
    payment_id_format(text, id);
    assert_string_equal(text, "01234567-89ab-7800-aa57-d1b611df093c");

    make(id, 0, 1, zeros);
    payment_id_format(text, id);
    assert_string_equal(text, "00000000-0000-7000-801d-2d3eddc3b828");

    make(id, INT64_C(0xffffffffffff) * 1000, 0, zeros);
    payment_id_format(text, id);
    assert_string_equal(text, "ffffffff-ffff-7000-800d-2d3eddc3b828");
}


static void
slot_round_trip(void **state)
{
    uint8_t   id[PAYMENT_ID_SIZE];
    unsigned  slot;

    (void) state;

    for (slot = 0; slot < PAYMENT_SLOTS; slot++) {

        make(id, INT64_C(1763835166123456), slot, ones);
        assert_int_equal(slot_of(id), slot);
        assert_int_equal(id[6] >> 4, 7);
        assert_int_equal(id[8] >> 6, 2);

        make(id, INT64_C(1763835166123456), slot, zeros);
        assert_int_equal(slot_of(id), slot);
        assert_int_equal(id[6] >> 4, 7);
        assert_int_equal(id[8] >> 6, 2);
    }
}


static void
later_is_greater(void **state)
{
    int64_t  us;
    uint8_t  before[PAYMENT_ID_SIZE], after[PAYMENT_ID_SIZE];

    (void) state;

    /* by a microsecond already */

    for (us = 1; us < INT64_C(1) << 57; us *= 3) {
        make(before, us, 1023, ones);
        make(after, us + 1, 0, zeros);
        assert_true(memcmp(before, after, PAYMENT_ID_SIZE) < 0);
    }
}


/* How many bits of the last 52 differ. */

static unsigned
difference(const uint8_t *one, const uint8_t *other)
{
    unsigned  i, n;

    n = (unsigned) __builtin_popcount((one[9] ^ other[9]) & 0x0f);

    for (i = PAYMENT_ID_OWN_SIZE; i < PAYMENT_ID_SIZE; i++) {
        n += (unsigned) __builtin_popcount(one[i] ^ other[i]);
    }

    return n;
}


static void
bits_of_the_key(void **state)
{
    uint8_t   id[PAYMENT_ID_SIZE], plain[PAYMENT_ID_SIZE];
    uint8_t   secret[PAYMENT_SECRET_SIZE], key_hash[PAYMENT_KEY_HASH_SIZE];
    unsigned  bit;

    (void) state;

    memset(secret, 0, sizeof(secret));
    assert_true(payment_id_make(plain, 1, 5, zeros, secret));

    /* each bit of the key and of the secret counts, and says nothing */

    for (bit = 0; bit < 128; bit++) {
        memset(key_hash, 0, sizeof(key_hash));
        key_hash[bit / 8] = (uint8_t) (1 << bit % 8);

        assert_true(payment_id_make(id, 1, 5, key_hash, secret));
        assert_int_equal(slot_of(id), 5);
        assert_in_range(difference(id, plain), 10, 42);
        assert_memory_not_equal(id + PAYMENT_ID_OWN_SIZE,
                                key_hash + PAYMENT_ID_OWN_SIZE,
                                PAYMENT_ID_SIZE - PAYMENT_ID_OWN_SIZE);

        /* an id of before there was a secret had these 4 bits of the key */
        assert_int_not_equal(id[9] & 0x0f, key_hash[9] & 0x0f);

        secret[bit / 8] ^= (uint8_t) (1 << bit % 8);
        assert_true(payment_id_make(id, 1, 5, zeros, secret));
        assert_in_range(difference(id, plain), 10, 42);
        secret[bit / 8] ^= (uint8_t) (1 << bit % 8);
    }
}


static void
parse(void **state)
{
    size_t   i;
    char     text[PAYMENT_ID_TEXT_LEN], bad[PAYMENT_ID_TEXT_LEN];
    uint8_t  id[PAYMENT_ID_SIZE], again[PAYMENT_ID_SIZE];

    static const char  good[] = "0189f7aB-CDEF-7123-8456-789abcdef012";
    static const char  wrong[] = "gG-/:@`{ \t\r\n\0\xff\x10\x16{}xX+";

    (void) state;

    assert_int_equal(payment_id_parse(id, good, 36), 1);
    payment_id_format(text, id);
    assert_memory_equal(text, "0189f7ab-cdef-7123-8456-789abcdef012", 36);

    assert_int_equal(payment_id_parse(again, text, 36), 1);
    assert_memory_equal(id, again, PAYMENT_ID_SIZE);

    /* any UUID, also one that is not ours */

    assert_int_equal(payment_id_parse(id,
                         "00000000-0000-0000-0000-000000000000", 36), 1);
    assert_int_equal(payment_id_parse(id,
                         "ffffffff-ffff-ffff-ffff-ffffffffffff", 36), 1);

    for (i = 0; i < 36; i++) {
        assert_int_equal(payment_id_parse(id, good, i), 0);
    }

    assert_int_equal(payment_id_parse(id,
                         "0189f7ab-cdef-7123-8456-789abcdef0120", 37), 0);
    assert_int_equal(payment_id_parse(id,
                         "0189f7abcdef71238456789abcdef012", 32), 0);
    assert_int_equal(payment_id_parse(id,
                         "{189f7ab-cdef-7123-8456-789abcdef01}", 36), 0);

    /* every wrong character at every place */

    for (i = 0; i < 36 * (sizeof(wrong) - 1); i++) {
        memcpy(bad, good, 36);
        bad[i % 36] = wrong[i / 36];

        if (bad[i % 36] == good[i % 36]) {
            continue;                              /* a hyphen in its place */
        }

        assert_int_equal(payment_id_parse(id, bad, 36), 0);
    }

    memcpy(bad, good, 36);
    bad[8] = '0';
    assert_int_equal(payment_id_parse(id, bad, 36), 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(slots_of_merchants),
        cmocka_unit_test(layout),
        cmocka_unit_test(slot_round_trip),
        cmocka_unit_test(later_is_greater),
        cmocka_unit_test(bits_of_the_key),
        cmocka_unit_test(parse)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
