/*
 * The module's configuration, and the handlers of its locations.
 */

#ifndef NGX_HTTP_PAYMENT_MODULE_H
#define NGX_HTTP_PAYMENT_MODULE_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "payment.h"
#include "ngx_payment_common.h"
#include "ngx_payment_outbox.h"
#include "ngx_payment_probe.h"
#include "ngx_payment_span.h"
#include "ngx_payment_stats.h"
#include "ngx_payment_writer.h"


/* The payment_breaker_* directives, as nginx reads them. */

typedef struct {
    ngx_int_t                   failure_rate;       /* 1/100 percent */
    ngx_int_t                   slow_call_rate;     /* 1/100 percent */
    ngx_msec_t                  slow_call_duration;
    ngx_msec_t                  wait_in_open;
    ngx_msec_t                  max_wait_in_half_open;
    ngx_int_t                   permitted_calls;
    ngx_int_t                   minimum_calls;
    ngx_uint_t                  window_type;
    ngx_int_t                   window_size;
    ngx_flag_t                  automatic_transition;
} ngx_http_payment_breaker_conf_t;


/* what all processes share */

typedef struct {
    ngx_payment_seen_t          seen;       /* first: its lines are a cache's */
    ngx_payment_stats_t         stats;
    ngx_payment_common_t        common;
    ngx_payment_proved_t        proved;
    ngx_payment_news_ring_t     news;
    ngx_payment_underway_t      underway;
} ngx_http_payment_zone_t;


/* Of http{}: writers and outbox are shared by all servers, and so is this. */

typedef struct {
    ngx_array_t                 shards;     /* of ngx_payment_shard_t * */
    ngx_payment_shard_t        *slots[PAYMENT_SLOTS];
    ngx_payment_writer_conf_t   writer;
    ngx_payment_outbox_conf_t   outbox;
    ngx_http_payment_breaker_conf_t   breaker;
    ngx_shm_zone_t             *zone;
    ngx_payment_span_conf_t    *spans;      /* NULL: no traces are exported */
    ngx_uint_t                  api;        /* some location has payment_api */
    ngx_flag_t                  operations; /* they are kept */
    ngx_uint_t                  expiry;     /* some authorizations may end */
    ngx_uint_t                  generation; /* rises with each configuration */

    /* of this process, by shard->index; NULL in the helper */
    ngx_payment_writer_t      **writers;
    ngx_payment_probe_t       **probes;     /* of the first worker; NULL: of a
                                               shard with one server */
} ngx_http_payment_main_conf_t;


typedef struct {
    ngx_http_handler_pt         handler;    /* NULL: not a location of ours */
    ngx_str_t                   prefix;     /* of payment_api; may be empty */

    ngx_http_complex_value_t   *merchant;
    ngx_http_complex_value_t   *lifetime;   /* of authorizations */
    ngx_int_t                   lifetime_seconds;   /* without variables; 0:
                                               they never end */
    ngx_uint_t                  replay;     /* NGX_HTTP_PAYMENT_REPLAY etc. */
    ngx_uint_t                  unknown_members;
    ngx_flag_t                  void_remainder;
    ngx_flag_t                  list;       /* a merchant's payments */
    ngx_str_t                   currencies; /* "KRWUSD"; empty: all */
    int64_t                     max_amount;
    size_t                      max_body_size;
    ngx_msec_t                  timeout;
    ngx_flag_t                  intercept_errors;
    ngx_uint_t                  trace_make; /* for who brings no context */
    ngx_str_t                   challenge;  /* terminated; empty: none */
    ngx_str_t                   problem_base;   /* terminated, or NULL */

    ngx_uint_t                  all_shards; /* payment_health ready all */
    ngx_str_t                   dashboard_head; /* the page's first lines */
    payment_outcome_e           problem;    /* of payment_problem */
    ngx_str_t                   problem_detail;

    payment_rules_t             rules;      /* the above, for the parser */
} ngx_http_payment_loc_conf_t;


#define NGX_HTTP_PAYMENT_REPLAY      0
#define NGX_HTTP_PAYMENT_CONFLICT    1


