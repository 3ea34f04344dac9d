/*
 * One MariaDB connection on nginx's event loop: see ngx_payment_db.h.
 *
 * The socket is non-blocking and the library's coroutines are resumed by
 * epoll; every yield of theirs comes after an EAGAIN, so edge-triggered events
 * are safe as long as a coroutine is resumed by the event it waits for and by
 * no other.
 *
 *     CLOSED -> CONNECTING -> IDLE <-> BUSY -> CLOSED
 *
 * This file decides when to connect and to which server; how that is done is
 * ngx_payment_attempt.c's.
 */

#include "ngx_payment_clock.h"
#include "ngx_payment_db.h"
#include "ngx_payment_parked.h"

#include <errmsg.h>
#include <mysqld_error.h>
#include <openssl/err.h>


/* the first pause between two rounds of attempts, and the age below which the
 * loss of a connection counts as a failed attempt */
#define NGX_PAYMENT_DB_BACKOFF_MIN      100         /* ms */
#define NGX_PAYMENT_DB_BACKOFF_MAX      1500        /* ms */
#define NGX_PAYMENT_DB_BACKOFF_FIRST    10          /* ms, after one round */

/* the server's error for innodb_force_recovery, which the library's header does
 * not name */
#define NGX_PAYMENT_DB_FORCED_RECOVERY  1881

/* how long the primary must seem to be gone, to one of us who tries and without
 * an answer to any other, before it is another server */
#define NGX_PAYMENT_DB_DOUBT            100         /* ms */

/* how long a new database waits for others to be seen, or a shard for a server
 * that has claimed its payments, before that is a fault */
#define NGX_PAYMENT_DB_FIRST_LOOK       2000        /* ms */

/* where servers claim the payments: how often a server that has not is tried
 * again, and how often it is looked whether there is another primary */
#define NGX_PAYMENT_DB_CLAIM_RETRY      200         /* ms */
#define NGX_PAYMENT_DB_CLAIM_POLL       20          /* ms */

/* for how long no server may have the payments, and the node be ready for them
 * all the same: a planned switch is shorter */
#define NGX_PAYMENT_DB_SWITCH           500         /* ms */


typedef enum {
    STEP_SEND = 0,
    STEP_SENDING_STMT,
    STEP_SENDING_SQL,
    STEP_READ,
    STEP_READING,
    STEP_STORE,
    STEP_STORING
} ngx_payment_db_step_e;


static void ngx_payment_db_connect(ngx_payment_db_t *db);
static void ngx_payment_db_connected(ngx_payment_attempt_t *a);
static ngx_msec_t ngx_payment_db_draw_age(const ngx_payment_shard_t *shard);
static void ngx_payment_db_connect_failed(ngx_payment_db_t *db,
    ngx_payment_attempt_t *a);
static uint32_t ngx_payment_db_cause(const ngx_payment_attempt_t *a);
static ngx_int_t ngx_payment_db_accept(ngx_payment_db_t *db,
    ngx_payment_attempt_t *a);
static ngx_int_t ngx_payment_db_claimed(ngx_payment_db_t *db,
    ngx_payment_attempt_t *a);
static void ngx_payment_db_objected(ngx_payment_common_shard_t *common);
static ngx_uint_t ngx_payment_db_doubt(ngx_payment_db_t *db,
    ngx_payment_attempt_t *a);
static ngx_msec_t ngx_payment_db_since(ngx_payment_db_t *db);
static void ngx_payment_db_advise(ngx_payment_db_t *db,
    ngx_payment_attempt_t *a);
static void ngx_payment_db_reconnect_later(ngx_payment_db_t *db);
static void ngx_payment_db_wait(ngx_payment_db_t *db);
static ngx_int_t ngx_payment_db_watch(ngx_payment_db_t *db);
static void ngx_payment_db_advance(ngx_payment_db_t *db, int ready);
static ngx_int_t ngx_payment_db_step(ngx_payment_db_t *db, int ready,
    ngx_uint_t *lost);
static void ngx_payment_db_track(ngx_payment_db_t *db);
static void ngx_payment_db_finish(ngx_payment_db_t *db, ngx_uint_t lost);
static void ngx_payment_db_rest(ngx_payment_db_t *db);
static void ngx_payment_db_read_handler(ngx_event_t *rev);
static void ngx_payment_db_write_handler(ngx_event_t *wev);
static void ngx_payment_db_timer_handler(ngx_event_t *ev);
static void ngx_payment_db_teardown(ngx_payment_db_t *db, ngx_uint_t abort);
static void ngx_payment_db_unwatch(ngx_payment_db_t *db, ngx_uint_t parked);


ngx_int_t
ngx_payment_db_init_process(ngx_cycle_t *cycle)
{
    if (mysql_library_init(0, NULL, NULL)) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "payment: mysql_library_init() failed");
        return NGX_ERROR;
    }

    return ngx_payment_attempt_init_process(cycle);
}


void
ngx_payment_db_exit_process(ngx_cycle_t *cycle)
{
    /* the library stays until the process is gone: a thread may be in it */

    ngx_payment_attempt_exit_process(cycle);
}


void
ngx_payment_db_open(ngx_payment_db_t *db)
{
    db->state = NGX_PAYMENT_DB_CLOSED;
    db->timer.handler = ngx_payment_db_timer_handler;
    db->timer.data = db;
    db->timer.log = db->log;
    db->timer.cancelable = 1;

    ngx_payment_db_connect(db);
}


