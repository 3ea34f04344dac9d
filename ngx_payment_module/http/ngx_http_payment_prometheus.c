/*
 * payment_status prometheus: the counters in Prometheus' text format, version
 * 0.0.4.  Times are in seconds.  The breaker has Resilience4j's own metrics.
 *
 * Every series is there from the first scrape on, also those that are still
 * zero: a rate() over a series that begins with 1 would miss its first event.
 * Of requests that goes for each outcome an operation can have.
 */

#include "ngx_http_payment_build.h"
#include "ngx_http_payment_counters.h"
#include "ngx_http_payment_process.h"
#include "ngx_http_payment_request.h"
#include "ngx_http_payment_text.h"


/* all workers, the master and the helper */
#define NGX_HTTP_PAYMENT_PROCESSES  (NGX_PAYMENT_PROCESSES + 2)


static void ngx_http_payment_prometheus_traces(ngx_http_payment_text_t *t,
    const ngx_payment_span_conf_t *spans);
static void ngx_http_payment_prometheus_family(ngx_http_payment_text_t *t,
    const char *name, const char *type, const char *help);
static void ngx_http_payment_prometheus_processes(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats);
static void ngx_http_payment_prometheus_nginx(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats);
#if (NGX_STAT_STUB)
static void ngx_http_payment_prometheus_clients(ngx_http_payment_text_t *t);
#endif
static void ngx_http_payment_prometheus_requests(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats);
static void ngx_http_payment_prometheus_timings(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats, ngx_uint_t outbox);
static void ngx_http_payment_prometheus_times(ngx_http_payment_text_t *t,
    const char *name, const char *labels, const ngx_payment_histogram_t *h);
static void ngx_http_payment_prometheus_counters(ngx_http_payment_text_t *t,
    const char *prefix, const ngx_http_payment_counter_t *counters,
    const void *stats, size_t size, const ngx_array_t *shards);
static void ngx_http_payment_prometheus_helper(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h);
static void ngx_http_payment_prometheus_brokers(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h);
static void ngx_http_payment_prometheus_quantile(ngx_http_payment_text_t *t,
    ngx_atomic_uint_t id, const char *quantile, uint64_t us);
static void ngx_http_payment_prometheus_breaker(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h);
static void ngx_http_payment_prometheus_breaker_now(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h);
static void ngx_http_payment_prometheus_calls(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h);
static void ngx_http_payment_prometheus_rate(ngx_http_payment_text_t *t,
    const char *name, const char *help, ngx_atomic_int_t rate);
static void ngx_http_payment_prometheus_pair(ngx_http_payment_text_t *t,
    const char *name, const char *help, uint64_t successful, uint64_t failed);


static ngx_str_t  ngx_http_payment_type_prometheus =
    ngx_string("text/plain; version=0.0.4; charset=utf-8");


ngx_int_t
ngx_http_payment_prometheus_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_payment_stats_t           *stats;
    ngx_http_payment_text_t        t;
    ngx_http_payment_main_conf_t  *pmcf;

    if (ngx_http_payment_request_get(r, &rc) != NGX_OK) {
        return rc;
    }

    pmcf = ngx_http_get_module_main_conf(r, ngx_http_payment_module);
    stats = pmcf->writer.stats;
    ngx_http_payment_counters_sum(pmcf);

    ngx_http_payment_text_init(&t, r);

    ngx_http_payment_prometheus_nginx(&t, stats);
    ngx_http_payment_prometheus_requests(&t, stats);
    ngx_http_payment_prometheus_timings(&t, stats, pmcf->outbox.enable);

    ngx_http_payment_prometheus_counters(&t, "payment_shard_",
                                         ngx_http_payment_shard_counters,
                                         stats->shards,
                                         sizeof(ngx_payment_shard_stats_t),
                                         &pmcf->shards);

    if (pmcf->outbox.enable) {
        ngx_http_payment_prometheus_helper(&t, &stats->helper);

        ngx_http_payment_prometheus_counters(&t, "payment_outbox_",
                                         ngx_http_payment_outbox_counters,
                                         stats->helper.outbox,
                                         sizeof(ngx_payment_outbox_stats_t),
                                         &pmcf->shards);

        ngx_http_payment_prometheus_brokers(&t, &stats->helper);

        if (pmcf->outbox.breaker_enable) {
            ngx_http_payment_prometheus_breaker(&t, &stats->helper);
        }
    }

    if (pmcf->spans) {
        ngx_http_payment_prometheus_traces(&t, pmcf->spans);
    }

    return ngx_http_payment_text_send(&t, &ngx_http_payment_type_prometheus);
}


