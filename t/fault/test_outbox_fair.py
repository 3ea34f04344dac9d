"""What makes one payment, one topic or one partition wait makes nobody else
wait: the others are read past it, and published; and order is kept."""

import time
import uuid

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from outbox import (COLUMNS, Kafka, fill, judge, kafka,         # noqa: F401
                    outbox, partition_of, pending, relay, running,
                    start_outbox, topic, wait_empty, wait_leased, waits)
from servers import wait_for
from test_outbox_kafka import breaker, transitions

# the longest time without a publication: the slow-call time, and a look
STANDSTILL = 4


class Second(Kafka):
    """Another broker of that Kafka. What only it has is sick while it is
    dead."""

    def __init__(self, kafka):
        super().__init__('kafka-fair-2')
        self.first = kafka
        self.options = '\n'.join((
            'process.roles=broker', 'node.id=2',
            f'controller.quorum.voters=1@127.0.0.1:{kafka.port + 1}',
            f'listeners=PLAINTEXT://127.0.0.1:{self.port}'))

    def create_on(self, topic, *brokers):
        """A topic with a partition on each of these brokers; its messages have
        the time of their coming."""

        admin = AdminClient({'bootstrap.servers': self.first.address})
        admin.create_topics(
            [NewTopic(topic, len(brokers),
                      replica_assignment=[[b] for b in brokers],
                      config={'message.timestamp.type': 'LogAppendTime'})]
            )[topic].result(20)


@pytest.fixture(scope='module')
def _kafka(work):
    """A cluster that other tests' topics are not spread over."""
    yield from running(Kafka('kafka-fair'))


@pytest.fixture(scope='module')
def _second(_kafka):
    yield from running(Second(_kafka))


@pytest.fixture
def second(kafka, _second):                                     # noqa: F811
    _second.start()
    admin = AdminClient({'bootstrap.servers': kafka.address})
    wait_for(lambda: len(admin.list_topics(timeout=20).brokers) == 2, 60,
             'two brokers')
    return _second


def change(mariadb, database, payment, merchant, *versions):
    """Events of a payment: version 1 authorizes it, 2 captures, all others
    refund."""

    types = {1: 'authorized', 2: 'captured'}
    mariadb.query(
        f'INSERT INTO outbox_event ({COLUMNS}) VALUES ' + ','.join(
            f"('payment', '{payment}', '{types.get(v, 'refunded')}',"
            f" '{merchant}', {v}, UTC_TIMESTAMP(6), NULL, '{{}}')"
            for v in versions), database)
    return {f'{payment}:{v}': merchant for v in versions}


def waiting(mariadb, database, condition):
    return mariadb.query('SELECT COUNT(*) FROM outbox_event WHERE '
                         + condition, database)[0][0]


def test_many_changes_of_one_payment(start_outbox, mariadb, database, kafka,
                                     topic):
    nginx = start_outbox()
    wait_leased(nginx)

    one = str(uuid.uuid4())
    expected = {}

    for first in range(1, 3001, 1000):
        expected.update(change(mariadb, database, one, 'M-1',
                               *range(first, first + 1000)))

    expected.update(fill(mariadb, database, 500))
    began = time.monotonic()
    wait_for(lambda: not waiting(mariadb, database,
                                 f"aggregateid <> '{one}'"), 20,
             'the others')
    took = time.monotonic() - began
    left = waiting(mariadb, database, f"aggregateid = '{one}'")
    print(f'500 others after {took:.1f} s, {left} of the one are left')
    assert left > 500, 'the one was not slow enough'
    assert took < 3

    wait_empty(mariadb, database, 100)
    judge(kafka.messages(topic), expected, 0, 8)
    assert relay(nginx)['rewinds'] == 0


class Gaps:
    """Watches that publishing goes on."""

    def __init__(self, nginx):
        self.nginx = nginx
        self.n = relay(nginx)['published']
        self.since = time.monotonic()
        self.longest = 0

    def look(self):
        n = relay(self.nginx)['published']
        now = time.monotonic()
        self.longest = max(self.longest, now - self.since)

        if n > self.n:
            self.n, self.since = n, now


def calm(nginx):
    assert transitions(nginx) == []
    assert breaker(nginx)['state'] == 'CLOSED'
    assert outbox(nginx)['producers'] == 1


