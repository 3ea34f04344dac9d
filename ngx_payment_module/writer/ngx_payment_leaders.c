/* The operations that lead, by their keys: see ngx_payment_leaders.h. */

#include "ngx_payment_assert.h"
#include "ngx_payment_leaders.h"


/* 512 KiB of chains for a shard, whatever the queue's size */
#define NGX_PAYMENT_LEADERS_MAX  65536


static ngx_payment_op_t **ngx_payment_leaders_chain(
    ngx_payment_leaders_t *leaders, const uint8_t *key_hash);


ngx_int_t
ngx_payment_leaders_init(ngx_payment_leaders_t *leaders,
    ngx_uint_t queue_size, ngx_pool_t *pool)
{
    ngx_uint_t  n;

    for (n = 1; n < queue_size && n < NGX_PAYMENT_LEADERS_MAX; n *= 2) {
        /* void */
    }

    leaders->mask = n - 1;
    leaders->chains = ngx_pcalloc(pool, n * sizeof(ngx_payment_op_t *));

    return leaders->chains ? NGX_OK : NGX_ERROR;
}


/* A key's hash is as good as random in all of its bytes. */

static ngx_payment_op_t **
ngx_payment_leaders_chain(ngx_payment_leaders_t *leaders,
    const uint8_t *key_hash)
{
    uint32_t  n;

    ngx_memcpy(&n, key_hash, sizeof(uint32_t));

    return &leaders->chains[n & leaders->mask];
}


ngx_payment_op_t *
ngx_payment_leaders_find(ngx_payment_leaders_t *leaders,
    const uint8_t *key_hash)
{
    ngx_payment_op_t  *op;

    op = *ngx_payment_leaders_chain(leaders, key_hash);

    while (op && ngx_memcmp(op->request.key_hash, key_hash,
                            PAYMENT_KEY_HASH_SIZE) != 0)
    {
        op = op->next_leader;
    }

    return op;
}


void
ngx_payment_leaders_add(ngx_payment_leaders_t *leaders, ngx_payment_op_t *op)
{
    ngx_payment_op_t  **chain;

    ngx_payment_assert(!op->leads && op->leader == NULL);

    chain = ngx_payment_leaders_chain(leaders, op->request.key_hash);

    op->next_leader = *chain;
    op->leads = 1;
    *chain = op;
}


void
ngx_payment_leaders_remove(ngx_payment_leaders_t *leaders,
    ngx_payment_op_t *op)
{
    ngx_payment_op_t  **link;

    ngx_payment_assert(op->leads);

    link = ngx_payment_leaders_chain(leaders, op->request.key_hash);

    while (*link != op) {
        link = &(*link)->next_leader;
    }

    *link = op->next_leader;
    op->leads = 0;
}
