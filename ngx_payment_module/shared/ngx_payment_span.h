/*
 * Spans: what took which time of a request that is traced, on their way from
 * the processes that measured them to the helper, which sends them to a
 * collector (ngx_payment_exporter.h).
 *
 *     payment authorize       SERVER    the request, until its answer
 *       payment commit        COMMIT    its batch, from the beginning to the
 *                                       commit; linked with the batch
 *       payments publish      PUBLISH   from the handing out of its event to
 *                                       Kafka's report
 *     payment batch           BATCH     a trace of its own
 *       COMMIT                FLUSH     the one statement
 *
 * They go through a ring in a shared zone that is there only where the
 * directive is: elsewhere nothing is allocated, and a NULL is all that is
 * looked at.
 *
 * Nobody waits here.  What finds no room, or the ring's lock taken for longer
 * than a copy takes, is dropped and counted.  The lock is that of the zone's
 * slab pool: nginx's master takes it from a process that died with it.
 */

#ifndef NGX_PAYMENT_SPAN_H
#define NGX_PAYMENT_SPAN_H

#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_PAYMENT_SPANS              4096     /* in the ring, of 160 bytes */
#define NGX_PAYMENT_SPAN_TRACE_SIZE    16       /* bytes of a trace's number */
#define NGX_PAYMENT_SPAN_ID_SIZE       8        /* bytes of a span's */
#define NGX_PAYMENT_SPAN_PAYMENT_LEN   36
#define NGX_PAYMENT_SPAN_ERROR_LEN     31


typedef enum {
    NGX_PAYMENT_SPAN_SERVER = 0,
    NGX_PAYMENT_SPAN_COMMIT,
    NGX_PAYMENT_SPAN_PUBLISH,
    NGX_PAYMENT_SPAN_BATCH,
    NGX_PAYMENT_SPAN_FLUSH
} ngx_payment_span_kind_e;


typedef struct {
    u_char       trace[NGX_PAYMENT_SPAN_TRACE_SIZE];
    u_char       id[NGX_PAYMENT_SPAN_ID_SIZE];
    u_char       parent[NGX_PAYMENT_SPAN_ID_SIZE];      /* zeros: none */
    u_char       link_trace[NGX_PAYMENT_SPAN_TRACE_SIZE];
    u_char       link[NGX_PAYMENT_SPAN_ID_SIZE];        /* zeros: none */
    uint64_t     start_us;          /* Unix time */
    uint64_t     end_us;
    uint32_t     rows;              /* of BATCH, COMMIT and FLUSH */
    uint32_t     version;           /* of PUBLISH: the event's */
    uint16_t     status;            /* of SERVER: HTTP's */
    uint8_t      kind;              /* ngx_payment_span_kind_e */
    uint8_t      operation;         /* payment_operation_e */
    int8_t       shard;             /* index; -1: not known */
    u_char       payment[NGX_PAYMENT_SPAN_PAYMENT_LEN];   /* or a NUL */
    char         error[NGX_PAYMENT_SPAN_ERROR_LEN + 1];   /* empty: none */
} ngx_payment_span_t;


/* the shared zone */

typedef struct {
    ngx_uint_t           head;      /* both only rise, under the lock */
    ngx_uint_t           tail;
    ngx_atomic_t         exported;  /* taken by the collector */
    ngx_atomic_t         dropped;
    ngx_payment_span_t   spans[NGX_PAYMENT_SPANS];
} ngx_payment_span_ring_t;


/* The directive, as all processes of a cycle have it. */

typedef struct {
    ngx_str_t                 endpoint;     /* as it was written */
    ngx_str_t                 host;         /* for the header */
    ngx_str_t                 path;
    ngx_str_t                 service;
    ngx_addr_t               *addr;
    uint64_t                  sampled;      /* see payment_trace_sampled() */

    ngx_slab_pool_t          *pool;         /* set when the zone is there */
    ngx_payment_span_ring_t  *ring;
} ngx_payment_span_conf_t;


/* Fills in what every span has, from the traceparent that it belongs to: its
 * trace, and its parent. */
void ngx_payment_span_init(ngx_payment_span_t *span,
    ngx_payment_span_kind_e kind, const u_char *traceparent);

/* Puts a span into the ring, if there is room. */
void ngx_payment_span_add(ngx_payment_span_conf_t *conf,
    const ngx_payment_span_t *span);

/* Takes up to max spans, the oldest first; how many there were. */
ngx_uint_t ngx_payment_span_take(ngx_payment_span_conf_t *conf,
    ngx_payment_span_t *spans, ngx_uint_t max);

/* How many wait, as of this moment. */
ngx_uint_t ngx_payment_span_waiting(const ngx_payment_span_conf_t *conf);

#endif /* NGX_PAYMENT_SPAN_H */
