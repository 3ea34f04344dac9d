/*
 * The state machine of a payment: the only place that changes one.
 *
 *     from                 capture              refund               void
 *     AUTHORIZED           (PARTIALLY_)CAPTURED -                    VOIDED
 *     PARTIALLY_CAPTURED   (PARTIALLY_)CAPTURED (PARTIALLY_)REFUNDED CAPTURED
 *     CAPTURED             -                    (PARTIALLY_)REFUNDED -
 *     PARTIALLY_REFUNDED   -                    (PARTIALLY_)REFUNDED -
 *     REFUNDED, VOIDED     -                    -                    -
 *
 * CAPTURED means that nothing more can be captured: all of it was, or the rest
 * is released: by a final capture, by a void of the remainder where the rules
 * allow one, or because the authorization has expired, which does what a void
 * would.  The first refund ends capturing, too, and REFUNDED means that all of
 * what was captured has gone back.
 *
 * Pure: it works on a copy of the row, in whichever process.
 */

#include <inttypes.h>
#include <string.h>

#include "payment.h"


static payment_outcome_e payment_state_capture(payment_t *p,
    const payment_request_t *r, payment_fault_t *fault);
static payment_outcome_e payment_state_refund(payment_t *p,
    const payment_request_t *r, payment_fault_t *fault);
static payment_outcome_e payment_state_void(payment_t *p,
    const payment_request_t *r, payment_fault_t *fault);
static void payment_state_release(payment_t *p);
static void payment_state_changed(payment_t *p, int64_t now_ms);


void
payment_state_open(payment_t *p, const payment_request_t *r, int64_t now_ms)
{
    memset(p, 0, sizeof(payment_t));

    memcpy(p->id, r->payment_id, PAYMENT_ID_SIZE);
    memcpy(p->merchant, r->merchant, r->merchant_len);
    p->merchant_len = r->merchant_len;
    memcpy(p->currency, r->currency, sizeof(p->currency));

    p->status = PAYMENT_AUTHORIZED;
    p->amount = r->amount;
    p->operation_amount = r->amount;
    p->version = 1;
    p->created_ms = now_ms;
    p->updated_ms = now_ms;
    p->expires_ms = r->lifetime_ms ? now_ms + r->lifetime_ms : 0;
}


/*
 * Without an amount, a capture takes all that is still authorized and a refund
 * all that is still captured.  Asking for more than that is a conflict, never
 * a smaller operation.  A currency, where given, must be the payment's.
 *
 * updated_ms never goes back, whatever the clock does.
 */

payment_outcome_e
payment_state_apply(payment_t *p, const payment_request_t *r, int64_t now_ms,
    payment_fault_t *fault)
{
    payment_outcome_e  outcome;

    if (r->merchant_len != p->merchant_len
        || memcmp(r->merchant, p->merchant, p->merchant_len) != 0)
    {
        /*
         * The answer is the same, to the letter, as for an id that no payment
         * has: another merchant does not learn that this payment exists.
         */

        return payment_fault_set(fault, PAYMENT_NOT_FOUND, "",
                                 "no such payment");
    }

    switch (r->operation) {

    case PAYMENT_CAPTURE:
        outcome = payment_state_capture(p, r, fault);
        break;

    case PAYMENT_REFUND:
        outcome = payment_state_refund(p, r, fault);
        break;

    case PAYMENT_VOID:
        outcome = payment_state_void(p, r, fault);
        break;

    default:
        return payment_fault_set(fault, PAYMENT_INVALID, "",
                                 "the operation does not change a payment");
    }

    if (outcome == PAYMENT_OK) {
        payment_state_changed(p, now_ms);
    }

    return outcome;
}


static void
payment_state_changed(payment_t *p, int64_t now_ms)
{
    p->version++;

    if (now_ms > p->updated_ms) {
        p->updated_ms = now_ms;
    }
}


int
payment_state_is_overdue(const payment_t *p, int64_t clock_ms)
{
    return p->expires_ms != 0 && clock_ms >= p->expires_ms
           && (p->status == PAYMENT_AUTHORIZED
               || p->status == PAYMENT_PARTIALLY_CAPTURED);
}


void
payment_state_expire(payment_t *p, int64_t clock_ms)
{
    payment_state_release(p);
    payment_state_changed(p, clock_ms);

    p->expired_ms = p->updated_ms;
}


