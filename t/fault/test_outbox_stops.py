"""What must not stand still without a word: tables that fill up, holders of
the lease that can't work."""

import time

import pytest

import servers
from outbox import (ADMIN, admin, fill, judge, kafka,     # noqa: F401
                    lease, outbox, pending, relay, settings, start_outbox,
                    topic, wait_empty, wait_leased)
from kafka_proxy import KafkaProxy
from proxy import is_query
from servers import wait_for
from test_health import LOCATIONS, get
from test_outbox import add_archive

SHORT = dict(lock_at_most_for='3s')

# documented: atMost without a delivery, and the hand-over
PATIENCE = 3 + 5


@pytest.mark.parametrize('what', ['connections', 'reload'])
def test_deletions_fail_and_connections_die(start_outbox, mariadb, database,
                                            kafka, topic, what):
    """The table of known events is full of published ones that can't be
    deleted, and all of them are in doubt: they are looked at, and it goes
    on."""

    add_archive(mariadb, database)
    mariadb.query('ALTER TABLE outbox_archive RENAME TO elsewhere', database)
    nginx = start_outbox(archive='on', batch_size='100', max_in_flight='100')
    wait_leased(nginx)
    expected = {}

    # by small reads, until there is no room for one
    while relay(nginx)['published'] == len(expected):
        expected.update(fill(mariadb, database, 50))
        end = time.monotonic() + 2

        while relay(nginx)['published'] < len(expected) \
                and time.monotonic() < end:
            time.sleep(0.005)

    expected.update(fill(mariadb, database, 500))

    if what == 'connections':
        mariadb.kill_connections(database)
        time.sleep(0.5)

    mariadb.query('ALTER TABLE elsewhere RENAME TO outbox_archive', database)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    assert mariadb.query('SELECT COUNT(*) FROM outbox_archive',
                         database)[0][0] == len(expected)


@pytest.fixture
def healthy_second(start_nginx, mariadb, database, kafka, topic):
    """A second node that can do everything."""

    def start():
        return start_nginx(
            servers.Shard('main', database, f'unix:{mariadb.socket}'),
            http=settings(kafka, topic, **SHORT), **ADMIN)

    return start


def taken_over(second, mariadb, database, since):
    wait_for(lambda: relay(second)['lease_held'], PATIENCE + 5,
             'the other node has it')
    took = time.monotonic() - since
    print(f'{took:.1f} s')
    assert took < PATIENCE
    wait_empty(mariadb, database, 10)


def test_reader_is_refused(start_outbox, healthy_second, start_proxy, mariadb,
                           database, kafka, topic):
    """One of the holder's two connections can't be made."""

    proxy = start_proxy(mariadb.socket)
    first = start_outbox(servers.Shard('main', database, proxy.address),
                         **SHORT)
    wait_leased(first)
    second = healthy_second()
    proxy.close_listener()
    strike = proxy.strike(is_query(b'FROM outbox_event WHERE id >'), 'before')
    strike.wait()

    expected = fill(mariadb, database, 100)
    taken_over(second, mariadb, database, time.monotonic())
    judge(kafka.messages(topic), expected, 0, 8)
    assert not relay(first)['lease_held']


def test_reader_is_refused_at_the_only_node(start_outbox, start_proxy,
                                            mariadb, database, kafka, topic):
    """Nobody else is there: the gauge says that nothing may be produced."""

    proxy = start_proxy(mariadb.socket)
    first = start_outbox(servers.Shard('main', database, proxy.address),
                         **SHORT)
    wait_leased(first)
    proxy.close_listener()
    strike = proxy.strike(is_query(b'FROM outbox_event WHERE id >'), 'before')
    strike.wait()
    wait_for(lambda: not relay(first)['lease_held'], PATIENCE,
             'a gauge that tells')
    proxy.accept()
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database, 15)
    judge(kafka.messages(topic), expected, 0, 8)
    assert relay(first)['lease_held']


def test_reads_fail_at_the_only_node(start_outbox, start_proxy, mariadb,
                                     database, kafka, topic):
    """It has its connections and the lease, and tells that they are of no
    use."""

    def events():
        status, body = get(first)
        assert status == 200
        return body['components']['outbox']

    proxy = start_proxy(mariadb.socket)
    first = start_outbox(servers.Shard('main', database, proxy.address),
                         nginx=dict(location=LOCATIONS))
    wait_leased(first)
    expected = fill(mariadb, database, 10)
    wait_empty(mariadb, database)
    assert not relay(first)['reading_fails']
    assert events() == {'status': 'UP'}

    proxy.strike(is_query(b'FROM outbox_event WHERE id >'), 'error',
                 times=10 ** 9, error=1054)
    wait_for(lambda: relay(first)['reading_fails'], 20, 'a gauge that tells')
    assert not relay(first)['lease_held']
    assert events() == {'status': 'DEGRADED',
                        'details': {'reason': 'events cannot be read'}}

    proxy.calm()
    expected.update(fill(mariadb, database, 10))
    wait_empty(mariadb, database, 20)
    wait_for(lambda: relay(first)['lease_held'], 5, 'that it may publish')
    assert not relay(first)['reading_fails']
    judge(kafka.messages(topic), expected, 0, 8)


