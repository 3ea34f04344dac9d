"""The SDK of CloudEvents for JavaScript reads what is published, and what it
makes of that is the same again. (The SDK for Python reads every message of the
fault tests: see keeps_contract() in outbox.py.)"""

import json
import os
import subprocess
import urllib.request
import uuid

import pytest

from outbox import (Topics, committed, is_played, judge, kafka,   # noqa: F401
                    start_outbox, topic, wait_empty)
from servers import ROOT

TRACE = {'traceparent':
         '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'}
STATE = {'tracestate': 'rojo=00f067aa0ba902b7, congo@tenant=t61 "r%20cWk"'}


def call(nginx, operation, headers=None, **members):
    body = dict(idempotencyKey=str(uuid.uuid4()), **members)
    request = urllib.request.Request(
        f'http://127.0.0.1:{nginx.port}/api/payments/{operation}',
        json.dumps(body).encode(),
        {'Content-Type': 'application/json', **(headers or {})})

    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)['paymentId']


def payments(nginx):
    """An event of each type, for merchants that are not ASCII, too."""

    for merchant in ('m', 'Müller & Söhne', '支払い'):
        for headers in ({}, TRACE, TRACE | STATE):
            ident = call(nginx, 'authorize', headers, merchantId=merchant,
                         amount=1000, currency='EUR')
            call(nginx, f'capture/{ident}', headers, merchantId=merchant,
                 amount=700)
            call(nginx, f'refund/{ident}', headers, merchantId=merchant,
                 amount=1, reason='zurück "für" \\ immer')

            ident = call(nginx, 'authorize', headers, merchantId=merchant,
                         amount=1, currency='JPY')
            call(nginx, f'void/{ident}', headers, merchantId=merchant)


def read_in_javascript(messages):
    """What the SDK reads in each: twice, see t/node/events.js."""

    lines = ''.join(json.dumps(dict(headers=message.headers, key=message.key,
                                    value=message.value.decode())) + '\n'
                    for message in messages)
    done = subprocess.run(
        ['node', ROOT / 't' / 'node' / 'events.js'], input=lines, text=True,
        env=dict(os.environ, NODE_PATH=str(ROOT / 'build/node/node_modules')),
        stdout=subprocess.PIPE, check=True, timeout=60)

    return [json.loads(line) for line in done.stdout.splitlines()]


def agrees_in_javascript(messages):
    """It reads what is in them, both times."""

    found = read_in_javascript(messages)
    assert len(found) == len(messages)

    for message, (first, again) in zip(messages, found):
        expected = {name.removeprefix('ce_'): value
                    for name, value in message.headers.items()
                    if name.startswith('ce_')}
        expected['datacontenttype'] = message.headers['content-type']
        expected['data'] = json.loads(message.value)

        # JavaScript knows milliseconds
        time = expected['time']
        expected['time'] = f'{time[:23]}Z'
        assert time.startswith(expected['time'][:-1])

        assert first == expected
        assert again == expected


def test_events_in_javascript(start_outbox, mariadb, database,    # noqa: F811
                              kafka, topic):                      # noqa: F811
    nginx = start_outbox()
    payments(nginx)
    wait_empty(mariadb, database)
    messages = kafka.messages(topic)
    judge(messages, committed(mariadb, database))
    assert {message.headers['ce_type'] for message in messages} == {
        'authorized', 'captured', 'refunded', 'voided'}

    assert len(messages) == 45
    agrees_in_javascript(messages)


# what an operator may say of the events
SAID = dict(event_source='https://payments.example.net/eu',
            event_type_prefix='net.example.payment.',
            event_dataschema='https://payments.example.net/event-schema.json',
            event_sequence='on')


def test_what_an_operator_says_of_events(start_outbox, mariadb,   # noqa: F811
                                         database, kafka, topic): # noqa: F811
    """The attributes are as they were said, and what reads CloudEvents reads
    the messages as before; a sequence is in the order of its texts."""

    nginx = start_outbox(**SAID)
    ident = call(nginx, 'authorize', merchantId='m', amount=1000,
                 currency='EUR')

    for _ in range(10):
        call(nginx, f'capture/{ident}', merchantId='m', amount=1)

    wait_empty(mariadb, database)
    messages = kafka.messages(topic)
    judge(messages, committed(mariadb, database))
    assert len(messages) == 11

    for message in messages:
        assert message.headers['ce_source'] == SAID['event_source']
        assert message.headers['ce_dataschema'] == SAID['event_dataschema']
        assert message.headers['ce_type'] == SAID['event_type_prefix'] \
            + json.loads(message.value)['eventType']

    in_order = sorted(messages, key=lambda message: message.version)
    assert sorted(message.headers['ce_sequence'] for message in messages) \
        == [message.headers['ce_sequence'] for message in in_order]

    first, _ = read_in_javascript(messages)[0]
    assert (first['type'], first['sequence'], first['dataschema']) == \
        ('net.example.payment.authorized', '0000000001',
         SAID['event_dataschema'])


class OfAllSuites(Topics):
    """The Kafka of t/*.t, t/api and t/browser, where topics stay."""

    address = f'127.0.0.1:{os.environ["PAYMENT_TEST_KAFKA_PORT"]}'

    def names(self):
        return [name for name in self.admin().list_topics(timeout=20).topics
                if not name.startswith('__')]


def test_events_of_the_other_suites():
    """Whatever they published keeps the contract, too: messages() looks."""

    suites = OfAllSuites()
    events = [message for name in suites.names()
              for message in suites.messages(name) if not is_played(message)]
    print(f'{len(events)} events')

    if not events:
        assert 'PAYMENT_TEST_PUBLISHED' not in os.environ
        pytest.skip('no other suite has run on these servers')

    agrees_in_javascript(events)
