/*
 * A thread beside the event loop, for what may block.  It has no signals: they
 * are the event loop's.
 */

#ifndef NGX_PAYMENT_THREAD_H
#define NGX_PAYMENT_THREAD_H

#include <ngx_config.h>
#include <ngx_core.h>

#include <pthread.h>


/* detached: PTHREAD_CREATE_DETACHED, or _JOINABLE.  Returns 0 or an error
 * number. */
int ngx_payment_thread_create(pthread_t *tid, void *(*start)(void *),
    void *data, int detached);

#endif /* NGX_PAYMENT_THREAD_H */
