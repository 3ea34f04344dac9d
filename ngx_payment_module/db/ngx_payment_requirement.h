/*
 * What a server must have, or should have: one list, asked of it at each
 * connect, together with which server it is.
 *
 * Pure but for the clock: texts in, texts out.  docs/operations.md shows the
 * same list.
 */

#ifndef NGX_PAYMENT_REQUIREMENT_H
#define NGX_PAYMENT_REQUIREMENT_H

#include <ngx_config.h>
#include <ngx_core.h>


typedef enum {
    NGX_PAYMENT_REQUIREMENT_VERSION = 0,
    NGX_PAYMENT_REQUIREMENT_READ_ONLY,
    NGX_PAYMENT_REQUIREMENT_INNODB_READ_ONLY,
    NGX_PAYMENT_REQUIREMENT_FORCE_RECOVERY,
    NGX_PAYMENT_REQUIREMENT_BINLOG_FORMAT,
    NGX_PAYMENT_REQUIREMENT_FLUSH,
    NGX_PAYMENT_REQUIREMENT_SYNC_BINLOG,
    NGX_PAYMENT_REQUIREMENT_LOG_BIN,
    NGX_PAYMENT_REQUIREMENT_GTID_STRICT,
    NGX_PAYMENT_REQUIREMENT_SEMI_SYNC,
    NGX_PAYMENT_REQUIREMENT_WAIT_POINT,
    NGX_PAYMENT_REQUIREMENT_WAIT_NO_SLAVE,
    NGX_PAYMENT_REQUIREMENT_TIMEOUT,
    NGX_PAYMENT_REQUIREMENT_UPKEEP,
    NGX_PAYMENT_REQUIREMENT_DAY,
    NGX_PAYMENT_REQUIREMENT_CLOCK,
    NGX_PAYMENT_REQUIREMENTS
} ngx_payment_requirement_e;


typedef struct {
    const char  *name;          /* as the server calls it */
    const char  *expression;    /* in SQL; its text is looked at */
    const char  *good;          /* texts that are, between and around "|" */
    const char  *otherwise;     /* what a value that is not good means */
    unsigned     advice:1;      /* a warning; else the server is refused */
    unsigned     replica:1;     /* with durability replica, the server is
                                   refused; without it, what is no advice is
                                   not looked at */
    unsigned     archive:1;     /* only for payment_outbox_archive on */
} ngx_payment_requirement_t;


extern const ngx_payment_requirement_t
    ngx_payment_requirements[NGX_PAYMENT_REQUIREMENTS];

/* milliseconds for which a server must at least wait for a replica's word: it
 * is to wait for ever, and has no number for that */
#define NGX_PAYMENT_REQUIREMENT_PATIENCE  "3600000"

/* what a server says of which one it is, as an expression in SQL */
#define NGX_PAYMENT_REQUIREMENT_WHO                                           \
    "CONCAT('server_id ', @@global.server_id, ', ', @@global.hostname, ':',"  \
    " @@global.port, ', ', @@global.datadir)"

/* 1 if the text is as it must be, or should be */
ngx_uint_t ngx_payment_requirement_met(ngx_payment_requirement_e i,
    const char *text);

/* What is logged in place of a text that says nothing to people. */
void ngx_payment_requirement_say(ngx_payment_requirement_e i, char *text,
    size_t len);

#endif /* NGX_PAYMENT_REQUIREMENT_H */
