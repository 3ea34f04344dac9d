"""What librdkafka itself may do: its queue is full, or it gives up for good."""

import time

import pytest

from client import Client
from kafka_proxy import KafkaProxy
from outbox import (Writer, committed, fill, judge, kafka,    # noqa: F401
                    outbox, partition_of, pending, relay, start_outbox, topic,
                    wait_empty, wait_leased)
from servers import wait_for
from test_outbox_fair import STANDSTILL, Gaps
from test_outbox_helper import kill_helper
from test_outbox_kafka import (GUARDED, AclOperation, Kafka, ResourceType,
                               breaker, deny, transitions, wait_state)

OUT_OF_ORDER_SEQUENCE_NUMBER = 45
UNKNOWN_SERVER_ERROR = -1


@pytest.fixture
def behind_proxy(kafka, start_outbox):
    """behind_proxy(..): an Nginx, and the KafkaProxy before its broker."""

    proxies = []

    def start(delay=0, **changes):
        proxy = KafkaProxy(kafka, delay=delay)
        proxies.append(proxy)
        nginx = start_outbox(kafka_brokers=proxy.address, **changes)
        wait_leased(nginx)
        return nginx, proxy

    yield start

    for proxy in proxies:
        proxy.close()


def test_queue_is_full(behind_proxy, mariadb, database, kafka, topic):
    """It takes 20 events: the others wait in the table, and come once."""

    nginx, proxy = behind_proxy(
        kafka_property='queue.buffering.max.messages 20', max_in_flight=1000)

    # few are handed out while nothing is known of the topic
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)
    proxy.held.set()
    expected.update(fill(mariadb, database, 5000))

    wait_for(lambda: outbox(nginx)['queue_full'], 10, 'a full queue')
    assert relay(nginx)['in_flight'] <= 20
    assert relay(nginx)['read'] < 5000
    assert pending(mariadb, database) == 5000

    proxy.held.clear()
    wait_empty(mariadb, database, 60)
    judge(kafka.messages(topic), expected, 0, 8)
    assert relay(nginx)['failed'] == 0


def test_fatal_error(behind_proxy, mariadb, database, kafka, topic):
    """The broker took a batch and says that it misses one: the library goes on
    no more. A new producer publishes what was in flight again, and the breaker
    has not heard of it, though the batch was large. It hears of the next one,
    soon after."""

    nginx, proxy = behind_proxy()
    nginx.expect('librdkafka: FATAL')
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)
    producers = outbox(nginx)['producers']

    proxy.error = OUT_OF_ORDER_SEQUENCE_NUMBER
    again = fill(mariadb, database, 300, merchants=1)
    expected.update(again)
    wait_empty(mariadb, database)

    assert proxy.error == 0, 'nobody was told'
    assert outbox(nginx)['producers'] > producers
    assert nginx.lines("can't go on")
    judge(kafka.messages(topic), expected, len(again), 8)
    assert outbox(nginx)['kafka_up']
    assert transitions(nginx) == []

    proxy.error = OUT_OF_ORDER_SEQUENCE_NUMBER
    fill(mariadb, database, 300, merchants=1)
    wait_state(nginx, 'OPEN')


def test_the_first_batch_is_refused(behind_proxy, mariadb, database, kafka,
                                    topic, journal):
    """A broker that does not have a new partition yet refuses a batch, and
    takes the next one that has come meanwhile, whatever it begins with
    (KAFKA-15591). librdkafka reports the first as delivered, too: but it has
    no offset, and so it is sent again."""

    nginx, proxy = behind_proxy(delay=0.1)
    ask = Client(nginx.port, journal)
    ask.authorize(merchant='another')
    wait_for(lambda: relay(nginx)['published'] == 1, 20, 'a producer')

    # they follow each other so closely that several requests are on their way
    # when the first is refused, unless the machine is slow just then
    nginx.expect('failed: _INCONSISTENT')
    others = {partition_of(name, 8): name for name in 'abcdefghijklmnop'}
    others.pop(partition_of('another', 8), None)

    for merchant in others.values():
        proxy.lead_astray(topic)

        for _ in range(20):
            ask.authorize(merchant=merchant)

        wait_empty(mariadb, database)
        assert proxy.astray is None

        if nginx.lines('failed: _INCONSISTENT'):
            break

    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)
    assert nginx.lines('failed: _INCONSISTENT')
    assert relay(nginx)['failed'] > 0
    assert breaker(nginx)['failed_calls'] == 0
    assert outbox(nginx)['producers'] == 1


