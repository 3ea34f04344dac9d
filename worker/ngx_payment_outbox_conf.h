/*
 * What the directives say about the outbox.
 *
 * Owner: the cycle; written by the configuration, and read by the helper and
 * by whoever shows it.  Nothing here changes afterwards, but for stats, which
 * is set once the shared zone is there.
 */

#ifndef NGX_PAYMENT_OUTBOX_CONF_H
#define NGX_PAYMENT_OUTBOX_CONF_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_news.h"
#include "ngx_payment_proved.h"
#include "ngx_payment_span.h"
#include "ngx_payment_stats.h"
#include "payment_breaker.h"


#define NGX_PAYMENT_DEAD_BLOCK         0
#define NGX_PAYMENT_DEAD_DIVERT        1

#define NGX_PAYMENT_KAFKA_SAFE         0
#define NGX_PAYMENT_KAFKA_REFERENCE    1

#define NGX_PAYMENT_EVENT_URI_LEN      256
#define NGX_PAYMENT_EVENT_PREFIX_LEN   128


typedef struct {
    ngx_str_t                  name;        /* both are terminated */
    ngx_str_t                  value;
} ngx_payment_kafka_property_t;


typedef struct {
    ngx_flag_t                 enable;
    ngx_array_t               *shards;      /* of ngx_payment_shard_t * */
    ngx_payment_stats_t       *stats;       /* set when the zone is there */
    ngx_payment_proved_t      *proved;      /* the same */
    ngx_payment_news_t         news;        /* the same */
    ngx_fd_t                   doorbell;    /* eventfd, shared by the cycle */
    ngx_path_t                *path;

    ngx_msec_t                 initial_delay;
    ngx_msec_t                 poll_interval;
    ngx_msec_t                 max_delay;       /* of a read, under load */
    ngx_uint_t                 batch_size;
    ngx_uint_t                 max_in_flight;
    ngx_msec_t                 lock_at_most_for;
    ngx_msec_t                 lock_at_least_for;
    ngx_uint_t                 max_retries;
    ngx_msec_t                 retry_interval;
    ngx_uint_t                 dead_letter;     /* NGX_PAYMENT_DEAD_* */
    ngx_flag_t                 archive;
    ngx_msec_t                 drain_timeout;
    time_t                     idempotency_retention;

    ngx_str_t                  brokers;     /* terminated */
    ngx_str_t                  topic;       /* terminated, may hold $event */
    ngx_uint_t                 profile;     /* NGX_PAYMENT_KAFKA_* */
    ngx_array_t                properties;  /* ngx_payment_kafka_property_t */

    /* what CloudEvents' attributes say of each event */
    ngx_str_t                  event_source;
    ngx_str_t                  event_type_prefix;   /* empty: none */
    ngx_str_t                  event_schema;        /* empty: not said */
    ngx_flag_t                 event_sequence;

    ngx_payment_span_conf_t   *spans;       /* NULL: no traces are exported */

    ngx_flag_t                 breaker_enable;
    payment_breaker_conf_t     breaker;
} ngx_payment_outbox_conf_t;


#endif /* NGX_PAYMENT_OUTBOX_CONF_H */
