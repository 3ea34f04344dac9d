/*
 * A test of the configuration that connects:
 *
 *     PAYMENT_CHECK=connect nginx -t
 *
 * nginx -t touches no server, so it cannot know that a password is wrong; a
 * reload with it lets the workers go whose connections were good.  With this
 * word in the environment nginx -t also connects to each server of each shard,
 * as a worker would, and prepares the workers' statements there, which asks for
 * tables and rights, too; and asks for the helper's rights.  It fails if a
 * shard has no server that would do, or one whose events could not be
 * published.
 *
 * Called by nginx -t alone.  Bounded by connect_timeout for each
 * server, one after the other.
 */

#include "ngx_http_payment_module.h"
#include "ngx_payment_attempt.h"
#include "ngx_payment_columns.h"
#include "ngx_payment_identity.h"
#include "ngx_payment_rights.h"
#include "ngx_payment_transaction.h"


static ngx_uint_t ngx_http_payment_check_shard(
    ngx_http_payment_main_conf_t *pmcf, ngx_payment_shard_t *shard,
    ngx_log_t *log);
static ngx_uint_t ngx_http_payment_check_server(ngx_payment_shard_t *shard,
    ngx_payment_server_t *server, ngx_payment_attempt_t *a, ngx_log_t *log);
static ngx_uint_t ngx_http_payment_check_first(ngx_payment_attempt_t *a);
static ngx_uint_t ngx_http_payment_check_helper(
    ngx_http_payment_main_conf_t *pmcf, ngx_payment_attempt_t *a);
static void ngx_http_payment_check_failed(ngx_payment_shard_t *shard,
    ngx_payment_server_t *server, const ngx_payment_attempt_t *a);
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
        failed += ngx_http_payment_check_shard(pmcf, shards[i], cycle->log);
    }

    return failed ? NGX_ERROR : NGX_OK;
}


/* 1: it would not do. */

static ngx_uint_t
ngx_http_payment_check_shard(ngx_http_payment_main_conf_t *pmcf,
    ngx_payment_shard_t *shard, ngx_log_t *log)
{
    ngx_uint_t              i, good, unpublished;
    ngx_payment_shard_t     one;
    ngx_payment_server_t   *servers;
    ngx_payment_attempt_t  *a;

    servers = shard->servers.elts;
    good = 0;
    unpublished = 0;

    for (i = 0; i < shard->servers.nelts; i++) {

        /* an attempt goes to the primary: here that is the only server */

        one = *shard;
        one.servers.elts = &servers[i];
        one.servers.nelts = 1;

        a = ngx_payment_attempt_create(&one, ngx_payment_transaction_session,
                                       ngx_payment_columns_sql(shard), log);
        if (a == NULL) {
            return 1;
        }

        if (ngx_http_payment_check_server(shard, &servers[i], a, log)) {
            good++;

            if (ngx_http_payment_check_helper(pmcf, a) != 0) {
                ngx_http_payment_check_failed(shard, &servers[i], a);
                unpublished++;
            }
        }

        ngx_payment_attempt_free(a);
    }

    if (good == 0) {
        ngx_log_stderr(0, "payment_shard \"%V\" has no server that takes "
                       "payments", &shard->name);

    } else if (unpublished) {
        ngx_log_stderr(0, "payment_shard \"%V\" has a server whose events "
                       "the helper could not publish", &shard->name);
    }

    return good == 0 || unpublished;
}


/* 1: it takes payments. */

static ngx_uint_t
ngx_http_payment_check_server(ngx_payment_shard_t *shard,
    ngx_payment_server_t *server, ngx_payment_attempt_t *a, ngx_log_t *log)
{
    const char  *objection;
    ngx_uint_t   error;

    a->identity.unclaimed = "a test writes nothing";

    error = ngx_payment_attempt_run(a, log);

    if (error == 0
        && ngx_payment_identity_found(shard, &a->identity, a->message,
                                      sizeof(a->message))
           != NGX_OK)
    {
        error = NGX_PAYMENT_DB_E_IDENTITY;
        a->error = error;
        a->phase = "checking whose database it is";
    }

    objection = error ? NULL
                      : ngx_payment_topology_objection(shard, &a->topology);

    if (objection) {
        ngx_log_stderr(0, "payment_shard \"%V\", server \"%V\" %s",
                       &shard->name, &server->name, objection);
        error = NGX_PAYMENT_DB_E_TOPOLOGY;

    } else if (error == NGX_PAYMENT_DB_E_IDENTITY && a->identity.nobodys) {

        error = ngx_http_payment_check_first(a);

        if (error) {
            ngx_http_payment_check_failed(shard, server, a);

        } else {
            ngx_log_stderr(0, "payment_shard \"%V\", server \"%V\": the "
                           "database is nobody's yet, the first connection "
                           "makes it this shard's", &shard->name,
                           &server->name);
        }

    } else if (error) {
        ngx_http_payment_check_failed(shard, server, a);

    } else {
        ngx_log_stderr(0, "payment_shard \"%V\", server \"%V\" takes payments",
                       &shard->name, &server->name);
        ngx_http_payment_check_advise(shard, server, a);
    }

    return error == 0;
}


/* What a connection that makes the database this shard's would do then. */

static ngx_uint_t
ngx_http_payment_check_first(ngx_payment_attempt_t *a)
{
    a->error = 0;

    if (ngx_payment_attempt_may(a, NGX_PAYMENT_RIGHTS_CLAIM) != 0
        || ngx_payment_attempt_prepare(a) != 0)
    {
        ngx_payment_attempt_advise(a);
    }

    return a->error;
}


/* May the helper publish events, and what else is asked of it? */

static ngx_uint_t
ngx_http_payment_check_helper(ngx_http_payment_main_conf_t *pmcf,
    ngx_payment_attempt_t *a)
{
    ngx_uint_t  what;

    if (!pmcf->outbox.enable) {
        return 0;
    }

    what = NGX_PAYMENT_RIGHTS_PUBLISH | a->uses;

    if (pmcf->outbox.idempotency_retention) {
        what |= NGX_PAYMENT_RIGHTS_PURGE;
    }

    a->error = 0;

    if (ngx_payment_attempt_may(a, what) != 0) {
        ngx_payment_attempt_advise(a);
    }

    return a->error;
}


static void
ngx_http_payment_check_failed(ngx_payment_shard_t *shard,
    ngx_payment_server_t *server, const ngx_payment_attempt_t *a)
{
    ngx_log_stderr(0, "payment_shard \"%V\", server \"%V\": %s failed: (%ui) "
                   "%s", &shard->name, &server->name, a->phase, a->error,
                   a->message);
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
