"""What fault tests are given. Each test has an empty database of its own in a
MariaDB that the whole session shares and that any test may kill; nginx and
proxies are the test's own and are stopped, and judged, when it ends.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / 'lib')]

import client                                                   # noqa: E402
import invariants                                               # noqa: E402
import outbox                                                   # noqa: E402
import servers                                                  # noqa: E402
import told                                                     # noqa: E402
import voters as three                                          # noqa: E402
from proxy import Proxy                                         # noqa: E402

# heavier variants of the same tests
LONG = bool(os.environ.get('PAYMENT_TEST_LONG'))


def pytest_configure(config):
    config.addinivalue_line('markers', 'long: only with PAYMENT_TEST_LONG=1')
    config.addinivalue_line('markers', 'asan: a part of make test-asan, too')


def pytest_collection_modifyitems(items):
    for item in items:
        if not item.get_closest_marker('timeout'):
            item.add_marker(pytest.mark.timeout(120))

        if item.get_closest_marker('long') and not LONG:
            item.add_marker(pytest.mark.skip(reason='PAYMENT_TEST_LONG=1'))


@pytest.fixture(scope='session')
def work():
    """The directory of this process; one session at a time has it."""

    servers.WORK.mkdir(parents=True, exist_ok=True)
    lock = open(servers.WORK / 'lock', 'w')

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pytest.exit('another run of the fault tests is under way', 2)

    yield servers.WORK

    lock.close()


@pytest.fixture(scope='session')
def template(work):
    """Empty data of a stopped server, copied by those that start with none."""

    # small: copied often, and for test_disk_full
    first = servers.MariaDB('template', 'innodb_autoextend_increment = 1')
    first.stop()
    first.first_start()
    first.stop()

    yield first.dir / 'mariadb'

    shutil.rmtree(first.dir, ignore_errors=True)


def _server(name, template, options=''):
    server = servers.MariaDB(name, options)
    server.stop()                    # of a session that was killed
    server.first_start(template)
    return server


@pytest.fixture(scope='session')
def _mariadb(template):
    server = _server('db-a', template)
    yield server
    server.stop()


@pytest.fixture(scope='session')
def _second_mariadb(template):
    server = _server('db-b', template)
    yield server
    server.stop()


# A fixture of a session that each file imported would be another in each: two
# brokers in turn with one directory. So these are here, unlike those that give
# them to a test.

@pytest.fixture(scope='session')
def _kafka(work):
    yield from outbox.running(outbox.Kafka(options='message.max.bytes=1000000'))


@pytest.fixture(scope='session')
def _three_brokers(work):
    yield from outbox.running(outbox.Cluster())


@pytest.fixture
def start_mariadb(template):
    """start_mariadb(options, faulty_disk, stepped_clock): a server of the
    test's own, with these lines in its configuration."""

    started = []

    def start(options='', **rigs):
        server = servers.MariaDB(f'db-own-{len(started) + 1}', options, **rigs)
        server.stop()                # of a session that was killed
        started.append(server)
        server.first_start(template)
        return server

    yield start

    # the log stays, for whoever wants to know what happened
    for server in started:
        server.stop()
        shutil.move(server.dir / 'mariadb.log', f'{server.dir}.log')
        shutil.rmtree(server.dir)


def _calm(server):
    """As it was before a test touched it."""

    server.start()

    with server.admin() as db:
        db.execute('SET GLOBAL read_only = 0')
        db.execute('SET GLOBAL max_connections = 300')


@pytest.fixture
def mariadb(_mariadb):
    """The server; running, writable."""
    _calm(_mariadb)
    yield _mariadb
    _calm(_mariadb)


@pytest.fixture
def second_mariadb(_second_mariadb):
    """Another one, without any tie to the first."""
    _calm(_second_mariadb)
    yield _second_mariadb
    _calm(_second_mariadb)


@pytest.fixture
def database(mariadb):
    """The name of an empty database, on mariadb."""
    name = mariadb.new_database()
    yield name
    _calm(mariadb)
    mariadb.drop_database(name)


@pytest.fixture
def start_proxy():
    """start_proxy(target): a Proxy."""

    proxies = []

    def start(*arguments, **settings):
        proxies.append(Proxy(*arguments, **settings))
        return proxies[-1]

    yield start

    for proxy in proxies:
        proxy.close()


@pytest.fixture
def proxy(mariadb, start_proxy):
    """In front of mariadb."""
    return start_proxy(mariadb.socket)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()

    if call.when == 'call':
        item.passed = report.passed


@pytest.fixture
def start_nginx(request, work, start_proxy):
    """start_nginx(shards, ..): an Nginx, quit and judged at the end."""

    started = []

    def start(shards, ready=True, **settings):
        if isinstance(shards, servers.Shard):
            shards = [shards]

        nginx = servers.Nginx(f'nginx-{len(started) + 1}', shards, **settings)
        started.append(nginx)
        nginx.start(ready)
        return nginx

    yield start

    # in their order, and each, whatever is found of another
    with contextlib.ExitStack() as ends:
        for nginx in reversed(started):
            ends.callback(nginx.stop)

    if told.ALL and request.node.passed:
        for log in (log for nginx in started for log in nginx.logs()):
            log.unlink()


@pytest.fixture
def voters(template, start_proxy):
    """Three servers of one shard, running; the first is the primary."""

    servers = three.Voters(template, start_proxy)
    yield servers
    servers.close()


@pytest.fixture
def start_node(voters, start_nginx, start_proxy, journal):
    """start_node(order, location, ..): an nginx for these servers; the settings
    are those of its shard."""

    return lambda *arguments, **settings: three.Node(
        voters, start_nginx, start_proxy, journal, *arguments, **settings)


@pytest.fixture
def journal():
    return client.Journal()


@pytest.fixture
def nginx(start_nginx, database, proxy):
    """Two workers, one shard, behind the proxy."""
    return start_nginx(servers.Shard('main', database, proxy.address))


@pytest.fixture
def ask(nginx, journal):
    """A Client of nginx."""
    return client.Client(nginx.port, journal)


@pytest.fixture
def check(journal, mariadb, database):
    """check(client): the invariants over the journal and the database."""

    def run(settle=None, *places):
        return invariants.check(journal,
                                *(places or [(mariadb, database)]),
                                settle=settle)

    return run
