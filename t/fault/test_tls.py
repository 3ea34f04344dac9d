"""TLS to the database: nothing but the right server, and never without."""

import shutil
import time

import pytest

import certificates
import invariants
import servers
from client import Client, Load
from conftest import _server
from servers import Shard, wait_for


@pytest.fixture(scope='module')
def tls(template, work):
    """A server with TLS, and certificates to give it."""

    certs = certificates.make(work / 'tls')
    shutil.copy(certs / 'good.crt', certs / 'server.crt')
    shutil.copy(certs / 'good.key', certs / 'server.key')

    server = _server('db-tls', template,
                     f'ssl-ca = {certs}/ca.crt\n'
                     f'ssl-cert = {certs}/server.crt\n'
                     f'ssl-key = {certs}/server.key')
    server.certs = certs

    for host in ('localhost', '127.0.0.1'):
        server.query(f"ALTER USER 'payment'@'{host}' REQUIRE SSL")

    yield server
    server.stop()


@pytest.fixture
def tls_database(tls):
    name = tls.new_database()
    yield name
    tls.drop_database(name)


@pytest.fixture
def tls_check(tls, tls_database, journal):
    def run(settle=None):
        return invariants.check(journal, (tls, tls_database), settle=settle)

    return run


def show(tls, name):
    """Gives the server another certificate."""

    for kind in ('crt', 'key'):
        shutil.copy(tls.certs / f'{name}.{kind}',
                    tls.certs / f'server.{kind}')

    tls.query('FLUSH SSL')


def shard(tls, database, host='127.0.0.1', **settings):
    return Shard('main', database, f'{host}:{tls.port}', ssl='on', **settings)


@pytest.mark.parametrize('host', ['127.0.0.1', 'localhost'])
def test_the_right_server(start_nginx, tls, tls_database, journal, tls_check,
                          host):
    show(tls, 'good')
    nginx = start_nginx(shard(tls, tls_database, host,
                              ssl_ca=tls.certs / 'ca.crt', ssl_verify='on'))
    ask = Client(nginx.port, journal)

    with Load(nginx.port, journal, clients=8, changes=True) as load:
        load.wait(300)

    assert not load.bad(), load.bad()[:5]
    assert ask.authorize().ok
    line, = nginx.lines('is the primary now')
    assert '), TLSv1.3, schema ' in line, line
    tls_check()


@pytest.mark.parametrize('certificate', ['unknown', 'expired', 'elsewhere'])
def test_the_wrong_server(start_nginx, tls, tls_database, journal, tls_check,
                          certificate):
    """503, a line that says why, and not one byte of a password to it; and
    when it shows the right certificate, we believe it. (At 127.0.0.1 Connector/C
    3.4 would not look at its name.)"""

    show(tls, certificate)
    nginx = start_nginx(shard(tls, tls_database, 'localhost',
                              ssl_ca=tls.certs / 'ca.crt', ssl_verify='on'),
                        ready=False)
    ask = Client(nginx.port, journal)

    wait_for(lambda: ask.authorize().status == 503, 5, '503')
    wait_for(lambda: nginx.lines(' failed, server '), 5, 'a line')
    assert len(nginx.lines('(2026)')) == 1, nginx.lines(' failed, server ')
    assert f'; ssl_ca is {tls.certs}/ca.crt' in nginx.lines('(2026)')[0]

    show(tls, 'good')
    wait_for(lambda: ask.authorize().ok, 8, 'recovery')
    nginx.wait_connected()
    tls_check(ask)


def test_verification_can_be_switched_off(start_nginx, tls, tls_database,
                                          journal, tls_check):
    show(tls, 'elsewhere')
    nginx = start_nginx(shard(tls, tls_database, ssl_verify='off'))
    assert Client(nginx.port, journal).authorize().ok
    tls_check()


@pytest.fixture
def without_tls(template):
    """Since 11.4 a server makes a certificate for itself if it has none."""

    server = _server('db-without-tls', template, 'skip-ssl')
    yield server
    server.stop()


def test_a_server_without_tls(start_nginx, without_tls, journal):
    """"ssl on" is no wish: there is no way back to a connection without."""

    database = without_tls.new_database()
    nginx = start_nginx(Shard('main', database,
                              f'127.0.0.1:{without_tls.port}',
                              ssl='on', ssl_verify='off'), ready=False)
    ask = Client(nginx.port, journal)

    wait_for(lambda: ask.authorize().status == 503, 5, '503')
    wait_for(lambda: nginx.lines(' failed, server '), 5, 'a line')
    assert not without_tls.connections(database)


