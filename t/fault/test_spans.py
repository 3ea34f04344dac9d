"""Spans of a payment, from the request to Kafka, as a collector of traces gets
them; and a collector that is away costs nothing but its spans."""

import http.client
import json
import re
import urllib.request
import uuid

import pytest

from collector import Collector
from outbox import (committed, judge, kafka, start_outbox,  # noqa: F401
                    topic, wait_empty)
from servers import wait_for
from test_tracing import pay

PARENT = '00f067aa0ba902b7'
REQUEST = ('payment authorize', 'payment commit')


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.stop()


def context(trace=None, flags='01'):
    """A traceparent of a trace of its own."""

    return ('traceparent',
            f'00-{trace or uuid.uuid4().hex}-{PARENT}-{flags}')


def of(header):
    return header[1][3:35]


def traces(nginx):
    return nginx.status()['traces']


def log(nginx):
    return nginx.log.read_text()


def metrics(nginx):
    with urllib.request.urlopen(f'http://127.0.0.1:{nginx.port}/metrics',
                                timeout=5) as answer:
        return answer.read().decode()


METRICS = dict(location='}\n        location = /metrics {\n'
                        '            payment_status prometheus;')


def test_of_one_payment(start_outbox, mariadb, database, kafka,   # noqa: F811
                        topic, collector):                        # noqa: F811
    """The request's span is the client's child, and the parent of those of the
    commit and of the publishing, of which the latter is in the message; the
    commit is linked with its batch."""

    collector.start()
    nginx = start_outbox(trace_exporter=f'{collector.url} service=pay')
    header = context()
    payment = pay(nginx, header)
    publish = f'{topic} publish'

    wait_for(lambda: len(collector.of(of(header))) == 3, 10, 'three spans')
    spans = collector.of(of(header))
    assert set(spans) == {*REQUEST, publish}

    request, commit, sent = (spans[name] for name in (*REQUEST, publish))
    assert request.parent == PARENT
    assert commit.parent == sent.parent == request.id
    assert len({request.id, commit.id, sent.id, PARENT}) == 4
    assert [span.kind for span in (request, commit, sent)] == \
        ['SERVER', 'CLIENT', 'PRODUCER']

    # one after the other, and the request's is around its commit
    assert request.start <= commit.start + 5000
    assert commit.start <= commit.end <= request.end + 5000
    assert sent.end >= sent.start >= commit.start - 5000
    assert not any(span.failed for span in spans.values())

    shard = {'payment.shard': 'main'}
    assert request.attributes == {
        'http.request.method': 'POST', 'http.response.status_code': 200,
        'payment.id': payment, **shard}
    assert commit.attributes == {
        'db.system.name': 'mariadb', 'db.operation.batch.size': 1, **shard}
    assert sent.attributes == {
        'messaging.system': 'kafka', 'messaging.operation.name': 'publish',
        'messaging.operation.type': 'send',
        'messaging.destination.name': topic,
        'messaging.message.id': f'{payment}:1', 'payment.id': payment}
    assert request.resource['service.name'] == 'pay'

    # the batch is a trace of its own
    (link,) = commit.links
    assert link[0] != request.trace
    wait_for(lambda: len(collector.of(link[0])) == 2, 10, "the batch's spans")
    batch = collector.of(link[0])
    assert set(batch) == {'payment batch', 'COMMIT'}
    assert batch['payment batch'].id == link[1] == batch['COMMIT'].parent
    assert batch['payment batch'].parent == ''
    assert batch['payment batch'].start <= batch['COMMIT'].start + 5000

    # what consumers continue is what published it
    wait_empty(mariadb, database)
    (message,) = kafka.messages(topic)
    assert message.headers['traceparent'] == \
        f'00-{request.trace}-{sent.id}-01'
    assert message.headers['ce_traceparent'] == \
        f'00-{request.trace}-{request.id}-01'

    assert traces(nginx) == dict(spans_waiting=0, spans_exported=5,
                                 spans_dropped=0)


