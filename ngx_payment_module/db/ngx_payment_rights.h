/*
 * What the user of a database must be allowed: conf/grants.sql, as statements
 * that are prepared and never run.
 *
 * The workers' bulk statements are prepared at each connect, and the server
 * says then if a right for one of them is missing.  What is asked later, as
 * text, is here: else a payment would be taken whose repeat cannot be answered.
 *
 * Pure: texts out.  docs/operations.md says what is missing without a right.
 */

#ifndef NGX_PAYMENT_RIGHTS_H
#define NGX_PAYMENT_RIGHTS_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_shard.h"


/* what somebody does; several may be added up */
#define NGX_PAYMENT_RIGHTS_TAKE        0x01     /* payments: a worker */
#define NGX_PAYMENT_RIGHTS_CLAIM       0x02     /* a database: who is first */
#define NGX_PAYMENT_RIGHTS_PUBLISH     0x04     /* events: the helper */
#define NGX_PAYMENT_RIGHTS_OPERATIONS  0x08     /* payment_operations on */
#define NGX_PAYMENT_RIGHTS_EXPIRY      0x10     /* with a lifetime */
#define NGX_PAYMENT_RIGHTS_ARCHIVE     0x20     /* payment_outbox_archive on */
#define NGX_PAYMENT_RIGHTS_PURGE       0x40     /* with a retention */


/* What is done for this shard, besides the first three. */
ngx_uint_t ngx_payment_rights_of(const ngx_payment_shard_t *shard);

/* The next statement that shows a right for what is done, from *i on, which
 * begins with 0; NULL: there is no other. */
const char *ngx_payment_rights_next(ngx_uint_t what, ngx_uint_t *i);

/* Does a server's error say that a right is missing? */
ngx_uint_t ngx_payment_rights_denied(ngx_uint_t error);

/* What to do then, for the end of a line; "" if the error is another one. */
const char *ngx_payment_rights_advice(ngx_uint_t error);

#endif /* NGX_PAYMENT_RIGHTS_H */