def test_the_user_must_have_tls(start_nginx, tls, tls_database, journal):
    """"Access denied (using password: YES)" is the server's word for it: the
    log says what may be missing, besides the password."""

    nginx = start_nginx(Shard('main', tls_database, f'127.0.0.1:{tls.port}',
                              ssl='off'), ready=False)
    line, = wait_for(lambda: nginx.lines('Access denied')[:1], 10, 'a line')
    assert 'the connection has no TLS, which the user may have to have' in line
    assert Client(nginx.port, journal).authorize().status == 503


def test_a_certificate_of_our_own(start_nginx, tls, tls_database, journal,
                                  tls_check):
    """The server wants to see one; without it, access is denied."""

    show(tls, 'good')

    def require(what):
        for host in ('localhost', '127.0.0.1'):
            tls.query(f"ALTER USER 'payment'@'{host}' REQUIRE {what}")

    require('X509')

    try:
        nginx = start_nginx(shard(tls, tls_database,
                                  ssl_ca=tls.certs / 'ca.crt'), ready=False)
        ask = Client(nginx.port, journal)
        wait_for(lambda: ask.authorize().status == 503, 5, '503')
        nginx.stop()

        nginx = start_nginx(shard(tls, tls_database,
                                  ssl_ca=tls.certs / 'ca.crt',
                                  ssl_certificate=tls.certs / 'client.crt',
                                  ssl_certificate_key=tls.certs / 'client.key'
                                  ))
        assert Client(nginx.port, journal).authorize().ok

    finally:
        require('SSL')

    tls_check()


@pytest.mark.asan
def test_tls_in_a_storm(start_nginx, tls, tls_database, journal, tls_check,
                        start_proxy):
    """Links are cut under load, with RST and without."""

    show(tls, 'good')
    proxy = start_proxy(('127.0.0.1', tls.port))
    nginx = start_nginx(Shard('main', tls_database, proxy.address, ssl='on',
                              ssl_ca=tls.certs / 'ca.crt', ssl_verify='on'))
    ask = Client(nginx.port, journal)

    with Load(nginx.port, journal, clients=8, changes=True) as load:
        for i in range(20):
            load.wait(10)
            proxy.cut(reset=i % 2 == 0)

        load.wait(20)

    # those that were cut in their handshake, twice in a row, may be missed
    assert {call.status for call in load.bad()} <= {503}, load.bad()[:5]
    assert len(load.bad()) < len(load.calls) / 2
    tls_check(ask)


def test_nobody_waits_for_a_handshake(start_nginx, tls, tls_database, mariadb,
                                      database, journal, start_proxy):
    """One shard is slow to reach, handshake, queries and all; the other's
    clients, on the same worker, do not notice."""

    show(tls, 'good')
    proxy = start_proxy(('127.0.0.1', tls.port))
    proxy.delay = 0.04

    nginx = start_nginx(
        [Shard('slow', tls_database, proxy.address, '0-511', ssl='on',
               ssl_ca=tls.certs / 'ca.crt', max_requests=6),
         Shard('quick', database, f'unix:{mariadb.socket}', '512-1023')],
        ready=False, workers=1)

    ask = Client(nginx.port, journal)
    slow, quick = (servers.merchant(slots) for slots in ((0, 511),
                                                         (512, 1023)))

    wait_for(lambda: ask.authorize(merchant=quick).ok, 5, 'the quick shard')

    with Load(nginx.port, journal, clients=2, merchant=slow) as crawl:
        with Load(nginx.port, journal, clients=2, merchant=quick,
                  pause=0.002) as load:
            time.sleep(3)

    assert not load.bad(), load.bad()[:5]
    seconds = sorted(call.seconds for call in load.calls)
    assert len(seconds) > 200
    assert seconds[int(len(seconds) * 0.99)] < 0.1, seconds[-20:]
    assert crawl.good() > 2, crawl.calls
    assert all(call.seconds > 0.15 for call in crawl.calls if call.ok)

    invariants.check(journal, (tls, tls_database), (mariadb, database),
                     settle=ask)


def test_quit_while_connecting(start_nginx, tls, tls_database, start_proxy):
    """Threads are in their handshakes when the worker ends."""

    show(tls, 'good')
    proxy = start_proxy(('127.0.0.1', tls.port))
    proxy.delay = 0.02

    for i in range(8):
        nginx = start_nginx(Shard('main', tls_database, proxy.address,
                                  ssl='on', ssl_ca=tls.certs / 'ca.crt',
                                  connections=8), ready=False)
        time.sleep(0.04 * i)
        nginx.stop()