def test_which_are_exported(start_outbox, mariadb, database,      # noqa: F811
                            kafka, topic, collector):             # noqa: F811
    """By the flag, and by the last 56 bits of the trace's number; others go on
    as they came."""

    collector.start()
    nginx = start_outbox(trace_exporter=f'{collector.url} sample=25%')

    low, high = '0' * 18 + '3' + 'f' * 13, '0' * 18 + '4' + '0' * 13
    taken = context(low)
    left = [context(high), context('f' * 32), context(low[1:] + '1', '00')]
    payments = {pay(nginx, header): header for header in [taken, *left]}

    # without a context, there is no trace
    pay(nginx)
    wait_for(lambda: len(collector.spans) >= 5, 10, 'the spans')
    wait_empty(mariadb, database)
    messages = kafka.messages(topic)
    judge(messages, committed(mariadb, database))

    for message in messages:
        header = payments.get(message.payment)

        if header == taken:
            assert message.headers['traceparent'][:36] == header[1][:36]
            assert message.headers['traceparent'] != header[1]
        elif header:
            assert message.headers['traceparent'] == header[1]
            assert message.headers['ce_traceparent'] == header[1]
        else:
            assert 'traceparent' not in message.headers

    assert {span.trace for span in collector.spans
            if span.name not in ('payment batch', 'COMMIT')} == {low}


def test_traces_that_are_made(start_outbox, mariadb, database,    # noqa: F811
                              kafka, topic, collector):           # noqa: F811
    """Who brings no context gets a root span, which says so in its flag."""

    collector.start()
    nginx = start_outbox(trace_exporter=collector.url,
                         nginx=dict(location='payment_trace_context make;'))
    pay(nginx)
    wait_empty(mariadb, database)
    (message,) = kafka.messages(topic)
    _, trace, parent, flags = message.headers['traceparent'].split('-')
    assert flags == '01'

    wait_for(lambda: len(collector.of(trace)) == 3, 10, 'the spans')
    spans = collector.of(trace)
    assert spans['payment authorize'].parent == ''
    assert spans[f'{topic} publish'].id == parent


def test_a_refusal_and_an_outage(start_outbox, mariadb, database,  # noqa: F811
                                 kafka, topic, collector):        # noqa: F811
    """A conflict is no error of the server's; what cannot be done is one."""

    collector.start()
    nginx = start_outbox(trace_exporter=collector.url)
    payment = pay(nginx, context())

    header = context()
    assert change(nginx, f'capture/{payment}', header, amount=5000)[0] == 409
    wait_for(lambda: 'payment capture' in collector.of(of(header)), 10,
             'the span of the conflict')
    span = collector.of(of(header))['payment capture']
    assert (span.attributes['http.response.status_code'], span.failed) == \
        (409, False)
    assert span.attributes['error.type'] == 'CAPTURE_CONFLICT'

    mariadb.stop()
    header = context()

    def refused():
        return change(nginx, f'void/{payment}', header)[0] == 503

    try:
        wait_for(refused, 20, 'a refusal')
        wait_for(lambda: any(span.trace == of(header) and span.failed
                             for span in list(collector.spans)), 10,
                 'the span of the failure')
    finally:
        mariadb.start()


def change(nginx, operation, header, **members):
    connection = http.client.HTTPConnection('127.0.0.1', nginx.port, timeout=20)
    connection.request('POST', f'/api/payments/{operation}',
                       json.dumps(dict(merchantId='M-1', **members)),
                       {'Content-Type': 'application/json',
                        header[0]: header[1]})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()

    return answer.status, body


