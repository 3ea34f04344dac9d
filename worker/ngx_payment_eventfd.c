/* Watching an eventfd: see ngx_payment_eventfd.h. */

#include "ngx_payment_eventfd.h"


ngx_connection_t *
ngx_payment_eventfd_watch(ngx_fd_t fd, ngx_event_handler_pt handler,
    void *data, ngx_log_t *log)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(fd, log);
    if (c == NULL) {
        return NULL;
    }

    c->data = data;
    c->read->handler = handler;
    c->read->log = log;
    c->write->log = log;
    c->idle = 0;

    if (ngx_add_event(c->read, NGX_READ_EVENT,
                      (ngx_event_flags & NGX_USE_CLEAR_EVENT)
                      ? NGX_CLEAR_EVENT : NGX_LEVEL_EVENT)
        != NGX_OK)
    {
        ngx_free_connection(c);
        return NULL;
    }

    return c;
}


void *
ngx_payment_eventfd_read(ngx_event_t *ev)
{
    uint64_t           n;
    ngx_connection_t  *c;

    c = ev->data;

    /* One read empties an eventfd, also when its event is edge-triggered. */

    if (read(c->fd, &n, sizeof(uint64_t)) == -1 && ngx_errno != NGX_EAGAIN) {
        ngx_log_error(NGX_LOG_ALERT, ev->log, ngx_errno,
                      "payment outbox: read() of an eventfd failed");
    }

    return c->data;
}
