/* The way to a collector of traces: see ngx_payment_exporter.h. */

#include "ngx_payment_exporter.h"
#include "ngx_payment_exporter_json.h"
#include "ngx_payment_version.h"


static void ngx_payment_exporter_timer(ngx_event_t *ev);
static ngx_uint_t ngx_payment_exporter_fill(ngx_payment_exporter_t *x);
static void ngx_payment_exporter_post(ngx_payment_exporter_t *x);
static void ngx_payment_exporter_write(ngx_event_t *ev);
static void ngx_payment_exporter_read(ngx_event_t *ev);
static void ngx_payment_exporter_answered(ngx_payment_exporter_t *x);
static void ngx_payment_exporter_taken(ngx_payment_exporter_t *x);
static void ngx_payment_exporter_failed(ngx_payment_exporter_t *x,
    const char *why);
static void ngx_payment_exporter_dropped(ngx_payment_exporter_t *x);
static void ngx_payment_exporter_hang_up(ngx_payment_exporter_t *x);
static void ngx_payment_exporter_wait(ngx_payment_exporter_t *x,
    ngx_payment_exporter_state_e state, ngx_msec_t time);


ngx_payment_exporter_t *
ngx_payment_exporter_create(ngx_payment_outbox_conf_t *conf, const char *host,
    ngx_log_t *log)
{
    ngx_payment_exporter_t  *x;

    x = ngx_calloc(sizeof(ngx_payment_exporter_t), log);
    if (x == NULL) {
        return NULL;
    }

    x->request = ngx_alloc(2 * NGX_PAYMENT_EXPORTER_FRAME_SIZE
                           + NGX_PAYMENT_EXPORTER_SPANS
                             * NGX_PAYMENT_EXPORTER_SPAN_SIZE, log);
    if (x->request == NULL) {
        return NULL;
    }

    x->conf = conf;
    x->host = host;
    x->log = log;
    x->pause = NGX_PAYMENT_EXPORTER_PAUSE_MIN;

    x->timer.handler = ngx_payment_exporter_timer;
    x->timer.data = x;
    x->timer.log = log;
    x->timer.cancelable = 1;

    x->posted_at = ngx_current_msec;
    ngx_payment_exporter_wait(x, NGX_PAYMENT_EXPORTER_IDLE,
                              NGX_PAYMENT_EXPORTER_TICK);

    return x;
}


void
ngx_payment_exporter_close(ngx_payment_exporter_t *x)
{
    if (x == NULL || x->closed) {
        return;
    }

    x->closed = 1;

    if (x->timer.timer_set) {
        ngx_del_timer(&x->timer);
    }

    ngx_payment_exporter_hang_up(x);
    ngx_payment_exporter_dropped(x);
}


static void
ngx_payment_exporter_wait(ngx_payment_exporter_t *x,
    ngx_payment_exporter_state_e state, ngx_msec_t time)
{
    x->state = state;
    ngx_add_timer(&x->timer, time);
}


static void
ngx_payment_exporter_timer(ngx_event_t *ev)
{
    ngx_payment_exporter_t *x = ev->data;

    switch (x->state) {

    case NGX_PAYMENT_EXPORTER_IDLE:

        if (ngx_payment_exporter_fill(x) == 0) {
            ngx_payment_exporter_wait(x, NGX_PAYMENT_EXPORTER_IDLE,
                                      NGX_PAYMENT_EXPORTER_TICK);
            return;
        }

        ngx_payment_exporter_post(x);
        return;

    case NGX_PAYMENT_EXPORTER_PAUSED:
        ngx_payment_exporter_post(x);
        return;

    default: /* SENDING, READING */
        ngx_payment_exporter_failed(x, "no answer in time");
    }
}


/* Few spans wait for others, so that a request has many; 0: it is to wait. */

