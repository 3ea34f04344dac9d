"""What the tests of the outbox are given: a Kafka that may be killed, a
writer that commits events as the workers do but faster and worse, and the
invariants between the database and the topic.

I5   every committed event is in the topic, and nothing else
I6   the table is empty afterwards
I7   each event once, but for as many as the test allows; repeats are equal to
     the byte
I8   a payment's events come in the order of their versions, and lie in the
     partition of their merchant (I9)
"""

import base64
import collections
import datetime
import json
import os
import random
import re
import shutil
import signal
import subprocess
import textwrap
import threading
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

import confluent_kafka
import jsonschema_rs
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka, to_binary
from cloudevents.core.formats.json import JSONFormat

import servers
from freeport import free_port
from servers import ROOT, WORK, wait_for

# what consumers are promised of a message
CONTRACT = json.loads((ROOT / 'ngx_payment_module/http/asyncapi.json')
                      .read_text())['components']['messages']['paymentEvent']
HEADERS_SCHEMA = jsonschema_rs.Draft7Validator(CONTRACT['headers'])
EVENT_SCHEMA = jsonschema_rs.Draft7Validator(CONTRACT['payload']['schema'])

# and what those of each release were promised
RELEASED = [(schema['properties']['eventType']['enum'],
             jsonschema_rs.Draft7Validator(schema))
            for schema in (json.loads(file.read_text())['payload'] for file in
                           (ROOT / 't/released').glob('*/events.json'))]
assert RELEASED

# the payloads of rows that tests write by themselves, which are no events: these
# never end with an empty object
PLAYED = re.compile(rb'.*\{\}\}?|\{"n":\d+\}|x+', re.S)

COLUMNS = ('aggregatetype, aggregateid, type, merchant_id, version,'
           ' created_at, traceparent, payload')


