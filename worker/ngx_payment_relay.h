/*
 * The relay of one shard: what the helper process knows of it, and what the
 * parts that work on it see of each other.
 *
 *   ngx_payment_lease.c    takes and keeps the lease
 *   ngx_payment_reader.c   reads committed events, in order
 *   ngx_payment_relay.c    hands them out, and hears what became of them
 *   ngx_payment_fence.c    deletes, moves and replays rows, under the lease
 *   ngx_payment_purge.c    forgets old idempotency keys and archives
 *
 * Owner: the helper process, or the single one; one thread.
 *
 * Limits: two database connections; a table of known events that is allocated
 * at the start; NGX_PAYMENT_HELD_SIZE of rows in memory, and the one read that
 * goes beyond it.
 */

#ifndef NGX_PAYMENT_RELAY_H
#define NGX_PAYMENT_RELAY_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_outbox.h"
#include "ngx_payment_producer.h"
#include "ngx_payment_row.h"
#include "ngx_payment_db.h"
#include "payment_inflight.h"
#include "payment_lease_rules.h"


#define NGX_PAYMENT_LEASE_NAME       "payment-outbox"

/* rows that are read and can't be handed out yet: stop reading */
#define NGX_PAYMENT_HELD_SIZE        (8 * 1024 * 1024)

/* a read that is full is followed by one of twice its size, up to .. */
#define NGX_PAYMENT_BATCH_GROWTH     8
#define NGX_PAYMENT_BATCH_BYTES      (4 * 1024 * 1024)

#define NGX_PAYMENT_WANTED_MAX       256      /* rows read by their ids */

#define NGX_PAYMENT_READ_STMTS       6
#define NGX_PAYMENT_FENCE_STMTS      8
#define NGX_PAYMENT_SQL_SIZE         1024
#define NGX_PAYMENT_RANGES_SIZE      (24 * 1024)
#define NGX_PAYMENT_SINGLES_SIZE     (24 * 1024)

/* of the fenced statements */
#define NGX_PAYMENT_DELETE_MAX       4000     /* ids at a time */
#define NGX_PAYMENT_DELETE_DELAY     20       /* ms, to have more of them */


typedef enum {
    NGX_PAYMENT_RELAY_STOPPED = 0,   /* no lease */
    NGX_PAYMENT_RELAY_RUNNING,
    NGX_PAYMENT_RELAY_REWINDING,     /* waits for reports, then starts over */
    NGX_PAYMENT_RELAY_ENDED          /* the lease is given back, for good */
} ngx_payment_relay_state_e;


/* what the fence's connection is busy with */

typedef enum {
    NGX_PAYMENT_FENCE_NONE = 0,
    NGX_PAYMENT_FENCE_LEASE,
    NGX_PAYMENT_FENCE_DELETE,
    NGX_PAYMENT_FENCE_DEAD,
    NGX_PAYMENT_FENCE_FOLLOWERS,
    NGX_PAYMENT_FENCE_REPLAY,
    NGX_PAYMENT_FENCE_PURGE,
    NGX_PAYMENT_FENCE_ARCHIVE
} ngx_payment_fence_op_e;


typedef struct ngx_payment_relay_s   ngx_payment_relay_t;
typedef struct ngx_payment_outbox_s  ngx_payment_outbox_t;


/* reading */

typedef struct {
    ngx_payment_db_t             db;
    ngx_payment_db_stmt_t        stmts[NGX_PAYMENT_READ_STMTS];
    u_char                      *sql[NGX_PAYMENT_READ_STMTS];
    ngx_uint_t                   n;

    /* which statement of the exchange is which; -1: not in it */
    ngx_int_t                    wanted_stmt;
    ngx_int_t                    next_stmt;
    ngx_int_t                    barrier_stmt;
    ngx_int_t                    head_stmt;
    ngx_int_t                    max_stmt;
    ngx_int_t                    dead_stmt;

    uint64_t                     cursor;      /* all up to it were seen once */
    ngx_uint_t                   limit;       /* of the next read */
    ngx_uint_t                   asked;       /* .. of the one under way */
    ngx_uint_t                   head_limit;
    uint64_t                     heads;       /* looks at the head, started */
    uint64_t                     heads_done;  /* .. the latest that ended */
    uint64_t                     started_ns;
    uint64_t                     last_rows_ns;  /* when a read found some */
    uint64_t                     head_at_ns;  /* the next look at the head */
    uint64_t                     max_at_ns;   /* the next look at the end */
    uint64_t                     dead_at_ns;  /* .. at the dead letters */

    ngx_event_t                  timer;       /* the end of a pause */
    ngx_event_t                  kick;
    ngx_msec_t                   not_before;  /* the end of the pause */

    size_t                       row_size;    /* average */
    uint64_t                     beyond;      /* rows after the cursor, about */
    uint64_t                     density;     /* rows in 1024 ids, about */

    unsigned                     connected:1; /* once at least */
    unsigned                     busy:1;
    unsigned                     stale:1;     /* drop what is being read */
    unsigned                     again:1;     /* the bell rang meanwhile */
    unsigned                     full:1;      /* the last read was */
    unsigned                     mixed:1;     /* .. held later versions */
    unsigned                     head_wanted:1;
    unsigned                     dead:1;      /* there may be dead letters */
    unsigned                     dead_news:1; /* .. and one more since asked */
} ngx_payment_reader_t;


