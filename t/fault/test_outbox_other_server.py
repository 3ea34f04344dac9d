"""The outbox and the server that its rows lie on: ids that are given again,
servers that stop taking writes, and sessions that say what their bytes are.

A row's identity is its payment and version. Its id is a number of one server
in one of its lives, and may name another payment's event in the next."""

import os
import signal
import time

import pytest

import servers
from outbox import (COLUMNS, Writer, fill, helper,        # noqa: F401
                    judge, kafka, lease, pending, relay, settings,
                    start_outbox, topic, wait_empty, wait_leased)
from servers import wait_for
from test_outbox import add_archive
from test_outbox_kafka import PLAIN, dead, narrow, poison         # noqa: F401

RETRY = dict(PLAIN, retry_interval='200ms')


@pytest.fixture
def second(mariadb, second_mariadb, database):
    """A replica of the shard's server, with the same tables and no rows, and
    read-only until it is promoted."""

    second_mariadb.new_database(database)

    for server in (mariadb, second_mariadb):
        server.identify(database)

    second_mariadb.query('SET GLOBAL read_only = 1')
    yield second_mariadb
    second_mariadb.query('SET GLOBAL read_only = 0')
    second_mariadb.drop_database(database)


def ids(mariadb, database):
    return [row[0] for row in mariadb.query(
        'SELECT id FROM outbox_event ORDER BY id', database)]


def give_again(mariadb, database, numbers):
    """Events of new payments under these ids: {event id: merchant}."""

    expected = {}

    with mariadb.admin(database) as db:
        for number in numbers:
            payment = f'00000000-0000-4000-8000-{number:012d}'
            expected[f'{payment}:1'] = 'M-again'
            db.execute(f"INSERT INTO outbox_event (id, {COLUMNS}) VALUES"
                       f" ({number}, 'payment', '{payment}', 'authorized',"
                       " 'M-again', 1, UTC_TIMESTAMP(6), NULL, '{}')")

    return expected


def copy_lease(source, target, database):
    """As a replica has it."""

    row = source.query('SELECT * FROM outbox_lease'
                       " WHERE name = 'payment-outbox'", database)[0]

    with target.admin(database) as db:
        db.execute('REPLACE INTO outbox_lease VALUES (%s)'
                   % ', '.join(f"'{value}'" for value in row))


@pytest.fixture
def lock_rows(mariadb, database):
    """lock_rows(): a session that lets nobody delete what is there now."""

    sessions = []

    def lock():
        session = mariadb.session(database)
        sessions.append(session)
        cursor = session.cursor()
        cursor.execute('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED')
        cursor.execute('SELECT id FROM outbox_event FOR UPDATE')
        return session

    yield lock

    for session in sessions:
        if session.open:
            session.close()


def seen(kafka, topic):
    return {message.id for message in kafka.messages(topic)}


@pytest.mark.parametrize('kind', ['acknowledged', 'dead'])
def test_replica_gives_ids_again(start_outbox, mariadb, second, database,
                                 kafka, narrow, start_proxy, lock_rows, kind):
    """A replica that lacks the last events is promoted while some are in
    flight, and has given their ids to others: those are published."""

    proxy = start_proxy(mariadb.socket)
    nginx = start_outbox(
        servers.Shard('main', database,
                      [proxy.address, f'unix:{second.socket}']),
        breaker='off', **RETRY)
    wait_leased(nginx)

    # what the helper would delete, or move, at its next chance
    kafka.freeze()

    if kind == 'dead':
        poison(mariadb, database)
    else:
        fill(mariadb, database, 10)

    lock_rows()
    numbers = ids(mariadb, database)
    kafka.thaw()
    wait_for(lambda: relay(nginx)['errors'], 15, 'a deletion that fails')

    # in flight, so that nothing begins anew
    kafka.freeze()
    fill(mariadb, database, 5)
    wait_for(lambda: relay(nginx)['in_flight'] == 5, 10, '5 in flight')

    expected = give_again(second, database, numbers)
    copy_lease(mariadb, second, database)
    proxy.refuse()
    second.query('SET GLOBAL read_only = 0')
    wait_for(lambda: len(second.connections(database)) > servers.PROBE, 10,
             'the other server')
    time.sleep(0.5)             # the time in which it would delete them
    kafka.thaw()

    wait_empty(second, database)
    assert expected.keys() <= seen(kafka, narrow)
    assert dead(second, database) == ()


