/*
 * Connections that were given up while their server may still be at work.
 *
 * A COMMIT that hangs (the disk stalls, a replica does not confirm) keeps a
 * thread of the server for as long as it hangs, whatever becomes of the client.
 * A client that gave up and connected again, each time, would fill
 * max_connections for everybody.  So the socket is kept until the server says
 * something or closes it, and while there are as many of them as there may be,
 * none is opened.
 *
 * Owner: a process, for each server of each shard.  Limits:
 * ngx_payment_parked_max(), and five minutes, for something in between that
 * keeps a connection open for ever; that the network is gone is found out by
 * the kernel within 40 s.
 */

#ifndef NGX_PAYMENT_PARKED_H
#define NGX_PAYMENT_PARKED_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_payment_shard.h"


/* At how many parked connections no other one is opened. */
ngx_uint_t ngx_payment_parked_max(const ngx_payment_shard_t *shard);

/*
 * Takes the socket of a connection away from the client library, which has a
 * socket that is closed at its other end under the same number then, so that
 * the call it is in fails.  NGX_OK: the event loop does not watch c any more.
 * NGX_DECLINED: everything is as it was.
 */
ngx_int_t ngx_payment_parked_take(ngx_payment_server_t *server,
    ngx_connection_t *c);

#endif /* NGX_PAYMENT_PARKED_H */
