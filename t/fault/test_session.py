"""A server whose defaults are others than the module's: what its operator
wants for other clients must not change what a payment is."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

from client import Client
from outbox import free_lease
from servers import Shard, wait_for
from test_expiry import STEP, make_overdue, on, wait_swept

SHOP = '쇼핑몰'


@pytest.fixture
def defaults(mariadb):
    """defaults(name, value): of every session that begins from now on."""

    before = {}

    def set_global(name, value):
        before.setdefault(name,
                          mariadb.query(f'SELECT @@GLOBAL.{name}')[0][0])
        mariadb.query(f'SET GLOBAL {name} = {value}')

    yield set_global

    for name, value in before.items():
        value = f"'{value}'" if isinstance(value, str) else value
        mariadb.query(f'SET GLOBAL {name} = {value}')


def get(nginx, payment, merchant):
    query = urllib.parse.urlencode({'merchantId': merchant})
    url = f'http://127.0.0.1:{nginx.port}/api/payments/{payment}?{query}'

    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_names_in_another_charset(start_nginx, mariadb, database, journal,
                                  check, defaults):
    """Whoever is called "???" has nothing to do with a merchant whose name
    the session's charset can not show."""

    defaults('init_connect', "'SET NAMES latin1'")
    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    ask = Client(nginx.port, journal)

    payment = ask.authorize(merchant=SHOP, amount=5000)
    assert payment.ok, payment

    stranger = ask.change('capture', payment.id, merchant='???', amount=100)
    assert stranger.status == 404, stranger
    assert get(nginx, payment.id, '???')[0] == 404

    assert ask.change('capture', payment.id, merchant=SHOP, amount=100).ok

    status, shown = get(nginx, payment.id, SHOP)
    assert status == 200 and shown['merchantId'] == SHOP, shown

    again = ask.change('capture', payment.id, merchant=SHOP, amount=100,
                       key=journal[-1].key)
    assert again.ok and again.replayed, again

    events = mariadb.query('SELECT merchant_id, CONVERT(payload USING utf8mb4)'
                           ' FROM outbox_event', database)
    assert len(events) == 2
    assert {event[0] for event in events} == {SHOP}
    assert {json.loads(event[1])['merchantId'] for event in events} == {SHOP}


def test_rows_of_a_result(start_nginx, mariadb, database, journal, check,
                          defaults):
    """sql_select_limit is for people at a prompt."""

    defaults('sql_select_limit', 1)
    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        workers=1)
    ask = Client(nginx.port, journal)

    payments = [ask.authorize(amount=1000).id for _ in range(8)]
    calls = ask.at_once([ask.call('capture', payment=payment, amount=10)
                         for payment in payments])

    assert all(call.ok for call in calls), list(journal)
    mariadb.query('SET GLOBAL sql_select_limit = DEFAULT')
    check()


def test_what_commit_begins(start_nginx, mariadb, database, journal, check,
                            defaults):
    """completion_type makes COMMIT begin a transaction, or end the
    connection."""

    for value in ("'CHAIN'", "'RELEASE'"):
        defaults('completion_type', value)
        nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                            workers=1)
        ask = Client(nginx.port, journal)

        for _ in range(5):
            assert ask.authorize().ok

        assert nginx.status()['shards'][0]['connections_lost'] == 0
        wait_for(lambda: not mariadb.query(
            'SELECT trx_id FROM information_schema.innodb_trx'), 5,
            'no transaction')
        nginx.stop()

    check()


def test_how_long_a_joined_text_is(start_nginx, mariadb, database, journal,
                                   check, defaults):
    """group_concat_max_len is 1024 where a configuration of MySQL's is used:
    that is half of what a step of the expiry joins."""

    defaults('group_concat_max_len', 1024)
    free_lease(mariadb, database)
    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        http=on('1h'))
    ask = Client(nginx.port, journal)

    ask.at_once([ask.call() for _ in range(STEP)])
    make_overdue(mariadb, database)
    wait_swept(mariadb, database)
    check(ask)


def test_who_must_say_commit(start_nginx, mariadb, second_mariadb, database,
                             journal, check, defaults):
    """Without autocommit, a look at a new database would hold its row, and one
    at the topology would see for ever what it saw first."""

    defaults('autocommit', 0)
    second_mariadb.new_database(database)
    mariadb.identify(database)
    second_mariadb.identify(database)
    nginx = start_nginx(Shard('main', database,
                              [f'unix:{mariadb.socket}',
                               f'unix:{second_mariadb.socket}']), workers=1)
    ask = Client(nginx.port, journal)

    # the server ends a transaction that says nothing for two seconds
    time.sleep(3)
    assert not nginx.status()['shards'][0]['connections_lost']
    assert ask.authorize().ok

    second_mariadb.query('SET GLOBAL server_id = 2')
    second_mariadb.query('UPDATE payment_topology SET epoch = 1, server_id = 2',
                         database)
    wait_for(lambda: ask.authorize().ok and second_mariadb.query(
        'SELECT 1 FROM payment', database), 10, 'a payment at the other one')

    second_mariadb.query('SET GLOBAL server_id = 1')
    second_mariadb.drop_database(database)
