/*
 * Keeping up the archive; see ngx_payment_archive.h.
 */

#include "ngx_payment_archive.h"
#include "ngx_payment_row.h"


/* seconds: while the server's clock is further from this helper's, no days are
 * made or dropped */
#define NGX_PAYMENT_ARCHIVE_CLOCK  "43200"


static ngx_uint_t ngx_payment_archive_answer(ngx_payment_archive_t *a,
    ngx_uint_t *changed);


ngx_int_t
ngx_payment_archive_step(void *part, uint64_t now_ms)
{
    ngx_payment_archive_t *a = part;

    if (!a->sh->conf->archive || now_ms < a->next_ms) {
        return NGX_DECLINED;
    }

    a->step_ms = now_ms;

    ngx_payment_fence_begin(a->fence);
    (void) ngx_payment_fence_add(a->fence, "SET @outbox_archive_more = 0");
    (void) ngx_payment_fence_add(a->fence,
            "BEGIN NOT ATOMIC IF ABS(UNIX_TIMESTAMP() - %T) < "
            NGX_PAYMENT_ARCHIVE_CLOCK " THEN CALL outbox_archive_upkeep(); "
            "ELSE SET @outbox_archive_more = 2; END IF; END", ngx_time());
    a->answer = ngx_payment_fence_add(a->fence,
            "SET STATEMENT lock_wait_timeout = 0 FOR "
            "SELECT @outbox_archive_more, BIT_XOR(CRC32(partition_name)) "
            "FROM information_schema.partitions "
            "WHERE table_schema = DATABASE() "
            "AND table_name = 'outbox_archive'");
    ngx_payment_fence_send(a->fence);

    return NGX_OK;
}


void
ngx_payment_archive_done(void *part, ngx_uint_t lost)
{
    ngx_payment_archive_t *a = part;

    uint64_t    now;
    ngx_uint_t  changed;

    now = ngx_payment_clock_ms();

    if (ngx_payment_fence_check_plain(a->fence, lost,
                                      "keeping up the archive's partitions")
        != NGX_OK)
    {
        a->next_ms = now + NGX_PAYMENT_ARCHIVE_RETRY;
        return;
    }

    switch (ngx_payment_archive_answer(a, &changed)) {

    case NGX_PAYMENT_ARCHIVE_MORE:
        a->next_ms = now + NGX_PAYMENT_ARCHIVE_SHARE * (now - a->step_ms + 1);

        if (changed) {
            a->next_ms = ngx_max(a->next_ms, now + NGX_PAYMENT_ARCHIVE_CHANGE);
        }

        break;

    case NGX_PAYMENT_ARCHIVE_BUSY:
        a->next_ms = now + NGX_PAYMENT_ARCHIVE_RETRY;
        break;

    default:
        a->next_ms = now + NGX_PAYMENT_ARCHIVE_INTERVAL;
    }
}


/* What the procedure has left to be done (see ngx_payment_archive.h), and
 * whether it has changed the partitions. */

static ngx_uint_t
ngx_payment_archive_answer(ngx_payment_archive_t *a, ngx_uint_t *changed)
{
    uint64_t   partitions;
    MYSQL_ROW  row;

    *changed = 0;
    row = mysql_fetch_row(a->answer->result);

    if (row == NULL) {
        return NGX_PAYMENT_ARCHIVE_DONE;
    }

    partitions = ngx_payment_row_number(row[1]);
    *changed = (partitions != a->partitions);
    a->partitions = partitions;

    return ngx_payment_row_number(row[0]);
}
