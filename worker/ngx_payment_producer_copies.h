/*
 * Whether a topic is there, and how many copies of its events Kafka keeps.
 * What Kafka has acknowledged is deleted from the outbox; with fewer than two
 * brokers that must have it by then, or three that may, it can be lost together
 * with one of them.  That is the operator's choice, so it is said in the log,
 * and nothing else follows.
 *
 * Owner: the helper process.  The library's question for a topic's replicas
 * blocks, so that a thread asks it, and then asks for min.insync.replicas; the
 * answer to that is an event in the producer's queue.  Each question is given
 * up after NGX_PAYMENT_PRODUCER_COPIES_TIMEOUT.
 */

#ifndef NGX_PAYMENT_PRODUCER_COPIES_H
#define NGX_PAYMENT_PRODUCER_COPIES_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_producer_topic.h"

#include <pthread.h>
#include <librdkafka/rdkafka.h>


typedef struct {
    rd_kafka_t         *rk;
    rd_kafka_queue_t   *queue;
    pthread_t           tid;
    ngx_uint_t          n;              /* topics that were asked about */
    char              **names;
    ngx_uint_t         *replicas;       /* 0: not known */
    rd_kafka_resp_err_t  *errors;       /* what Kafka says of it instead */
} ngx_payment_producer_copies_t;


/* About all of these topics; NULL: out of memory.  The thread is the caller's
 * to start, with what is returned as its data. */
ngx_payment_producer_copies_t *ngx_payment_producer_copies_create(
    rd_kafka_t *rk, ngx_payment_producer_topic_t *topics, ngx_uint_t n,
    ngx_log_t *log);
void *ngx_payment_producer_copies_thread(void *data);

/* The answer, and a word about each topic that is not there, or of which there
 * are too few; topics begin with those that were asked about.  Returns how many
 * are known. */
ngx_uint_t ngx_payment_producer_copies_told(ngx_payment_producer_copies_t *c,
    rd_kafka_event_t *event, ngx_payment_producer_topic_t *topics,
    ngx_log_t *log);

/* Waits for the thread. */
void ngx_payment_producer_copies_end(ngx_payment_producer_copies_t *c);
void ngx_payment_producer_copies_free(ngx_payment_producer_copies_t *c);

#endif /* NGX_PAYMENT_PRODUCER_COPIES_H */
