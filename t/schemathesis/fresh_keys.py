"""The hooks of hooks.py, and new keys for most requests: what t/api runs.

The description's own examples, and most of what is drawn, have few different
keys: nearly every request would be another one with a key that was used, and
answered 422. So the keys of good cases get new ends, of the same length, where
they are long enough; the others stay, and meet each other.
"""

import random
import re

import schemathesis
from hooks import HEADER, GenerationMode        # runs them, too

letters = random.Random(4711)
KEPT = 2                # characters at a key's beginning
SHORTEST = 8            # a shorter key stays as it is


def renewed(key):
    if not isinstance(key, str):
        return key

    # in a header it may be in quotes
    match = re.fullmatch(r'("?)([A-Za-z0-9-]+)("?)', key)

    if match is None or len(match[2]) < SHORTEST:
        return key

    end = letters.choices('0123456789abcdef', k=len(match[2]) - KEPT)

    return match[1] + match[2][:KEPT] + ''.join(end) + match[3]


@schemathesis.hook
def before_call(context, case, kwargs):
    if (case.method != 'POST' or case.meta is None
            or case.meta.generation.mode != GenerationMode.POSITIVE
            or letters.random() < 0.1):
        return

    if isinstance(case.body, dict) and 'idempotencyKey' in case.body:
        case.body['idempotencyKey'] = renewed(case.body['idempotencyKey'])

    if HEADER in case.headers:
        case.headers[HEADER] = renewed(case.headers[HEADER])
