/*
 * payment_status: the counters and states of all processes, as one JSON object
 * for people and scripts.  Reads the shared zone and its own process; asks
 * nobody, so that it answers also when database and Kafka are away.
 */

#include "ngx_http_payment_answer.h"
#include "ngx_http_payment_counters.h"
#include "ngx_http_payment_request.h"
#include "ngx_http_payment_status.h"
#include "ngx_payment_producer.h"


static void ngx_http_payment_status_traces(ngx_http_payment_text_t *t,
    const ngx_payment_span_conf_t *spans);
static void ngx_http_payment_status_nginx(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats);
static void ngx_http_payment_status_requests(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats);
static void ngx_http_payment_status_timings(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats);
static void ngx_http_payment_status_times(ngx_http_payment_text_t *t,
    const ngx_http_payment_timing_t *timing, const void *stats);
static void ngx_http_payment_status_shard(ngx_http_payment_text_t *t,
    const ngx_payment_shard_t *shard, const ngx_payment_shard_stats_t *stats);
static void ngx_http_payment_status_error(ngx_http_payment_text_t *t,
    uint64_t error);
static void ngx_http_payment_status_kafka_error(ngx_http_payment_text_t *t,
    uint64_t error);
static void ngx_http_payment_status_brokers(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h);
static void ngx_http_payment_status_counters(ngx_http_payment_text_t *t,
    const ngx_http_payment_counter_t *counters, const void *stats);
static void ngx_http_payment_status_rate(ngx_http_payment_text_t *t,
    const char *name, ngx_atomic_int_t rate);


ngx_int_t
ngx_http_payment_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_uint_t                     i;
    ngx_payment_stats_t           *stats;
    ngx_payment_shard_t          **shards;
    ngx_http_payment_text_t        t;
    ngx_http_payment_main_conf_t  *pmcf;

    if (ngx_http_payment_request_get(r, &rc) != NGX_OK) {
        return rc;
    }

    pmcf = ngx_http_get_module_main_conf(r, ngx_http_payment_module);
    stats = pmcf->writer.stats;
    ngx_http_payment_counters_sum(pmcf);

    ngx_http_payment_text_init(&t, r);

    ngx_http_payment_text_add(&t, "{\"version\":\"" NGX_PAYMENT_VERSION
                              "\",");

    ngx_http_payment_status_nginx(&t, stats);
    ngx_http_payment_status_requests(&t, stats);
    ngx_http_payment_status_timings(&t, stats);

    ngx_http_payment_text_add(&t, "\"shards\":[");
    shards = pmcf->shards.elts;

    for (i = 0; i < pmcf->shards.nelts; i++) {
        ngx_http_payment_text_add(&t, i ? "," : "");
        ngx_http_payment_status_shard(&t, shards[i],
                                      &stats->shards[shards[i]->index]);
    }

    ngx_http_payment_text_add(&t, "],");

    ngx_http_payment_status_outbox(&t, pmcf);
    ngx_http_payment_text_add(&t, ",");
    ngx_http_payment_status_breaker(&t, pmcf);
    ngx_http_payment_status_traces(&t, pmcf->spans);

    ngx_http_payment_text_add(&t, "}\n");

    return ngx_http_payment_text_send(&t, &ngx_http_payment_answer_json);
}


/* Where no traces are exported, there is nothing to say. */

static void
ngx_http_payment_status_traces(ngx_http_payment_text_t *t,
    const ngx_payment_span_conf_t *spans)
{
    if (spans == NULL) {
        ngx_http_payment_text_add(t, ",\"traces\":null");
        return;
    }

    ngx_http_payment_text_add(t, ",\"traces\":{\"spans_waiting\":%ui,"
                              "\"spans_exported\":%uA,"
                              "\"spans_dropped\":%uA}",
                              ngx_payment_span_waiting(spans),
                              spans->ring->exported, spans->ring->dropped);
}


/* The pid and the connections shown are those of the worker that answers. */

