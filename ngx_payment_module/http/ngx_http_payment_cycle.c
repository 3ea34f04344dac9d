/* The module in nginx's cycles and processes; see ngx_http_payment_cycle.h. */

#include "ngx_http_payment_cycle.h"
#include "ngx_http_payment_build.h"
#include "ngx_http_payment_module.h"
#include "ngx_http_payment_process.h"
#include "ngx_payment_clock.h"
#include "ngx_payment_db.h"


/* of a worker: to the master, to its own threads, and a client's */
#define NGX_HTTP_PAYMENT_CONNECTIONS   3


static void ngx_http_payment_cycle_note_start(ngx_payment_stats_t *stats);
static ngx_int_t ngx_http_payment_cycle_check_connections(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_payment_cycle_start_probes(ngx_cycle_t *cycle,
    ngx_http_payment_main_conf_t *pmcf);


ngx_int_t
ngx_http_payment_cycle_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_http_payment_main_conf_t *old = data;

    ngx_uint_t                     i;
    ngx_slab_pool_t               *pool;
    ngx_payment_shard_t          **shards;
    ngx_http_payment_zone_t       *shared;
    ngx_http_payment_main_conf_t  *pmcf;

    pmcf = zone->data;
    pool = (ngx_slab_pool_t *) zone->shm.addr;

    if (old || zone->shm.exists) {
        shared = pool->data;

    } else {
        shared = ngx_slab_calloc(pool, sizeof(ngx_http_payment_zone_t));
        if (shared == NULL) {
            return NGX_ERROR;
        }

        ngx_http_payment_cycle_note_start(&shared->stats);
        pool->data = shared;
    }

    pmcf->generation = ++shared->stats.generations;
    pmcf->writer.stats = &shared->stats;
    pmcf->writer.seen = &shared->seen;
    pmcf->writer.proved = &shared->proved;
    pmcf->writer.underway = &shared->underway;
    pmcf->outbox.stats = &shared->stats;
    pmcf->outbox.proved = &shared->proved;

    pmcf->writer.news.ring = &shared->news;
    pmcf->writer.news.mutex = &pool->mutex;
    pmcf->outbox.news = pmcf->writer.news;

    shards = pmcf->shards.elts;

    for (i = 0; i < pmcf->shards.nelts; i++) {
        shards[i]->installation = &shared->common.installation;
        shards[i]->common = ngx_payment_common_shard(&shared->common,
                                                 &shards[i]->name);
        if (shards[i]->common == NULL) {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "payment: %d names of shards since nginx was "
                          "started are too many, restart it",
                          NGX_PAYMENT_COMMON_SHARDS);
            return NGX_ERROR;
        }

        /* a new configuration is told what is wrong with it */
        (void) ngx_payment_common_untell(shards[i], 0);

        ngx_payment_gtid_load(shards[i], zone->shm.log);
    }

    return NGX_OK;
}


/*
 * Written by the master into its new zone, which lives through reloads: a
 * worker, being another user's process, may not see the master in /proc.
 * Without a /proc, it is the time of now.
 */

static void
ngx_http_payment_cycle_note_start(ngx_payment_stats_t *stats)
{
    uint64_t                    now;
    ngx_http_payment_process_t  self;

    now = ngx_payment_clock_ms();

    if (ngx_http_payment_process_read(&self, ngx_pid) != NGX_OK) {
        self.start_ms = now;
    }

    stats->started_ms = self.start_ms;
    stats->started_at = ngx_payment_unix_us() / 1000 - (now - self.start_ms);
}


