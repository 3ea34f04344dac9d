/* What the user of a database must be allowed: see ngx_payment_rights.h. */

#include "ngx_payment_rights.h"

#include <mysqld_error.h>


typedef struct {
    ngx_uint_t   what;
    const char  *sql;
} ngx_payment_right_t;


/* In the order of conf/grants.sql.  One right a statement, where SELECT comes
 * first: so the server's message names what is missing. */

static const ngx_payment_right_t  ngx_payment_rights[] = {

    { NGX_PAYMENT_RIGHTS_CLAIM,
      "INSERT INTO payment_identity (shard) VALUES ('')" },

    { NGX_PAYMENT_RIGHTS_TAKE,
      "SELECT 1 FROM payment_barrier, payment, idempotency_key" },

    { NGX_PAYMENT_RIGHTS_TAKE,
      "INSERT INTO payment_barrier (id, turns) SELECT 1, 1 FROM DUAL"
      " ON DUPLICATE KEY UPDATE turns = payment_barrier.turns + 1" },

    { NGX_PAYMENT_RIGHTS_TAKE|NGX_PAYMENT_RIGHTS_OPERATIONS,
      "SELECT 1 FROM payment_operation" },

    { NGX_PAYMENT_RIGHTS_PUBLISH,
      "SELECT 1 FROM outbox_event, outbox_dead, outbox_lease" },

    { NGX_PAYMENT_RIGHTS_PUBLISH,
      "DELETE FROM outbox_event WHERE id = 0" },

    { NGX_PAYMENT_RIGHTS_PUBLISH,
      "INSERT INTO outbox_dead (id) VALUES (0)" },

    { NGX_PAYMENT_RIGHTS_PUBLISH,
      "DELETE FROM outbox_dead WHERE id = 0" },

    { NGX_PAYMENT_RIGHTS_PUBLISH,
      "INSERT INTO outbox_lease (name) VALUES ('')" },

    { NGX_PAYMENT_RIGHTS_PUBLISH,
      "UPDATE outbox_lease SET epoch = 0 WHERE name = ''" },

    { NGX_PAYMENT_RIGHTS_PUBLISH,
      "DELETE FROM outbox_lease WHERE name = ''" },

    { NGX_PAYMENT_RIGHTS_PUBLISH|NGX_PAYMENT_RIGHTS_PURGE,
      "DELETE FROM idempotency_key WHERE key_hash = ''" },

    { NGX_PAYMENT_RIGHTS_PUBLISH|NGX_PAYMENT_RIGHTS_EXPIRY,
      "SELECT 1 FROM payment_expiry" },

    { NGX_PAYMENT_RIGHTS_PUBLISH|NGX_PAYMENT_RIGHTS_EXPIRY,
      "DELETE FROM payment_expiry WHERE payment_id = ''" },

    { NGX_PAYMENT_RIGHTS_PUBLISH|NGX_PAYMENT_RIGHTS_ARCHIVE,
      "INSERT INTO outbox_archive (id) VALUES (0)" }
};


ngx_uint_t
ngx_payment_rights_of(const ngx_payment_shard_t *shard)
{
    return (shard->operations ? NGX_PAYMENT_RIGHTS_OPERATIONS : 0)
           | (shard->expiry ? NGX_PAYMENT_RIGHTS_EXPIRY : 0)
           | (shard->archive ? NGX_PAYMENT_RIGHTS_ARCHIVE : 0);
}


const char *
ngx_payment_rights_next(ngx_uint_t what, ngx_uint_t *i)
{
    const ngx_payment_right_t  *right;

    while (*i < sizeof(ngx_payment_rights) / sizeof(ngx_payment_right_t)) {

        right = &ngx_payment_rights[(*i)++];

        if ((right->what & ~what) == 0) {
            return right->sql;
        }
    }

    return NULL;
}


ngx_uint_t
ngx_payment_rights_denied(ngx_uint_t error)
{
    return error == ER_TABLEACCESS_DENIED_ERROR         /* 1142 */
           || error == ER_COLUMNACCESS_DENIED_ERROR     /* 1143 */
           || error == ER_PROCACCESS_DENIED_ERROR;      /* 1370 */
}


const char *
ngx_payment_rights_advice(ngx_uint_t error)
{
    return ngx_payment_rights_denied(error)
           ? "; the user lacks rights of conf/grants.sql" : "";
}