static void
ngx_http_payment_status_nginx(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats)
{
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                           ngx_core_module);

    ngx_http_payment_text_add(t, "\"nginx\":{\"version\":\"" NGINX_VERSION
                              "\",\"uptime_ms\":%M,\"workers\":%i,"
                              "\"pid\":%P,\"connections\":%ui,"
                              "\"connections_used\":%ui,\"draining\":%s",
                              ngx_http_payment_counters_uptime(stats),
                              ngx_process == NGX_PROCESS_SINGLE
                              ? 1 : ccf->worker_processes,
                              ngx_pid, ngx_cycle->connection_n,
                              ngx_cycle->connection_n
                              - ngx_cycle->free_connection_n,
                              stats->draining ? "true" : "false");

#if (NGX_STAT_STUB)
    ngx_http_payment_text_add(t, ",\"clients\":{\"active\":%uA,"
                              "\"reading\":%uA,\"writing\":%uA,"
                              "\"waiting\":%uA,\"accepted\":%uA,"
                              "\"handled\":%uA,\"requests\":%uA}",
                              *ngx_stat_active, *ngx_stat_reading,
                              *ngx_stat_writing, *ngx_stat_waiting,
                              *ngx_stat_accepted, *ngx_stat_handled,
                              *ngx_stat_requests);
#endif

    ngx_http_payment_text_add(t, "},");
}


/* An outcome that never happened is left out, but for OK. */

static void
ngx_http_payment_status_requests(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats)
{
    uint64_t     n, total;
    ngx_uint_t   op, outcome;
    const char  *operation, *code;

    ngx_http_payment_text_add(t, "\"requests\":{");

    for (op = 0; op < NGX_PAYMENT_OPERATIONS; op++) {

        operation = ngx_http_payment_counters_operation(op);

        if (operation == NULL) {
            continue;
        }

        total = stats->requests[op][PAYMENT_OK];

        ngx_http_payment_text_add(t, "\"%s\":{\"OK\":%uL",
                                  operation, total);

        for (outcome = PAYMENT_OK + 1; /* void */ ; outcome++) {
            code = ngx_http_payment_counters_outcome(outcome);

            if (code == NULL) {
                break;
            }

            n = stats->requests[op][outcome];
            total += n;

            if (n) {
                ngx_http_payment_text_add(t, ",\"%s\":%uL", code, n);
            }
        }

        ngx_http_payment_text_add(t, ",\"total\":%uL}%s", total,
                                  op < NGX_PAYMENT_OPERATIONS - 1 ? ","
                                                                  : "},");
    }
}


static void
ngx_http_payment_status_timings(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats)
{
    const ngx_http_payment_timing_t  *timing;

    ngx_http_payment_text_add(t, "\"times\":{");

    for (timing = ngx_http_payment_timings; timing->name; timing++) {
        ngx_http_payment_text_add(t, timing == ngx_http_payment_timings ? ""
                                                                        : ",");
        ngx_http_payment_status_times(t, timing, stats);
    }

    ngx_http_payment_text_add(t, "},");
}


static void
ngx_http_payment_status_times(ngx_http_payment_text_t *t,
    const ngx_http_payment_timing_t *timing, const void *stats)
{
    ngx_http_payment_times_t  times;

    ngx_http_payment_counters_times(&times, (const ngx_payment_histogram_t *)
                                    ((const u_char *) stats + timing->offset),
                                    timing->n);

    ngx_http_payment_text_add(t, "\"%s\":{\"count\":%uL,\"sum_us\":%uL,"
                              "\"p50_us\":%uL,\"p95_us\":%uL,\"p99_us\":%uL}",
                              timing->name,
                              ngx_http_payment_times_count(&times),
                              times.sum_us,
                              ngx_http_payment_counters_quantile(&times, 50),
                              ngx_http_payment_counters_quantile(&times, 95),
                              ngx_http_payment_counters_quantile(&times, 99));
}


