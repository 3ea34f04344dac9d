/*
 * One MariaDB connection on nginx's event loop: see ngx_payment_db.h.
 *
 * Opening blocks in many places of the client library (the resolver, the TLS
 * handshake, the session's statements), so each attempt runs in a short-lived
 * thread which hands the finished connection over through a pipe.  There is at
 * most one thread a connection.  Afterwards the socket is non-blocking and the
 * library's coroutines are resumed by epoll; every yield of theirs comes after
 * an EAGAIN, so edge-triggered events are safe as long as a coroutine is
 * resumed by the event it waits for and by no other.
 */

#include "ngx_payment_db.h"

#include <pthread.h>
#include <signal.h>
#include <errmsg.h>
#include <mysqld_error.h>


/* the migrations that this code was written for: sql/V*.sql */
#define NGX_PAYMENT_SCHEMA_VERSION      1

#define NGX_PAYMENT_DB_BACKOFF_MIN      100         /* ms */
#define NGX_PAYMENT_DB_BACKOFF_MAX      5000
#define NGX_PAYMENT_DB_THREAD_STACK     (512 * 1024)

/* reasons of ours for giving a connection up, beyond the library's numbers */
#define NGX_PAYMENT_DB_E_READ_ONLY      3001
#define NGX_PAYMENT_DB_E_SCHEMA         3002
#define NGX_PAYMENT_DB_E_RESOURCES      3003


typedef enum {
    STEP_SEND = 0,
    STEP_SENDING_STMT,
    STEP_SENDING_SQL,
    STEP_READ,
    STEP_READING,
    STEP_STORE,
    STEP_STORING
} ngx_payment_db_step_e;


/* One attempt to connect: the thread's until it is read from the pipe. */

typedef struct ngx_payment_db_attempt_s {
    ngx_payment_db_t          *db;          /* NULL: nobody waits for it */
    ngx_payment_shard_t       *shard;
    ngx_uint_t                 server;
    const char *const         *session;
    const char *const         *prepare;

    MYSQL                     *mysql;
    MYSQL_STMT                *stmts[NGX_PAYMENT_DB_STMTS_MAX];
    const char                *phase;
    ngx_uint_t                 error;
    ngx_uint_t                 flush;       /* innodb_flush_log_at_trx_commit */
    char                       message[NGX_PAYMENT_DB_MESSAGE_LEN];
} ngx_payment_db_attempt_t;


static void ngx_payment_db_connect(ngx_payment_db_t *db);
static void *ngx_payment_db_connect_thread(void *data);
static ngx_uint_t ngx_payment_db_attempt(ngx_payment_db_attempt_t *a);
static void ngx_payment_db_attempt_options(ngx_payment_db_attempt_t *a);
static ngx_uint_t ngx_payment_db_attempt_session(ngx_payment_db_attempt_t *a);
static ngx_uint_t ngx_payment_db_attempt_check(ngx_payment_db_attempt_t *a);
static ngx_uint_t ngx_payment_db_attempt_fail(ngx_payment_db_attempt_t *a,
    ngx_uint_t error, const char *message);
static void ngx_payment_db_pipe_handler(ngx_event_t *rev);
static void ngx_payment_db_connected(ngx_payment_db_attempt_t *a);
static ngx_int_t ngx_payment_db_watch(ngx_payment_db_t *db);
static void ngx_payment_db_connect_failed(ngx_payment_db_t *db,
    ngx_payment_db_attempt_t *a);
static void ngx_payment_db_reconnect_later(ngx_payment_db_t *db);
static void ngx_payment_db_attempt_free(ngx_payment_db_attempt_t *a);

static void ngx_payment_db_advance(ngx_payment_db_t *db, int ready);
static ngx_int_t ngx_payment_db_step(ngx_payment_db_t *db, int ready,
    ngx_uint_t *lost);
static void ngx_payment_db_finish(ngx_payment_db_t *db, ngx_uint_t lost);
static void ngx_payment_db_rest(ngx_payment_db_t *db);
static void ngx_payment_db_read_handler(ngx_event_t *rev);
static void ngx_payment_db_write_handler(ngx_event_t *wev);
static void ngx_payment_db_timer_handler(ngx_event_t *ev);
static void ngx_payment_db_teardown(ngx_payment_db_t *db, ngx_uint_t abort);


