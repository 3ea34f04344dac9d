/* A thread beside the event loop; see ngx_payment_thread.h. */

#include "ngx_payment_thread.h"

#include <signal.h>


#define NGX_PAYMENT_THREAD_STACK  (256 * 1024)   /* bytes */


int
ngx_payment_thread_create(pthread_t *tid, void *(*start)(void *), void *data,
    int detached)
{
    int             err;
    sigset_t        all, old;
    pthread_attr_t  attr;

    err = pthread_attr_init(&attr);
    if (err) {
        return err;
    }

    (void) pthread_attr_setstacksize(&attr, NGX_PAYMENT_THREAD_STACK);
    (void) pthread_attr_setdetachstate(&attr, detached);

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &old);

    err = pthread_create(tid, &attr, start, data);

    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void) pthread_attr_destroy(&attr);

    return err;
}
