/*
 * What an operator asks of the helper, through one word of shared memory.
 *
 * Whoever asks puts a packed command into stats->helper.command, with
 * ngx_atomic_cmp_set() from 0: if that fails another one is under way.  Then
 * it may ring the doorbell; without, the helper sees it within the poll
 * interval.  The helper carries it out, says how it went in command_result,
 * and sets command to 0.  A helper that dies leaves the command to the next;
 * who doesn't want to wait any longer may take it back, again by cmp_set, but
 * not a command that has BEGUN: what becomes of that one is to be waited for.
 *
 * A pause is no command but the plain flag stats->helper.paused, which outlives
 * helpers.
 */

#ifndef NGX_PAYMENT_COMMAND_H
#define NGX_PAYMENT_COMMAND_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_stats.h"


typedef enum {
    NGX_PAYMENT_COMMAND_NONE = 0,
    NGX_PAYMENT_COMMAND_BREAKER_OPEN,     /* FORCED_OPEN */
    NGX_PAYMENT_COMMAND_BREAKER_CLOSE,
    NGX_PAYMENT_COMMAND_BREAKER_RESET,
    NGX_PAYMENT_COMMAND_BREAKER_DISABLE,
    NGX_PAYMENT_COMMAND_REPLAY            /* a dead letter, and its payment's */
} ngx_payment_command_e;


typedef enum {
    NGX_PAYMENT_COMMAND_DONE = 1,
    NGX_PAYMENT_COMMAND_UNKNOWN,
    NGX_PAYMENT_COMMAND_NOT_HERE,         /* another node has the lease */
    NGX_PAYMENT_COMMAND_NOT_FOUND,        /* no such dead letter */
    NGX_PAYMENT_COMMAND_FAILED            /* the database: see the log */
} ngx_payment_command_status_e;


/* the shard's index, and the dead letter's id below 2^48; 0 without */

#define ngx_payment_command(op, shard, id)                                    \
    ((ngx_atomic_uint_t) (op) | (ngx_atomic_uint_t) (shard) << 8              \
     | (ngx_atomic_uint_t) (id) << 16)

#define ngx_payment_command_op(command)      ((command) & 0x7f)
#define ngx_payment_command_shard(command)   (((command) >> 8) & 0xff)
#define ngx_payment_command_id(command)      ((command) >> 16)

/* begun, and so it can't be taken back any more */
#define NGX_PAYMENT_COMMAND_BEGUN            0x80

/* a result: how many were carried out, the last one's op, and how it went */

#define ngx_payment_command_result(count, op, status)                         \
    ((ngx_atomic_uint_t) (count) << 16 | (ngx_atomic_uint_t) (op) << 8        \
     | (ngx_atomic_uint_t) (status))

#define ngx_payment_result_status(result)    ((result) & 0xff)
#define ngx_payment_result_count(result)     ((result) >> 16)


/* the helper's side of the word */

typedef struct {
    ngx_payment_helper_stats_t  *stats;
    ngx_atomic_uint_t            word;    /* the command under way; 0: none */
} ngx_payment_command_t;


/* The next command, which is under way from now on; 0: there is none, or one
 * is under way. */
ngx_atomic_uint_t ngx_payment_command_take(ngx_payment_command_t *c);

/* Has whoever asked for the command under way taken it back?  Then it can be
 * dropped: others are not to wait for it. */
ngx_uint_t ngx_payment_command_taken_back(const ngx_payment_command_t *c);
void ngx_payment_command_drop(ngx_payment_command_t *c);

/* The command under way begins; 0: it was taken back, and is not to be done. */
ngx_uint_t ngx_payment_command_begin(ngx_payment_command_t *c);
void ngx_payment_command_done(ngx_payment_command_t *c, ngx_uint_t status);

#endif /* NGX_PAYMENT_COMMAND_H */