static ngx_connection_t  *ngx_payment_db_pipe;
static ngx_fd_t           ngx_payment_db_pipe_write = NGX_INVALID_FILE;


ngx_int_t
ngx_payment_db_init_process(ngx_cycle_t *cycle)
{
    int                fds[2];
    ngx_connection_t  *c;

    if (ngx_payment_db_pipe) {
        return NGX_OK;
    }

    if (mysql_library_init(0, NULL, NULL)) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "payment: mysql_library_init() failed");
        return NGX_ERROR;
    }

    if (pipe2(fds, O_CLOEXEC) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "payment: pipe2() failed");
        return NGX_ERROR;
    }

    if (ngx_nonblocking(fds[0]) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "payment: " ngx_nonblocking_n " failed");
        goto failed;
    }

    c = ngx_get_connection(fds[0], cycle->log);
    if (c == NULL) {
        goto failed;
    }

    c->read->handler = ngx_payment_db_pipe_handler;
    c->read->log = cycle->log;
    c->write->log = cycle->log;

    if (ngx_add_event(c->read, NGX_READ_EVENT,
                      (ngx_event_flags & NGX_USE_CLEAR_EVENT)
                      ? NGX_CLEAR_EVENT : NGX_LEVEL_EVENT)
        != NGX_OK)
    {
        ngx_free_connection(c);
        goto failed;
    }

    ngx_payment_db_pipe = c;
    ngx_payment_db_pipe_write = fds[1];

    return NGX_OK;

failed:

    (void) close(fds[0]);
    (void) close(fds[1]);

    return NGX_ERROR;
}


void
ngx_payment_db_exit_process(ngx_cycle_t *cycle)
{
    /*
     * A thread may still be connecting and will write to the pipe, so the
     * write end stays open until the process is gone, and so does the library.
     */

    if (ngx_payment_db_pipe) {
        ngx_close_connection(ngx_payment_db_pipe);
        ngx_payment_db_pipe = NULL;
    }
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
        db->attempt->db = NULL;
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


/* connecting: in the event loop */

static void
ngx_payment_db_connect(ngx_payment_db_t *db)
{
    int                        err;
    sigset_t                   all, old;
    pthread_t                  tid;
    pthread_attr_t             attr;
    ngx_payment_db_attempt_t  *a;

    if (db->closing) {
        return;
    }

    a = ngx_calloc(sizeof(ngx_payment_db_attempt_t), db->log);
    if (a == NULL) {
        ngx_payment_db_reconnect_later(db);
        return;
    }

    a->db = db;
    a->shard = db->shard;
    a->server = db->shard->active;
    a->session = db->session;
    a->prepare = db->prepare;

    db->attempt = a;
    db->server = a->server;
    db->state = NGX_PAYMENT_DB_CONNECTING;

    /* signals are the event loop's: none may interrupt the thread */

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &old);

    err = pthread_attr_init(&attr);

    if (err == 0) {
        (void) pthread_attr_setstacksize(&attr, NGX_PAYMENT_DB_THREAD_STACK);
        (void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        err = pthread_create(&tid, &attr, ngx_payment_db_connect_thread, a);
        (void) pthread_attr_destroy(&attr);
    }

    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);

    if (err) {
        a->phase = "pthread_create()";
        (void) ngx_payment_db_attempt_fail(a, NGX_PAYMENT_DB_E_RESOURCES,
                                           strerror(err));
        ngx_payment_db_connected(a);
    }
}


/* connecting: in the thread, which touches nothing but its attempt */

static void *
ngx_payment_db_connect_thread(void *data)
{
    ngx_payment_db_attempt_t *a = data;

    ssize_t  n;

    (void) mysql_thread_init();

    (void) ngx_payment_db_attempt(a);

    mysql_thread_end();

    do {
        /* a pointer is far below PIPE_BUF: written whole, or not at all */
        n = write(ngx_payment_db_pipe_write, &a, sizeof(void *));
    } while (n == -1 && ngx_errno == NGX_EINTR);

    return NULL;
}


