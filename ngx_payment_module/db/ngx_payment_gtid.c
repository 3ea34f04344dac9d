/*
 * The last GTID that was confirmed: see ngx_payment_gtid.h.
 *
 * Two words of shared memory.  Only who raises the number changes where it
 * began, and who reads asks again as long as the two change.
 */

#include "ngx_payment_gtid.h"


#define NGX_PAYMENT_GTID_FORMAT     "%uD-%uD-%uL"

/* how often the two words are read again: they change together once in a
 * promotion */
#define NGX_PAYMENT_GTID_READS      100


const char *
ngx_payment_gtid_parse(const char *text, ngx_payment_gtid_t *gtid)
{
    char  *end;

    gtid->domain = (uint32_t) strtoul(text, &end, 10);

    if (end == text || *end != '-') {
        return NULL;
    }

    text = end + 1;
    gtid->server_id = (uint32_t) strtoul(text, &end, 10);

    if (end == text || *end != '-') {
        return NULL;
    }

    text = end + 1;
    gtid->number = strtoull(text, &end, 10);

    return (end == text) ? NULL : end;
}


ngx_uint_t
ngx_payment_gtid_in(const ngx_payment_gtid_t *gtid, const char *state)
{
    ngx_payment_gtid_t  last;

    while ((state = ngx_payment_gtid_parse(state, &last)) != NULL) {

        if (last.domain == gtid->domain && last.server_id == gtid->server_id) {
            return last.number >= gtid->number;
        }

        while (*state == ',' || *state == ' ' || *state == '\n') {
            state++;
        }
    }

    return 0;
}


void
ngx_payment_gtid_confirmed(ngx_payment_shard_t *shard, const char *text)
{
    uint64_t                     known, began;
    ngx_payment_gtid_t           gtid;
    ngx_payment_common_shard_t  *common;

    common = shard->common;

    if (ngx_payment_gtid_parse(text, &gtid) == NULL) {
        return;
    }

    do {
        known = common->confirmed_number;

        if (gtid.number <= known) {
            return;
        }

    } while (!ngx_atomic_cmp_set(&common->confirmed_number, known,
                                 gtid.number));

    began = (uint64_t) gtid.domain << 32 | gtid.server_id;

    if (common->confirmed_began != began) {
        common->confirmed_began = began;
    }
}


void
ngx_payment_gtid_last(const ngx_payment_shard_t *shard,
    ngx_payment_gtid_t *gtid)
{
    uint64_t                           began;
    ngx_uint_t                         i;
    const ngx_payment_common_shard_t  *common;

    common = shard->common;

    i = 0;

    do {
        began = common->confirmed_began;
        gtid->number = common->confirmed_number;
        ngx_memory_barrier();

    } while (began != common->confirmed_began && ++i < NGX_PAYMENT_GTID_READS);

    gtid->domain = (uint32_t) (began >> 32);
    gtid->server_id = (uint32_t) began;
}


void
ngx_payment_gtid_forget(ngx_payment_shard_t *shard)
{
    shard->common->confirmed_number = 0;
}


void
ngx_payment_gtid_load(ngx_payment_shard_t *shard, ngx_log_t *log)
{
    char      text[NGX_PAYMENT_GTID_LEN + 1];
    ssize_t   n;
    ngx_fd_t  fd;

    if (shard->confirmed_file.len == 0 || shard->common->confirmed_number) {
        return;
    }

    fd = ngx_open_file(shard->confirmed_file.data, NGX_FILE_RDONLY,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {

        if (ngx_errno != NGX_ENOENT) {
            ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                          ngx_open_file_n " \"%V\" failed",
                          &shard->confirmed_file);
        }

        return;
    }

    n = read(fd, text, NGX_PAYMENT_GTID_LEN);

    if (n == -1) {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno, "read() \"%V\" failed",
                      &shard->confirmed_file);
        n = 0;
    }

    (void) ngx_close_file(fd);

    text[n] = '\0';
    ngx_payment_gtid_confirmed(shard, text);
}


/* Whole or not at all: a file beside it takes its place. */

void
ngx_payment_gtid_save(ngx_payment_shard_t *shard, ngx_log_t *log)
{
    u_char              *p, text[NGX_PAYMENT_GTID_LEN + 1];
    u_char               aside[NGX_MAX_PATH];
    ngx_fd_t             fd;
    const char          *failed;
    ngx_payment_gtid_t   gtid;

    if (shard->confirmed_file.len == 0
        || shard->common->confirmed_number == shard->common->confirmed_saved)
    {
        return;
    }

    ngx_payment_gtid_last(shard, &gtid);

    /* also if it fails: the next transaction is another reason to try */

    shard->common->confirmed_saved = gtid.number;

    p = ngx_slprintf(text, text + sizeof(text), NGX_PAYMENT_GTID_FORMAT "\n",
                     gtid.domain, gtid.server_id, gtid.number);
    (void) ngx_slprintf(aside, aside + sizeof(aside), "%V.new%Z",
                        &shard->confirmed_file);

    fd = ngx_open_file(aside, NGX_FILE_WRONLY, NGX_FILE_TRUNCATE,
                       NGX_FILE_DEFAULT_ACCESS);
    failed = ngx_open_file_n;

    if (fd != NGX_INVALID_FILE) {
        failed = (write(fd, text, p - text) == p - text) ? NULL : "write()";
        (void) ngx_close_file(fd);

        if (failed == NULL
            && ngx_rename_file(aside, shard->confirmed_file.data)
               == NGX_FILE_ERROR)
        {
            failed = ngx_rename_file_n;
        }
    }

    if (failed && !shard->unsaved) {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                      "payment: shard \"%V\": %s \"%s\" failed: after a "
                      "restart of nginx, payments that a promotion has lost "
                      "will not be missed", &shard->name, failed, aside);
    }

    shard->unsaved = (failed != NULL);
}
