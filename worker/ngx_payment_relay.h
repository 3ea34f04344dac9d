/*
 * The relay of one shard: what becomes of the shard's events.  They are handed
 * out in order, at most one of a payment at a time; acknowledged, tried again,
 * or given up.
 *
 * The relay is the conductor of the shard's parts, see
 * ngx_payment_outbox_shard.h: it owns them, and hears their news.
 *
 * Owner: the helper process, or the single one; one thread.
 */

#ifndef NGX_PAYMENT_RELAY_H
#define NGX_PAYMENT_RELAY_H

#include "ngx_payment_archive.h"
#include "ngx_payment_breaker.h"
#include "ngx_payment_command.h"
#include "ngx_payment_dead.h"
#include "ngx_payment_delete.h"
#include "ngx_payment_expiry.h"
#include "ngx_payment_fence.h"
#include "ngx_payment_lease.h"
#include "ngx_payment_outbox_shard.h"
#include "ngx_payment_producer.h"
#include "ngx_payment_purge.h"
#include "ngx_payment_reader.h"


#define NGX_PAYMENT_RELAY_JOBS        10


typedef struct ngx_payment_relay_s   ngx_payment_relay_t;
typedef struct ngx_payment_relays_s  ngx_payment_relays_t;


struct ngx_payment_relay_s {
    ngx_payment_relays_t        *all;
    ngx_payment_outbox_shard_t   sh;

    ngx_payment_reader_t         reader;
    ngx_payment_fence_t          fence;
    ngx_payment_fence_job_t      jobs[NGX_PAYMENT_RELAY_JOBS];
    ngx_payment_lease_t          lease;
    ngx_payment_delete_t         deletion;
    ngx_payment_dead_t           dead;
    ngx_payment_archive_t        archive;
    ngx_payment_expiry_t         expiry;
    ngx_payment_purge_t          purge;

    uint64_t                     resume_at_ns;  /* after a failure */
    uint64_t                     worked_at_ms;  /* see relay_able() */
    uint64_t                     fit_at_ms;     /* see relay_show_lease() */
    ngx_payment_storm_t          outages;       /* lines about them */
    ngx_payment_storm_t          refusals;      /* of single events */
    uint64_t                     unable_until_ms;
    uint64_t                     last_epoch;    /* of the latest lease */
    uint64_t                     give_up_at_ms; /* a server, at the earliest */
    uint64_t                     passed_by_at_ms; /* the first that was */
    ngx_uint_t                   failures;      /* in a row */
    ngx_uint_t                   alone;         /* lanes that are its alone */
    ngx_uint_t                   server;        /* that ids were learnt on */

    /* events that keep their places where none is taken */
    uint32_t                     scouts[NGX_PAYMENT_PRODUCER_TOPICS_MAX]
                                       [NGX_PAYMENT_PRODUCER_LANES];
    unsigned                     doubt:1;       /* of what is in flight */
    unsigned                     passed_by:1;   /* some that are set aside */
    unsigned                     missed:1;      /* news that it did not take */
};


/* all relays of the process, and what they share */

struct ngx_payment_relays_s {
    ngx_payment_outbox_conf_t   *conf;
    ngx_log_t                   *log;

    ngx_payment_node_t           node;
    ngx_payment_producer_t       producer;
    ngx_payment_producer_lanes_t lanes;         /* of it */
    ngx_payment_breaker_t        breaker;
    ngx_payment_command_t        command;

    /* hears what workers have told */
    void                       (*hear)(void *data);
    void                        *data;

    ngx_payment_relay_t         *relays;
    ngx_uint_t                   n;
    ngx_uint_t                   turn;          /* whose is the first */
    ngx_uint_t                   pumps;         /* of all of them */
};


ngx_int_t ngx_payment_relay_init(ngx_payment_relay_t *r,
    ngx_payment_relays_t *all, ngx_payment_shard_t *shard);
void ngx_payment_relay_open(ngx_payment_relay_t *r);

/* The doorbell rang. */
void ngx_payment_relay_wake(ngx_payment_relay_t *r);

/* A worker tells of an event.  NGX_DECLINED: its row has to be read first. */
ngx_int_t ngx_payment_relay_told(ngx_payment_relay_t *r,
    const ngx_payment_news_item_t *item);

/* Hands out what can be. */
void ngx_payment_relay_pump(ngx_payment_relay_t *r);

/* Hand nothing out, let what is in flight report, then begin at the head. */
void ngx_payment_relay_rewind(ngx_payment_relay_t *r);

/* What the producer tells of one event, or that it will tell no more. */
void ngx_payment_relay_report(ngx_payment_relay_t *r, payment_event_t *e,
    ngx_payment_verdict_e verdict, rd_kafka_resp_err_t err);
void ngx_payment_relay_abandoned(ngx_payment_relay_t *r);

/* What time brings: retries, what was set aside for long enough, gauges. */
void ngx_payment_relay_tick(ngx_payment_relay_t *r, uint64_t now_ns);

/* Topics or lanes take events again: what waits for them is read anew. */
void ngx_payment_relay_recall(ngx_payment_relay_t *r);

/* Lanes are stuck: what is in flight there says nothing of Kafka. */
void ngx_payment_relay_excuse(ngx_payment_relay_t *r);
void ngx_payment_relay_excuse_all(ngx_payment_relays_t *all);

/* Since when the oldest event is in flight, of the producer's time; 0: none
 * is. */
uint64_t ngx_payment_relay_oldest(ngx_payment_relay_t *r);

/* An operator wants a dead letter replayed; NGX_DECLINED: not from here. */
ngx_int_t ngx_payment_relay_replay(ngx_payment_relay_t *r, uint64_t id);

/* Gives up the lease once nothing is in flight; stopped when that is done. */
void ngx_payment_relay_stop(ngx_payment_relay_t *r);
ngx_uint_t ngx_payment_relay_stopped(ngx_payment_relay_t *r);
void ngx_payment_relay_close(ngx_payment_relay_t *r);

#endif /* NGX_PAYMENT_RELAY_H */
