/*
 * The outbox: what runs in the helper process.  It takes the lease of each
 * shard, reads committed events, publishes them to Kafka, and deletes what was
 * acknowledged.
 *
 * It is a guest on nginx's event loop with two hosts: the helper process,
 * which the master starts through the path manager, and the single process
 * when master_process is off.
 */

#ifndef NGX_PAYMENT_OUTBOX_H
#define NGX_PAYMENT_OUTBOX_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_db.h"
#include "ngx_payment_stats.h"
#include "payment_breaker.h"


typedef struct {
    ngx_str_t                  name;        /* both terminated */
    ngx_str_t                  value;
} ngx_payment_kafka_property_t;


typedef struct {
    ngx_flag_t                 enable;
    ngx_array_t               *shards;      /* of ngx_payment_shard_t * */
    ngx_payment_stats_t       *stats;       /* set when the zone is there */
    ngx_fd_t                   doorbell;    /* eventfd, shared by the cycle */
    ngx_path_t                *path;

    ngx_msec_t                 initial_delay;
    ngx_msec_t                 poll_interval;
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
    ngx_array_t                properties;  /* of ngx_payment_kafka_property_t */

    ngx_flag_t                 breaker_enable;
    payment_breaker_conf_t     breaker;
} ngx_payment_outbox_conf_t;


#define NGX_PAYMENT_DEAD_BLOCK         0
#define NGX_PAYMENT_DEAD_DIVERT        1

#define NGX_PAYMENT_KAFKA_SAFE         0
#define NGX_PAYMENT_KAFKA_REFERENCE    1


/*
 * At configuration: asks librdkafka whether profile and properties fit
 * together, without touching a broker.  Returns NGX_CONF_OK or logs what is
 * wrong at emerg and returns NGX_CONF_ERROR.
 */
char *ngx_payment_outbox_check_conf(ngx_conf_t *cf,
    ngx_payment_outbox_conf_t *conf);

/* The path manager's function: the helper process's first step and, then, its
 * pulse.  data is the configuration. */
ngx_msec_t ngx_payment_outbox_manager(void *data);

/* In the single process (master_process off). */
ngx_int_t ngx_payment_outbox_start(ngx_payment_outbox_conf_t *conf,
    ngx_cycle_t *cycle);
void ngx_payment_outbox_drain(ngx_payment_outbox_conf_t *conf,
    ngx_cycle_t *cycle);

#endif /* NGX_PAYMENT_OUTBOX_H */
