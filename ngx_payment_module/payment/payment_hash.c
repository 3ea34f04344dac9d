/*
 * SHA-256, by the one context of libcrypto that a process needs: to make one
 * for each hash, or to have the algorithm looked up by its name each time,
 * costs more than the hash.
 *
 * For one thread: the event loop's.
 */

#include <openssl/evp.h>

#include "payment.h"


int
payment_hash(uint8_t digest[PAYMENT_HASH_SIZE], const payment_bytes_t *parts,
    unsigned n)
{
    unsigned            i;
    static EVP_MD_CTX  *ctx;

    if (ctx == NULL) {
        ctx = EVP_MD_CTX_new();

        if (ctx == NULL) {
            return 0;
        }

        if (!EVP_DigestInit_ex(ctx, EVP_sha256(), NULL)) {
            EVP_MD_CTX_free(ctx);
            ctx = NULL;
            return 0;
        }

    } else if (!EVP_DigestInit_ex(ctx, NULL, NULL)) {
        return 0;
    }

    for (i = 0; i < n; i++) {
        if (!EVP_DigestUpdate(ctx, parts[i].data, parts[i].len)) {
            return 0;
        }
    }

    return EVP_DigestFinal_ex(ctx, digest, NULL);
}
