"""A server that cannot do the work: it is known at connect by what it says of
itself, or by a refusal that every row would meet. One clear line, no payment
lost, and the next server of the shard is asked.
"""

import re
import time

import pytest

from client import Client
from conftest import _server
from outbox import free_lease, relay, wait_leased
from proxy import is_bulk
from servers import PROBE, Shard, wait_for
from test_expiry import expiries, make_overdue, on, wait_swept


@pytest.fixture
def standby(second_mariadb, mariadb, database):
    second_mariadb.new_database(database)
    mariadb.identify(database)
    second_mariadb.identify(database)
    yield second_mariadb
    second_mariadb.drop_database(database)


def payments(server, database):
    return server.query('SELECT COUNT(*) FROM payment', database)[0][0]


@pytest.mark.parametrize('said, may', [
    ('OFF', True), ('ON', False), ('NO_LOCK', False),
    ('NO_LOCK_NO_ADMIN', False), ('PERHAPS', False)])
def test_what_another_version_says_of_read_only(start_nginx, database, proxy,
                                                journal, said, may):
    """MariaDB 12 has words where there were numbers."""

    proxy.rewrite('@@global.read_only', f"'{said}'")

    nginx = start_nginx(Shard('main', database, proxy.address), ready=may)
    ask = Client(nginx.port, journal)

    if not may:
        wait_for(lambda: nginx.lines(f'read_only is {said}'), 10, 'a line')
        assert ask.authorize().status == 503
        return

    call = ask.authorize()
    assert call.ok
    assert ask.change('capture', call.id, amount=None).ok
    assert ask.authorize(key=call.key).replayed


@pytest.mark.parametrize('what, instead, word', [
    ('@@version', "'10.5.29-MariaDB'", '10.5.29'),
    ('@@version', "'8.0.36'", '8.0.36'),
    ('@@global.innodb_read_only', '1', 'innodb_read_only'),
    ('@@global.innodb_force_recovery', '3', 'innodb_force_recovery'),
    ('@@global.binlog_format', "'STATEMENT'", 'binlog_format')])
def test_what_a_server_must_have(start_nginx, mariadb, standby, database,
                                 proxy, journal, what, instead, word):
    """It has not: one line, and the next one takes the payments."""

    proxy.rewrite('@@global.log_bin', '1')
    proxy.rewrite(what, instead)

    nginx = start_nginx(Shard('main', database,
                              [proxy.address, f'unix:{standby.socket}']),
                        workers=1, ready=False)
    ask = Client(nginx.port, journal)

    wait_for(lambda: ask.authorize().ok, 10, 'a payment')
    assert not payments(mariadb, database)
    assert len(nginx.lines(word)) == 1, nginx.lines('payment: ')
    assert proxy.address in nginx.lines(word)[0]


@pytest.mark.parametrize('options, words', [
    ('log-bin\nbinlog-format = STATEMENT\nsync-binlog = 1\n', 'STATEMENT'),
    ('innodb-read-only = 1\n', 'innodb_read_only')])
def test_such_a_server(start_nginx, mariadb, template, journal, options,
                       words):
    """The same, with a real one."""

    server = _server('db-unfit', template)

    try:
        database = server.new_database('payment_unfit')
        server.identify(database)
        server.restart(options)
        mariadb.new_database(database)
        mariadb.identify(database)

        nginx = start_nginx(Shard('main', database,
                                  [f'unix:{server.socket}',
                                   f'unix:{mariadb.socket}']), ready=False)
        wait_for(lambda: Client(nginx.port, journal).authorize().ok, 10,
                 'a payment')
        assert nginx.lines(words), nginx.errors()
        assert payments(mariadb, database)
        nginx.stop()

    finally:
        server.stop()
        mariadb.drop_database(database)


@pytest.mark.parametrize('what', ['sync_binlog is 0',
                                  'innodb_flush_log_at_trx_commit is 2'])
