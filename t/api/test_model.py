"""Random operations and races, over two nodes with two workers each.

Several processes run programs (programs.py) side by side, so that batches are
mixed; each checks every answer against the model (model.py) as it comes. One
more reads the tables meanwhile, in consistent snapshots: at no moment is there
a payment whose sums, keys and events do not agree. In the end model, tables
and topic must be equal, with nothing left over on either side.

  PAYMENT_TEST_OPERATIONS   how many (5000; with PAYMENT_TEST_LONG 100000)
  PAYMENT_TEST_SEED         the first program's seed, else by the clock
  PAYMENT_TEST_PROGRAM      a file with one program, as a failure prints it

A failure says its seed, and the smallest program found that still fails.
"""

import collections
import json
import multiprocessing
import os
import queue
import time
import traceback

import confluent_kafka
import pytest

from payment_id import ID_OF_KEY

from . import model
from .programs import CONFIG, Failure, Runner, generate, shrink
from .service import Nginx, await_that, connect, read, record

PROCESSES = 4
NODES = 2
WORKERS = 2             # of each
SHRINK_RUNS = 3         # a race may need more than one run to fail again
WINDOW_S = 3            # how far back the observer looks

LONG = bool(os.environ.get('PAYMENT_TEST_LONG'))
OPERATIONS = int(os.environ.get('PAYMENT_TEST_OPERATIONS',
                                100000 if LONG else 5000))
