"""A merchant's payments, page by page: whatever is written, lost or made anew
meanwhile, no payment that was there before the first page is missing or comes
twice; and the index that it takes is made while payments go on.
"""

import json
import random
import urllib.parse

import pytest

import loop
from client import Client, Connection, Load
from proxy import is_query
from servers import ROOT, Shard, merchant, wait_for

INDEX = ROOT / 'sql' / 'optional' / 'merchant_index.sql'
ON = 'payment_list on;'


@pytest.fixture
def indexed(mariadb, database):
    mariadb.run_script(INDEX, database)
    return database


async def ask_for(port, **arguments):
    """Status and body, on a connection of its own."""

    connection = Connection(port)
    await connection.open()
    connection.writer.write(
        f'GET /api/payments/?{urllib.parse.urlencode(arguments)} HTTP/1.1\r\n'
        'Host: t\r\nConnection: close\r\n\r\n'.encode())
    answer = await connection.reader.read()
    connection.close()
    head, body = answer.split(b'\r\n\r\n', 1)
    return int(head.split(b' ')[1]), json.loads(body)


def page(nodes, seconds=20, **arguments):
    """The answer of one of the nodes, as soon as one has it."""

    def answer():
        status, body = loop.run(ask_for(random.choice(nodes).port, **arguments))
        assert status in (200, 503), body
        return body if status == 200 else None

    return wait_for(answer, seconds, 'a page')


def walk(nodes, **arguments):
    """All pages of a list: its payments."""

    listed, more = [], {}

    while True:
        body = page(nodes, **arguments, **more)
        assert len(body['payments']) <= arguments.get('limit', 20)
        assert body['merchantId'] == arguments['merchantId']
        listed += body['payments']

        if 'nextCursor' not in body:
            return listed

        more = {'cursor': body['nextCursor']}


def kept(mariadb, database, owner, where='TRUE'):
    """Its payments, the newest first, as they are now."""

    return [dict(zip(('paymentId', 'status', 'amount', 'capturedAmount',
                      'refundedAmount', 'version'), row))
            for row in mariadb.query(
                "SELECT INSERT(INSERT(INSERT(INSERT(LOWER(HEX(id)), 21, 0, '-'),"
                " 17, 0, '-'), 13, 0, '-'), 9, 0, '-'), status, amount,"
                ' captured_amount, refunded_amount, version FROM payment'
                f" WHERE merchant_id = '{owner}' AND {where}"
                ' ORDER BY id DESC', database)]


def shown(payment):
    return {name: payment[name] for name in (
        'paymentId', 'status', 'amount', 'capturedAmount', 'refundedAmount',
        'version')}


def ids(payments):
    return [payment['paymentId'] for payment in payments]


