"""The database's clock is set while leases are held by its time."""

import pytest

import servers
from client import Client
from outbox import (Writer, fill, judge, kafka, lease,    # noqa: F401
                    relay, settings, start_outbox, topic, wait_empty,
                    wait_leased)
from servers import wait_for
from test_outbox_lease import (IN_FLIGHT, SHORT, epochs_in_order,  # noqa: F401
                               holders, two_nodes)

HOUR = 3600


@pytest.fixture
def mariadb(start_mariadb):
    """In place of the one that all tests share."""
    return start_mariadb(stepped_clock=True)


def test_the_rig(mariadb):
    def now():
        return mariadb.query('SELECT UNIX_TIMESTAMP(UTC_TIMESTAMP()),'
                             ' UNIX_TIMESTAMP(NOW())')[0]

    before = now()
    mariadb.clock.set(HOUR)
    assert HOUR <= now()[0] - before[0] < HOUR + 60
    mariadb.clock.set(-HOUR)
    assert HOUR - 60 <= before[1] - now()[1] <= HOUR


@pytest.mark.parametrize('hours', [1, -1])
def test_set_under_load(two_nodes, mariadb, database, kafka, topic, hours):
    """Ahead: the lease has run out at once, and whoever takes it goes on. Back:
    it is extended all the same. Nothing is lost, nothing is turned round."""

    nodes = two_nodes(**SHORT)

    with Writer(mariadb, database, threads=2) as writer:
        for turn in (1, 2):
            writer.wait(500)
            mariadb.clock.set(turn * hours * HOUR)
            published = sum(relay(node)['published'] for node in nodes)
            wait_for(lambda: sum(relay(node)['published'] for node in nodes)
                     > published + 500, 20, 'publishing goes on')

    wait_empty(mariadb, database)
    messages = kafka.messages(topic)
    judge(messages, writer.expected, IN_FLIGHT, 8)
    epochs_in_order(messages, IN_FLIGHT)
    wait_for(lambda: len(holders(*nodes)) == 1, 10, 'one holder')


def test_set_back_while_the_holder_dies(two_nodes, mariadb, database, kafka,
                                        topic):
    """Its lease ends in an hour, by the clock that there is now."""

    first, second = two_nodes(**SHORT)
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)

    for pid in first.all_pids():
        servers._kill(pid)

    first.process.wait(5)
    first.process = None

    mariadb.clock.set(-HOUR)
    assert lease(mariadb, database)['live']

    wait_for(lambda: holders(second), 15, 'it is taken')
    expected.update(fill(mariadb, database, 100))
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, IN_FLIGHT, 8)
    assert second.lines('was set back')


def test_set_back_while_the_holder_lives(two_nodes, mariadb, database, kafka,
                                         topic):
    """It puts the lease's end right, and nobody takes it from it."""

    first, second = two_nodes(**SHORT)
    epoch = lease(mariadb, database)['epoch']
    mariadb.clock.set(-HOUR)

    def right():
        return mariadb.query(
            'SELECT COUNT(*) FROM outbox_lease WHERE name = \'payment-outbox\''
            ' AND lock_until < UTC_TIMESTAMP() + INTERVAL 70 SECOND',
            database)[0][0]

    wait_for(right, 10, 'the end of the lease')
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    assert holders(first) and not holders(second)
    assert lease(mariadb, database)['epoch'] == epoch


def test_a_clock_that_is_wrong_makes_no_key_old(start_outbox, mariadb, database,
                                                kafka, topic, journal):
    """The database's is set ahead by an hour, and keys are kept for five
    minutes: what the helper's clock calls old, too, is removed, and nothing
    else."""

    nginx = start_outbox()
    wait_leased(nginx)
    ask = Client(nginx.port, journal)
    call = ask.authorize()
    mariadb.clock.set(HOUR)

    # a walk goes from the lowest to the highest: when these are gone, it has
    # been everywhere
    for end in ('01', 'ff'):
        mariadb.query(
            'INSERT INTO idempotency_key (key_hash, payment_id, fingerprint,'
            f" operation, created_at) VALUES (UNHEX(REPEAT('{end}', 16)),"
            " REPEAT('p', 16), REPEAT('f', 8), 'authorize',"
            " UTC_TIMESTAMP() - INTERVAL 3 HOUR)", database)

    nginx.http += '\n    payment_idempotency_retention 300s;'
    (nginx.dir / 'nginx.conf').write_text(nginx.config())
    nginx.reload()

    wait_for(lambda: mariadb.query(
        'SELECT COUNT(*) FROM idempotency_key WHERE created_at IS NOT NULL',
        database)[0][0] == 0, 60, 'a walk')

    again = ask.send(ask.call(key=call.key))
    assert again.replayed and again.id == call.id


def test_a_clock_that_is_a_day_off(start_outbox, mariadb, database, kafka,
                                   topic, journal):
    """A minute is told of; with half a day nothing is paid."""

    mariadb.clock.set(90)
    nginx = start_outbox()
    wait_leased(nginx)
    Client(nginx.port, journal).authorize()
    assert nginx.lines("ahead of this node's clock, payments and events have")

    mariadb.clock.set(-13 * HOUR)
    mariadb.stop()
    mariadb.start()
    reason = "timestamp is 13 h behind this node's clock: idempotency keys"
    nginx.expect(reason)
    wait_for(lambda: nginx.lines(reason), 20, 'a reason')
    call = Client(nginx.port, journal).authorize()
    assert call.status == 503, call

    # several tries later it was told of once
    tries = mariadb.query("SHOW GLOBAL STATUS LIKE 'Connections'")[0][1]
    wait_for(lambda: int(mariadb.query(
        "SHOW GLOBAL STATUS LIKE 'Connections'")[0][1]) > int(tries) + 20, 20,
        'more tries')
    assert len(nginx.lines(reason)) < 4

    mariadb.clock.set(0)
    nginx.wait_connected(20)
    assert Client(nginx.port, journal).authorize().ok
