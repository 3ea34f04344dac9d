"""W3C's trace context from a request to Kafka: whatever way its event takes
there, tracestate stays beside its traceparent, equal to the byte."""

import http.client
import json
import uuid

from outbox import (ADMIN, committed, judge, kafka,       # noqa: F401
                    start_outbox, topic, wait_empty)
from servers import wait_for
from test_outbox import add_archive
from test_outbox_dead import replay, widen
from test_outbox_kafka import PLAIN, dead, narrow                 # noqa: F401

TRACE = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
STATE = 'rojo=00f067aa0ba902b7,\tcongo@tenant=t61 "rcWk%20gMzE"'

# members that make an event too large for the narrow topic
LARGE = {f'{n:02}': 'x' * 500 for n in range(20)}


def pay(nginx, *headers, **members):
    """Authorizes, with these lines of headers; the payment's id."""

    connection = http.client.HTTPConnection('127.0.0.1', nginx.port, timeout=20)
    body = json.dumps(dict(merchantId='M-1', amount=1000, currency='KRW',
                           idempotencyKey=str(uuid.uuid4()),
                           **members)).encode()

    connection.putrequest('POST', '/api/payments/authorize')
    connection.putheader('Content-Type', 'application/json')
    connection.putheader('Content-Length', str(len(body)))

    for name, value in headers:
        connection.putheader(name, value)

    connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, text

    return json.loads(text)['paymentId']


def traces(messages):
    """{payment: (traceparent, tracestate)}; None: it has no such header.
    CloudEvents' extension says the same."""

    found = {}

    for message in messages:
        headers = message.headers
        found[message.payment] = (headers.get('traceparent'),
                                  headers.get('tracestate'))
        assert found[message.payment] == (headers.get('ce_traceparent'),
                                          headers.get('ce_tracestate'))

    return found


def column(mariadb, database, table):
    """{payment: tracestate} of a table of events."""

    return dict(mariadb.query(f'SELECT aggregateid, tracestate FROM {table}',
                              database))


def test_to_kafka_and_the_archive(start_outbox, mariadb, database, kafka,
                                  topic):
    """Lines are joined in their order; what has no valid traceparent, or is
    not valid itself, is left behind, and the payment is made all the same."""

    parent = ('traceparent', TRACE)
    longest = ','.join(f'k{n:02}={"v" * 11}' for n in range(30)) + ',a=' + 'w' * 30
    add_archive(mariadb, database)
    nginx = start_outbox(archive='on')

    cases = [
        ([], (None, None)),
        ([parent], (TRACE, None)),
        ([parent, ('tracestate', STATE)], (TRACE, STATE)),
        ([('tracestate', 'c=3'), parent, ('TraceState', ' a=1 , b=2'),
          ('tracestate', '')], (TRACE, 'c=3,a=1 , b=2,')),
        ([parent, ('tracestate', longest)], (TRACE, longest)),
        ([parent, ('tracestate', 'a=' + 'v' * 200 + ',' + longest)],
         (TRACE, longest)),
        ([('tracestate', STATE)], (None, None)),
        ([('traceparent', TRACE.upper()), ('tracestate', STATE)],
         (None, None)),
        ([parent, parent, ('tracestate', STATE)], (None, None)),
        ([parent, ('tracestate', 'A=1')], (TRACE, None)),
        ([parent, ('tracestate', 'a=1'), ('tracestate', 'b')], (TRACE, None)),
        ([parent, ('tracestate', ','.join(['a=1'] * 33))], (TRACE, None)),
    ]
    assert len(longest) == 512

    expected = {pay(nginx, *headers): trace for headers, trace in cases}
    wait_empty(mariadb, database)
    messages = kafka.messages(topic)
    judge(messages, committed(mariadb, database), 0, 8)

    assert traces(messages) == expected
    assert column(mariadb, database, 'outbox_archive') \
        == {payment: state for payment, (_, state) in expected.items()}


def test_through_dead_letters(start_outbox, mariadb, database, kafka, narrow):
    """And back again, by a replay."""

    add_archive(mariadb, database)
    nginx = start_outbox(
        nginx=dict(location='payment_max_body_size 16k;\n' + ADMIN['location']),
        archive='on', **PLAIN)
    payment = pay(nginx, ('traceparent', TRACE), ('tracestate', STATE),
                  metadata=LARGE)
    wait_for(lambda: dead(mariadb, database), 15, 'a dead letter')
    assert column(mariadb, database, 'outbox_dead') == {payment: STATE}

    widen(kafka, narrow)
    assert replay(nginx, dead(mariadb, database)[0][4]) == 200
    wait_for(lambda: kafka.count(narrow) == 1, 15, 'the replay')
    wait_empty(mariadb, database)

    assert traces(kafka.messages(narrow)) == {payment: (TRACE, STATE)}
    assert column(mariadb, database, 'outbox_archive') == {payment: STATE}


def test_a_trace_that_is_made(start_outbox, mariadb, database, kafka, topic):
    """It is not the one that the client's tracestate is about."""

    nginx = start_outbox(
        nginx=dict(location='payment_trace_context make;'))
    payment = pay(nginx, ('tracestate', STATE))
    wait_empty(mariadb, database)
    parent, state = traces(kafka.messages(topic))[payment]

    assert parent.endswith('-00') and state is None
