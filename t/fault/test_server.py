"""The database server dies, stops, fills up, becomes a replica, throws us out.

Every client is told at once that it should come again, or is not told at all
because the work was done on another try; and when the server is well, so are
we, without anybody's help.
"""

import json
import os
import signal
import time

import pymysql
import pytest

import loop
import servers
from client import Client, Connection, Load
from servers import PROBE, Shard, wait_for


def failures(nginx):
    """Log lines about connecting."""
    return nginx.lines(' failed, server ')


def refused(call):
    """503, at once, and when to come again."""
    return call.status == 503 and call.code == 'SERVICE_UNAVAILABLE' \
        and int(call.headers['retry-after']) > 0 and call.seconds < 0.5


def recovers(ask, seconds=8):
    """Waits for the first payment that is taken; how long that took."""
    start = time.monotonic()
    wait_for(lambda: ask.authorize().ok, seconds, 'recovery')
    return time.monotonic() - start


@pytest.mark.asan
@pytest.mark.parametrize('what', ['CONNECTION', 'QUERY'])
def test_kill_storm(nginx, mariadb, database, journal, check, what):
    killed = 0

    with Load(nginx.port, journal, clients=12, changes=True) as load:
        for _ in range(25):
            killed += mariadb.kill_connections(database, what)
            time.sleep(0.06)

        load.wait(20)

    assert killed > 50
    assert not load.bad(), load.bad()[:5]
    check()


def test_fewer_rows_than_were_to_change(nginx, mariadb, database, journal, ask,
                                        check):
    """MariaDB reports a bulk UPDATE that was killed as done, with the rows that
    it had come to: such a batch is rolled back, and run again."""

    wanted = [ask.authorize().id for _ in range(3)]

    mariadb.query('CREATE TRIGGER halves BEFORE UPDATE ON payment FOR EACH ROW'
                  f" IF HEX(OLD.id) = '{wanted[1].replace('-', '')}' THEN"
                  ' SET NEW.version = OLD.version, NEW.status = OLD.status,'
                  ' NEW.captured_amount = OLD.captured_amount,'
                  ' NEW.updated_at = OLD.updated_at; END IF', database)

    ask.at_once([ask.call('capture', payment=ident) for ident in wanted])
    line = nginx.lines('(1317) Query execution was interrupted: ')[0]
    assert 'writing a batch of' in line

    mariadb.query('DROP TRIGGER halves', database)
    check(ask)


@pytest.mark.asan
def test_kill_9(nginx, mariadb, database, journal, check, ask):
    """mariadbd is killed under load, several times."""

    with Load(nginx.port, journal, clients=12, changes=True) as load:
        for _ in range(4):
            load.wait(100)
            mariadb.kill()
            time.sleep(0.2)
            mariadb.start()

        load.wait(100)

    statuses = {call.status for call in load.bad()}
    assert statuses <= {503, 504}, load.calls.statuses()

    # only those whose COMMIT was under way may have to ask again
    assert len(journal.of(status=504)) <= 4 * 2 * 12
    assert all(call.seconds < 6 for call in journal)

    check(ask)


def test_stop_and_start(nginx, mariadb, journal, check, ask):
    """An orderly shutdown under load, and somebody who forgot the server."""

    with Load(nginx.port, journal, clients=8) as load:
        load.wait(100)
        mariadb.stop()

        wait_for(lambda: refused(ask.authorize()), 5, '503 at once')
        assert all(refused(ask.authorize()) for _ in range(20))

        mariadb.start()
        load.wait(100)

    # one line when it went, not one for each try nor of each worker
    assert len(failures(nginx)) == 1, failures(nginx)
    wait_for(lambda: nginx.lines('connected to'), 8, 'a line when it is back')
    assert len(nginx.lines('connected to')) == 1

    check(ask)


