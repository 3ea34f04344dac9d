/* The directives, what they set, and what is asked of them together. */

#include "ngx_http_payment_module.h"
#include "ngx_http_payment_cycle.h"
#include "ngx_http_payment_exporter.h"
#include "ngx_http_payment_location.h"
#include "ngx_http_payment_value.h"
#include "ngx_payment_db.h"
#include "ngx_payment_producer_conf.h"

#include <sys/eventfd.h>


#define NGX_HTTP_PAYMENT_ZONE_SIZE                                            \
    (sizeof(ngx_http_payment_zone_t) * 65 / 64 + 128 * 1024)

/* who builds the module may have said so: see config */
#ifndef NGX_PAYMENT_OUTBOX_PATH
#define NGX_PAYMENT_OUTBOX_PATH        "payment_outbox_temp"
#endif


static void *ngx_http_payment_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_payment_init_main_conf(ngx_conf_t *cf, void *conf);
static char *ngx_http_payment_check_queue(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf);
static char *ngx_http_payment_init_breaker(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf);
static char *ngx_http_payment_init_path(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf);
static char *ngx_http_payment_init_outbox(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf);
static ngx_int_t ngx_http_payment_create_doorbell(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf);
static void ngx_http_payment_close_doorbell(void *data);
static void *ngx_http_payment_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_payment_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_payment_check_merchant(ngx_conf_t *cf,
    ngx_http_payment_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf);
static char *ngx_http_payment_check_timeouts(ngx_conf_t *cf,
    ngx_http_payment_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf);