static void
ngx_http_payment_prometheus_traces(ngx_http_payment_text_t *t,
    const ngx_payment_span_conf_t *spans)
{
    ngx_http_payment_prometheus_family(t, "payment_trace_spans_waiting",
                                       "gauge", "Spans that wait to be sent.");
    ngx_http_payment_text_add(t, "payment_trace_spans_waiting %ui\n",
                              ngx_payment_span_waiting(spans));

    ngx_http_payment_prometheus_family(t, "payment_trace_spans_exported_total",
                                       "counter",
                                       "Spans that the collector has taken.");
    ngx_http_payment_text_add(t, "payment_trace_spans_exported_total %uA\n",
                              spans->ring->exported);

    ngx_http_payment_prometheus_family(t, "payment_trace_spans_dropped_total",
                                       "counter",
                                       "Spans that found no room, or that the "
                                       "collector did not take.");
    ngx_http_payment_text_add(t, "payment_trace_spans_dropped_total %uA\n",
                              spans->ring->dropped);
}


static void
ngx_http_payment_prometheus_family(ngx_http_payment_text_t *t,
    const char *name, const char *type, const char *help)
{
    ngx_http_payment_text_add(t, "# HELP %s %s\n# TYPE %s %s\n",
                              name, help, name, type);
}


static void
ngx_http_payment_prometheus_nginx(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats)
{
    ngx_msec_t  uptime;

    ngx_http_payment_prometheus_family(t, "payment_build_info", "gauge",
                                       "Always 1; its labels say what runs.");
    ngx_http_payment_text_add(t, "payment_build_info{version=\""
                              NGX_PAYMENT_VERSION "\",build=\"%s\",nginx=\""
                              NGINX_VERSION "\"} 1\n",
                              ngx_http_payment_build_id());

    uptime = ngx_http_payment_counters_uptime(stats);

    ngx_http_payment_prometheus_family(t, "payment_uptime_seconds", "gauge",
                                       "Time since nginx was started.");
    ngx_http_payment_text_add(t, "payment_uptime_seconds %M.%03M\n",
                              uptime / 1000, uptime % 1000);

    ngx_http_payment_prometheus_family(t, "process_start_time_seconds",
                                       "gauge",
                                       "When nginx was started, in Unix "
                                       "time.");
    ngx_http_payment_text_add(t, "process_start_time_seconds %uA.%03uA\n",
                              stats->started_at / 1000,
                              stats->started_at % 1000);

    ngx_http_payment_prometheus_processes(t, stats);

    ngx_http_payment_prometheus_family(t, "payment_configurations_total",
                                       "counter",
                                       "Configurations read: one at the start, "
                                       "and one for each reload.");
    ngx_http_payment_text_add(t, "payment_configurations_total %uA\n",
                              stats->generations);

    ngx_http_payment_prometheus_family(t, "payment_draining", "gauge",
                                       "1 while an operator has drained the "
                                       "node.");
    ngx_http_payment_text_add(t, "payment_draining %d\n",
                              stats->draining ? 1 : 0);

#if (NGX_STAT_STUB)
    ngx_http_payment_prometheus_clients(t);
#endif
}


/*
 * The standard's names, which are of one process, with the process as a label:
 * a counter that was the sum of several would fall when one of them ends.  A
 * slot is nginx's, and has another worker after a reload.
 */

