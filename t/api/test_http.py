"""What HTTP clients do that the t/*.t files do not reach.

Bodies in every shape that HTTP/1.1 has, connections that stay in step after a
refusal, and handlers of nginx's own around ours.
"""

import itertools
import socket

import pytest

from .client import Broken, Connection, request
from .service import NOBODY, Nginx, await_that

CONFIG = """
    client_body_timeout 2s;

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
    assert response.json()['paymentId'] == NOBODY


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
