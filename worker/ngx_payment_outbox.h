/*
 * The outbox: what runs in the helper process.  It takes the lease of each
 * shard, reads committed events, publishes them to Kafka, and deletes what was
 * acknowledged.
 *
 * It is a guest on nginx's event loop with two hosts: the helper process,
 * which the master starts through the path manager, and the single process
 * when master_process is off.
 */

#ifndef NGX_PAYMENT_OUTBOX_H
#define NGX_PAYMENT_OUTBOX_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_outbox_conf.h"


/* The path manager's function: the helper process's first step and, then, its
 * pulse.  data is the configuration. */
ngx_msec_t ngx_payment_outbox_manager(void *data);

/* In the single process (master_process off). */
ngx_int_t ngx_payment_outbox_start(ngx_payment_outbox_conf_t *conf,
    ngx_cycle_t *cycle);
void ngx_payment_outbox_drain(ngx_payment_outbox_conf_t *conf,
    ngx_cycle_t *cycle);

#endif /* NGX_PAYMENT_OUTBOX_H */
