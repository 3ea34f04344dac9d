"""Random programs of API calls, made from a seed, and what runs them.

A program is plain data: a list of steps, a step a list of lanes, a lane a list
of calls that one connection sends at once, without waiting for answers. One
lane with one call is the quiet case, several are a race. The call `wait` waits
until a payment's lifetime is over, or nearly. What is only known
when it runs is written symbolically: `@@` in a text is the run's own tag (so
that a program can run again beside its own past), `pay` is the number of a
payment that an earlier step made.

    generate(seed)          the program
    Runner(..).run(program) runs it; raises Failure with the step that is wrong
    shrink(program, fails)  a smaller one that still fails
"""

import collections
import datetime
import json
import random
import time
import urllib.parse

from . import model
from .client import Connection, request
from .service import NOBODY

STEPS = 40              # in a program
CONNECTIONS = 3         # to each worker of each node
KEPT_ANSWERS = 6        # steps before a failure that its report shows
RACES_AT_THE_END = 4    # on a payment whose lifetime is about to end
WAIT_MAX_S = 5          # for that end

# seconds of an authorization's lifetime, by currency; see CONFIG
LIFETIMES = {'USD': 1, 'JPY': 3, 'BHD': 3600}

# location -> what its directives say; see CONFIG
LOCATIONS = {
    '/api/payments': model.Rules(lifetimes=LIFETIMES, lists=True),
    '/conflict': model.Rules(replay=False, lifetimes=LIFETIMES),
    '/strict': model.Rules(refuse_unknown=True, max_amount=5000,
                           currencies=('KRW', 'USD')),
    '/known': model.Rules(identity=True, void_remainder=True,
                          lifetimes=LIFETIMES, lists=True),
}

# A disk that stands still for a second is no failure here, as it would be to a
# client: what is slow is waited for.

CONFIG = """
    map $payment_currency $lifetime {
        USD  1s;
        JPY  3s;
        BHD  1h;
    }

    payment_queue_timeout 10s;
    payment_timeout 12s;
    payment_operations on;
    payment_authorization_lifetime $lifetime;

    server {
        listen 127.0.0.1:$PORT reuseport;
        add_header X-Worker $pid always;
        keepalive_requests 1000000;
        keepalive_timeout 300s;

        location /api/payments {
            payment_api;
            payment_list on;
        }

        location /conflict {
            payment_api;
            payment_idempotency_replay conflict;
        }

        location /strict {
            payment_api;
            payment_unknown_members refuse;
            payment_max_amount 5000;
            payment_currencies KRW USD;
            payment_authorization_lifetime 0;
        }

        location /known {
            payment_api;
            payment_merchant $http_x_merchant;
            payment_void_remainder on;
            payment_list on;
        }
    }
"""


class Failure(Exception):
    """A step's answers that no order explains."""


# --- generating

MERCHANTS = ['@@-a', '@@-b', '@@-쇼핑몰', '@@ c\'"\\;--']
KEYS = ['k1', 'k2', 'k3', 'order-4711', 'K1', 'k1 ', 'é-ключ-鍵', '"quoted"',
        'back\\slash', "'; DROP TABLE payment; --", 'k' * 64]
REASONS = ['CUSTOMER_REQUEST', 'x', 'two\nlines\tand a tab', 'r' * 128,
           'Rückgabe 반품 🙂', '";\\u0000']
REFERENCES = ['r-1', 'r-2', 'x' * 64, '참조' * 32, '" \\ \'; --']
METADATA = [{'order': '17'}, {'a': '1', 'b': '2'}, {'b': '2', 'a': '1'}, {},
            {'ü' * 20: '€' * 166}, {f'm{i}': 'v' * 20 for i in range(20)},
            {'quote"': 'back\\slash', 'line': 'one\ntwo'}]

