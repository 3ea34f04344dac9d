/*
 * A test of the configuration that connects:
 *
 *     PAYMENT_CHECK=connect nginx -t
 *
 * nginx -t touches no server, so it cannot know that a password is wrong; a
 * reload with it lets the workers go whose connections were good.  With this
 * word in the environment nginx -t also connects to each server of each shard,
 * as a worker would, and prepares the workers' statements there, which asks for
 * tables and rights, too.  It fails if a shard has no server that would do.
 *
 * Called by nginx -t alone.  Bounded by connect_timeout for each
 * server, one after the other.
 */

#include "ngx_http_payment_module.h"
#include "ngx_payment_attempt.h"
#include "ngx_payment_columns.h"
#include "ngx_payment_identity.h"
#include "ngx_payment_transaction.h"


static ngx_uint_t ngx_http_payment_check_shard(ngx_payment_shard_t *shard,
    ngx_log_t *log);
static ngx_uint_t ngx_http_payment_check_server(ngx_payment_shard_t *shard,
    ngx_payment_server_t *server, ngx_log_t *log);
static void ngx_http_payment_check_advise(ngx_payment_shard_t *shard,
    ngx_payment_server_t *server, const ngx_payment_attempt_t *a);


ngx_int_t
ngx_http_payment_check(ngx_cycle_t *cycle)
{
    char                          *wanted;
    ngx_uint_t                     i, failed;
    ngx_payment_shard_t          **shards;
    ngx_http_payment_main_conf_t  *pmcf;

    wanted = getenv("PAYMENT_CHECK");

    if (wanted == NULL) {
        return NGX_OK;
    }

    if (ngx_strcmp(wanted, "connect") != 0) {
        ngx_log_stderr(0, "PAYMENT_CHECK must be \"connect\"");
        return NGX_ERROR;
    }

    pmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_payment_module);

    if (pmcf == NULL) {
        return NGX_OK;
    }

    shards = pmcf->shards.elts;
    failed = 0;

    for (i = 0; i < pmcf->shards.nelts; i++) {
        if (!ngx_http_payment_check_shard(shards[i], cycle->log)) {
            ngx_log_stderr(0, "payment_shard \"%V\" has no server that takes "
                           "payments", &shards[i]->name);
            failed = 1;
        }
    }

    return failed ? NGX_ERROR : NGX_OK;
}


/* How many of its servers would do. */

static ngx_uint_t
ngx_http_payment_check_shard(ngx_payment_shard_t *shard, ngx_log_t *log)
{
    ngx_uint_t             i, good;
    ngx_payment_server_t  *servers;

    servers = shard->servers.elts;
    good = 0;

    for (i = 0; i < shard->servers.nelts; i++) {
        good += ngx_http_payment_check_server(shard, &servers[i], log);
    }

    return good;
}


static ngx_uint_t
ngx_http_payment_check_server(ngx_payment_shard_t *shard,
    ngx_payment_server_t *server, ngx_log_t *log)
{
    const char             *objection;
    ngx_uint_t              error;
    ngx_payment_shard_t     one;
    ngx_payment_attempt_t  *a;

    /* an attempt goes to the primary: here that is the only server */

    one = *shard;
    one.servers.elts = server;
    one.servers.nelts = 1;

    a = ngx_payment_attempt_create(&one, ngx_payment_transaction_session,
                                   ngx_payment_columns_sql(shard), log);
    if (a == NULL) {
        return 0;
    }

    a->identity.unclaimed = "a test writes nothing";

    error = ngx_payment_attempt_run(a, log);

    if (error == 0
        && ngx_payment_identity_found(shard, &a->identity, a->message,
                                      sizeof(a->message))
           != NGX_OK)
    {
        error = NGX_PAYMENT_DB_E_IDENTITY;
    }

    objection = error ? NULL
                      : ngx_payment_topology_objection(shard, &a->topology);

    if (objection) {
        ngx_log_stderr(0, "payment_shard \"%V\", server \"%V\" %s",
                       &shard->name, &server->name, objection);
        error = NGX_PAYMENT_DB_E_TOPOLOGY;

    } else if (error == NGX_PAYMENT_DB_E_IDENTITY && a->identity.nobodys) {
        ngx_log_stderr(0, "payment_shard \"%V\", server \"%V\": the database "
                       "is nobody's yet, the first connection makes it this "
                       "shard's", &shard->name, &server->name);
        error = 0;

    } else if (error) {
        ngx_log_stderr(0, "payment_shard \"%V\", server \"%V\": %s failed: "
                       "(%ui) %s", &shard->name, &server->name, a->phase,
                       error, a->message);
    } else {
        ngx_log_stderr(0, "payment_shard \"%V\", server \"%V\" takes payments",
                       &shard->name, &server->name);
        ngx_http_payment_check_advise(shard, server, a);
    }

    ngx_payment_attempt_free(a);

    return error == 0;
}


static void
ngx_http_payment_check_advise(ngx_payment_shard_t *shard,
    ngx_payment_server_t *server, const ngx_payment_attempt_t *a)
{
    ngx_uint_t                        i;
    const ngx_payment_requirement_t  *r;

    for (i = 0; i < NGX_PAYMENT_REQUIREMENTS; i++) {
        r = &ngx_payment_requirements[i];

        if (a->advice & (ngx_uint_t) 1 << i) {
            ngx_log_stderr(0, "payment_shard \"%V\", server \"%V\": %s is %s, "
                           "%s", &shard->name, &server->name, r->name,
                           a->said[i], r->otherwise);
        }
    }
}
