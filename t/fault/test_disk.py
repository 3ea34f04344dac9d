"""The database's disk stalls, or its power is cut: what was answered stays.

A server with a faulty disk holds every sync of its logs back when it is told
to, and loses what was not synced when its power is cut.
"""

import contextlib
import threading

import pymysql
import pytest

from client import Load
from servers import wait_for

REDO = 'ib_logfile0'


@pytest.fixture
def mariadb(start_mariadb):
    """In place of the one that all tests share."""
    return start_mariadb(faulty_disk=True)


def rows(server):
    return [row[0] for row in
            server.query('SELECT name FROM payment.t ORDER BY id')]


def new_table(server):
    server.query('CREATE TABLE payment.t'
                 ' (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40))')


def holds(server, log, name):
    """Whether that log has been written as far as the row of that name."""
    return name.encode() in (server.dir / 'mariadb' / log).read_bytes()


@contextlib.contextmanager
def committing(server, name):
    """Within, a row is visible, its log is written, and COMMIT waits: the row of
    the name that this returns. A server that was syncing its log for its own
    sake when the disk stalled writes none: then another row is tried."""

    tries = 10

    for number in range(tries):
        server.disk.stall()
        row = f'{name}-{number}'
        session = server.session('payment')
        session.cursor().execute(f"INSERT INTO t (name) VALUES ('{row}')")
        thread = threading.Thread(target=commit, args=[session])
        thread.start()

        try:
            wait_for(lambda: row in rows(server) and holds(server, REDO, row),
                     5, 'a visible row')
            break
        except AssertionError:
            assert number < tries - 1
            server.disk.resume()
            thread.join(10)
            server.query(f"DELETE FROM payment.t WHERE name = '{row}'")

    assert thread.is_alive()

    yield row

    thread.join(10)
    assert not thread.is_alive()


def commit(session):
    with contextlib.suppress(pymysql.Error):
        session.commit()


def test_the_rig(mariadb):
    """COMMIT waits for a disk that stalls; a row that is visible then is lost
    with the power, and one whose COMMIT was answered is not."""

    new_table(mariadb)

    with committing(mariadb, 'it-waits') as waits:
        mariadb.disk.resume()

    with committing(mariadb, 'it-is-lost') as lost:
        mariadb.kill()

    assert holds(mariadb, REDO, lost)
    assert mariadb.disk.lose() > 0
    assert not holds(mariadb, REDO, lost)
    assert holds(mariadb, REDO, waits)

    mariadb.disk.resume()
    mariadb.start()
    assert rows(mariadb) == [waits]

    mariadb.query("INSERT INTO payment.t (name) VALUES ('it-stays')")
    mariadb.cut_power()
    mariadb.start()
    assert rows(mariadb) == [waits, 'it-stays']


@pytest.mark.parametrize('sync', [0, 1])
def test_the_rig_has_binary_logs(start_mariadb, sync):
    """What is not synced is not in the binary log, either."""

    server = start_mariadb('log-bin = db-bin\nserver-id = 1',
                           faulty_disk=True)
    new_table(server)
    log = server.query('SHOW MASTER STATUS')[0][0]

    server.query(f'SET GLOBAL sync_binlog = {sync}')
    server.query("INSERT INTO payment.t (name) VALUES ('a-row')")
    assert holds(server, log, 'a-row')

    server.cut_power()
    assert holds(server, log, 'a-row') == bool(sync)

    server.start()


def payments(server, database):
    return server.query(f'SELECT COUNT(*) FROM {database}.payment')[0][0]


def test_nothing_is_answered_before_it_is_synced(nginx, mariadb, database,
                                                 ask, check):
    assert ask.authorize().ok

    mariadb.disk.stall()
    answer = ask.later([ask.call()])

    wait_for(lambda: payments(mariadb, database) == 2, what='a visible row')
    assert not answer.done()

    mariadb.disk.resume()
    call, = answer.result(5)
    assert call.ok and not call.replayed, call
    check()


@pytest.mark.asan
def test_power_cuts(nginx, mariadb, database, journal, ask, check):
    """Under load, each while the disk stalls: whatever was answered 200 is
    there when the server is back."""

    with Load(nginx.port, journal, clients=12) as load:
        for _ in range(4):
            load.wait(100)

            mariadb.disk.stall()
            wait_for(lambda: payments(mariadb, database) > load.good(),
                     what='visible rows that nobody was told of')
            assert mariadb.cut_power() > 0
            mariadb.start()

        load.wait(100)

    assert {call.status for call in load.bad()} <= {503, 504}, \
        load.calls.statuses()

    check(ask)