# raw JSON for a member's value that is not right
WRONG = {
    'merchantId': ['""', '" "', '17', 'null', '["@@-a"]', '"@@\\u0007"',
                   '"' + 'm' * 33 + '"', '"@@\\u0000"', '"\\u3000"'],
    'amount': ['0', '-1', '1.0', '1e3', '"10"', 'null', 'true', '[1]',
               '9007199254740992', '9223372036854775808', '1' * 40, '-0',
               '01', '0x10', 'NaN', '1e400'],
    'currency': ['""', '"krw"', '"KR"', '"KRWW"', '"XAU"', '"AAA"', '410',
                 'null', '"K\\u0000W"'],
    'final': ['1', '"true"', 'null', '[]'],
    'idempotencyKey': ['""', '"  "', '"' + 'k' * 65 + '"', '5', '"\\n"',
                       '{}'],
    'reason': ['""', '"' + 'r' * 129 + '"', 'null', '3', '"\\u0001"',
               '" \\t"'],
    'reference': ['""', '" "', '"' + 'r' * 65 + '"', 'null', '4', '"\\n"',
                  '"\\u0000"', '["r"]'],
    'metadata': ['[]', '"x"', '{"a":1}', '{"":"x"}', '{"a":null}',
                 '{"' + 'n' * 41 + '":"x"}', '{"a":"' + 'v' * 501 + '"}',
                 '{' + ','.join(f'"m{i}":""' for i in range(21)) + '}',
                 '{"a":"1","a":"2"}', '{"a":"\\u0002"}'],
}

BODIES = ['', ' ', '{', '[]', 'null', '"x"', '{}', '{"merchantId"}', '{]',
          '{"merchantId":"@@-a",}', '{} {}', '\ufeff{}', '{"a":"\\ud800"}',
          '[' * 3000, '{"a":' * 1000, '{"a":tru}', "{'a':1}",
          '{"merchantId":"@@-a","merchantId":"@@-a"}',
          '{"a":{"b":1,"b":2}}', '{"\\u0000":1}', 'x' * 9000]

# of a list: values that are right, and values that are not; @made is the time of
# a payment
LISTED = {
    'status': (['AUTHORIZED', 'CAPTURED', 'VOIDED,REFUNDED',
                'PARTIALLY_CAPTURED,AUTHORIZED,CAPTURED'],
               ['', 'authorized', 'CAPTURED,', 'EXPIRED']),
    'currency': (['KRW', 'KRW', 'USD', 'BHD'], ['', 'krw', 'AAA', 'KRWW']),
    'amountMin': (['1', '10', '11', '1000'], ['0', '-1', '1.5', '', '1' * 40]),
    'amountMax': (['1000', '10', '9007199254740991'],
                  ['0', 'x', ' 10', '9007199254740992']),
    'createdFrom': (['@made'], ['', 'now', '2026-02-30T00:00:00Z', '0']),
    'createdTo': (['@made', '@made', '2099-01-01T00:00:00.000Z'],
                  ['', '2026-11-22', '2026-11-22T10:00:00+00:00']),
    'limit': (['1', '2', '2', '3', '5', '100'], ['0', '101', '', 'x', '-1']),
    'cursor': (['@next'], ['', 'x', 'A' * 32, 'A' * 33]),
    'note': (['1'], ['']),       # which nobody looks at
}

TYPES = ['text/plain', 'application/jsonx', 'application/problem+json',
         'application/x-www-form-urlencoded', 'application']

GOOD_TYPES = ['application/json', 'application/json; charset=utf-8',
              'Application/JSON;charset="utf-8"', 'application/json ']


