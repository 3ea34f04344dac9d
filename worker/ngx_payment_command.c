/*
 * The helper's side of the word of shared memory; see ngx_payment_command.h.
 */

#include "ngx_payment_command.h"


ngx_atomic_uint_t
ngx_payment_command_take(ngx_payment_command_t *c)
{
    if (c->word) {
        return 0;
    }

    c->word = c->stats->command;

    return c->word;
}


ngx_uint_t
ngx_payment_command_taken_back(const ngx_payment_command_t *c)
{
    return c->word != 0
           && c->word != c->stats->command
           && !(c->word & NGX_PAYMENT_COMMAND_BEGUN);
}


void
ngx_payment_command_drop(ngx_payment_command_t *c)
{
    c->word = 0;
}


ngx_uint_t
ngx_payment_command_begin(ngx_payment_command_t *c)
{
    ngx_atomic_uint_t  begun;

    begun = c->word | NGX_PAYMENT_COMMAND_BEGUN;

    if (c->word != begun
        && !ngx_atomic_cmp_set(&c->stats->command, c->word, begun))
    {
        c->word = 0;
        return 0;
    }

    c->word = begun;

    return 1;
}


void
ngx_payment_command_done(ngx_payment_command_t *c, ngx_uint_t status)
{
    ngx_uint_t  count;

    count = ngx_payment_result_count(c->stats->command_result) + 1;

    c->stats->command_result = ngx_payment_command_result(count,
                                            ngx_payment_command_op(c->word),
                                            status);
    ngx_memory_barrier();

    /* whoever asked may have taken it back, and another asked since */

    (void) ngx_atomic_cmp_set(&c->stats->command, c->word,
                              NGX_PAYMENT_COMMAND_NONE);
    c->word = 0;
}
