"""What a payment API must answer, as a model: no I/O, no clock, no ids.

The model is written from docs/api.md and the schema, not from the C sources:
it reads bodies with Python's json, and knows states and sums. It is asked
whether an answer *may* follow on what happened before, so that it also judges
concurrent operations: some order of them must be acceptable.

    read(call)              a Request, or how it must be refused
    State.accept(request, response)
                            what changes by it, or Wrong with the reason
    explain(state, lanes)   finds an order of concurrent calls, or raises Wrong

An authorization may expire at any time, unseen, once its lifetime is over. So
the state has for each payment all that it possibly is, and an answer says
which of these it can still be.
"""

import collections
import datetime
import email.utils
import hashlib
import json
import re

AMOUNT_MAX = 2 ** 53 - 1
INTEGER_MAX = 2 ** 63 - 1
BODY_MAX = 8192
UUID7 = re.compile(r'[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-'
                   r'[0-9a-f]{12}\Z')
UUID = re.compile(r'[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z')
TIME = re.compile(r'20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z')

# of ISO 4217, what the generator uses
CURRENCIES = {'KRW', 'USD', 'EUR', 'JPY', 'BHD', 'CLF', 'ISK'}

MEMBERS = {
    'authorize': {'merchantId', 'amount', 'currency', 'idempotencyKey',
                  'metadata'},
    'capture': {'merchantId', 'amount', 'currency', 'final', 'reference',
                'idempotencyKey', 'metadata'},
    'refund': {'merchantId', 'amount', 'currency', 'reason', 'reference',
               'idempotencyKey', 'metadata'},
    'void': {'merchantId', 'reference', 'idempotencyKey', 'metadata'},
}

READS = ('get', 'lookup', 'operations', 'list')
PAGE = 20
PAGE_MAX = 100

STATUSES = {'AUTHORIZED', 'PARTIALLY_CAPTURED', 'CAPTURED',
            'PARTIALLY_REFUNDED', 'REFUNDED', 'VOIDED'}
FILTERS = {'status', 'currency', 'amountMin', 'amountMax', 'createdFrom',
           'createdTo'}

EVENTS = {'authorize': 'authorized', 'capture': 'captured',
          'refund': 'refunded', 'void': 'voided', 'expire': 'expired'}
OPEN = ('AUTHORIZED', 'PARTIALLY_CAPTURED')

TITLES = {400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden',
          404: 'Not Found', 405: 'Method Not Allowed', 409: 'Conflict',
          413: 'Content Too Large', 415: 'Unsupported Media Type',
          422: 'Unprocessable Content'}

CODES = {400: {'INVALID_REQUEST'}, 401: {'UNAUTHORIZED'},
         403: {'MERCHANT_MISMATCH'}, 404: {'NOT_FOUND'},
         405: {'METHOD_NOT_ALLOWED'},
         409: {'DUPLICATE_REQUEST', 'CAPTURE_CONFLICT', 'REFUND_CONFLICT',
               'VOID_CONFLICT', 'AUTHORIZATION_EXPIRED'},
         410: {'PAYMENT_GONE'},
         413: {'PAYLOAD_TOO_LARGE'}, 415: {'UNSUPPORTED_MEDIA_TYPE'},
         422: {'IDEMPOTENCY_KEY_REUSED'}}


class Wrong(Exception):
    """The answer cannot be right."""


# What a location's directives say; lifetimes: seconds, by currency.

Rules = collections.namedtuple(
    'Rules', 'replay refuse_unknown max_amount currencies identity '
    'void_remainder lifetimes lists',
    defaults=(True, False, AMOUNT_MAX, None, False, False, {}, False))

# A call as it goes over the wire. do: authorize, capture, refund, void, get,
# lookup, operations, list, or another word; id: the payment's as text; merchant:
# of the query or of what stands for a certificate; query_key: of a look-up;
# cursor: of operations; more: a list's arguments.

Call = collections.namedtuple(
    'Call', 'method do id query_merchant identity headers body rules '
    'query_key cursor more', defaults=(None, None, {}))

# A call with nothing wrong. key and the meaning of the rest, where there is
# a key, are what makes two requests the same.

Request = collections.namedtuple(
    'Request', 'do id merchant amount currency reason metadata key rules '
    'forbidden final reference page', defaults=(None, False, None, None))

# Of a list. filters: all arguments but cursor and limit, which a cursor is
# bound to; first, end: times, of which the second does not belong to it.

Page = collections.namedtuple(
    'Page', 'filters statuses currency amounts first end limit cursor')

# field: the member that must be named; None: any, or none
Refused = collections.namedtuple('Refused', 'status field', defaults=(None,))

