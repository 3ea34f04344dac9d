/*
 * A shard: some of the slots that merchants are spread over, the MariaDB
 * servers that have them, and how to connect there.
 *
 * A payment_shard{} block, read by http/ngx_http_payment_shard.c and used by
 * the workers and the helper.  Everything is set by the configuration and stays
 * as it is, but for what is at the end of ngx_payment_shard_t and a server's
 * last_error, of which each process has its own.
 */

#ifndef NGX_PAYMENT_SHARD_H
#define NGX_PAYMENT_SHARD_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_storm.h"


#define NGX_PAYMENT_SERVERS_MAX     8       /* of a shard */
#define NGX_PAYMENT_SHARD_NAME_LEN  32
#define NGX_PAYMENT_UUID_LEN        36      /* bytes: an installation's */
#define NGX_PAYMENT_SECRET_LEN      16      /* bytes: payment_identity */


/* what all processes of this nginx know of a shard: ngx_payment_common.h */
typedef struct ngx_payment_common_shard_s  ngx_payment_common_shard_t;


/* Where a payment is when it is answered. */

typedef enum {
    NGX_PAYMENT_DURABILITY_LOCAL = 0,      /* on the primary's disk */
    NGX_PAYMENT_DURABILITY_REPLICA         /* and at a replica */
} ngx_payment_durability_e;


/* Slots of a shard, both ends included. */

typedef struct {
    ngx_uint_t                 first;
    ngx_uint_t                 last;
} ngx_payment_slots_t;


/* A server of a shard: host is an address, a name, or a unix socket's path. */

typedef struct {
    ngx_str_t                  name;        /* as configured, terminated */
    ngx_str_t                  host;        /* terminated; empty: unix socket */
    ngx_str_t                  path;        /* terminated; empty: TCP */
    in_port_t                  port;

    uint32_t                   last_error;  /* digest of what was logged of
                                               it; 0: all is well */
    ngx_uint_t                 parked;      /* connections given up, at which
                                               it may still be at work */
} ngx_payment_server_t;


typedef struct {
    ngx_str_t                  name;
    ngx_uint_t                 index;       /* 0.. in order of configuration */
    ngx_array_t                slots;       /* of ngx_payment_slots_t */
    ngx_str_t                  slots_text;  /* the same, sorted and joined:
                                               "0-99 200-299", terminated */
    ngx_array_t                servers;     /* of ngx_payment_server_t */
    ngx_array_t               *peers;       /* of ngx_payment_shard_t *: all
                                               shards, this one too */

    ngx_str_t                  database;    /* terminated, as all below */
    ngx_str_t                  belongs_to;  /* an installation's UUID; empty:
                                               any, or nobody */
    ngx_str_t                  user;
    ngx_str_t                  password;
    ngx_str_t                  ssl_ca;
    ngx_str_t                  ssl_certificate;
    ngx_str_t                  ssl_certificate_key;
    ngx_flag_t                 ssl;
    ngx_flag_t                 ssl_verify;

    ngx_uint_t                 durability;  /* ngx_payment_durability_e */
    ngx_flag_t                 archive;     /* its events are kept */
    ngx_flag_t                 operations;  /* so are its operations */
    ngx_uint_t                 expiry;      /* authorizations may end */
    ngx_uint_t                 connections;
    ngx_msec_t                 connect_timeout;
    ngx_msec_t                 read_timeout;
    ngx_msec_t                 idle_timeout;    /* 0: none */
    ngx_msec_t                 max_age;         /* 0: none */
    ngx_uint_t                 max_requests;    /* 0: none */

    ngx_str_t                  confirmed_file;  /* see ngx_payment_gtid.h,
                                               terminated; empty: none */

    /* in shared memory: of this shard, and of the installation */
    ngx_payment_common_shard_t  *common;
    ngx_atomic_t              *installation;

    /* of this process: how many connections are open, what was said of their
     * server (1 << ngx_payment_requirement_e), that the file above could not be
     * written, lines about batches that failed, and the installation's secret,
     * which the first connection brings */
    ngx_uint_t                 open;
    ngx_uint_t                 warned;
    ngx_uint_t                 unsaved;
    ngx_payment_storm_t        failures;
    u_char                     secret[NGX_PAYMENT_SECRET_LEN];
} ngx_payment_shard_t;

#endif /* NGX_PAYMENT_SHARD_H */
