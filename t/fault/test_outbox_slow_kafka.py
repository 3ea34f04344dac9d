"""A Kafka that is slow, but steady: what it can't take yet waits in the table
and not in a queue on the way to it, where waiting would look like slowness. So
the breaker hears nothing, nothing comes twice, and the link is full."""

import os
import time

import confluent_kafka
import pytest

from kafka_proxy import KafkaProxy
from outbox import (_kafka, fill, judge, kafka, outbox, relay,     # noqa: F401
                    start_outbox, topic, wait_empty, wait_leased)
from servers import wait_for
from test_outbox_kafka import breaker, transitions

SHARE = 0.9                  # of what the link takes
NOISE = 1.3                  # of a machine that others use, too


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


def plain(address, topic, n, size):
    """What a bare producer with the same settings needs for as many."""

    producer = confluent_kafka.Producer({
        'bootstrap.servers': address, 'client.id': 'plain',
        'enable.idempotence': True, 'compression.codec': 'lz4',
        'partitioner': 'murmur2_random', 'linger.ms': 1,
        'message.timeout.ms': 100000, 'queue.buffering.max.messages': 15000})
    producer.list_topics(topic, 20)
    began = time.monotonic()

    for i in range(n):
        while True:
            try:
                producer.produce(topic, os.urandom(size), b'M-%d' % (i % 1000))
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)

    producer.flush(200)
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
    alone = plain(proxy.address, topic + '-plain', n, 100)
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize('quota', [200_000, 50_000])
def test_quota(start_outbox, mariadb, database, kafka, topic, quota):
    """The broker makes a client wait that has produced more than so many bytes
    a second, by the average of ten."""

    kafka.quota(quota)

    try:
        n = quota * 20 // 250
        expected = fill(mariadb, database, n, size=100)
        nginx = start_outbox()
        wait_leased(nginx)
        publish(nginx, n, 100)
        calm(nginx)
        wait_empty(mariadb, database)
        judge(kafka.messages(topic), expected, 0, 8)

        # what those bytes take, beyond what is free at the start
        size = sum(f.stat().st_size for f in
                   kafka.dir.glob(f'kafka/{topic}-*/*.log'))
        print(size)
    finally:
        kafka.quota(None)