class Broker:
    """A private one; its port stays the same over restarts."""

    def __init__(self, name, options='', heap_mb=320):
        self.dir = WORK / name
        self.options = options
        self.heap_mb = heap_mb
        self.port = free_port(2)       # and the controller's

    @property
    def address(self):
        return f'127.0.0.1:{self.port}'

    def _tool(self, verb, *arguments):
        environment = dict(os.environ, KAFKA_HEAP_MB=str(self.heap_mb),
                           KAFKA_OPTIONS=self.options.replace('\n', '\\n'))
        subprocess.run([ROOT / 'tools' / 'server.sh', 'kafka', verb,
                        self.dir, *arguments], env=environment, check=True,
                       stdout=subprocess.DEVNULL, timeout=200)

    def first_start(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        self.start()

    def start(self):
        self._tool('start', str(self.port))

    def stop(self):
        self._tool('stop')

    def kill(self):
        self._tool('kill')

    def runs(self):
        return (self.dir / 'kafka.pid').exists()

    def pid(self):
        return int((self.dir / 'kafka.pid').read_text())

    def freeze(self):
        """It is there, and does not answer."""
        os.kill(self.pid(), signal.SIGSTOP)

    def thaw(self):
        os.kill(self.pid(), signal.SIGCONT)


class Topics:
    """What clients do with a Kafka at some address."""

    watcher = None
    replicas = 1

    def close(self):
        if self.watcher:
            self.watcher.close()
            self.watcher = None

    def admin(self):
        from confluent_kafka.admin import AdminClient

        return AdminClient({'bootstrap.servers': self.address})

    def create(self, topic, partitions=8, replicas=None, **config):
        from confluent_kafka.admin import NewTopic

        config = {name.replace('_', '.'): str(value)
                  for name, value in config.items()}
        admin = self.admin()         # lives until the answer has come
        admin.create_topics([NewTopic(
            topic, partitions, replicas or self.replicas, config=config)]
            )[topic].result(20)

        # the brokers follow their controller
        self.ends(topic)

    def delete(self, *topics):
        admin = self.admin()

        for deletion in admin.delete_topics(list(topics)).values():
            deletion.result(60)

    def configure(self, topic, **config):
        from confluent_kafka.admin import (
            AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType)

        resource = ConfigResource(
            ResourceType.TOPIC, topic, incremental_configs=[
                ConfigEntry(name.replace('_', '.'), str(value),
                            incremental_operation=AlterConfigOpType.SET)
                for name, value in config.items()])
        admin = self.admin()
        admin.incremental_alter_configs([resource])[resource].result(20)

        # the broker follows its controller
        wait_for(lambda: all(
            admin.describe_configs([resource])[resource].result(20)
            [name.replace('_', '.')].value == str(value)
            for name, value in config.items()), 20, "the topic's settings")

    def quota(self, bytes_per_second):
        """What a client may produce; None: as much as it can."""

        change = ['--delete-config', 'producer_byte_rate'] \
            if bytes_per_second is None else \
            ['--add-config', f'producer_byte_rate={bytes_per_second}']
        subprocess.run(
            ['java', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-cp',
             f'{ROOT}/build/kafka/libs/*', 'kafka.admin.ConfigCommand',
             '--bootstrap-server', self.address, '--alter', '--entity-type',
             'clients', '--entity-default', *change], check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    def consumer(self):
        return confluent_kafka.Consumer({
            'bootstrap.servers': self.address, 'group.id': str(uuid.uuid4()),
            'enable.auto.commit': False, 'enable.partition.eof': False,
            'auto.offset.reset': 'earliest', 'log_level': 0, 'fetch.wait.max.ms': 50,
            'isolation.level': 'read_uncommitted'})

    def ends(self, topic, consumer=None):
        """{partition: the offset after its last message}"""

        if consumer is None:
            self.watcher = consumer = self.watcher or self.consumer()

        deadline = time.monotonic() + 20

        while True:
            try:
                known = consumer.list_topics(topic, 20).topics[topic]
                return {p: consumer.get_watermark_offsets(
                    confluent_kafka.TopicPartition(topic, p), 20)[1]
                    for p in known.partitions}
            except confluent_kafka.KafkaException:
                # a topic just made, a broker just started
                if time.monotonic() > deadline:
                    raise

    def count(self, topic):
        return sum(self.ends(topic).values())

    def messages(self, topic):
        """All of them, in the order of each partition."""

        consumer = self.consumer()

        try:
            ends = self.ends(topic, consumer)
            consumer.assign([confluent_kafka.TopicPartition(topic, p, 0)
                             for p in ends])
            wanted = sum(ends.values())
            found = []
            deadline = time.monotonic() + 60

            while len(found) < wanted:
                assert time.monotonic() < deadline, \
                    f'{len(found)} of {wanted} messages could be read'

                for message in consumer.consume(10000, 1):
                    # a million of them take minutes
                    deadline = time.monotonic() + 60
                    assert message.error() is None, message.error()
                    found.append(Message(message))
                    keeps_contract(found[-1])

            return found
        finally:
            consumer.close()


class Kafka(Broker, Topics):
    """One broker, which is all of the cluster."""

    def __init__(self, name='kafka', options=''):
        super().__init__(name, options)

    def stop(self):
        self.close()
        super().stop()

    def clear(self):
        """Of hundreds of tests' topics its memory would become full."""

        topics = [topic for topic in self.admin().list_topics(timeout=20).topics
                  if not topic.startswith('__')]

        if topics:
            self.delete(*topics)


class Cluster(list, Topics):
    """Three brokers, each a controller, too; whatever is acknowledged is on two
    of them."""

    replicas = 3

    # what is written for one broker, and this for all of several
    OPTIONS = """
        controller.quorum.voters={voters}
        default.replication.factor=3
        min.insync.replicas=2
        offsets.topic.replication.factor=3
        unclean.leader.election.enable=false
        controller.quorum.election.timeout.ms=500
        controller.quorum.fetch.timeout.ms=1000
        node.id={number}"""

    def __init__(self):
        super().__init__(Broker(f'kafka-{number}', heap_mb=192)
                         for number in (1, 2, 3))
        voters = ','.join(f'{number}@127.0.0.1:{broker.port + 1}'
                          for number, broker in enumerate(self, 1))

        for number, broker in enumerate(self, 1):
            broker.options = textwrap.dedent(self.OPTIONS.format(
                voters=voters, number=number)).strip()

    @property
    def address(self):
        return ','.join(broker.address for broker in self)

    def first_start(self):
        self._each(Broker.first_start)

    def start(self):
        """All that do not run: one alone is no quorum, and does not answer."""
        self._each(Broker.start)

    def stop(self):
        self.close()
        self._each(Broker.stop)

    def _each(self, what):
        with ThreadPoolExecutor() as pool:
            list(pool.map(what, self))


def keeps_contract(message):
    """Its headers are those of the AsyncAPI description; and its payload is an
    event of the schema and the data of a CloudEvent, but where a test wrote the
    row by itself."""

    HEADERS_SCHEMA.validate(message.headers)

    if is_played(message):
        return

    event = json.loads(message.value)
    EVENT_SCHEMA.validate(event)

    for types, schema in RELEASED:
        if event['eventType'] in types:
            schema.validate(event)

    assert message.id == f'{event["paymentId"]}:{event["version"]}'
    assert message.key == event['merchantId']
    is_a_cloud_event(message, event)


def is_played(message):
    return PLAYED.fullmatch(message.value) is not None


def is_a_cloud_event(message, event):
    """CloudEvents' own library reads the message, and reads the same in what it
    makes of it."""

    wire = KafkaMessage({name: value.encode()
                         for name, value in message.headers.items()},
                        message.key, message.value)
    read = from_kafka(wire, JSONFormat())

    assert (read.get_id(), read.get_subject()) == \
        (message.id, event['paymentId'])
    assert read.get_type().rpartition('.')[2] == event['eventType']
    assert read.get_data() == event

    again = from_kafka(to_binary(read, JSONFormat()), JSONFormat())
    assert again.get_attributes() == read.get_attributes()
    assert again.get_data() == event


class Message:
    __slots__ = ('partition', 'offset', 'key', 'value', 'headers',
                 'timestamp')

    def __init__(self, message):
        self.partition = message.partition()
        self.offset = message.offset()
        self.key = (message.key() or b'').decode()
        self.value = message.value()
        self.headers = {name: value.decode()
                        for name, value in message.headers() or ()}
        self.timestamp = message.timestamp()[1] / 1000      # Unix time

    @property
    def id(self):
        return self.headers['id']

    @property
    def payment(self):
        return self.id.rpartition(':')[0]

    @property
    def version(self):
        return int(self.headers['version'])

    @property
    def epoch(self):
        return int(self.headers['epoch'])


def murmur2(data):
    """As Java's client computes it, for the partition of a key."""

    mask, m = 0xffffffff, 0x5bd1e995
    h = (0x9747b28c ^ len(data)) & mask

    for i in range(0, len(data) // 4 * 4, 4):
        k = int.from_bytes(data[i:i + 4], 'little') * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k

    rest = data[len(data) // 4 * 4:]

    if rest:
        h = (h ^ int.from_bytes(rest, 'little')) * m & mask

    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key, partitions):
    return (murmur2(key.encode()) & 0x7fffffff) % partitions


def judge(messages, expected, duplicates=0, partitions=None):
    """expected is {event id: merchant}. Returns how many came twice."""

    seen = {}
    latest = collections.defaultdict(int)
    repeats = 0

    for message in messages:
        ident = message.id

        assert ident in expected, f'I5: {ident} was never committed'
        assert message.key == expected[ident]

        if partitions:
            assert message.partition == partition_of(message.key, partitions), \
                f'I9: {message.key} in partition {message.partition}'

        if ident in seen:
            repeats += 1
            assert seen[ident] == message.value, f'I7: {ident} changed'
            continue

        seen[ident] = message.value

        # the first time of an event: all before it must have been there
        assert message.version == latest[message.payment] + 1, \
            f'I8: {ident} after version {latest[message.payment]}'
        latest[message.payment] = message.version

    missing = expected.keys() - seen.keys()
    assert not missing, f'I5: {len(missing)} not there: {sorted(missing)[:5]}'
    assert repeats <= duplicates, f'I7: {repeats} came again'

    return repeats


def waits(messages):
    """The seconds from each event's commit until Kafka had it, the shortest
    first; of a topic whose messages have the time of their coming."""

    return sorted(m.timestamp - datetime.datetime.fromisoformat(
        m.headers['ce_time']).timestamp() for m in messages)


def pending(mariadb, database):
    return mariadb.query('SELECT COUNT(*) FROM outbox_event', database)[0][0]


def lease(mariadb, database):
    """{name: value} of the shard's lease, and whether it runs."""

    with mariadb.admin(database) as db:
        db.execute('SELECT owner_uuid, epoch, lock_until > UTC_TIMESTAMP(3)'
                   " FROM outbox_lease WHERE name = 'payment-outbox'")
        row = db.fetchone()

    return dict(owner=row[0], epoch=row[1], live=bool(row[2])) if row else None


def committed(mariadb, database):
    """What the tables say that was published: {event id: merchant}."""

    rows = mariadb.query('SELECT id, merchant_id, version FROM payment',
                         database)
    return {f'{uuid.UUID(bytes=ident)}:{v}': merchant
            for ident, merchant, version in rows
            for v in range(1, version + 1)}


def wait_empty(mariadb, database, seconds=30):
    wait_for(lambda: pending(mariadb, database) == 0, seconds,
             'an empty outbox')


class Writer:
    """Commits events as workers do: several at a time, in transactions that
    overlap, some rolled back, some late. A payment's next event is written
    after the one before was committed."""

    def __init__(self, mariadb, database, threads=3, batch=20, late=0.05,
                 changes=0.4, pause=0.002, merchants=40, seed=None):
        self.mariadb = mariadb
        self.database = database
        self.threads = threads
        self.batch = batch
        self.late = late
        self.changes = changes
        self.pause = pause
        self.merchants = merchants
        self.seed = seed
        self.expected = {}
        self.stopping = False
        self.failed = None
        self.lock = threading.Lock()
        self.running = []

    def __enter__(self):
        self.running = [threading.Thread(target=self._run, args=(i,),
                                         daemon=True)
                        for i in range(self.threads)]
        for thread in self.running:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stopping = True
        for thread in self.running:
            thread.join(30)
        if error[0] is None:
            assert self.failed is None, self.failed

    def wait(self, n, seconds=60):
        """Until n more events were committed."""

        n += len(self.expected)
        wait_for(lambda: self.failed or len(self.expected) >= n, seconds,
                 'events of the writer')

    def _run(self, i):
        rng = random.Random(None if self.seed is None else self.seed + i)
        live = []

        try:
            connection = self.mariadb.session(self.database)

            while not self.stopping:
                self._transaction(connection, rng, live)
                time.sleep(self.pause)

            connection.close()
        except Exception as error:                     # told by __exit__
            self.failed = self.failed or repr(error)

    def _transaction(self, connection, rng, live):
        events = []

        for _ in range(rng.randint(1, self.batch)):
            if live and rng.random() < self.changes:
                payment, merchant, version = live.pop(rng.randrange(len(live)))
                events.append((payment, merchant, version + 1))
            else:
                events.append((str(uuid.uuid4()),
                               f'M-{rng.randrange(self.merchants)}', 1))

        cursor = connection.cursor()
        cursor.execute(
            f'INSERT INTO outbox_event ({COLUMNS}) VALUES ' + ','.join(
                "('payment', '%s', '%s', '%s', %d, UTC_TIMESTAMP(6), NULL,"
                " '{\"n\":%d}')"
                % (payment, 'authorized' if version == 1 else 'captured',
                   merchant, version, rng.randrange(1 << 30))
                for payment, merchant, version in events))

        if rng.random() < self.late:
            time.sleep(rng.random() * 0.1)

        if rng.random() < 0.02:
            connection.rollback()
            live += [(p, m, v - 1) for p, m, v in events if v > 1]
            return

        connection.commit()

        with self.lock:
            for payment, merchant, version in events:
                self.expected[f'{payment}:{version}'] = merchant

        live += [e for e in events if e[2] < 4]
        del live[:-200]


def noise(rng, size):
    """A text of so many bytes that hardly can be compressed."""

    return base64.b64encode(rng.randbytes(size * 3 // 4)).decode()


def fill(mariadb, database, n, each=1, size=0, merchants=1000, bulk=1000,
         kind='authorized', filling=noise, step=1):
    """A standing backlog; each payment has that many events, of as many bytes
    that no codec makes fewer, or of what filling(rng, size) returns; each row's
    id is that much above the last. Returns {event id: merchant}."""

    expected = {}
    rng = random.Random()
    connection = mariadb.session(database)
    cursor = connection.cursor()
    cursor.execute(f'SET SESSION auto_increment_increment = {step}')
    rows = []

    def flush():
        cursor.execute(f'INSERT INTO outbox_event ({COLUMNS}) VALUES '
                       + ','.join(rows))
        connection.commit()
        rows.clear()

    payments = [(str(uuid.UUID(int=rng.getrandbits(128))),
                 f'M-{rng.randrange(merchants)}') for _ in range(n // each)]

    for version in range(1, each + 1):
        for payment, merchant in payments:
            expected[f'{payment}:{version}'] = merchant
            rows.append(f"('payment', '{payment}', '{kind}', '{merchant}',"
                        f" {version}, UTC_TIMESTAMP(6), NULL,"
                        f" '{filling(rng, size)}{{}}')")
            if len(rows) == bulk:
                flush()

    if rows:
        flush()

    connection.close()
    return expected


def helpers(nginx):
    """The helper processes of an nginx, by their title."""

    return [pid for pid in servers._children(nginx.process.pid)
            if 'payment outbox' in servers._title(pid)]


def helper(nginx, seconds=10):
    return wait_for(lambda: helpers(nginx), seconds, 'a helper')[0]


def outbox(nginx):
    return nginx.status()['outbox']


def relay(nginx, i=0):
    return outbox(nginx)['shards'][i]


def wait_leased(nginx, seconds=10, i=0):
    return wait_for(lambda: relay(nginx, i)['lease_held'] and relay(nginx, i),
                    seconds, 'the lease')


def settings(kafka, topic, **changes):
    """The directives of the outbox; payment_outbox_x by the name x."""

    lines = {'payment_kafka_brokers': kafka.address,
             'payment_kafka_topic': topic,
             'payment_outbox_initial_delay': '0'}

    for name, value in changes.items():
        if not name.startswith(('kafka_', 'breaker', 'event_', 'trace_')):
            name = 'outbox_' + name

        lines['payment_' + name] = value

    return '\n    '.join(f'{name} {value};' if not isinstance(value, list)
                         else '\n    '.join(f'{name} {v};' for v in value)
                         for name, value in lines.items())


def free_lease(mariadb, *databases):
    for database in databases:
        mariadb.query("INSERT IGNORE INTO outbox_lease VALUES"
                      " ('payment-outbox', '2000-01-01', '2000-01-01', '', 0,"
                      " '')", database)


# for start_outbox(nginx=ADMIN)
ADMIN = dict(location='}\n        location /outbox {\n'
                      '            payment_outbox_admin;')


def admin(nginx, action=None, **members):
    """GET without an action; the answer."""

    request = urllib.request.Request(
        f'http://127.0.0.1:{nginx.port}/outbox',
        data=action and json.dumps(dict(action=action, **members)).encode(),
        headers={'Content-Type': 'application/json'})

    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def said(mariadb, database, text, what='COUNT(*)'):
    """How many statements of a database's connections hold a text; or what else
    is to be known of these."""

    return mariadb.query(
        f'SELECT {what} FROM mysql.general_log WHERE thread_id IN'
        f" (SELECT id FROM information_schema.processlist WHERE db ="
        f" '{database}') AND CONVERT(argument USING utf8) LIKE"
        f" '%{text}%'")[0][0]


def running(brokers):
    """What a fixture yields from: they begin with nothing, and end with it."""

    brokers.stop()                   # of a session that was killed
    brokers.first_start()
    yield brokers
    brokers.stop()


# fixtures: imported by the tests that use them

@pytest.fixture
def kafka(_kafka):
    """The broker; running."""
    _kafka.start()
    yield _kafka

    if _kafka.runs():
        _kafka.thaw()

    _kafka.start()
    _kafka.clear()


@pytest.fixture
def three_brokers(_three_brokers):
    """All of them, running."""

    _three_brokers.start()
    yield _three_brokers

    for broker in _three_brokers:
        if broker.runs():
            broker.thaw()

    _three_brokers.start()


@pytest.fixture
def topic(kafka):
    """A topic of this test, with 8 partitions."""
    name = f'test-{uuid.uuid4()}'
    kafka.create(name)
    return name


@pytest.fixture
def start_outbox(mariadb, database, kafka, topic, start_nginx):
    """start_outbox(..): an Nginx with its outbox on, one shard. Ends before
    what it uses does."""

    def start(shard=None, nginx=None, **changes):
        free_lease(mariadb, database)
        return start_nginx(
            shard or servers.Shard('main', database,
                                   f'unix:{mariadb.socket}'),
            http=settings(kafka, topic, **changes), **(nginx or {}))

    return start


@pytest.fixture
def general_log(mariadb):
    mariadb.query('TRUNCATE mysql.general_log')
    mariadb.query("SET GLOBAL log_output = 'TABLE', GLOBAL general_log = 1")
    yield
    mariadb.query("SET GLOBAL general_log = 0, GLOBAL log_output = 'FILE'")
