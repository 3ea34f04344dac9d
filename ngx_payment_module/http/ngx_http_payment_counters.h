/*
 * What the shared counters are called and what they mean: one table for both
 * formats, JSON (ngx_http_payment_status.c) and Prometheus' text
 * (ngx_http_payment_prometheus.c), so that one name leads to the other:
 *
 *     "retries" of a shard in JSON   payment_shard_retries_total{shard=".."}
 *
 * Other processes count on while we read: every value is read once, and what
 * must fit together (a histogram's buckets and its count) is derived from what
 * was read.
 */

#ifndef NGX_HTTP_PAYMENT_COUNTERS_H
#define NGX_HTTP_PAYMENT_COUNTERS_H

#include "ngx_http_payment_module.h"
#include "ngx_payment_version.h"


/* Resilience4j's name of the breaker, in its metrics */
#define NGX_HTTP_PAYMENT_BREAKER      "kafka-publisher"


typedef enum {
    NGX_HTTP_PAYMENT_COUNTER = 0,     /* only rises, while the zone lives */
    NGX_HTTP_PAYMENT_GAUGE,
    NGX_HTTP_PAYMENT_HOLDERS,         /* a gauge of ngx_payment_outbox_stats_t
                                         that only the holder of the shard's
                                         lease knows */
    NGX_HTTP_PAYMENT_FLAG             /* 0 or 1 */
} ngx_http_payment_counter_e;


typedef struct {
    const char                  *name;      /* NULL: the table's end */
    ngx_http_payment_counter_e   type;
    size_t                       offset;    /* of its ngx_atomic_t */
    const char                  *help;      /* a sentence, for both formats */
} ngx_http_payment_counter_t;


typedef struct {
    uint64_t                     sum_us;
    uint64_t                     up_to[NGX_PAYMENT_BUCKETS];  /* cumulative */
} ngx_http_payment_times_t;

#define ngx_http_payment_times_count(t)                                       \
    ((t)->up_to[NGX_PAYMENT_BUCKETS - 1])


typedef struct {
    const char                  *name;      /* "request" */
    size_t                       offset;    /* of its histogram */
    ngx_uint_t                   n;         /* 1, or one for each operation */
    const char                  *help;
} ngx_http_payment_timing_t;


/* The tables of ngx_payment_shard_stats_t, of ngx_payment_outbox_stats_t and of
 * ngx_payment_helper_stats_t.  A counter that no table has is not shown. */
extern const ngx_http_payment_counter_t  ngx_http_payment_shard_counters[];
extern const ngx_http_payment_counter_t  ngx_http_payment_outbox_counters[];
extern const ngx_http_payment_counter_t  ngx_http_payment_helper_counters[];

/* The histograms of ngx_payment_stats_t. */
extern const ngx_http_payment_timing_t   ngx_http_payment_timings[];

/* Histograms of ngx_payment_helper_stats_t, by payment_breaker_outcome_e. */
extern const ngx_http_payment_timing_t   ngx_http_payment_calls[];


uint64_t ngx_http_payment_counters_value(const void *stats,
    const ngx_http_payment_counter_t *counter);

/* Does this node know the value?  If not, none is shown: 0 would be one. */
ngx_uint_t ngx_http_payment_counters_known(const void *stats,
    const ngx_http_payment_counter_t *counter);

/* Sums up the workers' gauges of each shard, which is done before a look. */
void ngx_http_payment_counters_sum(const ngx_http_payment_main_conf_t *pmcf);

/* Connections to a shard, of the workers of this configuration alone. */
ngx_uint_t ngx_http_payment_counters_open(const ngx_payment_stats_t *stats,
    ngx_uint_t generation, ngx_uint_t shard);

/* Are payments of the shard taken?  What payment_health and the metrics say. */
ngx_uint_t ngx_http_payment_counters_usable(
    const ngx_http_payment_main_conf_t *pmcf, const ngx_payment_shard_t *shard);

/* A server that hangs keeps its connections: the answers are what is missing.
 */
ngx_uint_t ngx_http_payment_counters_silent(const ngx_payment_shard_t *shard);

/* A process that dies can leave a gauge too low: less than 0 is read as 0. */
uint64_t ngx_http_payment_counters_gauge(const ngx_atomic_t *value);

/* One of the breaker's rates, in 1/100 %; negative if it has too few calls. */
ngx_atomic_int_t ngx_http_payment_counters_rate(
    const ngx_payment_helper_stats_t *h, const ngx_atomic_t *rate);

/* The sum of n histograms. */
void ngx_http_payment_counters_times(ngx_http_payment_times_t *t,
    const ngx_payment_histogram_t *h, ngx_uint_t n);

/* An estimate, made from the buckets; 0 if nothing was counted. */
uint64_t ngx_http_payment_counters_quantile(const ngx_http_payment_times_t *t,
    ngx_uint_t percent);

/* The label of an operation, which is less than NGX_PAYMENT_OPERATIONS; NULL of
 * one that no request asks for. */
const char *ngx_http_payment_counters_operation(ngx_uint_t operation);

/* The label of an outcome, which is its code; NULL after the last outcome. */
const char *ngx_http_payment_counters_outcome(ngx_uint_t outcome);

/* Does the process exist that said that it is the helper? */
ngx_uint_t ngx_http_payment_counters_up(const ngx_payment_helper_stats_t *h);

/* The NGX_PAYMENT_BROKERS_MAX brokers of the latest life of the helper; NULL:
 * there is no such process any more. */
const ngx_payment_broker_t *ngx_http_payment_counters_brokers(
    const ngx_payment_helper_stats_t *h);

/* How long nginx's master, or its only process, has run. */
ngx_msec_t ngx_http_payment_counters_uptime(const ngx_payment_stats_t *stats);

#endif /* NGX_HTTP_PAYMENT_COUNTERS_H */
