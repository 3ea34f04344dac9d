"""A gauge belongs to one life of one process: it ends with it, and no other
life writes over it."""

import os
import signal
import subprocess
import time
import urllib.request

import servers
from kafka_proxy import KafkaProxy
from outbox import (fill, free_lease, helper, helpers,    # noqa: F401
                    judge, kafka, outbox, relay, settings, start_outbox,
                    topic, wait_empty, wait_leased)
from servers import wait_for
from test_outbox_helper import kill_helper

METRICS = dict(location='}\n        location /metrics {\n'
                        '            payment_status prometheus;')


def metrics(nginx):
    with urllib.request.urlopen(
            f'http://127.0.0.1:{nginx.port}/metrics') as answer:
        return answer.read().decode()


def metric(nginx, name):
    """The sum over its labels."""

    found = [float(line.split()[-1]) for line in metrics(nginx).splitlines()
             if line.startswith((name + ' ', name + '{'))]
    assert found, name
    return sum(found)


def test_killed_helper_takes_them_along(start_outbox, mariadb, database,
                                        kafka, topic):
    """While no helper runs, nobody holds, publishes or is connected."""

    nginx = start_outbox(nginx=METRICS)
    wait_leased(nginx)
    wait_for(lambda: outbox(nginx)['kafka_up'], 10, 'Kafka')

    # so often that the next one waits before it begins
    for _ in range(6):
        wait_for(lambda: outbox(nginx)['pid'] in helpers(nginx), 5,
                 'a helper that has begun')
        kafka.freeze()
        fill(mariadb, database, 10)
        wait_for(lambda: relay(nginx)['in_flight']
                 or nginx.lines('helpers died'), 5, 'events in flight')
        kill_helper(nginx)
        kafka.thaw()

    wait_for(lambda: nginx.lines('6 helpers died'), 5, 'a delay')
    state = relay(nginx)
    assert not state['lease_held']
    assert state['in_flight'] == 0
    assert not outbox(nginx)['kafka_up']
    assert metric(nginx, 'payment_outbox_lease_held') == 0
    wait_leased(nginx, 10)
    assert metric(nginx, 'payment_outbox_lease_held') == 1


HOLDERS = ('backlog', 'oldest_event_age_seconds', 'dead_letters', 'overdue',
           'overdue_age_seconds')


def test_only_the_holder_knows(start_outbox, start_nginx, mariadb, database,
                               kafka, topic):
    """What waits is known to the node that has the lease; any other one says
    that it does not know, which is another thing than 0."""

    def known(nginx):
        """By both formats, which must say the same."""

        text, state = metrics(nginx), relay(nginx)
        told = {name for name in HOLDERS
                if f'\npayment_outbox_{name}{{' in text}
        assert told == {name for name in HOLDERS if state[name] is not None}
        return told

    first = start_outbox(nginx=METRICS, breaker='off')
    wait_leased(first)
    second = start_nginx(
        servers.Shard('main', database, f'unix:{mariadb.socket}'),
        http=settings(kafka, topic, breaker='off'), **METRICS)
    wait_for(lambda: outbox(second)['up'], 10, 'the other helper')
    kafka.freeze()
    fill(mariadb, database, 10)
    wait_for(lambda: relay(first)['backlog'] == 10, 5, 'a backlog')
    assert known(first) == set(HOLDERS)
    assert known(second) == set()

    first.stop()
    wait_leased(second, 30)
    wait_for(lambda: relay(second)['backlog'] == 10, 10, 'the same backlog')
    assert known(second) == set(HOLDERS)
    kafka.thaw()
    wait_empty(mariadb, database)
    wait_for(lambda: relay(second)['backlog'] == 0, 5, 'none')


def test_old_helper_leaves_those_of_the_next_alone(start_outbox, mariadb,
                                                   database, kafka, topic):
    """After a reload the old one drains a shard for a while, when the new one
    has taken another: what the new one says stays."""

    other = mariadb.new_database()
    free_lease(mariadb, other)
    shards = [servers.Shard('one', database, f'unix:{mariadb.socket}',
                            '0-511'),
              servers.Shard('two', other, f'unix:{mariadb.socket}',
                            '512-1023')]

    try:
        nginx = start_outbox(shards, breaker='off', drain_timeout='4s',
                             lock_at_least_for='0')
        wait_leased(nginx, 10, 0)
        wait_leased(nginx, 10, 1)
        epoch = relay(nginx, 0)['lease_epoch']
        old = helper(nginx)

        kafka.freeze()
        fill(mariadb, other, 10)
        wait_for(lambda: relay(nginx, 1)['in_flight'] == 10, 5, 'in flight')
        nginx.signal(signal.SIGHUP)
        wait_for(lambda: relay(nginx, 0)['lease_epoch'] > epoch
                 and relay(nginx, 0)['lease_held'], 4, 'the new one has one')
        assert servers._alive(old), 'the old one did not drain'
        assert relay(nginx, 1)['in_flight'] == 10

        wait_for(lambda: not servers._alive(old), 10, 'the end of the old')
        assert relay(nginx, 0)['lease_held']
        kafka.thaw()
        wait_leased(nginx, 10, 1)
        assert relay(nginx, 0)['lease_held']
    finally:
        kafka.thaw()
        nginx.stop()
        mariadb.drop_database(other)


