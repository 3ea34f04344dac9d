/*
 * Payment ids: UUIDv7 whose random part begins with the shard slot, so that an
 * id alone finds its shard, and goes on as a hash of the idempotency key with
 * the installation's secret, so that the key's row need not say it again.
 * 12 more bits of the clock stand in rand_a: within a millisecond, too, rows
 * come in key order, and the pages of the index fill up instead of being split
 * in halves.
 *
 * Pure; any process.  The slot of a merchant and the end of an id are part of
 * what is stored: the hashes below must never change.
 */

#include <string.h>

#include "payment.h"


static int payment_id_of_key(uint8_t hash[PAYMENT_HASH_SIZE],
    const uint8_t key_hash[PAYMENT_KEY_HASH_SIZE],
    const uint8_t secret[PAYMENT_SECRET_SIZE]);
static int payment_id_hex(unsigned char c);


int
payment_id_make(uint8_t id[PAYMENT_ID_SIZE], int64_t now_us, unsigned slot,
    const uint8_t key_hash[PAYMENT_KEY_HASH_SIZE],
    const uint8_t secret[PAYMENT_SECRET_SIZE])
{
    uint8_t   half, hash[PAYMENT_HASH_SIZE];
    unsigned  i, fraction;
    uint64_t  us, ms;

    if (!payment_id_of_key(hash, key_hash, secret)) {
        return 0;
    }

    us = now_us > 0 ? (uint64_t) now_us : 0;
    ms = us / 1000;
    fraction = (unsigned) (us % 1000 * 4096 / 1000);
    slot %= PAYMENT_SLOTS;

    for (i = 0; i < 6; i++) {
        id[i] = (uint8_t) (ms >> (40 - 8 * i));
    }

    id[6] = (uint8_t) (0x70 | fraction >> 8);
    id[7] = (uint8_t) fraction;

    half = hash[PAYMENT_ID_END_SIZE] & 0x0f;

    if (half == (key_hash[PAYMENT_ID_OWN_SIZE - 1] & 0x0f)) {
        half ^= 0x08;
    }

    /* the variant's 2 bits, then the slot's 10 */

    id[8] = (uint8_t) (0x80 | slot >> 4);
    id[9] = (uint8_t) ((slot & 0x0f) << 4 | half);

    memcpy(id + PAYMENT_ID_OWN_SIZE, hash, PAYMENT_ID_END_SIZE);

    return 1;
}


int
payment_id_end(uint8_t end[PAYMENT_ID_END_SIZE],
    const uint8_t key_hash[PAYMENT_KEY_HASH_SIZE],
    const uint8_t secret[PAYMENT_SECRET_SIZE])
{
    uint8_t  hash[PAYMENT_HASH_SIZE];

    if (!payment_id_of_key(hash, key_hash, secret)) {
        return 0;
    }

    memcpy(end, hash, PAYMENT_ID_END_SIZE);

    return 1;
}


static int
payment_id_of_key(uint8_t hash[PAYMENT_HASH_SIZE],
    const uint8_t key_hash[PAYMENT_KEY_HASH_SIZE],
    const uint8_t secret[PAYMENT_SECRET_SIZE])
{
    payment_bytes_t  parts[2];

    parts[0].data = secret;
    parts[0].len = PAYMENT_SECRET_SIZE;
    parts[1].data = key_hash;
    parts[1].len = PAYMENT_KEY_HASH_SIZE;

    return payment_hash(hash, parts, 2);
}


unsigned
payment_id_merchant_slot(const char *merchant, size_t len)
{
    size_t    i;
    uint32_t  crc;

    /* CRC-32 of IEEE 802.3, reflected, by half bytes */

    static const uint32_t  table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
        0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c
    };

    crc = 0xffffffff;

    for (i = 0; i < len; i++) {
        crc ^= (unsigned char) merchant[i];
        crc = table[crc & 0x0f] ^ crc >> 4;
        crc = table[crc & 0x0f] ^ crc >> 4;
    }

    return (crc ^ 0xffffffff) % PAYMENT_SLOTS;
}


void
payment_id_format(char text[PAYMENT_ID_TEXT_LEN],
    const uint8_t id[PAYMENT_ID_SIZE])
{
    char      *p;
    unsigned   i;

    static const char  hex[] = "0123456789abcdef";

    p = text;

    for (i = 0; i < PAYMENT_ID_SIZE; i++) {

        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *p++ = '-';
        }

        *p++ = hex[id[i] >> 4];
        *p++ = hex[id[i] & 0x0f];
    }
}


int
payment_id_parse(uint8_t id[PAYMENT_ID_SIZE], const char *text, size_t len)
{
    int          high, low;
    unsigned     i;
    const char  *p;

    if (len != PAYMENT_ID_TEXT_LEN) {
        return 0;
    }

    p = text;

    for (i = 0; i < PAYMENT_ID_SIZE; i++) {

        if (i == 4 || i == 6 || i == 8 || i == 10) {
            if (*p++ != '-') {
                return 0;
            }
        }

        high = payment_id_hex((unsigned char) *p++);
        low = payment_id_hex((unsigned char) *p++);

        if (high < 0 || low < 0) {
            return 0;
        }

        id[i] = (uint8_t) (high << 4 | low);
    }

    return 1;
}


static int
payment_id_hex(unsigned char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }

    return -1;
}
