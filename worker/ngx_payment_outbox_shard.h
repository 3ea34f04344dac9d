/*
 * What all parts of the outbox that work on one shard share: the directives,
 * the shard, the table of known events, the lease, and where news go.
 *
 *   ngx_payment_relay.c    hands events out, and hears what became of them
 *   ngx_payment_reader.c   reads committed events, in order
 *   ngx_payment_fence.c    runs jobs under the lease, one after the other:
 *     ngx_payment_lease.c    takes, extends and gives back the lease
 *     ngx_payment_delete.c   deletes the rows of published events
 *     ngx_payment_dead.c     moves dead letters, and replays them
 *     ngx_payment_archive.c  keeps up the archive's partitions
 *     ngx_payment_expiry.c   ends authorizations whose lifetime is over
 *     ngx_payment_purge.c    forgets old idempotency keys
 *
 * No part but the relay knows another one of the first two lines, and none
 * knows the relay: what a part has to tell, it tells through the handlers.
 *
 * Owner: the helper process, or the single one; one thread.
 * Limits: two database connections; a table of known events that is allocated
 * at the start; and NGX_PAYMENT_OUTBOX_ASIDE times as many events set aside, of
 * which only those that are cost memory.
 */

#ifndef NGX_PAYMENT_OUTBOX_SHARD_H
#define NGX_PAYMENT_OUTBOX_SHARD_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_clock.h"
#include "ngx_payment_db.h"
#include "ngx_payment_outbox_conf.h"
#include "ngx_payment_storm.h"
#include "payment_aside.h"
#include "payment_floor.h"
#include "payment_inflight.h"
#include "payment_lease_rules.h"


#define NGX_PAYMENT_LEASE_NAME        "payment-outbox"

#define NGX_PAYMENT_SQL_SIZE          2048     /* bytes of a short statement */

/* events that wait behind one of their payment; later ones are set aside */
#define NGX_PAYMENT_OUTBOX_BEHIND       64

/* events set aside, for one that the table has room for */
#define NGX_PAYMENT_OUTBOX_ASIDE      8

/* ms, from one look for the oldest event set aside to the next */
#define NGX_PAYMENT_OUTBOX_AGE        1000

/* ms, from one line that says that no more can be set aside to the next */
#define NGX_PAYMENT_OUTBOX_CROWDED    60000

/* ms, after a failure of the database, doubled with each that follows */
#define NGX_PAYMENT_OUTBOX_RETRY_MIN  200
#define NGX_PAYMENT_OUTBOX_RETRY_MAX  1600

/* ms: the pause when a right is missing, which somebody has to grant */
#define NGX_PAYMENT_OUTBOX_DENIED     5000


/* this life of the helper, as the lease's table knows it */

typedef struct {
    payment_lease_node_t         rules;        /* has the owner's uuid */
    char                         host[256];    /* as SQL may hold it */
    u_char                      *predecessors; /* SQL: ,'uuid','uuid' */
} ngx_payment_node_t;


/* moved by the relay alone */

typedef enum {
    NGX_PAYMENT_RELAY_STOPPED = 0,   /* no lease */
    NGX_PAYMENT_RELAY_RUNNING,
    NGX_PAYMENT_RELAY_REWINDING,     /* waits for reports, then starts over */
    NGX_PAYMENT_RELAY_ENDED          /* for good */
} ngx_payment_relay_state_e;


/* The news of a shard's parts; data is that of ngx_payment_outbox_shard_t. */

typedef struct {
    /* A connection was made; again: it is not the first of its part, so an id
     * may mean another row than before. */
    void   (*connected)(void *data, ngx_payment_db_t *db, ngx_uint_t again);

    /* the server at the other end can't write now: another may */
    void   (*unfit)(void *data);

    /* the lease came; or it went, by time, by another node, or given back */
    void   (*leased)(void *data);
    void   (*unleased)(void *data);

    /* The reader: rows came of which workers may have told before; they were
     * taken; what is read does not fit any more. */
    void   (*reading)(void *data);
    void   (*read)(void *data);
    void   (*overrun)(void *data);

    /* deletions have ended, well or not, or there are more of them to do */
    void   (*deleted)(void *data);

    /* The move of dead letters has ended; it may have been carried out, even
     * if nothing is known of it. */
    void   (*moved)(void *data);

    /* The replay is about to begin; 0: nobody waits for it any more. */
    ngx_uint_t  (*replaying)(void *data);

    /* NGX_OK; NGX_DECLINED: there is no such dead letter; NGX_ERROR */
    void   (*replayed)(void *data, ngx_int_t replayed);
} ngx_payment_outbox_shard_handlers_t;