def test_round_trip_of_a_broker(start_outbox, mariadb, database, kafka, topic):
    """What Kafka's client measures, over a line of 150 ms each way; it ends
    with the helper that measured, and with what was measured."""

    way_us = 300_000
    rtt = 'payment_outbox_broker_rtt_seconds'
    proxy = KafkaProxy(kafka, delay=way_us / 2 / 1e6)

    def broker():
        brokers = outbox(nginx)['brokers']
        assert len(brokers) <= 1
        return brokers[0] if brokers else dict(count=0, p50_us=None)

    def measured():
        """In an interval in which there were events."""
        if not broker()['p50_us']:
            fill(mariadb, database, 10)
        return broker()['p50_us'] and broker()['count'] > 1

    try:
        nginx = start_outbox(nginx=METRICS, kafka_brokers=proxy.address,
                             kafka_property='statistics.interval.ms 500')
        wait_leased(nginx)
        wait_for(measured, 30, 'a round trip')
        state, text = broker(), metrics(nginx)
        assert way_us <= state['p50_us'] <= state['p95_us'] <= state['p99_us']
        assert way_us * state['count'] <= state['sum_us']
        assert f'{rtt}_count{{broker="{state["id"]}"}} ' in text
        assert f'{rtt}_sum{{broker="{state["id"]}"}} ' in text
        assert subprocess.run(
            [servers.ROOT / 'build/bin/promtool', 'check', 'metrics'],
            input=text, text=True).returncode == 0

        # no events: nothing recent is known, and what was counted stays
        wait_empty(mariadb, database)
        wait_for(lambda: broker()['p50_us'] is None, 30, 'no recent answers')
        assert broker()['count'] >= state['count']
        assert f'{rtt}{{' not in metrics(nginx)
        assert metric(nginx, f'{rtt}_count') >= state['count']

        kill_helper(nginx)
        wait_for(lambda: outbox(nginx)['brokers'] == []
                 or broker()['count'] < state['count'], 5, 'a new life')
    finally:
        proxy.close()


def test_age_of_the_oldest_event(start_outbox, mariadb, database, kafka,
                                 topic):
    """It grows while Kafka does not answer, whatever becomes of the events
    meanwhile, and is 0 when none waits."""

    nginx = start_outbox(breaker_slow_call_duration_threshold='1s',
                         breaker_minimum_number_of_calls='5')
    wait_leased(nginx)
    assert relay(nginx)['oldest_event_age_seconds'] == 0

    kafka.freeze()

    try:
        fill(mariadb, database, 10)
        wait_for(lambda: relay(nginx)['oldest_event_age_seconds'] >= 2, 10,
                 'an age')
        fill(mariadb, database, 10)
        wait_for(lambda: nginx.status()['breaker']['state'] == 'OPEN', 20,
                 'an open breaker')
        age = relay(nginx)['oldest_event_age_seconds']
        wait_for(lambda: relay(nginx)['oldest_event_age_seconds'] > age, 5,
                 'a greater age')

        # that Kafka is away says nothing of the database
        assert relay(nginx)['lease_held']
        assert not relay(nginx)['reading_fails']
    finally:
        kafka.thaw()

    wait_empty(mariadb, database, 60)
    wait_for(lambda: relay(nginx)['oldest_event_age_seconds'] == 0, 5, '0')


def test_dead_letters_that_are_there(start_outbox, mariadb, database, kafka,
                                     topic):
    """Until they are gone, also after a restart."""

    mariadb.query("""
        INSERT INTO outbox_dead (id, aggregatetype, aggregateid, type,
            merchant_id, version, created_at, payload, reason, attempts,
            dead_at)
        VALUES (900000000, 'payment', '01890000-0000-7000-8000-000000000000',
            'authorized', 'M1', 1, UTC_TIMESTAMP(6), '{}', 'MSG_SIZE', 1,
            UTC_TIMESTAMP(3))""", database)

    nginx = start_outbox(nginx=METRICS)
    wait_for(lambda: relay(nginx)['dead_letters'] == 1, 10, 'one')
    assert metric(nginx, 'payment_outbox_dead_letters') == 1

    mariadb.query('DELETE FROM outbox_dead', database)
    wait_for(lambda: relay(nginx)['dead_letters'] == 0, 5, 'none')