@pytest.mark.parametrize('earlier', ['0 SECOND', '1 HOUR'])
@pytest.mark.parametrize('archive', ['off', 'on'])
def test_table_emptied_under_the_helper(start_outbox, mariadb, database,
                                        kafka, topic, lock_rows, earlier,
                                        archive):
    """TRUNCATE begins the ids anew: what waits for its deletion by then is not
    the event that has its id now; also not by its time, which is that of the
    node that took the payment."""

    add_archive(mariadb, database)
    nginx = start_outbox(archive=archive)
    wait_leased(nginx)

    # known to Kafka, and not deleted yet, since the rows are locked
    kafka.freeze()
    old = fill(mariadb, database, 10)
    lock = lock_rows()
    numbers = ids(mariadb, database)
    kafka.thaw()
    wait_for(lambda: relay(nginx)['published'] == 10, 10, 'all published')

    admin = mariadb.admin(database)

    with admin as db:
        db.execute('SET lock_wait_timeout = 20')
        lock.close()
        db.execute('LOCK TABLES outbox_event WRITE')

        try:
            db.execute('TRUNCATE TABLE outbox_event')
            expected = {}

            for number in numbers:
                payment = f'00000000-0000-4000-8000-{number:012d}'
                expected[f'{payment}:1'] = 'M-again'
                db.execute(
                    f"INSERT INTO outbox_event (id, {COLUMNS}) VALUES"
                    f" ({number}, 'payment', '{payment}', 'authorized',"
                    " 'M-again', 1, UTC_TIMESTAMP(6) - INTERVAL"
                    f" {earlier}, NULL, '{{}}')")
        finally:
            db.execute('UNLOCK TABLES')

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), {**old, **expected}, 0, 8)


def test_ids_of_two_lives(start_outbox, mariadb, database, kafka, topic):
    """Some events are in flight when the table is emptied. Rows of its new life
    that have lower and higher ids are read, and are acknowledged together with
    them; those that have the same ids were never published."""

    nginx = start_outbox()
    wait_leased(nginx)
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)

    kafka.freeze()
    expected |= fill(mariadb, database, 50)
    wait_for(lambda: relay(nginx)['read'] == 150, 10, 'all of them read')
    mariadb.query('TRUNCATE TABLE outbox_event', database)
    expected |= fill(mariadb, database, 200)
    wait_for(lambda: relay(nginx)['read'] == 300, 10, 'the others read')
    kafka.thaw()

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)


def test_refused_event_whose_id_is_given_again(start_outbox, mariadb,
                                               database, kafka, narrow):
    """The tries of one event are not counted against another that has its id
    by the time of the next try."""

    nginx = start_outbox(**dict(PLAIN, retry_interval='1s', max_retries=3))
    wait_leased(nginx)
    poison(mariadb, database)
    wait_for(lambda: nginx.lines('was refused'), 10, 'a refusal')
    number = ids(mariadb, database)[0]

    with mariadb.session(database) as session:
        cursor = session.cursor()
        cursor.execute(f'DELETE FROM outbox_event WHERE id = {number}')
        session.commit()

    expected = give_again(mariadb, database, [number])
    wait_empty(mariadb, database, 15)
    judge(kafka.messages(narrow), expected, 0, 8)
    assert dead(mariadb, database) == ()


@pytest.mark.parametrize('events', [0, 50])
def test_planned_switch_over(start_outbox, mariadb, second, database, kafka,
                             topic, events):
    """read_only on the first of two servers: the helper moves to the second
    within seconds, whether events wait or not, and says so once."""

    nginx = start_outbox(
        servers.Shard('main', database, [f'unix:{mariadb.socket}',
                                         f'unix:{second.socket}']),
        lock_at_most_for='6s')
    wait_leased(nginx)
    before = len(mariadb.connections(database))
    copy_lease(mariadb, second, database)
    mariadb.query('SET GLOBAL read_only = 1')
    second.query('SET GLOBAL read_only = 0')

    if events:
        fill(mariadb, database, events)

    switched = time.monotonic()
    expected = fill(second, database, 100)
    wait_empty(second, database, 6 + 6)
    print(f'{time.monotonic() - switched:.1f} s')
    assert expected.keys() <= seen(kafka, topic)
    wait_for(lambda: relay(nginx)['lease_held'], 10, 'the lease there')
    assert lease(second, database)['live']

    # both of the helper's, and not one, have left the first; and both of the
    # worker that watches it
    wait_for(lambda: len(mariadb.connections(database)) <= before - 4, 10,
             "the helper's connections to leave the first server")

    errors = relay(nginx)['errors']
    assert errors < 40, f'{errors} errors'
    time.sleep(1)
    assert relay(nginx)['errors'] - errors < 3
    assert len(nginx.lines('[error]')) < 20


def test_node_that_is_not_primary(start_outbox, mariadb, second, database,
                                  kafka, topic, start_proxy):
    """A node of a Galera cluster that has lost the others takes connections,
    and answers 1047 to all that names a table: both connections leave it, and
    the events of the next server are published."""

    def names_a_table(payload, link):
        return payload[0] == 3 and not payload[1:].startswith(
            (b'SET ', b'SHOW ', b'COMMIT', b'ROLLBACK'))

    proxy = start_proxy(mariadb.socket)
    nginx = start_outbox(
        servers.Shard('main', database,
                      [proxy.address, f'unix:{second.socket}']),
        lock_at_most_for='6s')
    wait_leased(nginx)
    before = len(mariadb.connections(database))
    copy_lease(mariadb, second, database)
    second.query('SET GLOBAL read_only = 0')
    strike = proxy.strike(names_a_table, 'error', times=100000, error=1047)
    strike.wait()

    expected = fill(second, database, 100)
    wait_empty(second, database, 6 + 6)
    judge(kafka.messages(topic), expected, 0, 8)
    wait_for(lambda: relay(nginx)['lease_held'], 10, 'the lease there')
    wait_for(lambda: len(mariadb.connections(database)) <= before - 2, 10,
             "the helper's connections to leave the first server")

    errors = relay(nginx)['errors']
    assert errors < 40, f'{errors} errors'
    assert len(nginx.lines('(1047)')) < 10


