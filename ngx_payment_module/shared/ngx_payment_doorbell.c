/* Waking the helper: see ngx_payment_doorbell.h. */

#include "ngx_payment_doorbell.h"


void
ngx_payment_doorbell_ring(ngx_fd_t doorbell, ngx_atomic_t *armed)
{
    ssize_t   n;
    uint64_t  one;

    if (doorbell == NGX_INVALID_FILE || !ngx_atomic_cmp_set(armed, 1, 0)) {
        return;
    }

    one = 1;
    n = write(doorbell, &one, sizeof(one));

    /* EAGAIN: the eventfd's counter is full, so the helper is to wake anyway */
    (void) n;
}
