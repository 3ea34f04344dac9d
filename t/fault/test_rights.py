"""A user of the database who lacks one right: each word of conf/grants.sql is
left out in turn. A test of the configuration that connects names it before a
reload; otherwise the log does, with what to do, and not again and again. Nothing
is lost, nothing is done by halves, and when the right is granted all goes on by
itself.
"""

import collections
import os
import re
import subprocess
import time

import pytest

import servers
from client import Client
from invariants import Dump
from outbox import (kafka, pending, relay, settings,    # noqa: F401
                    topic)
from servers import ROOT, wait_for
from test_install import (PASSWORD, USER, installed,            # noqa: F401
                          shop)

GRANTS = re.findall(r'^GRANT ([A-Z, ]+?)\s+ON (?:PROCEDURE )?(\w+)',
                    (ROOT / 'conf' / 'grants.sql').read_text(), re.M)
RIGHTS = [(right, table) for rights, table in GRANTS
          for right in rights.split(', ')]

# what a database that is this shard's already does not need any more
FIRST = 'INSERT', 'payment_identity'

# without these, no payment is taken: who could not tell what became of one, or
# could not repeat an answer, takes none
TAKE = {('SELECT', 'payment_schema_version'), ('SELECT', 'payment_identity'),
        ('SELECT', 'payment_barrier'), ('INSERT', 'payment_barrier'),
        ('UPDATE', 'payment_barrier'), ('SELECT', 'payment_topology'),
        ('SELECT', 'payment'), ('INSERT', 'payment'), ('UPDATE', 'payment'),
        ('SELECT', 'idempotency_key'), ('INSERT', 'idempotency_key'),
        ('INSERT', 'outbox_event'), ('SELECT', 'payment_operation'),
        ('INSERT', 'payment_operation'), ('INSERT', 'payment_expiry')}

# without these, payments are taken and their events wait in the database
PUBLISH = {('SELECT', 'outbox_event'), ('DELETE', 'outbox_event'),
           ('SELECT', 'outbox_dead'), ('SELECT', 'outbox_lease'),
           ('INSERT', 'outbox_lease'), ('UPDATE', 'outbox_lease'),
           ('INSERT', 'outbox_archive')}

# of one number, that the log has in so many seconds: at once, and 1 s and 3 s
# later
SECONDS = 4
LINES = 3

HTTP = ('\n    payment_idempotency_retention 60s; payment_operations on;'
        ' map $payment_currency $lifetime { USD 1s; }'
        ' payment_authorization_lifetime $lifetime;')


def change(mariadb, shop, verb, right, table):                  # noqa: F811
    what = f'PROCEDURE {shop}.{table}' if right == 'EXECUTE' \
        else f'{shop}.{table}'
    way = 'FROM' if verb == 'REVOKE' else 'TO'
    mariadb.query(f"{verb} {right} ON {what} {way} '{USER}'@'localhost'")


def shard(mariadb, shop, *others):                              # noqa: F811
    return servers.Shard('main', shop, [f'unix:{mariadb.socket}', *others],
                         user=USER, password=f'"{PASSWORD}"')


def checked(nginx):
    """PAYMENT_CHECK=connect nginx -t: its status, and what it says."""

    result = subprocess.run(
        [servers.NGINX, '-t', '-p', str(nginx.dir), '-c',
         str(nginx.dir / 'nginx.conf'), '-e', str(nginx.dir / 'test.log')],
        env=dict(os.environ, PAYMENT_CHECK='connect'), capture_output=True,
        text=True, timeout=20)
    return result.returncode, result.stderr


def names(right, table):
    """How the server says that it is missing."""

    if right == 'EXECUTE':
        return f'(?:EXECUTE is missing, on PROCEDURE |routine .*){table}'

    return rf"\b{right}\b[A-Z, ]* command denied to user" \
           rf" '{USER}'@'localhost' for (?:table|column) .*\b{table}\b"


