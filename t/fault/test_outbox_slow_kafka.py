"""A Kafka that is slow, but steady: what it can't take yet waits in the table
and not in a queue on the way to it, where waiting would look like slowness. So
the breaker hears nothing, nothing comes twice, and the link is full."""

import os
import time

import confluent_kafka
import pytest

from kafka_proxy import KafkaProxy
from outbox import (fill, judge, kafka, outbox, relay,     # noqa: F401
                    start_outbox, topic, wait_empty, wait_leased)
from servers import wait_for
from test_outbox_kafka import breaker, transitions

SHARE = 0.9                  # of what the link takes
NOISE = 1.3                  # of a machine that others use, too


class Middle:
    """The seconds that the middle half of n events takes: neither what is free
    at the beginning nor what is owed at the end is a part of it."""

    def __init__(self, n):
        self.marks = [n / 4, n * 3 / 4]
        self.times = []

    def look(self, done):
        while self.marks and done >= self.marks[0]:
            self.times.append(time.monotonic())
            del self.marks[0]

    @property
    def seconds(self):
        return self.times[1] - self.times[0]


def publish(nginx, n, seconds):
    """Until n events are published; the seconds of all after the first, and of
    the second half."""

    wait_for(lambda: relay(nginx)['published'], 20, 'the first')
    began = time.monotonic()
    half = None
    slow = 0

    while (published := relay(nginx)['published']) < n:
        slow = max(slow, breaker(nginx)['slow_calls'])
        assert time.monotonic() - began < seconds, \
            (relay(nginx), transitions(nginx))

        if published < n / 2:
            half = time.monotonic()

        time.sleep(0.02)

    ended = time.monotonic()
    print(f'{n} events in {ended - began:.1f} s, half of them in'
          f' {ended - half:.1f} s, at most {slow} slow calls')
    return ended - began, ended - half


def calm(nginx):
    """Kafka was steady, and so was the outbox."""

    assert transitions(nginx) == []
    assert breaker(nginx)['state'] == 'CLOSED'
    assert relay(nginx)['failed'] == 0


def plain(address, topic, messages, middle=None):
    """The seconds that a bare producer with the same settings needs for these:
    value, key, headers."""

    producer = confluent_kafka.Producer({
        'bootstrap.servers': address, 'client.id': 'plain',
        'enable.idempotence': True, 'compression.codec': 'lz4',
        'partitioner': 'murmur2_random', 'linger.ms': 1,
        'message.timeout.ms': 100000, 'queue.buffering.max.messages': 15000})
    producer.list_topics(topic, 20)
    delivered = 0
    began = time.monotonic()

    def report(error, _):
        nonlocal delivered

        assert error is None, error
        delivered += 1

        if middle:
            middle.look(delivered)

    for value, key, headers in messages:
        while True:
            try:
                producer.produce(topic, value, key, headers=headers,
                                 on_delivery=report)
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)

    producer.flush(200)
    assert delivered == len(messages)
    return time.monotonic() - began


@pytest.mark.timeout(300)
@pytest.mark.parametrize('size', [100, 400])
def test_narrow_link(start_outbox, mariadb, database, kafka, topic, size):
    """400 kB/s."""

    proxy = KafkaProxy(kafka, rate=400_000)
    n = 4_000_000 // (size + 150)
    expected = fill(mariadb, database, n, size=size)
    nginx = start_outbox(kafka_brokers=proxy.address)
    wait_for(lambda: relay(nginx)['published'], 20, 'the first')
    carried = proxy.carried
    took, _ = publish(nginx, n, 60)
    share = (proxy.carried - carried) / took / proxy.rate
    print(f'{share:.2f} of the link')
    calm(nginx)
    assert share >= SHARE
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    proxy.close()


@pytest.mark.timeout(300)
def test_long_way(start_outbox, mariadb, database, kafka, topic):
    """300 ms of round trip."""

    proxy = KafkaProxy(kafka, delay=0.15)
    n = 200_000
    expected = fill(mariadb, database, n, size=100)
    kafka.create(topic + '-plain')
    alone = plain(proxy.address, topic + '-plain', [
        (os.urandom(100), b'M-%d' % (i % 1000), None) for i in range(n)])
    nginx = start_outbox(kafka_brokers=proxy.address)
    wait_leased(nginx)
    _, half = publish(nginx, n, 100)
    print(f'{alone:.1f} s by a bare producer, for all of them')
    calm(nginx)
    assert outbox(nginx)['producers'] == 1
    assert half <= alone / 2 / SHARE * NOISE
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    proxy.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize('quota', [200_000, 50_000])
def test_quota(start_outbox, mariadb, database, kafka, topic, quota):
    """The broker makes a client wait that has produced more than so many bytes
    a second, by the average of ten: a bare producer with the same messages
    gets no more."""

    other = f'plain-{topic}'
    kafka.create(other)
    kafka.quota(quota)

    try:
        n = quota * 40 // 250
        theirs = Middle(n)
        expected = fill(mariadb, database, n, size=100)
        nginx = start_outbox()
        wait_leased(nginx)
        _, half = publish(nginx, n, 150)
        calm(nginx)
        wait_empty(mariadb, database)
        found = kafka.messages(topic)
        judge(found, expected, 0, 8)

        plain(kafka.address, other,
              [(m.value, m.key, m.headers) for m in found], theirs)
    finally:
        kafka.quota(None)

    # the outbox has paid back by half what was free, and owes nothing
    print(f'a half in {half:.1f} s, in {theirs.seconds:.1f} s by a bare'
          ' producer')
    assert half <= theirs.seconds / SHARE * NOISE
