/*
 * A request's body as JSON, by jansson; what is wrong with it is told with the
 * name of the member, and quotes nothing else of the body.
 *
 * Pure; any process.  Memory: what jansson takes for the body.  Nesting: 2048,
 * jansson's own limit.
 */

#ifndef PAYMENT_JSON_H
#define PAYMENT_JSON_H

#include <jansson.h>

#include "payment.h"


/* Reads a body strictly, as a JSON object, which is to be freed with
 * json_decref(); may_be_empty: a body of nothing but blanks is an object
 * without members.  Anything but PAYMENT_OK is told in fault, and leaves
 * nothing to be freed. */
payment_outcome_e payment_json_load(json_t **json, const char *body,
    size_t body_len, unsigned may_be_empty, payment_fault_t *fault);

#endif /* PAYMENT_JSON_H */
