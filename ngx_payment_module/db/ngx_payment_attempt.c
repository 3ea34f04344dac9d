/*
 * How a connection comes to be: see ngx_payment_attempt.h.
 *
 * The pipe is one process's, made before its first attempt, and carries
 * pointers to finished attempts.  Whoever reads there an attempt that was
 * abandoned frees it, and so closes its connection.
 */

#include "ngx_payment_attempt.h"
#include "ngx_payment_assert.h"
#include "ngx_payment_rights.h"

#include <pthread.h>
#include <signal.h>
#include <errmsg.h>
#include <mysqld_error.h>
#include <mysql/plugin_auth.h>


/*
 * The migrations of sql/ that this code needs, and the last one that it knows.
 * A database may have later ones, as long as they only expand it: those that
 * take something away have the kind "contract".
 */
#define NGX_PAYMENT_SCHEMA_VERSION_LOWEST  9
#define NGX_PAYMENT_SCHEMA_VERSION_NEWEST  9

/* the requirements' expressions, and what else is asked with them */
#define NGX_PAYMENT_ATTEMPT_QUESTION     2048

/* the columns of the answer; those of the requirements come last */
#define NGX_PAYMENT_ATTEMPT_WHO          0
#define NGX_PAYMENT_ATTEMPT_VERSION      1
#define NGX_PAYMENT_ATTEMPT_CONTRACT     2
#define NGX_PAYMENT_ATTEMPT_SAID         3

#define NGX_PAYMENT_ATTEMPT_STACK        (512 * 1024)


/*
 * A method of authentication, as the library's mysql/client_plugin.h has it.
 * That header can not be included: it includes one that is not installed.
 */

#define NGX_PAYMENT_ATTEMPT_METHOD          2       /* a plugin's type */
#define NGX_PAYMENT_ATTEMPT_METHOD_VERSION  0x01ff  /* 1, with all minor ones */

typedef struct {
    int            type;
    unsigned int   interface_version;
    const char    *name;
    const char    *author;
    const char    *desc;
    unsigned int   version[3];
    const char    *license;
    void          *mysql_api;
    int          (*init)(char *, size_t, int, va_list);
    int          (*deinit)(void);
    int          (*options)(const char *option, const void *value);
    int          (*authenticate_user)(MYSQL_PLUGIN_VIO *vio, MYSQL *mysql);
    int          (*hash_password_bin)(MYSQL *mysql, unsigned char *hash,
                                      size_t *len);
} ngx_payment_attempt_method_t;


static ngx_int_t ngx_payment_attempt_init(ngx_log_t *log);
static ngx_int_t ngx_payment_attempt_load_methods(ngx_log_t *log);
static int ngx_payment_attempt_tls_first(MYSQL_PLUGIN_VIO *vio,
    MYSQL *mysql);
static void ngx_payment_attempt_leave(void);
static ngx_payment_attempt_t *ngx_payment_attempt_make(
    ngx_payment_shard_t *shard, ngx_uint_t n, ngx_log_t *log);
static char *ngx_payment_attempt_copy(u_char **p, const ngx_str_t *text);
static void *ngx_payment_attempt_thread(void *data);
static ngx_uint_t ngx_payment_attempt_connect(ngx_payment_attempt_t *a);
static ngx_uint_t ngx_payment_attempt_try(ngx_payment_attempt_t *a);
static ngx_uint_t ngx_payment_attempt_unconnected(ngx_payment_attempt_t *a);
static void ngx_payment_attempt_add(ngx_payment_attempt_t *a,
    const char *text, const char *name);
static void ngx_payment_attempt_options(ngx_payment_attempt_t *a);
static ngx_uint_t ngx_payment_attempt_ask(ngx_payment_attempt_t *a);
static ngx_uint_t ngx_payment_attempt_check(ngx_payment_attempt_t *a,
    MYSQL_ROW row);
static ngx_uint_t ngx_payment_attempt_schema(ngx_payment_attempt_t *a,
    MYSQL_ROW row);
static void ngx_payment_attempt_how(ngx_payment_attempt_t *a,
    unsigned version);
static unsigned ngx_payment_attempt_number(const char *text);
static ngx_uint_t ngx_payment_attempt_topology(ngx_payment_attempt_t *a);
static ngx_uint_t ngx_payment_attempt_history(ngx_payment_attempt_t *a);
static MYSQL_RES *ngx_payment_attempt_query(ngx_payment_attempt_t *a,
    const ngx_str_t *sql);
static ngx_uint_t ngx_payment_attempt_might(ngx_payment_attempt_t *a);
static ngx_uint_t ngx_payment_attempt_identity(ngx_payment_attempt_t *a);
static ngx_uint_t ngx_payment_attempt_say(ngx_payment_attempt_t *a,
    const char *const *session);