class Generator:
    """Calls, weighted towards those that meet each other."""

    def __init__(self, seed):
        self.random = random.Random(f'payments {seed}')
        self.made = []                  # calls, to be repeated
        self.payments = 0               # that authorize has tried to make
        self.owners = {}                # payment number -> its merchant
        self.keys = []                  # (merchant, key) of calls
        self.lists = []                 # (merchant, filters) of calls

    def chance(self, p):
        return self.random.random() < p

    def pick(self, values):
        return self.random.choice(values)

    def program(self):
        steps = [self.step() for _ in range(STEPS)]

        if self.chance(0.5):
            place = self.random.randrange(STEPS)
            steps[place:place] = self.end_of_lifetime()

        return steps

    def end_of_lifetime(self):
        """Calls about a payment that expires now, just before, just after, or
        has been swept, perhaps."""

        pay = self.payments
        at = '/known' if self.chance(0.3) else '/api/payments'
        authorize = self.call(do='authorize', plain=True)
        authorize['at'] = at
        authorize['members'] = [m for m in authorize['members'] if m[0] not in
                                ('merchantId', 'currency', 'amount')] + [
            ['merchantId', json.dumps(authorize['merchant'])],
            ['currency', '"USD"'], ['amount', '20']]
        wait = {'do': 'wait', 'pay': pay,
                'ms': self.pick([-20, -5, 0, 0, 20, 300, 1200])}
        steps = [[[authorize]]]

        if self.chance(0.5):
            steps.append([[self.call(do='capture', pay=pay, plain=True)]])

        return [*steps, [[wait]], *(self.lanes(self.on_one(pay))
                                    for _ in range(RACES_AT_THE_END))]

    def step(self):
        if self.payments == 0 or self.chance(0.6):
            return [[self.call()]]

        return self.lanes(self.race())

    def lanes(self, calls):
        self.random.shuffle(calls)
        lanes = [[] for _ in range(self.random.randint(2, 8))]

        for i, call in enumerate(calls):
            lane = lanes[i % len(lanes)]
            lane.append(call)

        return [lane for lane in lanes if lane]

    def race(self):
        """2 to 8 calls that are about the same thing."""

        n = self.random.randint(2, 8)
        shape = self.random.randrange(6)
        pay = self.payment()

        if shape == 0:                              # one call n times
            return [self.call()] * n

        if shape == 1:                              # one key, n bodies
            key = self.pick(KEYS)
            merchant = self.merchant_of(pay)
            return [self.lookup(merchant, key) if self.chance(0.2)
                    else self.call(merchant=merchant, key=key, pay=pay)
                    for _ in range(n)]

        if shape == 2:                              # n partial captures
            return [self.call(do='capture', pay=pay, plain=True)
                    for _ in range(n)]

        if shape == 3:                              # everything on one payment
            return self.on_one(pay)

        if shape == 4:                              # many new payments
            return [self.call(do='list' if self.chance(0.2) else 'authorize')
                    for _ in range(n)]

        return [self.call() for _ in range(n)]

    def on_one(self, pay):
        words = ['capture', 'capture', 'refund', 'refund', 'get',
                 'operations', 'list']
        return [self.call(do='void' if self.chance(0.05)
                          else self.pick(words), pay=pay, plain=True)
                for _ in range(self.random.randint(2, 8))]

    def payment(self):
        """The number of a payment, most likely of the last ones."""

        if self.payments == 0:
            return 0

        return max(0, self.payments - 1
                   - int(self.random.expovariate(0.5)))

    def merchant_of(self, pay):
        return self.owners.get(pay, MERCHANTS[0])

    def call(self, do=None, merchant=None, key=None, pay=None, plain=False):
        if do is None and key is None and self.made and self.chance(0.15):
            return self.repeated()

        if do is None:
            do = self.random.choices(
                ['authorize', 'capture', 'refund', 'void', 'get', 'lookup',
                 'operations', 'list'],
                [20, 28, 25, 6, 8, 4, 4, 5])[0]

        if do == 'lookup':
            return self.lookup()

        if do == 'list':
            return self.listing(self.merchant_of(self.payment()
                                                 if pay is None else pay))

        if pay is None:
            pay = self.payment()

        if do != 'authorize' and self.payments == 0:
            pay = 'nobody'

        if not plain and self.chance(0.03):
            pay = self.pick(['nobody', 'junk', 'short'])

        if merchant is None:
            merchant = (self.pick(MERCHANTS[:2 if self.chance(0.8) else 4])
                        if do == 'authorize' or not plain and self.chance(0.05)
                        else self.merchant_of(pay))

        call = {'do': do, 'method': 'GET' if do in model.READS else 'POST',
                'at': self.random.choices(list(LOCATIONS), [70, 10, 10, 10])[0],
                'pay': pay, 'merchant': merchant, 'headers': []}

        if do == 'operations' and self.chance(0.3):
            call['cursor'] = self.pick(['1', '2', '3', '4', '20', '0', '',
                                        'x'])

        if do in ('get', 'operations'):
            call['query'] = not self.chance(0.05)
            if self.chance(0.1):
                call['method'] = 'HEAD'
            return call

        if call['at'] == '/known' and self.chance(0.2):
            call['identity'] = self.pick(['', ' ', '@@-a', 'm' * 33])

        call['members'] = self.members(call, key, plain)

        if not plain and self.chance(0.12):
            self.spoil(call)

        if do == 'authorize':
            call['number'] = self.payments
            self.owners[self.payments] = merchant
            self.payments += 1

        self.made.append(call)
        return call

    def lookup(self, merchant=None, key=None):
        """What became of a key, most likely of one of the last calls."""

        if key is None:
            merchant, key = self.pick(self.keys[-6:] or [(MERCHANTS[0], 'k1')])

        if self.chance(0.05):
            key = self.pick(['nobodys', '', ' ', 'k' * 65])

        if self.chance(0.05):
            merchant = self.pick(MERCHANTS)

        call = {'do': 'lookup', 'method': 'HEAD' if self.chance(0.1) else 'GET',
                'at': self.random.choices(list(LOCATIONS), [70, 10, 10, 10])[0],
                'pay': 'nobody', 'merchant': merchant, 'headers': [],
                'query': not self.chance(0.05)}

        if self.chance(0.03):
            call['method'] = self.pick(['POST', 'PUT'])

        keyed = {}
        self.put_key(call, keyed, key)

        if keyed:
            call['query_key'] = key

        return call

    def listing(self, merchant):
        """A page, or the one behind it: with @next, if there was one."""

        more = []

        if self.lists and self.chance(0.5):
            merchant, more = self.pick(self.lists[-4:])
            more = [*more, ['cursor', '@next']]

            if self.chance(0.1):
                more[:1] = []

        else:
            for name, (right, _) in LISTED.items():
                if name != 'cursor' and self.chance(0.2):
                    more.append([name, self.pick(right)])

            if {'amountMin', 'amountMax'} & {name for name, _ in more} \
                    and self.chance(0.8):
                more = [one for one in more if one[0] != 'currency']
                more.append(['currency', self.pick(LISTED['currency'][0])])

            self.lists.append((merchant, more))

        if self.chance(0.1):
            name = self.pick(list(LISTED))
            more = [one for one in more if one[0] != name]
            more.append([name, self.pick(LISTED[name][1])])

        return {'do': 'list', 'method': 'HEAD' if self.chance(0.05) else 'GET',
                'at': self.random.choices(list(LOCATIONS), [60, 5, 5, 30])[0],
                'pay': self.payment(), 'merchant': merchant, 'headers': [],
                'query': True, 'more': more}

    def members(self, call, key, plain):
        do = call['do']
        members = {'merchantId': json.dumps(call['merchant'],
                                            ensure_ascii=self.chance(0.5))}

        if do == 'authorize':
            members['amount'] = str(self.pick([1, 3, 5, 10, 10, 15, 20, 20,
                                               30, 1000, 5000, 5001,
                                               model.AMOUNT_MAX]))
            members['currency'] = json.dumps(self.pick(
                ['KRW', 'KRW', 'KRW', 'USD', 'USD', 'JPY', 'BHD']))

        elif do != 'void' and self.chance(0.9):
            members['amount'] = str(self.pick([1, 1, 1, 2, 2, 3, 5, 9, 10]))

        if do in ('capture', 'refund') and not plain and self.chance(0.1):
            members['currency'] = self.pick(['"KRW"', '"USD"'])

        if do == 'capture' and self.chance(0.15):
            members['final'] = self.pick(['true', 'true', 'false'])

        if do == 'refund':
            members['reason'] = json.dumps(self.pick(REASONS))

        if do != 'authorize' and self.chance(0.2):
            members['reference'] = json.dumps(self.pick(REFERENCES))

        if self.chance(0.2):
            members['metadata'] = json.dumps(self.pick(METADATA))

        if key is None and (do == 'authorize' or self.chance(0.3)):
            key = (self.pick(KEYS) if self.chance(0.15)
                   else f'k-{self.random.randrange(10 ** 9)}')

        if key is not None:
            self.put_key(call, members, key)
            self.keys.append((call['merchant'], key))

        if self.chance(0.05):
            members[self.pick(['note', 'reason', 'amount ', ''])] = '1'

        if call['at'] == '/known' and self.chance(0.5):
            del members['merchantId']

        names = list(members)
        self.random.shuffle(names)

        return [[name, members[name]] for name in names]

    def put_key(self, call, members, key):
        """In the body, or in the header as a string or a token, or both."""

        quoted = '"' + key.replace('\\', '\\\\').replace('"', '\\"') + '"'
        place = self.random.randrange(6)

        if place in (0, 1) and key.isascii():
            bare = place == 0 and key.isalnum()
            call['headers'].append(['Idempotency-Key',
                                    key if bare else quoted])

        if place != 0 or not key.isascii():
            members['idempotencyKey'] = json.dumps(key)

    def spoil(self, call):
        """Makes the call wrong in one way, or two."""

        way = self.random.randrange(10)
        members = call['members']

        if way <= 4:
            name = self.pick([n for n in model.MEMBERS[call['do']]])
            members[:] = [m for m in members if m[0] != name]
            if self.chance(0.8):
                members.append([name, self.pick(WRONG[name])])

        elif way == 5:
            call['body'] = self.pick(BODIES)

        elif way == 6:
            call['type'] = self.pick(TYPES)

        elif way == 7:
            call['method'] = self.pick(['GET', 'PUT', 'DELETE', 'PATCH',
                                        'OPTIONS', 'HEAD'])

        elif way == 8:
            call['headers'].append(['Idempotency-Key', self.pick(
                ['', '""', '"a" "b"', 'a,b', '"open', 'a b', '"é"',
                 '"' + 'k' * 256 + '"', 'other', '"a\\x"'])])

        else:
            call['do'] = self.pick(['authorise', 'captures', 'voids'])
            call['pay'] = 'nobody'

    def repeated(self):
        """An earlier call again: the same, or written otherwise, or not."""

        call = dict(self.pick(self.made[-12:]))

        if 'members' in call:
            call['members'] = [list(m) for m in call['members']]
            self.random.shuffle(call['members'])

            if self.chance(0.3):
                call['space'] = True
            if self.chance(0.2):
                call['at'] = self.pick(list(LOCATIONS))
            if self.chance(0.2):
                for member in call['members']:
                    if member[0] == 'amount':
                        member[1] = str(self.random.randint(1, 12))

        return call