def test_away_at_the_start(start_nginx, mariadb, database, journal, check):
    mariadb.stop()

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        ready=False)
    ask = Client(nginx.port, journal)

    wait_for(lambda: refused(ask.authorize()), 5, '503 at once')
    assert all(refused(call)
               for call in ask.at_once([ask.call() for _ in range(50)]))
    line, = failures(nginx)
    assert line.endswith('; does it run, and listen there?'), line

    mariadb.start()
    recovers(ask)
    nginx.wait_connected()
    check(ask)


def test_who_told_is_killed(start_nginx, proxy, database, journal, check):
    """A failure is told once for a node. The worker that told it is killed, and
    the next one meets a server that is well: the next failure is told again."""

    nginx = start_nginx(Shard('main', database, proxy.address), workers=1)
    ask = Client(nginx.port, journal)
    proxy.refuse()
    proxy.cut()
    wait_for(lambda: failures(nginx), 10, 'a line')

    worker, = nginx.worker_pids()
    nginx.expect('exited on signal 9')
    os.kill(worker, signal.SIGSTOP)
    proxy.accept()
    os.kill(worker, signal.SIGKILL)
    recovers(ask)
    nginx.wait_connected()

    told = len(failures(nginx))
    proxy.refuse()
    proxy.cut()
    wait_for(lambda: len(failures(nginx)) > told, 10, 'a line of this failure')

    proxy.accept()
    recovers(ask)
    check(ask)


@pytest.mark.parametrize('what', ['finished', 'version', 'no version',
                                  'no kind', 'no table', 'password',
                                  'database'])
def test_the_wrong_database(start_nginx, mariadb, database, journal, check,
                            what):
    """Somebody has to do something first: one line says what, no secret in
    it, and when it is done we go on."""

    def sql(*statements):
        for statement in statements:
            mariadb.query(statement, database)

    settings = {}

    if what == 'finished':
        sql("INSERT INTO payment_schema_version (version, description, kind)"
            " VALUES (70, 'from the future', 'contract')")
        word = 'the schema was finished for version 70, this module knows'

    elif what == 'version':
        # the archive's tables are not there, and come with version 2
        sql('DELETE FROM payment_schema_version WHERE version > 1',
            'ALTER TABLE outbox_event DROP COLUMN tracestate')
        word = ('the schema has version 1, this module needs version 9: run'
                ' ngx-payment-migrate')

    elif what == 'no kind':
        sql('ALTER TABLE payment_schema_version DROP COLUMN kind,'
            ' DROP COLUMN checksum')
        word = 'payment_schema_version is that of an older ngx-payment-migrate'

    elif what == 'no version':
        sql('DROP TABLE payment_schema_version')
        word = 'no payment_schema_version table'

    elif what == 'no table':
        sql('RENAME TABLE outbox_event TO outbox_evening')
        word = "outbox_event' doesn't exist"

    elif what == 'password':
        settings['password'] = 'wrong-secret'
        word = 'is the password right?'

    else:
        sql(f'DROP DATABASE {database}')
        word = f"'{database}'; is its name right?"

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}',
                              **settings), ready=False)
    ask = Client(nginx.port, journal)

    wait_for(lambda: refused(ask.authorize()), 5, '503 at once')
    wait_for(lambda: nginx.lines(word), 5, word)
    assert len(failures(nginx)) == 1, failures(nginx)
    assert 'secret' not in nginx.errors()

    if what == 'finished':
        sql('DELETE FROM payment_schema_version WHERE version = 70')

    elif what in ('version', 'no kind'):
        mariadb.migrate(database)

    elif what == 'no version':
        sql('CREATE TABLE payment_schema_version'
            ' LIKE payment.payment_schema_version',
            'INSERT INTO payment_schema_version'
            ' SELECT * FROM payment.payment_schema_version')

    elif what == 'no table':
        sql('RENAME TABLE outbox_evening TO outbox_event')

    elif what == 'password':
        mariadb.query("SET PASSWORD FOR 'payment'@'localhost'"
                      " = PASSWORD('wrong-secret')")

    else:
        mariadb.query(f'CREATE DATABASE {database}')
        mariadb.migrate(database)

    try:
        recovers(ask)
    finally:
        mariadb.query("SET PASSWORD FOR 'payment'@'localhost'"
                      f" = PASSWORD('{servers.PASSWORD}')")

    check(ask)


