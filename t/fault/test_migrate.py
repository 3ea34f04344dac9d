"""ngx-payment-migrate: whatever interrupts it, running it again ends with the
same tables; two at once are one after the other; what was applied and changed
is refused; and older modules go on until somebody says `finish`.
"""

import re
import signal
import subprocess
import threading

import pytest

from client import Client
from migrations import Checkout
from proxy import COM_QUERY, is_query
from servers import ROOT, Shard, wait_for


def test_wrong_use_is_told_apart_from_failure():
    done = subprocess.run([ROOT / 'tools' / 'migrate.sh', 'up'],
                          stderr=subprocess.PIPE, text=True, timeout=60)

    assert (done.returncode, 'usage:' in done.stderr) == (2, True)


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / 'checkout')


@pytest.fixture
def empty(mariadb):
    """empty(): the name of a database without tables, dropped at the end."""

    names = []

    def make():
        names.append(mariadb.empty_database())
        return names[-1]

    yield make

    for name in names:
        mariadb.drop_database(name)


def through(proxy):
    """Client options that come last, and win."""
    return ('--protocol=tcp', '--host=127.0.0.1', f'--port={proxy.port}')


def schema(mariadb, database):
    """All that migrations make, and what is recorded of them."""

    text = subprocess.run(
        ['mariadb-dump', *mariadb.login(), '--routines', '--skip-comments',
         '--skip-dump-date', '--skip-extended-insert', database],
        check=True, capture_output=True, text=True).stdout

    # which days the archive has, which are others after midnight
    text = re.sub(r"PARTITION `p\d+` VALUES LESS THAN \('[^']*'\)",
                  'PARTITION', text)

    # when it was applied
    return re.sub(r"('[^']*'),'20\d\d-\d\d-\d\d \d\d:\d\d:\d\d'", r'\1', text)


def is_change(payload, link):
    return payload[0] == COM_QUERY \
        and payload[1:].lstrip().startswith((b'CREATE', b'ALTER', b'INSERT',
                                             b'UPDATE', b'CALL'))


@pytest.mark.timeout(600)
@pytest.mark.parametrize('action', ['before', 'after'])
def test_interrupted_at_each_statement(mariadb, start_proxy, empty, checkout,
                                       action):
    """The connection is lost before the server has the statement, or after it
    has carried it out. The second run ends what the first began."""

    proxy = start_proxy(mariadb.socket)
    whole = empty()
    changes = []

    def note(payload, link):
        if is_change(payload, link):
            changes.append(payload[1:])

        return False

    proxy.strike(note, 'before')
    checkout.run(mariadb, 'up', whole, *through(proxy))
    proxy.calm()

    good = schema(mariadb, whole)
    assert len(changes) > 18

    for i, statement in enumerate(changes):
        database = empty()
        strike = proxy.strike(is_change, action, skip=i)

        said = checkout.run(mariadb, 'up', database, *through(proxy), status=1)
        assert strike.hits == 1, statement
        assert 'ERROR 2013' in said, said

        proxy.calm()
        checkout.run(mariadb, 'up', database)
        assert schema(mariadb, database) == good, statement


def test_a_second_run_waits(mariadb, start_proxy, empty, checkout):
    database = empty()
    proxy = start_proxy(mariadb.socket)
    strike = proxy.strike(
        is_query(b'CREATE TABLE IF NOT EXISTS payment '), 'hold')

    first = checkout.start(mariadb, 'up', database, *through(proxy))
    strike.wait()

    second = checkout.start(mariadb, 'up', database)
    assert 'is at work, waiting for it' in second.stdout.readline()

    strike.release()
    said = [run.communicate(timeout=60)[0] for run in (first, second)]

    assert (first.returncode, second.returncode) == (0, 0), said
    assert said[0].count('applied') == checkout.newest
    assert said[1].endswith('nothing to apply\n') and 'applied' not in said[1]