SEED = int(os.environ.get('PAYMENT_TEST_SEED', time.time_ns() // 10 ** 9))


# --- the processes

def run_programs(ports, seeds, wanted, results):
    """In a process of its own: programs until enough operations are done."""

    try:
        runner = Runner(ports, WORKERS, f't{os.getpid() % 10 ** 6}')
        failure = None

        while runner.operations < wanted and failure is None:
            seed = next(seeds)
            program = generate(seed)

            try:
                runner.run(program)
            except Failure as e:
                failure = explain_failure(ports, seed, program, e)

        runner.close()
        results.put({
            'failure': failure, 'operations': runner.operations,
            'races': runner.races, 'programs': runner.runs,
            'statuses': runner.statuses, 'payments': runner.state.payments,
            'keys': runner.state.keys,
            'operations_without_key': runner.state.operations})

    except BaseException:
        results.put({'failure': traceback.format_exc()})


def explain_failure(ports, seed, program, failure):
    """The failure in words, with the smallest program that fails so."""

    last = [failure]

    def fails(candidate):
        for _ in range(SHRINK_RUNS):
            runner = Runner(ports, WORKERS, f's{time.time_ns() % 10 ** 10}')

            try:
                runner.run(candidate)
            except Failure as e:
                last[0] = e
                return True
            finally:
                runner.close()

        return False

    if not fails(program):
        return f'seed {seed}, once, and not again: {failure}'

    small = shrink(program, fails)

    return (f'seed {seed}: {failure}\n\nthe smallest program that fails:\n'
            f'{json.dumps(small, ensure_ascii=False)}\n{last[0]}')


def observe(database, stop, results):
    """In a process of its own: looks at consistent snapshots until told."""

    try:
        observer = Observer(database)

        while not stop.is_set():
            observer.look()
            stop.wait(0.02)

        results.put({'looks': observer.looks, 'seen': observer.seen})

    except BaseException:
        results.put({'failure': traceback.format_exc()})


class Observer:
    """Payments made in the last seconds, with their events, at one moment."""

    def __init__(self, database):
        self.connection = connect(database, autocommit=False)
        self.looks = 0
        self.seen = 0
        self.ends = collections.deque()     # (time, highest event id)

    def look(self):
        with self.connection.cursor() as cursor:
            cursor.execute('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ')
            cursor.execute('START TRANSACTION WITH CONSISTENT SNAPSHOT')

            now = time.time()
            cursor.execute('SELECT COALESCE(MAX(id), 0) FROM outbox_event')
            self.ends.append((now, cursor.fetchone()[0]))

            while self.ends[0][0] < now - 2 * WINDOW_S:
                self.ends.popleft()

            since = max(0, self.ends[0][1] - 1000)
            young = int((now - WINDOW_S) * 1000)

            # before the first look's window there may be older payments
            if self.ends[0][0] > now - WINDOW_S and self.ends[0][1] > 0:
                young = int(self.ends[0][0] * 1000)

            cursor.execute(
                'SELECT LOWER(HEX(id)), status, amount, captured_amount,'
                ' refunded_amount, version FROM payment WHERE id >= %s',
                ((young << 80).to_bytes(16, 'big'),))
            payments = cursor.fetchall()

            cursor.execute(
                "SELECT REPLACE(aggregateid, '-', ''), COUNT(*), MAX(version),"
                " SUM(IF(type = 'captured',"
                "   JSON_VALUE(payload, '$.operationAmount'), 0)),"
                " SUM(IF(type = 'refunded',"
                "   JSON_VALUE(payload, '$.operationAmount'), 0)),"
                " SUM(IF(type = 'voided',"
                "   JSON_VALUE(payload, '$.operationAmount'), 0)),"
                " SUM(type = 'voided'), SUM(type = 'authorized')"
                ' FROM outbox_event WHERE id > %s GROUP BY aggregateid',
                (since,))
            events = {row[0]: row[1:] for row in cursor.fetchall()}

        self.connection.rollback()
        self.looks += 1
        self.seen += len(payments)

        for id, *row in payments:
            self.check(id, row, events.get(id))

    @staticmethod
    def check(id, row, events):
        status, amount, captured, refunded, version = row
        what = f'{id} {row} with {events}'

        assert 0 <= refunded <= captured <= amount, what
        assert events is not None, what

        count, last, captures, refunds, released, voids, opened = events

        assert count == last == version and opened == 1, what
        assert captures == captured and refunds == refunded, what
        assert released == voids * (amount - captured) and voids <= 1, what
        assert (status == 'VOIDED') == (voids == 1 and captured == 0), what


# --- what is in the end

def payment_row(p):
    return (p.id, p.merchant, p.currency, p.status, p.amount, p.captured,
            p.refunded, p.version, p.created)


def check_payments(database, payments):
    rows = database.execute(
        "SELECT LOWER(CONCAT_WS('-', LEFT(h, 8), SUBSTR(h, 9, 4),"
        ' SUBSTR(h, 13, 4), SUBSTR(h, 17, 4), SUBSTR(h, 21))), merchant_id,'
        ' currency, status, amount, captured_amount, refunded_amount, version,'
        " DATE_FORMAT(created_at, '%Y-%m-%dT%H:%i:%s.%f'), updated_at"
        ' >= created_at FROM (SELECT *, HEX(id) h FROM payment) p')

    found = {row[0]: row for row in rows}
    lost = set(payments) - set(found)
    phantom = set(found) - set(payments)

    assert not lost, f'{len(lost)} payments were answered and are not there'
    assert not phantom, f'{len(phantom)} payments nobody was told of: ' \
                        f'{[found[id] for id in list(phantom)[:3]]}'

    for id, row in found.items():
        created = row[8][:-3] + 'Z'
        assert row[:8] + (created,) == payment_row(payments[id]), id
        assert row[9], f'{id} was updated before it was made'


def check_keys(database, keys, operations_without_key):
    rows = database.execute(
        f'SELECT key_hash, LOWER(HEX({ID_OF_KEY})), operation,'
        ' COALESCE(version, 1),'
        " COALESCE(status, 'AUTHORIZED'), COALESCE(captured_amount, 0),"
        ' COALESCE(refunded_amount, 0)'
        ' FROM idempotency_key')
    expected = {model.key_hash(merchant, key):
                (k.id.replace('-', ''), k.do, k.version)
                for (merchant, key), k in keys.items()}
    others = collections.Counter()

    for hash, id, do, version, status, captured, refunded in rows:
        known = expected.pop(hash, None)

        if known is None:
            others[id] += 1
        else:
            assert known == (id, do, version), known

    assert not expected, f'{len(expected)} keys are not there'
    assert others == {id.replace('-', ''): n for id, n
                      in operations_without_key.items() if n}


def event_tuple(payload):
    return model.Event(payload['eventType'], payload['version'],
                       payload['status'], payload['capturedAmount'],
                       payload['refundedAmount'], payload['operationAmount'],
                       payload.get('reason'), payload.get('reference'),
                       payload.get('metadata'))


def check_event(payments, payload):
    """One event against its payment; returns what names it."""

    payment = payments[payload['paymentId']]
    event = payment.events[payload['version'] - 1]

    assert event_tuple(payload) == event, f'{payload} instead of {event}'
    assert (payload['merchantId'], payload['amount'], payload['currency']) \
        == (payment.merchant, payment.amount, payment.currency)

    return payment.id, event.version


def check_outbox(database, payments):
    rows = database.execute(
        'SELECT aggregatetype, aggregateid, type, merchant_id, version,'
        ' payload FROM outbox_event ORDER BY id')
    versions = {}

    for kind, id, type, merchant, version, payload in rows:
        payload = json.loads(payload)

        assert kind == 'payment'
        assert (id, version) == check_event(payments, payload)
        assert (type, merchant) == (payload['eventType'],
                                    payload['merchantId'])
        assert versions.get(id, 0) == version - 1, f'{id} is out of order'
        versions[id] = version

    assert versions == {p.id: p.version for p in payments.values()}


# --- the tests

@pytest.fixture(scope='module')
def nodes(database):
    made = []

    try:
        for i in range(NODES):
            made.append(Nginx(f'model-{i}', database.shard() + CONFIG,
                              workers=WORKERS))
        yield made
    finally:
        for nginx in made:
            nginx.close()


@pytest.fixture(scope='module')
def ran(nodes, database):
    """The programs ran; what all processes found, taken together."""

    ports = [nginx.port for nginx in nodes]

    if 'PAYMENT_TEST_PROGRAM' in os.environ:
        return run_one(ports, os.environ['PAYMENT_TEST_PROGRAM'])

    results, seen = multiprocessing.Queue(), multiprocessing.Queue()
    stop = multiprocessing.Event()
    before = [nginx.workers() for nginx in nodes]
    started = time.monotonic()

    observer = multiprocessing.Process(
        target=observe, args=(database.name, stop, seen), daemon=True)
    processes = [multiprocessing.Process(
        target=run_programs, daemon=True,
        args=(ports, iter(range(SEED + i, SEED + 10 ** 9, PROCESSES)),
              OPERATIONS // PROCESSES + 1, results))
        for i in range(PROCESSES)]

    observer.start()

    for process in processes:
        process.start()

    found = []

    try:
        for _ in processes:
            found.append(results.get(timeout=3000 if LONG else 240))

            if found[-1]['failure']:
                break
    except queue.Empty:
        pytest.fail('the programs do not come to an end')

    took = time.monotonic() - started
    stop.set()
    looked = seen.get(timeout=60)

    for process in processes:
        process.join(10)

    failures = [f['failure'] for f in found + [looked] if f.get('failure')]
    assert not failures, '\n\n'.join(failures)
    assert [nginx.workers() for nginx in nodes] == before, 'a worker ended'

    total = together(found)
    total['result'] = report(total, looked, took)

    return total


def run_one(ports, path):
    with open(path, encoding='utf-8') as file:
        program = json.load(file)

    runner = Runner(ports, WORKERS, f'o{time.time_ns() % 10 ** 10}')
    runner.run(program)
    runner.close()

    return together([{
        'operations': runner.operations, 'races': runner.races,
        'programs': 1, 'statuses': runner.statuses,
        'payments': runner.state.payments, 'keys': runner.state.keys,
        'operations_without_key': runner.state.operations}])


def together(found):
    total = {'operations': 0, 'races': 0, 'programs': 0,
             'statuses': collections.Counter(), 'payments': {}, 'keys': {},
             'operations_without_key': collections.Counter()}

    for one in found:
        for name in total:
            if isinstance(total[name], int):
                total[name] += one[name]
            else:
                total[name].update(one[name])

    return total


def report(total, looked, took):
    result = {
        'seed': SEED, 'seconds': round(took, 1),
        'operations': total['operations'], 'programs': total['programs'],
        'races': total['races'],
        'statuses': dict(sorted(total['statuses'].items())),
        'payments': len(total['payments']), 'keys': len(total['keys']),
        'events': sum(p.version for p in total['payments'].values()),
        'snapshots': looked['looks'],
        'payments_seen_in_snapshots': looked['seen']}

    print('\n' + json.dumps(result))
    return result


def test_answers_follow_from_each_other(ran):
    assert ran['operations'] >= 1
    assert set(ran['statuses']) <= {200, 400, 401, 403, 404, 405, 409, 413,
                                    415, 422}


def test_payments_are_the_models(ran, database):
    check_payments(database, ran['payments'])


def test_keys_are_the_models(ran, database):
    check_keys(database, ran['keys'], ran['operations_without_key'])


def test_operations_are_the_models(ran, database):
    """... also after the keys are gone: they sum to the payments' amounts."""

    rows = database.execute(
        'SELECT LOWER(HEX(payment_id)), version, operation, status, amount,'
        ' reason, reference, metadata FROM payment_operation'
        ' ORDER BY payment_id, version')
    found = collections.defaultdict(list)

    for id, version, do, status, amount, reason, reference, metadata in rows:
        found[id].append(model.Event(
            model.EVENTS[do], version, status, None, None, amount, reason,
            reference, metadata and json.loads(metadata)))

    assert found == {
        id.replace('-', ''): [event._replace(captured=None, refunded=None)
                              for event in payment.events]
        for id, payment in ran['payments'].items()}


def test_events_are_the_models(ran, database):
    check_outbox(database, ran['payments'])


def test_events_reach_kafka(ran, nodes, database):
    """All that has piled up, each event once, a payment's in order."""

    nginx = nodes[0]
    port = os.environ['PAYMENT_TEST_KAFKA_PORT']
    topic = f'api-{os.getpid()}-{SEED}'

    nginx.configure(database.shard() + f"""
        payment_kafka_brokers 127.0.0.1:{port};
        payment_kafka_topic {topic};
        payment_outbox_initial_delay 0;
        payment_outbox_path {nginx.prefix}/outbox;
    """ + CONFIG, WORKERS)
    nginx.reload()

    await_that(lambda: database.value('SELECT COUNT(*) FROM outbox_event') == 0,
               lambda: 'the outbox does not come empty\n' + read(nginx.log),
               120)

    assert database.value('SELECT COUNT(*) FROM outbox_dead') == 0

    versions = {}
    records = 0

    for one in consume(port, topic):
        payload = json.loads(one.value())
        id, version = check_event(ran['payments'], payload)

        assert one.key().decode() == payload['merchantId']
        assert versions.get(id, 0) == version - 1, f'{id} {version}'
        versions[id] = version
        records += 1

    assert versions == {p.id: p.version for p in ran['payments'].values()}
    print(f'\n{records} records in Kafka')

    if LONG and 'result' in ran:
        record('api-model', {**ran['result'], 'records_in_kafka': records})


def consume(port, topic):
    """All records of the topic; those of one partition in their order."""

    consumer = confluent_kafka.Consumer({
        'bootstrap.servers': f'127.0.0.1:{port}', 'group.id': topic,
        'enable.auto.commit': False, 'fetch.wait.max.ms': 20})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic] \
        .partitions
    places = [confluent_kafka.TopicPartition(topic, number, 0)
              for number in partitions]
    left = sum(consumer.get_watermark_offsets(place, timeout=10)[1]
               for place in places)
    deadline = time.monotonic() + 60

    consumer.assign(places)

    try:
        while left:
            assert time.monotonic() < deadline, 'the topic has no end'

            for one in consumer.consume(min(left, 5000), 0.1):
                assert not one.error(), one.error()
                left -= 1
                yield one
    finally:
        consumer.close()