def generate(seed):
    return Generator(seed).program()


# --- running

def render(call, tag, ids):
    """The bytes of a call, and the model's view of it. ids: of payments by
    their numbers, and cursors by their lists."""

    def filled(text):
        return text.replace('@@', tag)

    merchant = filled(call['merchant'])
    id = {'nobody': NOBODY, 'junk': 'x' * 36, 'short': 'x'}.get(call['pay'])

    if id is None:
        id = ids.get(call['pay'], NOBODY)

    if call['do'] == 'authorize':
        target = f"{call['at']}/authorize"
    elif call['do'] == 'get':
        target = f"{call['at']}/{id}"
    elif call['do'] == 'operations':
        target = f"{call['at']}/{id}/operations"
    elif call['do'] in ('lookup', 'list'):
        target = f"{call['at']}/"
    else:
        target = f"{call['at']}/{call['do']}/{id}"

    arguments = {}

    if call.get('query'):
        arguments['merchantId'] = merchant

    if 'query_key' in call:
        arguments['idempotencyKey'] = call['query_key']

    if 'cursor' in call:
        arguments['cursor'] = call['cursor']

    more = {}

    for name, value in call.get('more', ()):
        if value == '@made':
            value = made(id)

        if value == '@next':
            value = ids.get(listed(call))

        if value is not None:
            more[name] = value

    arguments |= more

    if arguments:
        target += '?' + urllib.parse.urlencode(arguments)

    headers = [tuple(h) for h in call['headers']]
    rules = LOCATIONS[call['at']]

    identity = filled(call.get('identity', call['merchant']))

    if rules.identity:
        headers.append(('X-Merchant', identity))

    body = b''

    if 'members' in call:
        headers.append(('Content-Type', call.get('type', 'application/json')))
        space = ' \n\t' if call.get('space') else ''
        body = filled(call['body'] if 'body' in call else
                      '{' + space + f',{space}'.join(
                          json.dumps(n) + f':{space}' + v
                          for n, v in call['members']) + space + '}').encode()

    data = request(call['method'], target, body if 'members' in call else None,
                   [(n, latin(v)) for n, v in headers])

    return data, model.Call(call['method'], call['do'], id,
                            arguments.get('merchantId'),
                            identity if rules.identity else None,
                            headers, body, rules, call.get('query_key'),
                            call.get('cursor'), more)


