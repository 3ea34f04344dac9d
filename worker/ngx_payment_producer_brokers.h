/*
 * What librdkafka's statistics say of Kafka's brokers: whether one is reached,
 * and how long they take to answer.
 *
 * Owner: the helper.  The brokers are in its life, in shared memory, where
 * status and metrics read them.
 *
 * Limits: NGX_PAYMENT_BROKERS_MAX brokers, those that were met first.  The
 * statistics come each statistics.interval.ms, which is 5 s unless somebody has
 * set it; of their text only the brokers' part is read.
 */

#ifndef NGX_PAYMENT_PRODUCER_BROKERS_H
#define NGX_PAYMENT_PRODUCER_BROKERS_H

#include "ngx_payment_stats.h"


/* Reads the text of one interval; 1: a broker is reached. */
ngx_uint_t ngx_payment_producer_brokers_read(ngx_payment_broker_t *brokers,
    const char *text);

/* Nobody measures any more, so that nothing recent is known. */
void ngx_payment_producer_brokers_quiet(ngx_payment_broker_t *brokers);

#endif /* NGX_PAYMENT_PRODUCER_BROKERS_H */