static void
ngx_http_payment_status_shard(ngx_http_payment_text_t *t,
    const ngx_payment_shard_t *shard, const ngx_payment_shard_stats_t *stats)
{
    uint64_t               batches, average;
    ngx_uint_t             i, server;
    ngx_payment_slots_t   *slots;
    ngx_payment_server_t  *servers;

    ngx_http_payment_text_add(t, "{\"name\":\"%V\",\"index\":%ui,\"slots\":[",
                              &shard->name, shard->index);

    slots = shard->slots.elts;

    for (i = 0; i < shard->slots.nelts; i++) {
        ngx_http_payment_text_add(t, "%s[%ui,%ui]", i ? "," : "",
                                  slots[i].first, slots[i].last);
    }

    ngx_http_payment_text_add(t, "],\"server\":");

    /* the primary, for all processes */

    servers = shard->servers.elts;
    server = ngx_payment_common_server(shard, shard->common->primary);
    ngx_http_payment_text_string(t, &servers[server].name);

    /* of connecting, by whatever process; it stays when that was cured */

    ngx_http_payment_status_error(t, shard->common->last_error);

    batches = stats->batches;
    average = batches ? stats->rows * 100 / batches : 0;

    ngx_http_payment_text_add(t, ",\"average_batch\":%uL.%02uL",
                              average / 100, average % 100);

    ngx_http_payment_status_counters(t, ngx_http_payment_shard_counters,
                                     stats);

    ngx_http_payment_text_add(t, "}");
}


/* The last error of a database server, which stays when it is cured. */

static void
ngx_http_payment_status_error(ngx_http_payment_text_t *t, uint64_t error)
{
    if (error == 0) {
        ngx_http_payment_text_add(t, ",\"last_error\":null");
        return;
    }

    ngx_http_payment_text_add(t, ",\"last_error\":{\"code\":%uL,"
                              "\"at_ms\":%uL}",
                              ngx_payment_stats_error_code(error),
                              ngx_payment_stats_error_ms(error));
}


/* The same of Kafka, by librdkafka's name. */

static void
ngx_http_payment_status_kafka_error(ngx_http_payment_text_t *t, uint64_t error)
{
    uint16_t  code;

    if (error == 0) {
        ngx_http_payment_text_add(t, ",\"kafka_last_error\":null");
        return;
    }

    code = ngx_payment_stats_error_code(error);

    ngx_http_payment_text_add(t, ",\"kafka_last_error\":{\"code\":\"%s\","
                              "\"at_ms\":%uL}",
                              ngx_payment_producer_error_name(code),
                              ngx_payment_stats_error_ms(error));
}


/* The round trips to Kafka's brokers; quantiles that are not known are null. */

static void
ngx_http_payment_status_brokers(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h)
{
    ngx_uint_t                   i;
    const ngx_payment_broker_t  *broker;

    ngx_http_payment_text_add(t, ",\"brokers\":[");
    broker = ngx_http_payment_counters_brokers(h);

    for (i = 0;
         broker && i < NGX_PAYMENT_BROKERS_MAX && broker[i].node;
         i++)
    {
        ngx_http_payment_text_add(t, "%s{\"id\":%uA,\"count\":%uA,"
                                  "\"sum_us\":%uA,", i ? "," : "",
                                  broker[i].node - 1, broker[i].count,
                                  broker[i].sum_us);

        if (broker[i].recent == 0) {
            ngx_http_payment_text_add(t, "\"p50_us\":null,"
                                      "\"p95_us\":null,\"p99_us\":null}");
            continue;
        }

        ngx_http_payment_text_add(t, "\"p50_us\":%uA,\"p95_us\":%uA,"
                                  "\"p99_us\":%uA}", broker[i].p50_us,
                                  broker[i].p95_us, broker[i].p99_us);
    }

    ngx_http_payment_text_add(t, "]");
}


void
ngx_http_payment_status_outbox(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf)
{
    u_char                             owner[NGX_PAYMENT_OWNER_LEN];
    ngx_str_t                          text;
    ngx_uint_t                         i;
    ngx_payment_shard_t              **shards;
    const ngx_payment_helper_stats_t  *h;

    h = &pmcf->writer.stats->helper;

    /* the helper may be writing it at this moment: the copy is terminated */

    ngx_memcpy(owner, h->owner, NGX_PAYMENT_OWNER_LEN);
    owner[NGX_PAYMENT_OWNER_LEN - 1] = '\0';

    text.data = owner;
    text.len = ngx_strlen(owner);

    ngx_http_payment_text_add(t, "\"outbox\":{\"enabled\":%s,\"up\":%s,"
                              "\"pid\":%uA,\"started_at_ms\":%uA,\"owner\":",
                              pmcf->outbox.enable ? "true" : "false",
                              ngx_http_payment_counters_up(h) ? "true"
                                                              : "false",
                              h->pid, h->started_at);

    ngx_http_payment_text_string(t, &text);

    ngx_http_payment_status_counters(t, ngx_http_payment_helper_counters, h);
    ngx_http_payment_status_kafka_error(t, h->kafka_error);
    ngx_http_payment_status_brokers(t, h);

    ngx_http_payment_text_add(t, ",\"shards\":[");
    shards = pmcf->shards.elts;

    for (i = 0; i < pmcf->shards.nelts; i++) {
        ngx_http_payment_text_add(t, "%s{\"name\":\"%V\"", i ? "," : "",
                                  &shards[i]->name);

        ngx_http_payment_status_counters(t, ngx_http_payment_outbox_counters,
                                         &h->outbox[shards[i]->index]);
        ngx_http_payment_status_error(t,
                                  h->outbox[shards[i]->index].last_error);

        ngx_http_payment_text_add(t, "}");
    }

    ngx_http_payment_text_add(t, "]}");
}