def made(id):
    """When a payment was made, to the millisecond: its id begins with it."""

    time = datetime.datetime.fromtimestamp(
        int(id.replace('-', '')[:12], 16) / 1000, datetime.timezone.utc)

    return time.strftime('%Y-%m-%dT%H:%M:%S.%f')[:23] + 'Z'


def listed(call):
    """What a cursor of this list is known by in the program."""

    return (call['merchant'],
            *(tuple(one) for one in call['more']
              if one[0] not in ('limit', 'cursor', 'note')))


def latin(text):
    """UTF-8 bytes as a text that latin-1 turns back into them."""

    return text.encode().decode('latin-1')


Answered = collections.namedtuple('Answered', 'data request response')


class Runner:
    """Connections to all workers, and the state that programs leave.

    ports: one for each node, an nginx with that many workers.
    """

    def __init__(self, ports, workers, tag):
        self.tag = tag
        self.runs = 0
        self.operations = 0
        self.races = 0
        self.statuses = collections.Counter()
        self.state = model.State()
        nodes = [self.connect(port, workers) for port in ports]

        # neighbours are on different nodes, and workers
        self.lanes = [c for turn in zip(*nodes) for c in turn]

    @staticmethod
    def connect(port, workers):
        """The same number of connections to each worker, by turns."""

        found = collections.defaultdict(list)

        for _ in range(1000):
            connection = Connection(port)
            pid = connection.request('GET', '/none').header('x-worker')

            if len(found[pid]) < CONNECTIONS:
                found[pid].append(connection)
            else:
                connection.close()

            if len(found) == workers and all(
                    len(c) == CONNECTIONS for c in found.values()):
                return [c for pair in zip(*found.values()) for c in pair]

        raise AssertionError(f'connections to {len(found)} workers only')

    def close(self):
        for connection in self.lanes:
            connection.close()

    def run(self, program):
        """Runs it with merchants of its own; returns their common tag."""

        self.runs += 1
        tag = f'{self.tag}-{self.runs}'
        ids = {}
        recent = collections.deque(maxlen=KEPT_ANSWERS)

        for number, step in enumerate(program):
            if step[0][0]['do'] == 'wait':
                self.wait(step[0][0], ids)
                continue

            lanes = self.send(step, tag, ids, number)
            recent.append(lanes)

            try:
                model.explain(self.state, [
                    [(a.request, a.response) for a in lane] for lane in lanes])
            except model.Wrong as e:
                raise Failure(f'step {number}: {e}\n{told(recent)}') from e

            self.learn(step, lanes, ids)

        return tag

    def wait(self, call, ids):
        """Until so long after the end of the payment's lifetime, if it has
        one."""

        for payment in self.state.payments.get(ids.get(call['pay']), ())[:1]:
            if payment.expires is not None:
                end = datetime.datetime.fromisoformat(payment.expires)
                left = end.timestamp() + call['ms'] / 1000 - time.time()
                time.sleep(min(max(left, 0), WAIT_MAX_S))

    def send(self, step, tag, ids, number):
        """All lanes at once; then the answers."""

        connections = [self.lanes[(number + i) % len(self.lanes)]
                       for i in range(len(step))]
        lanes = [[render(call, tag, ids) for call in lane] for lane in step]

        for connection, rendered in zip(connections, lanes):
            connection.send(b''.join(data for data, _ in rendered))

        self.races += len(step) > 1
        answers = []

        for connection, rendered in zip(connections, lanes):
            answers.append([])

            for data, call in rendered:
                response = connection.read(call.method)
                self.operations += 1
                self.statuses[response.status] += 1
                answers[-1].append(Answered(data, model.read(call), response))

        return answers

    @staticmethod
    def learn(step, lanes, ids):
        """Payments are numbered as the generator numbered them; of a list, the
        last cursor is kept."""

        for calls, lane in zip(step, lanes):
            for call, answered in zip(calls, lane):
                if answered.response.status != 200 \
                        or answered.response.method == 'HEAD':
                    continue

                if call['do'] == 'authorize':
                    ids[call['number']] = answered.response.json()['paymentId']

                if call['do'] == 'list':
                    ids[listed(call)] = answered.response.json().get(
                        'nextCursor')


