"""What librdkafka itself may do: its queue is full, or it gives up for good."""

import pytest

from kafka_proxy import KafkaProxy
from outbox import (fill, judge, kafka, outbox, pending,  # noqa: F401
                    relay, start_outbox, topic, wait_empty, wait_leased)
from servers import wait_for

OUT_OF_ORDER_SEQUENCE_NUMBER = 45


@pytest.fixture
def behind_proxy(kafka, start_outbox):
    """behind_proxy(..): an Nginx, and the KafkaProxy before its broker."""

    proxies = []

    def start(**changes):
        proxy = KafkaProxy(kafka)
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
    no more. A new producer publishes what was in flight again."""

    nginx, proxy = behind_proxy()
    nginx.expect('librdkafka: FATAL')
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)
    producers = outbox(nginx)['producers']

    proxy.error = OUT_OF_ORDER_SEQUENCE_NUMBER
    again = fill(mariadb, database, 300)
    expected.update(again)
    wait_empty(mariadb, database, 30)

    assert proxy.error == 0, 'nobody was told'
    assert outbox(nginx)['producers'] > producers
    assert nginx.lines("can't go on")
    judge(kafka.messages(topic), expected, len(again), 8)
    assert outbox(nginx)['kafka_up']
