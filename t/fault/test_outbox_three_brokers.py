"""Three brokers, and whatever is acknowledged is on two of them: one may die,
freeze or lose its disk, and all may be started anew, one after the other. No
client notices, nothing is lost, and the order is kept.
"""

import random
import shutil
import time

import pytest
from confluent_kafka.admin import NewTopic

import ha
from client import Load
from conftest import LONG
from outbox import (committed, fill, judge, partition_of,     # noqa: F401
                    pending, relay, settings, start_outbox, three_brokers, topic,
                    wait_empty, wait_leased)
from servers import wait_for
from test_outbox_kafka import QUICK, transitions

pytestmark = pytest.mark.timeout(2 * 3600 if LONG else 300)

ROUNDS = ha.ROUNDS if LONG else 1

# after SIGSTOP the controllers notice within 3 s here, and 9 s by default
FLOWS_AGAIN = 15

# of an event that a producer has on its way when it cannot go on
IN_FLIGHT = 15000


@pytest.fixture
def kafka(three_brokers):
    return three_brokers


def in_sync(kafka, topic):
    """How many replicas the worst partition has that are in sync."""

    def worst():
        known = kafka.admin().list_topics(topic, 10).topics[topic]
        return min(len(p.isrs) for p in known.partitions.values())

    return worst


def wait_in_sync(kafka, topic):
    worst = in_sync(kafka, topic)
    wait_for(lambda: worst() == 3, 60, 'three replicas in sync')


def wait_flow(nginx, seconds=30):
    """Until events are published that were not there when it began."""

    published = relay(nginx)['published']
    began = time.monotonic()
    wait_for(lambda: relay(nginx)['published'] > published + 100, seconds,
             'events in Kafka')

    return time.monotonic() - began


def dies(kafka, nginx, broker, topic):
    broker.kill()
    wait_flow(nginx)
    broker.start()


def freezes(kafka, nginx, broker, topic):
    broker.freeze()
    time.sleep(random.random() * 2)
    took = wait_flow(nginx)
    assert took <= FLOWS_AGAIN, took
    broker.thaw()


def is_restarted(kafka, nginx, broker, topic):
    """As in an upgrade: each of them, when the one before is well again."""

    for one in kafka:
        one.stop()
        one.start()
        wait_in_sync(kafka, topic)

    wait_flow(nginx)


def is_left_alone(kafka, nginx, broker, topic):
    """The two others die: what it would acknowledge could be lost with it."""

    others = [other for other in kafka if other is not broker]

    for other in others:
        other.kill()

    time.sleep(random.random() + 1)
    kafka.start()
    wait_flow(nginx, 60)


def loses_its_disk(kafka, nginx, broker, topic):
    broker.kill()
    shutil.rmtree(broker.dir / 'kafka')
    broker.start()
    wait_flow(nginx)


FAULTS = [dies, is_left_alone, freezes, is_restarted, loses_its_disk]


@pytest.mark.parametrize('fault', [
    fault if fault in FAULTS[:2] else pytest.param(fault,
                                                   marks=pytest.mark.long)
    for fault in FAULTS], ids=lambda fault: fault.__name__)
def test_a_broker_that(fault, start_outbox, mariadb, database, kafka, topic,
                       journal):
    print(f'PAYMENT_TEST_SEED={ha.SEED}')
    rng = random.Random(ha.SEED)
    nginx = start_outbox(**QUICK)
    wait_leased(nginx)
    wait_in_sync(kafka, topic)

    with Load(nginx.port, journal, clients=4, changes=True, pause=0.01,
              seed=ha.SEED) as load:
        load.wait(100)

        for number in range(ROUNDS):
            print(f'round {number + 1}')
            time.sleep(rng.random())
            fault(kafka, nginx, rng.choice(kafka), topic)
            wait_in_sync(kafka, topic)

    assert not load.bad(), load.bad()[:5]
    wait_empty(mariadb, database, 60)
    repeats = judge(kafka.messages(topic), committed(mariadb, database),
                    IN_FLIGHT * ROUNDS, 8)
    ha.row(f'a broker {fault.__name__}', '', ROUNDS, load.calls,
           dict.fromkeys(ha.FIGURES, 0), f'{repeats} events came again')


@pytest.mark.long
def test_without_copies_a_broker_that_loses_its_disk(
        start_outbox, mariadb, database, kafka, topic, journal):
    """It loses what was acknowledged: with one replica, nobody else has it."""

    one = f'{topic}-one'
    kafka.create(one, replicas=1, min_insync_replicas=1)
    nginx = start_outbox(kafka_topic=one, **QUICK)
    wait_leased(nginx)

    with Load(nginx.port, journal, clients=4, pause=0.01) as load:
        load.wait(300)
        wait_flow(nginx)
        loses_its_disk(kafka, nginx, kafka[0], one)

    wait_empty(mariadb, database, 60)
    there = {message.id for message in kafka.messages(one)}
    lost = len(committed(mariadb, database).keys() - there)
    ha.row('a broker loses_its_disk', 'one replica', 1, load.calls,
           dict.fromkeys(ha.FIGURES, 0) | dict(lost=lost), '')
    assert lost


def test_too_few_copies_of_one_partition(start_outbox, mariadb, database,
                                         kafka, topic):
    """Its leader lives and takes nothing, for one replica is not enough; the
    other partition's events go on, and nothing is blamed."""

    name = f'{topic}-two'
    admin = kafka.admin()
    admin.create_topics([NewTopic(name, 2, replica_assignment=[[1, 2], [1, 3]],
                                  config={'min.insync.replicas': '2'})]
                        )[name].result(20)
    nginx = start_outbox(kafka_topic=name)
    wait_leased(nginx)
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)

    kafka[1].kill()
    wait_for(lambda: in_sync(kafka, name)() == 1, 30, 'one replica')
    until = time.monotonic() + 15

    while time.monotonic() < until:
        expected.update(fill(mariadb, database, 20))
        time.sleep(0.1)

    def well():
        return [m for m, in mariadb.query('SELECT merchant_id FROM'
                                          ' outbox_event', database)
                if partition_of(m, 2) == 1]

    wait_for(lambda: not well(), 10, 'what is well')
    assert pending(mariadb, database) > 0
    assert nginx.lines(f'partition 0 of topic "{name}" takes no events')
    assert transitions(nginx) == [] and relay(nginx)['dead'] == 0

    kafka[1].start()
    wait_empty(mariadb, database, 60)
    judge(kafka.messages(name), expected, 0, 2)


@pytest.mark.parametrize('replicas, insync, told', [
    (3, 2, None), (3, 1, 'has replication factor 3 and min.insync.replicas 1'),
    (1, 1, 'has replication factor 1 and min.insync.replicas 1')])
def test_too_few_copies_are_told(start_outbox, kafka, topic, replicas, insync,
                                 told):
    """Of the topic, once."""

    name = f'{topic}-{replicas}-{insync}'
    kafka.create(name, replicas=replicas, min_insync_replicas=insync)
    nginx = start_outbox(kafka_topic=name)

    # that Kafka is reached is told by the same statistics
    wait_for(lambda: nginx.status()['outbox']['kafka_up'], 15, 'statistics')

    if told is None:
        time.sleep(1)
        assert not nginx.lines('replicas')
        return

    wait_for(lambda: nginx.lines(told), 10, 'a line about it')
    assert len(nginx.lines(f'topic "{name}" {told}')) == 1