static void
ngx_http_payment_prometheus_processes(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats)
{
    ngx_uint_t                   i, n;
    const char                  *names[NGX_HTTP_PAYMENT_PROCESSES];
    ngx_uint_t                   slots[NGX_HTTP_PAYMENT_PROCESSES];
    ngx_http_payment_process_t   processes[NGX_HTTP_PAYMENT_PROCESSES];

    n = 0;

    if (ngx_process != NGX_PROCESS_SINGLE
        && ngx_http_payment_process_read(&processes[n], ngx_parent) == NGX_OK)
    {
        names[n] = "master";
        slots[n++] = 0;
    }

    if (ngx_process != NGX_PROCESS_SINGLE && stats->helper.pid
        && ngx_http_payment_process_read(&processes[n],
                                         (ngx_pid_t) stats->helper.pid)
           == NGX_OK)
    {
        names[n] = "outbox";
        slots[n++] = 0;
    }

    for (i = 0; i < NGX_PAYMENT_PROCESSES; i++) {
        if (stats->workers[i].pid
            && ngx_http_payment_process_read(&processes[n],
                                         (ngx_pid_t) stats->workers[i].pid)
               == NGX_OK)
        {
            names[n] = "worker";
            slots[n++] = i;
        }
    }

    ngx_http_payment_prometheus_family(t, "process_cpu_seconds_total",
                                       "counter",
                                       "CPU time of nginx's processes.");

    for (i = 0; i < n; i++) {
        ngx_http_payment_text_add(t, "process_cpu_seconds_total{process=\"%s\","
                                  "slot=\"%ui\"} %uL.%03uL\n", names[i],
                                  slots[i], processes[i].cpu_ms / 1000,
                                  processes[i].cpu_ms % 1000);
    }

    ngx_http_payment_prometheus_family(t, "process_resident_memory_bytes",
                                       "gauge",
                                       "Memory of nginx's processes; what they "
                                       "share is in each of them.");

    for (i = 0; i < n; i++) {
        ngx_http_payment_text_add(t, "process_resident_memory_bytes{"
                                  "process=\"%s\",slot=\"%ui\"} %uL\n",
                                  names[i], slots[i],
                                  processes[i].resident_bytes);
    }
}


#if (NGX_STAT_STUB)

/* The names are those of nginx-prometheus-exporter, counters with _total. */

static void
ngx_http_payment_prometheus_clients(ngx_http_payment_text_t *t)
{
    ngx_uint_t  i;

    static const struct {
        const char     *name;
        const char     *type;
        ngx_atomic_t  **value;
        const char     *help;
    }  families[] = {
        { "nginx_connections_active", "gauge", &ngx_stat_active,
          "Client connections, waiting ones too." },
        { "nginx_connections_reading", "gauge", &ngx_stat_reading,
          "Connections whose request is being read." },
        { "nginx_connections_writing", "gauge", &ngx_stat_writing,
          "Connections whose request is being answered." },
        { "nginx_connections_waiting", "gauge", &ngx_stat_waiting,
          "Idle connections." },
        { "nginx_connections_accepted_total", "counter", &ngx_stat_accepted,
          "Connections accepted." },
        { "nginx_connections_handled_total", "counter", &ngx_stat_handled,
          "Connections handled; fewer than were accepted if a limit was "
          "reached." },
        { "nginx_http_requests_total", "counter", &ngx_stat_requests,
          "Requests of all locations." }
    };

    for (i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        ngx_http_payment_prometheus_family(t, families[i].name,
                                           families[i].type,
                                           families[i].help);
        ngx_http_payment_text_add(t, "%s %uA\n", families[i].name,
                                  **families[i].value);
    }
}

#endif


static void
ngx_http_payment_prometheus_requests(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats)
{
    ngx_uint_t   op, outcome;
    const char  *operation, *code;

    ngx_http_payment_prometheus_family(t, "payment_requests_total", "counter",
                                       "Requests answered, by operation, "
                                       "outcome and HTTP status.");

    for (op = 0; op < NGX_PAYMENT_OPERATIONS; op++) {
        operation = ngx_http_payment_counters_operation(op);

        if (operation == NULL) {
            continue;
        }

        for (outcome = 0; /* void */ ; outcome++) {
            code = ngx_http_payment_counters_outcome(outcome);

            if (code == NULL) {
                break;
            }

            ngx_http_payment_text_add(t, "payment_requests_total{"
                                      "operation=\"%s\",outcome=\"%s\","
                                      "status=\"%ud\"} %uA\n",
                                      operation, code,
                                      payment_name_error(outcome)->status,
                                      stats->requests[op][outcome]);
        }
    }
}


static void
ngx_http_payment_prometheus_timings(ngx_http_payment_text_t *t,
    const ngx_payment_stats_t *stats, ngx_uint_t outbox)
{
    u_char                            name[64], labels[64];
    ngx_uint_t                        op;
    const char                       *operation;
    const ngx_payment_histogram_t    *h;
    const ngx_http_payment_timing_t  *timing;

    for (timing = ngx_http_payment_timings; timing->name; timing++) {

        if (!outbox
            && timing->offset >= offsetof(ngx_payment_stats_t, helper))
        {
            continue;
        }

        *ngx_snprintf(name, sizeof(name) - 1, "payment_%s_duration_seconds",
                      timing->name) = '\0';

        ngx_http_payment_prometheus_family(t, (char *) name, "histogram",
                                           timing->help);

        h = (const ngx_payment_histogram_t *)
            ((const u_char *) stats + timing->offset);

        if (timing->n == 1) {
            ngx_http_payment_prometheus_times(t, (char *) name, "", h);
            continue;
        }

        /* what names no operation never reaches the database */

        for (op = 1; op < timing->n; op++) {
            operation = ngx_http_payment_counters_operation(op);

            if (operation == NULL) {
                continue;
            }

            *ngx_snprintf(labels, sizeof(labels) - 1, "operation=\"%s\",",
                          operation) = '\0';
            ngx_http_payment_prometheus_times(t, (char *) name,
                                              (char *) labels, &h[op]);
        }
    }
}


