/*
 * What may happen to thousands of requests at once is logged once a second,
 * with how many of its kind there were since: a storm is counted, not printed.
 * One that lasts is logged ever more rarely, once a minute in the end.  It is a
 * new one after a silence of twice its pause, and of half a minute at least:
 * what fails at each try is one storm, however long a client waits between two
 * (the producer does for up to 2.5 s, a shard's connections for longer).
 *
 * A part of whoever logs, in one process.  Limits: NGX_PAYMENT_STORM_KINDS
 * kinds at a time; of two that share a place each line begins a second anew.
 */

#ifndef NGX_PAYMENT_STORM_H
#define NGX_PAYMENT_STORM_H

#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_PAYMENT_STORM_KINDS     16
#define NGX_PAYMENT_STORM_PAUSE     1000        /* ms; it doubles, up to: */
#define NGX_PAYMENT_STORM_PAUSE_MAX 60000       /* ms */
#define NGX_PAYMENT_STORM_SILENCE   30000       /* ms, at least; see above */
#define NGX_PAYMENT_STORM_NOTE_LEN  64


typedef struct {
    ngx_uint_t    kind;         /* 0: none yet */
    ngx_msec_t    logged;       /* when; in ngx_current_msec */
    ngx_msec_t    last;         /* when there was one, logged or not */
    ngx_msec_t    pause;        /* until the next is logged */
    ngx_uint_t    more;         /* that were not logged since */
} ngx_payment_storm_kind_t;


typedef struct {
    ngx_payment_storm_kind_t  kinds[NGX_PAYMENT_STORM_KINDS];
    char                      note[NGX_PAYMENT_STORM_NOTE_LEN];
} ngx_payment_storm_t;


/* NULL: it is counted.  Else it is to be logged, with this text at its end. */
const char *ngx_payment_storm_note(ngx_payment_storm_t *storm,
    ngx_uint_t kind);

#endif /* NGX_PAYMENT_STORM_H */
