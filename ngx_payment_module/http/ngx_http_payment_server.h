/*
 * The directive of payment_shard{} that says where its servers are:
 *
 *     server unix:path | host[:port] ...;
 *
 * Runs while the configuration is read, and touches no server: host names are
 * resolved by the threads that connect.
 *
 * Limits: NGX_PAYMENT_SERVERS_MAX servers of a shard.
 */

#ifndef NGX_HTTP_PAYMENT_SERVER_H
#define NGX_HTTP_PAYMENT_SERVER_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_shard.h"


/* For ngx_command_t: adds to the servers of an ngx_payment_shard_t. */
char *ngx_http_payment_server_conf(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* Do both have the same address, as far as the configuration says? */
ngx_uint_t ngx_http_payment_server_same(ngx_payment_server_t *one,
    ngx_payment_server_t *other);

#endif /* NGX_HTTP_PAYMENT_SERVER_H */