def test_kafka_unreachable_from_the_holder(start_outbox, healthy_second,
                                           mariadb, database, kafka, topic):
    nobody = f'127.0.0.1:{servers.free_port()}'
    first = start_outbox(kafka_brokers=nobody, **SHORT)
    wait_leased(first)
    second = healthy_second()
    expected = fill(mariadb, database, 100)
    taken_over(second, mariadb, database, time.monotonic())
    judge(kafka.messages(topic), expected, 0, 8)

    # and it does not come back to who still can't
    acquired = relay(second)['lease_epoch']
    time.sleep(4)
    assert relay(second)['lease_epoch'] == acquired
    assert first.lines('handing the lease over')


def test_who_could_not_has_a_turn_again(start_outbox, start_nginx, mariadb,
                                        database, kafka, topic):
    """After four times atMost, if the other one can't either by then."""

    ways = [KafkaProxy(kafka), KafkaProxy(kafka)]
    soon = dict(SHORT, breaker_wait_duration_in_open_state='2s')

    try:
        first = start_outbox(kafka_brokers=ways[0].address, **soon)
        wait_leased(first)
        second = start_nginx(
            servers.Shard('main', database, f'unix:{mariadb.socket}'),
            http=settings(kafka, topic, kafka_brokers=ways[1].address,
                          **soon), **ADMIN)
        ways[0].held.set()
        expected = fill(mariadb, database, 100)
        taken_over(second, mariadb, database, time.monotonic())

        ways[0].held.clear()
        ways[1].held.set()
        expected.update(fill(mariadb, database, 100))
        wait_for(lambda: relay(first)['lease_held'], 4 * 3 + PATIENCE + 5,
                 'the first one has it again')
        wait_empty(mariadb, database, 10)

        # what the second had on its way may be there twice
        judge(kafka.messages(topic), expected, 200, 8)
    finally:
        for way in ways:
            way.close()


def test_forced_open_at_the_holder(start_outbox, healthy_second, mariadb,
                                   database, kafka, topic):
    first = start_outbox(nginx=ADMIN, **SHORT)
    wait_leased(first)
    second = healthy_second()
    admin(first, 'breaker-force-open')
    expected = fill(mariadb, database, 100)
    taken_over(second, mariadb, database, time.monotonic())
    judge(kafka.messages(topic), expected, 0, 8)


def test_paused_holder_keeps_it(start_outbox, healthy_second, mariadb,
                                database, kafka, topic):
    """A pause is an operator's wish, and no inability."""

    first = start_outbox(nginx=ADMIN, **SHORT)
    wait_leased(first)
    second = healthy_second()
    admin(first, 'pause')
    expected = fill(mariadb, database, 100)
    end = time.monotonic() + PATIENCE

    while time.monotonic() < end:
        assert not relay(second)['lease_held']
        time.sleep(0.2)

    assert outbox(first)['paused']
    assert kafka.count(topic) == 0
    admin(first, 'resume')
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    assert relay(first)['lease_held']


def test_nobody_can(start_outbox, healthy_second, mariadb, database, kafka,
                    topic):
    """Kafka is away for all: the lease does not wander, and publishing goes
    on at once when it is back."""

    first = start_outbox(breaker_wait_duration_in_open_state='2s', **SHORT)
    wait_leased(first)
    second = healthy_second()
    kafka.stop()
    expected = fill(mariadb, database, 100)
    time.sleep(15)
    epoch = lease(mariadb, database)['epoch']
    assert epoch <= 6
    kafka.start()
    wait_empty(mariadb, database, 60)
    judge(kafka.messages(topic), expected, 200, 8)
    assert second


def test_nobody_else_is_there(start_outbox, mariadb, database, kafka, topic):
    """A single node keeps its lease, whatever it can't do."""

    nginx = start_outbox(nginx=ADMIN, **SHORT)
    epoch = wait_leased(nginx)['lease_epoch']
    admin(nginx, 'breaker-force-open')
    expected = fill(mariadb, database, 100)
    time.sleep(PATIENCE)
    assert relay(nginx)['lease_epoch'] == epoch
    admin(nginx, 'breaker-close')
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
