/*
 * Carries out what an operator asked of the helper; see ngx_payment_command.h.
 *
 * Owner: the helper process.  Limits: one command at a time; a replay ends
 * with its exchange.
 */

#ifndef NGX_PAYMENT_OPERATOR_H
#define NGX_PAYMENT_OPERATOR_H

#include "ngx_payment_relay.h"


/* The next command, if there is one and none is under way. */
void ngx_payment_operator_run(ngx_payment_relays_t *relays);

#endif /* NGX_PAYMENT_OPERATOR_H */