def all_of_it(ask):
    """What a client can ask for; the payment that it was about."""

    paid = ask.authorize(currency='USD')

    if paid.ok:
        ask.authorize(currency='USD', key=paid.key)
        ask.change('capture', paid.id, amount=None)
        ask.change('refund', paid.id, amount=None)

    ask.authorize(currency='USD')                     # and it expires

    return paid


@pytest.mark.timeout(180)
@pytest.mark.parametrize('right, table', RIGHTS,
                         ids=['-'.join(right) for right in RIGHTS])
def test_one_right_is_missing(shop, mariadb, kafka, topic,      # noqa: F811
                              start_nginx, journal, right, table):
    """Whoever meets it first says so, and what to do; and again more rarely."""

    if (right, table) != FIRST:
        mariadb.identify(shop)

    change(mariadb, shop, 'REVOKE', right, table)
    nginx = start_nginx(
        shard(mariadb, shop),
        http=settings(kafka, topic, archive='on', lock_at_most_for='2s',
                      lock_at_least_for='0') + HTTP, ready=False)
    ask = Client(nginx.port, journal)

    # a test of the configuration knows it
    status, said = checked(nginx)
    assert status == (0 if right == 'EXECUTE' else 1), said
    assert re.search(names(right, table), said), said

    if right != 'EXECUTE':
        assert 'the user lacks rights of conf/grants.sql' in said

    # and who starts it all the same is told in the log
    taken = (right, table) not in TAKE | {FIRST}
    wait_for(lambda: ask.authorize().status == (200 if taken else 503), 10,
             'an answer')
    began = time.monotonic()
    make_work(mariadb, shop)

    while time.monotonic() < began + SECONDS:
        paid = all_of_it(ask)
        assert paid.status == (200 if taken else 503), paid
        time.sleep(0.2)

    assert {call.status for call in journal} <= {200, 409, 503}, \
        journal.statuses()

    def told():
        return [line for line in nginx.errors().splitlines()
                if re.search(names(right, table), line)]

    rare = right == 'DELETE' and table == 'outbox_lease'    # at the end only
    dead = table == 'outbox_dead' and right != 'SELECT'     # nothing is refused

    if not rare and not dead:
        wait_for(told, 20, 'a line')        # or when its turn has come

    lines = told()
    numbers = [re.search(r'\((\d+)\)', line) for line in lines]
    counted = collections.Counter(n and n.group(1) for n in numbers)
    assert all(n <= LINES for n in counted.values()), lines
    assert all('the user lacks rights of conf/grants.sql' in line
               for line, n in zip(lines, numbers) if n), lines

    if (right, table) in PUBLISH:
        assert pending(mariadb, shop)
    else:
        wait_for(lambda: not pending(mariadb, shop), 10, 'an empty outbox')

    change(mariadb, shop, 'GRANT', right, table)
    nginx.wait_connected(10)

    paid = ask.authorize(key='unlogged-at-last')
    assert paid.ok
    assert ask.authorize(key='unlogged-at-last').replayed
    assert ask.change('capture', paid.id, amount=None).ok
    wait_for(lambda: pending(mariadb, shop) == 0, 40, 'an empty outbox')
    wait_for(lambda: not overdue(mariadb, shop), 40, 'the end of what is overdue')
    wait_for(lambda: not old_keys(mariadb, shop), 40, 'the end of old keys')
    kept = Dump((mariadb, shop))
    assert {call.id for call in journal if call.ok} == set(kept.payments)


def make_work(mariadb, shop):                                   # noqa: F811
    """For the jobs of the helper: a key that is old."""

    mariadb.query('INSERT INTO idempotency_key (key_hash, payment_id,'
                  ' fingerprint, operation, created_at) VALUES'
                  " (REPEAT(x'11', 16), REPEAT(x'00', 10), 'fffffff1',"
                  " 'authorize', UTC_TIMESTAMP() - INTERVAL 1 DAY)", shop)


def old_keys(mariadb, shop):                                    # noqa: F811
    return mariadb.query("SELECT 1 FROM idempotency_key WHERE key_hash ="
                         " REPEAT(x'11', 16)", shop)