static void
ngx_http_payment_status_counters(ngx_http_payment_text_t *t,
    const ngx_http_payment_counter_t *counters, const void *stats)
{
    uint64_t                           n;
    const ngx_http_payment_counter_t  *c;

    for (c = counters; c->name; c++) {
        n = ngx_http_payment_counters_value(stats, c);

        if (!ngx_http_payment_counters_known(stats, c)) {
            ngx_http_payment_text_add(t, ",\"%s\":null", c->name);

        } else if (c->type == NGX_HTTP_PAYMENT_FLAG) {
            ngx_http_payment_text_add(t, ",\"%s\":%s", c->name,
                                      n ? "true" : "false");

        } else {
            ngx_http_payment_text_add(t, ",\"%s\":%uL", c->name, n);
        }
    }
}


void
ngx_http_payment_status_breaker(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf)
{
    uint64_t                           buffered, failed, slow, slow_failed;
    const ngx_http_payment_timing_t   *calls;
    const ngx_payment_helper_stats_t  *h;

    h = &pmcf->writer.stats->helper;

    buffered = ngx_http_payment_counters_gauge(&h->breaker_buffered);
    failed = ngx_http_payment_counters_gauge(&h->breaker_failed);
    slow = ngx_http_payment_counters_gauge(&h->breaker_slow);
    slow_failed = ngx_http_payment_counters_gauge(&h->breaker_slow_failed);

    ngx_http_payment_text_add(t, "\"breaker\":{\"name\":\""
                              NGX_HTTP_PAYMENT_BREAKER "\",\"enabled\":%s,"
                              "\"state\":\"%s\",",
                              pmcf->outbox.enable
                              && pmcf->outbox.breaker_enable ? "true"
                                                             : "false",
                              payment_breaker_state_name(h->breaker_state));

    ngx_http_payment_status_rate(t, "failure_rate",
                                 ngx_http_payment_counters_rate(h,
                                                 &h->breaker_failure_rate));
    ngx_http_payment_status_rate(t, "slow_call_rate",
                                 ngx_http_payment_counters_rate(h,
                                                 &h->breaker_slow_rate));

    ngx_http_payment_text_add(t, "\"buffered_calls\":%uL,"
                              "\"failed_calls\":%uL,\"slow_calls\":%uL,"
                              "\"slow_failed_calls\":%uL,"
                              "\"not_permitted_calls\":%uA,"
                              "\"transitions\":%uA,\"calls\":{",
                              buffered, failed, slow, slow_failed,
                              h->breaker_not_permitted,
                              h->breaker_transitions);

    for (calls = ngx_http_payment_calls; calls->name; calls++) {
        ngx_http_payment_text_add(t, calls == ngx_http_payment_calls ? ""
                                                                     : ",");
        ngx_http_payment_status_times(t, calls, h);
    }

    ngx_http_payment_text_add(t, "}}");
}


/* The rate is shown in percent, and as -1 while there are too few calls. */

static void
ngx_http_payment_status_rate(ngx_http_payment_text_t *t, const char *name,
    ngx_atomic_int_t rate)
{
    if (rate < 0) {
        ngx_http_payment_text_add(t, "\"%s\":-1,", name);
        return;
    }

    ngx_http_payment_text_add(t, "\"%s\":%A.%02A,", name, rate / 100,
                              rate % 100);
}