def test_killed_while_a_statement_runs(mariadb, start_proxy, empty, checkout):
    """kill -9 of the script: what its client still does, it does under the
    lock."""

    database = empty()
    proxy = start_proxy(mariadb.socket)
    strike = proxy.strike(
        is_query(b'CREATE TABLE IF NOT EXISTS idempotency_key'), 'hold')

    first = checkout.start(mariadb, 'up', database, *through(proxy))
    strike.wait()
    first.kill()
    assert first.wait(10) == -signal.SIGKILL

    second = checkout.start(mariadb, 'up', database)
    assert 'is at work, waiting for it' in second.stdout.readline()
    strike.release()
    said = second.communicate(timeout=60)[0]
    first.stdout.close()
    assert second.returncode == 0, said

    whole = empty()
    checkout.run(mariadb, 'up', whole)
    assert schema(mariadb, database) == schema(mariadb, whole)


def test_a_changed_file_is_refused(mariadb, empty, checkout):
    database = empty()
    checkout.run(mariadb, 'up', database)
    assert checkout.run(mariadb, 'status', database).count(' ok ') \
        == checkout.newest

    pending = checkout.add('expand', 'CREATE TABLE IF NOT EXISTS more (x INT);')
    changed = checkout.files[1]
    changed.write_text(changed.read_text() + '-- for good measure\n')

    said = checkout.run(mariadb, 'up', database, status=1)
    assert f'{changed.name} is not what was applied' in said, said
    assert pending not in said

    lines = checkout.run(mariadb, 'status', database, status=1).splitlines()
    assert [line.split()[0] for line in lines if 'changed' in line] == ['V002']
    assert [line.split()[0] for line in lines if 'pending' in line] \
        == [pending[:4]]


def test_tables_of_an_older_one(mariadb, empty, checkout):
    """It kept no checksums: from now on the files are those that are there."""

    database = empty()
    checkout.run(mariadb, 'up', database)
    mariadb.query('ALTER TABLE payment_schema_version'
                  ' DROP COLUMN kind, DROP COLUMN checksum', database)

    def states():
        lines = checkout.run(mariadb, 'status', database).splitlines()
        return {line.split()[4] for line in lines if line[0] == 'V'}

    assert states() == {'unknown'}
    checkout.run(mariadb, 'up', database)
    assert states() == {'ok'}