def test_a_table_goes_and_comes(nginx, mariadb, database, ask, check):
    assert ask.authorize().ok

    mariadb.query('RENAME TABLE outbox_event TO outbox_evening', database)
    call = ask.authorize()
    assert call.status == 503, call

    mariadb.query('RENAME TABLE outbox_evening TO outbox_event', database)
    wait_for(lambda: ask.authorize(key=call.key).ok, 15,
             'a connection that has prepared its statements again')
    assert len(check().payments) == 2


def test_max_connections(nginx, proxy, mariadb, journal, check, ask):
    """No connection to be had: 503 at once; one is enough to go on."""

    others = []

    with mariadb.admin() as db:
        db.execute('SET GLOBAL max_connections = 10')
        proxy.refuse()

        try:
            with pytest.raises(pymysql.err.OperationalError, match='1040'):
                while True:
                    others.append(pymysql.connect(
                        unix_socket=str(mariadb.socket), user=servers.USER,
                        password=servers.PASSWORD))

            proxy.accept()
            wait_for(lambda: nginx.lines('(1040)'), 10, 'a line about it')
            assert all(refused(ask.authorize()) for _ in range(10))

            for _ in range(2):
                others.pop().close()

            wait_for(lambda: all(ask.authorize().ok for _ in range(6)), 15,
                     'recovery with less than all connections')

        finally:
            for other in others:
                other.close()

    nginx.wait_connected(15)
    check(ask)


@pytest.fixture
def standby(mariadb, second_mariadb, database):
    """Another server with the same, empty database, that is read-only."""

    second_mariadb.new_database(database)
    mariadb.identify(database)
    second_mariadb.identify(database)
    second_mariadb.query('SET GLOBAL read_only = 1')
    yield second_mariadb
    second_mariadb.query('SET GLOBAL read_only = 0')
    second_mariadb.drop_database(database)


@pytest.mark.asan
def test_read_only_and_back(start_nginx, mariadb, standby, database, journal,
                            check):
    """Failover by hand: the primary is made read-only, the other one is
    promoted, and later the way back. Nothing is written to both."""

    nginx = start_nginx(Shard('main', database,
                              [f'unix:{mariadb.socket}',
                               f'unix:{standby.socket}']))
    ask = Client(nginx.port, journal)

    with Load(nginx.port, journal, clients=16) as load:
        for old, new in ((mariadb, standby), (standby, mariadb)):
            load.wait(100)
            old.query('SET GLOBAL read_only = 1')
            new.query('SET GLOBAL read_only = 0')
            load.wait(200)

            wait_for(lambda: len(new.connections(database)) == 4 + PROBE, 5,
                     'all connections at the new primary')
            assert len(old.connections(database)) == PROBE

    assert {call.status for call in load.bad()} <= {503}, \
        load.calls.statuses()

    # both are: honest, and one line for a change, not for a try
    mariadb.query('SET GLOBAL read_only = 1')
    wait_for(lambda: all(refused(ask.authorize()) for _ in range(10)), 10,
             '503 at once')
    before = len(failures(nginx))
    time.sleep(2)
    assert len(failures(nginx)) <= before + 1, failures(nginx)[before:]

    mariadb.query('SET GLOBAL read_only = 0')
    recovers(ask)

    check(ask, (mariadb, database), (standby, database))


def test_what_was_left_is_not_asked(start_nginx, mariadb, standby, database,
                                    journal):
    """A worker that had nothing to do during a failover is still connected
    to the old primary. What it says of a payment is not the truth any more."""

    nginx = start_nginx(Shard('main', database,
                              [f'unix:{mariadb.socket}',
                               f'unix:{standby.socket}']), workers=1)
    ask = Client(nginx.port, journal)

    mariadb.query('SET GLOBAL read_only = 1')
    standby.query('SET GLOBAL read_only = 0')

    other = start_nginx(Shard('main', database, f'unix:{standby.socket}'))
    first = Client(other.port, journal).authorize()

    call = loop.run(get(nginx.port, first.id, first.merchant))
    assert call[0] == 200, call
    assert json.loads(call[1])['status'] == 'AUTHORIZED'

    # and the same for a change, from the other side
    mariadb.query('SET GLOBAL read_only = 0')
    standby.query('SET GLOBAL read_only = 1')
    second = Client(start_nginx(
        Shard('main', database, f'unix:{mariadb.socket}')).port,
        journal).authorize()

    assert ask.change('capture', second.id, amount=None).ok


