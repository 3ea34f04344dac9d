/* Random bytes: see ngx_http_payment_random.h. */

#include "ngx_http_payment_random.h"

#include <sys/random.h>


ngx_int_t
ngx_http_payment_random(u_char *p, size_t len)
{
    ssize_t        n;
    static u_char  pool[4096];
    static size_t  left;

    if (left < len) {
        do {
            n = getrandom(pool, sizeof(pool), 0);
        } while (n == -1 && ngx_errno == NGX_EINTR);

        if (n < (ssize_t) len) {
            return NGX_ERROR;
        }

        left = (size_t) n;
    }

    left -= len;
    ngx_memcpy(p, pool + left, len);
    ngx_memzero(pool + left, len);

    return NGX_OK;
}
