"""Random operations and races, over two nodes with two workers each.

Several processes run programs (programs.py) side by side, so that batches are
mixed; each checks every answer against the model (model.py) as it comes. One
more reads the tables meanwhile, in consistent snapshots: at no moment is there
a payment whose sums, operations and events do not agree. In the end model,
tables and topic must be equal, with nothing left over on either side.

The helpers of both nodes sweep what expires, and have no Kafka until the end,
so that events stay where they can be compared.

  PAYMENT_TEST_OPERATIONS   how many (5000; with PAYMENT_TEST_LONG 200000)
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
import jsonschema_rs
import pytest

from tables import ALL_OPERATIONS, ID_OF_KEY

from . import model
from .programs import CONFIG, Failure, Runner, generate, render, shrink
from .service import NOBODY, ROOT, Nginx, await_that, connect, read, record

NODES = 2
WORKERS = 2             # of each
SHRINK_RUNS = 3         # a race may need more than one run to fail again
WINDOW_S = 3            # how far back the observer looks
KEY_RETENTION_S = 13    # in the end; payment_timeout is 12 s
EVENT = jsonschema_rs.Draft7Validator(json.loads(read(os.path.join(
    ROOT, 'ngx_payment_module', 'http', 'event-schema.json'))))

LIST_INDEX = os.path.join(ROOT, 'sql', 'optional', 'merchant_index.sql')
NOWHERE = '127.0.0.1:1'     # no Kafka is there

LONG = bool(os.environ.get('PAYMENT_TEST_LONG'))
PROCESSES = 8 if LONG else 4    # of which some wait for a lifetime's end
OPERATIONS = int(os.environ.get('PAYMENT_TEST_OPERATIONS',
                                200000 if LONG else 5000))
SEED = int(os.environ.get('PAYMENT_TEST_SEED', time.time_ns() // 10 ** 9))
TOPIC = f'api-{os.getpid()}-{SEED}'


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
                ' refunded_amount, version, p.expires_at IS NOT NULL,'
                ' expired_at IS NOT NULL, e.payment_id IS NOT NULL'
                ' FROM payment p LEFT JOIN payment_expiry e'
                ' ON e.payment_id = p.id AND e.expires_at = p.expires_at'
                ' WHERE id >= %s', (young_id(young),))
            payments = cursor.fetchall()

            cursor.execute(
                "SELECT REPLACE(aggregateid, '-', ''), type, COUNT(*),"
                " MIN(version), MAX(version), COUNT(DISTINCT version),"
                " SUM(JSON_VALUE(payload, '$.operationAmount'))"
                ' FROM outbox_event WHERE id > %s GROUP BY aggregateid, type',
                (since,))
            events = Sums(cursor.fetchall())

            cursor.execute(
                'SELECT LOWER(HEX(payment_id)), operation, COUNT(*),'
                ' MIN(version), MAX(version), COUNT(DISTINCT version),'
                f' SUM(amount) FROM {ALL_OPERATIONS} WHERE payment_id >= %s'
                ' GROUP BY payment_id, operation', (young_id(young),))
            operations = Sums(cursor.fetchall(), model.EVENTS)

        self.connection.rollback()
        self.looks += 1
        self.seen += len(payments)

        for id, *row in payments:
            for sums in (events, operations):
                self.check(row, sums.of(id), f'{id} {row} with {sums.of(id)}')

    @staticmethod
    def check(row, sums, what):
        (status, amount, captured, refunded, version, has_end, has_expired,
         is_queued) = row
        released = sums['voided'] + sums['expired']

        assert 0 <= refunded <= captured <= amount - released, what
        assert sums['count'] == sums['last'] == version, what
        assert sums['first'] == 1 and sums['different'] == version, what
        assert sums['authorized'] == amount, what
        assert sums['captured'] == captured, what
        assert sums['refunded'] == refunded, what
        assert released in (0, amount - captured), what
        assert (sums['expired'] > 0) == has_expired, what
        assert (status == 'VOIDED') == (released == amount), what
        assert is_queued or not has_end or status not in model.OPEN, what


class Sums:
    """What rows (payment, type, how many, first, last and how many different
    versions, amount) say of each payment: the sum of each type, and of the
    versions of all."""

    def __init__(self, rows, names=None):
        self.found = collections.defaultdict(collections.Counter)

        for id, type, count, first, last, different, amount in rows:
            one = self.found[id]
            one[names[type] if names else type] = int(amount)
            one['count'] += count
            one['different'] += different
            one['first'] = min(first, one['first'] or first)
            one['last'] = max(last, one['last'])

    def of(self, id):
        return self.found[id]


def young_id(ms):
    """What the ids of younger payments are greater than."""
    return (ms << 80).to_bytes(16, 'big')


# --- what is in the end

def settled(database, found):
    """What was found, with the payments as they are when all have expired that
    will: of what each can be, the version says which it is."""

    await_that(lambda: not database.value(
        'SELECT COUNT(*) FROM payment_expiry WHERE expires_at'
        ' < UTC_TIMESTAMP(3) + INTERVAL 10 SECOND'),
        'what expires is not swept')

    versions = dict(database.execute(f'SELECT {ID_TEXT}, version FROM payment'))
    state = model.State()
    state.payments = found['payments']
    payments = {}

    for id, [known, *_] in state.payments.items():
        fits = [payment for payment in state.possible(id, known.merchant)
                if payment.version == versions.get(id)]

        assert len(fits) == 1, f'{known} has version {versions.get(id)}'
        payments[id] = fits[0]

    return {**found, 'payments': payments}


def payment_row(p):
    return (p.id, p.merchant, p.currency, p.status, p.amount, p.captured,
            p.refunded, p.version, p.created, p.expires)


ID_TEXT = """LOWER(CONCAT_WS('-', HEX(LEFT(id, 4)), HEX(SUBSTR(id, 5, 2)),
    HEX(SUBSTR(id, 7, 2)), HEX(SUBSTR(id, 9, 2)), HEX(SUBSTR(id, 11))))"""
TIME = "CONCAT(LEFT(DATE_FORMAT({}, '%Y-%m-%dT%H:%i:%s.%f'), 23), 'Z')"


def check_payments(database, payments):
    rows = database.execute(
        f'SELECT {ID_TEXT}, merchant_id, currency, status, amount,'
        ' captured_amount, refunded_amount, version,'
        f" {TIME.format('created_at')}, {TIME.format('expires_at')},"
        f" {TIME.format('expired_at')}, {TIME.format('updated_at')}"
        ' FROM payment')

    found = {row[0]: row for row in rows}
    lost = set(payments) - set(found)
    phantom = set(found) - set(payments)

    assert not lost, f'{len(lost)} payments were answered and are not there'
    assert not phantom, f'{len(phantom)} payments nobody was told of: ' \
                        f'{[found[id] for id in list(phantom)[:3]]}'

    for id, row in found.items():
        payment = payments[id]
        *told, expired, updated = row
        assert tuple(told) == payment_row(payment), id
        assert updated >= payment.created, f'{id} is older than it is'
        assert payment.updated in (None, updated), id
        assert (expired is not None) == model.has_expired(payment), id
        assert expired is None or payment.expires <= expired <= updated, id


def check_keys(database, payments, keys, operations_without_key):
    rows = database.execute(
        f'SELECT key_hash, LOWER(HEX({ID_OF_KEY})), operation,'
        ' COALESCE(version, 1),'
        " COALESCE(status, 'AUTHORIZED'), COALESCE(captured_amount, 0),"
        ' COALESCE(refunded_amount, 0)'
        ' FROM idempotency_key')
    expected = {model.key_hash(merchant, key):
                (k.id.replace('-', ''), k.do,
                 model.asked_for(payments[k.id])[k.number - 1].version)
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

    model.check_in_time(payment, payload['eventType'], payload['occurredAt'])

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

def config(database, brokers=NOWHERE, more=''):
    return database.shard() + f"""
        payment_kafka_brokers {brokers};
        payment_kafka_topic {TOPIC};
        payment_outbox_initial_delay 0;
        payment_breaker off;
        {more}
    """ + CONFIG


@pytest.fixture(scope='module')
def nodes(database):
    with open(LIST_INDEX, encoding='utf-8') as file:
        database.execute(file.read())

    made = []

    try:
        for i in range(NODES):
            made.append(Nginx(f'model-{i}', config(database),
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
        return settled(database,
                       run_one(ports, os.environ['PAYMENT_TEST_PROGRAM']))

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

    total = settled(database, together(found))
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
        'expired': sum(map(model.has_expired, total['payments'].values())),
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
    check_keys(database, ran['payments'], ran['keys'],
               ran['operations_without_key'])


def test_operations_are_the_models(ran, database):
    """They are the payments' events, of which the model knows that they sum to
    the payments' amounts."""

    check_operations(database, ran['payments'])