def test_writing_is_forbidden(start_outbox, mariadb, database, work):
    """A user who may write to no topic at all gets no idempotent producer, and
    a new one not either: they are made ever more rarely, and few lines tell of
    it. When the permission is back, all is published."""

    guarded = Kafka('kafka-forbidding', GUARDED)
    guarded.first_start()

    try:
        topic = 'forbidden'                                  # noqa: F811
        guarded.create(topic)
        nginx = start_outbox(kafka_brokers=guarded.address, kafka_topic=topic)
        wait_leased(nginx)
        expected = fill(mariadb, database, 10)
        wait_empty(mariadb, database)

        allow = [deny(guarded, ResourceType.TOPIC, '*', AclOperation.WRITE),
                 deny(guarded, ResourceType.BROKER, 'kafka-cluster',
                      AclOperation.IDEMPOTENT_WRITE)]
        kill_helper(nginx)
        wait_leased(nginx)
        expected.update(fill(mariadb, database, 100))
        nginx.expect('CLUSTER_AUTHORIZATION_FAILED')
        nginx.expect('librdkafka: FATAL')
        wait_for(lambda: nginx.lines("can't go on"), 10, 'the reason')
        assert 'may this user write' in nginx.lines("can't go on")[0]

        began, made = time.monotonic(), outbox(nginx)['producers']
        wait_for(lambda: time.monotonic() - began > 8, 20, 'some tries')
        tries = outbox(nginx)['producers'] - made
        assert tries < 8, tries
        assert len(nginx.lines("can't go on")) < 8
        assert len([line for line in nginx.lines('librdkafka: FATAL')
                    if '[alert]' in line]) < 4
        assert pending(mariadb, database) == 100

        for one in allow:
            one()

        wait_empty(mariadb, database, 40)
        judge(guarded.messages(topic), expected, 0, 8)
    finally:
        guarded.stop()


def test_writing_is_forbidden_meanwhile(start_outbox, mariadb, database, work):
    """While events go out: the topic's name is told, and no partition of it is
    taken for the one that is ill."""

    guarded = Kafka('kafka-forbidding', GUARDED)
    guarded.first_start()

    try:
        topic = 'forbidden'                                  # noqa: F811
        guarded.create(topic)
        nginx = start_outbox(kafka_brokers=guarded.address, kafka_topic=topic,
                             breaker_wait_duration_in_open_state='2s')
        wait_leased(nginx)

        with Writer(mariadb, database, threads=2, batch=10) as load:
            load.wait(200)
            allow = deny(guarded, ResourceType.TOPIC, topic, AclOperation.WRITE)
            line = f'delivery to topic "{topic}" failed: TOPIC_AUTHORIZATION'
            wait_for(lambda: nginx.lines(line), 30, 'the reason')
            load.wait(200)
            allow()

        wait_empty(mariadb, database, 60)
        assert not nginx.lines('takes no events')
        messages = guarded.messages(topic)
        judge(messages, load.expected, len(messages), 8)
    finally:
        guarded.stop()


@pytest.mark.timeout(300)
def test_partition_that_answers_with_an_error(behind_proxy, mariadb, database,
                                              kafka, topic):
    """At once, and with one that says nothing of an event: it is the
    partition's, for others take theirs. Once it is over, all that waited is
    published."""

    nginx, proxy = behind_proxy()
    expected = fill(mariadb, database, 200)
    wait_empty(mariadb, database)

    proxy.errors[1] = UNKNOWN_SERVER_ERROR
    gaps = Gaps(nginx)
    until = time.monotonic() + 20

    while time.monotonic() < until:
        expected.update(fill(mariadb, database, 40))
        gaps.look()

    print(f'no longer than {gaps.longest:.1f} s without')
    assert gaps.longest < STANDSTILL
    assert not transitions(nginx), 'the breaker says that Kafka is ill'
    assert 1 <= len(nginx.lines('takes no events')) <= 8
    assert len(nginx.lines('delivery to topic')) <= 3

    def healthy():
        return [m for m, in mariadb.query('SELECT merchant_id FROM'
                                          ' outbox_event', database)
                if partition_of(m, 8) != 1]

    wait_for(lambda: not healthy(), 10, 'what is healthy')
    assert pending(mariadb, database) > 0

    proxy.errors.clear()
    wait_empty(mariadb, database, 60)

    # the broker has taken what it said that it had not
    messages = kafka.messages(topic)
    judge(messages, expected, len(messages), 8)
    well = {ident: merchant for ident, merchant in expected.items()
            if partition_of(merchant, 8) != 1}
    judge([m for m in messages if m.id in well], well, 0, 8)
