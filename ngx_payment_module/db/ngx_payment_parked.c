/* Connections whose server may still be at work: see ngx_payment_parked.h. */

#include "ngx_payment_parked.h"


#define NGX_PAYMENT_PARKED_TIME      300000     /* ms */

/* seconds until a silent network is asked, between questions, and how many */
#define NGX_PAYMENT_PARKED_IDLE      10
#define NGX_PAYMENT_PARKED_INTERVAL  10
#define NGX_PAYMENT_PARKED_COUNT     3


static ngx_socket_t ngx_payment_parked_swap(ngx_socket_t s, ngx_log_t *log);
static void ngx_payment_parked_keepalive(ngx_socket_t s);
static void ngx_payment_parked_handler(ngx_event_t *rev);


ngx_uint_t
ngx_payment_parked_max(const ngx_payment_shard_t *shard)
{
    /* All connections may be given up twice, so that a network that is away
     * for a moment costs nothing more.  The helper has two connections,
     * whatever the workers have. */

    return 2 * ngx_max(shard->connections, 2);
}


ngx_int_t
ngx_payment_parked_take(ngx_payment_server_t *server, ngx_connection_t *c)
{
    ngx_socket_t       s;
    ngx_connection_t  *parked;

    if (ngx_exiting || ngx_terminate || ngx_del_conn == NULL) {
        return NGX_DECLINED;
    }

    /* epoll watches what is behind the number, and must forget it first */

    if (ngx_del_conn(c, 0) != NGX_OK) {
        return NGX_DECLINED;
    }

    s = ngx_payment_parked_swap(c->fd, c->log);

    if (s == (ngx_socket_t) -1) {
        (void) shutdown(c->fd, SHUT_RDWR);
        return NGX_OK;
    }

    parked = ngx_get_connection(s, c->log);

    if (parked == NULL) {
        (void) close(s);
        return NGX_OK;
    }

    ngx_payment_parked_keepalive(s);

    /* idle: nginx asks its handler to end it when the worker is to quit */

    parked->idle = 1;
    parked->data = server;
    parked->log = ngx_cycle->log;
    parked->read->handler = ngx_payment_parked_handler;
    parked->read->log = ngx_cycle->log;
    parked->write->log = ngx_cycle->log;

    if (ngx_add_event(parked->read, NGX_READ_EVENT, NGX_CLEAR_EVENT)
        != NGX_OK)
    {
        ngx_close_connection(parked);
        return NGX_OK;
    }

    /* a worker that was told to quit does not wait for it */
    parked->read->cancelable = 1;
    ngx_add_timer(parked->read, NGX_PAYMENT_PARKED_TIME);

    server->parked++;

    return NGX_OK;
}


/* The socket under a new number; under the old one is one that is closed at its
 * other end. */

static ngx_socket_t
ngx_payment_parked_swap(ngx_socket_t s, ngx_log_t *log)
{
    int           ends[2];
    ngx_socket_t  kept;

    if (socketpair(AF_UNIX, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0, ends)
        == -1)
    {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_socket_errno,
                      "payment: socketpair() failed");
        return (ngx_socket_t) -1;
    }

    (void) close(ends[1]);

    kept = fcntl(s, F_DUPFD_CLOEXEC, 0);

    if (kept == -1) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_socket_errno,
                      "payment: fcntl(F_DUPFD_CLOEXEC) failed");

    } else if (dup3(ends[0], s, O_CLOEXEC) == -1) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_socket_errno,
                      "payment: dup3() failed");
        (void) close(kept);
        kept = -1;
    }

    (void) close(ends[0]);

    return kept;
}


/* Nobody sends on a parked socket, so only the kernel can find out that the
 * network, or the other machine, is gone.  A unix socket needs no such thing,
 * and refuses it. */

static void
ngx_payment_parked_keepalive(ngx_socket_t s)
{
    int  on, idle, interval, count;

    on = 1;
    idle = NGX_PAYMENT_PARKED_IDLE;
    interval = NGX_PAYMENT_PARKED_INTERVAL;
    count = NGX_PAYMENT_PARKED_COUNT;

    (void) setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(int));
    (void) setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(int));
    (void) setsockopt(s, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(int));
    (void) setsockopt(s, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(int));
}


/* The server has answered, or the connection or its time has ended. */

static void
ngx_payment_parked_handler(ngx_event_t *rev)
{
    ngx_connection_t      *c;
    ngx_payment_server_t  *server;

    c = rev->data;
    server = c->data;

    server->parked--;
    ngx_close_connection(c);
}
