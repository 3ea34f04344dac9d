/*
 * May a shard's payments be written to this server?  Its row in
 * payment_topology says which server has claimed them, and is looked at by each
 * connection when it is opened, and in each transaction before its COMMIT; or,
 * where nobody has claimed them, now and then.
 *
 * A row that claims nothing leaves it to read_only alone.  A replica has the
 * row of its primary, and so is not the one that is claimed; a primary that was
 * replaced has a row of its own still, but its epoch is over for every node
 * that has seen a later one.
 *
 * Pure, but for what this node has seen, in shared memory: the highest epoch,
 * and that there are claims.
 */

#ifndef NGX_PAYMENT_TOPOLOGY_H
#define NGX_PAYMENT_TOPOLOGY_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <mysql.h>

#include "ngx_payment_common.h"
#include "ngx_payment_shard.h"


/* What a statement of somebody who holds no result in his hands may add to its
 * condition; takes the highest epoch that is known.  A user who may write in
 * spite of read_only is not refused by the server. */
#define NGX_PAYMENT_TOPOLOGY_OURS                                             \
    " AND CONCAT(@@global.read_only) IN ('0', 'OFF')"                         \
    " AND EXISTS (SELECT 1 FROM payment_topology WHERE only_row = 1"          \
    " AND epoch >= %uL"                                                       \
    " AND (server_id IS NULL OR server_id = @@global.server_id))"


/* What a server says. */

typedef struct {
    uint64_t    epoch;
    uint64_t    claimed;        /* a server_id; 0: of no server */
    uint64_t    server_id;      /* its own */
    unsigned    known:1;        /* there is a row */
    unsigned    claims:1;       /* and it is not left to read_only */
    unsigned    writable:1;
    unsigned    waits:1;        /* for a replica, as durability replica asks */
} ngx_payment_topology_t;


/* The statement: one row, in the order that is known here alone.  Locked, the
 * row stays as it is until the transaction has ended. */
const ngx_str_t *ngx_payment_topology_sql(ngx_uint_t durability,
    ngx_uint_t locked);

/* What the statement's result says. */
void ngx_payment_topology_read(MYSQL_RES *result, ngx_payment_topology_t *t);

/* Why the server may not be written to, as the end of a sentence that begins
 * with its name; NULL: it may. */
const char *ngx_payment_topology_objection(ngx_payment_shard_t *shard,
    const ngx_payment_topology_t *t);

/* The two in one: 1 if the statement's result says that it may.  A claim that
 * is seen is told to all processes. */
ngx_uint_t ngx_payment_topology_fit(ngx_payment_shard_t *shard,
    MYSQL_RES *result);

/*
 * With durability replica: how often the server has answered a COMMIT that no
 * replica had confirmed, be it that somebody ended its wait (KILL QUERY answers
 * it with OK), or that waiting was switched off for a moment.  An answer of OK
 * is one of two servers if the number is the same after it as before.
 */

const ngx_str_t *ngx_payment_topology_unconfirmed_sql(void);

/* How many replicas confirm what the server commits. */
const ngx_str_t *ngx_payment_topology_voters_sql(void);

/* The answer to either. */
uint64_t ngx_payment_topology_sum(MYSQL_RES *result);

#endif /* NGX_PAYMENT_TOPOLOGY_H */