def check_operations(database, payments):
    rows = database.execute(
        'SELECT LOWER(HEX(payment_id)), version, operation, status, amount,'
        f' reason, reference, metadata FROM {ALL_OPERATIONS}'
        ' ORDER BY payment_id, version')
    found = collections.defaultdict(list)

    for id, version, do, status, amount, reason, reference, metadata in rows:
        found[id].append(model.Event(
            model.EVENTS[do], version, status, None, None, amount, reason,
            reference, metadata and json.loads(metadata)))

    assert found == {
        id.replace('-', ''): [event._replace(captured=None, refunded=None)
                              for event in payment.events]
        for id, payment in payments.items()}


def test_events_are_the_models(ran, database):
    check_outbox(database, ran['payments'])


def test_events_reach_kafka(ran, nodes, database):
    """All that has piled up, each event once, a payment's in order."""

    port = os.environ['PAYMENT_TEST_KAFKA_PORT']

    for nginx in nodes:
        nginx.configure(config(database, f'127.0.0.1:{port}'), WORKERS)
        nginx.reload()

    await_that(lambda: database.value('SELECT COUNT(*) FROM outbox_event') == 0,
               lambda: 'the outbox does not come empty\n'
                       + ''.join(read(nginx.log) for nginx in nodes), 120)

    assert database.value('SELECT COUNT(*) FROM outbox_dead') == 0

    versions = {}
    records = 0

    for one in consume(port, TOPIC):
        payload = json.loads(one.value())
        EVENT.validate(payload)
        id, version = check_event(ran['payments'], payload)

        assert one.key().decode() == payload['merchantId']
        assert versions.get(id, 0) == version - 1, f'{id} {version}'
        versions[id] = version
        records += 1

    assert versions == {p.id: p.version for p in ran['payments'].values()}
    print(f'\n{records} records in Kafka')

    if LONG and 'result' in ran:
        record('api-model', {**ran['result'], 'records_in_kafka': records})


