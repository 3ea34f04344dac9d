"""HTTP/2: many requests at once on one connection, in clear text and over TLS.

Spoken with the h2 library, frame by frame, so that a body comes in pieces, a
stream is given up in the middle, and a hundred streams are open together.
"""

import itertools
import json
import ssl

import h2.config
import h2.connection
import h2.events
import pytest

from .client import TIMEOUT, Broken
from .client import Connection as Transport
from .service import NOBODY, Nginx, await_that
from .test_examples import Etc

FRAME_MAX = 16384       # what a server takes that says nothing else

CONFIG = """
    payment_queue_timeout 10s;
    payment_timeout 12s;

    server {
        listen 127.0.0.1:$PORT http2 reuseport;
        http2_max_concurrent_streams 128;
        location /api/payments { payment_api; }
    }
"""

CONFIG_TLS = """
    server {
        listen 127.0.0.1:$PORT ssl http2;
        ssl_certificate     %(etc)s/server.pem;
        ssl_certificate_key %(etc)s/server.key;
        location /api/payments { payment_api; }
    }
"""

numbers = itertools.count()


class Connection:
    """A connection in HTTP/2; answers are collected by stream."""

    def __init__(self, port, context=None):
        self.transport = Transport(port, context)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding='utf-8'))
        self.answers = {}           # stream -> {headers, body, ended}
        self.terminated = False     # the server will answer no more
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.transport.close()

    def flush(self):
        self.transport.send(self.h2.data_to_send())

    def send(self, method, target, body=None, headers=(), pieces=1):
        """Begins a request; returns its stream."""

        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()

        stream = self.h2.get_next_available_stream_id()
        head = [(':method', method), (':path', target), (':scheme', 'http'),
                (':authority', 'localhost')]

        if body is not None:
            head.append(('content-type', 'application/json'))

        self.h2.send_headers(stream, head + list(headers),
                             end_stream=body is None)

        if body is not None:
            size = min(FRAME_MAX, max(1, -(-len(body) // pieces)))

            for at in range(0, len(body), size):
                self.h2.send_data(stream, body[at:at + size])

            self.h2.end_stream(stream)

        self.answers[stream] = {'headers': {}, 'body': b'', 'ended': False}
        self.flush()
        return stream

    def receive(self):
        try:
            data = self.transport.socket.recv(65536)
        except TimeoutError as e:
            raise Broken(f'no frame in {TIMEOUT} s') from e

        if not data:
            raise Broken('the connection was closed')

        for event in self.h2.receive_data(data):
            self.handle(event)

        self.flush()

    def handle(self, event):
        answer = self.answers.get(getattr(event, 'stream_id', None))

        if isinstance(event, h2.events.ResponseReceived):
            answer['headers'] = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            answer['body'] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length,
                                              event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answer['ended'] = True
        elif isinstance(event, h2.events.StreamReset):
            answer['ended'] = answer['reset'] = True
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.terminated = True

    def wait(self, stream):
        """(status, headers, body) of a stream."""

        while not self.answers[stream]['ended']:
            self.receive()

        answer = self.answers.pop(stream)
        return (int(answer['headers'].get(':status', 0)), answer['headers'],
                answer['body'])

    def request(self, *arguments, **options):
        return self.wait(self.send(*arguments, **options))


def authorize(**members):
    return {'merchantId': 'M1', 'amount': 1000, 'currency': 'KRW',
            'idempotencyKey': f'2-{next(numbers)}', **members}


@pytest.fixture(scope='module')
def nginx(database):
    # not READY's HTTP/1.1: the first call waits for the database
    made = Nginx('http2', database.shard() + CONFIG, ready=None)
    yield made
    made.close()


@pytest.fixture
def connection(nginx):
    with Connection(nginx.port) as made:
        yield made


def test_the_flow_of_a_payment(connection):
    members = authorize()
    status, headers, body = connection.request(
        'POST', '/api/payments/authorize', members)

    assert status == 200
    assert headers['content-type'] == 'application/json'

    again = connection.request('POST', '/api/payments/authorize', members)
    assert again[1]['idempotent-replayed'] == 'true' and again[2] == body

    id = json.loads(body)['paymentId']

    for operation, more, status in (
            ('capture', {}, 'CAPTURED'),
            ('refund', {'reason': 'why', 'amount': 1}, 'PARTIALLY_REFUNDED'),
            ('refund', {'reason': 'why'}, 'REFUNDED')):
        answer = connection.request('POST', f'/api/payments/{operation}/{id}',
                                    {'merchantId': 'M1', **more})
        assert json.loads(answer[2])['status'] == status

    target = f'/api/payments/{id}?merchantId=M1'
    get, head = (connection.request(m, target) for m in ('GET', 'HEAD'))

    assert get[0] == head[0] == 200
    assert json.loads(get[2])['version'] == 4 and head[2] == b''
    assert get[1]['content-length'] == head[1]['content-length']


def test_a_hundred_streams_at_once(connection, database):
    streams = [connection.send('POST', '/api/payments/authorize',
                               authorize(merchantId='M-streams'))
               for _ in range(100)]
    answers = [connection.wait(s) for s in streams]
    ids = {json.loads(body)['paymentId'] for _, _, body in answers}

    assert {status for status, _, _ in answers} == {200}
    assert len(ids) == 100
    assert database.value('SELECT COUNT(*) FROM payment'
                          " WHERE merchant_id = 'M-streams'") == 100


def test_one_key_on_fifty_streams(connection, database):
    members = authorize(merchantId='M-same')
    streams = [connection.send('POST', '/api/payments/authorize', members)
               for _ in range(50)]
    answers = [connection.wait(s) for s in streams]

    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, _, body in answers}) == 1
    assert sum('idempotent-replayed' not in h for _, h, _ in answers) == 1
    assert database.value('SELECT COUNT(*) FROM payment'
                          " WHERE merchant_id = 'M-same'") == 1


def test_captures_race_for_the_last_money(connection):
    _, _, body = connection.request('POST', '/api/payments/authorize',
                                    authorize(amount=100))
    id = json.loads(body)['paymentId']
    streams = [connection.send('POST', f'/api/payments/capture/{id}',
                               {'merchantId': 'M1', 'amount': 7})
               for _ in range(30)]
    answers = [connection.wait(s) for s in streams]
    captured = sorted(json.loads(body)['capturedAmount']
                      for status, _, body in answers if status == 200)

    assert captured == list(range(7, 99, 7))
    assert {status for status, _, _ in answers} == {200, 409}


@pytest.mark.parametrize('pieces', [1, 5, 1000])
def test_a_body_in_pieces(connection, pieces):
    assert connection.request('POST', '/api/payments/authorize', authorize(),
                              pieces=pieces)[0] == 200


@pytest.mark.parametrize('body, status, code', [
    (b'', 400, 'INVALID_REQUEST'), (b'{', 400, 'INVALID_REQUEST'),
    (b' ' * 8193, 413, 'PAYLOAD_TOO_LARGE'),
    (b'x' * 60000, 413, 'PAYLOAD_TOO_LARGE'),
])
def test_refusals(connection, body, status, code):
    answer = connection.request('POST', '/api/payments/authorize', body)

    assert answer[0] == status
    assert json.loads(answer[2])['code'] == code
    assert answer[1]['content-type'] == 'application/problem+json'
    assert connection.request('GET', f'/api/payments/{NOBODY}'
                              '?merchantId=M1')[0] == 404


def test_streams_given_up_leave_nothing(connection, database):
    """Reset right after the request: the payment goes on, unanswered."""

    given_up = [authorize(merchantId='M-reset') for _ in range(40)]

    for members in given_up:
        stream = connection.send('POST', '/api/payments/authorize', members)
        connection.h2.reset_stream(stream)
        connection.flush()

    # and one of which only a part was sent
    stream = connection.h2.get_next_available_stream_id()
    connection.h2.send_headers(stream, [
        (':method', 'POST'), (':path', '/api/payments/authorize'),
        (':scheme', 'http'), (':authority', 'localhost'),
        ('content-type', 'application/json'), ('content-length', '100')])
    connection.h2.send_data(stream, b'{"merchantId"')
    connection.h2.reset_stream(stream)
    connection.flush()

    for members in given_up:
        assert connection.request('POST', '/api/payments/authorize',
                                  members)[0] == 200

    assert database.value('SELECT COUNT(*) FROM payment'
                          " WHERE merchant_id = 'M-reset'") == 40


def test_over_tls(database, tmp_path):
    etc = Etc(tmp_path)
    context = etc.context()
    context.set_alpn_protocols(['h2'])
    nginx = Nginx('http2-tls', database.shard() + CONFIG_TLS
                  % {'etc': etc.path}, ready=None)

    try:
        with Connection(nginx.port, context) as connection:
            chosen = connection.transport.socket.selected_alpn_protocol()
            assert chosen == 'h2'

            streams = [connection.send('POST', '/api/payments/authorize',
                                       authorize()) for _ in range(50)]
            assert {connection.wait(s)[0] for s in streams} == {200}

        # the same port speaks HTTP/1.1 with who asks for it
        plain = ssl.create_default_context(cafile=etc.file('other-ca.pem'))
        plain.check_hostname = False

        with nginx.connection(context=plain) as c:
            assert c.request('POST', '/api/payments/authorize',
                             authorize()).status == 200
    finally:
        nginx.close()


def test_a_reload_says_goodbye(nginx):
    """An old worker does not wait for clients in HTTP/2 that are idle."""

    with Connection(nginx.port) as connection:
        assert connection.request('POST', '/api/payments/authorize',
                                  authorize())[0] == 200
        old = nginx.workers()
        nginx.signal_reload()

        while not connection.terminated:
            connection.receive()

    await_that(lambda: not set(old) & set(nginx.workers()),
               'the old workers stay')