/* The text of labels is empty, or ends with a comma. */

static void
ngx_http_payment_prometheus_times(ngx_http_payment_text_t *t,
    const char *name, const char *labels, const ngx_payment_histogram_t *h)
{
    size_t                    len;
    u_char                    le[NGX_INT32_LEN + sizeof(".000000")];
    u_char                   *p;
    uint32_t                  us;
    ngx_str_t                 set;
    ngx_uint_t                i;
    ngx_http_payment_times_t  times;

    ngx_http_payment_counters_times(&times, h, 1);

    for (i = 0; i < NGX_PAYMENT_BUCKETS - 1; i++) {
        us = ngx_payment_bucket_us[i];
        p = ngx_sprintf(le, "%uD.%06uD", us / 1000000, us % 1000000);

        /* as rules write a bound, and as Prometheus 3 would: 0.1, and 1.0 */

        while (p[-1] == '0' && p[-2] != '.') {
            p--;
        }

        *p = '\0';

        ngx_http_payment_text_add(t, "%s_bucket{%sle=\"%s\"} %uL\n",
                                  name, labels, le, times.up_to[i]);
    }

    ngx_http_payment_text_add(t, "%s_bucket{%sle=\"+Inf\"} %uL\n",
                              name, labels, times.up_to[i]);

    len = ngx_strlen(labels);
    set.data = (u_char *) labels;
    set.len = len ? len - 1 : 0;

    ngx_http_payment_text_add(t, "%s_sum%s%V%s %uL.%06uL\n"
                              "%s_count%s%V%s %uL\n",
                              name, len ? "{" : "", &set, len ? "}" : "",
                              times.sum_us / 1000000, times.sum_us % 1000000,
                              name, len ? "{" : "", &set, len ? "}" : "",
                              ngx_http_payment_times_count(&times));
}


/* Writes a family for each counter, and in it a line for each shard of which
 * the value is known. */

static void
ngx_http_payment_prometheus_counters(ngx_http_payment_text_t *t,
    const char *prefix, const ngx_http_payment_counter_t *counters,
    const void *stats, size_t size, const ngx_array_t *shards)
{
    u_char                             name[64];
    ngx_uint_t                         i, rises, told;
    const u_char                      *one;
    ngx_payment_shard_t              **shard;
    const ngx_http_payment_counter_t  *c;

    shard = shards->elts;

    if (shards->nelts == 0) {
        return;
    }

    for (c = counters; c->name; c++) {
        rises = (c->type == NGX_HTTP_PAYMENT_COUNTER);

        *ngx_snprintf(name, sizeof(name) - 1, "%s%s%s", prefix, c->name,
                      rises ? "_total" : "") = '\0';
        told = 0;

        for (i = 0; i < shards->nelts; i++) {
            one = (const u_char *) stats + shard[i]->index * size;

            if (!ngx_http_payment_counters_known(one, c)) {
                continue;
            }

            if (!told) {
                ngx_http_payment_prometheus_family(t, (char *) name,
                                                   rises ? "counter" : "gauge",
                                                   c->help);
                told = 1;
            }

            ngx_http_payment_text_add(t, "%s{shard=\"%V\"} %uL\n", name,
                                      &shard[i]->name,
                                      ngx_http_payment_counters_value(one, c));
        }
    }
}


static void
ngx_http_payment_prometheus_helper(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h)
{
    u_char                             name[64];
    ngx_uint_t                         rises;
    const ngx_http_payment_counter_t  *c;

    ngx_http_payment_prometheus_family(t, "payment_outbox_up", "gauge",
                                       "1 while the helper process runs.");
    ngx_http_payment_text_add(t, "payment_outbox_up %ui\n",
                              ngx_http_payment_counters_up(h));

    for (c = ngx_http_payment_helper_counters; c->name; c++) {
        rises = (c->type == NGX_HTTP_PAYMENT_COUNTER);

        *ngx_snprintf(name, sizeof(name) - 1, "payment_outbox_%s%s", c->name,
                      rises ? "_total" : "") = '\0';

        ngx_http_payment_prometheus_family(t, (char *) name,
                                           rises ? "counter" : "gauge",
                                           c->help);
        ngx_http_payment_text_add(t, "%s %uL\n", name,
                                  ngx_http_payment_counters_value(h, c));
    }
}


