/*
 * The last transaction of a shard, by its GTID, whose payments were answered
 * with durability replica: a server that lacks it was promoted wrongly, and
 * gets no payment before an operator has accepted the loss.
 *
 * Known to all processes in shared memory (ngx_payment_common.h), and kept over
 * a restart of nginx in a file, which is up to a second old.  A server is asked
 * for its gtid_binlog_state, which has the last number of each server that
 * transactions began at, and not only the last of all: a server that has taken
 * other transactions since is not mistaken for one that has these.
 *
 * gtid_strict_mode, which durability replica needs, makes numbers rise over all
 * servers of a shard.
 */

#ifndef NGX_PAYMENT_GTID_H
#define NGX_PAYMENT_GTID_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_common.h"
#include "ngx_payment_shard.h"


#define NGX_PAYMENT_GTID_LEN   42       /* "4294967295-4294967295-1844.." */


typedef struct {
    uint32_t    domain;
    uint32_t    server_id;              /* that it began at */
    uint64_t    number;                 /* 0: none */
} ngx_payment_gtid_t;


/* "0-1-100", or the beginning of a list of such; returns the rest behind it.
 * NULL: there is none. */
const char *ngx_payment_gtid_parse(const char *text, ngx_payment_gtid_t *gtid);

/* Does a server with this gtid_binlog_state have the transaction? */
ngx_uint_t ngx_payment_gtid_in(const ngx_payment_gtid_t *gtid,
    const char *state);

/* A transaction was confirmed; the last one that was; none was. */
void ngx_payment_gtid_confirmed(ngx_payment_shard_t *shard, const char *text);
void ngx_payment_gtid_last(const ngx_payment_shard_t *shard,
    ngx_payment_gtid_t *gtid);
void ngx_payment_gtid_forget(ngx_payment_shard_t *shard);

/* The file: read by the master when nginx starts, written by one worker. */
void ngx_payment_gtid_load(ngx_payment_shard_t *shard, ngx_log_t *log);
void ngx_payment_gtid_save(ngx_payment_shard_t *shard, ngx_log_t *log);

#endif /* NGX_PAYMENT_GTID_H */
