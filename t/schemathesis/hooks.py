"""What OpenAPI cannot say about the payment API, said to schemathesis.

The idempotency key is in the body (or the query of a look-up) or in a header:
authorize needs one of the two, and where both are given they must be equal. A
GET that has neither is a list: amounts want a currency, the ends of a range are
in order, a day is one of its month, and a cursor is an answer's. And to JSON
Schema 1.0 is an integer, which this API refuses. Cases that are meant to be valid are made so;
cases that are meant to be wrong are left as they are.
"""

import uuid

import schemathesis
from schemathesis.generation import GenerationMode

HEADER = "Idempotency-Key"


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None:
        return

    if case.meta.generation.mode != GenerationMode.POSITIVE:
        return

    if case.path == "/":
        if case.query.get("idempotencyKey") is not None:
            case.headers.pop(HEADER, None)
        elif HEADER not in case.headers:
            make_list(case.query)

    if case.method != "POST" or not isinstance(case.body, dict):
        return

    if case.body.get("idempotencyKey") is not None:
        case.headers.pop(HEADER, None)
    elif case.path == "/authorize" and HEADER not in case.headers:
        case.headers[HEADER] = str(uuid.uuid4())

    if isinstance(case.body.get("amount"), float):
        case.body["amount"] = int(case.body["amount"])


def make_list(query):
    query.pop("cursor", None)

    for lower, upper in (("amountMin", "amountMax"),
                         ("createdFrom", "createdTo")):
        if query.get(lower) is not None:
            query.pop(upper, None)

    if query.get("currency") is None:
        query.pop("amountMin", None)
        query.pop("amountMax", None)

    for name in ("createdFrom", "createdTo"):
        if isinstance(query.get(name), str):
            query[name] = query[name][:8] + "15" + query[name][10:]

    if query.get("createdTo", "1970-01").startswith("1970-01"):
        query.pop("createdTo", None)
