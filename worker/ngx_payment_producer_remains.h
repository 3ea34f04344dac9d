/*
 * What is left of producers that have ended.  librdkafka's destructor may
 * block, for as long as a broker is connected to, so a thread calls it, one for
 * each producer.
 *
 * Owner: the helper process.
 * Limits: as many threads as producers end; whoever starts another one asks
 * before whether there are NGX_PAYMENT_PRODUCER_REMAINS_MAX.
 */

#ifndef NGX_PAYMENT_PRODUCER_REMAINS_H
#define NGX_PAYMENT_PRODUCER_REMAINS_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_producer_copies.h"

#include <librdkafka/rdkafka.h>


#define NGX_PAYMENT_PRODUCER_REMAINS_MAX  4


/* Takes both, and destroys them sooner or later.  copies: who asks this
 * producer about its topics; NULL: nobody does. */
void ngx_payment_producer_remains_add(rd_kafka_t *rk,
    ngx_payment_producer_copies_t *copies, ngx_log_t *log);

/* How many are left. */
ngx_uint_t ngx_payment_producer_remains(void);

/* Waits until none is, for so many ms at most; returns how many are. */
ngx_uint_t ngx_payment_producer_remains_wait(ngx_msec_t timeout);

#endif /* NGX_PAYMENT_PRODUCER_REMAINS_H */