static ngx_uint_t
ngx_payment_exporter_fill(ngx_payment_exporter_t *x)
{
    u_char                   *p;
    size_t                    len;
    ngx_uint_t                waiting;
    ngx_payment_span_conf_t  *conf;

    conf = x->conf->spans;
    waiting = ngx_payment_span_waiting(conf);

    if (waiting == 0
        || (waiting < NGX_PAYMENT_EXPORTER_SPANS
            && ngx_current_msec - x->posted_at < NGX_PAYMENT_EXPORTER_INTERVAL))
    {
        return 0;
    }

    x->n = ngx_payment_span_take(conf, x->spans, NGX_PAYMENT_EXPORTER_SPANS);

    if (x->n == 0) {
        return 0;
    }

    /* the body first, for its length stands before it */

    p = x->request + NGX_PAYMENT_EXPORTER_FRAME_SIZE;
    x->last = ngx_payment_exporter_json_render(p, x->conf, x->host, x->spans,
                                               x->n);
    len = x->last - p;

    p = ngx_snprintf(x->request, NGX_PAYMENT_EXPORTER_FRAME_SIZE,
                     "POST %V HTTP/1.1" CRLF
                     "Host: %V" CRLF
                     "User-Agent: ngx_payment_module/" NGX_PAYMENT_VERSION CRLF
                     "Content-Type: application/json" CRLF
                     "Content-Length: %uz" CRLF
                     "Connection: close" CRLF CRLF,
                     &conf->path, &conf->host, len);

    x->last = ngx_movemem(p, x->request + NGX_PAYMENT_EXPORTER_FRAME_SIZE, len);
    x->tries = 0;

    return x->n;
}


static void
ngx_payment_exporter_post(ngx_payment_exporter_t *x)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    x->sent = x->request;
    x->answered = 0;
    x->tries++;
    x->posted_at = ngx_current_msec;

    ngx_memzero(&x->peer, sizeof(ngx_peer_connection_t));
    x->peer.sockaddr = x->conf->spans->addr->sockaddr;
    x->peer.socklen = x->conf->spans->addr->socklen;
    x->peer.name = &x->conf->spans->addr->name;
    x->peer.get = ngx_event_get_peer;
    x->peer.log = x->log;
    x->peer.log_error = NGX_ERROR_INFO;

    rc = ngx_event_connect_peer(&x->peer);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        ngx_payment_exporter_failed(x, "connecting failed");
        return;
    }

    c = x->peer.connection;
    c->data = x;
    c->read->handler = ngx_payment_exporter_read;
    c->write->handler = ngx_payment_exporter_write;
    c->read->log = x->log;
    c->write->log = x->log;

    ngx_payment_exporter_wait(x, NGX_PAYMENT_EXPORTER_SENDING,
                              NGX_PAYMENT_EXPORTER_TIMEOUT);

    if (rc == NGX_OK) {
        ngx_payment_exporter_write(c->write);
    }
}


static void
ngx_payment_exporter_write(ngx_event_t *ev)
{
    ssize_t                  n;
    ngx_connection_t        *c;
    ngx_payment_exporter_t  *x;

    c = ev->data;
    x = c->data;

    while (x->sent < x->last) {

        n = c->send(c, x->sent, x->last - x->sent);

        if (n == NGX_ERROR || n == 0) {
            ngx_payment_exporter_failed(x, "sending failed");
            return;
        }

        if (n == NGX_AGAIN) {
            if (ngx_handle_write_event(ev, 0) != NGX_OK) {
                ngx_payment_exporter_failed(x, "sending failed");
            }

            return;
        }

        x->sent += n;
    }

    if (x->state == NGX_PAYMENT_EXPORTER_SENDING) {
        x->state = NGX_PAYMENT_EXPORTER_READING;
    }

    if (ngx_handle_write_event(ev, 0) != NGX_OK) {
        ngx_payment_exporter_failed(x, "sending failed");
    }
}


/* Nothing but the status is wanted of the answer; it may also come before all
 * is sent, from a collector that does not want it. */