def overdue(mariadb, shop):                                     # noqa: F811
    return mariadb.query('SELECT 1 FROM payment_expiry WHERE expires_at <'
                         ' UTC_TIMESTAMP() - INTERVAL 2 SECOND LIMIT 1', shop)


def test_one_after_the_other(shop, mariadb, start_nginx, journal):  # noqa: F811
    """The number of the error is the same for each right: what is missing when
    the first one was granted is told, too."""

    mariadb.identify(shop)
    missing = [('UPDATE', 'payment'), ('INSERT', 'outbox_event'),
               ('SELECT', 'idempotency_key')]

    for right, table in missing:
        change(mariadb, shop, 'REVOKE', right, table)

    nginx = start_nginx(shard(mariadb, shop), ready=False)
    ask = Client(nginx.port, journal)

    def told(right, table):
        return [line for line in nginx.lines(' failed, server ')
                if re.search(names(right, table), line)]

    for _ in range(len(missing)):
        [now] = wait_for(lambda: [one for one in missing if told(*one)], 10,
                         'a line')
        assert len(told(*now)) == 1
        assert ask.authorize().status == 503
        change(mariadb, shop, 'GRANT', *now)
        missing.remove(now)

    wait_for(lambda: ask.authorize().ok, 10, 'a payment')


def test_a_reload_is_told_again(shop, mariadb, start_nginx):    # noqa: F811
    """Whoever has put something right and reloads sees whether it was that."""

    mariadb.identify(shop)
    change(mariadb, shop, 'REVOKE', 'INSERT', 'payment')
    nginx = start_nginx(shard(mariadb, shop), ready=False)
    wait_for(lambda: nginx.lines(' failed, server '), 10, 'a line')

    for lines in 2, 3:
        nginx.reload()
        wait_for(lambda: len(nginx.lines(' failed, server ')) == lines, 10,
                 'another')


def test_at_one_server_of_two(shop, mariadb, second_mariadb,    # noqa: F811
                              start_nginx, journal):
    """The next one is tried, takes the payments and keeps them."""

    second_mariadb.new_database(shop)

    try:
        for server in mariadb, second_mariadb:
            server.identify(shop)

        with second_mariadb.admin() as db:
            db.execute(f"CREATE USER '{USER}'@'localhost' IDENTIFIED BY"
                       f" '{PASSWORD}'")
            db.execute(f"GRANT ALL ON {shop}.* TO '{USER}'@'localhost'")

        change(mariadb, shop, 'REVOKE', 'SELECT', 'idempotency_key')
        nginx = start_nginx(
            shard(mariadb, shop, f'unix:{second_mariadb.socket}'), ready=False)
        ask = Client(nginx.port, journal)

        wait_for(lambda: ask.authorize().ok, 10, 'a payment')
        assert all(ask.authorize().ok for _ in range(20))
        line, = nginx.lines(' failed, server ')
        assert re.search(names('SELECT', 'idempotency_key'), line)
        assert nginx.status()['shards'][0]['failovers'] == 1
        nginx.stop()

    finally:
        second_mariadb.query(f"DROP USER IF EXISTS '{USER}'@'localhost'")
        second_mariadb.drop_database(shop)


def test_the_helper_moves_nobody(shop, mariadb, second_mariadb,  # noqa: F811
                                 kafka, topic, start_nginx, journal):
    """What it lacks is no reason to leave the server for those who take
    payments there."""

    second_mariadb.new_database(shop)

    try:
        for server in mariadb, second_mariadb:
            server.identify(shop)

        change(mariadb, shop, 'REVOKE', 'INSERT', 'outbox_lease')
        nginx = start_nginx(
            shard(mariadb, shop, f'unix:{second_mariadb.socket}'),
            http=settings(kafka, topic))
        ask = Client(nginx.port, journal)
        wait_for(lambda: relay(nginx)['errors'] > 5, 20, 'its failures')

        for _ in range(20):
            assert ask.authorize().ok

        assert nginx.status()['shards'][0]['failovers'] == 0
        nginx.stop()

    finally:
        second_mariadb.drop_database(shop)
