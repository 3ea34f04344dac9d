/*
 * What librdkafka is told: two profiles, the properties that are set by name,
 * and what of them makes no sense together.
 *
 * Owner: the process that reads the configuration, and the helper.
 */

#ifndef NGX_PAYMENT_PRODUCER_CONF_H
#define NGX_PAYMENT_PRODUCER_CONF_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_outbox_conf.h"

#include <librdkafka/rdkafka.h>


#define NGX_PAYMENT_PRODUCER_TOPIC_LEN  249   /* longest name of a topic */


/*
 * At configuration: asks librdkafka whether profile and properties fit
 * together, without touching a broker.  Returns NGX_CONF_OK or logs what is
 * wrong at emerg and returns NGX_CONF_ERROR.
 */
char *ngx_payment_producer_conf_check(ngx_conf_t *cf,
    ngx_payment_outbox_conf_t *conf);

/* From profile and properties; NULL, and why in text. */
rd_kafka_conf_t *ngx_payment_producer_conf_create(
    ngx_payment_outbox_conf_t *conf, u_char *text, size_t size);

/* The longest that an event may stay with the producer; leases allow for it. */
ngx_msec_t ngx_payment_producer_conf_timeout(ngx_payment_outbox_conf_t *conf);

/* The topic of a type of event, terminated; the length, or 0 if too long. */
size_t ngx_payment_producer_conf_topic(ngx_payment_outbox_conf_t *conf,
    ngx_str_t *type, u_char *name);

#endif /* NGX_PAYMENT_PRODUCER_CONF_H */
