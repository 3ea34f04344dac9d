/*
 * Whose database is this?  Its row in payment_identity says so, and is compared
 * with the configuration at each connect: a key that was used in the right
 * database is free in the wrong one, and would pay twice there.
 *
 * A database that is nobody's becomes the shard's by its first connection, if
 * nothing speaks against it: no shard of this nginx has had another database,
 * no other shard's database is somebody else's or was not looked at yet, and
 * its latest payments are of the shard's slots.  Who comes at the same time
 * meets the row of whoever was first.
 *
 * The installation's UUID and secret come from the database of the shard with
 * slot 0, where the first connection of all makes them.
 */

#ifndef NGX_PAYMENT_IDENTITY_H
#define NGX_PAYMENT_IDENTITY_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <mysql.h>

#include "ngx_payment_common.h"
#include "ngx_payment_shard.h"



/* What one attempt to connect expects, and finds. */

typedef struct {
    /* set by the event loop; texts live as long as the attempt */
    const char                *database;
    const char                *shard;
    const char                *slots;
    const char                *belongs_to;  /* empty: any installation */
    const char                *unclaimed;   /* why a database that is nobody's
                                               stays so; NULL: it may be ours */

    /* the installation, to be written or as it was found; an empty text if it
     * is to be made */
    char                       installation[NGX_PAYMENT_UUID_LEN + 1];
    u_char                     secret[NGX_PAYMENT_SECRET_LEN];

    unsigned                   nobodys:1;   /* found without a row */
    char                       reason[NGX_PAYMENT_SHARD_NAME_LEN + 128];
} ngx_payment_identity_t;


/* In the event loop, before the attempt: all but the texts that are copied. */
void ngx_payment_identity_expect(const ngx_payment_shard_t *shard,
    ngx_payment_identity_t *id);

/* In the attempt's thread: 0, or the library's error, or NGX_ERROR with a
 * sentence in message. */
ngx_int_t ngx_payment_identity_check(ngx_payment_identity_t *id, MYSQL *mysql,
    char *message, size_t len);

/* In the event loop, after the attempt: NGX_OK, and the shard knows the
 * installation's secret; or NGX_ERROR with a sentence in message. */
ngx_int_t ngx_payment_identity_found(ngx_payment_shard_t *shard,
    const ngx_payment_identity_t *id, char *message, size_t len);

/* The attempt found nobody's database, and left it so. */
void ngx_payment_identity_nobodys(ngx_payment_shard_t *shard);

#endif /* NGX_PAYMENT_IDENTITY_H */
