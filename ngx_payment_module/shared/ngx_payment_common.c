/*
 * One choice of the primary for all processes: see ngx_payment_common.h.
 *
 * A choice is a number (16 bits), the digest of a server's name (24 bits, never
 * 0) and the digest of what that server says of itself (24 bits; 0: nobody has
 * asked it yet).  The server is kept by its name and not by its place in the
 * list, for workers of two configurations share the choice for a while.
 */

#include "ngx_payment_common.h"


#define NGX_PAYMENT_COMMON_DIGEST   0xffffff
#define NGX_PAYMENT_COMMON_NUMBER   0xffff

#define NGX_PAYMENT_COMMON_BY_HELPER    1       /* a bit of what was told */

#define ngx_payment_common_choice(number, server, identity)                   \
    ((uint64_t) ((number) & NGX_PAYMENT_COMMON_NUMBER) << 48                  \
     | (uint64_t) (server) << 24 | (identity))

#define ngx_payment_common_number(choice)                                     \
    ((choice) >> 48)
#define ngx_payment_common_name(choice)                                       \
    ((choice) >> 24 & NGX_PAYMENT_COMMON_DIGEST)
#define ngx_payment_common_identity(choice)                                   \
    ((choice) & NGX_PAYMENT_COMMON_DIGEST)


static uint64_t ngx_payment_common_digest(const void *text, size_t len);
static uint64_t ngx_payment_common_name_of(const ngx_payment_shard_t *shard,
    ngx_uint_t server);
static ngx_uint_t ngx_payment_common_choose(ngx_payment_shard_t *shard,
    uint64_t from, uint64_t name);
static ngx_uint_t ngx_payment_common_set(ngx_payment_shard_t *shard,
    uint64_t from, uint64_t to);


ngx_payment_common_shard_t *
ngx_payment_common_shard(ngx_payment_common_t *common,
    const ngx_str_t *name)
{
    ngx_uint_t                 i;
    ngx_payment_common_shard_t  *s;

    for (i = 0; i < common->n; i++) {
        s = &common->shards[i];

        if (ngx_strncmp(s->name, name->data, name->len) == 0
            && s->name[name->len] == '\0')
        {
            return s;
        }
    }

    if (common->n == NGX_PAYMENT_COMMON_SHARDS) {
        return NULL;
    }

    s = &common->shards[common->n++];
    ngx_memcpy(s->name, name->data, name->len);

    return s;
}


uint64_t
ngx_payment_common_primary(ngx_payment_shard_t *shard)
{
    uint64_t    choice;
    ngx_uint_t  i;

    for ( ;; ) {
        choice = shard->common->primary;

        for (i = 0; i < shard->servers.nelts; i++) {
            if (ngx_payment_common_name_of(shard, i)
                == ngx_payment_common_name(choice))
            {
                return choice;
            }
        }

        /* none yet, or one of a configuration that was: an old worker leaves
         * the choice to those of the new one */

        if (ngx_exiting
            || ngx_payment_common_choose(shard, choice,
                                       ngx_payment_common_name_of(shard, 0)))
        {
            return shard->common->primary;
        }
    }
}


ngx_uint_t
ngx_payment_common_server(const ngx_payment_shard_t *shard, uint64_t choice)
{
    ngx_uint_t  i;

    for (i = shard->servers.nelts - 1; i > 0; i--) {
        if (ngx_payment_common_name_of(shard, i)
            == ngx_payment_common_name(choice))
        {
            break;
        }
    }

    return i;
}


ngx_int_t
ngx_payment_common_confirm(ngx_payment_shard_t *shard, uint64_t *choice,
    const char *identity, const char *how, ngx_log_t *log)
{
    uint64_t               now, digest, confirmed;
    ngx_uint_t             level;
    ngx_payment_server_t  *server;

    digest = ngx_payment_common_digest(identity, ngx_strlen(identity));

    for ( ;; ) {
        now = shard->common->primary;

        if (now >> 24 != *choice >> 24) {
            return NGX_AGAIN;
        }

        if (ngx_payment_common_identity(now) == digest) {
            *choice = now;
            return NGX_OK;
        }

        if (ngx_payment_common_identity(now)) {
            return NGX_DECLINED;
        }

        if (ngx_exiting) {
            *choice = now;
            return NGX_OK;
        }

        if (ngx_payment_common_set(shard, now, now | digest)) {
            break;
        }
    }

    *choice = now | digest;

    /* one process says so, and only what is new */

    confirmed = shard->common->confirmed;
    shard->common->confirmed = *choice;

    if (((confirmed ^ *choice) & 0xffffffffffff) != 0) {
        server = shard->servers.elts;
        server += ngx_payment_common_server(shard, *choice);

        level = confirmed ? NGX_LOG_WARN : NGX_LOG_NOTICE;

        ngx_log_error(level, log, 0,
                      "payment: shard \"%V\": %V is the primary now (%s), %s",
                      &shard->name, &server->name, identity, how);
    }

    return NGX_OK;
}