static ngx_uint_t ngx_payment_attempt_fail_by_library(
    ngx_payment_attempt_t *a);
static void ngx_payment_attempt_pipe_handler(ngx_event_t *rev);


/*
 * Every session says itself what its server could have other defaults for (or
 * an init_connect): what texts and times mean, that a value which does not fit
 * is an error, that a result has all its rows and a text all its bytes, that a
 * look is not a part of a transaction, that COMMIT is nothing else, and that a
 * statement's time is ours to limit.
 */

static const char *const  ngx_payment_attempt_defaults[] = {
    "SET NAMES utf8mb4, SESSION autocommit = 1,"
    " SESSION time_zone = '+00:00',"
    " SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
    " SESSION sql_select_limit = 18446744073709551615,"
    " SESSION sql_big_selects = 1, SESSION group_concat_max_len = 1048576,"
    " SESSION sql_safe_updates = 0, SESSION completion_type = 0,"
    " SESSION max_statement_time = 0",
    "SET SESSION TRANSACTION READ WRITE",
    NULL
};


/*
 * How a server may ask for the password: only by methods that do not hand it
 * over.  A server that nobody has verified could ask for it by any other one,
 * behind TLS, too.
 */

#define NGX_PAYMENT_ATTEMPT_NATIVE     "mysql_native_password"
#define NGX_PAYMENT_ATTEMPT_ED25519    "client_ed25519"
#define NGX_PAYMENT_ATTEMPT_PARSEC     "parsec"
#define NGX_PAYMENT_ATTEMPT_TLS_FIRST  "ngx_payment_tls_first"

#define NGX_PAYMENT_ATTEMPT_METHODS                                           \
    NGX_PAYMENT_ATTEMPT_NATIVE "," NGX_PAYMENT_ATTEMPT_ED25519 ","            \
    NGX_PAYMENT_ATTEMPT_PARSEC "," NGX_PAYMENT_ATTEMPT_TLS_FIRST


/*
 * Without verification the library does without TLS where the server has none,
 * and has sent the login by then.  A method of our own comes first, which sends
 * nothing without TLS; behind TLS it says that it is not the user's method, and
 * the server asks by that one, in one more round trip.
 */

static ngx_payment_attempt_method_t  ngx_payment_attempt_tls_first_method = {
    .type = NGX_PAYMENT_ATTEMPT_METHOD,
    .interface_version = NGX_PAYMENT_ATTEMPT_METHOD_VERSION,
    .name = NGX_PAYMENT_ATTEMPT_TLS_FIRST,
    .author = "",
    .desc = "no login without TLS",
    .version = { 1, 0, 0 },
    .license = "",
    .authenticate_user = ngx_payment_attempt_tls_first
};


static ngx_connection_t  *ngx_payment_attempt_pipe;
static ngx_fd_t           ngx_payment_attempt_pipe_write = NGX_INVALID_FILE;
static ngx_uint_t         ngx_payment_attempt_threads;   /* not heard of yet */
static u_char
    ngx_payment_attempt_question[NGX_PAYMENT_ATTEMPT_QUESTION];