#define NGX_HTTP_PAYMENT_RTT  "payment_outbox_broker_rtt_seconds"


/* A broker is there when the helper's Kafka client has told of it, and its
 * quantiles while they are known. */

static void
ngx_http_payment_prometheus_brokers(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h)
{
    uint64_t                     sum_us;
    ngx_uint_t                   i;
    ngx_atomic_uint_t            id;
    const ngx_payment_broker_t  *broker;

    broker = ngx_http_payment_counters_brokers(h);

    if (broker == NULL || broker->node == 0) {
        return;
    }

    ngx_http_payment_prometheus_family(t, NGX_HTTP_PAYMENT_RTT, "summary",
                                       "Time from a request's sending to a "
                                       "broker until its answer.");

    for (i = 0; i < NGX_PAYMENT_BROKERS_MAX && broker[i].node; i++) {
        id = broker[i].node - 1;

        if (broker[i].recent) {
            ngx_http_payment_prometheus_quantile(t, id, "0.5",
                                                 broker[i].p50_us);
            ngx_http_payment_prometheus_quantile(t, id, "0.95",
                                                 broker[i].p95_us);
            ngx_http_payment_prometheus_quantile(t, id, "0.99",
                                                 broker[i].p99_us);
        }

        sum_us = broker[i].sum_us;

        ngx_http_payment_text_add(t, NGX_HTTP_PAYMENT_RTT
                                  "_sum{broker=\"%uA\"} %uL.%06uL\n"
                                  NGX_HTTP_PAYMENT_RTT
                                  "_count{broker=\"%uA\"} %uA\n",
                                  id, sum_us / 1000000, sum_us % 1000000,
                                  id, broker[i].count);
    }
}


static void
ngx_http_payment_prometheus_quantile(ngx_http_payment_text_t *t,
    ngx_atomic_uint_t id, const char *quantile, uint64_t us)
{
    ngx_http_payment_text_add(t, NGX_HTTP_PAYMENT_RTT
                              "{broker=\"%uA\",quantile=\"%s\"} "
                              "%uL.%06uL\n",
                              id, quantile, us / 1000000, us % 1000000);
}


/*
 * Names, labels and meanings are those of Resilience4j's binding to Micrometer,
 * and must not be improved: people have dashboards that know them.
 */

#define NGX_HTTP_PAYMENT_R4J       "resilience4j_circuitbreaker_"
#define NGX_HTTP_PAYMENT_R4J_NAME  "name=\"" NGX_HTTP_PAYMENT_BREAKER "\""


static void
ngx_http_payment_prometheus_breaker(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h)
{
    ngx_http_payment_prometheus_family(t, NGX_HTTP_PAYMENT_R4J
                                       "not_permitted_calls_total", "counter",
                                       "Calls that the circuit breaker "
                                       "refused.");
    ngx_http_payment_text_add(t, NGX_HTTP_PAYMENT_R4J
                              "not_permitted_calls_total{"
                              NGX_HTTP_PAYMENT_R4J_NAME
                              ",kind=\"not_permitted\"} %uA\n",
                              h->breaker_not_permitted);

    ngx_http_payment_prometheus_calls(t, h);

    /* what follows is gone with the helper that it was said by */

    if (ngx_http_payment_counters_up(h)) {
        ngx_http_payment_prometheus_breaker_now(t, h);
    }
}