@pytest.mark.skipif(not LONG, reason='keys are kept for a quarter of a minute')
def test_after_keys_are_purged(ran, nodes, database):
    """Operations, payments and lists of them are told as before, and keys are
    not known."""

    port = os.environ['PAYMENT_TEST_KAFKA_PORT']

    for nginx in nodes:
        nginx.configure(config(
            database, f'127.0.0.1:{port}',
            f'payment_idempotency_retention {KEY_RETENTION_S}s;'), WORKERS)
        nginx.reload()

    await_that(lambda: not database.value(
        'SELECT COUNT(*) FROM idempotency_key'), 'keys stay', 600)

    check_operations(database, ran['payments'])

    asker = Asker(ran['payments'])

    for i, nginx in enumerate(nodes):
        with nginx.connection() as connection:
            for payment in list(ran['payments'].values())[i::len(nodes)]:
                for do in ('get', 'operations'):
                    asker.ask(connection, do, payment.merchant, payment.id)

            for merchant, key in list(ran['keys'])[i::len(nodes)]:
                asker.ask(connection, 'lookup', merchant, query_key=key)

            for merchant in list(asker.state.merchants)[i::len(nodes)]:
                asker.ask_pages(connection, merchant)


class Asker:
    """Reads of what the model knows, when nothing happens any more."""

    def __init__(self, payments):
        self.state = model.State()

        for id, payment in payments.items():
            self.state.payments[id] = (payment,)
            self.state.merchants[payment.merchant] = (
                *self.state.merchants.get(payment.merchant, ()), id)

    def ask(self, connection, do, merchant, id=NOBODY, **more):
        data, call = render(
            {'do': do, 'method': 'GET', 'at': '/api/payments', 'pay': 'it',
             'merchant': merchant, 'headers': [], 'query': True, **more},
            '', {'it': id})
        connection.send(data)
        response = connection.read()

        for where, key, value in self.state.accept(model.read(call), response):
            where[key] = value

        return response

    def ask_pages(self, connection, merchant):
        more = [['limit', '7']]

        while True:
            page = self.ask(connection, 'list', merchant, more=more).json()

            if 'nextCursor' not in page:
                break

            more[1:] = [['cursor', page['nextCursor']]]


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