static ngx_uint_t
ngx_payment_db_attempt(ngx_payment_db_attempt_t *a)
{
    ngx_payment_server_t  *server;

    server = (ngx_payment_server_t *) a->shard->servers.elts + a->server;

    a->phase = "mysql_init()";
    a->mysql = mysql_init(NULL);

    if (a->mysql == NULL) {
        return ngx_payment_db_attempt_fail(a, CR_OUT_OF_MEMORY,
                                           "out of memory");
    }

    ngx_payment_db_attempt_options(a);

    a->phase = "connecting";

    if (mysql_real_connect(a->mysql,
                           server->path.len ? "localhost"
                                            : (char *) server->host.data,
                           (char *) a->shard->user.data,
                           (char *) a->shard->password.data,
                           (char *) a->shard->database.data,
                           server->port,
                           server->path.len ? (char *) server->path.data
                                            : NULL,
                           0)
        == NULL)
    {
        return ngx_payment_db_attempt_fail(a, mysql_errno(a->mysql),
                                           mysql_error(a->mysql));
    }

    if (ngx_payment_db_attempt_check(a) != 0) {
        return a->error;
    }

    return ngx_payment_db_attempt_session(a);
}


static void
ngx_payment_db_attempt_options(ngx_payment_db_attempt_t *a)
{
    my_bool                yes, no;
    unsigned int           seconds, protocol, infile;
    ngx_payment_shard_t   *shard;
    ngx_payment_server_t  *server;

    yes = 1;
    no = 0;
    infile = 0;
    shard = a->shard;
    server = (ngx_payment_server_t *) shard->servers.elts + a->server;

    /* whole seconds are all the library knows; exchanges have our own timers */
    seconds = (unsigned int) (shard->connect_timeout + 999) / 1000;
    protocol = server->path.len ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;

    (void) mysql_options(a->mysql, MYSQL_OPT_NONBLOCK, NULL);
    (void) mysql_options(a->mysql, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
    (void) mysql_options(a->mysql, MYSQL_OPT_READ_TIMEOUT, &seconds);
    (void) mysql_options(a->mysql, MYSQL_OPT_WRITE_TIMEOUT, &seconds);
    (void) mysql_options(a->mysql, MYSQL_OPT_PROTOCOL, &protocol);
    (void) mysql_options(a->mysql, MYSQL_OPT_LOCAL_INFILE, &infile);
    (void) mysql_options(a->mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");

    if (!shard->ssl) {
        return;
    }

    (void) mysql_options(a->mysql, MYSQL_OPT_SSL_ENFORCE, &yes);

    if (shard->ssl_ca.len) {
        (void) mysql_options(a->mysql, MYSQL_OPT_SSL_CA, shard->ssl_ca.data);
    }

    if (shard->ssl_certificate.len) {
        (void) mysql_options(a->mysql, MYSQL_OPT_SSL_CERT,
                             shard->ssl_certificate.data);
        (void) mysql_options(a->mysql, MYSQL_OPT_SSL_KEY,
                             shard->ssl_certificate_key.data);
    }

    (void) mysql_options(a->mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT,
                         shard->ssl_verify ? &yes : &no);
}


/* Is this the right server?  One question, before anything is changed. */

static ngx_uint_t
ngx_payment_db_attempt_check(ngx_payment_db_attempt_t *a)
{
    MYSQL_ROW    row;
    MYSQL_RES   *res;
    ngx_uint_t   version;
    const char  *fmt;
    char         message[NGX_PAYMENT_DB_MESSAGE_LEN];

    a->phase = "checking the schema version";

    if (mysql_query(a->mysql,
                    "SELECT @@global.read_only,"
                    " @@global.innodb_flush_log_at_trx_commit,"
                    " (SELECT MAX(version) FROM payment_schema_version)"))
    {
        if (mysql_errno(a->mysql) != ER_NO_SUCH_TABLE) {
            return ngx_payment_db_attempt_fail(a, mysql_errno(a->mysql),
                                               mysql_error(a->mysql));
        }

        return ngx_payment_db_attempt_fail(a, NGX_PAYMENT_DB_E_SCHEMA,
                                 "the database has no payment_schema_version "
                                 "table: apply sql/V*.sql");
    }

    res = mysql_store_result(a->mysql);
    if (res == NULL) {
        return ngx_payment_db_attempt_fail(a, mysql_errno(a->mysql),
                                           mysql_error(a->mysql));
    }

    row = mysql_fetch_row(res);

    if (row == NULL || row[0] == NULL || row[1] == NULL) {
        mysql_free_result(res);
        return ngx_payment_db_attempt_fail(a, CR_UNKNOWN_ERROR, "no answer");
    }

    version = row[2] ? (ngx_uint_t) atoi(row[2]) : 0;
    a->flush = (ngx_uint_t) atoi(row[1]);

    if (row[0][0] != '0') {
        mysql_free_result(res);
        a->phase = "looking for the primary";
        return ngx_payment_db_attempt_fail(a, NGX_PAYMENT_DB_E_READ_ONLY,
                                           "the server is read-only");
    }

    mysql_free_result(res);

    if (version != NGX_PAYMENT_SCHEMA_VERSION) {
        fmt = "the schema has version %u, this module needs version %u";
        (void) snprintf(message, sizeof(message), fmt, (unsigned) version,
                        (unsigned) NGX_PAYMENT_SCHEMA_VERSION);
        return ngx_payment_db_attempt_fail(a, NGX_PAYMENT_DB_E_SCHEMA,
                                           message);
    }

    return 0;
}


static ngx_uint_t
ngx_payment_db_attempt_session(ngx_payment_db_attempt_t *a)
{
    ngx_uint_t    i;
    const char   *sql;
    MYSQL_STMT   *stmt;

    a->phase = "setting the session up";

    for (i = 0; a->session[i]; i++) {
        sql = a->session[i];

        if (mysql_real_query(a->mysql, sql, strlen(sql))) {
            return ngx_payment_db_attempt_fail(a, mysql_errno(a->mysql),
                                               mysql_error(a->mysql));
        }
    }

    a->phase = "preparing statements";

    for (i = 0; a->prepare && a->prepare[i]; i++) {
        stmt = mysql_stmt_init(a->mysql);
        if (stmt == NULL) {
            return ngx_payment_db_attempt_fail(a, CR_OUT_OF_MEMORY,
                                               "out of memory");
        }

        a->stmts[i] = stmt;
        sql = a->prepare[i];

        if (mysql_stmt_prepare(stmt, sql, strlen(sql))) {
            return ngx_payment_db_attempt_fail(a, mysql_stmt_errno(stmt),
                                               mysql_stmt_error(stmt));
        }
    }

    return 0;
}


static ngx_uint_t
ngx_payment_db_attempt_fail(ngx_payment_db_attempt_t *a, ngx_uint_t error,
    const char *message)
{
    a->error = error ? error : CR_UNKNOWN_ERROR;
    (void) ngx_cpystrn((u_char *) a->message, (u_char *) message,
                       sizeof(a->message));
    return a->error;
}


/* connecting: back in the event loop */

static void
ngx_payment_db_pipe_handler(ngx_event_t *rev)
{
    ssize_t                    n;
    ngx_connection_t          *c;
    ngx_payment_db_attempt_t  *a;

    c = rev->data;

    for ( ;; ) {
        n = read(c->fd, &a, sizeof(void *));

        if (n == -1 && ngx_errno == NGX_EINTR) {
            continue;
        }

        if (n != sizeof(void *)) {
            return;
        }

        if (a->db == NULL) {
            ngx_payment_db_attempt_free(a);
            continue;
        }

        ngx_payment_db_connected(a);
    }
}


static void
ngx_payment_db_connected(ngx_payment_db_attempt_t *a)
{
    my_bool                yes;
    ngx_payment_db_t      *db;
    ngx_payment_shard_t   *shard;
    ngx_payment_server_t  *server;

    db = a->db;
    shard = db->shard;
    server = (ngx_payment_server_t *) shard->servers.elts + a->server;

    db->attempt = NULL;
    db->state = NGX_PAYMENT_DB_CLOSED;

    if (a->error == 0 && shard->active != a->server) {
        /* another connection has moved on to another server meanwhile */
        ngx_payment_db_attempt_free(a);
        ngx_payment_db_connect(db);
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
            (void) ngx_payment_db_attempt_fail(a, NGX_PAYMENT_DB_E_RESOURCES,
                                               "no free connection or fd");
        }
    }

    if (a->error) {
        ngx_payment_db_connect_failed(db, a);
        return;
    }

    if (shard->last_error) {
        ngx_log_error(NGX_LOG_NOTICE, db->log, 0,
                      "payment: shard \"%V\": connected to %V again",
                      &shard->name, &server->name);
        shard->last_error = 0;
    }

    if (a->flush != 1 && !shard->warned) {
        ngx_log_error(NGX_LOG_WARN, db->log, 0,
                      "payment: shard \"%V\", %V: "
                      "innodb_flush_log_at_trx_commit is %ui, not 1: "
                      "a crash can lose payments that were answered",
                      &shard->name, &server->name, a->flush);
        shard->warned = 1;
    }

    ngx_payment_db_attempt_free(a);

    db->failures = 0;
    db->requests = 0;
    db->connected_at = ngx_current_msec;

    /* up to a tenth less, so that connections of one age don't go together */
    db->max_age = shard->max_age
                  - (shard->max_age
                     ? (ngx_msec_t) ngx_random() % (shard->max_age / 10 + 1)
                     : 0);

    db->state = NGX_PAYMENT_DB_IDLE;
    ngx_payment_db_rest(db);

    if (db->state == NGX_PAYMENT_DB_IDLE) {
        db->ready(db);
    }
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

    if (ngx_add_conn) {
        return ngx_add_conn(c);
    }

    if (ngx_add_event(c->read, NGX_READ_EVENT, NGX_CLEAR_EVENT) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_add_event(c->write, NGX_WRITE_EVENT, NGX_CLEAR_EVENT);
}


static void
ngx_payment_db_connect_failed(ngx_payment_db_t *db,
    ngx_payment_db_attempt_t *a)
{
    ngx_payment_shard_t   *shard;
    ngx_payment_server_t  *server;

    shard = db->shard;
    server = (ngx_payment_server_t *) shard->servers.elts + a->server;

    /* once for a shard and a reason, not once for each try */

    if (shard->last_error != a->error) {
        ngx_log_error(NGX_LOG_ERR, db->log, 0,
                      "payment: shard \"%V\": %s failed, server %V: (%ui) %s",
                      &shard->name, a->phase, &server->name, a->error,
                      a->message);
        shard->last_error = a->error;
    }

    db->failures++;

    if (shard->servers.nelts > 1 && shard->active == a->server) {
        shard->active = (a->server + 1) % shard->servers.nelts;
    }

    ngx_payment_db_attempt_free(a);
    ngx_payment_db_reconnect_later(db);

    if (db->down) {
        db->down(db);
    }
}


static void
ngx_payment_db_reconnect_later(ngx_payment_db_t *db)
{
    ngx_msec_t  delay;

    if (db->closing) {
        return;
    }

    if (db->failures && db->failures < db->shard->servers.nelts) {
        /* there are servers that were not asked yet */
        delay = 1;

    } else {
        delay = NGX_PAYMENT_DB_BACKOFF_MIN
                << ngx_min(db->failures / db->shard->servers.nelts, 6);
        delay = ngx_min(delay, NGX_PAYMENT_DB_BACKOFF_MAX);
        delay -= (ngx_msec_t) ngx_random() % (delay / 2 + 1);
    }

    db->state = NGX_PAYMENT_DB_CLOSED;
    ngx_add_timer(&db->timer, delay);
}


static void
ngx_payment_db_attempt_free(ngx_payment_db_attempt_t *a)
{
    ngx_uint_t  i;

    if (a->mysql) {
        mysql_close(a->mysql);

        for (i = 0; i < NGX_PAYMENT_DB_STMTS_MAX; i++) {
            if (a->stmts[i]) {
                (void) mysql_stmt_close(a->stmts[i]);
            }
        }
    }

    ngx_free(a);
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

    /* an exchange keeps a worker that was told to quit alive */
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

    switch (db->step) {

    case STEP_SEND:

        if (db->sent == db->n) {
            db->step = STEP_READ;
            return NGX_OK;
        }

        /* counted before: from the first byte on, the server may have it */
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

        /* what the client library says, it says of the connection */

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

        /* fall through */

    default:
        db->read++;
        db->step = STEP_READ;
        break;
    }

    return NGX_OK;
}


static void
ngx_payment_db_finish(ngx_payment_db_t *db, ngx_uint_t lost)
{
    ngx_uint_t               i, n;
    MYSQL_RES               *results[NGX_PAYMENT_DB_STMTS_MAX];
    ngx_payment_server_t    *server;
    ngx_payment_db_done_pt   done;

    ngx_del_timer(&db->timer);
    db->timer.cancelable = 1;

    done = db->done;
    n = db->n;

    /* the handler may start an exchange with the same array */
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

        ngx_payment_db_teardown(db, 1);

        if (ngx_current_msec - db->connected_at < NGX_PAYMENT_DB_BACKOFF_MIN) {
            ngx_payment_db_reconnect_later(db);
        } else {
            ngx_payment_db_connect(db);
        }

    } else {
        db->state = NGX_PAYMENT_DB_IDLE;
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


/* An idle connection: does it go on, and for how long may it idle? */

static void
ngx_payment_db_rest(ngx_payment_db_t *db)
{
    ngx_msec_t            age;
    ngx_payment_shard_t  *shard;

    shard = db->shard;
    age = ngx_current_msec - db->connected_at;

    if (shard->active != db->server
        || (shard->max_requests && db->requests >= shard->max_requests)
        || (db->max_age && age >= db->max_age))
    {
        ngx_payment_db_reset(db);
        return;
    }

    if (db->timer.timer_set) {
        ngx_del_timer(&db->timer);
    }

    if (shard->idle_timeout) {
        ngx_add_timer(&db->timer, shard->idle_timeout);
    }
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

    /* closed, killed, or said what nobody asked for: not to be trusted */

    ngx_log_error(NGX_LOG_INFO, db->log, 0,
                  "payment: shard \"%V\": idle connection %s by server",
                  &db->shard->name, n > 0 ? "ended" : "closed");

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
        ngx_payment_db_connect(db);
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
    ngx_int_t          rc;
    ngx_uint_t         i, lost;
    ngx_connection_t  *c;

    c = db->connection;

    if (abort && c) {
        (void) shutdown(c->fd, SHUT_RDWR);

        /* each resumption ends the call it resumes; the bound is a belt */

        for (i = 0; i < 4 && db->wait; i++) {
            rc = ngx_payment_db_step(db, db->wait, &lost);
            if (rc != NGX_AGAIN) {
                break;
            }
        }
    }

    if (c) {
        if (ngx_del_conn) {
            (void) ngx_del_conn(c, 0);
        } else {
            (void) ngx_del_event(c->read, NGX_READ_EVENT, 0);
            (void) ngx_del_event(c->write, NGX_WRITE_EVENT, 0);
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

    db->wait = 0;
    db->timedout = 0;
    db->state = NGX_PAYMENT_DB_CLOSED;
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
    case ER_UNKNOWN_COM_ERROR:          /* 1047: Galera, not prepared */
    case ER_SERVER_SHUTDOWN:            /* 1053 */
    case ER_CONNECTION_KILLED:          /* 1927 */
    case ER_QUERY_INTERRUPTED:          /* 1317: KILL QUERY */
    case ER_STATEMENT_TIMEOUT:          /* 1969: max_statement_time */
        return NGX_PAYMENT_DB_RETRY;

    case ER_DUP_ENTRY:                  /* 1062 */
        return NGX_PAYMENT_DB_DUPLICATE;

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
        return NGX_PAYMENT_DB_UNFIT;

    case ER_UNKNOWN_STMT_HANDLER:       /* 1243 */
        return NGX_PAYMENT_DB_STALE;

    default:
        return NGX_PAYMENT_DB_REFUSED;
    }
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