static void
ngx_http_payment_prometheus_breaker_now(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h)
{
    uint64_t    us, buffered, failed, slow, slow_failed;
    ngx_uint_t  state, i;

    state = h->breaker_state;

    ngx_http_payment_prometheus_family(t, NGX_HTTP_PAYMENT_R4J "state",
                                       "gauge",
                                       "1 for the state that the circuit "
                                       "breaker is in.");

    for (i = 0; i < PAYMENT_BREAKER_STATES; i++) {
        ngx_http_payment_text_add(t, NGX_HTTP_PAYMENT_R4J "state{"
                                  NGX_HTTP_PAYMENT_R4J_NAME
                                  ",state=\"%s\"} %d\n",
                                  payment_breaker_state_label(i), i == state);
    }

    ngx_http_payment_prometheus_rate(t, NGX_HTTP_PAYMENT_R4J "failure_rate",
                                     "Failed calls in percent, -1 while there "
                                     "are too few calls.",
                                     ngx_http_payment_counters_rate(h,
                                                 &h->breaker_failure_rate));
    ngx_http_payment_prometheus_rate(t, NGX_HTTP_PAYMENT_R4J "slow_call_rate",
                                     "Slow calls in percent, -1 while there "
                                     "are too few calls.",
                                     ngx_http_payment_counters_rate(h,
                                                 &h->breaker_slow_rate));

    buffered = ngx_http_payment_counters_gauge(&h->breaker_buffered);
    failed = ngx_http_payment_counters_gauge(&h->breaker_failed);
    slow = ngx_http_payment_counters_gauge(&h->breaker_slow);
    slow_failed = ngx_http_payment_counters_gauge(&h->breaker_slow_failed);

    ngx_http_payment_prometheus_pair(t, NGX_HTTP_PAYMENT_R4J "buffered_calls",
                                     "Calls in the sliding window.",
                                     buffered - ngx_min(failed, buffered),
                                     failed);
    ngx_http_payment_prometheus_pair(t, NGX_HTTP_PAYMENT_R4J "slow_calls",
                                     "Slow calls in the sliding window.",
                                     slow - ngx_min(slow_failed, slow),
                                     slow_failed);

    ngx_http_payment_prometheus_family(t, NGX_HTTP_PAYMENT_R4J
                                       "calls_seconds_max", "gauge",
                                       "The longest of these times in the "
                                       "last 40 to 60 seconds.");

    for (i = 0; i < PAYMENT_BREAKER_OUTCOMES; i++) {
        us = h->breaker_max_us[i];

        ngx_http_payment_text_add(t, NGX_HTTP_PAYMENT_R4J "calls_seconds_max{"
                                  NGX_HTTP_PAYMENT_R4J_NAME
                                  ",kind=\"%s\"} %uL.%06uL\n",
                                  ngx_http_payment_calls[i].name,
                                  us / 1000000, us % 1000000);
    }
}


static void
ngx_http_payment_prometheus_calls(ngx_http_payment_text_t *t,
    const ngx_payment_helper_stats_t *h)
{
    u_char                            labels[64];
    const ngx_http_payment_timing_t  *calls;

    ngx_http_payment_prometheus_family(t, NGX_HTTP_PAYMENT_R4J "calls_seconds",
                                       "histogram",
                                       "Time from an event's handing over to "
                                       "its delivery report.");

    for (calls = ngx_http_payment_calls; calls->name; calls++) {
        *ngx_snprintf(labels, sizeof(labels) - 1,
                      NGX_HTTP_PAYMENT_R4J_NAME ",kind=\"%s\",",
                      calls->name) = '\0';

        ngx_http_payment_prometheus_times(t, NGX_HTTP_PAYMENT_R4J
                                          "calls_seconds", (char *) labels,
                            (const ngx_payment_histogram_t *)
                            ((const u_char *) h + calls->offset));
    }
}


/* The rate is in 1/100 %, and negative while it is not defined. */

static void
ngx_http_payment_prometheus_rate(ngx_http_payment_text_t *t,
    const char *name, const char *help, ngx_atomic_int_t rate)
{
    ngx_http_payment_prometheus_family(t, name, "gauge", help);

    if (rate < 0) {
        ngx_http_payment_text_add(t, "%s{" NGX_HTTP_PAYMENT_R4J_NAME "} -1\n",
                                  name);
        return;
    }

    ngx_http_payment_text_add(t, "%s{" NGX_HTTP_PAYMENT_R4J_NAME "} "
                              "%A.%02A\n", name, rate / 100, rate % 100);
}


static void
ngx_http_payment_prometheus_pair(ngx_http_payment_text_t *t,
    const char *name, const char *help, uint64_t successful, uint64_t failed)
{
    ngx_http_payment_prometheus_family(t, name, "gauge", help);

    ngx_http_payment_text_add(t, "%s{" NGX_HTTP_PAYMENT_R4J_NAME
                              ",kind=\"successful\"} %uL\n"
                              "%s{" NGX_HTTP_PAYMENT_R4J_NAME
                              ",kind=\"failed\"} %uL\n",
                              name, successful, name, failed);
}