async def get(port, payment, merchant):
    """Status and body."""

    connection = Connection(port)
    await connection.open()
    connection.writer.write(
        f'GET /api/payments/{payment}?merchantId={merchant} HTTP/1.1\r\n'
        'Host: t\r\nConnection: close\r\n\r\n'.encode())
    answer = await connection.reader.read()
    connection.close()
    head, body = answer.split(b'\r\n\r\n', 1)
    return int(head.split(b' ')[1]), body


def test_rights_that_are_missing(start_nginx, mariadb, database, journal,
                                 check):
    """A user who may only read: one line for all processes says where its
    rights are written down. The helper meets a refusal on each connection that
    it makes; these are counted."""

    mariadb.identify(database)
    mariadb.query(f"CREATE USER reader@localhost IDENTIFIED BY"
                  f" '{servers.PASSWORD}'")

    try:
        mariadb.query(f'GRANT SELECT ON {database}.* TO reader@localhost')
        nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}',
                                  user='reader'),
                            http='payment_kafka_brokers 127.0.0.1:1;'
                                 'payment_outbox_initial_delay 10ms;',
                            ready=False)
        ask = Client(nginx.port, journal)
        wait_for(lambda: refused(ask.authorize()), 5, '503 at once')

        wait_for(lambda: nginx.lines('more like it before'), 20, 'a storm')
        told = len(nginx.lines('telling of this node failed'))
        errors = nginx.status()['outbox']['shards'][0]['errors']
        assert told < errors / 2, (told, errors)

        line, = failures(nginx)
        assert 'the user lacks rights of conf/grants.sql' in line

        # nor by a worker that comes later: that the helper, which needs fewer
        # of them, gets a connection does not mean that it is over
        before = nginx.status()['shards'][0]['connect_failures']
        nginx.expect('exited on signal 9')
        nginx.kill_worker()
        wait_for(lambda: nginx.status()['shards'][0]['connect_failures']
                 > before + 5, 20, 'other connections')
        assert failures(nginx) == [line]

        mariadb.query('GRANT INSERT, UPDATE, DELETE'
                      f' ON {database}.* TO reader@localhost')
        recovers(ask)
        check(ask)

    finally:
        mariadb.query('DROP USER reader@localhost')


def test_one_of_two_dies(start_nginx, standby, database, journal, proxy,
                         check):
    """The primary cannot be reached and the other one is still a replica:
    both reasons are told once, and the replica is never written to."""

    nginx = start_nginx(Shard('main', database,
                              [proxy.address, f'unix:{standby.socket}']))
    ask = Client(nginx.port, journal)
    assert ask.authorize().ok

    proxy.refuse()
    wait_for(lambda: all(refused(ask.authorize()) for _ in range(10)), 10,
             '503 at once')
    time.sleep(3)
    assert len(failures(nginx)) <= 4, failures(nginx)
    assert len(nginx.lines('has no say')) <= 2, nginx.lines('has no say')

    proxy.accept()
    recovers(ask)

    assert not standby.query('SELECT * FROM payment', database)
    check(ask)


def open_lines(nginx):
    return nginx.status()['shards'][0]['connections_open']


def kill_one(nginx, mariadb, database):
    """One of the two connections that a worker has. There may be one more, of
    the process that looks at the servers: then that one is killed, too."""

    for connection in mariadb.connections(database)[:2]:
        mariadb.query(f'KILL {connection}')

        try:
            return wait_for(lambda: open_lines(nginx) == 1, 1)
        except AssertionError:
            pass

    raise AssertionError('no connection of the worker was killed')


