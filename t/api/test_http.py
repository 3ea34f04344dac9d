"""What HTTP clients do that the t/*.t files do not reach.

Bodies in every shape that HTTP/1.1 has, connections that stay in step after a
refusal, and handlers of nginx's own around ours.
"""

import itertools
import socket

import pytest

from .client import Broken, Connection, request
from .service import NOBODY, Nginx

CONFIG = """
    client_body_timeout 2s;
    lingering_timeout 1s;
    payment_queue_timeout 10s;
    payment_timeout 12s;

    server {
        listen 127.0.0.1:$PORT;

        location /api/payments { payment_api; }

        location /known {
            payment_merchant $http_x_merchant;
            payment_api;
        }

        # a token that another location reads, as auth_jwt would
        location /token {
            auth_request /introspect;
            auth_request_set $merchant $upstream_http_x_merchant;
            payment_merchant $merchant;
            payment_api;
        }

        location = /introspect {
            internal;
            proxy_pass http://127.0.0.1:$PORT/issuer;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-Token $http_authorization;
        }

        location = /issuer {
            if ($http_x_token = "Bearer good") {
                add_header X-Merchant M-token;
                return 204;
            }
            return 401;
        }

        location /mirrored {
            mirror /api/payments/authorize;
            payment_api;
        }

        # the balancer in front
        location /proxied {
            proxy_pass http://127.0.0.1:$PORT/api/payments;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }

        location /tiny-buffers {
            client_body_buffer_size 16;
            payment_api;
        }

        location /slash/ { payment_api; }
    }
"""

JSON = ('Content-Type', 'application/json')
numbers = itertools.count()


@pytest.fixture(scope='module')
def nginx(database):
    made = Nginx('http', database.shard() + CONFIG)
    yield made
    made.close()


@pytest.fixture
def connection(nginx):
    with nginx.connection() as made:
        yield made


def authorize(**members):
    return {'merchantId': 'M1', 'amount': 1000, 'currency': 'KRW',
            'idempotencyKey': f'h-{next(numbers)}', **members}


def body_of(members):
    return request('POST', '/', members).split(b'\r\n\r\n', 1)[1]


def chunks(data, size):
    pieces = [data[i:i + size] for i in range(0, len(data), size)]

    return b''.join(b'%x\r\n%s\r\n' % (len(p), p) for p in pieces)


def still_in_step(connection):
    """The connection takes the next request for what it is."""

    response = connection.request('GET', f'/api/payments/{NOBODY}'
                                         '?merchantId=M1')
    assert response.status == 404, response
    assert response.json()['detail'] == 'no such payment'


# --- bodies

@pytest.mark.parametrize('headers, body', [
    ([JSON], b''),
    ([JSON, ('Transfer-Encoding', 'chunked')], b'0\r\n\r\n'),
    ([JSON, ('Transfer-Encoding', 'chunked')], b'0\r\nTrailer: x\r\n\r\n'),
    ([], None),
], ids=['length-0', 'no-chunk', 'no-chunk-trailer', 'no-body'])
@pytest.mark.parametrize('at', ['api/payments', 'tiny-buffers'])
def test_no_body_is_an_answer(connection, at, headers, body):
    response = connection.request('POST', f'/{at}/authorize', body, headers)

    assert response.status == 400, response
    assert 'empty' in response.json()['detail']
    still_in_step(connection)


@pytest.mark.parametrize('headers, body', [
    ([JSON], b''), ([JSON, ('Transfer-Encoding', 'chunked')], b'0\r\n\r\n'),
    ([], None)], ids=['length-0', 'no-chunk', 'no-body'])
def test_no_body_will_do_where_the_merchant_is_known(connection, headers,
                                                     body):
    known = [('X-Merchant', 'M1')]
    made = connection.request('POST', '/known/authorize', authorize(), known)
    id = made.json()['paymentId']
    captured = connection.request('POST', f'/known/capture/{id}', body,
                                  headers + known)

    assert captured.status == 200, captured
    assert captured.json()['status'] == 'CAPTURED'


@pytest.mark.parametrize('size', [1, 7, 1000])
@pytest.mark.parametrize('at', ['api/payments', 'tiny-buffers'])
def test_chunks_of_any_size(connection, at, size):
    data = chunks(body_of(authorize()), size) + b'0\r\n\r\n'
    response = connection.request('POST', f'/{at}/authorize', data,
                                  [JSON, ('Transfer-Encoding', 'chunked')])

    assert response.status == 200, response
    still_in_step(connection)


