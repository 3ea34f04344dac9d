/*
 * One MariaDB connection on nginx's event loop.
 *
 * A connection is owned by one process and used for one exchange at a time: a
 * few statements that are all sent before the first answer is read, so that
 * an exchange costs one round trip whatever it holds.  It is opened by a
 * thread of its own (DNS, TLS and the session's set-up block), and from then on
 * never blocks.  It reopens itself, with jittered back-off, until closed for
 * good.
 *
 * Used by the batch writer in the workers and by the outbox in the helper.
 */

#ifndef NGX_PAYMENT_DB_H
#define NGX_PAYMENT_DB_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_assert.h"
#include "ngx_payment_attempt.h"
#include "ngx_payment_common.h"
#include "ngx_payment_shard.h"
#include "ngx_payment_stats.h"

#include <mysql.h>


/* milliseconds since 1970 of a DATETIME(6) in UTC, in SQL */
#define NGX_PAYMENT_DB_MS(column)                                             \
    "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', " column ") DIV 1000"

typedef struct ngx_payment_db_s        ngx_payment_db_t;
typedef struct ngx_payment_db_stmt_s   ngx_payment_db_stmt_t;


/*
 * A statement of an exchange.  In: either stmt (prepared and bound; its buffers
 * must live until the exchange ends) or sql, and rows, if it is known how many
 * it affects.  Out: error 0 and affected, and result if the statement has one;
 * or the server's error number and message.
 * The results belong to the exchange: they are freed when its handler returns.
 */

struct ngx_payment_db_stmt_s {
    MYSQL_STMT                *stmt;
    ngx_str_t                  sql;
    uint64_t                   rows;       /* 0: any number */

    ngx_uint_t                 error;
    uint64_t                   affected;
    MYSQL_RES                 *result;
    char                       message[NGX_PAYMENT_DB_MESSAGE_LEN];
};


typedef enum {
    NGX_PAYMENT_DB_CLOSED = 0,     /* waits for its timer, then connects */
    NGX_PAYMENT_DB_CONNECTING,     /* a thread has it */
    NGX_PAYMENT_DB_IDLE,           /* ready for an exchange */
    NGX_PAYMENT_DB_BUSY            /* in an exchange */
} ngx_payment_db_state_e;


/* A connection has become IDLE by connecting, or an attempt has failed. */
typedef void (*ngx_payment_db_state_pt)(ngx_payment_db_t *db);

/*
 * An exchange ended.  lost is 0, or the client error number with which the
 * connection died (2013 also for a timeout); then statements from db->read on
 * have no answer, and db->sent says how many statements may have reached the
 * server.  The handler may start the next exchange on a connection that is
 * not lost.
 */
typedef void (*ngx_payment_db_done_pt)(ngx_payment_db_t *db, ngx_uint_t lost);


struct ngx_payment_db_s {
    ngx_payment_db_state_e     state;
    ngx_payment_shard_t       *shard;
    ngx_log_t                 *log;
    void                      *data;

    /* set by the owner before ngx_payment_db_open() */
    ngx_payment_shard_stats_t *stats;       /* NULL: nobody counts */
    ngx_payment_gauges_t      *gauges;      /* NULL, as stats: the helper's */
    ngx_payment_db_state_pt    ready;
    ngx_payment_db_state_pt    down;        /* a connect attempt failed */
    const char *const         *session;     /* SQL to run first, NULL at end */
    const char *const         *prepare;     /* SQL to prepare then, NULL at end;
                                               or NULL */

    MYSQL                     *mysql;
    MYSQL_STMT                *stmts[NGX_PAYMENT_DB_STMTS_MAX];
    ngx_connection_t          *connection;
    ngx_uint_t                 server;      /* index into shard->servers */
    uint64_t                   choice;      /* of the primary, by which the
                                               connection was opened, or last
                                               tried */

    /* the exchange under way */
    ngx_payment_db_stmt_t     *exchange;
    ngx_uint_t                 n;
    ngx_uint_t                 sent;
    ngx_uint_t                 read;
    ngx_payment_db_done_pt     done;
    ngx_uint_t                 step;        /* private to ngx_payment_db.c */
    int                        wait;        /* MYSQL_WAIT_* */

