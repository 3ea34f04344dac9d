"""The description that payment_openapi serves is true of the API.

schemathesis makes its cases from the description, right and wrong ones, single
and in chains along the links, and applies all its checks. Besides, every
status that the description names is provoked, and the answer must be as
described.

  PAYMENT_TEST_EXAMPLES   cases for each operation and phase
                          (25; with PAYMENT_TEST_LONG 1000)
  PAYMENT_TEST_SEED       schemathesis' seed
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys

import jsonschema_rs
import pytest

from .service import NOBODY, ROOT, Nginx, read, record

LONG = bool(os.environ.get('PAYMENT_TEST_LONG'))
EXAMPLES = int(os.environ.get('PAYMENT_TEST_EXAMPLES', 1000 if LONG else 25))
SEED = os.environ.get('PAYMENT_TEST_SEED', '1')
SECONDS = 3000 if LONG else 120

FILE = os.path.join(ROOT, 'ngx_payment_module', 'http', 'openapi.json')
INDEX = os.path.join(ROOT, 'sql', 'optional', 'merchant_index.sql')
HOOKS = os.path.join(ROOT, 't', 'schemathesis')

CONFIG = """
    log_format codes '$status $request_method $uri';

    payment_queue_timeout 10s;
    payment_timeout 12s;
    payment_operations on;
    payment_list on;

    limit_req_zone $http_x_merchant zone=slow:1m rate=1r/m;
    limit_req_status 429;

    server {
        listen 127.0.0.1:$PORT reuseport;
        access_log logs/codes.log codes;

        # what nginx answers by itself, before there is a location: to TRACE
        add_header Allow "GET, HEAD, POST" always;

        location = /openapi.json { payment_openapi; }

        location /api/payments {
            add_header X-Worker $pid always;
            payment_unknown_members refuse;
            payment_api;
        }

        location /known {
            payment_merchant $http_x_merchant;
            payment_api;
        }

        location /conflict {
            payment_idempotency_replay conflict;
            payment_api;
        }

        location /limited {
            limit_req zone=slow;
            error_page 429 @limited;
            payment_api;
        }

        location @limited {
            payment_problem RATE_LIMIT_EXCEEDED;
        }
    }
"""

# cannot be provoked in a healthy system: t/fault/ and t/unavailable.t do
UNHEALTHY = {'503', '504'}

numbers = itertools.count()


@pytest.fixture(scope='module')
def nginx(database):
    database.execute(read(INDEX))
    made = Nginx('openapi', database.shard() + CONFIG)
    yield made
    made.close()


@pytest.fixture(scope='module')
def description():
    with open(FILE, encoding='utf-8') as file:
        return json.load(file)


def test_the_server_gives_the_file(nginx, description):
    with nginx.connection() as c:
        get = c.request('GET', '/openapi.json')
        head = c.request('HEAD', '/openapi.json')
        post = c.request('POST', '/openapi.json', b'{}')

    assert (get.status, head.status, post.status) == (200, 200, 405)
    assert get.json() == description
    assert get.header('content-type') == 'application/openapi+json'
    assert head.header('content-length') == str(len(get.body))


def complaints(document, place, tool='lint.js'):
    """What Redocly's recommended rules, or another tool, say of it, as text."""

    place.write_bytes(document)
    done = subprocess.run(
        ['node', os.path.join(ROOT, 't', 'node', tool), place],
        env=dict(os.environ,
                 NODE_PATH=os.path.join(ROOT, 'build', 'node',
                                        'node_modules')),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=60)

    assert done.returncode in (0, 1), done.stdout
    return done.stdout if done.returncode else ''


def test_linter_has_nothing_to_say(nginx, tmp_path):
    with nginx.connection() as c:
        served = c.request('GET', '/openapi.json').body

    assert complaints(served, tmp_path / 'openapi.json') == ''

    # which it would, of an operation without a name
    other = re.sub(rb'"operationId": *"capture\w*",', b'', served)
    assert other != served
    assert 'operationId' in complaints(other, tmp_path / 'openapi.json')


def test_asyncapi_is_understood(tmp_path):
    """By AsyncAPI's own parser, which would say so of what it does not know."""

    with open(FILE.replace('openapi', 'asyncapi'), 'rb') as file:
        events = file.read()

    place = tmp_path / 'asyncapi.json'
    assert complaints(events, place, 'asyncapi.js') == ''

    other = events.replace(b'"action": "send"', b'"action": "shout"')
    assert other != events
    assert 'action' in complaints(other, place, 'asyncapi.js')


# --- every answer that is described

def operations(description):
    for path, methods in description['paths'].items():
        for method, operation in methods.items():
            if method in ('get', 'post'):
                yield path, method.upper(), operation