ngx_int_t
ngx_payment_attempt_init_process(ngx_cycle_t *cycle)
{
    int                fds[2];
    ngx_connection_t  *c;

    if (ngx_payment_attempt_pipe) {
        return NGX_OK;
    }

    if (ngx_payment_attempt_init(cycle->log) != NGX_OK) {
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

    c->read->handler = ngx_payment_attempt_pipe_handler;
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

    ngx_payment_attempt_pipe = c;
    ngx_payment_attempt_pipe_write = fds[1];

    return NGX_OK;

failed:

    (void) close(fds[0]);
    (void) close(fds[1]);

    return NGX_ERROR;
}


void
ngx_payment_attempt_exit_process(ngx_cycle_t *cycle)
{
    /*
     * A thread may still be connecting and will write to the pipe, so the
     * write end stays open until the process is gone, and so does the library.
     */

    if (ngx_payment_attempt_pipe) {
        ngx_close_connection(ngx_payment_attempt_pipe);
        ngx_payment_attempt_pipe = NULL;
    }

    if (ngx_payment_attempt_threads) {
        (void) atexit(ngx_payment_attempt_leave);
    }
}


/* What all attempts of this process need, made once. */

static ngx_int_t
ngx_payment_attempt_init(ngx_log_t *log)
{
    u_char      *p, *last;
    ngx_uint_t   i;

    if (ngx_payment_attempt_question[0]) {
        return NGX_OK;
    }

    if (ngx_payment_attempt_load_methods(log) != NGX_OK) {
        return NGX_ERROR;
    }

    last = ngx_payment_attempt_question + NGX_PAYMENT_ATTEMPT_QUESTION - 1;
    p = ngx_slprintf(ngx_payment_attempt_question, last,
                     "SELECT " NGX_PAYMENT_REQUIREMENT_WHO
                     ", (SELECT MAX(version) FROM payment_schema_version)"
                     ", (SELECT MAX(version) FROM payment_schema_version"
                     " WHERE kind = 'contract')");

    for (i = 0; i < NGX_PAYMENT_REQUIREMENTS; i++) {
        p = ngx_slprintf(p, last, ", %s",
                         ngx_payment_requirements[i].expression);
    }

    ngx_payment_assert(p < last);

    return NGX_OK;
}


/*
 * The library loads a method at its first use.  Where two threads need it then,
 * it fails in one of them, and what is logged is that access is denied.  So all
 * are loaded before the first thread; one that is not installed may be missing.
 */

static ngx_int_t
ngx_payment_attempt_load_methods(ngx_log_t *log)
{
    MYSQL       *mysql;
    ngx_uint_t   i;

    static const char *const  methods[] = {
        NGX_PAYMENT_ATTEMPT_NATIVE,
        NGX_PAYMENT_ATTEMPT_ED25519,
        NGX_PAYMENT_ATTEMPT_PARSEC,
        NULL
    };

    mysql = mysql_init(NULL);

    if (mysql == NULL
        || mysql_client_register_plugin(mysql,
                                        (struct st_mysql_client_plugin *)
                                        &ngx_payment_attempt_tls_first_method)
           == NULL)
    {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "payment: registering \"" NGX_PAYMENT_ATTEMPT_TLS_FIRST
                      "\" failed: %s", mysql ? mysql_error(mysql) : "");
        return NGX_ERROR;
    }

    for (i = 0; methods[i]; i++) {
        (void) mysql_client_find_plugin(mysql, methods[i],
                                        NGX_PAYMENT_ATTEMPT_METHOD);
    }

    mysql_close(mysql);

    return NGX_OK;
}


/* In the thread of an attempt: see ngx_payment_attempt_tls_first_method. */

static int
ngx_payment_attempt_tls_first(MYSQL_PLUGIN_VIO *vio, MYSQL *mysql)
{
    /* where the server has TLS, the library begins it before it writes */

    if (!(mysql->server_capabilities & CLIENT_SSL)
        || vio->write_packet(vio, (const unsigned char *) "", 0) != 0)
    {
        return CR_ERROR;
    }

    return CR_OK;
}


/* The first of exit()'s handlers.  Those that follow take OpenSSL apart, which
 * a thread may be in the middle of.  nginx ends a process in which it has
 * called exit_process by exit(0). */

static void
ngx_payment_attempt_leave(void)
{
    _exit(0);
}


ngx_payment_attempt_t *
ngx_payment_attempt_create(ngx_payment_shard_t *shard,
    const char *const *session, const char *const *prepare, ngx_log_t *log)
{
    uint64_t                choice;
    ngx_payment_attempt_t  *a;

    choice = ngx_payment_common_primary(shard);

    a = ngx_payment_attempt_make(shard,
                                 ngx_payment_common_server(shard, choice),
                                 log);
    if (a == NULL) {
        return NULL;
    }

    a->choice = choice;
    a->session = session;
    a->prepare = prepare;

    return a;
}


ngx_payment_attempt_t *
ngx_payment_attempt_look(ngx_payment_shard_t *shard, ngx_uint_t server,
    ngx_log_t *log)
{
    ngx_payment_attempt_t  *a;

    a = ngx_payment_attempt_make(shard, server, log);

    if (a) {
        a->look = 1;
        a->identity.unclaimed = "a look writes nothing";
    }

    return a;
}