def test_a_collector_that_is_away(start_outbox, mariadb, database,  # noqa: F811
                                  kafka, topic, collector):       # noqa: F811
    """Payments and events go on. Spans wait in their ring, what finds no room
    there is counted, and what waited is sent when the collector is back."""

    nginx = start_outbox(trace_exporter=collector.url)

    for _ in range(20):
        pay(nginx, context())

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database))
    wait_for(lambda: 'does not take spans' in log(nginx), 10, 'a line')

    # each payment has four or five spans, and 4096 have room
    with_room = 4096 // 4

    for _ in range(with_room + 300):
        pay(nginx, context())

    assert traces(nginx)['spans_dropped'] > 0
    assert traces(nginx)['spans_exported'] == 0
    wait_empty(mariadb, database)

    collector.start()
    wait_for(lambda: traces(nginx)['spans_exported'] > 4096, 30,
             'what has waited')
    wait_for(lambda: traces(nginx)['spans_waiting'] == 0, 10, 'an empty ring')
    wait_for(lambda: 'takes spans again' in log(nginx), 5, 'a line')
    assert log(nginx).count('does not take spans') == 1
    assert len(collector.spans) == traces(nginx)['spans_exported']

    header = context()
    pay(nginx, header)
    wait_for(lambda: len(collector.of(of(header))) == 3, 10, 'new spans')


def test_a_collector_that_refuses(start_outbox, collector):       # noqa: F811
    """What may be sent again is sent again, and what may not is dropped."""

    collector.start()
    collector.refuse = [503, 429]
    nginx = start_outbox(trace_exporter=collector.url)
    header = context()
    pay(nginx, header)
    wait_for(lambda: len(collector.of(of(header))) == 3, 20, 'the spans')
    assert traces(nginx)['spans_dropped'] == 0

    collector.refuse = [400]
    pay(nginx, context())
    wait_for(lambda: traces(nginx)['spans_dropped'] >= 4, 10, 'a drop')
    assert 'does not take spans: the answer was 400' in log(nginx)


def test_a_reload_and_a_dead_helper(start_outbox, mariadb,        # noqa: F811
                                    database, kafka, topic,       # noqa: F811
                                    collector):                   # noqa: F811
    """The ring is there for the next helper."""

    nginx = start_outbox(trace_exporter=collector.url)
    header = context()
    pay(nginx, header)
    wait_for(lambda: 'does not take spans' in log(nginx), 10, 'a line')

    later = context()
    pay(nginx, later)
    wait_empty(mariadb, database)
    nginx.reload()
    collector.start()
    wait_for(lambda: len(collector.of(of(later))) == 3, 20, 'the spans')


def test_off_is_free(start_outbox, collector):                    # noqa: F811
    """Without the directive, there is no memory for spans, nor a metric."""

    nginx = start_outbox(nginx=METRICS)
    pay(nginx, context())
    assert traces(nginx) is None
    assert 'payment_trace' not in metrics(nginx)
    without = shared(nginx)

    nginx = start_outbox(trace_exporter=collector.url, nginx=METRICS)
    assert 'payment_trace_spans_dropped_total 0' in metrics(nginx)
    with_them = shared(nginx)
    assert len(with_them) == len(without) + 1


def test_each_process_is_there(start_outbox):                     # noqa: F811
    """With what it has used; one that is new begins anew."""

    nginx = start_outbox(nginx=METRICS)

    def used():
        """{process: seconds}"""

        text = metrics(nginx)
        found = re.findall(r'^process_cpu_seconds_total\{process="(\w+)",'
                           r'slot="(\d+)"\} ([0-9.]+)$', text, re.M)
        memory = re.findall(r'^process_resident_memory_bytes\{process="(\w+)",'
                            r'slot="(\d+)"\} (\d+)$', text, re.M)
        assert [each[:2] for each in memory] == [each[:2] for each in found]
        # one that has ended has none any more, for a moment
        assert all(int(each[2]) > 1 << 20 or int(each[2]) == 0
                   for each in memory)

        return {each[:2]: float(each[2]) for each in found}

    kinds = sorted(kind for kind, _ in used())
    assert kinds == ['master', 'outbox', 'worker', 'worker']

    nginx.reload()
    wait_for(lambda: sorted(kind for kind, _ in used()) == kinds, 20,
             'the new workers alone')


def shared(nginx):
    """The sizes of the memory that all processes of an nginx share."""

    with open(f'/proc/{nginx.process.pid}/maps', encoding='utf-8') as maps:
        return sorted(int(match[2], 16) - int(match[1], 16)
                      for match in re.finditer(
                          r'^(\w+)-(\w+) rw-s .*/dev/zero', maps.read(), re.M))
