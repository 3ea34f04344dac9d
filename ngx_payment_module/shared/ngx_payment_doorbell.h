/*
 * The doorbell: an eventfd that wakes the helper.
 *
 * The master makes it with the configuration, so that all processes of a cycle
 * have it.  The helper arms it before it looks at the outbox for the last time
 * and goes to sleep; whoever has work for the helper then rings, and disarms
 * it, so that a busy helper costs nobody a system call.
 */

#ifndef NGX_PAYMENT_DOORBELL_H
#define NGX_PAYMENT_DOORBELL_H

#include <ngx_config.h>
#include <ngx_core.h>


/* Wakes the helper if it sleeps.  doorbell may be NGX_INVALID_FILE, where there
 * is no helper; armed is in shared memory: ngx_payment_stats_t's. */
void ngx_payment_doorbell_ring(ngx_fd_t doorbell, ngx_atomic_t *armed);

#endif /* NGX_PAYMENT_DOORBELL_H */
