/*
 * payment_health: may a balancer send payments to this node?
 *
 * Reads the shared zone and asks nobody: it answers at once, whatever is away.
 * live is 200 as long as nginx answers.  ready is 503 while the node cannot
 * take a payment, or an operator has drained it.  What becomes of the events is
 * shown, and never makes the node not ready: payments go on without Kafka.
 *
 * The JSON has the shape of Spring Boot's Actuator, whose words operators and
 * their scripts know: UP, DOWN and OUT_OF_SERVICE, and a reason with what is
 * not UP.  DEGRADED is ours, and is no failure.
 */

#include "ngx_http_payment_answer.h"
#include "ngx_http_payment_counters.h"
#include "ngx_http_payment_request.h"
#include "ngx_http_payment_text.h"
#include "ngx_payment_attempt.h"


/* s: as PaymentEventsLate has it */
#define NGX_HTTP_PAYMENT_HEALTH_LATE      60


typedef struct {
    ngx_uint_t    code;
    const char   *reason;
} ngx_http_payment_health_reason_t;


static ngx_uint_t ngx_http_payment_health_state(
    const ngx_http_payment_main_conf_t *pmcf);
static const char *ngx_http_payment_health_service(
    const ngx_http_payment_main_conf_t *pmcf);
static void ngx_http_payment_health_db(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf, ngx_uint_t usable,
    ngx_uint_t wanted);
static void ngx_http_payment_health_shard(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf, ngx_payment_shard_t *shard);
static const char *ngx_http_payment_health_why(ngx_uint_t code);
static void ngx_http_payment_health_outbox(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf);
static void ngx_http_payment_health_events(
    const ngx_payment_helper_stats_t *h, ngx_uint_t shards,
    ngx_uint_t *unread, ngx_uint_t *late);
static void ngx_http_payment_health_breaker(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf);
static void ngx_http_payment_health_rate(ngx_http_payment_text_t *t,
    const char *name, ngx_atomic_int_t rate);


static const ngx_http_payment_health_reason_t
    ngx_http_payment_health_reasons[] =
{
    { 1044, "the user may not use the database" },
    { 1045, "the login is refused" },
    { 1049, "there is no such database" },
    { 1698, "the login is refused" },
    { NGX_PAYMENT_DB_E_READ_ONLY, "the server takes no writes" },
    { NGX_PAYMENT_DB_E_SCHEMA, "the schema has another version" },
    { NGX_PAYMENT_DB_E_RESOURCES, "nginx lacks file descriptors or threads" },
    { NGX_PAYMENT_DB_E_UNFIT, "the server lacks what is required of it" },
    { NGX_PAYMENT_DB_E_IDENTITY, "the database is another's" },
    { NGX_PAYMENT_DB_E_OTHER, "the server is not the primary" },
    { NGX_PAYMENT_DB_E_TOPOLOGY, "no server has the payments" },
    { 0, NULL }
};


ngx_int_t
ngx_http_payment_health_live_handler(ngx_http_request_t *r)
{
    ngx_int_t                rc;
    ngx_http_payment_text_t  t;

    if (ngx_http_payment_request_get(r, &rc) != NGX_OK) {
        return rc;
    }

    ngx_http_payment_text_init(&t, r);
    ngx_http_payment_text_add(&t, "{\"status\":\"UP\"}\n");

    return ngx_http_payment_text_send(&t, &ngx_http_payment_answer_json);
}