ngx_int_t
ngx_http_payment_cycle_init_module(ngx_cycle_t *cycle)
{
    if (ngx_http_payment_cycle_check_connections(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_test_config ? ngx_http_payment_check(cycle)
                           : ngx_http_payment_build_init_module(cycle);
}


/* A worker's connections to the databases are some of worker_connections, as is
 * one for each socket that it listens on: one must be left for a client. */

static ngx_int_t
ngx_http_payment_cycle_check_connections(ngx_cycle_t *cycle)
{
    ngx_uint_t                     i, n;
    ngx_listening_t               *ls;
    ngx_payment_shard_t          **shards;
    ngx_http_payment_main_conf_t  *pmcf;

    pmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_payment_module);

    if (pmcf == NULL || !pmcf->api) {
        return NGX_OK;
    }

    n = NGX_HTTP_PAYMENT_CONNECTIONS;
    ls = cycle->listening.elts;

    for (i = 0; i < cycle->listening.nelts; i++) {
        /* with reuseport, there is one of a socket for each worker */
        n += (ls[i].worker == 0);
    }

    shards = pmcf->shards.elts;

    for (i = 0; i < pmcf->shards.nelts; i++) {
        n += shards[i]->connections;
    }

    if (cycle->connection_n >= n) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                  "\"worker_connections\" must be at least %ui, for the "
                  "\"connections\" of each payment_shard, the sockets that are "
                  "listened on, and a client", n);

    return NGX_ERROR;
}


ngx_int_t
ngx_http_payment_cycle_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                     i;
    ngx_payment_shard_t          **shards;
    ngx_payment_worker_t          *worker;
    ngx_http_payment_main_conf_t  *pmcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    pmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_payment_module);

    if (pmcf == NULL || pmcf->shards.nelts == 0) {
        return NGX_OK;
    }

    if (ngx_payment_db_init_process(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_payment_cycle_start_probes(cycle, pmcf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (pmcf->api) {
        pmcf->writers = ngx_pcalloc(cycle->pool, pmcf->shards.nelts
                                          * sizeof(ngx_payment_writer_t *));
        if (pmcf->writers == NULL) {
            return NGX_ERROR;
        }

        ngx_payment_underway_begin(pmcf->writer.underway);

        shards = pmcf->shards.elts;

        for (i = 0; i < pmcf->shards.nelts; i++) {
            pmcf->writers[i] = ngx_payment_writer_create(cycle, shards[i],
                                                         &pmcf->writer);
            if (pmcf->writers[i] == NULL) {
                return NGX_ERROR;
            }

            if (ngx_worker == 0) {
                ngx_payment_writer_watch(pmcf->writers[i]);
            }
        }

        /* the gauges are this worker's from here on */

        worker = &pmcf->writer.stats->workers[ngx_process_slot
                                              % NGX_PAYMENT_PROCESSES];
        worker->generation = pmcf->generation;
        worker->pid = ngx_pid;
    }

    if (ngx_process == NGX_PROCESS_SINGLE && pmcf->outbox.enable) {
        return ngx_payment_outbox_start(&pmcf->outbox, cycle);
    }

    return NGX_OK;
}


/* The first worker looks at the servers, for all processes. */

static ngx_int_t
ngx_http_payment_cycle_start_probes(ngx_cycle_t *cycle,
    ngx_http_payment_main_conf_t *pmcf)
{
    ngx_uint_t             i;
    ngx_payment_shard_t  **shards;

    if (ngx_worker != 0) {
        return NGX_OK;
    }

    pmcf->probes = ngx_pcalloc(cycle->pool, pmcf->shards.nelts
                                            * sizeof(ngx_payment_probe_t *));
    if (pmcf->probes == NULL) {
        return NGX_ERROR;
    }

    shards = pmcf->shards.elts;

    for (i = 0; i < pmcf->shards.nelts; i++) {

        if (shards[i]->servers.nelts == 1) {
            continue;
        }

        pmcf->probes[i] = ngx_payment_probe_create(cycle, shards[i]);
        if (pmcf->probes[i] == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


void
ngx_http_payment_cycle_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                     i;
    ngx_http_payment_main_conf_t  *pmcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return;
    }

    pmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_payment_module);

    if (pmcf == NULL || pmcf->shards.nelts == 0) {
        return;
    }

    if (ngx_process == NGX_PROCESS_SINGLE && pmcf->outbox.enable) {
        ngx_payment_outbox_drain(&pmcf->outbox, cycle);
    }

    for (i = 0; pmcf->writers && i < pmcf->shards.nelts; i++) {
        ngx_payment_writer_close(pmcf->writers[i]);
    }

    for (i = 0; pmcf->probes && i < pmcf->shards.nelts; i++) {
        if (pmcf->probes[i]) {
            ngx_payment_probe_close(pmcf->probes[i]);
        }
    }

    ngx_payment_db_exit_process(cycle);
}