def told(steps):
    """The last steps, to be read by a person."""

    lines = []

    for lanes in steps:
        for i, lane in enumerate(lanes):
            for a in lane:
                target = a.data.split(b'\r\n', 1)[0].decode('latin-1')
                body = a.data.split(b'\r\n\r\n', 1)[1]
                lines.append(f'  {i}: {target} {body[:400]!r}\n'
                             f'     {a.response}')
        lines.append('  --')

    return '\n'.join(lines)


# --- shrinking

def shrink(program, fails, tries=200):
    """Drops steps, lanes and calls while the rest still fails."""

    def smaller(items):
        size = max(1, len(items) // 2)

        while size:
            for start in range(0, len(items), size):
                yield items[:start] + items[start + size:]
            size //= 2

    def variants(program):
        yield from smaller(program)

        for i, step in enumerate(program):
            for lanes in smaller(step) if len(step) > 1 else ():
                yield program[:i] + [lanes] + program[i + 1:]

            for j, lane in enumerate(step):
                for calls in smaller(lane) if len(lane) > 1 else ():
                    yield (program[:i] + [step[:j] + [calls] + step[j + 1:]]
                           + program[i + 1:])

    progress = True

    while progress:
        progress = False

        for candidate in variants(program):
            if tries == 0:
                return program

            tries -= 1

            if candidate and fails(candidate):
                program = candidate
                progress = True
                break

    return program