static ngx_payment_attempt_t *
ngx_payment_attempt_make(ngx_payment_shard_t *shard, ngx_uint_t n,
    ngx_log_t *log)
{
    u_char                 *p;
    size_t                  size;
    ngx_payment_server_t   *server;
    ngx_payment_attempt_t  *a;

    server = (ngx_payment_server_t *) shard->servers.elts + n;

    size = server->host.len + server->path.len + shard->user.len
           + shard->password.len + shard->database.len + shard->ssl_ca.len
           + shard->ssl_certificate.len + shard->ssl_certificate_key.len
           + shard->name.len + shard->slots_text.len + shard->belongs_to.len
           + 11;

    a = ngx_calloc(sizeof(ngx_payment_attempt_t) + size, log);
    if (a == NULL) {
        return NULL;
    }

    a->server = n;

    p = (u_char *) (a + 1);

    a->password = ngx_payment_attempt_copy(&p, &shard->password);
    a->user = ngx_payment_attempt_copy(&p, &shard->user);
    a->database = ngx_payment_attempt_copy(&p, &shard->database);

    a->identity.database = a->database;
    a->identity.shard = ngx_payment_attempt_copy(&p, &shard->name);
    a->identity.slots = ngx_payment_attempt_copy(&p, &shard->slots_text);
    a->identity.belongs_to = ngx_payment_attempt_copy(&p, &shard->belongs_to);
    ngx_payment_identity_expect(shard, &a->identity);

    if (server->path.len) {
        a->path = ngx_payment_attempt_copy(&p, &server->path);
    } else {
        a->host = ngx_payment_attempt_copy(&p, &server->host);
    }

    if (shard->ssl_ca.len) {
        a->ssl_ca = ngx_payment_attempt_copy(&p, &shard->ssl_ca);
    }

    if (shard->ssl_certificate.len) {
        a->ssl_certificate = ngx_payment_attempt_copy(&p,
                                                  &shard->ssl_certificate);
        a->ssl_certificate_key = ngx_payment_attempt_copy(&p,
                                                  &shard->ssl_certificate_key);
    }

    a->port = server->port;
    a->durability = shard->durability;
    ngx_payment_gtid_last(shard, &a->last);
    a->uses = ngx_payment_rights_of(shard);
    a->archive = shard->archive ? 1 : 0;
    a->ssl = shard->ssl ? 1 : 0;
    a->ssl_verify = shard->ssl_verify ? 1 : 0;

    /* whole seconds are all the library knows; exchanges have our own timers */
    a->seconds = (unsigned int) (shard->connect_timeout + 999) / 1000;

    return a;
}


static char *
ngx_payment_attempt_copy(u_char **p, const ngx_str_t *text)
{
    u_char  *start;

    start = *p;
    *p = ngx_cpymem(start, text->data, text->len);
    *(*p)++ = '\0';

    return (char *) start;
}


ngx_int_t
ngx_payment_attempt_start(ngx_payment_attempt_t *a,
    ngx_payment_attempt_done_pt done, void *data)
{
    int             err;
    char            message[NGX_PAYMENT_DB_MESSAGE_LEN];
    sigset_t        all, old;
    pthread_t       tid;
    pthread_attr_t  attr;

    a->done = done;
    a->data = data;

    /* signals are the event loop's: none may interrupt the thread */

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &old);

    err = pthread_attr_init(&attr);

    if (err == 0) {
        (void) pthread_attr_setstacksize(&attr, NGX_PAYMENT_ATTEMPT_STACK);
        (void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        err = pthread_create(&tid, &attr, ngx_payment_attempt_thread, a);
        (void) pthread_attr_destroy(&attr);
    }

    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);

    if (err) {
        a->phase = "pthread_create()";
        (void) snprintf(message, sizeof(message), "there is no thread to "
                        "connect in, %s: the limits of processes and memory "
                        "are too low (ulimit -u, TasksMax)", strerror(err));
        (void) ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_RESOURCES,
                                        message);
        return NGX_ERROR;
    }

    ngx_payment_attempt_threads++;

    return NGX_OK;
}


ngx_uint_t
ngx_payment_attempt_run(ngx_payment_attempt_t *a, ngx_log_t *log)
{
    if (ngx_payment_attempt_init(log) != NGX_OK) {
        a->phase = "loading the library's methods";
        return ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_RESOURCES,
                                        "see the error log");
    }

    return ngx_payment_attempt_connect(a);
}


void
ngx_payment_attempt_abandon(ngx_payment_attempt_t *a)
{
    /* the rest of the attempt is the thread's until it is read from the pipe */
    a->done = NULL;
}


/* in the thread, which touches nothing but its attempt */

static void *
ngx_payment_attempt_thread(void *data)
{
    ngx_payment_attempt_t *a = data;

    ssize_t  n;

    (void) mysql_thread_init();

    (void) ngx_payment_attempt_connect(a);

    mysql_thread_end();

    do {
        /* a pointer is far below PIPE_BUF: written whole, or not at all */
        n = write(ngx_payment_attempt_pipe_write, &a, sizeof(void *));
    } while (n == -1 && ngx_errno == NGX_EINTR);

    return NULL;
}


static ngx_uint_t
ngx_payment_attempt_connect(ngx_payment_attempt_t *a)
{
    if (ngx_payment_attempt_try(a) != 0) {
        ngx_payment_attempt_advise(a);
    }

    return a->error;
}