Event = collections.namedtuple(
    'Event', 'type version status captured refunded moved reason reference '
             'metadata')

# expires: expiresAt, or None; late: a capture or void was told that this time
# has come

Payment = collections.namedtuple(
    'Payment', 'id merchant currency amount status captured refunded version '
               'created updated events expires late')

# number: the event of the key's request, counted without that of the expiry,
# which may have come before it or not

Key = collections.namedtuple('Key', 'meaning do id number body')


# --- from a call to a request

class NotJson(Exception):
    """The body is not what a strict reader takes."""


def strict_json(body):
    """The value of a body, or NotJson."""

    if b'\0' in body or body.startswith(b'\xef\xbb\xbf'):
        raise NotJson

    def no_constant(_):
        raise NotJson

    def integer(text):
        if len(text) > 25 or abs(int(text)) > INTEGER_MAX:
            raise NotJson
        return int(text)

    def real(text):
        if float(text) in (float('inf'), float('-inf')):
            raise NotJson
        return float(text)

    def members(pairs):
        names = [name for name, _ in pairs]

        if len(set(names)) != len(names):
            raise NotJson
        return dict(pairs)

    try:
        value = json.loads(body.decode('utf-8'), parse_constant=no_constant,
                           parse_int=integer, parse_float=real,
                           object_pairs_hook=members)
    except (ValueError, RecursionError) as e:
        raise NotJson from e

    check_texts(value)
    return value


def check_texts(value):
    """Every text can be written as UTF-8 and has no NUL."""

    if isinstance(value, str):
        try:
            value.encode('utf-8')
        except UnicodeEncodeError as e:
            raise NotJson from e

        if '\0' in value:
            raise NotJson

    elif isinstance(value, dict):
        for name, member in value.items():
            check_texts(name)
            check_texts(member)

    elif isinstance(value, list):
        for member in value:
            check_texts(member)


def is_control(c, breaks):
    if breaks and c in '\t\n\r':
        return False
    return c < ' ' or '\x7f' <= c < '\xa0'


def is_text(value, chars_max, breaks=False):
    return (isinstance(value, str) and len(value) <= chars_max
            and not any(is_control(c, breaks) for c in value)
            and value != '' and not value.isspace())