def test_what_a_crash_can_lose(start_nginx, mariadb, database, proxy, journal,
                               what):
    """The operator's choice; but said, once by each process."""

    if 'binlog' in what:
        proxy.rewrite('@@global.log_bin', '1')
        proxy.rewrite('@@global.sync_binlog', '0')
    else:
        proxy.rewrite('@@global.innodb_flush_log_at_trx_commit', '2')

    nginx = start_nginx(Shard('main', database, proxy.address))
    assert Client(nginx.port, journal).authorize().ok
    lines = nginx.lines(what)
    assert len(lines) == 2 and '[warn]' in lines[0], lines


@pytest.mark.parametrize('error', [1036, 1047, 1142, 1194, 1226, 1290, 1598,
                                   1665, 1792, 1836, 1874, 1877, 1881, 1932])
def test_what_every_row_would_meet(start_nginx, mariadb, standby, database,
                                   proxy, journal, error):
    """The server takes connections, but no row: the next one is the primary,
    for everybody."""

    nginx = start_nginx(Shard('main', database,
                              [proxy.address, f'unix:{standby.socket}']))
    ask = Client(nginx.port, journal)
    assert ask.authorize().ok
    strike = proxy.strike(is_bulk, 'error', error=error, times=100000)

    calls = ask.at_once([ask.call() for _ in range(20)])

    assert all(call.ok for call in calls), calls
    assert strike.hits <= 20
    assert payments(standby, database) == 20
    nginx.wait_connected()
    assert len(standby.connections(database)) == 4 + PROBE


@pytest.mark.parametrize('without', [
    'RENAME TABLE outbox_event TO outbox_evening',
    'ALTER TABLE outbox_event CHANGE version revision INT UNSIGNED NOT NULL'])
def test_what_is_missing(nginx, mariadb, database, ask, check, without):
    """A table or a column goes away while payments come: no row is to blame,
    and when it is back, payments are."""

    back = {'RENAME': 'RENAME TABLE outbox_evening TO outbox_event',
            'ALTER': 'ALTER TABLE outbox_event CHANGE revision version'
                     ' INT UNSIGNED NOT NULL'}[without.split()[0]]

    assert ask.authorize().ok
    mariadb.query(without, database)

    try:
        for _ in range(3):
            calls = ask.at_once([ask.call() for _ in range(50)])
            assert {call.status for call in calls} == {503}, calls

        assert nginx.status()['shards'][0]['splits'] == 0
        assert nginx.lines('preparing statements failed')

    finally:
        mariadb.query(back, database)

    wait_for(lambda: ask.authorize().ok, 10, 'a payment')
    check(ask)


@pytest.mark.parametrize('error', [1021, 1114, 1290])
def test_both_refuse(start_nginx, start_proxy, mariadb, database, journal,
                     error, check):
    """Each server takes connections and no row (both disks are full, say): the
    choice goes in no circle, and payments go on when one of them can."""

    proxies = [start_proxy(mariadb.socket) for _ in range(2)]
    nginx = start_nginx(Shard('main', database,
                              [proxy.address for proxy in proxies]))
    ask = Client(nginx.port, journal)
    assert ask.authorize().ok

    for proxy in proxies:
        proxy.strike(is_bulk, 'error', error=error, times=100000)

    until = time.monotonic() + 3

    while time.monotonic() < until:
        calls = ask.at_once([ask.call() for _ in range(8)])
        assert {call.status for call in calls} == {503}, calls

    shard = nginx.status()['shards'][0]
    assert shard['failovers'] <= 1
    assert shard['last_error']['code'] == error, shard['last_error']

    for proxy in proxies:
        proxy.calm()

    wait_for(lambda: ask.authorize().ok, 10, 'a payment')
    check(ask)


@pytest.mark.parametrize('error', [1615, 1412])
def test_what_passes(nginx, proxy, ask, check, error):
    proxy.strike(is_bulk, 'error', error=error, times=3)
    call = ask.authorize()
    assert call.ok and not call.replayed, call
    check()


