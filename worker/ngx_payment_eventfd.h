/*
 * An eventfd that nginx's event loop watches: whoever writes to it, in another
 * process or in a thread, wakes the helper.
 *
 * Owner: the helper process, its main thread.
 */

#ifndef NGX_PAYMENT_EVENTFD_H
#define NGX_PAYMENT_EVENTFD_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


/* Watches fd, which stays the caller's.  The handler finds the connection in
 * ev->data and data in the connection's data, and reads the eventfd first.
 * NULL when there is no free connection; the log says so. */
ngx_connection_t *ngx_payment_eventfd_watch(ngx_fd_t fd,
    ngx_event_handler_pt handler, void *data, ngx_log_t *log);

/* Empties the eventfd, so that its next write is an event again, and returns
 * data.  Whatever the writes were about is to be looked at afterwards. */
void *ngx_payment_eventfd_read(ngx_event_t *ev);

#endif /* NGX_PAYMENT_EVENTFD_H */