def resolved(description, node):
    while '$ref' in node:
        target = description
        for name in node['$ref'].removeprefix('#/').split('/'):
            target = target[name.replace('~1', '/')]
        node = target
    return node


class Provoke:
    """A request for each operation and status; see `call`."""

    def __init__(self, connection, database, path, method):
        self.connection = connection
        self.database = database
        self.path = path
        self.method = method
        self.name = path.split('/')[1]          # authorize, capture, ..
        self.key = None                         # of the last authorize

    def authorized(self):
        body = self.authorize()
        self.key = body['idempotencyKey']

        return self.connection.request(
            'POST', '/api/payments/authorize', body).json()['paymentId']

    @staticmethod
    def authorize():
        return {'merchantId': 'M1', 'amount': 100, 'currency': 'KRW',
                'idempotencyKey': f'o-{next(numbers)}'}

    def body(self, **members):
        if self.name == 'authorize':
            return {**self.authorize(), **members}

        more = {'reason': 'why'} if self.name == 'refund' else {}
        return {'merchantId': 'M1', **more, **members}

    def target(self, at, id):
        if self.path == '/':
            return f'{at}/?merchantId=M1&idempotencyKey={self.key}'

        path = self.path.replace('{paymentId}', id)
        return at + path + ('?merchantId=M1' if self.method == 'GET' else '')

    def send(self, at='/api/payments', id=None, headers=(), method=None,
             **members):
        id = id or self.authorized()
        method = method or self.method
        body = None if self.method == 'GET' else self.body(**members)

        return self.connection.request(method, self.target(at, id), body,
                                       headers)

    def captured(self):
        id = self.authorized()
        self.connection.request('POST', f'/api/payments/capture/{id}',
                                {'merchantId': 'M1'})
        return id

    def call(self, status):
        return getattr(self, f'call_{status}')()

    def call_200(self):
        return self.send(id=self.captured() if self.name == 'refund' else None)

    def call_400(self):
        if self.method == 'GET':
            return self.connection.request('GET', f'/api/payments/{NOBODY}')
        return self.send(merchantId=17)

    def call_401(self):
        return self.send(at='/known')

    def call_403(self):
        return self.send(at='/known', headers=[('X-Merchant', 'M2')])

    def call_404(self):
        self.key = 'nobodys'
        return self.send(id=NOBODY)

    def call_405(self):
        return self.send(method='DELETE')

    def call_409(self):
        if self.name == 'authorize':
            members = self.body()
            self.send(at='/conflict', **members)
            return self.send(at='/conflict', **members)

        id = self.captured()

        if self.name == 'refund':
            self.send(id=id)

        return self.send(id=id)

    def call_410(self):
        if self.path == '/':
            self.remove(self.authorized())
            return self.connection.request(
                'GET', self.target('/api/payments', None))

        id = self.captured() if self.name == 'refund' else self.authorized()
        members = self.body(idempotencyKey=f'o-{next(numbers)}')
        first = self.send(id=id, **members)
        self.remove(first.json()['paymentId'])
        return self.send(id=id, **members)

    def remove(self, id):
        self.database.execute('DELETE FROM payment WHERE id = UNHEX(%s)',
                              [id.replace('-', '')])

    def call_413(self):
        return self.send(merchantId='x' * 9000)

    def call_415(self):
        return self.send(headers=[('Content-Type', 'text/plain')])

    def call_422(self):
        key = f'o-{next(numbers)}'
        self.connection.request('POST', '/api/payments/authorize',
                                {**self.authorize(), 'idempotencyKey': key})
        return self.send(idempotencyKey=key, **(
            {'amount': 99} if self.name == 'authorize' else {}))

    def call_429(self):
        merchant = [('X-Merchant', f'M-{next(numbers)}')]
        self.send(at='/limited', headers=merchant)
        return self.send(at='/limited', headers=merchant)


def test_every_answer_that_is_described(nginx, database, description):
    tried = 0

    with nginx.connection() as c:
        for path, method, operation in operations(description):
            for status, answer in operation['responses'].items():
                if status in UNHEALTHY:
                    continue

                response = Provoke(c, database, path, method).call(status)
                where = f'{method} {path} {status}: {response}'

                assert str(response.status) == status, where
                check_described(description, resolved(description, answer),
                                response, where)
                tried += 1

    assert tried >= 40