ngx_int_t
ngx_http_payment_health_ready_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_uint_t                     i, n, usable;
    const char                    *leaving;
    ngx_payment_shard_t          **shards;
    ngx_http_payment_text_t        t;
    ngx_http_payment_loc_conf_t   *plcf;
    ngx_http_payment_main_conf_t  *pmcf;

    if (ngx_http_payment_request_get(r, &rc) != NGX_OK) {
        return rc;
    }

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);
    pmcf = ngx_http_get_module_main_conf(r, ngx_http_payment_module);

    /* a node without payment_api takes no payments, and lacks nothing */

    n = pmcf->api ? pmcf->shards.nelts : 0;
    shards = pmcf->shards.elts;
    usable = 0;

    for (i = 0; i < n; i++) {
        usable += ngx_http_payment_counters_usable(pmcf, shards[i]);
    }

    leaving = ngx_http_payment_health_service(pmcf);

    ngx_http_payment_text_init(&t, r);

    if (leaving) {
        t.status = NGX_HTTP_SERVICE_UNAVAILABLE;
        ngx_http_payment_text_add(&t, "{\"status\":\"OUT_OF_SERVICE\","
                                  "\"reason\":\"%s\",\"components\":{",
                                  leaving);

    } else if (n && usable < (plcf->all_shards ? n : 1)) {
        t.status = NGX_HTTP_SERVICE_UNAVAILABLE;
        ngx_http_payment_text_add(&t, "{\"status\":\"DOWN\",\"reason\":\"%s\","
                                  "\"components\":{",
                                  usable ? "not every shard can be used"
                                         : "no shard can be used");

    } else {
        ngx_http_payment_text_add(&t, "{\"status\":\"UP\",\"components\":{");
    }

    ngx_http_payment_health_db(&t, pmcf, usable,
                               plcf->all_shards ? n : ngx_min(n, 1));

    if (pmcf->outbox.enable) {
        ngx_http_payment_health_outbox(&t, pmcf);

        if (pmcf->outbox.breaker_enable
            && ngx_http_payment_counters_up(&pmcf->writer.stats->helper))
        {
            ngx_http_payment_health_breaker(&t, pmcf);
        }
    }

    ngx_http_payment_text_add(&t, "}}\n");

    return ngx_http_payment_text_send(&t, &ngx_http_payment_answer_json);
}


/*
 * payment_status breaker: what the predecessor's own page of its breaker told,
 * in its words, for the scripts that read it.
 */

ngx_int_t
ngx_http_payment_health_breaker_handler(ngx_http_request_t *r)
{
    uint64_t                           buffered, failed, slow, slow_failed;
    ngx_int_t                          rc;
    ngx_http_payment_text_t            t;
    const ngx_payment_helper_stats_t  *h;
    ngx_http_payment_main_conf_t      *pmcf;

    if (ngx_http_payment_request_get(r, &rc) != NGX_OK) {
        return rc;
    }

    pmcf = ngx_http_get_module_main_conf(r, ngx_http_payment_module);
    h = &pmcf->writer.stats->helper;

    buffered = ngx_http_payment_counters_gauge(&h->breaker_buffered);
    failed = ngx_http_payment_counters_gauge(&h->breaker_failed);
    slow = ngx_http_payment_counters_gauge(&h->breaker_slow);
    slow_failed = ngx_http_payment_counters_gauge(&h->breaker_slow_failed);

    ngx_http_payment_text_init(&t, r);
    ngx_http_payment_text_add(&t, "{\"name\":\"" NGX_HTTP_PAYMENT_BREAKER
                              "\",");
    ngx_http_payment_health_rate(&t, "failureRate",
                                 ngx_http_payment_counters_rate(h,
                                                 &h->breaker_failure_rate));
    ngx_http_payment_health_rate(&t, "slowCallRate",
                                 ngx_http_payment_counters_rate(h,
                                                 &h->breaker_slow_rate));
    ngx_http_payment_text_add(&t, "\"state\":\"%s\","
                              "\"numberOfSuccessfulCalls\":%uL,"
                              "\"numberOfFailedCalls\":%uL,"
                              "\"numberOfSlowCalls\":%uL,"
                              "\"numberOfSlowSuccessfulCalls\":%uL,"
                              "\"numberOfSlowFailedCalls\":%uL,"
                              "\"numberOfBufferedCalls\":%uL,"
                              "\"numberOfNotPermittedCalls\":%uA}\n",
                              payment_breaker_state_name(
                                        ngx_http_payment_health_state(pmcf)),
                              buffered - ngx_min(failed, buffered), failed,
                              slow, slow - ngx_min(slow_failed, slow),
                              slow_failed, buffered, h->breaker_not_permitted);

    return ngx_http_payment_text_send(&t, &ngx_http_payment_answer_json);
}


