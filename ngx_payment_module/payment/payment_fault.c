/* A fault, as an answer will tell it.  Pure; any process. */

#include <stdarg.h>
#include <stdio.h>

#include "payment.h"


payment_outcome_e
payment_fault_set(payment_fault_t *fault, payment_outcome_e outcome,
    const char *field, const char *fmt, ...)
{
    va_list  args;

    fault->outcome = outcome;

    (void) snprintf(fault->field, sizeof(fault->field), "%s", field);

    va_start(args, fmt);
    (void) vsnprintf(fault->detail, sizeof(fault->detail), fmt, args);
    va_end(args);

    return outcome;
}