payment_outcome_e
payment_state_in_time(const payment_t *p, const payment_request_t *r,
    int64_t clock_ms, payment_fault_t *fault)
{
    char  time[PAYMENT_TIME_LEN + 1];

    if ((r->operation != PAYMENT_CAPTURE && r->operation != PAYMENT_VOID)
        || (p->expired_ms == 0 && !payment_state_is_overdue(p, clock_ms)))
    {
        return PAYMENT_OK;
    }

    time[payment_render_time(time, p->expires_ms)] = '\0';

    return payment_fault_set(fault, PAYMENT_EXPIRED, "",
                             "the authorization expired at %s", time);
}


payment_outcome_e
payment_state_refer(const payment_request_t *r, payment_fault_t *fault)
{
    payment_outcome_e  outcome;

    switch (r->operation) {

    case PAYMENT_CAPTURE:
        outcome = PAYMENT_CAPTURE_CONFLICT;
        break;

    case PAYMENT_REFUND:
        outcome = PAYMENT_REFUND_CONFLICT;
        break;

    default: /* PAYMENT_VOID */
        outcome = PAYMENT_VOID_CONFLICT;
    }

    return payment_fault_set(fault, outcome, "reference",
                             "reference was used before, by another operation "
                             "on this payment");
}


static payment_outcome_e
payment_state_capture(payment_t *p, const payment_request_t *r,
    payment_fault_t *fault)
{
    int64_t  left, amount;

    if (p->status != PAYMENT_AUTHORIZED
        && p->status != PAYMENT_PARTIALLY_CAPTURED)
    {
        return payment_fault_set(fault, PAYMENT_CAPTURE_CONFLICT, "",
                                 "a payment that is %s cannot be captured",
                                 payment_name_status(p->status));
    }

    if (r->currency[0] != '\0' && strcmp(r->currency, p->currency) != 0) {
        return payment_fault_set(fault, PAYMENT_CAPTURE_CONFLICT, "currency",
                                 "currency is %s, but the payment is in %s",
                                 r->currency, p->currency);
    }

    left = p->amount - p->captured;
    amount = r->amount ? r->amount : left;

    if (amount < 1 || amount > left) {
        return payment_fault_set(fault, PAYMENT_CAPTURE_CONFLICT, "amount",
                                 "amount is %" PRId64 ", but %" PRId64
                                 " of %" PRId64 " can still be captured",
                                 amount, left, p->amount);
    }

    p->captured += amount;
    p->operation_amount = amount;
    p->status = (r->final || p->captured == p->amount)
                ? PAYMENT_CAPTURED : PAYMENT_PARTIALLY_CAPTURED;

    return PAYMENT_OK;
}


static payment_outcome_e
payment_state_refund(payment_t *p, const payment_request_t *r,
    payment_fault_t *fault)
{
    int64_t  left, amount;

    if (p->status != PAYMENT_PARTIALLY_CAPTURED
        && p->status != PAYMENT_CAPTURED
        && p->status != PAYMENT_PARTIALLY_REFUNDED)
    {
        return payment_fault_set(fault, PAYMENT_REFUND_CONFLICT, "",
                                 "a payment that is %s cannot be refunded",
                                 payment_name_status(p->status));
    }

    if (r->currency[0] != '\0' && strcmp(r->currency, p->currency) != 0) {
        return payment_fault_set(fault, PAYMENT_REFUND_CONFLICT, "currency",
                                 "currency is %s, but the payment is in %s",
                                 r->currency, p->currency);
    }

    left = p->captured - p->refunded;
    amount = r->amount ? r->amount : left;

    if (amount < 1 || amount > left) {
        return payment_fault_set(fault, PAYMENT_REFUND_CONFLICT, "amount",
                                 "amount is %" PRId64 ", but %" PRId64
                                 " of %" PRId64 " can still be refunded",
                                 amount, left, p->captured);
    }

    p->refunded += amount;
    p->operation_amount = amount;
    p->status = p->refunded == p->captured ? PAYMENT_REFUNDED
                                           : PAYMENT_PARTIALLY_REFUNDED;

    return PAYMENT_OK;
}


/* A void releases all that was not captured. */

static payment_outcome_e
payment_state_void(payment_t *p, const payment_request_t *r,
    payment_fault_t *fault)
{
    if (p->status != PAYMENT_AUTHORIZED
        && !(p->status == PAYMENT_PARTIALLY_CAPTURED && r->void_remainder))
    {
        return payment_fault_set(fault, PAYMENT_VOID_CONFLICT, "",
                                 "a payment that is %s cannot be voided",
                                 payment_name_status(p->status));
    }

    payment_state_release(p);

    return PAYMENT_OK;
}


static void
payment_state_release(payment_t *p)
{
    p->operation_amount = p->amount - p->captured;
    p->status = p->captured == 0 ? PAYMENT_VOIDED : PAYMENT_CAPTURED;
}