/* Without a breaker it is as if it were disabled. */

static ngx_uint_t
ngx_http_payment_health_state(const ngx_http_payment_main_conf_t *pmcf)
{
    return pmcf->outbox.enable && pmcf->outbox.breaker_enable
           ? pmcf->writer.stats->helper.breaker_state
           : PAYMENT_BREAKER_DISABLED;
}


/* Why this node is about to take no more payments; NULL: it is not. */

static const char *
ngx_http_payment_health_service(const ngx_http_payment_main_conf_t *pmcf)
{
    if (ngx_exiting || ngx_quit || ngx_terminate) {
        return "this worker is shutting down";
    }

    return pmcf->writer.stats->draining ? "an operator has drained the node"
                                        : NULL;
}


static void
ngx_http_payment_health_db(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf, ngx_uint_t usable,
    ngx_uint_t wanted)
{
    ngx_uint_t             i, n;
    ngx_payment_shard_t  **shards;

    n = pmcf->api ? pmcf->shards.nelts : 0;
    shards = pmcf->shards.elts;

    ngx_http_payment_text_add(t, "\"db\":{\"status\":\"%s\",\"components\":{",
                              usable < wanted ? "DOWN"
                              : usable < n ? "DEGRADED" : "UP");

    for (i = 0; i < n; i++) {
        ngx_http_payment_text_add(t, i ? "," : "");
        ngx_http_payment_health_shard(t, pmcf, shards[i]);
    }

    ngx_http_payment_text_add(t, "}}");
}


static void
ngx_http_payment_health_shard(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf, ngx_payment_shard_t *shard)
{
    uint64_t               error;
    ngx_uint_t             open, usable, server;
    const char            *why;
    ngx_payment_server_t  *servers;

    usable = ngx_http_payment_counters_usable(pmcf, shard);
    open = ngx_http_payment_counters_open(pmcf->writer.stats,
                                          pmcf->generation, shard->index);
    error = shard->common->last_error;

    servers = shard->servers.elts;
    server = ngx_payment_common_server(shard, shard->common->primary);

    ngx_http_payment_text_add(t, "\"%V\":{\"status\":\"%s\",\"details\":{"
                              "\"server\":", &shard->name,
                              usable ? "UP" : "DOWN");
    ngx_http_payment_text_string(t, &servers[server].name);
    ngx_http_payment_text_add(t, ",\"connections\":%ui", open);

    if (!usable) {
        why = (open && ngx_http_payment_counters_silent(shard))
              ? "the server does not answer"
              : ngx_http_payment_health_why(
                    ngx_payment_stats_error_code(error));

        ngx_http_payment_text_add(t, ",\"reason\":\"%s\"", why);
    }

    ngx_http_payment_text_add(t, "}}");
}


static const char *
ngx_http_payment_health_why(ngx_uint_t code)
{
    const ngx_http_payment_health_reason_t  *why;

    for (why = ngx_http_payment_health_reasons; why->reason; why++) {
        if (why->code == code) {
            return why->reason;
        }
    }

    return code ? "the server cannot be reached"
                : "no worker is connected yet";
}