def test_a_page_is_as_described(nginx, description):
    [path, method, operation] = next(
        one for one in operations(description) if one[:2] == ('/', 'GET'))
    answer = operation['responses']['200']

    with nginx.connection() as c:
        for merchant in ('L1', 'L1', 'L2'):
            made = c.request('POST', '/api/payments/authorize', {
                **Provoke.authorize(), 'merchantId': merchant})
            assert made.status == 200, made

        for query, n, more in (('L1', 2, False), ('L1&limit=1', 1, True),
                               ('L1&status=VOIDED', 0, False)):
            page = c.request('GET', f'/api/payments/?merchantId={query}')
            where = f'{query}: {page}'

            assert page.status == 200, where
            check_described(description, answer, page, where)
            assert len(page.json()['payments']) == n, where
            assert ('nextCursor' in page.json()) == more, where


def check_described(description, answer, response, where):
    kind = response.header('content-type')
    media = resolved(description, answer)['content'][kind]
    schema = {**media['schema'], 'components': description['components']}

    jsonschema_rs.Draft202012Validator(schema, validate_formats=True) \
        .validate(response.json())

    assert response.header('cache-control') == 'no-store', where

    for name, header in answer.get('headers', {}).items():
        if resolved(description, header).get('required'):
            assert response.header(name) is not None, f'{where}: no {name}'


def test_the_examples_of_the_description_work(nginx, description):
    """Each body that it shows, sent as it is shown."""

    with nginx.connection() as c:
        for path, method, operation in operations(description):
            for example in examples(operation):
                id = Provoke(c, None, '/capture/{paymentId}',
                             'POST').authorized()
                merchant = example['merchantId']
                made = c.request('POST', '/api/payments/authorize', {
                    'merchantId': merchant, 'amount': 10 ** 6,
                    'currency': 'KRW', 'idempotencyKey': f'e-{id}'})
                id = made.json()['paymentId']

                if path.startswith('/refund'):
                    c.request('POST', f'/api/payments/capture/{id}',
                              {'merchantId': merchant})

                target = '/api/payments' + path.replace('{paymentId}', id)
                headers = ([] if 'idempotencyKey' in example
                           else [('Idempotency-Key', f'"x-{id}"')])
                response = c.request(method, target, example, headers)

                assert response.status == 200, (target, example, response)


def examples(operation):
    for media in operation.get('requestBody', {}).get('content', {}).values():
        for example in media.get('examples', {}).values():
            yield example['value']


def test_the_limits_of_the_description_are_the_apis(nginx):
    """One request of exactly the largest size in every member."""

    members = {
        'merchantId': '쇼' * 32, 'amount': 2 ** 53 - 1, 'currency': 'BHD',
        'idempotencyKey': '열' * 64,
        'metadata': {f'{i:02}' + 'n' * 38: 'v' * 300 for i in range(20)}}

    with nginx.connection() as c:
        made = c.request('POST', '/api/payments/authorize',
                         json.dumps(members, ensure_ascii=False).encode())
        assert made.status == 200, made

        id = made.json()['paymentId']
        merchant = {'merchantId': members['merchantId']}
        c.request('POST', f'/api/payments/capture/{id}', merchant)
        refunded = c.request('POST', f'/api/payments/refund/{id}',
                             {**merchant, 'reason': '왜' * 128})
        assert refunded.status == 200, refunded


# --- and what nobody thought of

def test_schemathesis(nginx, tmp_path):
    for name in ('hooks.py', 'fresh_keys.py'):
        shutil.copy(os.path.join(HOOKS, name), tmp_path)

    settings = read(os.path.join(HOOKS, 'schemathesis.toml'))
    (tmp_path / 'schemathesis.toml').write_text(
        settings.replace('hooks = "hooks"', 'hooks = "fresh_keys"'))

    workers = nginx.workers()
    log = os.path.join(nginx.prefix, 'logs', 'codes.log')
    before = len(read(log))
    program = os.path.join(os.path.dirname(sys.executable), 'schemathesis')
    ran = subprocess.run(
        [program, 'run', FILE, '--url',
         f'http://127.0.0.1:{nginx.port}/api/payments', '--checks', 'all',
         '--phases', 'examples,coverage,fuzzing,stateful',
         '--max-examples', str(EXAMPLES), '--seed', SEED,
         '--no-color', '--continue-on-failure', '--max-failures', '20'],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=SECONDS)

    assert ran.returncode == 0, ran.stdout[-20000:]

    cases = int(re.search(r'^\s+(\d+) generated', ran.stdout, re.M).group(1))
    statuses = re.findall(r'^(\d+) ', read(log)[before:], re.M)

    result = {'seed': SEED, 'cases': cases, 'requests': len(statuses),
              'statuses': {s: statuses.count(s)
                           for s in sorted(set(statuses))}}

    print('\n' + json.dumps(result))
    assert cases > EXAMPLES
    assert not [s for s in statuses if s >= '500']
    assert nginx.workers() == workers, 'a worker has ended'

    if LONG:
        record('api-schemathesis', result)
