/*
 * The module's place in the life of nginx's cycles and processes.
 *
 * The writers run in the workers, the outbox in the helper process, which the
 * master starts because our payment_outbox_path has a manager; with
 * master_process off both run in the single process.
 */

#ifndef NGX_HTTP_PAYMENT_CYCLE_H
#define NGX_HTTP_PAYMENT_CYCLE_H

#include <ngx_config.h>
#include <ngx_core.h>


/* What all processes share, anew or as the cycle before has left it. */
ngx_int_t ngx_http_payment_cycle_init_zone(ngx_shm_zone_t *zone, void *data);

/* Of ngx_module_t. */
ngx_int_t ngx_http_payment_cycle_init_module(ngx_cycle_t *cycle);
ngx_int_t ngx_http_payment_cycle_init_process(ngx_cycle_t *cycle);
void ngx_http_payment_cycle_exit_process(ngx_cycle_t *cycle);

#endif /* NGX_HTTP_PAYMENT_CYCLE_H */
