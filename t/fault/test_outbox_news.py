"""What a worker tells the helper in memory: a payment's first event is published
before its row was read, and the row is found and deleted later."""

import os
import signal

import pytest

import servers
import test_tracing
from client import Client, Load
from outbox import (committed, general_log, helper, judge, kafka,   # noqa: F401
                    pending, relay, said, start_outbox, topic, wait_empty,
                    wait_leased)
from proxy import is_commit
from servers import Shard, wait_for
from test_outbox_helper import kill_helper

# so that rows are seen long after they were told of
SELDOM = dict(poll_interval='2s')


def reads(mariadb, database):
    return said(mariadb, database, 'FROM outbox_event WHERE id > %LIMIT')


def is_read(payload, link):
    return b'FROM outbox_event WHERE id > ' in payload


def pay(nginx, ask):
    """A payment, until its event is published."""

    before = relay(nginx)['published']
    assert ask.authorize().ok
    wait_for(lambda: relay(nginx)['published'] > before, 10, 'its event')


def wait_heard(nginx, ask, mariadb, database):
    """A new holder believes what it reads alone, for some seconds."""

    def heard():
        before = reads(mariadb, database)
        pay(nginx, ask)
        return reads(mariadb, database) == before

    wait_for(heard, 20, 'an event that was told of')


@pytest.fixture
def heard(start_outbox, mariadb, database, journal, general_log):
    def start(shard=None, **changes):
        nginx = start_outbox(shard, **SELDOM, **changes)
        wait_leased(nginx)
        ask = Client(nginx.port, journal)
        wait_heard(nginx, ask, mariadb, database)
        return nginx, ask

    return start


def test_read_now_and_then(heard, mariadb, database, kafka, topic):
    nginx, ask = heard()
    before = reads(mariadb, database)

    for _ in range(100):
        pay(nginx, ask)

    assert reads(mariadb, database) - before < 50

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


def test_later_events_are_read(heard, mariadb, database, kafka, topic):
    """They come behind the first one, which was told of."""

    nginx, ask = heard()

    with Load(nginx.port, ask.journal, clients=16, changes=True) as load:
        load.wait(3000, 60)

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


def test_too_long_to_be_told(heard, mariadb, database, kafka, topic):
    """An event of more than a KiB is read at once."""

    nginx, ask = heard()
    before = reads(mariadb, database)

    for _ in range(10):
        published = relay(nginx)['published']
        test_tracing.pay(nginx, metadata={'one': 'x' * 500, 'two': 'y' * 500})
        wait_for(lambda: relay(nginx)['published'] > published, 10, 'its event')

    assert reads(mariadb, database) - before >= 10

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


def test_more_than_is_held(heard, mariadb, database, kafka, topic):
    """The helper stands still while workers tell of more than the ring can
    hold, and goes on."""

    nginx, ask = heard()
    stopped = helper(nginx)
    os.kill(stopped, signal.SIGSTOP)

    try:
        with Load(nginx.port, ask.journal, clients=64) as load:
            load.wait(2500, 60)
    finally:
        os.kill(stopped, signal.SIGCONT)

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


@pytest.mark.parametrize('how', ['reload', 'quit'])
def test_ends_before_rows_were_seen(heard, start_outbox, mariadb, database,
                                    kafka, topic, how):
    """Nothing of it is published again."""

    nginx, ask = heard()

    for _ in range(20):
        pay(nginx, ask)

    assert pending(mariadb, database) > 0

    if how == 'reload':
        nginx.reload()
    else:
        assert nginx.quit() == 0
        assert pending(mariadb, database) == 0
        start_outbox()

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


def test_ends_while_a_read_is_awaited(heard, mariadb, database, proxy, kafka,
                                      topic):
    """What was told waits for a read under load. The helper ends meanwhile, and
    the read comes when nobody waits any more."""

    nginx, ask = heard(Shard('main', database, proxy.address), max_delay='1s')

    with Load(nginx.port, ask.journal, clients=32) as load:
        load.wait(1000, 60)
        strike = proxy.strike(is_read, 'withhold')
        strike.wait()
        told = relay(nginx)['published']
        wait_for(lambda: relay(nginx)['published'] > told, 10, 'an event')
        stopped = helper(nginx)
        os.kill(stopped, signal.SIGQUIT)

    strike.release()
    wait_for(lambda: not servers._alive(stopped), 20, 'its end')
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


def test_killed_before_rows_were_seen(heard, mariadb, database, kafka, topic):
    """The next one reads them, and publishes them again."""

    nginx, ask = heard()

    for _ in range(20):
        pay(nginx, ask)

    left = pending(mariadb, database)
    assert left > 0
    kill_helper(nginx)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database), left, 8)


def test_rows_that_are_gone(heard, mariadb, database, kafka, topic):
    """Somebody deletes them before they were seen: they are not waited for."""

    nginx, ask = heard()
    expected = committed(mariadb, database)
    pay(nginx, ask)
    expected = committed(mariadb, database)
    mariadb.query('DELETE FROM outbox_event', database)

    # the end waits for nothing that could still be deleted
    nginx.signal(signal.SIGQUIT)
    assert nginx.process.wait(5) == 0
    judge(kafka.messages(topic), expected, 0, 8)


def test_told_late(heard, mariadb, database, proxy, kafka, topic):
    """A worker has no answer to its COMMIT while its row is read by the helper,
    made sure of, published, deleted and forgotten. What it tells then is no
    news."""

    nginx, ask = heard(Shard('main', database, proxy.address))
    published = relay(nginx)['published']
    wait_empty(mariadb, database)

    strike = proxy.strike(is_commit, 'withhold')
    answer = ask.later([ask.call()])
    strike.wait()
    wait_for(lambda: relay(nginx)['published'] > published, 20, 'the event')
    wait_empty(mariadb, database)
    strike.release()
    assert all(call.ok for call in answer.result(20))

    for _ in range(10):
        pay(nginx, ask)

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)
