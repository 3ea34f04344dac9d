/*
 * What is left of producers that have ended; see
 * ngx_payment_producer_remains.h.
 */

#include "ngx_payment_producer_remains.h"
#include "ngx_payment_thread.h"

#include <time.h>


typedef struct {
    rd_kafka_t                     *rk;
    ngx_payment_producer_copies_t  *copies;
} ngx_payment_producer_remains_t;


static void *ngx_payment_producer_remains_thread(void *data);


static pthread_mutex_t  ngx_payment_producer_remains_mutex =
    PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t   ngx_payment_producer_remains_gone =
    PTHREAD_COND_INITIALIZER;
static ngx_uint_t       ngx_payment_producer_remains_n;     /* threads */


void
ngx_payment_producer_remains_add(rd_kafka_t *rk,
    ngx_payment_producer_copies_t *copies, ngx_log_t *log)
{
    int                              err;
    pthread_t                        tid;
    ngx_payment_producer_remains_t  *remains;

    err = NGX_ENOMEM;
    remains = ngx_alloc(sizeof(ngx_payment_producer_remains_t), log);

    (void) pthread_mutex_lock(&ngx_payment_producer_remains_mutex);

    if (remains) {
        remains->rk = rk;
        remains->copies = copies;

        err = ngx_payment_thread_create(&tid,
                                        ngx_payment_producer_remains_thread,
                                        remains, PTHREAD_CREATE_DETACHED);
    }

    if (err == 0) {
        ngx_payment_producer_remains_n++;
    }

    (void) pthread_mutex_unlock(&ngx_payment_producer_remains_mutex);

    if (err) {
        ngx_log_error(NGX_LOG_ALERT, log, err,
                      "payment outbox: pthread_create() failed, a Kafka "
                      "producer is left behind");
    }
}


ngx_uint_t
ngx_payment_producer_remains(void)
{
    ngx_uint_t  n;

    (void) pthread_mutex_lock(&ngx_payment_producer_remains_mutex);
    n = ngx_payment_producer_remains_n;
    (void) pthread_mutex_unlock(&ngx_payment_producer_remains_mutex);

    return n;
}


ngx_uint_t
ngx_payment_producer_remains_wait(ngx_msec_t timeout)
{
    ngx_uint_t       n;
    struct timespec  until;

    (void) clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout / 1000;
    until.tv_nsec += (timeout % 1000) * 1000000;

    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }

    (void) pthread_mutex_lock(&ngx_payment_producer_remains_mutex);

    while (ngx_payment_producer_remains_n) {
        if (pthread_cond_timedwait(&ngx_payment_producer_remains_gone,
                                   &ngx_payment_producer_remains_mutex, &until)
            != 0)
        {
            break;
        }
    }

    n = ngx_payment_producer_remains_n;

    (void) pthread_mutex_unlock(&ngx_payment_producer_remains_mutex);

    return n;
}


static void *
ngx_payment_producer_remains_thread(void *data)
{
    ngx_payment_producer_remains_t *remains = data;

    if (remains->copies) {
        ngx_payment_producer_copies_end(remains->copies);
    }

    rd_kafka_destroy(remains->rk);
    ngx_free(remains);

    (void) pthread_mutex_lock(&ngx_payment_producer_remains_mutex);
    ngx_payment_producer_remains_n--;
    (void) pthread_cond_broadcast(&ngx_payment_producer_remains_gone);
    (void) pthread_mutex_unlock(&ngx_payment_producer_remains_mutex);

    return NULL;
}
