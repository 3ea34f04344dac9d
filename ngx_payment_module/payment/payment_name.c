/*
 * What the enums of payment.h are called outside: in answers and events, in the
 * error log, in metrics and log variables.  Clients and dashboards know these
 * words: a word may be added here, and none may be changed.
 *
 * Pure; any process.
 */

#include "payment.h"


const char *
payment_name_status(payment_status_e status)
{
    /* by payment_status_e, which has the order of the database's ENUM */

    static const char  *const names[] = {
        "",
        "AUTHORIZED",
        "PARTIALLY_CAPTURED",
        "CAPTURED",
        "PARTIALLY_REFUNDED",
        "REFUNDED",
        "VOIDED"
    };

    if ((size_t) status >= sizeof(names) / sizeof(names[0])) {
        return "";
    }

    return names[status];
}


const char *
payment_name_operation(payment_operation_e operation)
{
    switch (operation) {

    case PAYMENT_AUTHORIZE:
        return "authorize";

    case PAYMENT_CAPTURE:
        return "capture";

    case PAYMENT_REFUND:
        return "refund";

    case PAYMENT_VOID:
        return "void";

    case PAYMENT_EXPIRE:
        return "expire";

    case PAYMENT_GET:
        return "get";

    case PAYMENT_LOOKUP:
        return "lookup";

    case PAYMENT_OPERATIONS:
        return "operations";

    case PAYMENT_LIST:
        return "list";
    }

    return "";
}


const char *
payment_name_event(payment_operation_e operation)
{
    switch (operation) {

    case PAYMENT_AUTHORIZE:
        return "authorized";

    case PAYMENT_CAPTURE:
        return "captured";

    case PAYMENT_REFUND:
        return "refunded";

    case PAYMENT_VOID:
        return "voided";

    case PAYMENT_EXPIRE:
        return "expired";

    case PAYMENT_GET:
    case PAYMENT_LOOKUP:
    case PAYMENT_OPERATIONS:
    case PAYMENT_LIST:
        break;
    }

    return "";
}


const payment_error_t *
payment_name_error(payment_outcome_e outcome)
{
    /* by payment_outcome_e */

    static const payment_error_t  errors[] = {
        { 200, "OK", "OK" },
        { 200, "OK", "OK" },
        { 400, "INVALID_REQUEST", "Bad Request" },
        { 401, "UNAUTHORIZED", "Unauthorized" },
        { 403, "FORBIDDEN", "Forbidden" },
        { 403, "MERCHANT_MISMATCH", "Forbidden" },
        { 404, "NOT_FOUND", "Not Found" },
        { 405, "METHOD_NOT_ALLOWED", "Method Not Allowed" },
        { 409, "DUPLICATE_REQUEST", "Conflict" },
        { 409, "CAPTURE_CONFLICT", "Conflict" },
        { 409, "REFUND_CONFLICT", "Conflict" },
        { 409, "VOID_CONFLICT", "Conflict" },
        { 409, "AUTHORIZATION_EXPIRED", "Conflict" },
        { 410, "PAYMENT_GONE", "Gone" },
        { 413, "PAYLOAD_TOO_LARGE", "Content Too Large" },
        { 415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type" },
        { 422, "IDEMPOTENCY_KEY_REUSED", "Unprocessable Content" },
        { 429, "RATE_LIMIT_EXCEEDED", "Too Many Requests" },
        { 503, "SERVICE_UNAVAILABLE", "Service Unavailable" },
        { 504, "OUTCOME_UNKNOWN", "Gateway Timeout" }
    };

    static const payment_error_t  unknown = {
        500, "INTERNAL_ERROR", "Internal Server Error"
    };

    if ((size_t) outcome >= sizeof(errors) / sizeof(errors[0])) {
        return &unknown;
    }

    return &errors[outcome];
}
