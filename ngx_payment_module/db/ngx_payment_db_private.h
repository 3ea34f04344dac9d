/*
 * Between ngx_payment_db.c (exchanges, rest, end) and ngx_payment_attempt.c
 * (the way there); nobody else's business.
 */

#ifndef NGX_PAYMENT_DB_PRIVATE_H
#define NGX_PAYMENT_DB_PRIVATE_H

#include "ngx_payment_db.h"


/* the first pause between two rounds of attempts, and the age below which the
 * loss of a connection counts as a failed attempt */
#define NGX_PAYMENT_DB_BACKOFF_MIN      100         /* ms */


/* ngx_payment_attempt.c */

/* CLOSED -> CONNECTING, at once or after a pause */
void ngx_payment_db_connect(ngx_payment_db_t *db);
void ngx_payment_db_reconnect_later(ngx_payment_db_t *db);

/* CONNECTING: nobody waits for the attempt any more */
void ngx_payment_db_connect_abandon(ngx_payment_db_t *db);


/* ngx_payment_db.c */

/* makes the library's socket an nginx connection */
ngx_int_t ngx_payment_db_watch(ngx_payment_db_t *db);

/* what an IDLE connection does: go on, with a timer, or begin anew */
void ngx_payment_db_rest(ngx_payment_db_t *db);

/* -> CLOSED; abort ends the exchange under way, without its handler */
void ngx_payment_db_teardown(ngx_payment_db_t *db, ngx_uint_t abort);

#endif /* NGX_PAYMENT_DB_PRIVATE_H */