/* what is done under the lease, and the lease itself */

typedef struct {
    ngx_payment_db_t             db;
    ngx_payment_db_stmt_t        stmts[NGX_PAYMENT_FENCE_STMTS];
    u_char                      *sql[NGX_PAYMENT_FENCE_STMTS];
    ngx_payment_fence_op_e       op;
    ngx_uint_t                   n;
    ngx_uint_t                   work;        /* the statement that counts */
    u_char                      *text;        /* its ranges and singles */
    uint64_t                    *ids;

    payment_lease_t              lease;
    payment_lease_action_e       action;      /* op is LEASE: what of it */
    uint64_t                     last_epoch;  /* of the latest lease */
    ngx_event_t                  timer;       /* the lease's next step */

    ngx_event_t                  kick;
    ngx_event_t                  delete_timer;
    ngx_uint_t                   delete_due;

    uint64_t                     replay_id;   /* dead letter; 0: none */
    uint64_t                     retry_at_ms; /* after an error */
    unsigned                     connected:1; /* once at least */
} ngx_payment_fence_t;


/* the slow walk through idempotency_key, and the archive's partitions */

typedef struct {
    u_char                       position[16];
    u_char                       end[16];     /* of the step under way */
    ngx_uint_t                   n;           /* keys to delete; 0: look */
    u_char                      *sql;         /* .. the statement for that */
    u_char                      *sql_end;
    uint64_t                     step_ms;     /* when the step began */
    uint64_t                     walk_started_ms;   /* 0: none is under way */
    uint64_t                     next_ms;
    uint64_t                     archive_ms;  /* next upkeep */
} ngx_payment_purge_t;


struct ngx_payment_relay_s {
    ngx_payment_outbox_t        *outbox;
    ngx_payment_shard_t         *shard;
    ngx_payment_outbox_stats_t  *stats;
    ngx_log_t                   *log;

    ngx_payment_relay_state_e    state;
    payment_inflight_t           table;
    ngx_payment_reader_t         reader;
    ngx_payment_fence_t          fence;
    ngx_payment_purge_t          purge;

    uint64_t                     resume_at_ns;  /* after a failure */
    ngx_uint_t                   failures;      /* in a row */
    ngx_uint_t                   alone;         /* suspects tried in a row */
    ngx_uint_t                   last_error;    /* of the database, said */
    ngx_uint_t                   server;        /* the one that we know */
    unsigned                     anew:1;        /* when rewound: forget all */
    unsigned                     doubt:1;       /* .. doubt what is known */
};


/* what all relays of the process share */

struct ngx_payment_outbox_s {
    ngx_payment_outbox_conf_t   *conf;
    ngx_payment_stats_t         *stats;
    ngx_cycle_t                 *cycle;
    ngx_log_t                   *log;

    ngx_payment_relay_t         *relays;
    ngx_uint_t                   nrelays;
    ngx_payment_producer_t       producer;

    payment_breaker_t            breaker;
    void                        *breaker_memory;
    payment_breaker_state_e      breaker_state;   /* as last acted upon */
    unsigned                     breaker_on:1;

    payment_lease_node_t         node;
    char                         uuid[PAYMENT_LEASE_UUID_LEN + 1];
    char                         host[256];       /* escaped for SQL */
    u_char                      *predecessors;    /* SQL: 'uuid','uuid' */

    ngx_msec_t                   producer_timeout;
    ngx_uint_t                   overdue;         /* ticks without reports */
    ngx_uint_t                   exclusive;       /* of relay n - 1; 0: none */
    ngx_atomic_uint_t            command;         /* under way */

    ngx_connection_t            *bell;
    ngx_event_t                  tick;
    ngx_event_t                  start;           /* after the delays */
    ngx_uint_t                   life;            /* index of stats' lives */
    unsigned                     started:1;
    unsigned                     draining:1;
};


/* ngx_payment_relay.c */

ngx_int_t ngx_payment_relay_init(ngx_payment_relay_t *r,
    ngx_payment_outbox_t *o, ngx_payment_shard_t *shard);
void ngx_payment_relay_open(ngx_payment_relay_t *r);

/* A connection was made; again: an id may mean another row than before. */
void ngx_payment_relay_connected(ngx_payment_relay_t *r, ngx_payment_db_t *db,
    ngx_uint_t again);

/* The lease came, with what epoch; or it went. */
void ngx_payment_relay_leased(ngx_payment_relay_t *r);
void ngx_payment_relay_unleased(ngx_payment_relay_t *r);

/* Hands out what can be. */
void ngx_payment_relay_pump(ngx_payment_relay_t *r);

/* Hand nothing out, let what is in flight report, then begin at the head. */
void ngx_payment_relay_rewind(ngx_payment_relay_t *r);