static ngx_uint_t
ngx_payment_attempt_try(ngx_payment_attempt_t *a)
{
    if (a->look && a->mysql) {
        return ngx_payment_attempt_topology(a);
    }

    a->phase = "mysql_init()";
    a->mysql = mysql_init(NULL);

    if (a->mysql == NULL) {
        return ngx_payment_attempt_fail(a, CR_OUT_OF_MEMORY, "out of memory");
    }

    ngx_payment_attempt_options(a);

    a->phase = "connecting";

    if (mysql_real_connect(a->mysql, a->path ? "localhost" : a->host, a->user,
                           a->password, a->database, a->port, a->path, 0)
        == NULL)
    {
        if (a->ssl && mysql_errno(a->mysql) == CR_UNKNOWN_ERROR
            && !(a->mysql->server_capabilities & CLIENT_SSL))
        {
            /* our own method, which has no way to say why */
            return ngx_payment_attempt_fail(a, CR_SSL_CONNECTION_ERROR,
                                            "the server has no TLS");
        }

        return ngx_payment_attempt_unconnected(a);
    }

    if (a->ssl && mysql_get_ssl_cipher(a->mysql) == NULL) {
        return ngx_payment_attempt_fail(a, CR_SSL_CONNECTION_ERROR,
                                        "the connection has no TLS");
    }

    if (ngx_payment_attempt_say(a, ngx_payment_attempt_defaults) != 0) {
        return a->error;
    }

    if (a->look) {

        /* one that was never used is nobody else's */

        if (ngx_payment_attempt_identity(a) != 0 && !a->identity.nobodys) {
            return a->error;
        }

        a->error = 0;

        return ngx_payment_attempt_topology(a);
    }

    if (ngx_payment_attempt_ask(a) != 0
        || ngx_payment_attempt_might(a) != 0
        || ngx_payment_attempt_identity(a) != 0
        || ngx_payment_attempt_topology(a) != 0
        || ngx_payment_attempt_say(a, a->session) != 0)
    {
        return a->error;
    }

    return ngx_payment_attempt_prepare(a);
}


/* For want of a descriptor of ours, the library says of the server what it says
 * of one that is not there. */

static ngx_uint_t
ngx_payment_attempt_unconnected(ngx_payment_attempt_t *a)
{
    ngx_fd_t  fd;

    fd = open("/dev/null", O_RDONLY|O_CLOEXEC);

    if (fd == -1) {
        return ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_RESOURCES,
                                        strerror(ngx_errno));
    }

    (void) close(fd);

    return ngx_payment_attempt_fail_by_library(a);
}


/* What neither the server nor the library says: where to look. */

void
ngx_payment_attempt_advise(ngx_payment_attempt_t *a)
{
    switch (a->error) {

    case ER_ACCESS_DENIED_ERROR:
        ngx_payment_attempt_add(a, "; is the password right?", "");

        if (!a->ssl) {
            ngx_payment_attempt_add(a, " And the connection has no TLS, which "
                                       "the user may have to have", "");
        }

        return;

    case ER_DBACCESS_DENIED_ERROR:
        ngx_payment_attempt_add(a, "; is its name right, and has the user the "
                                   "rights of conf/grants.sql?", "");
        return;

    case ER_BAD_DB_ERROR:
        ngx_payment_attempt_add(a, "; is its name right? conf/database.sql "
                                   "makes it", "");
        return;

    case CR_CONNECTION_ERROR:
    case CR_CONN_HOST_ERROR:
        ngx_payment_attempt_add(a, "; does it run, and listen there?", "");
        return;

    case CR_SSL_CONNECTION_ERROR:
        if (a->ssl_ca) {
            ngx_payment_attempt_add(a, "; ssl_ca is ", a->ssl_ca);
        }

        return;

    default:
        ngx_payment_attempt_add(a, ngx_payment_rights_advice(a->error), "");
        return;
    }
}


static void
ngx_payment_attempt_add(ngx_payment_attempt_t *a, const char *text,
    const char *name)
{
    size_t  len;

    len = ngx_strlen(a->message);

    (void) snprintf(a->message + len, sizeof(a->message) - len, "%s%s", text,
                    name);
}


