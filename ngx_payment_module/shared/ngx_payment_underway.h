/*
 * The idempotency keys of the operations that are under way in this nginx, in
 * whichever worker: from the moment an operation has its turn in a writer until
 * it has its outcome.  Who looks a key up in the database and does not find it
 * asks here whether it may still come.
 *
 * In shared memory, for all workers: a table of words, each of which is most of
 * a key's hash, and the process slot of the worker that has the operation.  A
 * word has the first free place from the one on that other bits of the hash
 * name.  Words are changed by compare-and-swap, without a lock.  Those of a
 * worker that was killed count for nothing.
 *
 * Limits: a key's place is less than NGX_PAYMENT_UNDERWAY_REACH away from the
 * one that its hash names.  Where all of these are taken the key is not known
 * here; that takes many more operations than the writers' queues can have.
 */

#ifndef NGX_PAYMENT_UNDERWAY_H
#define NGX_PAYMENT_UNDERWAY_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_stats.h"


#define NGX_PAYMENT_UNDERWAY_PLACES   (256 * 1024)
#define NGX_PAYMENT_UNDERWAY_REACH    64


typedef struct {
    ngx_atomic_t  words[NGX_PAYMENT_UNDERWAY_PLACES];     /* 0: free */
} ngx_payment_underway_t;


/* key_hash: at least 16 bytes, each as good as random; the operation is this
 * process's */
void ngx_payment_underway_add(ngx_payment_underway_t *underway,
    const uint8_t *key_hash);
void ngx_payment_underway_remove(ngx_payment_underway_t *underway,
    const uint8_t *key_hash);

/* 1: a worker that is alive has an operation with this key */
ngx_uint_t ngx_payment_underway_has(ngx_payment_underway_t *underway,
    const ngx_payment_stats_t *stats, const uint8_t *key_hash);

/* A worker begins: the words of the one that had its process slot before, and
 * was killed, are removed. */
void ngx_payment_underway_begin(ngx_payment_underway_t *underway);

#endif /* NGX_PAYMENT_UNDERWAY_H */