void
ngx_payment_db_close(ngx_payment_db_t *db)
{
    db->closing = 1;

    if (db->timer.timer_set) {
        ngx_del_timer(&db->timer);
    }

    if (db->state == NGX_PAYMENT_DB_CONNECTING) {
        ngx_payment_attempt_abandon(db->attempt);
        db->attempt = NULL;

    } else if (db->state != NGX_PAYMENT_DB_CLOSED) {
        ngx_payment_db_teardown(db, db->state == NGX_PAYMENT_DB_BUSY);
    }

    db->state = NGX_PAYMENT_DB_CLOSED;
}


void
ngx_payment_db_reset(ngx_payment_db_t *db)
{
    if (db->state != NGX_PAYMENT_DB_IDLE) {
        return;
    }

    if (db->timer.timer_set) {
        ngx_del_timer(&db->timer);
    }

    ngx_payment_db_teardown(db, 0);
    ngx_payment_db_connect(db);
}


/* connecting */

static void
ngx_payment_db_connect(ngx_payment_db_t *db)
{
    ngx_payment_server_t   *server;
    ngx_payment_attempt_t  *a;

    if (db->closing) {
        return;
    }

    a = ngx_payment_attempt_create(db->shard, db->session, db->prepare,
                                   db->log);
    if (a == NULL) {
        ngx_payment_db_reconnect_later(db);
        return;
    }

    db->server = a->server;
    db->choice = a->choice;
    server = (ngx_payment_server_t *) db->shard->servers.elts + a->server;

    if (server->parked >= ngx_payment_parked_max(db->shard)) {
        a->phase = "connecting";
        (void) ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_RESOURCES,
                                        "the server has not ended what was "
                                        "asked on connections given up");
        ngx_payment_db_connect_failed(db, a);
        return;
    }

    if (ngx_payment_attempt_start(a, ngx_payment_db_connected, db) != NGX_OK) {
        ngx_payment_db_connect_failed(db, a);
        return;
    }

    db->attempt = a;
    db->state = NGX_PAYMENT_DB_CONNECTING;
}


static void
ngx_payment_db_connected(ngx_payment_attempt_t *a)
{
    my_bool                yes;
    ngx_uint_t             i;
    ngx_payment_db_t      *db;
    ngx_payment_shard_t   *shard;
    ngx_payment_server_t  *server, *servers;

    db = a->data;
    shard = db->shard;
    servers = shard->servers.elts;
    server = &servers[a->server];

    db->attempt = NULL;
    db->state = NGX_PAYMENT_DB_CLOSED;

    if (ngx_payment_db_accept(db, a) == NGX_AGAIN) {
        /* another connection has moved on to another server meanwhile */
        ngx_payment_attempt_free(a);
        ngx_payment_db_reconnect_later(db);
        return;
    }

    if (a->error == 0) {
        yes = 1;
        (void) mysql_optionsv(a->mysql, MARIADB_OPT_SKIP_READ_RESPONSE, &yes);

        db->mysql = a->mysql;
        ngx_memcpy(db->stmts, a->stmts, sizeof(db->stmts));
        a->mysql = NULL;
        ngx_memzero(a->stmts, sizeof(a->stmts));

        if (ngx_payment_db_watch(db) != NGX_OK) {
            ngx_payment_db_teardown(db, 0);
            a->phase = "taking the socket over";
            (void) ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_RESOURCES,
                                            "no free connection or fd");
        }
    }

    if (a->error) {
        ngx_payment_db_connect_failed(db, a);
        return;
    }

    for (i = 0; i < shard->servers.nelts; i++) {
        servers[i].last_error = 0;
    }

    /* also what a process told that has died since */

    if (ngx_payment_common_untell(shard, db->gauges == NULL)) {
        ngx_log_error(NGX_LOG_NOTICE, db->log, 0,
                      "payment: shard \"%V\": connected to %V again",
                      &shard->name, &server->name);
    }

    ngx_payment_db_advise(db, a);

    shard->common->refused = 0;
    shard->common->objected = 0;
    shard->common->answered = ngx_current_msec;

    db->choice = a->choice;
    db->mighty = a->mighty ? 1 : 0;
    db->unconfirmed = a->unconfirmed;

    ngx_payment_attempt_free(a);

    ngx_payment_db_count(db, connects, 1);

    db->failures = 0;
    db->in_doubt = 0;
    db->awaits = 0;
    db->requests = 0;
    db->connected_at = ngx_current_msec;
    db->max_age = ngx_payment_db_draw_age(shard);

    db->state = NGX_PAYMENT_DB_IDLE;
    ngx_payment_db_rest(db);

    if (db->state == NGX_PAYMENT_DB_IDLE) {
        db->ready(db);
    }
}


/* Up to a tenth less than the longest, so that connections that were opened
 * together do not end together. */

static ngx_msec_t
ngx_payment_db_draw_age(const ngx_payment_shard_t *shard)
{
    return shard->max_age
           - (shard->max_age
              ? (ngx_msec_t) ngx_random() % (shard->max_age / 10 + 1) : 0);
}


/* Whose database it is, and which server: is it the one that all of us use?
 * NGX_AGAIN: there is another one now. */