ngx_uint_t
ngx_payment_common_move(ngx_payment_shard_t *shard, uint64_t choice)
{
    ngx_uint_t  server;

    server = ngx_payment_common_server(shard, choice) + 1;

    return ngx_payment_common_choose(shard, choice,
               ngx_payment_common_name_of(shard,
                                          server % shard->servers.nelts));
}


ngx_uint_t
ngx_payment_common_leave(ngx_payment_shard_t *shard, uint64_t choice)
{
    ngx_atomic_t  *left;

    left = &shard->common->left;

    if (*left
        && (ngx_msec_int_t) (ngx_current_msec - (ngx_msec_t) *left)
           < NGX_PAYMENT_COMMON_STAY)
    {
        return 0;
    }

    if (!ngx_payment_common_move(shard, choice)) {
        return 0;
    }

    *left = ngx_current_msec;

    return 1;
}


ngx_uint_t
ngx_payment_common_renew(ngx_payment_shard_t *shard, uint64_t choice)
{
    uint64_t  now;

    /* the choice by which the server was found to be another one lacks what the
     * one that stands was confirmed with */

    now = shard->common->primary;

    return now >> 24 == choice >> 24
           && ngx_payment_common_choose(shard, now,
                                        ngx_payment_common_name(now));
}


ngx_uint_t
ngx_payment_common_tell(ngx_payment_shard_t *shard, ngx_uint_t server,
    uint32_t digest, ngx_uint_t helper)
{
    ngx_uint_t          known;
    ngx_atomic_t       *told;
    ngx_atomic_uint_t   before, after;

    told = &shard->common->told[server];
    after = (ngx_atomic_uint_t) digest | NGX_PAYMENT_COMMON_BY_HELPER;

    if (!helper) {
        after ^= NGX_PAYMENT_COMMON_BY_HELPER;
    }

    do {
        before = *told;
        known = ((before ^ after) & ~NGX_PAYMENT_COMMON_BY_HELPER) == 0;

        if (known && (helper || before == after)) {
            return 0;
        }

        /* a worker that meets what a helper told makes it the workers' own */

    } while (!ngx_atomic_cmp_set(told, before, after));

    return !known;
}


ngx_uint_t
ngx_payment_common_untell(ngx_payment_shard_t *shard, ngx_uint_t helper)
{
    ngx_uint_t         i, over;
    ngx_atomic_t      *told;
    ngx_atomic_uint_t  before;

    over = 0;

    for (i = 0; i < NGX_PAYMENT_SERVERS_MAX; i++) {
        told = &shard->common->told[i];
        before = *told;

        if (helper && !(before & NGX_PAYMENT_COMMON_BY_HELPER)) {
            continue;
        }

        if (before && ngx_atomic_cmp_set(told, before, 0)) {
            over = 1;
        }
    }

    return over;
}


void
ngx_payment_common_take(ngx_payment_shard_t *shard, ngx_uint_t server)
{
    uint64_t  now;

    do {
        now = shard->common->primary;
    } while (!ngx_exiting
             && !ngx_payment_common_choose(shard, now,
                                      ngx_payment_common_name_of(shard,
                                                                 server)));
}


ngx_uint_t
ngx_payment_common_epoch(ngx_payment_shard_t *shard, uint64_t epoch)
{
    uint64_t  known;

    do {
        known = shard->common->epoch;

        if (epoch <= known) {
            return epoch == known;
        }

    } while (!ngx_atomic_cmp_set(&shard->common->epoch, known, epoch));

    return 1;
}


ngx_uint_t
ngx_payment_common_seen(const ngx_payment_shard_t *shard)
{
    ngx_msec_t  seen;

    seen = (ngx_msec_t) shard->common->seen;

    /* another process may be ahead of this one's clock */

    return seen
           && (ngx_msec_int_t) (ngx_current_msec - seen)
              < NGX_PAYMENT_COMMON_SEEN;
}


/* Another choice, which is to be confirmed. */

static ngx_uint_t
ngx_payment_common_choose(ngx_payment_shard_t *shard, uint64_t from,
    uint64_t name)
{
    return ngx_payment_common_set(shard, from,
               ngx_payment_common_choice(ngx_payment_common_number(from) + 1,
                                         name, 0));
}


/* A worker that is on its way out decides nothing for those that stay. */

static ngx_uint_t
ngx_payment_common_set(ngx_payment_shard_t *shard, uint64_t from, uint64_t to)
{
    return !ngx_exiting
           && ngx_atomic_cmp_set(&shard->common->primary, from, to);
}


static uint64_t
ngx_payment_common_name_of(const ngx_payment_shard_t *shard, ngx_uint_t server)
{
    ngx_payment_server_t  *servers;

    servers = shard->servers.elts;

    return ngx_payment_common_digest(servers[server].name.data,
                                   servers[server].name.len);
}


static uint64_t
ngx_payment_common_digest(const void *text, size_t len)
{
    uint64_t  digest;

    digest = ngx_crc32_long((u_char *) text, len) & NGX_PAYMENT_COMMON_DIGEST;

    return digest ? digest : 1;
}