static void
ngx_payment_attempt_options(ngx_payment_attempt_t *a)
{
    my_bool       ssl, verify;
    unsigned int  protocol, infile;

    infile = 0;
    ssl = a->ssl;
    verify = a->ssl && a->ssl_verify;
    protocol = a->path ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;

    (void) mysql_options(a->mysql, MYSQL_OPT_NONBLOCK, NULL);
    (void) mysql_options(a->mysql, MYSQL_OPT_CONNECT_TIMEOUT, &a->seconds);
    (void) mysql_options(a->mysql, MYSQL_OPT_READ_TIMEOUT, &a->seconds);
    (void) mysql_options(a->mysql, MYSQL_OPT_WRITE_TIMEOUT, &a->seconds);
    (void) mysql_options(a->mysql, MYSQL_OPT_PROTOCOL, &protocol);
    (void) mysql_options(a->mysql, MYSQL_OPT_LOCAL_INFILE, &infile);
    (void) mysql_options(a->mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");

    (void) mysql_options(a->mysql, MARIADB_OPT_RESTRICTED_AUTH,
                         NGX_PAYMENT_ATTEMPT_METHODS);

    /* "off" is said, too: both are on by default since Connector/C 3.4 */
    (void) mysql_options(a->mysql, MYSQL_OPT_SSL_ENFORCE, &ssl);
    (void) mysql_options(a->mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);

    if (!ssl) {
        return;
    }

    if (!verify) {
        (void) mysql_options(a->mysql, MYSQL_DEFAULT_AUTH,
                             NGX_PAYMENT_ATTEMPT_TLS_FIRST);
    }

    if (a->ssl_ca) {
        (void) mysql_options(a->mysql, MYSQL_OPT_SSL_CA, a->ssl_ca);
    }

    if (a->ssl_certificate) {
        (void) mysql_options(a->mysql, MYSQL_OPT_SSL_CERT, a->ssl_certificate);
        (void) mysql_options(a->mysql, MYSQL_OPT_SSL_KEY,
                             a->ssl_certificate_key);
    }
}


/* Is this the right server?  One question, before anything is changed. */

static ngx_uint_t
ngx_payment_attempt_ask(ngx_payment_attempt_t *a)
{
    MYSQL_ROW    row;
    MYSQL_RES   *res;
    ngx_uint_t   error;
    const char  *message;

    a->phase = "checking the server";

    if (mysql_query(a->mysql, (char *) ngx_payment_attempt_question)
        || (res = mysql_store_result(a->mysql)) == NULL)
    {
        switch (mysql_errno(a->mysql)) {

        case ER_NO_SUCH_TABLE:
            message = "the database has no payment_schema_version table: "
                      "run ngx-payment-migrate";
            break;

        case ER_BAD_FIELD_ERROR:
            message = "payment_schema_version is that of an older "
                      "ngx-payment-migrate: run ngx-payment-migrate";
            break;

        default:
            return ngx_payment_attempt_fail_by_library(a);
        }

        return ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_SCHEMA, message);
    }

    row = mysql_fetch_row(res);
    error = row ? ngx_payment_attempt_check(a, row)
                : ngx_payment_attempt_fail(a, CR_UNKNOWN_ERROR, "no answer");

    mysql_free_result(res);

    return error;
}


static ngx_uint_t
ngx_payment_attempt_check(ngx_payment_attempt_t *a, MYSQL_ROW row)
{
    char                              message[NGX_PAYMENT_DB_MESSAGE_LEN];
    MYSQL_ROW                         said;
    ngx_uint_t                        i, must;
    const ngx_payment_requirement_t  *r;

    said = &row[NGX_PAYMENT_ATTEMPT_SAID];

    (void) ngx_cpystrn((u_char *) a->who,
                       (u_char *) (row[NGX_PAYMENT_ATTEMPT_WHO]
                                   ? row[NGX_PAYMENT_ATTEMPT_WHO] : "?"),
                       sizeof(a->who));

    for (i = 0; i < NGX_PAYMENT_REQUIREMENTS; i++) {
        r = &ngx_payment_requirements[i];
        must = r->replica ? a->durability == NGX_PAYMENT_DURABILITY_REPLICA
                          : !r->advice;

        if (!must && !r->advice) {
            continue;
        }

        (void) ngx_cpystrn((u_char *) a->said[i],
                           (u_char *) (said[i] ? said[i] : "NULL"),
                           sizeof(a->said[i]));

        if ((r->archive && !a->archive)
            || ngx_payment_requirement_met(i, a->said[i]))
        {
            continue;
        }

        ngx_payment_requirement_say(i, a->said[i], sizeof(a->said[i]));

        if (!must) {
            a->advice |= (ngx_uint_t) 1 << i;
            continue;
        }

        (void) snprintf(message, sizeof(message), "%s is %s: %s", r->name,
                        a->said[i], r->otherwise);

        return ngx_payment_attempt_fail(a,
                                        i == NGX_PAYMENT_REQUIREMENT_READ_ONLY
                                        ? NGX_PAYMENT_DB_E_READ_ONLY
                                        : NGX_PAYMENT_DB_E_UNFIT, message);
    }

    return ngx_payment_attempt_schema(a, row);
}