static ngx_int_t
ngx_payment_db_accept(ngx_payment_db_t *db, ngx_payment_attempt_t *a)
{
    ngx_payment_shard_t  *shard;
    char                  message[NGX_PAYMENT_DB_MESSAGE_LEN];

    shard = db->shard;

    if (ngx_payment_common_moved(shard, a->choice)) {
        return NGX_AGAIN;
    }

    if (a->error) {

        if (a->identity.nobodys && a->error == NGX_PAYMENT_DB_E_IDENTITY) {
            ngx_payment_identity_nobodys(shard);
        }

        return NGX_DECLINED;
    }

    if (ngx_payment_identity_found(shard, &a->identity, message,
                                   sizeof(message))
        != NGX_OK)
    {
        (void) ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_IDENTITY,
                                        message);
        return NGX_DECLINED;
    }

    if (ngx_payment_db_claimed(db, a) != NGX_OK) {
        return NGX_DECLINED;
    }

    switch (ngx_payment_common_confirm(shard, &a->choice, a->who, a->how,
                                       db->log))
    {

    case NGX_OK:
        return NGX_OK;

    case NGX_AGAIN:
        return NGX_AGAIN;

    default: /* NGX_DECLINED */
        (void) snprintf(message, sizeof(message), "it is another server than "
                        "the one that payments were written to: %s", a->who);
        (void) ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_OTHER, message);
        return NGX_DECLINED;
    }
}


/*
 * Has this server the payments?  Where claims are made, its own word is not
 * enough: a primary that was cut off, or that came back, does not know of its
 * successor.  Most of the shard's servers must have answered, for at least one
 * of them does.
 */

static ngx_int_t
ngx_payment_db_claimed(ngx_payment_db_t *db, ngx_payment_attempt_t *a)
{
    char                   message[NGX_PAYMENT_DB_MESSAGE_LEN];
    const char            *objection;
    ngx_payment_shard_t   *shard;
    ngx_payment_server_t  *server;

    shard = db->shard;
    objection = ngx_payment_topology_objection(shard, &a->topology);

    if (objection && !ngx_exiting) {
        ngx_payment_db_objected(shard->common);
    }

    if (objection == NULL && a->topology.claims && shard->servers.nelts > 1
        && !ngx_payment_common_seen(shard))
    {
        objection = "has claimed the payments, but too few of the shard's "
                    "servers have said that no other one has";
    }

    if (shard->servers.nelts == 1) {
        /* there is no probe that would say so */
        shard->common->claimed = a->topology.claims;
        shard->common->frozen = a->topology.claims && a->topology.claimed == 0;
        shard->common->found = (objection == NULL);
    }

    if (objection == NULL && !a->lacking) {
        shard->common->lacking = 0;
        return NGX_OK;
    }

    server = (ngx_payment_server_t *) shard->servers.elts + a->server;

    a->phase = "looking at the topology";

    if (objection == NULL) {
        shard->common->lacking = 1;

        (void) snprintf(message, sizeof(message), "%s lacks payments that were "
                        "answered, up to %u-%u-%llu: promote another server, "
                        "or accept the loss by payment_outbox_admin",
                        server->name.data, a->last.domain, a->last.server_id,
                        (unsigned long long) a->last.number);
        (void) ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_TOPOLOGY, message);

        return NGX_DECLINED;
    }

    (void) snprintf(message, sizeof(message), "%s %s (epoch %llu, claimed by "
                    "server_id %llu, this is %llu)", server->name.data,
                    objection, (unsigned long long) a->topology.epoch,
                    (unsigned long long) a->topology.claimed,
                    (unsigned long long) a->topology.server_id);
    (void) ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_TOPOLOGY, message);

    return NGX_DECLINED;
}


/*
 * A server has not the payments.  That is told to who asks for health when it
 * has lasted: through a planned switch, payments wait.  It counts as no failure
 * while they are frozen, and has to be told all the same.
 */

static void
ngx_payment_db_objected(ngx_payment_common_shard_t *common)
{
    if (common->objected == 0) {
        common->objected = ngx_current_msec ? ngx_current_msec : 1;
    }

    /* another process may be ahead of this one's clock */

    if ((ngx_msec_int_t) (ngx_current_msec - common->objected)
        < NGX_PAYMENT_DB_SWITCH)
    {
        return;
    }

    common->refused = ngx_current_msec;
    common->last_error = ngx_payment_stats_error(NGX_PAYMENT_DB_E_TOPOLOGY,
                                                 ngx_payment_unix_us() / 1000);
}


/* What the server should be and is not, once for each process. */

static void
ngx_payment_db_advise(ngx_payment_db_t *db, ngx_payment_attempt_t *a)
{
    ngx_uint_t                        i;
    ngx_payment_shard_t              *shard;
    ngx_payment_server_t             *server;
    const ngx_payment_requirement_t  *r;

    shard = db->shard;
    server = (ngx_payment_server_t *) shard->servers.elts + a->server;

    for (i = 0; i < NGX_PAYMENT_REQUIREMENTS; i++) {

        if ((a->advice & ~shard->warned & (ngx_uint_t) 1 << i) == 0) {
            continue;
        }

        r = &ngx_payment_requirements[i];
        shard->warned |= (ngx_uint_t) 1 << i;

        ngx_log_error(NGX_LOG_WARN, db->log, 0,
                      "payment: shard \"%V\", %V: %s is %s, %s",
                      &shard->name, &server->name, r->name, a->said[i],
                      r->otherwise);
    }
}


