/*
 * Keeping up the archive; see ngx_payment_archive.h.
 */

#include "ngx_payment_archive.h"


ngx_int_t
ngx_payment_archive_step(void *part, uint64_t now_ms)
{
    ngx_payment_archive_t *a = part;

    if (!a->sh->conf->archive || now_ms < a->next_ms) {
        return NGX_DECLINED;
    }

    a->next_ms = now_ms + NGX_PAYMENT_ARCHIVE_INTERVAL;

    ngx_payment_fence_begin(a->fence);
    (void) ngx_payment_fence_add(a->fence, "CALL outbox_archive_upkeep()");
    ngx_payment_fence_send(a->fence);

    return NGX_OK;
}


void
ngx_payment_archive_done(void *part, ngx_uint_t lost)
{
    ngx_payment_archive_t *a = part;

    if (ngx_payment_fence_check_plain(a->fence, lost,
                                      "keeping up the archive's partitions")
        != NGX_OK)
    {
        a->next_ms = ngx_payment_clock_ms() + NGX_PAYMENT_ARCHIVE_RETRY;
    }
}