static ngx_uint_t
ngx_payment_attempt_schema(ngx_payment_attempt_t *a, MYSQL_ROW row)
{
    char      message[NGX_PAYMENT_DB_MESSAGE_LEN];
    unsigned  version, contract;

    version = ngx_payment_attempt_number(row[NGX_PAYMENT_ATTEMPT_VERSION]);
    contract = ngx_payment_attempt_number(row[NGX_PAYMENT_ATTEMPT_CONTRACT]);

    if (version < NGX_PAYMENT_SCHEMA_VERSION_LOWEST) {
        (void) snprintf(message, sizeof(message), "the schema has version %u, "
                        "this module needs version %u: run "
                        "ngx-payment-migrate",
                        version, NGX_PAYMENT_SCHEMA_VERSION_LOWEST);

    } else if (contract > NGX_PAYMENT_SCHEMA_VERSION_NEWEST) {
        (void) snprintf(message, sizeof(message), "the schema was finished for "
                        "version %u, this module knows version %u: a newer "
                        "module is needed",
                        contract, NGX_PAYMENT_SCHEMA_VERSION_NEWEST);

    } else {
        ngx_payment_attempt_how(a, version);
        return 0;
    }

    a->phase = "checking the schema version";

    return ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_SCHEMA, message);
}


static void
ngx_payment_attempt_how(ngx_payment_attempt_t *a, unsigned version)
{
    const char  *tls;

    tls = NULL;

    (void) mariadb_get_infov(a->mysql, MARIADB_CONNECTION_TLS_VERSION,
                             (void *) &tls);

    (void) snprintf(a->how, sizeof(a->how), "%s, schema %u",
                    tls ? tls : "no TLS", version);
}


static unsigned
ngx_payment_attempt_number(const char *text)
{
    return text ? (unsigned) atoi(text) : 0;
}


/* Has this server the payments?  What its answer means is the event loop's to
 * say, which knows what other servers have said. */

static ngx_uint_t
ngx_payment_attempt_topology(ngx_payment_attempt_t *a)
{
    MYSQL_RES  *res;

    a->phase = "looking at the topology";

    res = ngx_payment_attempt_query(a, ngx_payment_topology_sql(a->durability,
                                                                0));
    if (res == NULL) {
        return a->error;
    }

    ngx_payment_topology_read(res, &a->topology);
    mysql_free_result(res);

    if (a->durability == NGX_PAYMENT_DURABILITY_LOCAL) {
        return 0;
    }

    res = ngx_payment_attempt_query(a, a->look
                                    ? ngx_payment_topology_voters_sql()
                                    : ngx_payment_topology_unconfirmed_sql());
    if (res == NULL) {
        return a->error;
    }

    if (a->look) {
        a->voters = (ngx_uint_t) ngx_payment_topology_sum(res);
    } else {
        a->unconfirmed = ngx_payment_topology_sum(res);
    }

    mysql_free_result(res);

    return a->look ? 0 : ngx_payment_attempt_history(a);
}


/* Does the server have what was answered? */

static ngx_uint_t
ngx_payment_attempt_history(ngx_payment_attempt_t *a)
{
    MYSQL_ROW   row;
    MYSQL_RES  *res;

    static const ngx_str_t  sql =
        ngx_string("SELECT @@global.gtid_binlog_state");

    if (a->last.number == 0) {
        return 0;
    }

    res = ngx_payment_attempt_query(a, &sql);
    if (res == NULL) {
        return a->error;
    }

    row = mysql_fetch_row(res);

    a->lacking = row == NULL || row[0] == NULL
                 || !ngx_payment_gtid_in(&a->last, row[0]);

    mysql_free_result(res);

    return 0;
}


/* NULL: it failed, and the attempt says why. */

static MYSQL_RES *
ngx_payment_attempt_query(ngx_payment_attempt_t *a, const ngx_str_t *sql)
{
    MYSQL_RES  *res;

    res = NULL;

    if (mysql_real_query(a->mysql, (char *) sql->data, sql->len) == 0) {
        res = mysql_store_result(a->mysql);
    }

    if (res == NULL) {
        (void) ngx_payment_attempt_fail_by_library(a);
    }

    return res;
}


/* May the user write where read_only forbids it?  Roles are listed, too. */

static ngx_uint_t
ngx_payment_attempt_might(ngx_payment_attempt_t *a)
{
    MYSQL_ROW   row;
    MYSQL_RES  *res;

    if (mysql_query(a->mysql, "SHOW GRANTS")
        || (res = mysql_store_result(a->mysql)) == NULL)
    {
        return ngx_payment_attempt_fail_by_library(a);
    }

    while ((row = mysql_fetch_row(res)) != NULL) {

        if (row[0] && strstr(row[0], " ON *.* ")
            && (strstr(row[0], "READ_ONLY ADMIN")
                || strstr(row[0], "READ ONLY ADMIN")
                || strstr(row[0], "SUPER")
                || strstr(row[0], "ALL PRIVILEGES")))
        {
            a->mighty = 1;
        }
    }

    mysql_free_result(res);

    return 0;
}