/* The context of a request of payment_api, and what log variables show. */

typedef struct {
    ngx_http_request_t         *request;
    ngx_payment_op_t           *op;         /* NULL: the writer has none */
    ngx_payment_writer_t       *writer;
    ngx_event_t                 timer;

    payment_operation_e         operation;
    payment_outcome_e           outcome;
    ngx_payment_shard_t        *shard;      /* NULL: not known yet */
    uint64_t                    started_us;
    uint64_t                    queue_us;
    uint64_t                    commit_us;
    ngx_uint_t                  batch_size;
    payment_status_e            status;     /* 0: none */
    u_char                      id_text[PAYMENT_ID_TEXT_LEN];
    u_char                      trace[PAYMENT_TRACEPARENT_LEN];
    u_char                      span[NGX_PAYMENT_SPAN_ID_SIZE];
    char                        currency[4];    /* of an authorization, as
                                               soon as it is known */
    unsigned                    has_id:1;
    unsigned                    done:1;
    unsigned                    traced:1;   /* trace is set */
    unsigned                    trace_given:1;  /* by the client */
    unsigned                    has_span:1; /* span is set; it has begun, */
    unsigned                    sampled:1;  /* and has not ended */
} ngx_http_payment_ctx_t;


extern ngx_module_t  ngx_http_payment_module;


/*
 * ngx_http_payment_api.c: payment_api.  The context is NULL of a request that
 * never came to such a location; it is found also after error_page.
 */
ngx_int_t ngx_http_payment_api_handler(ngx_http_request_t *r);
ngx_http_payment_ctx_t *ngx_http_payment_api_ctx(ngx_http_request_t *r);

/* the same file: payment_problem, which error_page leads to */
ngx_int_t ngx_http_payment_api_problem_handler(ngx_http_request_t *r);

/* ngx_http_payment_variables.c */
ngx_int_t ngx_http_payment_variables_add(ngx_conf_t *cf);

/* ngx_http_payment_status.c: payment_status [json | prometheus] */
ngx_int_t ngx_http_payment_status_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_payment_prometheus_handler(ngx_http_request_t *r);

/* ngx_http_payment_health.c: payment_health [live | ready [any | all]] */
ngx_int_t ngx_http_payment_health_live_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_payment_health_ready_handler(ngx_http_request_t *r);

/* the same file: payment_status breaker */
ngx_int_t ngx_http_payment_health_breaker_handler(ngx_http_request_t *r);

/*
 * ngx_http_payment_dashboard.c: payment_dashboard [status=path] [admin=path].
 * The first lines of its page are made of two such paths, of which admin may be
 * empty; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_payment_dashboard_handler(ngx_http_request_t *r);
ngx_uint_t ngx_http_payment_dashboard_is_path(const ngx_str_t *path);
ngx_int_t ngx_http_payment_dashboard_head(ngx_pool_t *pool, ngx_str_t *head,
    ngx_str_t *status, ngx_str_t *admin);

/* ngx_http_payment_admin.c: payment_outbox_admin */
ngx_int_t ngx_http_payment_admin_handler(ngx_http_request_t *r);

/* ngx_http_payment_openapi.c: payment_openapi, payment_asyncapi, and
 * payment_event_schema */
ngx_int_t ngx_http_payment_openapi_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_payment_openapi_asyncapi_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_payment_openapi_schema_handler(ngx_http_request_t *r);

/* ngx_http_payment_log.c: what the error log has of a request */
ngx_int_t ngx_http_payment_log_init(ngx_conf_t *cf);

/* ngx_http_payment_check.c: PAYMENT_CHECK=connect nginx -t */
ngx_int_t ngx_http_payment_check(ngx_cycle_t *cycle);

/* ngx_http_payment_shard.c: the payment_shard{} block */
char *ngx_http_payment_shard_block(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* ngx_http_payment_shards.c: the map of slots */
char *ngx_http_payment_shards_init(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf);

#endif /* NGX_HTTP_PAYMENT_MODULE_H */
