"""Who is told the password, and how: never in clear text, and nothing at all
before TLS is there, where TLS is asked for."""

import pytest

import certificates
import servers
from impostor import Impostor
from servers import PASSWORD, USER, Shard, wait_for


@pytest.fixture(scope='module')
def certs(work):
    return certificates.make(work / 'login')


@pytest.fixture
def start_impostor():
    started = []

    def start(**settings):
        started.append(Impostor(**settings))
        return started[-1]

    yield start

    for impostor in started:
        impostor.close()


def logged(nginx):
    return nginx.lines(' failed, server ')


@pytest.mark.parametrize('method', ['mysql_clear_password', 'dialog',
                                    'sha256_password',
                                    'caching_sha2_password'])
@pytest.mark.parametrize('tls', [False, True])
def test_no_password_for_the_asking(start_nginx, start_impostor, certs, method,
                                    tls):
    """Methods that hand the password over are not used, behind TLS either,
    for without verification there may be anybody behind it."""

    impostor = start_impostor(method=method,
                              tls=certs / 'good' if tls else None)
    settings = dict(ssl='on', ssl_verify='off') if tls else {}

    nginx = start_nginx(Shard('main', 'payment', impostor.address, **settings),
                        ready=False, workers=1)

    wait_for(lambda: logged(nginx), 5, 'a line')
    assert not impostor.answers
    assert PASSWORD.encode() not in b''.join(impostor.heard)
    assert any('(5010)' in line for line in logged(nginx)), logged(nginx)


def test_no_login_without_tls(start_nginx, start_impostor):
    """"ssl on" to a server that says it has no TLS: not even the name."""

    impostor = start_impostor()
    nginx = start_nginx(Shard('main', 'payment', impostor.address, ssl='on',
                              ssl_verify='off'), ready=False, workers=1)

    wait_for(lambda: logged(nginx), 5, 'a line')
    assert impostor.heard
    assert not any(impostor.heard), impostor.heard
    assert 'the server has no TLS' in logged(nginx)[0], logged(nginx)


def test_the_login_is_behind_tls(start_nginx, start_impostor, certs):
    impostor = start_impostor(method='mysql_native_password',
                              tls=certs / 'good')
    nginx = start_nginx(Shard('main', 'payment', impostor.address, ssl='on',
                              ssl_verify='off'), ready=False, workers=1)

    wait_for(lambda: impostor.answers, 5, 'an answer')
    assert any(USER.encode() in heard for heard in impostor.heard)
    assert len(impostor.answers[0]) == 20
    wait_for(lambda: logged(nginx), 5, 'a line')


def test_first_use_of_a_method(start_nginx, start_impostor):
    """Connections that need it at once: the library loads it for one of them,
    and the others fail, unless it is there before they begin."""

    impostor = start_impostor(method='client_ed25519', crowd=8)
    nginx = start_nginx(Shard('main', 'payment', impostor.address,
                              connections=8), ready=False, workers=1)

    wait_for(lambda: len(impostor.answers) >= 8, 5, 'eight answers')
    assert {len(answer) for answer in impostor.answers} == {64}
    assert not any('(2059)' in line for line in logged(nginx)), logged(nginx)


def test_off_is_off(start_nginx, mariadb, database):
    """A library that has TLS and verification on unless it is told otherwise,
    as Connector/C 3.4, does as it is told."""

    nginx = start_nginx(
        Shard('main', database, f'unix:{mariadb.socket}'), ready=False,
        environment=dict(LD_PRELOAD=servers.preload('tls_by_default')))

    wait_for(lambda: nginx.status()['shards'][0]['connections_open'], 5,
             'a connection')
    assert not logged(nginx)