static ngx_uint_t
ngx_payment_attempt_identity(ngx_payment_attempt_t *a)
{
    char       message[NGX_PAYMENT_DB_MESSAGE_LEN];
    ngx_int_t  rc;

    a->phase = "checking whose database it is";

    rc = ngx_payment_identity_check(&a->identity, a->mysql, message,
                                    sizeof(message));

    if (rc == NGX_ERROR) {
        return ngx_payment_attempt_fail(a, NGX_PAYMENT_DB_E_IDENTITY,
                                        message);
    }

    return rc ? ngx_payment_attempt_fail_by_library(a) : 0;
}


static ngx_uint_t
ngx_payment_attempt_say(ngx_payment_attempt_t *a, const char *const *session)
{
    a->phase = "setting the session up";

    for ( /* void */ ; *session; session++) {
        if (mysql_real_query(a->mysql, *session, strlen(*session))) {
            return ngx_payment_attempt_fail_by_library(a);
        }
    }

    return 0;
}


ngx_uint_t
ngx_payment_attempt_prepare(ngx_payment_attempt_t *a)
{
    ngx_uint_t    i;
    const char   *sql;
    MYSQL_STMT   *stmt;

    a->phase = "preparing statements";

    for (i = 0; a->prepare && a->prepare[i]; i++) {
        stmt = mysql_stmt_init(a->mysql);
        if (stmt == NULL) {
            return ngx_payment_attempt_fail(a, CR_OUT_OF_MEMORY,
                                            "out of memory");
        }

        a->stmts[i] = stmt;
        sql = a->prepare[i];

        if (mysql_stmt_prepare(stmt, sql, strlen(sql))) {
            return ngx_payment_attempt_fail(a, mysql_stmt_errno(stmt),
                                            mysql_stmt_error(stmt));
        }
    }

    return a->prepare ? ngx_payment_attempt_may(a, NGX_PAYMENT_RIGHTS_TAKE
                                                   | a->uses)
                      : 0;
}


ngx_uint_t
ngx_payment_attempt_may(ngx_payment_attempt_t *a, ngx_uint_t what)
{
    ngx_uint_t   i;
    const char  *sql;
    MYSQL_STMT  *stmt;

    a->phase = "asking for the user's rights";

    i = 0;

    while ((sql = ngx_payment_rights_next(what, &i)) != NULL) {

        stmt = mysql_stmt_init(a->mysql);
        if (stmt == NULL) {
            return ngx_payment_attempt_fail(a, CR_OUT_OF_MEMORY,
                                            "out of memory");
        }

        if (mysql_stmt_prepare(stmt, sql, strlen(sql))) {
            (void) ngx_payment_attempt_fail(a, mysql_stmt_errno(stmt),
                                            mysql_stmt_error(stmt));
        }

        (void) mysql_stmt_close(stmt);

        if (a->error) {
            break;
        }
    }

    return a->error;
}


/* What the library says of the connection's last call. */

static ngx_uint_t
ngx_payment_attempt_fail_by_library(ngx_payment_attempt_t *a)
{
    return ngx_payment_attempt_fail(a, mysql_errno(a->mysql),
                                    mysql_error(a->mysql));
}


ngx_uint_t
ngx_payment_attempt_fail(ngx_payment_attempt_t *a, ngx_uint_t error,
    const char *message)
{
    a->error = error ? error : CR_UNKNOWN_ERROR;
    (void) ngx_cpystrn((u_char *) a->message, (u_char *) message,
                       sizeof(a->message));
    return a->error;
}


/* back in the event loop */

static void
ngx_payment_attempt_pipe_handler(ngx_event_t *rev)
{
    ssize_t                 n;
    ngx_connection_t       *c;
    ngx_payment_attempt_t  *a;

    c = rev->data;

    for ( ;; ) {
        n = read(c->fd, &a, sizeof(void *));

        if (n == -1 && ngx_errno == NGX_EINTR) {
            continue;
        }

        if (n != sizeof(void *)) {
            return;
        }

        ngx_payment_attempt_threads--;

        if (a->done == NULL) {
            ngx_payment_attempt_free(a);
            continue;
        }

        a->done(a);
    }
}


void
ngx_payment_attempt_free(ngx_payment_attempt_t *a)
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

    ngx_explicit_memzero(a->password, ngx_strlen(a->password));
    ngx_free(a);
}