void ngx_payment_relay_report(ngx_payment_relay_t *r, payment_event_t *e,
    ngx_payment_verdict_e verdict, rd_kafka_resp_err_t err);
void ngx_payment_relay_abandoned(ngx_payment_relay_t *r);

/* Its row is with the dead letters now. */
void ngx_payment_relay_buried(ngx_payment_relay_t *r, payment_event_t *e);

/* The row of an UNSURE event: NGX_OK when it is the same. */
ngx_int_t ngx_payment_relay_verify(ngx_payment_relay_t *r, payment_event_t *e,
    uint64_t payment, uint32_t version);

/* The table was read to its end: what is still UNSURE is not there. */
void ngx_payment_relay_verified(ngx_payment_relay_t *r);

/* Its row is not there any more; nobody of ours deleted it. */
void ngx_payment_relay_vanished(ngx_payment_relay_t *r, payment_event_t *e);

/* What time brings: retries, slow calls, gauges. */
void ngx_payment_relay_tick(ngx_payment_relay_t *r, uint64_t now_ns);

/* Tells the breaker of those that are in flight for too long, or of all. */
void ngx_payment_relay_tell_breaker(ngx_payment_relay_t *r, uint64_t now_ns,
    ngx_uint_t failed);

/* Gives up the lease once nothing is in flight; ENDED when that is done. */
void ngx_payment_relay_stop(ngx_payment_relay_t *r);
void ngx_payment_relay_close(ngx_payment_relay_t *r);

/* One line for each change of a database error. */
void ngx_payment_relay_db_error(ngx_payment_relay_t *r, const char *phase,
    ngx_uint_t error, const char *message);


/* ngx_payment_reader.c */

ngx_int_t ngx_payment_reader_init(ngx_payment_relay_t *r);
void ngx_payment_reader_open(ngx_payment_relay_t *r);

/* The doorbell rang. */
void ngx_payment_reader_wake(ngx_payment_relay_t *r);

/* Reads if there is reason and room; soon: not from within this call. */
void ngx_payment_reader_next(ngx_payment_relay_t *r);
void ngx_payment_reader_soon(ngx_payment_relay_t *r);

/* Begin at the head; what is being read is dropped. */
void ngx_payment_reader_rewind(ngx_payment_relay_t *r);

/* There is a dead letter: later rows of its payment are to follow it. */
void ngx_payment_reader_dead(ngx_payment_relay_t *r);


/* ngx_payment_lease.c */

void ngx_payment_lease_open(ngx_payment_relay_t *r);

/* The next statement about the lease, if one is due: NGX_OK when sent. */
ngx_int_t ngx_payment_lease_step(ngx_payment_relay_t *r);
void ngx_payment_lease_done(ngx_payment_relay_t *r, ngx_uint_t lost);

/* May an event be handed out at this moment? */
ngx_uint_t ngx_payment_lease_allows(ngx_payment_relay_t *r, uint64_t now_ns);


/* ngx_payment_fence.c */

ngx_int_t ngx_payment_fence_init(ngx_payment_relay_t *r);
void ngx_payment_fence_open(ngx_payment_relay_t *r);

/* The most urgent of what is due, if the connection is free; soon: not from
 * within this call. */
void ngx_payment_fence_next(ngx_payment_relay_t *r);
void ngx_payment_fence_soon(ngx_payment_relay_t *r);
void ngx_payment_fence_acked(ngx_payment_relay_t *r);
ngx_uint_t ngx_payment_fence_pending(ngx_payment_relay_t *r);

/* For the parts that use the fence's connection: statements from n on. */
u_char *ngx_payment_fence_begin(ngx_payment_relay_t *r, u_char *set);
void ngx_payment_fence_statement(ngx_payment_relay_t *r, u_char *sql,
    u_char *end);
void ngx_payment_fence_send(ngx_payment_relay_t *r, ngx_payment_fence_op_e op);


/* ngx_payment_purge.c */

ngx_int_t ngx_payment_purge_init(ngx_payment_relay_t *r);
ngx_int_t ngx_payment_purge_step(ngx_payment_relay_t *r, uint64_t now_ms);
void ngx_payment_purge_done(ngx_payment_relay_t *r, ngx_uint_t lost);
ngx_int_t ngx_payment_archive_step(ngx_payment_relay_t *r, uint64_t now_ms);
void ngx_payment_archive_done(ngx_payment_relay_t *r, ngx_uint_t lost);


/* ngx_payment_outbox.c */

/* 1 and a token: the event may be sent. */
ngx_uint_t ngx_payment_outbox_permit(ngx_payment_outbox_t *o, uint64_t now_ns,
    payment_event_t *e);
void ngx_payment_outbox_result(ngx_payment_outbox_t *o, uint64_t now_ns,
    payment_event_t *e, payment_breaker_outcome_e outcome);
void ngx_payment_outbox_unpermit(ngx_payment_outbox_t *o, payment_event_t *e);



/* ngx_payment_command.c */

void ngx_payment_command_run(ngx_payment_outbox_t *o);
void ngx_payment_command_done(ngx_payment_outbox_t *o,
    ngx_uint_t status);

#endif /* NGX_PAYMENT_RELAY_H */