@pytest.mark.parametrize('modes', [
    'ORACLE', 'MSSQL', 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT', ''])
def test_any_sql_mode(mariadb, empty, checkout, modes):
    """The server's settings do not change what a migration means."""

    usual, odd = empty(), empty()
    checkout.run(mariadb, 'up', usual)

    with mariadb.admin() as db:
        try:
            db.execute(f"SET GLOBAL sql_mode = '{modes}'")
            db.execute('SET GLOBAL autocommit = 0, tx_read_only = 1')
            checkout.run(mariadb, 'up', odd)
        finally:
            db.execute('SET GLOBAL autocommit = 1, tx_read_only = 0,'
                       ' sql_mode = DEFAULT')

    assert schema(mariadb, odd) == schema(mariadb, usual)


def test_finish_is_for_older_modules_gone(mariadb, empty, checkout,
                                          start_nginx, journal):
    """A module serves what later migrations expanded, until one took something
    away that it needs."""

    database = empty()
    checkout.run(mariadb, 'up', database)
    checkout.add('expand', 'CREATE TABLE IF NOT EXISTS more (x INT);')
    contract = checkout.add('contract', 'DROP TABLE IF EXISTS more;')

    said = checkout.run(mariadb, 'up', database)
    assert 'applied V' in said
    assert f'{contract} is pending' in said and 'finish' in said, said
    assert mariadb.query("SHOW TABLES LIKE 'more'", database)

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    assert Client(nginx.port, journal).authorize().ok

    later = checkout.add('expand', 'CREATE TABLE IF NOT EXISTS later (x INT);')
    said = checkout.run(mariadb, 'up', database, status=1)
    assert f'{later} can only be applied after that' in said, said

    said = checkout.run(mariadb, 'finish', database)
    assert f'applied {contract}' in said and f'{later} is pending' in said
    assert not mariadb.query("SHOW TABLES LIKE 'more'", database)
    assert f'applied {later}' in checkout.run(mariadb, 'up', database)

    # connections that are there already go on; the next is refused
    mariadb.kill_connections(database)
    wait_for(lambda: nginx.lines('the schema was finished for version'), 10,
             'the refusal')
    assert Client(nginx.port).authorize().status == 503

    # an older one has nothing to do there
    old = Checkout(checkout.path / 'old')
    said = old.run(mariadb, 'up', database, status=1)
    assert 'was finished for version' in said, said


def test_nobody_is_older_than_an_empty_database(mariadb, empty, checkout):
    database = empty()
    contract = checkout.add('contract', 'DROP TABLE IF EXISTS more;')
    assert f'applied {contract}' in checkout.run(mariadb, 'up', database)


def test_payments_do_not_wait_for_a_migration(mariadb, empty, checkout,
                                              start_nginx, journal):
    """Whoever reads a table for long keeps an ALTER waiting, and the ALTER
    everybody else: it gives up soon, and can be run again."""

    database = empty()
    checkout.run(mariadb, 'up', database)
    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    file = checkout.add('expand', 'ALTER TABLE payment ADD COLUMN IF NOT EXISTS'
                        ' more INT NULL, ALGORITHM=INSTANT, LOCK=NONE;')
    ask = Client(nginx.port, journal)

    reader = mariadb.session(database)

    try:
        reader.cursor().execute('SELECT COUNT(*) FROM payment')

        said = []
        run = threading.Thread(target=lambda: said.append(
            checkout.run(mariadb, 'up', database, status=1)))
        run.start()
        wait_for(lambda: mariadb.query(
            'SELECT 1 FROM information_schema.processlist WHERE state ='
            " 'Waiting for table metadata lock'"), 10, 'the ALTER waits')

        assert ask.authorize().ok
        run.join(20)
        assert 'Lock wait timeout exceeded' in said[0], said
        assert f'{file} failed' in said[0] and 'run this again' in said[0]
    finally:
        reader.close()

    assert f'applied {file}' in checkout.run(mariadb, 'up', database)
    assert ask.authorize().ok


def test_what_is_optional_is_added_by_its_name(mariadb, empty, checkout):
    database = empty()

    said = checkout.run(mariadb, 'add merchant_index', database, status=1)
    assert "run 'ngx-payment-migrate up' first" in said, said

    said = checkout.run(mariadb, 'add nothing', database, status=1)
    assert "optional of the name 'nothing'" in said, said
    assert 'merchant_index' in said, said

    checkout.run(mariadb, 'up', database)
    assert 'merchant_index  optional  not there' in checkout.run(
        mariadb, 'status', database)

    said = checkout.run(mariadb, 'add merchant_index', database)
    assert said.endswith('added merchant_index\n'), said
    assert 'merchant_index  optional  there' in checkout.run(
        mariadb, 'status', database)

    said = checkout.run(mariadb, 'add merchant_index', database)
    assert said.endswith('is there, nothing to add\n'), said

    # it is no version: neither a module nor an upgrade sees it
    said = checkout.run(mariadb, 'up', database)
    assert said.endswith('nothing to apply\n'), said
    assert mariadb.query('SELECT COUNT(*) FROM payment_schema_version',
                         database)[0][0] == checkout.newest


@pytest.mark.parametrize('action', ['before', 'after'])
def test_adding_it_is_interrupted(mariadb, start_proxy, database, checkout,
                                  action):
    proxy = start_proxy(mariadb.socket)

    proxy.strike(is_query(b'ALTER TABLE payment'), action)
    checkout.run(mariadb, 'add merchant_index', database, *through(proxy),
                 status=1)
    proxy.calm()

    checkout.run(mariadb, 'add merchant_index', database)
    assert [row[0] for row in mariadb.query(
        'SELECT column_name FROM information_schema.statistics'
        f" WHERE table_schema = '{database}' AND table_name = 'payment'"
        " AND index_name = 'payment_merchant' ORDER BY seq_in_index")] \
        == ['merchant_id', 'id']