@pytest.mark.timeout(300)
def test_sick_topic(start_outbox, mariadb, database, kafka, topic, second):
    """Captures go to a topic without leaders, a tenth of all events: what comes
    after a capture waits for it, and nothing else does."""

    topics = {t: f'{topic}-{t}' for t in ('authorized', 'captured',
                                          'refunded')}

    for t, name in topics.items():
        second.create_on(name, *[2 if t == 'captured' else 1] * 4)

    nginx = start_outbox(kafka_topic=f'{topic}-$event')
    wait_leased(nginx)
    expected = {}
    rounds = 0

    def round():
        expected.update(fill(mariadb, database, 18))
        payment, merchant = uuid.uuid4(), f'M-{rounds}'
        expected.update(change(mariadb, database, payment, merchant, 1))
        expected.update(change(mariadb, database, payment, merchant, 2, 3))

    round()
    wait_empty(mariadb, database)
    second.kill()
    gaps = Gaps(nginx)
    until = time.monotonic() + 30

    while time.monotonic() < until:
        rounds += 1
        round()
        gaps.look()

    print(f'{rounds} rounds, no longer than {gaps.longest:.1f} s without')
    assert gaps.longest < STANDSTILL
    calm(nginx)
    wait_for(lambda: not waiting(mariadb, database, 'version = 1'), 10,
             'what is healthy')
    assert waiting(mariadb, database, 'version > 1') == 2 * rounds
    assert kafka.count(topics['refunded']) == 1

    waited = waits(kafka.messages(topics['authorized']))
    print(f'{len(waited)} healthy events: half of them after'
          f' {waited[len(waited) // 2]:.3f} s, 99 % after'
          f' {waited[len(waited) * 99 // 100]:.3f} s, all after'
          f' {waited[-1]:.3f} s')
    assert waited[len(waited) * 99 // 100] < STANDSTILL / 2
    assert waited[-1] < STANDSTILL

    # what is on its way may be given up while the broker takes it
    repeats = relay(nginx)['in_flight']
    second.start()
    wait_empty(mariadb, database, 60)
    calm(nginx)

    for version, t in enumerate(topics, 1):
        found = [m.id for m in kafka.messages(topics[t])]
        wanted = {e for e in expected
                  if int(e.rpartition(':')[2]) == version}
        assert set(found) == wanted, t
        repeats -= len(found) - len(wanted)

    assert repeats >= 0


@pytest.mark.timeout(300)
def test_more_sick_events_than_are_known(start_outbox, mariadb, database,
                                         kafka, topic, second):
    """Far more wait for a sick topic than the table of known events holds:
    they are read past, and published in order when it is well again."""

    authorized, captured = f'{topic}-authorized', f'{topic}-captured'
    second.create_on(authorized, 1, 1)
    second.create_on(captured, 2, 2)
    second.kill()
    nginx = start_outbox(kafka_topic=f'{topic}-$event', max_in_flight=1000,
                         batch_size=100)
    wait_leased(nginx)

    expected = {}

    for _ in range(20):
        expected.update(fill(mariadb, database, 1000, kind='captured'))
        expected.update(fill(mariadb, database, 100))
        wait_for(lambda: not waiting(mariadb, database,
                                     "type = 'authorized'"), STANDSTILL,
                 'the healthy ones')

    calm(nginx)
    second.start()
    wait_empty(mariadb, database, 60)
    assert kafka.count(captured) + kafka.count(authorized) == len(expected)


@pytest.mark.timeout(300)
def test_leaderless_partition(start_outbox, mariadb, database, kafka, topic,
                              second):
    """One of two partitions is on a broker that dies."""

    topic += '-two'
    second.create_on(topic, 1, 2)
    nginx = start_outbox(kafka_topic=topic)
    wait_leased(nginx)
    expected = fill(mariadb, database, 200)
    wait_empty(mariadb, database)

    second.kill()
    gaps = Gaps(nginx)
    until = time.monotonic() + 30

    while time.monotonic() < until:
        expected.update(fill(mariadb, database, 20, each=2))
        gaps.look()

    print(f'no longer than {gaps.longest:.1f} s without')
    assert gaps.longest < STANDSTILL
    calm(nginx)

    def healthy():
        return [m for m, in mariadb.query('SELECT merchant_id FROM'
                                          ' outbox_event', database)
                if partition_of(m, 2) == 0]

    wait_for(lambda: not healthy(), 10, 'what is healthy')
    assert pending(mariadb, database) > 0

    second.start()
    wait_empty(mariadb, database, 60)
    calm(nginx)
    judge(kafka.messages(topic), expected, 0, 2)