def test_unfit_for_a_while(start_outbox, mariadb, database, kafka, topic):
    """The only server is read-only for a while: nothing is produced beyond the
    lease, the gauge says so, nothing spins, and it goes on afterwards."""

    nginx = start_outbox(lock_at_most_for='3s')
    assert wait_leased(nginx)['last_error'] is None
    mariadb.query('SET GLOBAL read_only = 1')
    wait_for(lambda: not relay(nginx)['lease_held'], 6,
             'a gauge that says that nothing may be produced')
    last = wait_for(lambda: relay(nginx)['last_error'], 5, 'an error')
    assert last['code'] == 1290
    assert abs(last['at_ms'] / 1000 - time.time()) < 10
    errors = relay(nginx)['errors']
    time.sleep(2)
    assert relay(nginx)['errors'] - errors < 20
    mariadb.query('SET GLOBAL read_only = 0')
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database, 15)
    judge(kafka.messages(topic), expected, 0, 8)


@pytest.mark.parametrize('statement', [
    "SET GLOBAL init_connect = 'SET NAMES latin1'",
    "SET GLOBAL init_connect = 'SET character_set_results = latin1'"])
def test_bytes_of_the_session(start_outbox, mariadb, database, kafka, topic,
                              statement):
    """Whatever the server does to new sessions, merchants keep their names."""

    merchant = '가맹점-서울'
    mariadb.query(statement)

    try:
        nginx = start_outbox()
        wait_leased(nginx)
        with mariadb.admin(database) as db:
            db.execute('SET NAMES utf8mb4')
            db.execute(f'INSERT INTO outbox_event ({COLUMNS}) VALUES'
                       " ('payment', '00000000-0000-4000-8000-000000000001',"
                       f" 'authorized', '{merchant}', 1, UTC_TIMESTAMP(6),"
                       f" NULL, '{merchant}{{}}')")

        wait_for(lambda: kafka.count(topic) == 1, 10, 'the event')
        message = kafka.messages(topic)[0]
        assert message.key == merchant
        assert merchant in message.value.decode()
    finally:
        mariadb.query("SET GLOBAL init_connect = ''")


@pytest.mark.parametrize('command', ['DELETE FROM outbox_event', 'COMMIT'])
def test_node_dies_within_a_transaction(start_outbox, start_nginx, mariadb,
                                        database, kafka, topic, start_proxy,
                                        command):
    """A node loses its power in the middle of a fenced exchange, and the
    server goes on holding its connection open: another takes over all the
    same, since no transaction may idle."""

    proxy = start_proxy(mariadb.socket)
    short = dict(lock_at_most_for='3s')
    first = start_outbox(servers.Shard('main', database, proxy.address),
                         **short)
    wait_leased(first)
    second = start_nginx(
        servers.Shard('main', database, f'unix:{mariadb.socket}'),
        http=settings(kafka, topic, **short))

    strike = proxy.strike(
        lambda payload, link: payload[0] == 3 and command.encode() in payload,
        'hold')
    expected = fill(mariadb, database, 10)
    strike.wait()

    for pid in first.all_pids():
        servers._kill(pid)

    first.process.wait(5)
    first.process = None
    killed = time.monotonic()
    wait_for(lambda: relay(second)['lease_held'], 12, 'the other node has it')
    print(f'{time.monotonic() - killed:.1f} s')
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 10, 8)


def test_a_server_that_has_not_the_payments(start_outbox, kafka, topic, mariadb,
                                            database):
    """Its payments are frozen, or another server has claimed them, while the
    helper is at work there: it deletes nothing, and gives the lease up."""

    nginx = start_outbox(servers.Shard('main', database,
                                       f'unix:{mariadb.socket}'),
                         lock_at_most_for='6s')

    for claimed in (0, 4711):
        wait_leased(nginx)
        mariadb.query('UPDATE payment_topology SET epoch = epoch + 1,'
                      f' server_id = {claimed}', database)
        expected = fill(mariadb, database, 20)
        wait_for(lambda: not relay(nginx)['lease_held'], 10,
                 'the end of the lease')
        assert pending(mariadb, database) == 20

        mariadb.query('UPDATE payment_topology SET epoch = epoch + 1,'
                      ' server_id = @@server_id', database)
        wait_empty(mariadb, database)
        assert expected.keys() <= seen(kafka, topic)
