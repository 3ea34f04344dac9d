/*
 * The way to a collector of traces: OTLP/HTTP, in JSON, on nginx's event loop.
 *
 *     IDLE -> SENDING -> READING -> IDLE
 *      ^         |          |
 *      +------ PAUSED <-----+       it is away, or asks for patience
 *
 * Owner: the helper process, or the single one; nothing is there where no
 * traces are exported.
 * Limits: one POST at a time, of NGX_PAYMENT_EXPORTER_SPANS spans, which ends
 * after NGX_PAYMENT_EXPORTER_TIMEOUT.  What a collector does not take within
 * NGX_PAYMENT_EXPORTER_TRIES is dropped and counted; meanwhile further spans
 * wait in the ring, and are dropped when it is full.
 */

#ifndef NGX_PAYMENT_EXPORTER_H
#define NGX_PAYMENT_EXPORTER_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>

#include "ngx_payment_outbox_conf.h"
#include "ngx_payment_span.h"


#define NGX_PAYMENT_EXPORTER_SPANS      256
#define NGX_PAYMENT_EXPORTER_TICK       100      /* ms, while spans may come */
#define NGX_PAYMENT_EXPORTER_INTERVAL   1000     /* ms: so long few may wait */
#define NGX_PAYMENT_EXPORTER_TIMEOUT    5000     /* ms */
#define NGX_PAYMENT_EXPORTER_TRIES      6
#define NGX_PAYMENT_EXPORTER_PAUSE_MIN  1000     /* ms, doubled each time */
#define NGX_PAYMENT_EXPORTER_PAUSE_MAX  16000    /* ms */
#define NGX_PAYMENT_EXPORTER_STATUS     12       /* bytes: "HTTP/1.1 200" */


typedef enum {
    NGX_PAYMENT_EXPORTER_IDLE = 0,   /* the timer looks for spans */
    NGX_PAYMENT_EXPORTER_SENDING,    /* and connecting before that */
    NGX_PAYMENT_EXPORTER_READING,    /* the answer's first line */
    NGX_PAYMENT_EXPORTER_PAUSED      /* the timer tries the same again */
} ngx_payment_exporter_state_e;


typedef struct {
    ngx_payment_exporter_state_e   state;
    ngx_payment_outbox_conf_t     *conf;
    const char                    *host;         /* this machine's name */
    ngx_log_t                     *log;

    ngx_event_t                    timer;
    ngx_peer_connection_t          peer;
    ngx_msec_t                     posted_at;    /* the last time */

    ngx_uint_t                     n;            /* spans of the request */
    ngx_uint_t                     tries;
    ngx_msec_t                     pause;
    u_char                        *request;
    u_char                        *last;
    u_char                        *sent;
    u_char                         answer[NGX_PAYMENT_EXPORTER_STATUS];
    size_t                         answered;
    unsigned                       away:1;       /* it was said in the log */
    unsigned                       closed:1;

    ngx_payment_span_t             spans[NGX_PAYMENT_EXPORTER_SPANS];
} ngx_payment_exporter_t;


/* Begins at once.  NULL: no memory.  Lives as long as its process. */
ngx_payment_exporter_t *ngx_payment_exporter_create(
    ngx_payment_outbox_conf_t *conf, const char *host, ngx_log_t *log);

/* The process ends: what is on its way is given up, and what is in the ring is
 * left to the next helper.  exporter may be NULL. */
void ngx_payment_exporter_close(ngx_payment_exporter_t *exporter);

#endif /* NGX_PAYMENT_EXPORTER_H */