@pytest.mark.asan
def test_paging_while_others_write(start_nginx, mariadb, indexed, proxy,
                                   journal, check):
    """On two nodes, whose connections are cut now and then."""

    nodes = [start_nginx(Shard('main', indexed, address), location=ON)
             for address in (f'unix:{mariadb.socket}', proxy.address)]
    loads = [Load(node.port, journal, clients=4, merchants=3, changes=True,
                  pause=0.05) for node in nodes]
    rng = random.Random(20261128)

    for load in loads:
        load.start()

    try:
        loads[0].wait(60)

        for turn in range(16):
            owner = f'MERCHANT-{rng.randrange(3) + 1}'
            filters = rng.choice([
                {}, {'currency': 'KRW'},
                {'status': 'AUTHORIZED,PARTIALLY_CAPTURED,CAPTURED,REFUNDED,'
                           'PARTIALLY_REFUNDED,VOIDED'}])
            before = set(ids(kept(mariadb, indexed, owner)))

            # in a few pages, or in some thirty
            limit = max(1, len(before) // rng.choice([2, 8, 32]))
            listed = ids(walk(nodes, merchantId=owner, limit=min(limit, 100),
                              **filters))

            assert listed == sorted(set(listed), reverse=True)
            assert before <= set(listed), f'missing in walk {turn}'
            assert set(listed) <= set(ids(kept(mariadb, indexed, owner)))

            if turn % 4 == 3:
                proxy.cut()

            for load in loads:
                load.wait(3)
    finally:
        for load in loads:
            load.stop()

    check(Client(nodes[0].port, journal))

    # and at rest, each payment as it is
    for number in (1, 2, 3):
        owner = f'MERCHANT-{number}'
        assert [shown(payment) for payment in walk(nodes, merchantId=owner)] \
            == kept(mariadb, indexed, owner)

        for status in ('AUTHORIZED', 'CAPTURED', 'REFUNDED'):
            assert ids(walk(nodes, merchantId=owner, status=status, limit=3)) \
                == ids(kept(mariadb, indexed, owner, f"status = '{status}'"))


def test_the_index_is_made_while_payments_go_on(start_nginx, mariadb, database,
                                                journal, check):
    """Until it is there, a list is refused, and nobody walks the table."""

    nodes = [start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                         location=ON) for _ in range(2)]

    # a load draws its merchants: this one has a payment in any case
    assert Client(nodes[0].port, journal).authorize(merchant='MERCHANT-1').ok

    with Load(nodes[0].port, journal, clients=4, changes=True) as first, \
            Load(nodes[1].port, journal, clients=4, changes=True) as second:
        first.wait(100)

        status, body = loop.run(ask_for(nodes[0].port,
                                        merchantId='MERCHANT-1'))
        assert (status, body['code']) == (503, 'SERVICE_UNAVAILABLE')
        wait_for(lambda: nodes[0].lines('payments cannot be listed'), 5,
                 'a line that says why')

        mariadb.migrate(database, 'add merchant_index')
        assert page(nodes, merchantId='MERCHANT-1')['payments']

        first.wait(100)
        second.wait(100)

        mariadb.query('ALTER TABLE payment DROP INDEX payment_merchant',
                      database)
        first.wait(100)

    assert not first.bad() and not second.bad()

    status, body = loop.run(ask_for(nodes[1].port, merchantId='MERCHANT-1'))
    assert status == 503, body

    for node in nodes:
        node.expect('payments cannot be listed')

    check(Client(nodes[0].port, journal))


def test_a_shard_that_is_away(start_nginx, mariadb, indexed, start_proxy,
                              journal):
    """Its merchants are told so, and nothing that lacks their payments; those
    of another shard have theirs."""

    proxy = start_proxy(mariadb.socket)
    other = mariadb.new_database()
    mariadb.run_script(INDEX, other)

    nginx = start_nginx([Shard('one', indexed, f'unix:{mariadb.socket}',
                               slots='0-511'),
                         Shard('two', other, proxy.address,
                               slots='512-1023')], location=ON)
    ask = Client(nginx.port, journal)
    here, there = merchant((0, 511)), merchant((512, 1023))
    made = [ask.authorize(merchant=name).id for name in (here, there)]

    assert [ids(walk([nginx], merchantId=name)) for name in (here, there)] \
        == [[made[0]], [made[1]]]

    proxy.refuse()

    def refused():
        status, body = loop.run(ask_for(nginx.port, merchantId=there))
        assert status == 503 or ids(body['payments']) == [made[1]], body
        return status == 503

    wait_for(refused, 10, 'that the shard is away')
    assert ids(walk([nginx], merchantId=here)) == [made[0]]

    proxy.accept()
    nginx.wait_connected(20)
    assert ids(walk([nginx], merchantId=there)) == [made[1]]


def test_others_do_not_wait_for_lists(start_nginx, mariadb, indexed, proxy,
                                      journal, check):
    """One connection lists, however many ask; the other is for everybody
    else."""

    nginx = start_nginx(Shard('main', indexed, proxy.address,
                              read_timeout='8s'), workers=1,
                        location=ON + ' payment_timeout 15s;')
    ask = Client(nginx.port, journal)
    made = ask.authorize()

    strike = proxy.strike(is_query(b'(SELECT p.id'), 'hold')
    lists = [loop.spawn(ask_for(nginx.port, merchantId=made.merchant))]
    strike.wait()
    lists += [loop.spawn(ask_for(nginx.port, merchantId=made.merchant))
              for _ in range(20)]
    wait_for(lambda: nginx.status()['shards'][0]['queued'] == 20, 5,
             'lists that wait')

    for _ in range(20):
        assert ask.authorize().ok

    assert not any(answer.done() for answer in lists)
    strike.release()
    assert {answer.result(20)[0] for answer in lists} == {200}
    check(ask)