@pytest.mark.parametrize('grant', ['READ_ONLY ADMIN', 'SUPER', 'ROLE'])
def test_who_may_write_in_spite_of_read_only(start_nginx, mariadb, standby,
                                             database, journal, grant):
    """A demoted primary takes nothing, whatever its user may do."""

    with mariadb.admin() as db:
        for host in ('localhost', '127.0.0.1'):
            user = f"'mighty'@'{host}'"
            db.execute(f"CREATE USER {user} IDENTIFIED BY 'mighty'")
            db.execute(f'GRANT SELECT, INSERT, UPDATE, DELETE ON *.*'
                       f' TO {user}')

            if grant == 'ROLE':
                db.execute("CREATE ROLE IF NOT EXISTS 'mightier'")
                db.execute("GRANT READ_ONLY ADMIN ON *.* TO 'mightier'")
                db.execute(f"GRANT 'mightier' TO {user}")
                db.execute(f"SET DEFAULT ROLE 'mightier' FOR {user}")
            else:
                db.execute(f'GRANT {grant} ON *.* TO {user}')

    standby.query("CREATE USER 'mighty'@'localhost' IDENTIFIED BY 'mighty'")
    standby.query('GRANT SELECT, INSERT, UPDATE, DELETE ON *.*'
                  " TO 'mighty'@'localhost'")

    try:
        nginx = start_nginx(Shard('main', database,
                                  [f'unix:{mariadb.socket}',
                                   f'unix:{standby.socket}'],
                                  user='mighty', password='mighty'))
        ask = Client(nginx.port, journal)
        assert ask.authorize().ok
        before = payments(mariadb, database)

        mariadb.query('SET GLOBAL read_only = 1')
        calls = [ask.authorize() for _ in range(20)]

        assert {call.status for call in calls} <= {200, 503}, calls
        assert payments(mariadb, database) == before
        assert payments(standby, database) == len(
            [call for call in calls if call.ok])
        assert calls[-1].ok
        nginx.stop()

    finally:
        mariadb.query('SET GLOBAL read_only = 0')

        for server in (mariadb, standby):
            server.query("DROP USER IF EXISTS 'mighty'@'localhost',"
                         " 'mighty'@'127.0.0.1'")

        mariadb.query("DROP ROLE IF EXISTS 'mightier'")


def test_a_helper_that_may_write_in_spite_of_read_only(
        start_nginx, mariadb, database, journal, check):
    """No authorization expires at a demoted primary, be there payments by which
    somebody would find out or not."""

    with mariadb.admin() as db:
        db.execute("CREATE USER 'mighty'@'localhost' IDENTIFIED BY 'mighty'")
        db.execute('GRANT SELECT, INSERT, UPDATE, DELETE, SUPER,'
                   " READ_ONLY ADMIN ON *.* TO 'mighty'@'localhost'")

    try:
        free_lease(mariadb, database)
        nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}',
                                  user='mighty', password='mighty'),
                            http=on('1h'))
        ask = Client(nginx.port, journal)
        call = ask.authorize()
        wait_leased(nginx)

        mariadb.query('SET GLOBAL read_only = 1')
        make_overdue(mariadb, database)
        wait_for(lambda: relay(nginx)['leases_lost'], 20, 'the end of a lease')
        assert expiries(mariadb, database) == 1

        mariadb.query('SET GLOBAL read_only = 0')
        wait_swept(mariadb, database)
        assert check(ask).payments[call.id]['version'] == 2
        nginx.stop()

    finally:
        mariadb.query('SET GLOBAL read_only = 0')
        mariadb.query("DROP USER IF EXISTS 'mighty'@'localhost'")


def test_the_errors_are_in_the_docs():
    """docs/ingest.md names each of them."""

    import servers

    text = (servers.ROOT / 'docs' / 'ingest.md').read_text()

    for error in (1036, 1046, 1047, 1054, 1142, 1146, 1194, 1226, 1290, 1412,
                  1598, 1615, 1665, 1836, 1877, 1881, 1932):
        assert re.search(rf'\b{error}\b', text), error
