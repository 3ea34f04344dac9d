/*
 * What the database has of a batch: the SQL that looks for its payments and
 * keys, the barrier that makes what is found durable, and what the rows say.
 *
 * Nothing here starts an exchange: a statement is filled in, and the result of
 * one is read.
 */

#ifndef NGX_PAYMENT_LOOK_H
#define NGX_PAYMENT_LOOK_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_batch.h"
#include "ngx_payment_db.h"
#include "ngx_payment_seen.h"
#include "ngx_payment_shard.h"


/* columns behind those of a payment, which ngx_payment_look_row() reads: the
 * metadata, and then the key of a look-up; or the place in the batch of the
 * operation that lists it; and where authorizations may expire,
 * the first of the two about that, of payments, look-ups and keys */
#define NGX_PAYMENT_LOOK_METADATA         10
#define NGX_PAYMENT_LOOK_PLACE            10
#define NGX_PAYMENT_LOOK_KEY              11
#define NGX_PAYMENT_LOOK_EXPIRES          11
#define NGX_PAYMENT_LOOK_LOOKUPS_EXPIRES  17
#define NGX_PAYMENT_LOOK_KEYS_EXPIRES     10


/* what a list in SQL is of */

typedef enum {
    NGX_PAYMENT_LOOK_PAYMENTS = 0,  /* ids, of changes and reads */
    NGX_PAYMENT_LOOK_KEYS,          /* key hashes, of all operations */
    NGX_PAYMENT_LOOK_LOOKUPS        /* those that a client looks up */
} ngx_payment_look_list_e;


/* the payments that were read, in order of their ids */

typedef struct {
    payment_t   *payments;
    uint32_t    *versions;          /* of each, before any change */
    ngx_uint_t   n;
} ngx_payment_loaded_t;


/*
 * The beginnings of looks: a list follows, and then what the caller wants.
 *
 *   payments         the payments with these ids
 *   payments_first   the same, and the metadata of their authorizations
 *   keys             what ngx_payment_look_found() reads
 *   repeats          the same; a mark is where the ends of ids are written
 *   lookups          of each key its payment, and what its operation came to
 *   lookups_first    the same, and the metadata of the authorizations
 *
 * And of lists, formats that want the operation's place in the batch:
 *
 *   listed           the columns of a payment
 *   listed_end       as many: an id, of some, and NULLs
 */
typedef struct {
    const char  *payments;
    const char  *payments_first;
    const char  *keys;
    const char  *repeats;
    const char  *lookups;
    const char  *lookups_first;
    const char  *listed;
    const char  *listed_end;
} ngx_payment_look_texts_t;


/* Where authorizations may expire, the texts ask for that, too. */
const ngx_payment_look_texts_t *ngx_payment_look_texts(
    const ngx_payment_shard_t *shard);


/* SQL with a list of hex literals, so that no byte of a client's can be SQL;
 * NGX_ERROR: no memory. */
ngx_int_t ngx_payment_look_sql(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_str_t *sql, const char *head, const char *tail,
    ngx_payment_look_list_e list);

/* The look at all keys of a batch, most of which are there.  Of a few of them
 * the worker says how the ids of their payments end, for a server that has to
 * find that out itself takes half as long again. */
ngx_int_t ngx_payment_look_repeats(const ngx_payment_batch_t *b,
    const ngx_payment_shard_t *shard, ngx_pool_t *pool, ngx_str_t *sql);

/* What makes the next COMMIT reach the disk: one row of payment_barrier is
 * changed, the same for all looks of a batch, so that no two transactions wait
 * for each other.  With if_found, it does nothing if the statement before it
 * found no row.  NGX_ERROR: no memory. */
ngx_int_t ngx_payment_look_barrier(const ngx_payment_batch_t *b,
    ngx_pool_t *pool, ngx_payment_db_stmt_t *s, ngx_uint_t if_found);

/* A look, and what makes the COMMIT that follows confirm what it finds.
 * Returns how many statements the exchange has then; 0: no memory. */
ngx_uint_t ngx_payment_look_add(const ngx_payment_batch_t *b, ngx_pool_t *pool,
    ngx_payment_db_stmt_t *stmts, ngx_uint_t n, const char *head,
    const char *tail, ngx_payment_look_list_e list);

/* Reads payments that were looked for ORDER BY id; NGX_ERROR: no memory. */
ngx_int_t ngx_payment_look_load(ngx_payment_loaded_t *loaded, ngx_pool_t *pool,
    MYSQL_RES *res);
void ngx_payment_look_row(payment_t *p, MYSQL_ROW row,
    const unsigned long *lens);

/* at: the first of the two columns, if the look has asked for them */
void ngx_payment_look_expiry(payment_t *p, MYSQL_RES *res, MYSQL_ROW row,
    ngx_uint_t at);

/* What the key of an operation keeps of it, but for which one it was: the four
 * columns.  NULLs are an authorization's, which has always the same. */
void ngx_payment_look_kept(payment_kept_t *kept, MYSQL_ROW columns);

/* NULL: it was not read */
payment_t *ngx_payment_look_locate(const ngx_payment_loaded_t *loaded,
    const uint8_t *id);

/* The same for a request: to a merchant, another merchant's payment is not
 * there. */
payment_t *ngx_payment_look_payment(const ngx_payment_loaded_t *loaded,
    const payment_request_t *r);

/* Operations whose keys are in the database have an outcome now.  by: see
 * ngx_payment_seen_by().  Returns how many have. */
ngx_uint_t ngx_payment_look_found(ngx_payment_batch_t *b, uint64_t by,
    MYSQL_RES *res);

#endif /* NGX_PAYMENT_LOOK_H */