def test_chunks_with_extensions_and_trailers(connection):
    body = body_of(authorize())
    data = (b'%x;name=value\r\n%s\r\n' % (len(body), body)
            + b'0;last\r\nX-Merchant: M2\r\nIdempotency-Key: "x"\r\n\r\n')
    response = connection.request('POST', '/api/payments/authorize', data,
                                  [JSON, ('Transfer-Encoding', 'chunked')])

    assert response.status == 200, response
    still_in_step(connection)


def test_chunks_that_come_slowly(nginx, connection):
    head = request('POST', '/api/payments/authorize', b'',
                   [JSON, ('Transfer-Encoding', 'chunked')])
    connection.send(head)

    for byte in chunks(body_of(authorize()), 1) + b'0\r\n\r\n':
        connection.send(bytes([byte]))

    assert connection.read().status == 200


def test_chunks_that_are_too_much(connection):
    data = chunks(b' ' * 9000, 100) + b'0\r\n\r\n'
    response = connection.request('POST', '/api/payments/authorize', data,
                                  [JSON, ('Transfer-Encoding', 'chunked')])

    assert response.status == 413
    assert response.json()['code'] == 'PAYLOAD_TOO_LARGE'
    still_in_step(connection)


def test_the_largest_body_and_one_byte_more(connection):
    body = body_of(authorize())

    for size, status in (8192, 200), (8193, 413):
        response = connection.request('POST', '/api/payments/authorize',
                                      body.ljust(size))
        assert response.status == status, response
        still_in_step(connection)


def test_chunks_that_are_none(nginx):
    for data in (b'x\r\n', b'-1\r\n', b'5\r\nhello world\r\n',
                 b'ffffffffffffffffff\r\n'):
        with nginx.connection() as c:
            response = c.request('POST', '/api/payments/authorize', data,
                                 [JSON, ('Transfer-Encoding', 'chunked')])
            assert response.status in (400, 413), (data, response)


def test_length_and_chunks_at_once_are_refused(nginx):
    with nginx.connection() as c:
        body = chunks(body_of(authorize()), 100) + b'0\r\n\r\n'
        response = c.request('POST', '/api/payments/authorize', body,
                             [JSON, ('Transfer-Encoding', 'chunked'),
                              ('Content-Length', str(len(body)))])
        assert response.status == 400


@pytest.mark.parametrize('headers', [
    [('Content-Length', '120')], [('Transfer-Encoding', 'chunked')]])
def test_continue_is_said_before_the_body_is_sent(connection, headers):
    body = body_of(authorize()).ljust(120)
    expect = [JSON, ('Expect', '100-continue')] + headers

    connection.send(request('POST', '/api/payments/authorize', b'', expect))
    status, _ = connection.read_head()
    assert status == 100

    chunked = headers[0][0] == 'Transfer-Encoding'
    connection.send(chunks(body, 50) + b'0\r\n\r\n' if chunked else body)
    assert connection.read().status == 200
    still_in_step(connection)


@pytest.mark.parametrize('target, headers, status', [
    ('/api/payments/authorize', [('Content-Type', 'text/plain')], 415),
    ('/api/payments/authorize', [JSON, ('Content-Length', '9000')], 413),
    ('/api/payments/nothing/here', [JSON], 404),
    (f'/api/payments/{NOBODY}', [JSON], 405),
])
def test_a_refusal_does_not_ask_for_the_body(nginx, target, headers, status):
    with nginx.connection() as c:
        c.send(request('POST', target, b'', headers + [
            ('Expect', '100-continue')] + ([] if status == 413 else [
                ('Content-Length', '100')])))
        response = c.read()
        assert (response.interim, response.status) == ([], status)

        # whether the body comes all the same cannot be known
        assert response.header('connection') == 'close'
        c.send(b'x' * 100)
        assert c.at_end()


def test_a_refused_body_is_passed_over(connection):
    response = connection.request('POST', '/api/payments/authorize',
                                  b'x' * 70000)

    assert response.status == 413
    still_in_step(connection)


def test_a_body_with_get_is_passed_over(connection):
    response = connection.request(
        'GET', f'/api/payments/{NOBODY}?merchantId=M1', b'{"merchantId":"M2"}')

    assert response.status == 404
    still_in_step(connection)


def test_half_a_body_is_not_waited_for_long(nginx):
    with nginx.connection() as c:
        c.send(request('POST', '/api/payments/authorize', b'{"merchantId"',
                       [JSON, ('Content-Length', '100')]))

        with pytest.raises(Broken):             # nginx closes, or says 408
            assert c.read().status == 408
            c.read()