    ngx_event_t                timer;       /* exchange, idle or reconnect */
    char                       gtid[NGX_PAYMENT_GTID_LEN + 1];
                                            /* of the last commit, where the
                                               session tracks it */
    uint64_t                   unconfirmed; /* commits of the server, with
                                               durability replica: see
                                               ngx_payment_topology.h */
    ngx_msec_t                 retry_at;    /* while CLOSED: not before, unless
                                               there is another primary */
    ngx_uint_t                 failures;    /* connect attempts, in a row */
    ngx_uint_t                 requests;    /* exchanges since connected */
    ngx_msec_t                 connected_at;
    ngx_msec_t                 max_age;     /* this connection's, jittered */
    ngx_payment_attempt_t     *attempt;     /* while CONNECTING */
    ngx_msec_t                 doubted;     /* since when the primary seems to
                                               be gone */
    unsigned                   in_doubt:1;
    unsigned                   awaits:1;    /* a server that has claimed the
                                               payments, and no other */
    unsigned                   mighty:1;    /* may write in spite of
                                               read_only */
    unsigned                   closing:1;   /* for good */
    unsigned                   timedout:1;
};


#define ngx_payment_db_count(db, field, n)                                    \
    do {                                                                      \
        if ((db)->stats) {                                                    \
            (void) ngx_atomic_fetch_add(&(db)->stats->field, n);              \
        }                                                                     \
    } while (0)


/* Once in a process, before the first open.  NGX_ERROR: no file descriptor, or
 * no connection of nginx's, is left; the log says so. */
ngx_int_t ngx_payment_db_init_process(ngx_cycle_t *cycle);
void ngx_payment_db_exit_process(ngx_cycle_t *cycle);

/* Starts connecting; ready() follows, now or whenever the server is there. */
void ngx_payment_db_open(ngx_payment_db_t *db);

/* Closes for good, with COM_QUIT where possible.  An exchange under way ends
 * without its handler being called. */
void ngx_payment_db_close(ngx_payment_db_t *db);

/*
 * Starts an exchange on an IDLE connection.  stmts and everything they point
 * to must live until done() was called, from the event loop or, if all went
 * through at once, from within this call.  timeout is in milliseconds; an
 * exchange that takes longer loses the connection.
 */
void ngx_payment_db_exchange(ngx_payment_db_t *db,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n, ngx_msec_t timeout,
    ngx_payment_db_done_pt done);

/* Is an IDLE connection to be used again?  Not when it has had its time or its
 * number of exchanges, or when its server is not the primary any more: the
 * caller gives it up with ngx_payment_db_reset(). */
ngx_uint_t ngx_payment_db_fit(ngx_payment_db_t *db);

/* The server of an IDLE connection cannot do the work, whoever asks: the next
 * one is the primary, for all processes, unless the last one was left for the
 * same reason a moment ago; and the connection begins anew. */
void ngx_payment_db_leave(ngx_payment_db_t *db);

/* Gives up an IDLE connection, whose session is not to be trusted or which has
 * had its time, and reopens it at once. */
void ngx_payment_db_reset(ngx_payment_db_t *db);


typedef enum {
    NGX_PAYMENT_DB_OK = 0,
    NGX_PAYMENT_DB_RETRY,          /* rolled back by the server: try again */
    NGX_PAYMENT_DB_DUPLICATE,      /* 1062 */
    NGX_PAYMENT_DB_UNFIT,          /* the server can not: read-only, full, or
                                      what it has is damaged */
    NGX_PAYMENT_DB_STALE,          /* session is unusable: prepare anew; or
                                      what it was prepared for is not there */
    NGX_PAYMENT_DB_REFUSED         /* a statement or a row is to blame */
} ngx_payment_db_error_e;

ngx_payment_db_error_e ngx_payment_db_classify(ngx_uint_t error);

/*
 * The statement has affected fewer rows than it had to, and no other
 * transaction can be to blame: it was killed (KILL QUERY, max_statement_time).
 * MariaDB reports some of those, a bulk UPDATE and a DELETE, as done; here they
 * get the error that they should have had.
 */
void ngx_payment_db_interrupted(ngx_payment_db_stmt_t *stmt, uint64_t rows);

/* The first statement of an exchange that the server refused; NULL: none. */
ngx_payment_db_stmt_t *ngx_payment_db_error_of(ngx_payment_db_stmt_t *stmts,
    ngx_uint_t n);


/* Writes binary as a hex literal, x'..', so that no client's byte becomes SQL.
 * Returns the end of what it wrote. */
u_char *ngx_payment_db_hex(u_char *p, const u_char *data, size_t len);

#endif /* NGX_PAYMENT_DB_H */
