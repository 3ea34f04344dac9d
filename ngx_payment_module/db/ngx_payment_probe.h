/*
 * Finds the server that has a shard's payments, before a payment does: looks at
 * the topology of each of its servers, once a second, and tells all processes
 * of this nginx by shared memory (ngx_payment_common.h).
 *
 * The highest epoch decides that most of the shard's servers show; with two
 * servers, one that answers is enough.  While no server claims anything, the
 * probe decides nothing.
 *
 * Owner: one worker, for each shard that has several servers.  Limits: one
 * connection a server, and one look at a time there, in a thread; a server that
 * is silent is waited for as long as for a connection (connect_timeout), and
 * holds no other look up.
 */

#ifndef NGX_PAYMENT_PROBE_H
#define NGX_PAYMENT_PROBE_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_shard.h"


typedef struct ngx_payment_probe_s  ngx_payment_probe_t;


/* Begins to look.  NULL: no memory. */
ngx_payment_probe_t *ngx_payment_probe_create(ngx_cycle_t *cycle,
    ngx_payment_shard_t *shard);

void ngx_payment_probe_close(ngx_payment_probe_t *p);

#endif /* NGX_PAYMENT_PROBE_H */