static void
ngx_payment_db_connect_failed(ngx_payment_db_t *db,
    ngx_payment_attempt_t *a)
{
    uint32_t               digest;
    ngx_uint_t             known;
    ngx_payment_shard_t   *shard;
    ngx_payment_server_t  *server;

    shard = db->shard;
    server = (ngx_payment_server_t *) shard->servers.elts + a->server;

    known = !ngx_payment_db_doubt(db, a);

    /* once for a server and a reason, not for each try nor each process */

    digest = ngx_payment_db_cause(a);

    if (server->last_error != digest && (known || !a->identity.nobodys)) {
        server->last_error = digest;

        if (ngx_payment_common_tell(shard, a->server, digest,
                                    db->gauges == NULL))
        {
            ngx_log_error(NGX_LOG_ERR, db->log, 0,
                          "payment: shard \"%V\": %s failed, server %V: (%ui) "
                          "%s", &shard->name, a->phase, &server->name,
                          a->error, a->message);
        }
    }

    ngx_payment_db_count(db, connect_failures, 1);

    if (known) {
        db->failures++;
        shard->common->last_error =
               ngx_payment_stats_error(a->error, ngx_payment_unix_us() / 1000);
    }

    /* an old worker's word does not count: it asks with its own settings */

    if (!ngx_exiting
        && (a->error == NGX_PAYMENT_DB_E_READ_ONLY
            || a->error == NGX_PAYMENT_DB_E_UNFIT))
    {
        shard->common->refused = ngx_current_msec;
    }

    ngx_payment_attempt_free(a);
    ngx_payment_db_reconnect_later(db);

    if (db->down) {
        db->down(db);
    }
}


/* What was lost or not reached has other words each time; everything else is
 * told again when its words are others, be the number the same. */

static uint32_t
ngx_payment_db_cause(const ngx_payment_attempt_t *a)
{
    if (a->error >= CR_MIN_ERROR && a->error <= CR_MYSQL_LAST_ERROR
        && a->error != CR_SSL_CONNECTION_ERROR)
    {
        return (uint32_t) a->error;
    }

    return ngx_crc32_long((u_char *) a->message, ngx_strlen(a->message));
}


/*
 * An attempt at the primary failed: is it time for another one?  Never for want
 * of something of our own.  At once if the server says itself that it cannot do
 * the work.  Otherwise only if it is gone for everybody: where others of us are
 * at work, this connection waits for its turn.  1: that is not known yet.
 */

static ngx_uint_t
ngx_payment_db_doubt(ngx_payment_db_t *db, ngx_payment_attempt_t *a)
{
    ngx_uint_t            moved;
    ngx_payment_shard_t  *shard;

    shard = db->shard;

    switch (a->error) {

    case NGX_PAYMENT_DB_E_RESOURCES:
    case CR_OUT_OF_MEMORY:
        return 0;

    default:
        break;
    }

    db->awaits = shard->common->claimed
                 || a->error == NGX_PAYMENT_DB_E_TOPOLOGY;

    if (db->awaits) {
        /* the probe finds the server that has the payments; while they are
         * frozen, there is none to be found */
        shard->common->look = 1;
        return shard->common->frozen
               || ngx_payment_db_since(db) < NGX_PAYMENT_DB_FIRST_LOOK;
    }

    switch (a->error) {

    case NGX_PAYMENT_DB_E_READ_ONLY:
    case NGX_PAYMENT_DB_E_UNFIT:
        break;

    default:

        if (a->identity.nobodys && shard->common->place == 0
            && ngx_payment_db_since(db) < NGX_PAYMENT_DB_FIRST_LOOK)
        {
            return 1;
        }

        if (shard->servers.nelts == 1 && a->error != NGX_PAYMENT_DB_E_OTHER) {
            return 0;
        }

        if (shard->open) {
            db->in_doubt = 0;
            return 0;
        }

        if (ngx_payment_db_since(db) < NGX_PAYMENT_DB_DOUBT) {
            return 1;
        }

        if ((ngx_msec_int_t) (shard->common->answered - db->doubted) >= 0) {
            db->in_doubt = 0;
            return 0;
        }
    }

    db->in_doubt = 0;

    if (a->error == NGX_PAYMENT_DB_E_OTHER) {
        moved = ngx_payment_common_renew(shard, a->choice);

    } else {
        moved = shard->servers.nelts > 1
                && ngx_payment_common_move(shard, a->choice);
    }

    if (moved) {
        ngx_payment_db_count(db, failovers, 1);
    }

    return 0;
}


/* The age of the doubt, which begins now if there is none. */

static ngx_msec_t
ngx_payment_db_since(ngx_payment_db_t *db)
{
    if (!db->in_doubt) {
        db->in_doubt = 1;
        db->doubted = ngx_current_msec;
    }

    return ngx_current_msec - db->doubted;
}


void
ngx_payment_db_leave(ngx_payment_db_t *db)
{
    if (db->shard->common->claimed) {
        db->shard->common->look = 1;

    } else if (db->shard->servers.nelts > 1
               && ngx_payment_common_leave(db->shard, db->choice))
    {
        ngx_payment_db_count(db, failovers, 1);
    }

    ngx_payment_db_reset(db);
}


static void
ngx_payment_db_reconnect_later(ngx_payment_db_t *db)
{
    ngx_msec_t  delay;
    ngx_uint_t  rounds;

    if (db->closing) {
        return;
    }

    if (db->awaits) {
        /* there is one server to be asked, until another one is the primary */
        delay = NGX_PAYMENT_DB_CLAIM_RETRY;

    } else if (db->failures && db->failures < db->shard->servers.nelts) {
        /* there are servers that were not asked yet */
        delay = 1;

    } else {
        rounds = db->failures / db->shard->servers.nelts;

        delay = NGX_PAYMENT_DB_BACKOFF_FIRST;

        if (rounds > 1) {
            delay = NGX_PAYMENT_DB_BACKOFF_MIN << ngx_min(rounds, 6);
            delay = ngx_min(delay, NGX_PAYMENT_DB_BACKOFF_MAX);
        }

        delay -= (ngx_msec_t) ngx_random() % (delay / 2 + 1);
    }

    db->state = NGX_PAYMENT_DB_CLOSED;
    db->retry_at = ngx_current_msec + delay;

    ngx_add_timer(&db->timer, db->awaits ? NGX_PAYMENT_DB_CLAIM_POLL : delay);
}


