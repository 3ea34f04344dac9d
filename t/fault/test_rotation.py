"""Passwords and authorities change while payments are made and published: what
docs/day-2.md says under "Secrets". No request fails, and no event comes twice.
"""

import shutil

import pytest

import certificates
import invariants
from client import Load
from freeport import free_port
from outbox import (Kafka, committed, free_lease, judge, pending, running,
                    settings, wait_empty)
from servers import Shard, wait_for
from test_tls import show, tls, tls_database                    # noqa: F401


def test_the_databases_password(start_nginx, mariadb, database, journal, check,
                                tmp_path):
    """Changed at the server, in the file, and read by a reload."""

    file = tmp_path / 'password'
    file.write_text('the old one\n')
    mariadb.query("CREATE USER 'turning'@'localhost' IDENTIFIED BY"
                  " 'the old one'")

    try:
        mariadb.query(f"GRANT ALL ON {database}.* TO 'turning'@'localhost'")
        nginx = start_nginx(
            Shard('main', database, f'unix:{mariadb.socket}', user='turning',
                  password=None, password_file=file), reuseport=False)

        with Load(nginx.port, journal, clients=8, fresh=True) as load:
            load.wait(100)
            mariadb.query("ALTER USER 'turning'@'localhost' IDENTIFIED BY"
                          " 'the new one'")
            load.wait(100)
            file.write_text('the new one\n')
            nginx.reload()
            wait_for(lambda: len(nginx.all_pids()) == 1 + nginx.workers, 20,
                     'the end of the old workers')
            load.wait(100)

        assert not load.bad(), load.bad()[:5]
        assert not nginx.lines('Access denied')
        nginx.wait_connected()
        check()
        nginx.stop()
    finally:
        mariadb.query("DROP USER 'turning'@'localhost'")


def test_the_databases_authority(start_nginx, tls, tls_database,  # noqa: F811
                                 journal, tmp_path):
    """Both are trusted while the server's certificate changes."""

    old, new = [(tls.certs / f'{name}.crt').read_text()
                for name in ('ca', 'other-ca')]
    trusted = tmp_path / 'ca.pem'
    trusted.write_text(old)
    show(tls, 'good')
    nginx = start_nginx(
        Shard('main', tls_database, f'127.0.0.1:{tls.port}', ssl='on',
              ssl_ca=trusted, ssl_verify='on'), reuseport=False)

    def trust(text):
        trusted.write_text(text)
        nginx.reload()
        load.wait(100)

    with Load(nginx.port, journal, clients=8, fresh=True) as load:
        load.wait(100)
        trust(old + new)
        show(tls, 'unknown')
        assert tls.kill_connections(tls_database)
        load.wait(100)
        trust(new)

    assert not load.bad(), load.bad()[:5]
    assert not nginx.lines('(2026)')
    invariants.check(journal, (tls, tls_database))


class Secured(Kafka):
    """Its clients come by a second port, over TLS, with a password."""

    def __init__(self, certs):
        super().__init__('kafka-secured')
        self.certs = certs
        self.secure_port = free_port()
        self.expect('the old one')

    def expect(self, password):
        """As its next start has it."""

        login = 'org.apache.kafka.common.security.plain.PlainLoginModule'
        plain = f'PLAINTEXT://127.0.0.1:{self.port}'
        controller = f'CONTROLLER://127.0.0.1:{self.port + 1}'
        secure = f'SASL_SSL://127.0.0.1:{self.secure_port}'

        self.options = '\n'.join((
            f'listeners={plain},{controller},{secure}',
            f'advertised.listeners={secure},{plain}',
            'listener.security.protocol.map=PLAINTEXT:PLAINTEXT,'
            'CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL',
            'sasl.enabled.mechanisms=PLAIN',
            'listener.name.sasl_ssl.plain.sasl.jaas.config='
            f'{login} required user_payment="{password}";',
            'ssl.keystore.type=PEM',
            f'ssl.keystore.location={self.certs}/broker.pem'))

    def show(self, name):
        """The certificate that it has with its next start."""

        with open(self.certs / 'broker.pem', 'wb') as pem:
            for kind in ('key', 'crt'):
                with open(self.certs / f'{name}.{kind}', 'rb') as part:
                    shutil.copyfileobj(part, pem)


@pytest.fixture(scope='module')
def secured(work):
    certs = certificates.make(work / 'kafka-certificates')
    broker = Secured(certs)
    broker.show('good')
    yield from running(broker)


@pytest.fixture
def publisher(secured, start_nginx, mariadb, database, tmp_path):
    """publisher(topic): a node that publishes there, and trusts the authority
    of the file ca.pem and has the password of the file password."""

    def start(topic):
        secured.create(topic)
        free_lease(mariadb, database)

        return start_nginx(
            Shard('main', database, f'unix:{mariadb.socket}'),
            reuseport=False, http=settings(
                secured, topic,
                kafka_brokers=f'127.0.0.1:{secured.secure_port}',
                kafka_property=['security.protocol SASL_SSL',
                                'sasl.mechanisms PLAIN',
                                'sasl.username payment',
                                f'ssl.ca.location {tmp_path}/ca.pem'],
                kafka_property_file=f'sasl.password {tmp_path}/password'))

    (tmp_path / 'ca.pem').write_bytes((secured.certs / 'ca.crt').read_bytes())
    (tmp_path / 'password').write_text('the old one\n')

    yield start

    secured.expect('the old one')
    secured.show('good')
    secured.stop()
    secured.start()


@pytest.mark.timeout(300)
def test_kafkas_password(publisher, secured, mariadb, database, journal,
                         tmp_path):
    """What comes after the broker has another one waits until the reload."""

    nginx = publisher('password')

    with Load(nginx.port, journal, clients=4, fresh=True, pause=0.01) as load:
        load.wait(50)
        wait_for(lambda: secured.count('password'), 20, 'an event')

        secured.stop()
        secured.expect('the new one')
        secured.start()
        wait_for(lambda: nginx.lines('SASL authentication error'), 20,
                 'a refusal')
        load.wait(50)

        (tmp_path / 'password').write_text('the new one\n')
        nginx.reload()
        load.wait(50)

    wait_empty(mariadb, database, 60)
    assert not load.bad(), load.bad()[:5]

    # of what was under way when the broker stopped
    judge(secured.messages('password'), committed(mariadb, database), 300, 8)


@pytest.mark.timeout(300)
def test_kafkas_authority(publisher, secured, mariadb, database, journal,
                          tmp_path):
    """Both are trusted while the broker starts with another certificate; what
    cannot be published meanwhile waits."""

    old, new = [(secured.certs / f'{name}.crt').read_text()
                for name in ('ca', 'other-ca')]
    nginx = publisher('authority')

    def trust(text):
        (tmp_path / 'ca.pem').write_text(text)
        nginx.reload()

    with Load(nginx.port, journal, clients=4, fresh=True, pause=0.01) as load:
        load.wait(50)
        trust(old + new)
        load.wait(50)

        secured.stop()
        secured.show('unknown')
        secured.start()
        load.wait(50)
        wait_for(lambda: pending(mariadb, database) < 20, 60, 'what waited')

        trust(new)
        load.wait(50)

    wait_empty(mariadb, database, 60)
    assert not load.bad(), load.bad()[:5]
    assert not nginx.lines('certificate verify failed')

    # of what was under way when the broker stopped
    judge(secured.messages('authority'), committed(mariadb, database), 300, 8)
