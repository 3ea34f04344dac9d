"""What is installed is enough: a database made by conf/database.sql, the
installed ngx-payment-migrate and conf/grants.sql, without a checkout beside
them. Its user can do all that the module does, and nothing else; and whoever
promotes servers, by conf/promoter.sql, all that a promotion does.
"""

import os
import re
import shutil
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
PROMOTER = 'manager'
PROMOTERS_PASSWORD = 'another long random password'

# under /usr
DATA = 'share/ngx-payment'
DOC = 'share/doc/libnginx-mod-http-payment'

# a right of conf/promoter.sql, what it is on, and what cannot be done without
PROMOTES = (
    ('SELECT', 'payment_topology', "CALL payment_claim('the test')"),
    ('UPDATE', 'payment_topology', "CALL payment_claim('the test')"),
    ('EXECUTE', 'PROCEDURE payment_claim', "CALL payment_claim('the test')"),
    ('EXECUTE', 'PROCEDURE payment_freeze', "CALL payment_freeze('the test')"),
    ('READ_ONLY ADMIN', '*.*', 'SET GLOBAL read_only = 0'),
    ('RELOAD', '*.*', 'RESET SLAVE ALL'),
    ('REPLICATION SLAVE ADMIN', '*.*', 'STOP SLAVE'),
    ('SLAVE MONITOR', '*.*', 'SHOW SLAVE STATUS'),
    ('REPLICATION MASTER ADMIN', '*.*',
     'SET GLOBAL rpl_semi_sync_master_enabled = 0'),
)

# command, table, column, database or routine access denied, or a global right
DENIED = 1142, 1143, 1044, 1370, 1227


@pytest.fixture
def installed(tmp_path):
    """The root that `make install` filled, but for the shared object."""

    subprocess.run([ROOT / 'tools' / 'install.sh', 'data'], check=True,
                   env=dict(os.environ, DESTDIR=str(tmp_path)), timeout=60)
    return tmp_path / 'usr'


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob('*')
            if path.is_file() and path.suffix != '.pyc'}


def test_what_is_told_of_is_there(installed):
    """The descriptions and the examples, and whatever a document names by the
    place where it is installed."""

    data, doc = installed / DATA, installed / DOC
    http = ROOT / 'ngx_payment_module' / 'http'
    assert contents(data / 'api') == {
        path.name: path.read_bytes() for path in http.glob('*.json')}
    assert contents(doc / 'examples') == contents(ROOT / 'examples')

    named = {name.rstrip('.') for path in [doc / 'README.md',
                                           *(doc / 'docs').glob('*.md')]
             for name in re.findall(rf'/usr/((?:{DATA}|{DOC})[\w./-]*)',
                                    path.read_text())}
    assert {f'{DATA}/api', f'{DOC}/conf/production.conf'} <= named

    for name in named:
        assert (installed / name).exists(), name


@pytest.mark.skipif(not shutil.which('systemd-tmpfiles') or os.geteuid(),
                    reason='no systemd-tmpfiles, or not root')
def test_the_directory_of_the_socket(installed):
    """/run is empty after a reboot; production.conf listens in it."""

    root = installed.parent
    (root / 'etc').mkdir()

    for name in 'passwd', 'group':
        shutil.copy(f'/etc/{name}', root / 'etc')

    listened = re.search(r'listen\s+unix:(\S+)/',
                         (ROOT / 'conf' / 'production.conf').read_text())[1]
    made = root / listened.lstrip('/')
    assert not made.exists()

    subprocess.run(['systemd-tmpfiles', f'--root={root}', '--create',
                    'ngx-payment.conf'], check=True, timeout=60)
    assert made.group() == 'adm' and made.stat().st_mode & 0o777 == 0o750


def by_socket(text):
    """A script of conf/ for users of this test, who come by the unix socket."""

    for user, here in ('payment', USER), ('promoter', PROMOTER):
        text = text.replace(f"'{user}'@'10.0.0.%'", f"'{here}'@'localhost'")

    return text.replace('REQUIRE SSL', '')


@pytest.fixture
def shop(mariadb, installed):
    """The name of a database that was made as database.sql says."""

    name = f'shop_{mariadb.count}'
    conf = installed / DOC / 'conf'

    def run(script, *database):
        text = re.sub(r'CREATE DATABASE payment\b', f'CREATE DATABASE {name}',
                      (conf / script).read_text())
        mariadb.run(by_socket(text), *database)

    run('database.sql')
    subprocess.run([installed / 'bin' / 'ngx-payment-migrate', 'up', name,
                    *mariadb.login()], check=True, stderr=subprocess.DEVNULL,
                   timeout=60)
    run('grants.sql', name)
    run('promoter.sql', name)

    yield name

    for user in USER, PROMOTER:
        mariadb.query(f"DROP USER '{user}'@'localhost'")

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
    refused(mariadb, shop, statement)


def as_user(mariadb, shop, statement, user, password):
    connection = pymysql.connect(unix_socket=str(mariadb.socket), user=user,
                                 password=password, database=shop)

    with connection, connection.cursor() as db:
        db.execute(statement)
        connection.commit()


def refused(mariadb, shop, statement, user=USER, password=PASSWORD):
    with pytest.raises(pymysql.Error) as error:
        as_user(mariadb, shop, statement, user, password)

    assert error.value.args[0] in DENIED, error.value


def test_the_promoters_grants(shop, mariadb):
    """Each is needed, and they are enough: t/fault/test_promotion.py promotes
    and switches servers with them."""

    who = PROMOTER, PROMOTERS_PASSWORD
    grants = (ROOT / 'conf' / 'promoter.sql').read_text()
    assert {(right, ' '.join(on.split())) for rights, on in re.findall(
        r'^GRANT ([A-Z_, ]+?)\s+ON ([^\n]+)', grants, re.M)
        for right in rights.split(', ')} \
        == {(right, on) for right, on, _ in PROMOTES}

    def epoch():
        return mariadb.query('SELECT epoch FROM payment_topology', shop)[0][0]

    first = epoch()

    for _, _, statement in PROMOTES:
        as_user(mariadb, shop, statement, *who)

    assert epoch() == first + 4

    for right, on, statement in PROMOTES:
        mariadb.query(f"REVOKE {right} ON {on} FROM '{PROMOTER}'@'localhost'",
                      shop)
        refused(mariadb, shop, statement, *who)
        mariadb.query(f"GRANT {right} ON {on} TO '{PROMOTER}'@'localhost'",
                      shop)

    for statement in ('SELECT * FROM payment', 'SELECT * FROM outbox_event',
                      'UPDATE payment SET amount = 1',
                      'DELETE FROM payment_topology', 'TRUNCATE payment',
                      'SET GLOBAL sync_binlog = 0', 'SHUTDOWN',
                      'CREATE TABLE mine (x INT)'):
        refused(mariadb, shop, statement, *who)