static void
ngx_http_payment_health_outbox(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf)
{
    ngx_uint_t                   unread, late;
    const char                  *reason;
    ngx_payment_stats_t         *stats;
    ngx_payment_helper_stats_t  *h;

    stats = pmcf->writer.stats;
    h = &stats->helper;

    ngx_http_payment_counters_sum(pmcf);
    ngx_http_payment_health_events(h, pmcf->shards.nelts, &unread, &late);

    reason = !ngx_http_payment_counters_up(h) ? "there is no helper process"
             : h->paused ? "an operator has paused publishing"
             : !h->kafka_up ? "no broker of Kafka can be reached"
             : unread ? "events cannot be read"
             : late ? "events have waited for more than a minute" : NULL;

    ngx_http_payment_text_add(t, ",\"outbox\":{\"status\":\"%s\"",
                              reason ? "DEGRADED" : "UP");

    if (reason) {
        ngx_http_payment_text_add(t, ",\"details\":{\"reason\":\"%s\"}",
                                  reason);
    }

    ngx_http_payment_text_add(t, "}");
}


static void
ngx_http_payment_health_events(const ngx_payment_helper_stats_t *h,
    ngx_uint_t shards, ngx_uint_t *unread, ngx_uint_t *late)
{
    ngx_uint_t  s;

    *unread = 0;
    *late = 0;

    for (s = 0; s < shards; s++) {
        *unread |= (h->outbox[s].reading_fails != 0);
        *late |= (h->outbox[s].lease_held
                  && h->outbox[s].oldest_age > NGX_HTTP_PAYMENT_HEALTH_LATE);
    }
}


/* Names and forms are those of Resilience4j's own health indicator. */

static void
ngx_http_payment_health_breaker(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf)
{
    ngx_uint_t                         state;
    const char                        *status;
    const ngx_payment_helper_stats_t  *h;

    h = &pmcf->writer.stats->helper;
    state = ngx_http_payment_health_state(pmcf);

    status = (state == PAYMENT_BREAKER_OPEN
              || state == PAYMENT_BREAKER_FORCED_OPEN) ? "CIRCUIT_OPEN"
             : state == PAYMENT_BREAKER_HALF_OPEN ? "CIRCUIT_HALF_OPEN" : "UP";

    ngx_http_payment_text_add(t, ",\"circuitBreakers\":{\"status\":\"%s\","
                              "\"details\":{\"" NGX_HTTP_PAYMENT_BREAKER
                              "\":{\"status\":\"%s\",\"details\":{",
                              status, status);

    ngx_http_payment_health_rate(t, "failureRate",
                                 ngx_http_payment_counters_rate(h,
                                                 &h->breaker_failure_rate));
    ngx_http_payment_health_rate(t, "failureRateThreshold",
                                 pmcf->breaker.failure_rate);
    ngx_http_payment_health_rate(t, "slowCallRate",
                                 ngx_http_payment_counters_rate(h,
                                                 &h->breaker_slow_rate));
    ngx_http_payment_health_rate(t, "slowCallRateThreshold",
                                 pmcf->breaker.slow_call_rate);

    ngx_http_payment_text_add(t, "\"bufferedCalls\":%uL,\"slowCalls\":%uL,"
                              "\"slowFailedCalls\":%uL,\"failedCalls\":%uL,"
                              "\"notPermittedCalls\":%uA,\"state\":\"%s\""
                              "}}}}",
                              ngx_http_payment_counters_gauge(
                                                       &h->breaker_buffered),
                              ngx_http_payment_counters_gauge(
                                                       &h->breaker_slow),
                              ngx_http_payment_counters_gauge(
                                                    &h->breaker_slow_failed),
                              ngx_http_payment_counters_gauge(
                                                       &h->breaker_failed),
                              h->breaker_not_permitted,
                              payment_breaker_state_name(state));
}


/* The rate is in 1/100 %, and negative while there are too few calls. */

static void
ngx_http_payment_health_rate(ngx_http_payment_text_t *t, const char *name,
    ngx_atomic_int_t rate)
{
    if (rate < 0) {
        ngx_http_payment_text_add(t, "\"%s\":\"-1.0%%\",", name);
        return;
    }

    ngx_http_payment_text_add(t, "\"%s\":\"%A.%02A%%\",", name, rate / 100,
                              rate % 100);
}