static ngx_conf_enum_t  ngx_http_payment_replays[] = {
    { ngx_string("replay"), NGX_HTTP_PAYMENT_REPLAY },
    { ngx_string("conflict"), NGX_HTTP_PAYMENT_CONFLICT },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_payment_unknown_members[] = {
    { ngx_string("ignore"), 0 },
    { ngx_string("refuse"), 1 },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_payment_traces[] = {
    { ngx_string("forward"), 0 },
    { ngx_string("make"), 1 },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_payment_dead_letters[] = {
    { ngx_string("block"), NGX_PAYMENT_DEAD_BLOCK },
    { ngx_string("divert"), NGX_PAYMENT_DEAD_DIVERT },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_payment_profiles[] = {
    { ngx_string("safe"), NGX_PAYMENT_KAFKA_SAFE },
    { ngx_string("reference"), NGX_PAYMENT_KAFKA_REFERENCE },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_payment_windows[] = {
    { ngx_string("count"), PAYMENT_BREAKER_COUNT_BASED },
    { ngx_string("time"), PAYMENT_BREAKER_TIME_BASED },
    { ngx_null_string, 0 }
};


static ngx_conf_post_t  ngx_http_payment_positive = {
    ngx_http_payment_value_check_positive
};

static ngx_conf_post_t  ngx_http_payment_body_post = {
    ngx_http_payment_value_check_body
};

static ngx_conf_post_t  ngx_http_payment_challenge_post = {
    ngx_http_payment_value_check_challenge
};

static ngx_conf_post_t  ngx_http_payment_base_post = {
    ngx_http_payment_value_check_base
};

static ngx_conf_post_t  ngx_http_payment_uri_post = {
    ngx_http_payment_value_check_uri
};

static ngx_conf_post_t  ngx_http_payment_prefix_post = {
    ngx_http_payment_value_check_prefix
};

static ngx_conf_num_bounds_t  ngx_http_payment_batch_bounds = {
    ngx_http_payment_value_check_bounds, 1, NGX_PAYMENT_BATCH_SIZE_MAX
};

static ngx_conf_num_bounds_t  ngx_http_payment_queue_bounds = {
    ngx_http_payment_value_check_bounds, 1, 1048576
};

static ngx_conf_num_bounds_t  ngx_http_payment_retries_bounds = {
    ngx_http_payment_value_check_bounds, 0, 100
};

static ngx_conf_num_bounds_t  ngx_http_payment_read_bounds = {
    ngx_http_payment_value_check_bounds, 1, 10000
};

static ngx_conf_num_bounds_t  ngx_http_payment_in_flight_bounds = {
    ngx_http_payment_value_check_bounds, 1, 100000
};


#define NGX_HTTP_PAYMENT_MAIN(name, type, set, field, post)                   \
    { ngx_string(name),                                                       \
      NGX_HTTP_MAIN_CONF|type,                                                \
      set,                                                                    \
      NGX_HTTP_MAIN_CONF_OFFSET,                                              \
      offsetof(ngx_http_payment_main_conf_t, field),                          \
      post }

#define NGX_HTTP_PAYMENT_LOC(name, type, set, field, post)                    \
    { ngx_string(name),                                                       \
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|type,            \
      set,                                                                    \
      NGX_HTTP_LOC_CONF_OFFSET,                                               \
      offsetof(ngx_http_payment_loc_conf_t, field),                           \
      post }


static ngx_command_t  ngx_http_payment_commands[] = {

    { ngx_string("payment_shard"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_payment_shard_block,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    /* the batch writer */

    NGX_HTTP_PAYMENT_MAIN("payment_batch_size", NGX_CONF_TAKE1,
        ngx_conf_set_num_slot, writer.batch_size,
        &ngx_http_payment_batch_bounds),

    NGX_HTTP_PAYMENT_MAIN("payment_batch_bytes", NGX_CONF_TAKE1,
        ngx_conf_set_size_slot, writer.batch_bytes,
        &ngx_http_payment_positive),

    NGX_HTTP_PAYMENT_MAIN("payment_batch_spare_delay", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, writer.spare_delay, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_queue_size", NGX_CONF_TAKE1,
        ngx_conf_set_num_slot, writer.queue_size,
        &ngx_http_payment_queue_bounds),

    NGX_HTTP_PAYMENT_MAIN("payment_queue_bytes", NGX_CONF_TAKE1,
        ngx_conf_set_size_slot, writer.queue_bytes,
        &ngx_http_payment_positive),

    NGX_HTTP_PAYMENT_MAIN("payment_queue_timeout", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, writer.queue_timeout,
        &ngx_http_payment_positive),

    NGX_HTTP_PAYMENT_MAIN("payment_retries", NGX_CONF_TAKE1,
        ngx_conf_set_num_slot, writer.retries,
        &ngx_http_payment_retries_bounds),

    NGX_HTTP_PAYMENT_MAIN("payment_retry_interval", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, writer.retry_interval,
        &ngx_http_payment_positive),

    NGX_HTTP_PAYMENT_MAIN("payment_retry_max_interval", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, writer.retry_max_interval,
        &ngx_http_payment_positive),

    NGX_HTTP_PAYMENT_MAIN("payment_operations", NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, operations, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_idempotency_retention", NGX_CONF_TAKE1,
        ngx_conf_set_sec_slot, outbox.idempotency_retention,
        &ngx_http_payment_positive),

    /* the outbox */

    NGX_HTTP_PAYMENT_MAIN("payment_outbox", NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, outbox.enable, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_path", NGX_CONF_TAKE1234,
        ngx_conf_set_path_slot, outbox.path, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_initial_delay", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, outbox.initial_delay, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_poll_interval", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, outbox.poll_interval,
        &ngx_http_payment_positive),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_max_delay", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, outbox.max_delay, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_batch_size", NGX_CONF_TAKE1,
        ngx_conf_set_num_slot, outbox.batch_size,
        &ngx_http_payment_read_bounds),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_max_in_flight", NGX_CONF_TAKE1,
        ngx_conf_set_num_slot, outbox.max_in_flight,
        &ngx_http_payment_in_flight_bounds),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_lock_at_most_for", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, outbox.lock_at_most_for, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_lock_at_least_for", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, outbox.lock_at_least_for, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_max_retries", NGX_CONF_TAKE1,
        ngx_conf_set_num_slot, outbox.max_retries,
        &ngx_http_payment_retries_bounds),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_retry_interval", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, outbox.retry_interval,
        &ngx_http_payment_positive),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_dead_letter", NGX_CONF_TAKE1,
        ngx_http_payment_value_enum, outbox.dead_letter,
        ngx_http_payment_dead_letters),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_archive", NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, outbox.archive, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_outbox_drain_timeout", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, outbox.drain_timeout, NULL),

    /* Kafka */

    NGX_HTTP_PAYMENT_MAIN("payment_kafka_brokers", NGX_CONF_TAKE1,
        ngx_http_payment_value_brokers, outbox.brokers, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_kafka_topic", NGX_CONF_TAKE1,
        ngx_conf_set_str_slot, outbox.topic, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_kafka_profile", NGX_CONF_TAKE1,
        ngx_http_payment_value_enum, outbox.profile, ngx_http_payment_profiles),

    NGX_HTTP_PAYMENT_MAIN("payment_kafka_property", NGX_CONF_TAKE2,
        ngx_http_payment_value_property, outbox.properties, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_kafka_property_file", NGX_CONF_TAKE2,
        ngx_http_payment_value_property_file, outbox.properties, NULL),

    /* what CloudEvents' attributes say of each event */

    NGX_HTTP_PAYMENT_MAIN("payment_event_source", NGX_CONF_TAKE1,
        ngx_conf_set_str_slot, outbox.event_source,
        &ngx_http_payment_uri_post),

    NGX_HTTP_PAYMENT_MAIN("payment_event_type_prefix", NGX_CONF_TAKE1,
        ngx_conf_set_str_slot, outbox.event_type_prefix,
        &ngx_http_payment_prefix_post),

    NGX_HTTP_PAYMENT_MAIN("payment_event_dataschema", NGX_CONF_TAKE1,
        ngx_conf_set_str_slot, outbox.event_schema,
        &ngx_http_payment_uri_post),

    NGX_HTTP_PAYMENT_MAIN("payment_event_sequence", NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, outbox.event_sequence, NULL),

    /* traces */

    NGX_HTTP_PAYMENT_MAIN("payment_trace_exporter", NGX_CONF_TAKE123,
        ngx_http_payment_exporter_conf, spans, NULL),

    /* the circuit breaker, by Resilience4j's names */

    NGX_HTTP_PAYMENT_MAIN("payment_breaker", NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, outbox.breaker_enable, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_breaker_failure_rate_threshold",
        NGX_CONF_TAKE1,
        ngx_http_payment_value_percent, breaker.failure_rate, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_breaker_slow_call_rate_threshold",
        NGX_CONF_TAKE1,
        ngx_http_payment_value_percent, breaker.slow_call_rate, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_breaker_slow_call_duration_threshold",
        NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, breaker.slow_call_duration, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_breaker_wait_duration_in_open_state",
        NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, breaker.wait_in_open, NULL),

    NGX_HTTP_PAYMENT_MAIN(
        "payment_breaker_max_wait_duration_in_half_open_state",
        NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, breaker.max_wait_in_half_open, NULL),

    NGX_HTTP_PAYMENT_MAIN(
        "payment_breaker_permitted_number_of_calls_in_half_open_state",
        NGX_CONF_TAKE1,
        ngx_conf_set_num_slot, breaker.permitted_calls, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_breaker_minimum_number_of_calls",
        NGX_CONF_TAKE1,
        ngx_conf_set_num_slot, breaker.minimum_calls, NULL),

    NGX_HTTP_PAYMENT_MAIN("payment_breaker_sliding_window_type",
        NGX_CONF_TAKE1,
        ngx_http_payment_value_enum, breaker.window_type,
        ngx_http_payment_windows),

    NGX_HTTP_PAYMENT_MAIN("payment_breaker_sliding_window_size",
        NGX_CONF_TAKE1,
        ngx_conf_set_num_slot, breaker.window_size, NULL),

    NGX_HTTP_PAYMENT_MAIN(
        "payment_breaker_automatic_transition_from_open_to_half_open_enabled",
        NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, breaker.automatic_transition, NULL),

    /* the API */

    { ngx_string("payment_api"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_payment_location_api,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      ngx_http_payment_api_handler },

    NGX_HTTP_PAYMENT_LOC("payment_merchant", NGX_CONF_TAKE1,
        ngx_http_set_complex_value_slot, merchant, NULL),

    NGX_HTTP_PAYMENT_LOC("payment_idempotency_replay", NGX_CONF_TAKE1,
        ngx_http_payment_value_enum, replay, ngx_http_payment_replays),

    NGX_HTTP_PAYMENT_LOC("payment_unknown_members", NGX_CONF_TAKE1,
        ngx_http_payment_value_enum, unknown_members,
        ngx_http_payment_unknown_members),

    NGX_HTTP_PAYMENT_LOC("payment_authorization_lifetime", NGX_CONF_TAKE1,
        ngx_http_payment_value_lifetime, lifetime, NULL),

    NGX_HTTP_PAYMENT_LOC("payment_void_remainder", NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, void_remainder, NULL),

    NGX_HTTP_PAYMENT_LOC("payment_list", NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, list, NULL),

    NGX_HTTP_PAYMENT_LOC("payment_currencies", NGX_CONF_1MORE,
        ngx_http_payment_value_currencies, currencies, NULL),

    NGX_HTTP_PAYMENT_LOC("payment_max_amount", NGX_CONF_TAKE1,
        ngx_http_payment_value_amount, max_amount, NULL),

    NGX_HTTP_PAYMENT_LOC("payment_max_body_size", NGX_CONF_TAKE1,
        ngx_conf_set_size_slot, max_body_size, &ngx_http_payment_body_post),

    NGX_HTTP_PAYMENT_LOC("payment_timeout", NGX_CONF_TAKE1,
        ngx_conf_set_msec_slot, timeout, &ngx_http_payment_positive),

    NGX_HTTP_PAYMENT_LOC("payment_intercept_errors", NGX_CONF_FLAG,
        ngx_conf_set_flag_slot, intercept_errors, NULL),

    NGX_HTTP_PAYMENT_LOC("payment_trace_context", NGX_CONF_TAKE1,
        ngx_http_payment_value_enum, trace_make, ngx_http_payment_traces),

    NGX_HTTP_PAYMENT_LOC("payment_challenge", NGX_CONF_TAKE1,
        ngx_conf_set_str_slot, challenge, &ngx_http_payment_challenge_post),

    NGX_HTTP_PAYMENT_LOC("payment_problem_base", NGX_CONF_TAKE1,
        ngx_conf_set_str_slot, problem_base, &ngx_http_payment_base_post),

    { ngx_string("payment_problem"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_payment_location_problem,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    /* what operators look at */

    { ngx_string("payment_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_payment_location_handler,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      ngx_http_payment_status_handler },

    { ngx_string("payment_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE12,
      ngx_http_payment_location_health,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("payment_openapi"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_payment_location_handler,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      ngx_http_payment_openapi_handler },

    { ngx_string("payment_asyncapi"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_payment_location_handler,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      ngx_http_payment_openapi_asyncapi_handler },

    { ngx_string("payment_event_schema"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_payment_location_handler,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      ngx_http_payment_openapi_schema_handler },

    { ngx_string("payment_dashboard"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE12,
      ngx_http_payment_location_dashboard,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("payment_outbox_admin"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_payment_location_handler,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      ngx_http_payment_admin_handler },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_payment_module_ctx = {
    ngx_http_payment_variables_add,        /* preconfiguration */
    ngx_http_payment_log_init,             /* postconfiguration */

    ngx_http_payment_create_main_conf,     /* create main configuration */
    ngx_http_payment_init_main_conf,       /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_payment_create_loc_conf,      /* create location configuration */
    ngx_http_payment_merge_loc_conf        /* merge location configuration */
};


ngx_module_t  ngx_http_payment_module = {
    NGX_MODULE_V1,
    &ngx_http_payment_module_ctx,          /* module context */
    ngx_http_payment_commands,             /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_payment_cycle_init_module,    /* init module */
    ngx_http_payment_cycle_init_process,   /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_payment_cycle_exit_process,   /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static void *
ngx_http_payment_create_main_conf(ngx_conf_t *cf)
{
    ngx_payment_outbox_conf_t        *outbox;
    ngx_payment_writer_conf_t        *writer;
    ngx_http_payment_main_conf_t     *pmcf;
    ngx_http_payment_breaker_conf_t  *breaker;

    pmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_payment_main_conf_t));
    if (pmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&pmcf->shards, cf->pool, 4,
                       sizeof(ngx_payment_shard_t *))
        != NGX_OK
        || ngx_array_init(&pmcf->outbox.properties, cf->pool, 4,
                          sizeof(ngx_payment_kafka_property_t))
           != NGX_OK)
    {
        return NULL;
    }

    pmcf->operations = NGX_CONF_UNSET;

    writer = &pmcf->writer;
    writer->batch_size = NGX_CONF_UNSET_UINT;
    writer->batch_bytes = NGX_CONF_UNSET_SIZE;
    writer->spare_delay = NGX_CONF_UNSET_MSEC;
    writer->queue_size = NGX_CONF_UNSET_UINT;
    writer->queue_bytes = NGX_CONF_UNSET_SIZE;
    writer->queue_timeout = NGX_CONF_UNSET_MSEC;
    writer->retries = NGX_CONF_UNSET_UINT;
    writer->retry_interval = NGX_CONF_UNSET_MSEC;
    writer->retry_max_interval = NGX_CONF_UNSET_MSEC;
    writer->doorbell = NGX_INVALID_FILE;

    outbox = &pmcf->outbox;
    outbox->enable = NGX_CONF_UNSET;
    outbox->doorbell = NGX_INVALID_FILE;
    outbox->initial_delay = NGX_CONF_UNSET_MSEC;
    outbox->poll_interval = NGX_CONF_UNSET_MSEC;
    outbox->max_delay = NGX_CONF_UNSET_MSEC;
    outbox->batch_size = NGX_CONF_UNSET_UINT;
    outbox->max_in_flight = NGX_CONF_UNSET_UINT;
    outbox->lock_at_most_for = NGX_CONF_UNSET_MSEC;
    outbox->lock_at_least_for = NGX_CONF_UNSET_MSEC;
    outbox->max_retries = NGX_CONF_UNSET_UINT;
    outbox->retry_interval = NGX_CONF_UNSET_MSEC;
    outbox->dead_letter = NGX_CONF_UNSET_UINT;
    outbox->archive = NGX_CONF_UNSET;
    outbox->drain_timeout = NGX_CONF_UNSET_MSEC;
    outbox->idempotency_retention = NGX_CONF_UNSET;
    outbox->profile = NGX_CONF_UNSET_UINT;
    outbox->event_sequence = NGX_CONF_UNSET;
    outbox->breaker_enable = NGX_CONF_UNSET;

    breaker = &pmcf->breaker;
    breaker->failure_rate = NGX_CONF_UNSET;
    breaker->slow_call_rate = NGX_CONF_UNSET;
    breaker->slow_call_duration = NGX_CONF_UNSET_MSEC;
    breaker->wait_in_open = NGX_CONF_UNSET_MSEC;
    breaker->max_wait_in_half_open = NGX_CONF_UNSET_MSEC;
    breaker->permitted_calls = NGX_CONF_UNSET;
    breaker->minimum_calls = NGX_CONF_UNSET;
    breaker->window_type = NGX_CONF_UNSET_UINT;
    breaker->window_size = NGX_CONF_UNSET;
    breaker->automatic_transition = NGX_CONF_UNSET;

    return pmcf;
}


static char *
ngx_http_payment_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_payment_main_conf_t *pmcf = conf;

    ngx_str_t                   name;
    ngx_payment_writer_conf_t  *writer;

    ngx_conf_init_value(pmcf->operations, 0);

    writer = &pmcf->writer;

    ngx_conf_init_uint_value(writer->batch_size, 256);
    ngx_conf_init_size_value(writer->batch_bytes, 1024 * 1024);
    ngx_conf_init_msec_value(writer->spare_delay, 20);
    ngx_conf_init_uint_value(writer->queue_size, 4096);
    ngx_conf_init_size_value(writer->queue_bytes, 16 * 1024 * 1024);
    ngx_conf_init_msec_value(writer->queue_timeout, 1000);
    ngx_conf_init_uint_value(writer->retries, 3);
    ngx_conf_init_msec_value(writer->retry_interval, 10);
    ngx_conf_init_msec_value(writer->retry_max_interval, 40);

    if (ngx_http_payment_check_queue(cf, pmcf) != NGX_CONF_OK
        || ngx_http_payment_init_path(cf, pmcf) != NGX_CONF_OK
        || ngx_http_payment_init_outbox(cf, pmcf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (pmcf->spans && !pmcf->outbox.enable) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"payment_trace_exporter\" needs the outbox, whose "
                      "process exports");
        return NGX_CONF_ERROR;
    }

    pmcf->outbox.spans = pmcf->spans;
    pmcf->writer.spans = pmcf->spans;

    if (pmcf->shards.nelts == 0) {
        if (pmcf->api || pmcf->outbox.enable) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "no \"payment_shard\" is defined, but \"%s\" "
                          "needs one",
                          pmcf->api ? "payment_api" : "payment_outbox");
            return NGX_CONF_ERROR;
        }

    } else if (ngx_http_payment_shards_init(cf, pmcf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_str_set(&name, "ngx_payment");

    pmcf->zone = ngx_shared_memory_add(cf, &name, NGX_HTTP_PAYMENT_ZONE_SIZE,
                                       &ngx_http_payment_module);
    if (pmcf->zone == NULL) {
        return NGX_CONF_ERROR;
    }

    pmcf->zone->init = ngx_http_payment_cycle_init_zone;
    pmcf->zone->data = pmcf;

    return NGX_CONF_OK;
}


/* A queue in which the largest request has no room refuses it for ever. */

static char *
ngx_http_payment_check_queue(ngx_conf_t *cf, ngx_http_payment_main_conf_t *pmcf)
{
    size_t  size;

    size = sizeof(ngx_payment_op_t) + PAYMENT_METADATA_SIZE;

    if (pmcf->writer.queue_bytes >= size) {
        return NGX_CONF_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"payment_queue_bytes\" must be at least %uz, for one "
                  "request with metadata", size);

    return NGX_CONF_ERROR;
}


/* The directory that makes the master start the helper, and has the files of
 * ngx_payment_gtid.h. */

static char *
ngx_http_payment_init_path(ngx_conf_t *cf, ngx_http_payment_main_conf_t *pmcf)
{
    u_char                     *p;
    ngx_uint_t                  i;
    ngx_path_t                 *path;
    ngx_payment_shard_t       **shards;
    ngx_payment_outbox_conf_t  *outbox;

    outbox = &pmcf->outbox;
    shards = pmcf->shards.elts;

    ngx_conf_init_value(outbox->enable, outbox->brokers.len ? 1 : 0);

    for (i = 0; i < pmcf->shards.nelts; i++) {
        if (shards[i]->durability == NGX_PAYMENT_DURABILITY_REPLICA) {
            break;
        }
    }

    if (!outbox->enable && i == pmcf->shards.nelts) {
        return NGX_CONF_OK;
    }

    if (outbox->path == NULL) {
        path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
        if (path == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_str_set(&path->name, NGX_PAYMENT_OUTBOX_PATH);

        if (ngx_conf_full_name(cf->cycle, &path->name, 0) != NGX_OK
            || ngx_add_path(cf, &path) != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        outbox->path = path;
    }

    for (i = 0; i < pmcf->shards.nelts; i++) {
        if (shards[i]->durability == NGX_PAYMENT_DURABILITY_LOCAL) {
            continue;
        }

        p = ngx_pnalloc(cf->pool, outbox->path->name.len
                                  + shards[i]->name.len
                                  + sizeof("/.confirmed"));
        if (p == NULL) {
            return NGX_CONF_ERROR;
        }

        shards[i]->confirmed_file.data = p;
        shards[i]->confirmed_file.len = ngx_sprintf(p, "%V/%V.confirmed%Z",
                                                    &outbox->path->name,
                                                    &shards[i]->name)
                                        - p - 1;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_payment_init_outbox(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf)
{
    ngx_uint_t                   i;
    ngx_payment_shard_t        **shards;
    ngx_payment_outbox_conf_t   *outbox;

    outbox = &pmcf->outbox;
    outbox->shards = &pmcf->shards;

    ngx_conf_init_msec_value(outbox->initial_delay, 1000);
    ngx_conf_init_msec_value(outbox->poll_interval, 50);
    ngx_conf_init_msec_value(outbox->max_delay, 20);
    ngx_conf_init_uint_value(outbox->batch_size, 300);
    ngx_conf_init_uint_value(outbox->max_in_flight, 15000);
    ngx_conf_init_msec_value(outbox->lock_at_most_for, 30000);
    ngx_conf_init_msec_value(outbox->lock_at_least_for, 1000);
    ngx_conf_init_uint_value(outbox->max_retries, 5);
    ngx_conf_init_msec_value(outbox->retry_interval, 1000);
    ngx_conf_init_uint_value(outbox->dead_letter, NGX_PAYMENT_DEAD_BLOCK);
    ngx_conf_init_value(outbox->archive, 0);
    ngx_conf_init_msec_value(outbox->drain_timeout, 3000);
    ngx_conf_init_value(outbox->idempotency_retention, 24 * 60 * 60);
    ngx_conf_init_uint_value(outbox->profile, NGX_PAYMENT_KAFKA_SAFE);
    ngx_conf_init_value(outbox->breaker_enable, 1);
    ngx_conf_init_value(outbox->event_sequence, 0);

    if (outbox->topic.len == 0) {
        ngx_str_set(&outbox->topic, "payments");
    }

    if (outbox->event_source.len == 0) {
        ngx_str_set(&outbox->event_source, "ngx_payment_module");
    }

    if (ngx_http_payment_init_breaker(cf, pmcf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (!outbox->enable) {
        return NGX_CONF_OK;
    }

    if (outbox->brokers.len == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"payment_outbox on\" needs \"payment_kafka_brokers\"");
        return NGX_CONF_ERROR;
    }

    if (outbox->max_delay > 1000) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"payment_outbox_max_delay\" must be 1s at most");
        return NGX_CONF_ERROR;
    }

    if (outbox->lock_at_most_for < 1000) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"payment_outbox_lock_at_most_for\" must be 1s at "
                      "least");
        return NGX_CONF_ERROR;
    }

    if (outbox->lock_at_least_for > outbox->lock_at_most_for) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"payment_outbox_lock_at_least_for\" must not be longer "
                      "than \"payment_outbox_lock_at_most_for\"");
        return NGX_CONF_ERROR;
    }

    if (ngx_payment_producer_conf_check(cf, outbox) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    shards = pmcf->shards.elts;

    for (i = 0; i < pmcf->shards.nelts; i++) {
        shards[i]->archive = outbox->archive;
    }

    /* a path with a manager is what makes the master start the helper */

    outbox->path->manager = ngx_payment_outbox_manager;
    outbox->path->data = outbox;

    return ngx_http_payment_create_doorbell(cf, pmcf) == NGX_OK
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_payment_init_breaker(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf)
{
    const char                       *wrong;
    payment_breaker_conf_t           *conf;
    ngx_http_payment_breaker_conf_t  *b;

    b = &pmcf->breaker;

    ngx_conf_init_value(b->failure_rate, 5000);
    ngx_conf_init_value(b->slow_call_rate, 5000);
    ngx_conf_init_msec_value(b->slow_call_duration, 2000);
    ngx_conf_init_msec_value(b->wait_in_open, 30000);
    ngx_conf_init_msec_value(b->max_wait_in_half_open, 0);
    ngx_conf_init_value(b->permitted_calls, 3);
    ngx_conf_init_value(b->minimum_calls, 5);
    ngx_conf_init_uint_value(b->window_type, PAYMENT_BREAKER_COUNT_BASED);
    ngx_conf_init_value(b->window_size, 100);
    ngx_conf_init_value(b->automatic_transition, 1);

    conf = &pmcf->outbox.breaker;
    payment_breaker_conf_default(conf);

    conf->failure_rate_threshold = (float) b->failure_rate / 100;
    conf->slow_call_rate_threshold = (float) b->slow_call_rate / 100;
    conf->slow_call_duration_threshold_ns =
                             b->slow_call_duration * PAYMENT_BREAKER_MS_NS;
    conf->sliding_window_type = b->window_type;
    conf->sliding_window_size = (uint32_t) b->window_size;
    conf->minimum_number_of_calls = (uint32_t) b->minimum_calls;
    conf->permitted_calls_in_half_open_state = (uint32_t) b->permitted_calls;
    conf->wait_duration_in_open_state_ns =
                             b->wait_in_open * PAYMENT_BREAKER_MS_NS;
    conf->max_wait_duration_in_half_open_state_ns =
                             b->max_wait_in_half_open * PAYMENT_BREAKER_MS_NS;
    conf->automatic_transition_to_half_open = b->automatic_transition;

    wrong = payment_breaker_conf_check(conf);

    if (wrong) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "invalid \"payment_breaker_*\" directives: %s", wrong);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* All workers of a cycle and its helper inherit this eventfd by fork; a new
 * nginx, which is started by exec, does not. */

static ngx_int_t
ngx_http_payment_create_doorbell(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf)
{
    ngx_fd_t             fd;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);
    if (fd == -1) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, ngx_errno,
                      "payment: eventfd() failed");
        return NGX_ERROR;
    }

    cln->handler = ngx_http_payment_close_doorbell;
    cln->data = pmcf;

    pmcf->writer.doorbell = fd;
    pmcf->outbox.doorbell = fd;

    return NGX_OK;
}


static void
ngx_http_payment_close_doorbell(void *data)
{
    ngx_http_payment_main_conf_t *pmcf = data;

    (void) close(pmcf->writer.doorbell);
}


static void *
ngx_http_payment_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_payment_loc_conf_t  *plcf;

    plcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_payment_loc_conf_t));
    if (plcf == NULL) {
        return NULL;
    }

    plcf->merchant = NGX_CONF_UNSET_PTR;
    plcf->lifetime = NGX_CONF_UNSET_PTR;
    plcf->lifetime_seconds = NGX_CONF_UNSET;
    plcf->replay = NGX_CONF_UNSET_UINT;
    plcf->unknown_members = NGX_CONF_UNSET_UINT;
    plcf->void_remainder = NGX_CONF_UNSET;
    plcf->list = NGX_CONF_UNSET;
    plcf->max_amount = NGX_CONF_UNSET;
    plcf->max_body_size = NGX_CONF_UNSET_SIZE;
    plcf->timeout = NGX_CONF_UNSET_MSEC;
    plcf->intercept_errors = NGX_CONF_UNSET;
    plcf->trace_make = NGX_CONF_UNSET_UINT;

    return plcf;
}


static char *
ngx_http_payment_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_payment_loc_conf_t *prev = parent;
    ngx_http_payment_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    /*
     * limit_except and "if" are locations of their own, without a name: what
     * the location around them is, they are, too.  nginx keeps the handler for
     * an "if", but not for limit_except.
     */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname && conf->handler == NULL) {
        conf->handler = prev->handler;
        conf->prefix = prev->prefix;
        conf->all_shards = prev->all_shards;
        conf->dashboard_head = prev->dashboard_head;
        conf->problem = prev->problem;
        conf->problem_detail = prev->problem_detail;
    }

    if (clcf->lmt_excpt && clcf->handler == NULL) {
        clcf->handler = conf->handler;
    }

    ngx_conf_merge_ptr_value(conf->merchant, prev->merchant, NULL);
    ngx_conf_merge_ptr_value(conf->lifetime, prev->lifetime, NULL);
    ngx_conf_merge_value(conf->lifetime_seconds, prev->lifetime_seconds, 0);
    ngx_conf_merge_uint_value(conf->replay, prev->replay,
                              NGX_HTTP_PAYMENT_REPLAY);
    ngx_conf_merge_uint_value(conf->unknown_members, prev->unknown_members, 0);
    ngx_conf_merge_value(conf->void_remainder, prev->void_remainder, 0);
    ngx_conf_merge_value(conf->list, prev->list, 0);
    ngx_conf_merge_str_value(conf->currencies, prev->currencies, "");
    ngx_conf_merge_value(conf->max_amount, prev->max_amount,
                         PAYMENT_AMOUNT_MAX);
    ngx_conf_merge_size_value(conf->max_body_size, prev->max_body_size, 8192);
    ngx_conf_merge_msec_value(conf->timeout, prev->timeout, 5000);
    ngx_conf_merge_value(conf->intercept_errors, prev->intercept_errors, 0);
    ngx_conf_merge_uint_value(conf->trace_make, prev->trace_make, 0);
    ngx_conf_merge_str_value(conf->challenge, prev->challenge,
                             "Bearer realm=\"payments\"");

    if (conf->problem_base.data == NULL) {
        conf->problem_base = prev->problem_base;
    }

    if (conf->max_amount > PAYMENT_AMOUNT_MAX) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"payment_max_amount\" must not be more than %L",
                      (int64_t) PAYMENT_AMOUNT_MAX);
        return NGX_CONF_ERROR;
    }

    if (conf->handler == ngx_http_payment_api_handler && !clcf->noname
        && (ngx_http_payment_check_merchant(cf, conf, clcf) != NGX_CONF_OK
            || ngx_http_payment_check_timeouts(cf, conf, clcf) != NGX_CONF_OK))
    {
        return NGX_CONF_ERROR;
    }

    conf->rules.max_amount = conf->max_amount;
    conf->rules.refuse_unknown = conf->unknown_members ? 1 : 0;
    conf->rules.void_remainder = conf->void_remainder ? 1 : 0;
    conf->rules.currencies = (char *) conf->currencies.data;
    conf->rules.currencies_n = conf->currencies.len / 3;

    return NGX_CONF_OK;
}


/* A merchant that is the same for all requests has to be one. */

static char *
ngx_http_payment_check_merchant(ngx_conf_t *cf,
    ngx_http_payment_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf)
{
    if (conf->merchant == NULL || conf->merchant->lengths
        || payment_request_merchant_valid((char *) conf->merchant->value.data,
                                          conf->merchant->value.len))
    {
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"%V\" in \"payment_merchant\" of location \"%V\" is "
                       "no merchantId: nobody could pay there",
                       &conf->merchant->value, &clcf->name);

    return NGX_CONF_ERROR;
}


/* The shards are complete: all of http{} is read when locations are merged. */

static char *
ngx_http_payment_check_timeouts(ngx_conf_t *cf,
    ngx_http_payment_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf)
{
    ngx_uint_t                     i;
    ngx_payment_shard_t          **shards;
    ngx_http_payment_main_conf_t  *pmcf;

    pmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_payment_module);

    /* a key may not be forgotten while its request can still be answered */

    if (conf->timeout / 1000 >= (ngx_msec_t) pmcf->outbox.idempotency_retention)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"payment_idempotency_retention\" (%Ts) must be "
                           "longer than \"payment_timeout\" (%Mms) of location "
                           "\"%V\"", pmcf->outbox.idempotency_retention,
                           conf->timeout, &clcf->name);
        return NGX_CONF_ERROR;
    }

    shards = pmcf->shards.elts;

    for (i = 0; i < pmcf->shards.nelts; i++) {
        if (shards[i]->read_timeout >= conf->timeout) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "\"read_timeout\" (%Mms) of payment_shard "
                               "\"%V\" is not shorter than \"payment_timeout\" "
                               "(%Mms) of location \"%V\": the outcome of a "
                               "COMMIT whose answer is lost cannot be found "
                               "out in time", shards[i]->read_timeout,
                               &shards[i]->name, conf->timeout, &clcf->name);
        }
    }

    if (conf->lifetime_seconds
        && (ngx_msec_t) conf->lifetime_seconds <= conf->timeout / 1000)
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"payment_authorization_lifetime\" (%is) is not "
                           "longer than \"payment_timeout\" (%Mms) of location "
                           "\"%V\": an authorization may expire before it is "
                           "answered", conf->lifetime_seconds, conf->timeout,
                           &clcf->name);
    }

    return NGX_CONF_OK;
}