def header_key(value):
    """The key that an Idempotency-Key header says, or None."""

    value = value.strip(' \t')
    quoted = re.fullmatch(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', value)

    if quoted:
        key = re.sub(r'\\(.)', r'\1', quoted.group(1))
    elif re.fullmatch(r'[!#-+\--\[\]-~]+', value):
        key = value
    else:
        return None

    return key if is_text(key, 255) else None


def read(call):
    """The call as a Request, or Refused; faults in the documented order."""

    if call.do not in ('authorize', 'capture', 'refund', 'void', *READS):
        return Refused(404)

    if call.method not in (('GET', 'HEAD') if call.do in READS
                           else ('POST',)):
        return Refused(405)

    if call.do not in ('authorize', 'lookup', 'list') \
            and not UUID.match(call.id):
        return Refused(404)

    if call.do in READS:
        return read_get(call)

    types = [v for n, v in call.headers if n.lower() == 'content-type']

    if not types or not re.match(r'(?i)application/json([; \t]|$)', types[0]):
        return Refused(415)

    if len(call.body) > BODY_MAX:
        return Refused(413)

    return read_body(call)


def read_get(call):
    merchant = call.query_merchant

    if call.rules.identity and not is_text(call.identity, 32):
        return Refused(401)

    if merchant is not None and not is_text(merchant, 32):
        return Refused(400, 'merchantId')

    if call.rules.identity:
        if merchant not in (None, call.identity):
            return Refused(403, 'merchantId')
        merchant = call.identity

    if merchant is None:
        return Refused(400, 'merchantId')

    key, page = None, None

    if call.do == 'list':
        page = read_page(call)

        if isinstance(page, Refused):
            return page

    if call.do == 'operations' and call.cursor is not None \
            and not (re.fullmatch('[0-9]+', call.cursor)
                     and 0 < int(call.cursor) < 2 ** 32):
        return Refused(400, 'cursor')

    if call.do == 'lookup':
        key, field = read_key(call, call.query_key)

        if field is not None:
            return Refused(400, field)

    return Request(call.do, call.id.lower(), merchant,
                   int(call.cursor or 0), None, None, None, key, call.rules,
                   page=page)


def read_page(call):
    """A list's arguments; a field is named if only one of them is wrong."""

    if not call.rules.lists:
        return Refused(400)

    given = dict(call.more)
    wrong = set()

    for name, most in (('amountMin', AMOUNT_MAX), ('amountMax', AMOUNT_MAX),
                       ('limit', PAGE_MAX)):
        if name not in given:
            continue

        if re.fullmatch('[0-9]{1,16}', given[name]) \
                and 1 <= int(given[name]) <= most:
            given[name] = int(given[name])
        else:
            wrong.add(name)

    wrong |= {name for name in ('createdFrom', 'createdTo')
              if name in given and not TIME.match(given[name])}

    statuses = given['status'].split(',') if 'status' in given else STATUSES

    if not set(statuses) <= STATUSES:
        wrong.add('status')

    if given.get('currency', 'KRW') not in CURRENCIES or (
            'currency' not in given and {'amountMin', 'amountMax'} & set(given)):
        wrong.add('currency')

    amounts = given.get('amountMin', 1), given.get('amountMax', AMOUNT_MAX)
    times = given.get('createdFrom', ''), given.get('createdTo', '3')

    if not {'amountMin', 'amountMax'} & wrong and amounts[0] > amounts[1]:
        wrong.add('amountMin')

    if not {'createdFrom', 'createdTo'} & wrong and times[0] >= times[1]:
        wrong.add('createdFrom')

    if wrong:
        return Refused(400, wrong.pop() if len(wrong) == 1 else None)

    return Page(tuple(sorted((name, given[name]) for name in FILTERS
                             if name in given)),
                statuses, given.get('currency'), amounts, *times,
                given.get('limit', PAGE), given.get('cursor'))


def read_body(call):
    rules = call.rules

    if rules.identity and not is_text(call.identity, 32):
        return Refused(401)

    if call.body.strip(b' \t\r\n') == b'' and rules.identity:
        body = {}
    else:
        try:
            body = strict_json(call.body)
        except NotJson:
            return Refused(400)

    if not isinstance(body, dict):
        return Refused(400)

    given = {name: value for name, value in body.items()
             if name in MEMBERS[call.do] and value is not None}
    request = read_members(call, given)
    forbidden = unknown(call, body)

    if forbidden is None and isinstance(request, Request):
        forbidden = request.forbidden

    if forbidden is None:
        return request

    # what only the rules forbid may repeat what was done before they did
    if isinstance(request, Refused) or request.key is None:
        return Refused(400, forbidden)

    return request._replace(forbidden=forbidden)


def unknown(call, body):
    """The first member that the location's rules do not let pass."""

    if not call.rules.refuse_unknown:
        return None

    return next((name for name in body if name not in MEMBERS[call.do]), None)


def read_members(call, given):
    rules = call.rules
    merchant = given.get('merchantId')

    if merchant is None and rules.identity:
        merchant = call.identity
    elif not is_text(merchant, 32):
        return Refused(400, 'merchantId')
    elif rules.identity and merchant != call.identity:
        return Refused(403, 'merchantId')

    field, forbidden = wrong_money(call.do, rules, given)

    if field is None and not isinstance(given.get('final', False), bool):
        field = 'final'

    if field is None and call.do == 'refund' \
            and not is_text(given.get('reason'), 128, True):
        field = 'reason'

    if field is None and 'reference' in given \
            and not is_text(given['reference'], 64):
        field = 'reference'

    key = given.get('idempotencyKey')

    if field is None:
        key, field = read_key(call, key)

    if field is None and not is_metadata(given.get('metadata', {})):
        field = 'metadata'

    if field is not None:
        return Refused(400, forbidden or field)

    return Request(call.do, None if call.do == 'authorize' else call.id.lower(),
                   merchant, given.get('amount'), given.get('currency'),
                   given.get('reason') if call.do == 'refund' else None,
                   given.get('metadata') or None, key, rules, forbidden,
                   given.get('final', False), given.get('reference'))


def wrong_money(do, rules, given):
    """amount or currency, if that member is wrong; and the same, if nothing is
    wrong with it but that the location's rules forbid it."""

    amount, currency = given.get('amount'), given.get('currency')
    forbidden = None

    if do == 'void':
        return None, None

    if amount is None:
        if do == 'authorize':
            return 'amount', None
    elif (not isinstance(amount, int) or isinstance(amount, bool)
          or not 1 <= amount <= AMOUNT_MAX):
        return 'amount', None
    elif do == 'authorize' and amount > rules.max_amount:
        forbidden = 'amount'

    if currency is None:
        if do == 'authorize':
            return 'currency', forbidden
    elif not isinstance(currency, str) or currency not in CURRENCIES:
        return 'currency', forbidden
    elif (do == 'authorize' and rules.currencies is not None
          and currency not in rules.currencies):
        forbidden = forbidden or 'currency'

    return None, forbidden


def read_key(call, key):
    """(key, what is wrong): of the body, the header, or both of them."""

    headers = [v for n, v in call.headers if n.lower() == 'idempotency-key']

    if key is not None and not is_text(key, 64):
        return None, 'idempotencyKey'

    if headers:
        by_header = header_key(', '.join(headers))

        if by_header is None:
            return None, 'Idempotency-Key'

        if key not in (None, by_header):
            return None, 'idempotencyKey'

        key = by_header

    if key is None and call.do in ('authorize', 'lookup'):
        return None, 'idempotencyKey'

    return key, None


def is_metadata(value):
    return (isinstance(value, dict) and len(value) <= 20
            and all(1 <= len(n.encode()) <= 40
                    and not any(is_control(c, False) for c in n)
                    and isinstance(v, str) and len(v.encode()) <= 500
                    and not any(is_control(c, True) for c in v)
                    for n, v in value.items()))


def key_hash(merchant, key):
    return hashlib.sha256(merchant.encode() + b'\0' + key.encode()) \
        .digest()[:16]


# --- answers

def need(condition, reason):
    if not condition:
        raise Wrong(reason)


def check_problem(response):
    """What every refusal has; returns its members."""

    need(response.header('content-type') == 'application/problem+json',
         f"a problem of type {response.header('content-type')}")

    try:
        body = response.json()
    except ValueError as e:
        raise Wrong('a problem that is no JSON') from e

    known = {'type', 'title', 'status', 'detail', 'code', 'message', 'field',
             'paymentId'}
    need(isinstance(body, dict) and set(body) <= known
         and known - set(body) <= {'field', 'paymentId'},
         f'a problem with members {sorted(body)}')
    need(body['status'] == response.status, 'status is not the status')
    need(body['title'] == TITLES.get(response.status), 'another title')
    need(body['code'] in CODES.get(response.status, ()),
         f"{response.status} with code {body['code']}")
    need(body['type'] == 'about:blank' and body['detail']
         and body['message'] == body['detail'], 'no detail')
    need(response.header('idempotent-replayed') is None, 'replayed a problem')

    return body


def check_refused(refused, response):
    need(response.status == refused.status,
         f'{response} instead of {refused}')

    if response.status == 405:
        need(response.header('allow'), '405 without Allow')

    if response.method == 'HEAD':
        return

    field = check_problem(response).get('field')

    need(refused.field is None or show(refused.field) == field,
         f'{field} is blamed instead of {refused.field}')


def show(name):
    """A member's name as a problem shows it: 63 bytes, the odd ones masked."""

    text = ''

    for c in name:
        c = '?' if is_control(c, False) or c in '"\\' else c
        if len((text + c).encode()) > 63:
            break
        text += c

    return text or None


class State:
    """All payments and keys that the answers so far are evidence of."""

    def __init__(self):
        self.payments = {}          # id -> (Payment, ..): one of them it is
        self.merchants = {}         # merchant -> (id, ..)
        self.cursors = {}           # of lists -> (merchant, filters, id)
        self.keys = {}              # (merchant, key) -> Key
        self.operations = collections.Counter()     # keyless, by payment

    def accept(self, request, response):
        """The changes [(dict, key, value)] that explain it, or Wrong."""

        if isinstance(request, Refused):
            check_refused(request, response)
            return []

        if response.status == 409 \
                and problem_code(response) == 'DUPLICATE_REQUEST':
            return self.accept_duplicate(request, response)

        if request.do in READS:
            accept = {'get': self.accept_get, 'lookup': self.accept_lookup,
                      'operations': self.accept_operations,
                      'list': self.accept_list}[request.do]
            return accept(request, response)

        known = (request.key is not None
                 and self.keys.get((request.merchant, request.key)))

        if known:
            return self.accept_known(request, response, known)

        if request.forbidden is not None:
            check_refused(Refused(400, request.forbidden), response)
            return []

        if request.do == 'authorize':
            return self.accept_authorize(request, response)

        return self.accept_change(request, response)

    def possible(self, id, merchant):
        """All that this merchant's payment may be by now: none, if there is
        no such payment."""

        known = self.payments.get(id, ())

        if not known or known[0].merchant != merchant:
            return ()

        if any(has_expired(payment) for payment in known):
            return known

        return known + tuple(expired(payment) for payment in known
                             if payment.expires is not None
                             and payment.status in OPEN)

    def among(self, possible, judge):
        """Those that judge(payment), the payment after the answer, does not
        find Wrong; as a change."""

        left, wrong = [], None

        for payment in possible:
            try:
                left.append(judge(payment))
            except Wrong as e:
                wrong = wrong or e

        if not left:
            raise wrong

        return [(self.payments, left[0].id, tuple(left))]

    # --- idempotency

    def accept_duplicate(self, request, response):
        """In conflict mode: the key was used, by the same request."""

        known = self.keys.get((request.merchant, request.key))
        body = check_problem(response)

        need(known is not None and known.meaning == meaning(request)
             and not request.rules.replay, 'no duplicate')
        need(body.get('paymentId') == known.id, 'of another payment')
        return []

    @staticmethod
    def accept_known(request, response, known):
        if known.meaning != meaning(request):
            need(response.status == 422, f'{response} for a key that was used')
            check_problem(response)
            return []

        need(request.rules.replay, f'{response} instead of DUPLICATE_REQUEST')
        need(response.status == 200
             and response.header('idempotent-replayed') == 'true',
             f'{response} instead of a replay')
        need(response.header('content-type') == 'application/json',
             'no JSON by type')
        need(response.body == known.body,
             f'{response.body} replays {known.body}')
        return []

    # --- what happens to payments

    def accept_authorize(self, request, response):
        need(response.status == 200, f'{response} to a good authorize')
        id = response.json().get('paymentId')
        created = response.json().get('createdAt') or ''

        need(isinstance(id, str) and UUID7.match(id), f'id {id!r}')
        need(id not in self.payments, f'{id} is not new')
        need(TIME.match(created), 'createdAt is no time')

        event = Event('authorized', 1, 'AUTHORIZED', 0, 0, request.amount,
                      None, None, request.metadata)
        payment = Payment(id, request.merchant, request.currency,
                          request.amount, 'AUTHORIZED', 0, 0, 1, created,
                          None, (event,),
                          later(created,
                                request.rules.lifetimes.get(request.currency)),
                          False)

        check_payment(payment, 'authorize', response)
        return [(self.payments, id, (payment,)),
                (self.merchants, payment.merchant,
                 self.merchants.get(payment.merchant, ()) + (id,)),
                self.kept(request, response, payment)]

    def accept_change(self, request, response):
        possible = self.possible(request.id, request.merchant)

        if not possible:
            need(response.status == 404, f'{response} to nobody\'s payment')
            need('paymentId' not in check_problem(response), 'told an id')
            return []

        changes = self.among(possible, lambda payment: judge_change(
            payment, request, response))

        if response.status == 200:
            changes.append(self.kept(request, response, changes[0][2][0]))

        return changes

    def kept(self, request, response, payment):
        """What remembers that the request was done, as a change."""

        if request.key is None:
            return (self.operations, payment.id,
                    self.operations[payment.id] + 1)

        return (self.keys, (request.merchant, request.key),
                Key(meaning(request), request.do, payment.id,
                    len(asked_for(payment)), response.body))

    # --- what is shown of them

    def accept_get(self, request, response):
        return self.accept_shown(
            self.possible(request.id, request.merchant), None, response)

    def accept_lookup(self, request, response):
        known = self.keys.get((request.merchant, request.key))

        return self.accept_shown(
            known and self.possible(known.id, request.merchant), known,
            response)

    def accept_operations(self, request, response):
        possible = self.possible(request.id, request.merchant)

        if not possible:
            return self.accept_shown((), None, response)

        need(response.status == 200, f'{response} to good operations')

        if response.method == 'HEAD':
            return []

        return self.among(possible, lambda payment: judge_operations(
            payment, request, response))

    def accept_list(self, request, response):
        """One payment after the other, the newest first: each is on the page,
        or fits no longer or not yet, or is behind it."""

        page, end = request.page, 'g'            # greater than each id

        if page.cursor is not None:
            merchant, filters, end = self.cursors.get(page.cursor,
                                                      (None, None, None))

            if (merchant, filters) != (request.merchant, page.filters):
                check_refused(Refused(400, 'cursor'), response)
                return []

        need(response.status == 200, f'{response} to a good list')

        if response.method == 'HEAD':
            return []

        body = response.json()
        listed = body['payments']
        rest, changes, follow, may_follow = listed[:], [], False, False

        for id in sorted(self.merchants.get(request.merchant, ()),
                         reverse=True):
            possible = self.possible(id, request.merchant)

            if id >= end or not fits(possible[0], page):
                continue

            if rest and rest[0]['paymentId'] == id:
                element = rest.pop(0)
                changes += self.among(
                    possible, lambda payment, element=element: judge_listed(
                        payment, page, element))

            elif len(listed) < page.limit or rest:
                changes += self.among(
                    possible, lambda payment: judge_unlisted(payment, page))

            else:
                fit = [p.status in page.statuses for p in possible]
                follow = follow or all(fit)
                may_follow = may_follow or any(fit)

        need(not rest, f'{rest} is no such payment, or not in its place')
        need(len(listed) <= page.limit, f'{len(listed)} on a page')
        need(body['merchantId'] == request.merchant, 'of another merchant')
        need(set(body) <= {'merchantId', 'payments', 'nextCursor'},
             f'members {sorted(body)}')

        cursor = body.get('nextCursor')
        need(may_follow or cursor is None, f'{cursor} leads to nothing')
        need(not follow or cursor is not None, 'others follow, and no cursor')

        if cursor is not None:
            changes.append((self.cursors, cursor,
                            (request.merchant, page.filters,
                             listed[-1]['paymentId'])))

        return changes

    def accept_shown(self, possible, key, response):
        """The payment as it is now, and of a look-up what was done; or
        nothing, if there is none."""

        if not possible:
            need(response.status == 404, f'{response} to what is not there')
            if response.method != 'HEAD':
                check_problem(response)
            return []

        need(response.status == 200, f'{response} to a good get')

        if response.method == 'HEAD':
            return []

        return self.among(possible, lambda payment: judge_shown(
            payment, key, response))


def judge_change(payment, request, response):
    """The payment after this answer to a capture, refund or void."""

    binding = request.do in ('capture', 'void')

    if response.status == 409 \
            and problem_code(response) == 'AUTHORIZATION_EXPIRED':
        body = check_problem(response)

        need(binding and payment.expires is not None
             and (payment.status in OPEN or has_expired(payment)),
             f'{response} where nothing can expire')
        need(payment.expires in body['detail'], 'expired at another time')
        need(clock(response) >= payment.expires[:19], 'expired too early')
        need(body.get('paymentId') == payment.id, 'of another payment')
        return payment._replace(late=True)

    need(not binding or not has_expired(payment)
         and not (payment.late and payment.status in OPEN),
         f'{response} to what has expired')
    after = moved(payment, request)

    if request.reference is not None and request.reference in (
            event.reference for event in payment.events):
        after = None

    if after is None:
        need(response.status == 409, f'{response} where {payment.status} '
             f'{payment.captured} {payment.refunded} is in the way')
        body = check_problem(response)
        need(body['code'] == f'{request.do.upper()}_CONFLICT',
             f"{body['code']} to {request.do}")
        need(body.get('paymentId') == payment.id, 'of another payment')
        return payment

    check_payment(after, request.do, response, reference=request.reference)
    return after


def judge_operations(payment, request, response):
    """amount: the version after which the page begins."""

    body = response.json()
    page = payment.events[request.amount:][:PAGE]
    last = request.amount + len(page)
    listed = [done_event(one, payment) for one in body['operations']]

    need(body['paymentId'] == payment.id, 'of another payment')
    need(listed == [event._replace(captured=None, refunded=None)
                    for event in page],
         f'{body} instead of {page}')
    need(body.get('nextCursor') == (
        str(last) if last < payment.version else None), 'another cursor')
    need(set(body) <= {'paymentId', 'operations', 'nextCursor'},
         f'members {sorted(body)}')
    return payment


def judge_shown(payment, key, response):
    operation = None

    if key is not None:
        event = asked_for(payment)[key.number - 1]
        operation = {
            'type': key.do, 'status': event.status, 'version': event.version,
            'capturedAmount': event.captured,
            'refundedAmount': event.refunded}

    body = check_payment(payment, 'get', response, operation=operation,
                         expiredAt=expired_at_of(payment, response.json()))
    return judge_updated(payment, body)


def expired_at_of(payment, body):
    if not has_expired(payment):
        return None

    expired_at = body.get('expiredAt', '')
    need(TIME.match(expired_at), f'expiredAt is {expired_at!r}')
    need(expired_at >= payment.expires, 'expired too early')

    return expired_at


def judge_updated(payment, body):
    """The payment, of which it is known now when it was changed."""

    updated = body['updatedAt']

    need(updated >= max(payment.created, body.get('expiredAt', ''))
         and payment.updated in (None, updated), 'another updatedAt')

    return payment._replace(updated=updated)


def fits(payment, page):
    """By what of a payment never changes."""

    return (page.currency in (None, payment.currency)
            and page.amounts[0] <= payment.amount <= page.amounts[1]
            and page.first <= payment.created < page.end)


def judge_listed(payment, page, element):
    need(payment.status in page.statuses, f'{payment.status} was not asked for')
    check_members(payment, 'list', element,
                  expiredAt=expired_at_of(payment, element))

    return judge_updated(payment, element)


def judge_unlisted(payment, page):
    need(payment.status not in page.statuses,
         f'{payment.id} is {payment.status}, and not listed')

    return payment


def problem_code(response):
    try:
        return response.json().get('code')
    except (ValueError, AttributeError):
        return None


def clock(response):
    """The second in which the answer was made, as times are written here."""

    date = email.utils.parsedate_to_datetime(response.header('date'))
    return date.strftime('%Y-%m-%dT%H:%M:%S')


def later(time, seconds):
    """The time so many seconds later; None, if they are."""

    if seconds is None:
        return None

    moment = datetime.datetime.fromisoformat(time)
    moment += datetime.timedelta(seconds=seconds)

    return moment.strftime('%Y-%m-%dT%H:%M:%S.') + time[20:]


def asked_for(payment):
    """The events of what somebody asked for: all but that of the expiry."""

    return [event for event in payment.events if event.type != 'expired']


def has_expired(payment):
    return len(asked_for(payment)) < len(payment.events)


def expired(payment):
    """The payment, still open, after its expiry."""

    return done(payment, 'expire', payment.captured, payment.refunded,
                payment.amount - payment.captured,
                'CAPTURED' if payment.captured else 'VOIDED')


def check_in_time(payment, type, time):
    """What ends with the lifetime was done before, and the expiry not."""

    if payment.expires is None:
        need(type != 'expired', 'expired, and had no lifetime')

    elif type == 'expired':
        need(time >= payment.expires, f'expired at {time}, too early')

    elif type in ('captured', 'voided'):
        need(time < payment.expires, f'{type} at {time}, too late')


def check_sums(payment):
    """What the payment came to is what was done with it."""

    sums, versions = collections.Counter(), []

    for event in payment.events:
        sums[event.type] += event.moved
        versions.append(event.version)

    need(versions == list(range(1, payment.version + 1)), 'a version is lacking')
    need(sums['authorized'] == payment.amount
         and sums['captured'] == payment.captured
         and sums['refunded'] == payment.refunded, f'sums are {sums}')
    need(0 <= payment.refunded <= payment.captured
         <= payment.amount - sums['voided'] - sums['expired'],
         'money from nowhere')


def done_event(one, payment):
    """An element of a list of operations, as far as an Event tells the same."""

    need(TIME.match(one['createdAt']) and one['createdAt'] >= payment.created,
         f"createdAt is {one['createdAt']!r}")
    check_in_time(payment, EVENTS[one['type']], one['createdAt'])
    need(set(one) <= {'type', 'version', 'status', 'amount', 'createdAt',
                      'reason', 'reference', 'metadata'},
         f'members {sorted(one)}')

    return Event(EVENTS[one['type']], one['version'], one['status'], None,
                 None, one['amount'], one.get('reason'), one.get('reference'),
                 one.get('metadata'))


def meaning(request):
    """What makes two requests with one key the same one."""

    metadata = tuple(sorted((request.metadata or {}).items()))

    return request._replace(rules=None, key=None, metadata=metadata,
                            forbidden=None)


def moved(payment, request):
    """The payment after a capture, refund or void; None: a conflict."""

    if request.currency not in (None, payment.currency):
        return None

    captured, refunded = payment.captured, payment.refunded

    if request.do == 'void':
        if payment.status == 'AUTHORIZED':
            status = 'VOIDED'
        elif (payment.status == 'PARTIALLY_CAPTURED'
              and request.rules.void_remainder):
            status = 'CAPTURED'
        else:
            return None
        amount = payment.amount - captured

    elif request.do == 'capture':
        left = payment.amount - captured
        amount = left if request.amount is None else request.amount

        if payment.status not in ('AUTHORIZED', 'PARTIALLY_CAPTURED') \
                or not 1 <= amount <= left:
            return None

        captured += amount
        status = ('CAPTURED' if request.final or captured == payment.amount
                  else 'PARTIALLY_CAPTURED')

    else:
        left = captured - refunded
        amount = left if request.amount is None else request.amount

        if payment.status not in ('PARTIALLY_CAPTURED', 'CAPTURED',
                                  'PARTIALLY_REFUNDED') \
                or not 1 <= amount <= left:
            return None

        refunded += amount
        status = ('REFUNDED' if refunded == captured
                  else 'PARTIALLY_REFUNDED')

    return done(payment, request.do, captured, refunded, amount, status,
                request.reason, request.reference, request.metadata)


def done(payment, do, captured, refunded, amount, status, reason=None,
         reference=None, metadata=None):
    """The payment with one event more."""

    version = payment.version + 1
    event = Event(EVENTS[do], version, status, captured, refunded, amount,
                  reason, reference, metadata)
    after = payment._replace(status=status, captured=captured,
                             refunded=refunded, version=version, updated=None,
                             events=payment.events + (event,))

    check_sums(after)
    return after


def check_payment(payment, do, response, **more):
    """The answer shows this payment, as an answer to that call; more: members
    that it has besides, if they are not None."""

    need(response.status == 200, f'{response} instead of {payment}')
    need(response.header('content-type') == 'application/json',
         'no JSON by type')
    need(response.header('idempotent-replayed') is None,
         'said to be a replay, and is none')

    body = response.json()

    if do == 'get':
        more |= {'merchantId': payment.merchant,
                 'metadata': payment.events[0].metadata}

    need(body.pop('message', None), 'no message')
    check_members(payment, do, body, ledgerEntries=[], **more)
    return body


def check_members(payment, do, body, **more):
    """What is shown of this payment wherever it is shown, and no more."""

    expected = {
        'paymentId': payment.id, 'status': payment.status,
        'amount': payment.amount, 'currency': payment.currency,
        'capturedAmount': payment.captured,
        'refundedAmount': payment.refunded, 'createdAt': payment.created,
        'expiresAt': payment.expires, **more
    }

    if do in READS:
        expected['version'] = payment.version

    expected = {n: v for n, v in expected.items() if v is not None}

    for name, value in expected.items():
        need(body.get(name) == value and type(body[name]) is type(value),
             f'{name} is {body.get(name)!r}, should be {value!r}')

    need(set(body) == set(expected) | ({'updatedAt'} if do in READS else set()),
         f'members {sorted(body)}')
    need(TIME.match(body['createdAt'] or ''), 'createdAt is no time')


# --- concurrent calls

def explain(state, lanes):
    """Finds an order in which the state explains all the answers.

    lanes: for each connection its [(request, response)] in their order. The
    state is left as that order leaves it. Calls that could not be explained
    in any order raise Wrong with the reason that came furthest.
    """

    best = [-1, 'nothing was tried']
    seen = set()
    requests = [request for lane in lanes for request, _ in lane
                if isinstance(request, Request)]
    ids = {request.id for request in requests}
    listed = {request.merchant for request in requests
              if request.do == 'list'}

    def shown():
        return ids.union(*(state.merchants.get(merchant, ())
                           for merchant in listed))

    def reached(places):
        """An answer fixes the sums before and after it, so that the calls that
        are done say what state they lead to, but for what may have expired
        before or after one of them."""

        return places, tuple(
            (id, *((payment.version, payment.late)
                   for payment in state.payments.get(id, ())))
            for id in sorted(shown(), key=str))

    def search(places, done, ends=None):
        here = reached(places)

        if here in seen:
            return False

        open_lanes = [i for i, lane in enumerate(lanes)
                      if places[i] < len(lane)]

        if not open_lanes:
            if ends is None:
                return True

            # another order may leave other possibilities
            ends.append({id: state.payments[id] for id in shown()
                         if id in state.payments})
            seen.add(here)
            return False

        for i in open_lanes:
            request, response = lanes[i][places[i]]

            try:
                changes = state.accept(request, response)
            except Wrong as e:
                if done > best[0]:
                    best[:] = [done, f'{request}: {e}']
                continue

            before = [(where, key, where.get(key)) for where, key, _ in changes]

            for where, key, value in changes:
                where[key] = value

            after = places[:i] + (places[i] + 1,) + places[i + 1:]

            if search(after, done + 1, ends):
                return True

            for where, key, value in reversed(before):
                if value is None:
                    del where[key]
                else:
                    where[key] = value

        seen.add(here)
        return False

    start = (0,) * len(lanes)
    ends = []

    if depends_on_order(state, lanes):
        search(start, 0, ends)
        seen.clear()

    if not search(start, 0):
        raise Wrong(best[1])

    for end in ends:
        for id, possible in end.items():
            state.payments[id] = united(state.payments[id] + possible)


def depends_on_order(state, lanes):
    """Whether a payment is known to have expired may depend on the order that
    is taken, and not every order that explains the answers says the same."""

    return len(lanes) > 1 and any(
        isinstance(request, Request) and response.status == 200
        and (request.do == 'list' and set(request.page.statuses) != STATUSES
             or request.do == 'refund' and ends_what_may_expire(state, request))
        for lane in lanes for request, response in lane)


def ends_what_may_expire(state, refund):
    return any(payment.expires is not None and payment.status in OPEN
               for payment in state.payments.get(refund.id, ()))


def united(possible):
    """Each version once, with what is known of it in any case: two of the same
    version have the same events."""

    by_version = {}

    for payment in possible:
        other = by_version.setdefault(payment.version, payment)
        by_version[payment.version] = other._replace(
            late=other.late and payment.late,
            updated=other.updated if other.updated == payment.updated
            else None)

    return tuple(by_version.values())