def test_a_spare_that_fails_moves_nobody(start_nginx, mariadb, standby,
                                         database, journal, proxy, check):
    """One connection is lost and cannot be had again for a while; the one
    that works stays where it is."""

    nginx = start_nginx(Shard('main', database,
                              [proxy.address, f'unix:{standby.socket}']),
                        workers=1)
    ask = Client(nginx.port, journal)

    with Load(nginx.port, journal, clients=4) as load:
        load.wait(50)
        proxy.close_listener()

        kill_one(nginx, mariadb, database)
        load.wait(300)
        assert open_lines(nginx) == 1

        proxy.accept()
        nginx.wait_connected(15)
        load.wait(50)

    assert not load.bad(), load.bad()[:5]
    check(ask)


def test_commits_that_are_not_flushed(start_nginx, mariadb, database, journal,
                                      check):
    """The server may lose what it has committed: said once by each worker,
    for it is the operator's choice."""

    mariadb.query('SET GLOBAL innodb_flush_log_at_trx_commit = 2')

    try:
        nginx = start_nginx(Shard('main', database,
                                  f'unix:{mariadb.socket}'))
        assert Client(nginx.port, journal).authorize().ok
        lines = nginx.lines('innodb_flush_log_at_trx_commit is 2, not 1')
        assert len(lines) == 2, lines

    finally:
        mariadb.query('SET GLOBAL innodb_flush_log_at_trx_commit = 1')

    check()


def test_flush_tables_with_read_lock(nginx, mariadb, database, journal, check,
                                     ask):
    """A backup stops all commits for a moment: late, but nothing is lost."""

    holder = mariadb.session(database)

    with Load(nginx.port, journal, clients=8, changes=True) as load:
        load.wait(50)
        holder.cursor().execute('FLUSH TABLES WITH READ LOCK')
        time.sleep(1.5)
        holder.cursor().execute('UNLOCK TABLES')
        load.wait(200)

    assert {call.status for call in load.bad()} <= {503}, \
        load.calls.statuses()
    holder.close()
    check(ask)


def test_disk_full(start_nginx, template, journal):
    """A tablespace with an end: 503 when it is reached, and no half payment;
    when there is room again, payments."""

    from conftest import _server
    import invariants

    small = _server('db-small', template,
                    'innodb_file_per_table = 0\n'
                    'innodb_data_file_path = ibdata1:12M:autoextend:max:24M')

    try:
        database = small.new_database()
        nginx = start_nginx(Shard('main', database, f'unix:{small.socket}'))
        ask = Client(nginx.port, journal)
        assert ask.authorize().ok

        with small.admin(database) as db:
            db.execute('CREATE TABLE filler (a LONGTEXT)')

            with pytest.raises(pymysql.err.OperationalError, match='full'):
                while True:
                    db.execute("INSERT INTO filler"
                               " VALUES (REPEAT('x', 200000))")

            with pytest.raises(pymysql.err.OperationalError, match='full'):
                while True:
                    db.execute("INSERT INTO filler VALUES (REPEAT('x', 4000))")

        # what is free inside of pages is used up first
        with Load(nginx.port, journal, clients=8) as load:
            wait_for(lambda: len(load.calls.of(status=503)) > 20, 30, '503')

        assert {call.status for call in load.bad()} <= {503}, \
            load.calls.statuses()
        assert nginx.lines('(1114)')

        # a table that is dropped needs a page for its undo, and there may be
        # none: who has filled a disk to the last page takes a larger one
        small.restart('innodb_data_file_path = '
                      'ibdata1:12M:autoextend:max:64M')
        recovers(ask)

        with Load(nginx.port, journal, clients=8, name='after') as load:
            load.wait(100)

        assert {call.status for call in load.bad()} <= {503}, \
            load.calls.statuses()
        invariants.check(journal, (small, database), settle=ask)
        nginx.stop()

    finally:
        small.stop()
