/* Which server has the payments: see ngx_payment_topology.h. */

#include "ngx_payment_requirement.h"
#include "ngx_payment_topology.h"


#define NGX_PAYMENT_TOPOLOGY_HEAD                                             \
    "SELECT @@global.read_only, epoch, server_id, @@global.server_id"

#define NGX_PAYMENT_TOPOLOGY_WAITS                                            \
    ", @@global.rpl_semi_sync_master_enabled = 1"                             \
    " AND @@global.rpl_semi_sync_master_wait_point = 'AFTER_SYNC'"            \
    " AND @@global.rpl_semi_sync_master_wait_no_slave = 1"                    \
    " AND @@global.rpl_semi_sync_master_timeout >= "                          \
    NGX_PAYMENT_REQUIREMENT_PATIENCE

#define NGX_PAYMENT_TOPOLOGY_TAIL                                             \
    " FROM payment_topology WHERE only_row = 1"

#define NGX_PAYMENT_TOPOLOGY_LOCK  " LOCK IN SHARE MODE"


/* the columns of the above */

typedef enum {
    NGX_PAYMENT_TOPOLOGY_READ_ONLY = 0,
    NGX_PAYMENT_TOPOLOGY_EPOCH,
    NGX_PAYMENT_TOPOLOGY_CLAIMED,
    NGX_PAYMENT_TOPOLOGY_SERVER_ID,
    NGX_PAYMENT_TOPOLOGY_WAITING
} ngx_payment_topology_column_e;


/* by ngx_payment_durability_e, and whether the row is locked */

static const ngx_str_t  ngx_payment_topology_statements[][2] = {
    {
        ngx_string(NGX_PAYMENT_TOPOLOGY_HEAD NGX_PAYMENT_TOPOLOGY_TAIL),
        ngx_string(NGX_PAYMENT_TOPOLOGY_HEAD NGX_PAYMENT_TOPOLOGY_TAIL
                   NGX_PAYMENT_TOPOLOGY_LOCK)
    },
    {
        ngx_string(NGX_PAYMENT_TOPOLOGY_HEAD NGX_PAYMENT_TOPOLOGY_WAITS
                   NGX_PAYMENT_TOPOLOGY_TAIL),
        ngx_string(NGX_PAYMENT_TOPOLOGY_HEAD NGX_PAYMENT_TOPOLOGY_WAITS
                   NGX_PAYMENT_TOPOLOGY_TAIL NGX_PAYMENT_TOPOLOGY_LOCK)
    }
};


/* _no_tx: commits that were not confirmed; _no_times: how often the server has
 * ceased to wait */

static const ngx_str_t  ngx_payment_topology_unconfirmed_question =
    ngx_string("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_no_t%'");

static const ngx_str_t  ngx_payment_topology_voters_question =
    ngx_string("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'");


const ngx_str_t *
ngx_payment_topology_sql(ngx_uint_t durability, ngx_uint_t locked)
{
    return &ngx_payment_topology_statements[durability][locked ? 1 : 0];
}


void
ngx_payment_topology_read(MYSQL_RES *result, ngx_payment_topology_t *t)
{
    MYSQL_ROW  row;

    ngx_memzero(t, sizeof(ngx_payment_topology_t));

    row = mysql_fetch_row(result);

    if (row == NULL) {
        return;
    }

    t->known = 1;
    t->writable = row[NGX_PAYMENT_TOPOLOGY_READ_ONLY]
                  && ngx_payment_requirement_met(
                         NGX_PAYMENT_REQUIREMENT_READ_ONLY,
                         row[NGX_PAYMENT_TOPOLOGY_READ_ONLY]);

    t->epoch = strtoull(row[NGX_PAYMENT_TOPOLOGY_EPOCH], NULL, 10);
    t->server_id = strtoull(row[NGX_PAYMENT_TOPOLOGY_SERVER_ID], NULL, 10);

    t->waits = mysql_num_fields(result) > NGX_PAYMENT_TOPOLOGY_WAITING
               && row[NGX_PAYMENT_TOPOLOGY_WAITING]
               && row[NGX_PAYMENT_TOPOLOGY_WAITING][0] == '1';

    if (row[NGX_PAYMENT_TOPOLOGY_CLAIMED]) {
        t->claims = 1;
        t->claimed = strtoull(row[NGX_PAYMENT_TOPOLOGY_CLAIMED], NULL, 10);
    }
}


const char *
ngx_payment_topology_objection(ngx_payment_shard_t *shard,
    const ngx_payment_topology_t *t)
{
    if (!t->known) {
        return "has no row in payment_topology";
    }

    if (!t->writable) {
        return "is read-only";
    }

    if (!ngx_payment_common_epoch(shard, t->epoch)) {
        return "has an earlier epoch in payment_topology than another server";
    }

    if (t->claims && t->claimed == 0) {
        return "says that the payments are frozen, until a server claims them";
    }

    if (t->claims && t->claimed != t->server_id) {
        return "says that another server has claimed the payments";
    }

    if (shard->durability == NGX_PAYMENT_DURABILITY_LOCAL) {
        return NULL;
    }

    if (!t->claims) {
        return "says that no server has claimed the payments, and durability "
               "replica asks for that";
    }

    if (!t->waits) {
        return "does not wait for replicas as durability replica asks";
    }

    return NULL;
}


ngx_uint_t
ngx_payment_topology_fit(ngx_payment_shard_t *shard, MYSQL_RES *result)
{
    ngx_payment_topology_t  t;

    ngx_payment_topology_read(result, &t);

    if (t.claims) {
        shard->common->claimed = 1;
    }

    return ngx_payment_topology_objection(shard, &t) == NULL;
}


const ngx_str_t *
ngx_payment_topology_unconfirmed_sql(void)
{
    return &ngx_payment_topology_unconfirmed_question;
}


const ngx_str_t *
ngx_payment_topology_voters_sql(void)
{
    return &ngx_payment_topology_voters_question;
}


uint64_t
ngx_payment_topology_sum(MYSQL_RES *result)
{
    uint64_t   sum;
    MYSQL_ROW  row;

    sum = 0;

    while ((row = mysql_fetch_row(result)) != NULL) {
        sum += strtoull(row[1], NULL, 10);
    }

    return sum;
}
