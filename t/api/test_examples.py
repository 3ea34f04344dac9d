"""The files of conf/examples: nginx takes each, and it does what it says.

Each runs as it stands, but for the paths, the port and the database of the
machine that it is meant for.
"""

import glob
import http.server
import itertools
import json
import os
import ssl
import subprocess
import threading

import pytest

from freeport import free_port

from .client import Connection, request
from .service import NOBODY, ROOT, Nginx

EXAMPLES = os.path.join(ROOT, 'conf', 'examples')
KEYS = {'a' * 64: 'MERCHANT-1', 'b' * 64: 'MERCHANT-1', 'c' * 64: 'MERCHANT-2'}

# quicker to make than RSA
CURVE = ('ec', '-pkeyopt', 'ec_paramgen_curve:P-256')

numbers = itertools.count()


def openssl(*arguments, **options):
    subprocess.run(['openssl', *arguments], check=True, timeout=60,
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


class Etc:
    """What the examples expect in /etc/nginx/payment."""

    def __init__(self, path):
        self.path = str(path)

        self.authority('merchants-ca', '/CN=Merchants')
        self.authority('other-ca', '/CN=Others')
        self.certificate('server', '/CN=payments.example.net', 'other-ca')
        self.write('db-password', os.environ['PAYMENT_TEST_DB_PASSWORD'])
        self.write('api-keys.conf', ''.join(
            f'"{key}"  {merchant};\n' for key, merchant in KEYS.items()))

    def file(self, name):
        return os.path.join(self.path, name)

    def write(self, name, text):
        with open(self.file(name), 'w', encoding='utf-8') as file:
            file.write(text + '\n')

    def authority(self, name, subject):
        openssl('req', '-x509', '-newkey', *CURVE, '-nodes', '-days', '2',
                '-subj', subject, '-keyout', self.file(f'{name}.key'),
                '-out', self.file(f'{name}.pem'))

    def certificate(self, name, subject, authority, days='2'):
        openssl('req', '-newkey', *CURVE, '-nodes', '-subj', subject,
                '-utf8', '-keyout', self.file(f'{name}.key'),
                '-out', self.file(f'{name}.csr'))
        openssl('x509', '-req', '-in', self.file(f'{name}.csr'),
                '-CA', self.file(f'{authority}.pem'),
                '-CAkey', self.file(f'{authority}.key'), '-CAcreateserial',
                '-days', days, '-out', self.file(f'{name}.pem'))

    def context(self, certificate=None):
        context = ssl.create_default_context(cafile=self.file('other-ca.pem'))

        # the certificate's name is in its CN, as openssl makes it here
        context.check_hostname = False

        if certificate is not None:
            context.load_cert_chain(self.file(f'{certificate}.pem'),
                                    self.file(f'{certificate}.key'))

        return context


@pytest.fixture(scope='module')
def etc(tmp_path_factory, database):
    return Etc(tmp_path_factory.mktemp('etc'))


def started(name, database, etc, certificate=None, replace=None):
    with open(os.path.join(EXAMPLES, name), encoding='utf-8') as file:
        text = file.read()

    for there, here in (replace or {}).items():
        assert there in text
        text = text.replace(there, here)

    return Nginx(name.removesuffix('.conf'), text,
                 tls=etc.context(certificate), database=database,
                 etc=etc.path)


def authorize(**members):
    return {'amount': 1000, 'currency': 'KRW',
            'idempotencyKey': f'e-{next(numbers)}', **members}


def call(nginx, members=None, headers=(), context=None, method='POST',
         target='/api/payments/authorize'):
    body = None if method == 'GET' else authorize() if members is None \
        else members

    with Connection(nginx.port, context or nginx.tls) as connection:
        return connection.request(method, target, body, headers)


def is_problem(response, status, code):
    assert response.status == status, response
    assert response.header('content-type') == 'application/problem+json'
    assert response.header('cache-control') == 'no-store'
    body = response.json()
    assert (body['status'], body['code']) == (status, code)
    assert body['detail'] == body['message'] != ''


def merchant_of(database, response):
    assert response.status == 200, response
    return database.value('SELECT merchant_id FROM payment WHERE id = '
                          "UNHEX(REPLACE(%s, '-', ''))",
                          (response.json()['paymentId'],))


def test_each_file_has_a_test():
    names = {os.path.basename(path).removesuffix('.conf').replace('-', '_')
             for path in glob.glob(os.path.join(EXAMPLES, '*.conf'))}
    tested = {name.removeprefix('test_') for name in globals()
              if name.startswith('test_')}

    assert names and names <= tested


# --- operators.conf

def ask(path, socket_or_port, action=None, host='node'):
    """The status and the body of one exchange with an operator's server."""

    if isinstance(socket_or_port, int):
        where = ['--url', f'http://127.0.0.1:{socket_or_port}{path}']
    else:
        where = ['--unix-socket', socket_or_port, '--url',
                 f'http://node{path}']

    body = [] if action is None else [
        '-H', 'Content-Type: application/json', '-d',
        json.dumps({'action': action})]
    said = subprocess.run(
        ['curl', '-sS', '--max-time', '20', '-H', f'Host: {host}', '-w',
         '\n%{http_code}', *where, *body],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    text, _, status = said.rpartition('\n')

    return int(status), text


def test_operators(database, etc, tmp_path):
    """Whoever may look gets 403 for a change, from anywhere and in any Host;
    the socket is for whom its directory lets in."""

    port = free_port()
    directory = tmp_path / 'admin'
    directory.mkdir(mode=0o750)
    nginx = started('operators.conf', database, etc, replace={
        '127.0.0.1:8081': f'127.0.0.1:{port}',
        '127.0.0.1:9092': f"127.0.0.1:{os.environ['PAYMENT_TEST_KAFKA_PORT']}",
        '/run/nginx-payment': str(directory),
        '/var/log/nginx': str(tmp_path)})
    admin = str(directory / 'admin.sock')

    def paused():
        return json.loads(ask('/outbox', port)[1])['outbox']['paused']

    try:
        assert call(nginx, authorize(merchantId='M-1')).status == 200

        for path in '/status', '/metrics', '/outbox', '/dashboard':
            assert ask(path, port)[0] == 200

        for path in '/status', '/dashboard':
            assert ask(path, admin)[0] == 200

        assert ' data-admin="">' in ask('/dashboard', port)[1]
        assert ' data-admin="/outbox">' in ask('/dashboard', admin)[1]

        for host in 'node', '127.0.0.1', 'evil.example':
            assert ask('/outbox', port, 'pause', host)[0] == 403

        assert not paused()
        assert ask('/outbox', admin)[0] == 200

        # another site's name that leads here, in an operator's browser
        assert ask('/outbox', admin, 'pause', 'evil.example')[0] == 421
        assert not paused()

        for action, after in ('pause', True), ('resume', False):
            assert ask('/outbox', admin, action)[0] == 200
            assert paused() == after

        # nginx's own mode of the socket keeps nobody out
        assert os.stat(admin).st_mode & 0o777 == 0o666
        assert '"POST /outbox HTTP/1.1" 200' in (
            tmp_path / 'payment-operators.log').read_text()
    finally:
        nginx.close()

    assert not os.path.exists(admin), 'nothing stands in the next start\'s way'


# --- mutual-tls.conf

@pytest.fixture(scope='module')
def mutual_tls(database, etc):
    etc.certificate('merchant', '/C=KR/O=Shop/CN=MERCHANT-1', 'merchants-ca')
    made = started('mutual-tls.conf', database, etc, 'merchant')
    yield made
    made.close()


def test_mutual_tls(mutual_tls, database, etc):
    nginx = mutual_tls

    assert merchant_of(database, call(nginx)) == 'MERCHANT-1'
    assert merchant_of(database, call(nginx, authorize(
        merchantId='MERCHANT-1'))) == 'MERCHANT-1'
    is_problem(call(nginx, authorize(merchantId='MERCHANT-2')), 403,
               'MERCHANT_MISMATCH')

    # another merchant does not see it
    id = call(nginx).json()['paymentId']
    etc.certificate('second', '/CN=MERCHANT-2', 'merchants-ca')
    second = etc.context('second')
    target = f'/api/payments/{id}'

    assert call(nginx, method='GET', target=target).status == 200
    is_problem(call(nginx, method='GET', target=target, context=second), 404,
               'NOT_FOUND')
    is_problem(call(nginx, {}, target=f'/api/payments/void/{id}',
                    context=second), 404, 'NOT_FOUND')


@pytest.mark.parametrize('subject', [
    '/O=Shop', '/CN=', '/CN=MERCHANT 1', '/CN=' + 'm' * 33, '/CN=쇼핑몰',
    '/CN=MERCHANT-9\\,CN=MERCHANT-1', '/CN=MERCHANT-1+OU=x',
])
def test_a_certificate_that_names_no_merchant(mutual_tls, etc, subject):
    etc.certificate('nobody', subject, 'merchants-ca')
    is_problem(call(mutual_tls, context=etc.context('nobody')), 403,
               'FORBIDDEN')


@pytest.mark.parametrize('subject', [
    '/O=x\\,CN=MERCHANT-2/CN=MERCHANT-1', '/CN=MERCHANT-1/O=x\\,CN=MERCHANT-2',
    '/O=CN=MERCHANT-2/CN=MERCHANT-1', '/OU=a,CN=MERCHANT-2/CN=MERCHANT-1',
])
def test_a_name_within_another_part_is_not_the_name(mutual_tls, database, etc,
                                                    subject):
    etc.certificate('tricky', subject, 'merchants-ca')
    response = call(mutual_tls, context=etc.context('tricky'))

    assert merchant_of(database, response) == 'MERCHANT-1'


def test_no_certificate_and_that_of_another_authority(mutual_tls, etc):
    is_problem(call(mutual_tls, context=etc.context()), 403, 'FORBIDDEN')

    etc.certificate('foreign', '/CN=MERCHANT-1', 'other-ca')
    is_problem(call(mutual_tls, context=etc.context('foreign')), 403,
               'FORBIDDEN')


# --- api-key-map.conf

def test_api_key_map(database, etc):
    nginx = started('api-key-map.conf', database, etc)

    try:
        for key, merchant in KEYS.items():
            for header in (('Authorization', f'Bearer {key}'),
                           ('authorization', f'bearer   {key}'),
                           ('X-Api-Key', key)):
                made = call(nginx, headers=[header])
                assert merchant_of(database, made) == merchant
                assert made.header('www-authenticate') is None

        for headers in ([], [('Authorization', 'Bearer')],
                        [('Authorization', 'Bearer ' + 'd' * 64)],
                        [('Authorization', 'Basic ' + 'a' * 64)],
                        [('X-Api-Key', '')], [('X-Api-Key', 'a' * 63)],
                        [('X-Api-Key', '~.*')], [('X-Api-Key', 'default')]):
            refused = call(nginx, authorize(merchantId='MERCHANT-1'), headers)
            is_problem(refused, 401, 'UNAUTHORIZED')
            assert refused.header('www-authenticate').startswith('Bearer ')

        is_problem(call(nginx, authorize(merchantId='MERCHANT-1'),
                        [('X-Api-Key', 'c' * 64)]), 403, 'MERCHANT_MISMATCH')
    finally:
        nginx.close()


# --- rate-limit.conf

def at_once(nginx, n, headers):
    """n calls on as many connections, sent before any is answered."""

    connections = [nginx.connection() for _ in range(n)]

    for connection in connections:
        connection.send(request('POST', '/api/payments/authorize',
                                authorize(), headers))

    answers = [connection.read() for connection in connections]

    for connection in connections:
        connection.close()

    return answers


def test_rate_limit(database, etc):
    nginx = started('rate-limit.conf', database, etc)
    key = [('X-Api-Key', 'a' * 64)]
    other = [('X-Api-Key', 'c' * 64)]

    try:
        answers = at_once(nginx, 60, key)

        # one merchant's excess is not the other's
        assert call(nginx, headers=other).status == 200

        limited = [a for a in answers if a.status == 429]

        assert {a.status for a in answers} == {200, 429}
        assert len(answers) - len(limited) >= 21

        for answer in limited:
            is_problem(answer, 429, 'RATE_LIMIT_EXCEEDED')
            assert int(answer.header('retry-after')) >= 1

        # guesses are counted together, and never are payments
        guesses = [call(nginx, headers=[('X-Api-Key', f'guess-{i}')]).status
                   for i in range(3)]
        assert set(guesses) <= {401, 429}

        rows = database.value('SELECT COUNT(*) FROM idempotency_key')
        assert rows >= 1
    finally:
        nginx.close()


# --- cors.conf

def test_cors(database, etc):
    nginx = started('cors.conf', database, etc)
    good = [('Origin', 'https://shop.example')]
    ask = [('Access-Control-Request-Method', 'POST'),
           ('Access-Control-Request-Headers', 'content-type')]

    try:
        preflight = call(nginx, b'', good + ask, method='OPTIONS')
        assert preflight.status == 204
        assert preflight.header('access-control-allow-origin') == good[0][1]
        assert 'POST' in preflight.header('access-control-allow-methods')
        assert 'Content-Type' in preflight.header(
            'access-control-allow-headers')
        assert preflight.header('access-control-max-age') == '3600'

        payment = authorize(merchantId='M-cors')

        for body, status in ((payment, 200), (payment, 200), (b'{', 400)):
            response = call(nginx, body, good)
            assert response.status == status
            assert response.header('access-control-allow-origin') \
                == good[0][1]
            assert 'Idempotent-Replayed' in response.header(
                'access-control-expose-headers')
            assert response.header('access-control-allow-methods') is None
            assert response.header('vary') == 'Origin'

        get = call(nginx, headers=good, method='GET', target=f'/api/payments/'
                   f'{NOBODY}?merchantId=M-cors')
        assert get.status == 404
        assert get.header('access-control-allow-origin') == good[0][1]

        for origin in ([], [('Origin', 'https://evil.example')],
                       [('Origin', 'https://shop.example.evil')],
                       [('Origin', 'null')]):
            for method, body in ('OPTIONS', b''), ('POST', payment):
                response = call(nginx, body, origin + ask, method=method)
                assert not [n for n, _ in response.headers
                            if n.startswith('access-control')], response
                assert response.header('vary') == 'Origin'
    finally:
        nginx.close()


# --- moving-over.conf

class Before(http.server.BaseHTTPRequestHandler):
    """The old service: says what it was asked."""

    protocol_version = 'HTTP/1.1'

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        answer = json.dumps({'path': self.path,
                             'body': json.loads(body)}).encode()

        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def test_moving_over(database, etc):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Before)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    nginx = started('moving-over.conf', database, etc,
                    replace={'127.0.0.1:8084': '127.0.0.1:%d'
                             % server.server_address[1]})

    try:
        members = authorize(merchantId='M-moving')
        made = call(nginx, members)
        again = call(nginx, members)
        id = made.json()['paymentId']

        assert made.json()['status'] == 'AUTHORIZED'
        is_problem(again, 409, 'DUPLICATE_REQUEST')
        assert again.json()['paymentId'] == id

        for operation, status in ('capture', 'CAPTURED'), ('refund',
                                                           'REFUNDED'):
            body = {'merchantId': 'M-moving', 'reason': 'why'}

            new = call(nginx, body, target=f'/api/payments/{operation}/{id}')
            assert new.json()['status'] == status

            old = f'/api/payments/{operation}/1234567'
            assert call(nginx, body, target=old).json() \
                == {'path': old, 'body': body}

        other = call(nginx, {}, target='/admin/settlement/migrate-dlq')
        assert other.json()['path'] == '/admin/settlement/migrate-dlq'
    finally:
        nginx.close()
        server.shutdown()
        server.server_close()
