/*
 * The circuit breaker between the relays and the producer: the rules of
 * payment_breaker.h with nginx's clock, the shared counters and the log.
 *
 * Owner: the helper process; one breaker for all shards.
 */

#ifndef NGX_PAYMENT_BREAKER_H
#define NGX_PAYMENT_BREAKER_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_outbox_conf.h"
#include "payment_breaker.h"
#include "payment_inflight.h"


typedef struct {
    ngx_log_t                   *log;
    ngx_payment_helper_stats_t  *stats;

    payment_breaker_t            rules;
    void                        *memory;      /* of the rules */
    payment_breaker_state_e      seen;        /* when it was last asked */
    unsigned                     on:1;
} ngx_payment_breaker_t;


typedef struct {
    uint32_t                     slow;
    uint32_t                     failed;
} ngx_payment_breaker_presumed_t;


ngx_int_t ngx_payment_breaker_init(ngx_payment_breaker_t *b,
    ngx_payment_outbox_conf_t *conf, ngx_log_t *log);

/* 1 and a token: the event may be sent.  Whoever was permitted must tell the
 * result, or give the permit back. */
ngx_uint_t ngx_payment_breaker_permit(ngx_payment_breaker_t *b,
    uint64_t now_ns, payment_event_t *e);
void ngx_payment_breaker_unpermit(ngx_payment_breaker_t *b,
    payment_event_t *e);

/* A first event is given the slow-call time once more: a producer needs several
 * round trips for its connection, its topic and its id. */
void ngx_payment_breaker_result(ngx_payment_breaker_t *b, uint64_t now_ns,
    payment_event_t *e, uint64_t took_ns, payment_breaker_outcome_e outcome);

/*
 * Counts the events of a table whose outcome is known before their report:
 * those that are slow already, and those that are in flight for vain_ns, when
 * that was in vain; by the time that their since_ns is of.  Then the breaker is
 * told of all of them at once.
 */
void ngx_payment_breaker_count(ngx_payment_breaker_t *b, uint64_t time_ns,
    payment_inflight_t *table, uint64_t vain_ns,
    ngx_payment_breaker_presumed_t *presumed);
void ngx_payment_breaker_presume(ngx_payment_breaker_t *b, uint64_t now_ns,
    ngx_payment_breaker_presumed_t *presumed);

/* Are permits for probes only? */
ngx_uint_t ngx_payment_breaker_probing(ngx_payment_breaker_t *b);

/* Would it refuse an event now? */
ngx_uint_t ngx_payment_breaker_refuses(ngx_payment_breaker_t *b,
    uint64_t now_ns);

/* Did it open, or was it forced open, since this was asked the last time? */
ngx_uint_t ngx_payment_breaker_opened(ngx_payment_breaker_t *b);

void ngx_payment_breaker_tick(ngx_payment_breaker_t *b, uint64_t now_ns);

/* Puts a snapshot into the shared counters. */
void ngx_payment_breaker_show(ngx_payment_breaker_t *b, uint64_t now_ns);

/* What an operator asks for: NGX_OK, or NGX_ERROR when it is off. */
ngx_int_t ngx_payment_breaker_force(ngx_payment_breaker_t *b,
    payment_breaker_state_e state);
ngx_int_t ngx_payment_breaker_reset(ngx_payment_breaker_t *b);

#endif /* NGX_PAYMENT_BREAKER_H */
