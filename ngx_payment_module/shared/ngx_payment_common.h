/*
 * What all processes of this nginx agree on about a shard: which of its servers
 * is the primary, that its database is the right one, and what was seen of its
 * servers' claims.
 *
 * In shared memory, which lives on through a reload: a process that is new
 * takes the choice of those that were there, and does not begin with the first
 * server of the list.  A shard is known by its name.  Any process.  Atomics
 * only, no lock: a process that dies in the middle of an update leaves nothing
 * behind.
 *
 * The primary is a choice: one word with the server's name, what the server
 * says of itself, and a number that rises with each choice.  A connection keeps
 * the choice that it was opened by, and is used as long as that one stands.
 *
 *     NONE -> a server, by its name -> the same, confirmed -> the next server
 *
 * Where a server has claimed the payments (payment_topology), that one is the
 * primary, and no other is tried: the probe sees it and says so.
 */

#ifndef NGX_PAYMENT_COMMON_H
#define NGX_PAYMENT_COMMON_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_shard.h"
#include "ngx_payment_stats.h"


/* names of shards, since nginx was started: reloads may bring new ones */
#define NGX_PAYMENT_COMMON_SHARDS     (2 * NGX_PAYMENT_SHARDS_MAX)

/* for how long it counts that most servers of a shard have answered */
#define NGX_PAYMENT_COMMON_SEEN       3000      /* ms */

/* how long a server stays that took the place of one which refused rows */
#define NGX_PAYMENT_COMMON_STAY       5000      /* ms */


struct ngx_payment_common_shard_s {
    ngx_atomic_t               primary;     /* the choice; 0: none yet */
    ngx_atomic_t               confirmed;   /* the last one that was */
    ngx_atomic_t               answered;    /* ngx_current_msec: the primary
                                               answered one of us */
    ngx_atomic_t               refused;     /* ngx_current_msec: a server said
                                               that it takes no writes, or has
                                               not the payments; 0: not since
                                               one was connected to */
    ngx_atomic_t               objected;    /* ngx_current_msec: the first that
                                               has not the payments said so; 0:
                                               none since, as above */
    ngx_atomic_t               last_error;  /* of connecting, or of a batch:
                                               ngx_payment_stats_error() */
    ngx_atomic_t               told[NGX_PAYMENT_SERVERS_MAX];
                                            /* digest of what was logged of a
                                               server that failed, the lowest
                                               bit of which says whether by a
                                               helper; 0: nothing since that was
                                               over */
    ngx_atomic_t               left;        /* ngx_current_msec: a server was
                                               left for what it refused */
    ngx_atomic_t               place;       /* digest of the database that is
                                               the shard's; 0: not seen yet */
    ngx_atomic_t               empty;       /* digest of one that is nobody's */

    ngx_atomic_t               epoch;       /* the highest that was seen, of all
                                               claims; it never falls */
    ngx_atomic_t               claimed;     /* 1: by that one, some server has
                                               the payments, or none has */
    ngx_atomic_t               frozen;      /* 1: none has, for a switch that
                                               somebody makes now */
    ngx_atomic_t               found;       /* 1: and it is the primary */
    ngx_atomic_t               seen;        /* ngx_current_msec: most of the
                                               servers had answered; 0: never */
    ngx_atomic_t               look;        /* 1: the probe is to look now */
    ngx_atomic_t               voters;      /* replicas that confirm what the
                                               primary commits */
    ngx_atomic_t               unvoted;     /* 1: for a second, none, or more
                                               than there may be */

    ngx_atomic_t               confirmed_number;    /* of the last transaction
                                               that a replica has: see
                                               ngx_payment_gtid.h */
    ngx_atomic_t               confirmed_began;     /* domain and server_id */
    ngx_atomic_t               confirmed_saved;     /* the number in the file */
    ngx_atomic_t               lacking;     /* 1: the primary lacks that one */

    u_char                     name[NGX_PAYMENT_SHARD_NAME_LEN + 1];
};


typedef struct {
    ngx_atomic_t               installation;    /* the first half of its UUID;
                                                   0: not known yet */
    ngx_uint_t                 n;
    ngx_payment_common_shard_t   shards[NGX_PAYMENT_COMMON_SHARDS];
} ngx_payment_common_t;


/* For the master, while it reads a configuration: NULL if there is no room. */
ngx_payment_common_shard_t *ngx_payment_common_shard(
    ngx_payment_common_t *common, const ngx_str_t *name);

/* The choice that stands, and its server as an index into shard->servers. */
uint64_t ngx_payment_common_primary(ngx_payment_shard_t *shard);
ngx_uint_t ngx_payment_common_server(const ngx_payment_shard_t *shard,
    uint64_t choice);

/*
 * A connection was made by a choice, and the server says which one it is; how,
 * that is the log's.
 * NGX_OK: it is the primary, and *choice is what the connection keeps.
 * NGX_AGAIN: the choice does not stand any more.  NGX_DECLINED: by this name,
 * another server was confirmed.
 */
ngx_int_t ngx_payment_common_confirm(ngx_payment_shard_t *shard,
    uint64_t *choice, const char *identity, const char *how, ngx_log_t *log);

/* The choice was wrong: the next server of the list, or the same name anew,
 * whichever server that is now.  1 if it was this call that moved on. */
ngx_uint_t ngx_payment_common_move(ngx_payment_shard_t *shard,
    uint64_t choice);
ngx_uint_t ngx_payment_common_renew(ngx_payment_shard_t *shard,
    uint64_t choice);

/* The same as ngx_payment_common_move() for a server that lets us in and
 * refuses what is asked of it.  The next one may do that, too: then it stays
 * the primary for NGX_PAYMENT_COMMON_STAY, and the choice goes in no circle. */
ngx_uint_t ngx_payment_common_leave(ngx_payment_shard_t *shard,
    uint64_t choice);


/* A server fails in this way: is it this process that logs it? */
ngx_uint_t ngx_payment_common_tell(ngx_payment_shard_t *shard,
    ngx_uint_t server, uint32_t digest, ngx_uint_t helper);

/* A process has connected.  1: something was told, and this process says that
 * it is over.  A helper says so of what no worker has met: it needs fewer
 * rights and connections than they do. */
ngx_uint_t ngx_payment_common_untell(ngx_payment_shard_t *shard,
    ngx_uint_t helper);

/* The server that has claimed the payments is the primary: all begin anew with
 * it, also if it was the primary before. */
void ngx_payment_common_take(ngx_payment_shard_t *shard, ngx_uint_t server);

/* A claim of this epoch was seen.  0: a later one is known. */
ngx_uint_t ngx_payment_common_epoch(ngx_payment_shard_t *shard,
    uint64_t epoch);

/* Have most servers of the shard answered lately? */
ngx_uint_t ngx_payment_common_seen(const ngx_payment_shard_t *shard);


static ngx_inline ngx_uint_t
ngx_payment_common_stands(const ngx_payment_shard_t *shard, uint64_t choice)
{
    return shard->common->primary == choice;
}


/* another server, or the same one anew, was chosen since */

static ngx_inline ngx_uint_t
ngx_payment_common_moved(const ngx_payment_shard_t *shard, uint64_t choice)
{
    return (shard->common->primary ^ choice) >> 24 != 0;
}

#endif /* NGX_PAYMENT_COMMON_H */