def test_clients_that_go_away_leave_nothing(nginx, database):
    """At every byte of a request, and after it; the rest goes on."""

    members = authorize(merchantId='M-gone')
    data = request('POST', '/api/payments/authorize', members)

    for end in list(range(0, len(data), 9)) + [len(data)]:
        with nginx.connection() as c:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                b'\1\0\0\0\0\0\0\0')    # RST
            c.send(data[:end])

    with nginx.connection() as c:
        again = c.request('POST', '/api/payments/authorize', members)
        assert again.status == 200

    assert database.value('SELECT COUNT(*) FROM payment'
                          " WHERE merchant_id = 'M-gone'") == 1


def test_a_client_that_only_stops_sending_is_answered(nginx):
    with nginx.connection() as c:
        c.send(request('POST', '/api/payments/authorize', authorize(),
                       [('Connection', 'close')]))
        c.socket.shutdown(socket.SHUT_WR)

        # as with every handler of nginx: the request may also be taken for
        # abandoned, and then the payment goes on without an answer
        try:
            assert c.read().status == 200
        except Broken:
            pass


# --- connections

def test_pipelining(connection, database):
    calls = []

    for i in range(50):
        calls += [('POST', '/api/payments/authorize',
                   authorize(merchantId='M-pipe'), 200),
                  ('POST', '/api/payments/authorize', b'{', 400),
                  ('HEAD', f'/api/payments/{NOBODY}?merchantId=M1', None, 404),
                  ('POST', '/api/payments/authorize', b'x' * 9000, 413),
                  ('PUT', '/api/payments/authorize', b'{}', 405)]

    connection.send(b''.join(request(method, target, body)
                             for method, target, body, _ in calls))
    answers = [connection.read(method).status for method, *_ in calls]

    assert answers == [status for *_, status in calls]
    assert database.value('SELECT COUNT(*) FROM payment'
                          " WHERE merchant_id = 'M-pipe'") == 50
    still_in_step(connection)


def test_pipelined_steps_of_one_payment(connection):
    """The answers of one connection come in the order of its requests."""

    id = connection.request('POST', '/api/payments/authorize',
                            authorize()).json()['paymentId']

    connection.send(b''.join(
        request('POST', f'/api/payments/capture/{id}',
                {'merchantId': 'M1', 'amount': 100}) for _ in range(11)))
    answers = [connection.read() for _ in range(11)]

    assert [a.status for a in answers] == [200] * 10 + [409]
    assert [a.json()['capturedAmount'] for a in answers[:10]] \
        == list(range(100, 1001, 100))


def test_head_is_get_without_the_body(connection):
    made = connection.request('POST', '/api/payments/authorize', authorize())
    target = f"/api/payments/{made.json()['paymentId']}?merchantId=M1"
    get = connection.request('GET', target)
    head = connection.request('HEAD', target)

    assert (get.status, head.status, head.body) == (200, 200, b'')

    for name in 'content-type', 'content-length':
        assert get.header(name) == head.header(name)

    still_in_step(connection)


@pytest.mark.parametrize('method', ['OPTIONS', 'PUT', 'PATCH', 'DELETE',
                                    'PROPFIND', 'FOO'])
def test_other_methods(connection, method):
    for target, allow in (('authorize', 'POST'), (NOBODY, 'GET, HEAD'),
                          (f'capture/{NOBODY}', 'POST')):
        response = connection.request(method, f'/api/payments/{target}')

        assert response.status == 405
        assert response.header('allow') == allow
        assert response.json()['code'] == 'METHOD_NOT_ALLOWED'


# --- paths

@pytest.mark.parametrize('target, status', [
    ('/api/payments/%61uthorize', 200),
    ('/api//payments///authorize', 200),
    ('/api/payments/x/../authorize', 200),
    ('/api/payments/authorize?merchantId=M2', 200),
    ('/api/payments/authorize/', 404),
    ('/api/payments/authorize/x', 404),
    ('/api/payments/Authorize', 405),
    ('/api/payments', 405),
    ('/api/payments/', 405),
    ('/api/payments/capture', 405),
    ('/api/payments/capture/', 404),
    (f'/api/payments/capture/{NOBODY}/', 404),
    (f'/api/payments/capture/{NOBODY}x', 404),
    (f'/api/payments/capture/{{{NOBODY}}}', 404),
    ('/api/paymentsauthorize', 404),
    ('/api/payments-v2/authorize', 404),
    ('/slash/authorize', 200),
    ('/slash/x/authorize', 404),
])
def test_paths(connection, target, status):
    response = connection.request('POST', target, authorize())
    assert response.status == status, response