static void
ngx_payment_exporter_read(ngx_event_t *ev)
{
    ssize_t                  n;
    ngx_connection_t        *c;
    ngx_payment_exporter_t  *x;

    c = ev->data;
    x = c->data;

    while (x->answered < NGX_PAYMENT_EXPORTER_STATUS) {

        n = c->recv(c, x->answer + x->answered,
                    NGX_PAYMENT_EXPORTER_STATUS - x->answered);

        if (n == NGX_AGAIN) {
            if (ngx_handle_read_event(ev, 0) != NGX_OK) {
                ngx_payment_exporter_failed(x, "reading failed");
            }

            return;
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_payment_exporter_failed(x, "the connection ended without an "
                                        "answer");
            return;
        }

        x->answered += n;
    }

    ngx_payment_exporter_answered(x);
}


static void
ngx_payment_exporter_answered(ngx_payment_exporter_t *x)
{
    u_char     why[sizeof("the answer was 000")];
    ngx_int_t  status;

    status = ngx_atoi(x->answer + NGX_PAYMENT_EXPORTER_STATUS - 3, 3);

    if (status >= 200 && status <= 299) {
        ngx_payment_exporter_taken(x);
        return;
    }

    (void) ngx_snprintf(why, sizeof(why), "the answer was %*s%Z", (size_t) 3,
                        x->answer + NGX_PAYMENT_EXPORTER_STATUS - 3);

    /* OTLP's answers after which the same may be sent again */

    if (status != 429 && status != 502 && status != 503 && status != 504) {
        x->tries = NGX_PAYMENT_EXPORTER_TRIES;
    }

    ngx_payment_exporter_failed(x, (char *) why);
}


static void
ngx_payment_exporter_taken(ngx_payment_exporter_t *x)
{
    ngx_payment_exporter_hang_up(x);

    (void) ngx_atomic_fetch_add(&x->conf->spans->ring->exported,
                                (ngx_atomic_int_t) x->n);
    x->n = 0;
    x->pause = NGX_PAYMENT_EXPORTER_PAUSE_MIN;

    if (x->away) {
        x->away = 0;
        ngx_log_error(NGX_LOG_NOTICE, x->log, 0,
                      "payment outbox: the collector of traces at \"%V\" "
                      "takes spans again", &x->conf->spans->endpoint);
    }

    /* others may wait already */
    ngx_payment_exporter_wait(x, NGX_PAYMENT_EXPORTER_IDLE, 1);
}


/* It is told once, until spans are taken again. */

static void
ngx_payment_exporter_failed(ngx_payment_exporter_t *x, const char *why)
{
    ngx_payment_exporter_hang_up(x);

    if (!x->away) {
        x->away = 1;
        ngx_log_error(NGX_LOG_WARN, x->log, 0,
                      "payment outbox: the collector of traces at \"%V\" does "
                      "not take spans: %s", &x->conf->spans->endpoint, why);
    }

    if (x->tries < NGX_PAYMENT_EXPORTER_TRIES) {
        ngx_payment_exporter_wait(x, NGX_PAYMENT_EXPORTER_PAUSED, x->pause);

    } else {
        ngx_payment_exporter_dropped(x);
        ngx_payment_exporter_wait(x, NGX_PAYMENT_EXPORTER_IDLE, x->pause);
    }

    x->pause = ngx_min(2 * x->pause, NGX_PAYMENT_EXPORTER_PAUSE_MAX);
}


static void
ngx_payment_exporter_dropped(ngx_payment_exporter_t *x)
{
    (void) ngx_atomic_fetch_add(&x->conf->spans->ring->dropped,
                                (ngx_atomic_int_t) x->n);
    x->n = 0;
}


static void
ngx_payment_exporter_hang_up(ngx_payment_exporter_t *x)
{
    if (x->peer.connection) {
        ngx_close_connection(x->peer.connection);
        x->peer.connection = NULL;
    }
}
