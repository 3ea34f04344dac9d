/*
 * One attempt to connect to a server of a shard.
 *
 * Opening a connection blocks in many places of the client library (the
 * resolver, the TLS handshake, the session's statements), so each attempt runs
 * in a short-lived thread of its own.  The thread touches nothing but its
 * attempt, which has copies of what it needs of the configuration: a process
 * that ends does not wait for its threads.  The finished attempt comes back to
 * the event loop through a pipe, and there its done() is called.
 *
 * Owner: ngx_payment_db.c, which has at most one attempt a connection under
 * way.  Limits: shard->connect_timeout, in whole seconds, for each blocking
 * call of the library.
 */

#ifndef NGX_PAYMENT_ATTEMPT_H
#define NGX_PAYMENT_ATTEMPT_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_gtid.h"
#include "ngx_payment_identity.h"
#include "ngx_payment_requirement.h"
#include "ngx_payment_shard.h"
#include "ngx_payment_topology.h"

#include <mysql.h>


#define NGX_PAYMENT_DB_STMTS_MAX    12      /* of one exchange; prepared, of
                                               one connection */
#define NGX_PAYMENT_DB_MESSAGE_LEN  256

/* Reasons of ours for giving a connection up, beyond the numbers of server and
 * library; the message says more. */
#define NGX_PAYMENT_DB_E_READ_ONLY  3001
#define NGX_PAYMENT_DB_E_SCHEMA     3002
#define NGX_PAYMENT_DB_E_RESOURCES  3003
#define NGX_PAYMENT_DB_E_UNFIT      3004    /* a requirement is not met */
#define NGX_PAYMENT_DB_E_IDENTITY   3005    /* another's database */
#define NGX_PAYMENT_DB_E_OTHER      3006    /* not the primary's server */
#define NGX_PAYMENT_DB_E_TOPOLOGY   3007    /* it has not the payments */

/* texts that a server says of itself */
#define NGX_PAYMENT_DB_SAID_LEN     48
#define NGX_PAYMENT_DB_WHO_LEN      128


typedef struct ngx_payment_attempt_s  ngx_payment_attempt_t;

/* Called from the event loop.  The attempt is the receiver's then: to be freed
 * with ngx_payment_attempt_free(). */
typedef void (*ngx_payment_attempt_done_pt)(ngx_payment_attempt_t *a);


struct ngx_payment_attempt_s {
    /* of the event loop; the thread does not look at them */
    ngx_payment_attempt_done_pt  done;      /* NULL: nobody waits for it */
    void                        *data;
    ngx_uint_t                   server;    /* index into shard->servers */
    uint64_t                     choice;    /* ngx_payment_common.h */

    /* the result: a connection with its statements, or error and message */
    MYSQL                       *mysql;
    MYSQL_STMT                  *stmts[NGX_PAYMENT_DB_STMTS_MAX];
    ngx_uint_t                   advice;    /* 1 << each requirement that the
                                               server should meet and does
                                               not */
    ngx_uint_t                   mighty;    /* 1: may write in spite of
                                               read_only */
    char                         said[NGX_PAYMENT_REQUIREMENTS]
                                     [NGX_PAYMENT_DB_SAID_LEN];
    char                         who[NGX_PAYMENT_DB_WHO_LEN];
    char                         how[NGX_PAYMENT_DB_SAID_LEN];  /* TLS, schema:
                                               for the log */
    ngx_payment_topology_t       topology;
    uint64_t                     unconfirmed;   /* with durability replica */
    ngx_uint_t                   voters;        /* the same, of a look */
    ngx_uint_t                   lacking;       /* 1: it lacks last */
    ngx_uint_t                   error;     /* 0: connected */
    const char                  *phase;     /* what failed */
    char                         message[NGX_PAYMENT_DB_MESSAGE_LEN];

    /* what is wanted; texts are copies in the attempt's own memory */
    const char *const           *session;
    const char *const           *prepare;
    char                        *host;      /* NULL: unix socket */
    char                        *path;      /* NULL: TCP */
    char                        *user;
    char                        *password;
    char                        *database;
    ngx_payment_identity_t       identity;
    char                        *ssl_ca;    /* NULL: none, as the next two */
    char                        *ssl_certificate;
    char                        *ssl_certificate_key;
    in_port_t                    port;
    unsigned int                 seconds;   /* of patience, for each call */
    ngx_uint_t                   durability;
    ngx_payment_gtid_t           last;      /* that was confirmed */
    ngx_uint_t                   uses;      /* ngx_payment_rights_of() */
    unsigned                     archive:1;
    unsigned                     ssl:1;
    unsigned                     ssl_verify:1;
    unsigned                     look:1;    /* see ngx_payment_attempt_look() */
};


/* Once in a process, before the first attempt. */
ngx_int_t ngx_payment_attempt_init_process(ngx_cycle_t *cycle);
void ngx_payment_attempt_exit_process(ngx_cycle_t *cycle);

/* An attempt at the shard's primary.  session (SQL to run) and prepare
 * (SQL to prepare, or NULL) end with NULL and must live as long as the process.
 * NULL: no memory. */
ngx_payment_attempt_t *ngx_payment_attempt_create(
    ngx_payment_shard_t *shard, const char *const *session,
    const char *const *prepare, ngx_log_t *log);

/*
 * An attempt that only looks at what one server of the shard says of the
 * topology, be it the primary or a replica.  It keeps its connection, and may
 * be started again when done() was called: it looks again then.  NULL: no
 * memory.
 */
ngx_payment_attempt_t *ngx_payment_attempt_look(ngx_payment_shard_t *shard,
    ngx_uint_t server, ngx_log_t *log);

/* NGX_OK: done() will be called, never from within this call.  NGX_ERROR: there
 * is no thread to be had, and the attempt says so; it stays the caller's. */
ngx_int_t ngx_payment_attempt_start(ngx_payment_attempt_t *a,
    ngx_payment_attempt_done_pt done, void *data);

/*
 * The same in this thread, which waits for the end, of a process that has no
 * event loop.  Returns the attempt's error; 0: connected.
 */
ngx_uint_t ngx_payment_attempt_run(ngx_payment_attempt_t *a, ngx_log_t *log);

/*
 * For nginx -t, of an attempt that has ended and has its connection still.  May
 * the user do all that, by ngx_payment_rights.h?  And are the statements as the
 * database has its tables?  Both return the attempt's error; 0: yes.
 */
ngx_uint_t ngx_payment_attempt_may(ngx_payment_attempt_t *a, ngx_uint_t what);
ngx_uint_t ngx_payment_attempt_prepare(ngx_payment_attempt_t *a);

/* Adds to the message where to look, when one of these has failed. */
void ngx_payment_attempt_advise(ngx_payment_attempt_t *a);

/* Nobody waits any more for an attempt that was started: done() will not be
 * called, and the attempt is freed when its thread has ended. */
void ngx_payment_attempt_abandon(ngx_payment_attempt_t *a);

/* Sets error and message; returns the error. */
ngx_uint_t ngx_payment_attempt_fail(ngx_payment_attempt_t *a,
    ngx_uint_t error, const char *message);

/* Also closes the connection, unless a->mysql was taken out. */
void ngx_payment_attempt_free(ngx_payment_attempt_t *a);

#endif /* NGX_PAYMENT_ATTEMPT_H */