@pytest.mark.parametrize('query, status', [
    ('', 400), ('?', 400), ('?merchantId', 400), ('?merchantId=', 400),
    ('?merchantid=M1', 400), ('?MERCHANTID=M1', 400), ('?x=1&merchantId=M1', 200),
    ('?merchantId=%4d1', 200), ('?merchantId=M%31', 200),
    ('?merchantId=M2', 404), ('?merchantId=M1%00', 400),
    ('?merchantId=%ff', 400), ('?merchantId=%', 400),
    ('?merchantId=' + 'M' * 33, 400), ('?merchantId=' + '%EC%87%BC' * 32, 404),
    ('?merchantId=' + '%EC%87%BC' * 33, 400), ('?merchantId=%20', 400),
    ('?merchantId=M1&merchantId=M2', 400), ('?merchantId=M1&merchant%49d=M1', 400),
])
def test_whose_payment_is_asked_for(connection, query, status):
    made = connection.request('POST', '/api/payments/authorize', authorize())
    id = made.json()['paymentId']

    for text in id, id.upper():
        response = connection.request('GET', f'/api/payments/{text}{query}')
        assert response.status == status, response

    if status == 400:
        assert response.json()['field'] == 'merchantId'


# --- what is told when more than one thing is wrong

def test_faults_are_told_in_one_order(connection):
    """From the outside in: path, method, id, type, size, who, what."""

    big, text = b'x' * 9000, [('Content-Type', 'text/plain')]
    two_keys = [('Idempotency-Key', 'a'), ('Idempotency-Key', 'a')]

    for method, target, body, headers, status in (
            ('DELETE', '/known/nothing/x', big, text, 404),
            ('DELETE', '/known/capture/x', big, text, 405),
            ('POST', '/known/capture/x', big, text, 404),
            ('POST', '/known/capture/' + 'x' * 36, big, text, 404),
            ('POST', f'/known/capture/{NOBODY}', big, text, 415),
            ('POST', f'/known/capture/{NOBODY}', big, two_keys, 413),
            ('POST', f'/known/capture/{NOBODY}', b'{', two_keys, 401),
            ('GET', f'/known/{NOBODY}?merchantId=%ff', None, two_keys, 401)):
        response = connection.request(method, target, body, headers)
        assert response.status == status, (method, target, response)


def test_two_keys_are_none(connection):
    made = connection.request('POST', '/api/payments/authorize', authorize())
    id = made.json()['paymentId']

    for keys in ('a', 'a'), ('"a"', '"b"'), ('', ''):
        headers = [('Idempotency-Key', key) for key in keys]
        response = connection.request('POST', f'/api/payments/capture/{id}',
                                      {'merchantId': 'M1'}, headers)

        assert response.status == 400, response
        assert response.json()['field'] == 'Idempotency-Key'

        # a GET has no key
        assert connection.request('GET', f'/api/payments/{id}?merchantId=M1',
                                  None, headers).status == 200


# --- nginx's own around it

def test_a_merchant_by_auth_request(connection):
    def call(token, **members):
        return connection.request('POST', '/token/authorize',
                                  authorize(merchantId=None, **members),
                                  [('Authorization', token)])

    good = call('Bearer good')
    assert good.status == 200

    # nginx's own answer: auth_request comes before us
    assert call('Bearer bad').status == 401

    id = good.json()['paymentId']
    for merchant, status in ('M-token', 200), ('M1', 404):
        assert connection.request('GET', f'/api/payments/{id}'
                                  f'?merchantId={merchant}').status == status


def test_mirror_and_subrequests(connection, database):
    """A mirrored call is the same call: the key makes it one payment."""

    members = authorize(merchantId='M-mirror')
    response = connection.request('POST', '/mirrored/authorize', members)

    assert response.status == 200
    still_in_step(connection)
    assert database.value('SELECT COUNT(*) FROM payment'
                          " WHERE merchant_id = 'M-mirror'") == 1


def test_behind_a_proxy(connection):
    members = authorize()
    direct = connection.request('POST', '/api/payments/authorize', members)
    proxied = connection.request('POST', '/proxied/authorize', members)

    assert direct.status == proxied.status == 200
    assert direct.body == proxied.body
    assert proxied.header('idempotent-replayed') == 'true'

    refused = connection.request('POST', '/proxied/authorize', b'{')
    assert refused.header('content-type') == 'application/problem+json'


def test_reloads_lose_no_request(nginx, database):
    """Clients that use each connection once see nothing of ten reloads."""

    calls = 0

    for _ in range(10):
        old = nginx.workers()
        nginx.signal_reload()

        while set(nginx.workers()) & set(old):
            with Connection(nginx.port) as c:
                response = c.request(
                    'POST', '/api/payments/authorize',
                    authorize(merchantId='M-reload'),
                    [('Connection', 'close')])
            # a new worker that has no database yet lets calls wait
            assert response.status == 200, response
            calls += 1

    assert database.value('SELECT COUNT(*) FROM payment'
                          " WHERE merchant_id = 'M-reload'") == calls
