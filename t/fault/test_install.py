"""What is installed is enough: a database made by conf/database.sql, the
installed ngx-payment-migrate and conf/grants.sql, without a checkout beside
them. Its user can do all that the module does, and nothing else.
"""

import os
import re
import subprocess

import pymysql
import pytest

import servers
from client import Client
from outbox import (ADMIN, admin, kafka, pending,       # noqa: F401
                    relay, settings, topic, wait_empty)
from servers import ROOT, wait_for

USER = 'shopkeeper'
PASSWORD = 'a long random password'


@pytest.fixture
def installed(tmp_path):
    """The root that `make install` filled, but for the shared object."""

    subprocess.run([ROOT / 'tools' / 'install.sh', 'data'], check=True,
                   env=dict(os.environ, DESTDIR=str(tmp_path)), timeout=60)
    return tmp_path / 'usr'


@pytest.fixture
def shop(mariadb, installed):
    """The name of a database that was made as database.sql says."""

    name = f'shop_{mariadb.count}'
    conf = installed / 'share' / 'doc' / 'libnginx-mod-http-payment' / 'conf'

    def run(script, *database):
        text = (conf / script).read_text()
        text = re.sub(r'CREATE DATABASE payment\b', f'CREATE DATABASE {name}',
                      text)
        text = text.replace("'payment'@'10.0.0.%'", f"'{USER}'@'localhost'")

        # the test's server is reached by its unix socket
        text = text.replace('REQUIRE SSL', '')
        mariadb.run(text, *database)

    run('database.sql')
    subprocess.run([installed / 'bin' / 'ngx-payment-migrate', 'up', name,
                    *mariadb.login()], check=True, stderr=subprocess.DEVNULL,
                   timeout=60)
    run('grants.sql', name)

    yield name

    mariadb.query(f"DROP USER '{USER}'@'localhost'")
    mariadb.drop_database(name)


def test_the_grants_are_enough(shop, mariadb, kafka, topic, start_nginx,
                               journal):
    """Every operation, an expiry, a purge, an archive, a dead letter and its
    replay."""

    kafka.configure(topic, max_message_bytes=10000)
    shard = servers.Shard('main', shop, f'unix:{mariadb.socket}', user=USER,
                          password=f'"{PASSWORD}"')
    nginx = start_nginx(
        shard, http=settings(kafka, topic, archive='on', retry_interval='200ms',
                             kafka_property='compression.codec none')
        + '\n    payment_idempotency_retention 60s; payment_operations on;'
          ' map $payment_currency $lifetime { USD 1s; }'
          ' payment_authorization_lifetime $lifetime;', **ADMIN)
    ask = Client(nginx.port, journal)

    paid = ask.authorize()
    assert ask.change('capture', paid.id, amount=paid.amount).ok
    assert ask.change('refund', paid.id, amount=paid.amount).ok
    assert ask.change('void', ask.authorize().id).ok
    assert ask.authorize(key=paid.key).replayed

    wait_empty(mariadb, shop)
    assert mariadb.query('SELECT COUNT(*) FROM outbox_archive', shop)[0][0] == 5

    mariadb.query("INSERT INTO outbox_event (aggregatetype, aggregateid, type,"
                  " merchant_id, version, created_at, payload) VALUES"
                  " ('payment', UUID(), 'authorized', 'M-1', 1,"
                  " UTC_TIMESTAMP(6), REPEAT('x', 20000))", shop)

    def dead():
        return mariadb.query('SELECT id FROM outbox_dead', shop)

    wait_for(dead, 15, 'a dead letter')
    kafka.configure(topic, max_message_bytes=1000000)
    admin(nginx, 'replay', shard='main', id=dead()[0][0])
    wait_for(lambda: not dead() and not pending(mariadb, shop), 15, 'a replay')

    mariadb.query('UPDATE idempotency_key SET created_at ='
                  ' UTC_TIMESTAMP() - INTERVAL 2 HOUR', shop)
    wait_for(lambda: relay(nginx)['purged'], 30, 'a purge')

    assert ask.authorize(currency='USD').ok
    wait_for(lambda: relay(nginx)['expired'], 15, 'an expiry')
    wait_empty(mariadb, shop)

    assert relay(nginx)['errors'] == 0
    assert not nginx.lines('denied')


@pytest.mark.parametrize('statement', [
    'DELETE FROM payment',
    'TRUNCATE payment',
    'UPDATE idempotency_key SET operation = operation',
    'UPDATE outbox_event SET payload = payload',
    'DELETE FROM outbox_archive',
    'UPDATE outbox_archive_policy SET days_kept = 0',
    'INSERT INTO payment_schema_version (version, description) VALUES (9, 9)',
    'ALTER TABLE payment ADD COLUMN x INT',
    'DROP TABLE outbox_event',
    'CREATE TABLE mine (x INT)',
    'CREATE OR REPLACE PROCEDURE outbox_archive_upkeep() SELECT 1',
])
def test_the_grants_are_the_least(shop, mariadb, statement):
    connection = pymysql.connect(unix_socket=str(mariadb.socket), user=USER,
                                 password=PASSWORD, database=shop)

    with connection, connection.cursor() as db:
        with pytest.raises(pymysql.Error) as error:
            db.execute(statement)

    # command, table access, database access or routine access denied
    assert error.value.args[0] in (1142, 1044, 1370), error.value
