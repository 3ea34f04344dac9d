/*
 * What a Kafka message says of its event beside the event itself: the headers,
 * and among them CloudEvents' attributes in binary mode.
 *
 * Owner: the helper process, or the single one.
 */

#ifndef NGX_PAYMENT_PRODUCER_MESSAGE_H
#define NGX_PAYMENT_PRODUCER_MESSAGE_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_outbox_conf.h"
#include "ngx_payment_row.h"

#include <librdkafka/rdkafka.h>


/* The caller has them.  span: the 16 digits of the span that publishes the
 * event, which is the parent of what consumers do then; NULL: there is none. */
rd_kafka_headers_t *ngx_payment_producer_message_headers(
    const ngx_payment_outbox_conf_t *conf, const ngx_payment_row_t *row,
    uint64_t epoch, const u_char *span);

#endif /* NGX_PAYMENT_PRODUCER_MESSAGE_H */