typedef struct {
    ngx_payment_outbox_conf_t   *conf;
    ngx_payment_shard_t         *shard;
    ngx_payment_node_t          *node;
    ngx_payment_outbox_stats_t  *stats;
    ngx_payment_life_gauges_t   *gauges;      /* of this life */
    ngx_log_t                   *log;

    const ngx_payment_outbox_shard_handlers_t  *handlers;
    void                        *data;

    ngx_payment_relay_state_e    state;
    payment_inflight_t           table;
    payment_floor_t              floor;       /* no row is below it */
    payment_floor_t              settled;     /* below it, every row is known;
                                                 forgotten by each rewind */
    payment_aside_t              aside;
    uint64_t                     aside_gate;  /* the largest of theirs */
    uint64_t                     aside_oldest_us; /* since when one waits */
    uint64_t                     aside_aged_ms;   /* when that was looked for */
    uint64_t                     crowded_until_ms; /* then it is said again
                                                      that there is no room */
    ngx_payment_storm_t          failures;    /* lines about statements */
    payment_lease_t              lease;

    ngx_uint_t                   server;      /* that rows are changed on */
    ngx_uint_t                   doubts;      /* ids changed their meaning */
    uint32_t                     reads;       /* SELECTs that saw whose ids
                                                 are */
    unsigned                     aside_taken:1;   /* the oldest of them may be
                                                     another by now */
    unsigned                     reading:1;   /* rows may still be shown */
    unsigned                     replaying:1; /* rows may come below the floor
                                                 */
    unsigned                     astray:1;    /* what is set aside might stay
                                                 there: begin anew */
} ngx_payment_outbox_shard_t;


ngx_int_t ngx_payment_outbox_shard_init(ngx_payment_outbox_shard_t *sh,
    size_t capacity);

/*
 * Did all statements of an exchange succeed?  NGX_OK; else NGX_ERROR, the
 * failure is counted, and logged when its error is another than the last one
 * of whoever keeps it in *last.
 */
ngx_int_t ngx_payment_outbox_shard_check(ngx_payment_outbox_shard_t *sh,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n, ngx_uint_t lost,
    const char *phase, ngx_uint_t *last);

/* The pause after so many failures in a row, one at least; in ms. */
ngx_msec_t ngx_payment_outbox_shard_pause(ngx_uint_t failures);

/*
 * Sets an event aside, and those behind it: all are known by their ids only.
 * NGX_DECLINED: there is no room, and all is as it was.
 */
ngx_int_t ngx_payment_outbox_shard_set_aside(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e);

/*
 * Sets aside those behind an event that waits for long itself, or leaves them
 * where they are, if there is no room: else they would fill the table, and
 * nothing would be read any more that could be published.
 */
void ngx_payment_outbox_shard_set_aside_behind(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e);

/* When the oldest event that is set aside was created, as of a moment ago; 0:
 * none is. */
uint64_t ngx_payment_outbox_shard_oldest_aside(ngx_payment_outbox_shard_t *sh,
    uint64_t now_ms);

/* What was set aside is to be read again. */
void ngx_payment_outbox_shard_forget_aside(ngx_payment_outbox_shard_t *sh);

/* An event does not occupy its payment any more.  The next one can be handed
 * out; or, if those behind it were set aside, their rows are wanted. */
void ngx_payment_outbox_shard_vacate(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e);

/* Forgets an event; its row may be shown once more by the read under way. */
void ngx_payment_outbox_shard_forget(ngx_payment_outbox_shard_t *sh,
    payment_event_t *e);

/* What a payment's first event is known by, as long as its row was not seen. */
uint64_t ngx_payment_outbox_shard_early_id(const u_char *aggregateid,
    size_t len);

/*
 * The row of a payment's first event was seen.  NGX_OK: the event was handed
 * out before that, and is known by its id from now on.
 */
ngx_int_t ngx_payment_outbox_shard_meet(ngx_payment_outbox_shard_t *sh,
    uint64_t id, const u_char *aggregateid, size_t len);

#endif /* NGX_PAYMENT_OUTBOX_SHARD_H */