/* Connects, if it is time for that or if there is another primary. */

static void
ngx_payment_db_wait(ngx_payment_db_t *db)
{
    if (db->awaits
        && (ngx_msec_int_t) (db->retry_at - ngx_current_msec) > 0
        && !ngx_payment_common_moved(db->shard, db->choice))
    {
        ngx_add_timer(&db->timer, NGX_PAYMENT_DB_CLAIM_POLL);
        return;
    }

    ngx_payment_db_connect(db);
}


/* Makes the library's socket an nginx connection.  The fd stays the library's:
 * it is closed by mysql_close(), after the event loop forgot it. */

static ngx_int_t
ngx_payment_db_watch(ngx_payment_db_t *db)
{
    ngx_socket_t       s;
    ngx_connection_t  *c;

    s = mysql_get_socket(db->mysql);

    if (ngx_nonblocking(s) == -1 || fcntl(s, F_SETFD, FD_CLOEXEC) == -1) {
        return NGX_ERROR;
    }

    c = ngx_get_connection(s, db->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    c->data = db;
    c->log = db->log;
    c->read->log = db->log;
    c->write->log = db->log;
    c->read->handler = ngx_payment_db_read_handler;
    c->write->handler = ngx_payment_db_write_handler;

    db->connection = c;
    db->shard->open++;

    if (db->gauges) {
        db->gauges->open++;
    }

    if (ngx_add_conn) {
        return ngx_add_conn(c);
    }

    if (ngx_add_event(c->read, NGX_READ_EVENT, NGX_CLEAR_EVENT) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_add_event(c->write, NGX_WRITE_EVENT, NGX_CLEAR_EVENT);
}


/* exchanges */

void
ngx_payment_db_exchange(ngx_payment_db_t *db, ngx_payment_db_stmt_t *stmts,
    ngx_uint_t n, ngx_msec_t timeout, ngx_payment_db_done_pt done)
{
    ngx_uint_t  i;

    ngx_payment_assert(db->state == NGX_PAYMENT_DB_IDLE);
    ngx_payment_assert(n > 0 && n <= NGX_PAYMENT_DB_STMTS_MAX);

    for (i = 0; i < n; i++) {
        stmts[i].error = 0;
        stmts[i].affected = 0;
        stmts[i].result = NULL;
        stmts[i].message[0] = '\0';
    }

    db->exchange = stmts;
    db->n = n;
    db->sent = 0;
    db->read = 0;
    db->done = done;
    db->step = STEP_SEND;
    db->wait = 0;
    db->state = NGX_PAYMENT_DB_BUSY;
    db->requests++;

    /* a worker that was told to quit does not end before the exchange has */
    if (db->timer.timer_set) {
        ngx_del_timer(&db->timer);
    }

    db->timer.cancelable = 0;
    ngx_add_timer(&db->timer, timeout);

    ngx_payment_db_advance(db, 0);
}


static void
ngx_payment_db_advance(ngx_payment_db_t *db, int ready)
{
    ngx_int_t   rc;
    ngx_uint_t  lost;

    lost = 0;

    do {
        rc = ngx_payment_db_step(db, ready, &lost);
        ready = 0;
    } while (rc == NGX_OK);

    if (rc == NGX_AGAIN) {
        return;
    }

    ngx_payment_db_finish(db, lost);
}


/*
 * One step of the exchange.  NGX_OK: go on at once; NGX_AGAIN: db->wait says
 * for what; NGX_DONE: the exchange is over; NGX_ERROR: the connection is.
 */

static ngx_int_t
ngx_payment_db_step(ngx_payment_db_t *db, int ready, ngx_uint_t *lost)
{
    int                     ret;
    my_bool                 failed;
    MYSQL                  *mysql;
    ngx_payment_db_stmt_t  *s;

    mysql = db->mysql;
    ret = 0;

    /* OpenSSL has one queue of errors for this thread: an error of another
     * connection would be taken for one of this connection */

    if (db->shard->ssl) {
        ERR_clear_error();
    }

    switch (db->step) {

    case STEP_SEND:

        if (db->sent == db->n) {
            db->step = STEP_READ;
            return NGX_OK;
        }

        /* counted before it is sent: from the first byte on, the server may
         * have the statement */
        s = &db->exchange[db->sent++];

        if (s->stmt) {
            db->step = STEP_SENDING_STMT;
            db->wait = mysql_stmt_execute_start(&ret, s->stmt);

        } else {
            db->step = STEP_SENDING_SQL;
            db->wait = mysql_send_query_start(&ret, mysql,
                                              (char *) s->sql.data,
                                              s->sql.len);
        }

        break;

    case STEP_SENDING_STMT:
        s = &db->exchange[db->sent - 1];
        db->wait = mysql_stmt_execute_cont(&ret, s->stmt, ready);
        break;

    case STEP_SENDING_SQL:
        s = &db->exchange[db->sent - 1];
        db->wait = mysql_send_query_cont(&ret, mysql, ready);
        break;

    case STEP_READ:

        if (db->read == db->n) {
            return NGX_DONE;
        }

        s = &db->exchange[db->read];
        db->step = STEP_READING;
        db->wait = mysql_read_query_result_start(&failed, mysql);
        ret = failed;
        break;

    case STEP_READING:
        s = &db->exchange[db->read];
        db->wait = mysql_read_query_result_cont(&failed, mysql, ready);
        ret = failed;
        break;

    case STEP_STORE:
        s = &db->exchange[db->read];
        db->step = STEP_STORING;
        db->wait = mysql_store_result_start(&s->result, mysql);
        ret = (s->result == NULL);
        break;

    default: /* STEP_STORING */
        s = &db->exchange[db->read];
        db->wait = mysql_store_result_cont(&s->result, mysql, ready);
        ret = (s->result == NULL);
        break;
    }

    if (db->wait) {
        return NGX_AGAIN;
    }

    if (ret) {
        s->error = (s->stmt && db->step == STEP_SENDING_STMT)
                   ? mysql_stmt_errno(s->stmt) : mysql_errno(mysql);

        if (s->error == 0) {
            s->error = CR_UNKNOWN_ERROR;
        }

        (void) ngx_cpystrn((u_char *) s->message,
                           (u_char *) mysql_error(mysql),
                           NGX_PAYMENT_DB_MESSAGE_LEN);

        /* the client library's own errors are errors of the connection */

        if (s->error >= CR_MIN_ERROR && s->error <= CR_MYSQL_LAST_ERROR) {
            *lost = s->error;
            return NGX_ERROR;
        }
    }

    switch (db->step) {

    case STEP_SENDING_STMT:
    case STEP_SENDING_SQL:
        if (ret) {
            *lost = s->error;
            return NGX_ERROR;
        }

        db->step = STEP_SEND;
        break;

    case STEP_READING:
        if (!ret && mysql_field_count(mysql)) {
            db->step = STEP_STORE;
            break;
        }

        s->affected = ret ? 0 : mysql_affected_rows(mysql);

        if (s->error == 0 && s->rows && s->affected != s->rows) {
            ngx_payment_db_interrupted(s, s->rows);
        }

        if (db->shard->durability == NGX_PAYMENT_DURABILITY_REPLICA) {
            ngx_payment_db_track(db);
        }

        /* fall through */

    default:
        db->read++;
        db->step = STEP_READ;
        break;
    }

    return NGX_OK;
}


/* An answer of OK says of a COMMIT which GTID it got, if the session asked for
 * that: names of variables and their values follow each other. */

static void
ngx_payment_db_track(ngx_payment_db_t *db)
{
    int          rc;
    size_t       len;
    ngx_uint_t   next;
    const char  *data;

    next = 0;

    for (rc = mysql_session_track_get_first(db->mysql,
                                            SESSION_TRACK_SYSTEM_VARIABLES,
                                            &data, &len);
         rc == 0;
         rc = mysql_session_track_get_next(db->mysql,
                                           SESSION_TRACK_SYSTEM_VARIABLES,
                                           &data, &len))
    {
        if (next) {
            (void) ngx_cpystrn((u_char *) db->gtid, (u_char *) data,
                               ngx_min(len + 1, sizeof(db->gtid)));
            return;
        }

        next = (len == 9 && ngx_strncmp(data, "last_gtid", 9) == 0);
    }
}


static void
ngx_payment_db_finish(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t               i, n;
    MYSQL_RES               *results[NGX_PAYMENT_DB_STMTS_MAX];
    ngx_payment_server_t    *server;
    ngx_payment_db_done_pt   done;

    if (db->timer.timer_set) {
        ngx_del_timer(&db->timer);
    }

    db->timer.cancelable = 1;

    done = db->done;
    n = db->n;

    /* the handler may start an exchange with the same array of statements */
    for (i = 0; i < n; i++) {
        results[i] = db->exchange[i].result;
    }

    if (lost) {
        server = (ngx_payment_server_t *) db->shard->servers.elts + db->server;

        ngx_log_error(NGX_LOG_ERR, db->log, 0,
                      "payment: shard \"%V\": connection to %V lost "
                      "while %s, statement %ui of %ui: (%ui) %s",
                      &db->shard->name, &server->name,
                      db->step < STEP_READ ? "sending" : "reading an answer",
                      db->step < STEP_READ ? db->sent : db->read + 1, n, lost,
                      db->timedout ? "timed out"
                      : db->exchange[db->step < STEP_READ
                                     ? db->sent - 1 : db->read].message);

        ngx_payment_db_count(db, connections_lost, 1);
        ngx_payment_db_teardown(db, 1);

        if (ngx_current_msec - db->connected_at < NGX_PAYMENT_DB_BACKOFF_MIN) {
            ngx_payment_db_reconnect_later(db);
        } else {
            ngx_payment_db_connect(db);
        }

    } else {
        db->state = NGX_PAYMENT_DB_IDLE;

        if (ngx_payment_common_stands(db->shard, db->choice)
            && db->shard->common->answered != ngx_current_msec)
        {
            db->shard->common->answered = ngx_current_msec;
        }
    }

    done(db, lost);

    for (i = 0; i < n; i++) {
        if (results[i]) {
            mysql_free_result(results[i]);
        }
    }

    if (db->state == NGX_PAYMENT_DB_IDLE) {
        ngx_payment_db_rest(db);
    }
}


/* A connection has become idle: it is given up if it has had its time, or else
 * its timer is set, which ends it when it stays idle for too long. */

static void
ngx_payment_db_rest(ngx_payment_db_t *db)
{
    if (!ngx_payment_db_fit(db)) {
        ngx_payment_db_reset(db);
        return;
    }

    if (db->timer.timer_set) {
        ngx_del_timer(&db->timer);
    }

    if (db->shard->idle_timeout) {
        ngx_add_timer(&db->timer, db->shard->idle_timeout);
    }
}


ngx_uint_t
ngx_payment_db_fit(ngx_payment_db_t *db)
{
    ngx_payment_shard_t  *shard;

    shard = db->shard;

    return ngx_payment_common_stands(shard, db->choice)
           && (shard->max_requests == 0 || db->requests < shard->max_requests)
           && (db->max_age == 0
               || ngx_current_msec - db->connected_at < db->max_age);
}


static void
ngx_payment_db_read_handler(ngx_event_t *rev)
{
    char               buf[1];
    ssize_t            n;
    ngx_connection_t  *c;
    ngx_payment_db_t  *db;

    c = rev->data;
    db = c->data;

    if (db->state == NGX_PAYMENT_DB_BUSY) {
        if (db->wait & MYSQL_WAIT_READ) {
            ngx_payment_db_advance(db, MYSQL_WAIT_READ);
        }

        return;
    }

    n = recv(c->fd, buf, 1, MSG_PEEK);

    if (n == -1 && ngx_socket_errno == NGX_EAGAIN) {
        return;
    }

    /* The server has closed the connection, or said what nobody asked for:
     * its session is not to be trusted. */

    ngx_log_error(NGX_LOG_INFO, db->log, 0,
                  "payment: shard \"%V\": idle connection %s by server",
                  &db->shard->name, n > 0 ? "ended" : "closed");

    ngx_payment_db_count(db, connections_lost, 1);
    ngx_payment_db_reset(db);
}


static void
ngx_payment_db_write_handler(ngx_event_t *wev)
{
    ngx_connection_t  *c;
    ngx_payment_db_t  *db;

    c = wev->data;
    db = c->data;

    if (db->state == NGX_PAYMENT_DB_BUSY && (db->wait & MYSQL_WAIT_WRITE)) {
        ngx_payment_db_advance(db, MYSQL_WAIT_WRITE);
    }
}


static void
ngx_payment_db_timer_handler(ngx_event_t *ev)
{
    ngx_payment_db_t  *db;

    db = ev->data;

    switch (db->state) {

    case NGX_PAYMENT_DB_CLOSED:
        ngx_payment_db_wait(db);
        return;

    case NGX_PAYMENT_DB_IDLE:
        ngx_payment_db_reset(db);
        return;

    case NGX_PAYMENT_DB_BUSY:
        db->timedout = 1;
        ngx_payment_db_finish(db, CR_SERVER_LOST);
        return;

    default:
        return;
    }
}


/* Closes the connection.  With abort, a suspended coroutine is made to end
 * first: its socket is shut, so that it meets an error instead of waiting. */

static void
ngx_payment_db_teardown(ngx_payment_db_t *db, ngx_uint_t abort)
{
    ngx_int_t              rc;
    ngx_uint_t             i, lost, parked;
    ngx_connection_t      *c;
    ngx_payment_server_t  *server;

    c = db->connection;
    server = (ngx_payment_server_t *) db->shard->servers.elts + db->server;
    parked = 0;

    if (abort && c) {

        if (mysql_get_socket(db->mysql) == c->fd) {

            if (db->timedout) {
                parked = (ngx_payment_parked_take(server, c) == NGX_OK);
            }

            if (!parked) {
                (void) shutdown(c->fd, SHUT_RDWR);
            }
        }

        /* one resumption ends the call that it resumes; the bound only keeps
         * a broken library from looping here */

        for (i = 0; i < 4 && db->wait; i++) {
            rc = ngx_payment_db_step(db, db->wait, &lost);
            if (rc != NGX_AGAIN) {
                break;
            }
        }
    }

    if (c) {
        ngx_payment_db_unwatch(db, parked);
    }

    if (db->mysql) {
        mysql_close(db->mysql);
        db->mysql = NULL;
    }

    /* after mysql_close() these free memory only */

    for (i = 0; i < NGX_PAYMENT_DB_STMTS_MAX; i++) {
        if (db->stmts[i]) {
            (void) mysql_stmt_close(db->stmts[i]);
            db->stmts[i] = NULL;
        }
    }

    if (db->shard->ssl) {
        /* an error of this connection may not stay in OpenSSL's queue either,
         * for nginx's own connections would meet it there */
        ERR_clear_error();
    }

    db->wait = 0;
    db->timedout = 0;
    db->gtid[0] = '\0';
    db->state = NGX_PAYMENT_DB_CLOSED;
}


/* The event loop forgets the connection; parked: it does not watch it any
 * more. */

static void
ngx_payment_db_unwatch(ngx_payment_db_t *db, ngx_uint_t parked)
{
    ngx_uint_t         flags;
    ngx_connection_t  *c;

    c = db->connection;

    /* On an error the library closes the socket itself.  The kernel has
     * removed it from epoll then, and its number may be another
     * connection's by now, so that epoll must not be asked about it. */

    flags = (!parked && mysql_get_socket(db->mysql) == c->fd)
            ? 0 : NGX_CLOSE_EVENT;

    if (ngx_del_conn) {
        (void) ngx_del_conn(c, flags);
    } else {
        (void) ngx_del_event(c->read, NGX_READ_EVENT, flags);
        (void) ngx_del_event(c->write, NGX_WRITE_EVENT, flags);
    }

    if (c->read->posted) {
        ngx_delete_posted_event(c->read);
    }

    if (c->write->posted) {
        ngx_delete_posted_event(c->write);
    }

    c->read->closed = 1;
    c->write->closed = 1;

    ngx_free_connection(c);
    c->fd = (ngx_socket_t) -1;
    db->connection = NULL;
    db->shard->open--;

    if (db->gauges) {
        db->gauges->open--;
    }
}


ngx_payment_db_error_e
ngx_payment_db_classify(ngx_uint_t error)
{
    switch (error) {

    case 0:
        return NGX_PAYMENT_DB_OK;

    case ER_LOCK_DEADLOCK:              /* 1213 */
    case ER_LOCK_WAIT_TIMEOUT:          /* 1205 */
    case ER_CHECKREAD:                  /* 1020: snapshot isolation */
    case ER_ERROR_DURING_COMMIT:        /* 1180: Galera certification */
    case ER_SERVER_SHUTDOWN:            /* 1053 */
    case ER_CONNECTION_KILLED:          /* 1927 */
    case ER_QUERY_INTERRUPTED:          /* 1317: KILL QUERY */
    case ER_TABLE_DEF_CHANGED:          /* 1412 */
    case ER_STATEMENT_TIMEOUT:          /* 1969: max_statement_time */
        return NGX_PAYMENT_DB_RETRY;

    case ER_DUP_ENTRY:                  /* 1062 */
        return NGX_PAYMENT_DB_DUPLICATE;

    /* what every row would meet at this server */
    case ER_OPEN_AS_READONLY:           /* 1036 */
    case ER_UNKNOWN_COM_ERROR:          /* 1047: Galera, not prepared */
    case ER_TABLEACCESS_DENIED_ERROR:   /* 1142 */
    case ER_COLUMNACCESS_DENIED_ERROR:  /* 1143 */
    case ER_USER_LIMIT_REACHED:         /* 1226 */
    case ER_BINLOG_STMT_MODE_AND_ROW_ENGINE:        /* 1665 */
    case ER_INNODB_READ_ONLY:           /* 1874 */
    case NGX_PAYMENT_DB_FORCED_RECOVERY:
    case ER_OPTION_PREVENTS_STATEMENT:  /* 1290: --read-only */
    case ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION:  /* 1792 */
    case ER_READ_ONLY_MODE:             /* 1836 */
    case ER_CON_COUNT_ERROR:            /* 1040 */
    case ER_DISK_FULL:                  /* 1021 */
    case ER_RECORD_FILE_FULL:           /* 1114 */
    case ER_OUTOFMEMORY:                /* 1037 */
    case ER_OUT_OF_RESOURCES:           /* 1041 */
    case ER_ERROR_ON_WRITE:             /* 1026 */
    case ER_GET_ERRNO:                  /* 1030 */
    case ER_LOCK_TABLE_FULL:            /* 1206 */
    case ER_CANT_OPEN_FILE:             /* 1016 */
    case ER_NOT_FORM_FILE:              /* 1033 */
    case ER_NOT_KEYFILE:                /* 1034 */
    case ER_CRASHED_ON_USAGE:           /* 1194 */
    case ER_CRASHED_ON_REPAIR:          /* 1195 */
    case ER_BINLOG_ROW_LOGGING_FAILED:  /* 1534 */
    case ER_BINLOG_LOGGING_IMPOSSIBLE:  /* 1598 */
    case ER_INDEX_CORRUPT:              /* 1712 */
    case ER_TABLESPACE_MISSING:         /* 1812 */
    case ER_TABLESPACE_DISCARDED:       /* 1814 */
    case ER_TABLE_CORRUPT:              /* 1877 */
    case ER_TEMP_FILE_WRITE_FAILURE:    /* 1878 */
    case ER_NO_SUCH_TABLE_IN_ENGINE:    /* 1932 */
        return NGX_PAYMENT_DB_UNFIT;

    /* who prepares the statements anew is told what is missing, or finds it */
    case ER_NO_DB_ERROR:                /* 1046 */
    case ER_BAD_FIELD_ERROR:            /* 1054 */
    case ER_NO_SUCH_TABLE:              /* 1146 */

    case ER_UNKNOWN_STMT_HANDLER:       /* 1243 */
    case ER_NEED_REPREPARE:             /* 1615 */
    case ER_WRONG_ARGUMENTS:            /* 1210: the server has lost the types
                                           of a statement's parameters */
        return NGX_PAYMENT_DB_STALE;

    default:
        return NGX_PAYMENT_DB_REFUSED;
    }
}


void
ngx_payment_db_interrupted(ngx_payment_db_stmt_t *stmt, uint64_t rows)
{
    stmt->error = ER_QUERY_INTERRUPTED;

    (void) ngx_snprintf((u_char *) stmt->message, NGX_PAYMENT_DB_MESSAGE_LEN,
                        "Query execution was interrupted: %uL of %uL rows%Z",
                        stmt->affected, rows);
}


ngx_payment_db_stmt_t *
ngx_payment_db_error_of(ngx_payment_db_stmt_t *stmts, ngx_uint_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        if (stmts[i].error) {
            return &stmts[i];
        }
    }

    return NULL;
}


u_char *
ngx_payment_db_hex(u_char *p, const u_char *data, size_t len)
{
    *p++ = 'x';
    *p++ = '\'';
    p = ngx_hex_dump(p, (u_char *) data, len);
    *p++ = '\'';

    return p;
}
