"""One key, many requests: one payment, one answer."""

import asyncio
import random

import loop
from client import Call, Client, Connection
from conftest import LONG
from servers import Shard


def crowd(port, journal, calls, connections=500):
    """Sends them all as quickly as possible, over so many connections."""

    async def one(part):
        connection = Connection(port)

        for call in part:
            await connection.send(call, patience=30)
            journal.append(call)

        connection.close()

    async def all_of_them():
        await asyncio.gather(*(one(calls[i::connections])
                               for i in range(connections)))

    loop.run(all_of_them())
    return calls


def test_ten_thousand_equal_requests(start_nginx, mariadb, database, journal,
                                     check):
    """On all workers at once: one row, ten thousand equal answers."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        http='payment_queue_size 16384;', connections=8192)

    calls = crowd(nginx.port, journal,
                  [Call('authorize', 'MERCHANT-1', 'the-one', 5000, 'KRW',
                        None) for _ in range(10000)])

    assert all(call.ok for call in calls), journal.statuses()
    assert len({call.body for call in calls}) == 1
    assert sum(not call.replayed for call in calls) == 1
    assert len(check().payments) == 1


def test_two_nodes(start_nginx, mariadb, database, journal, check):
    """The same requests at two nodes that know nothing of each other."""

    shard = Shard('main', database, f'unix:{mariadb.socket}')
    nodes = [start_nginx(shard, http='payment_queue_size 16384;',
                         connections=4096) for _ in range(2)]

    def both(calls):
        async def everything():
            await asyncio.gather(*(one(i) for i in range(100)))

        async def one(i):
            connection = Connection(nodes[i % 2].port)

            for call in calls[i::100]:
                await connection.send(call, patience=30)
                journal.append(call)

            connection.close()

        loop.run(everything())
        assert all(call.ok for call in calls), journal.statuses()
        return calls

    # neighbours in the list go to different nodes
    calls = both([Call('authorize', f'MERCHANT-{i // 8 % 9}', f'key-{i // 8}',
                       7000, 'KRW', None) for i in range(2000)])
    payments = {call.key: call for call in calls}

    both([Call('capture', call.merchant, f'capture-{call.key}', 100, None,
               call.id) for call in payments.values() for _ in range(4)])

    dump = check()
    assert len(dump.payments) == 250
    assert all(payment['captured'] == 100
               for payment in dump.payments.values())


def test_one_key_many_bodies(start_nginx, mariadb, database, journal, check):
    """The first wins; whoever sends the same gets the same, and the others
    are told that the key is taken."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        http='payment_queue_size 16384;', connections=8192)

    calls = crowd(nginx.port, journal,
                  [Call('authorize', 'MERCHANT-1', 'the-one', 1 + i % 100,
                        'KRW', None) for i in range(1000)])

    good = [call for call in calls if call.ok]
    assert len({call.amount for call in good}) == 1
    assert len(good) == 10
    assert all(call.status == 422 and call.code == 'IDEMPOTENCY_KEY_REUSED'
               for call in calls if not call.ok)
    assert len(check().payments) == 1


def test_many_keys_several_times_each(start_nginx, mariadb, database, journal,
                                      check):
    """Copies of requests among others, in any order, on all workers: only the
    copies are copies. And so it is with changes."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        http='payment_queue_size 16384;', connections=8192)
    rng = random.Random(7)
    n = 1000 if LONG else 300

    def mixed(calls):
        rng.shuffle(calls)
        return crowd(nginx.port, journal, calls, 100)

    calls = mixed([Call('authorize', f'MERCHANT-{i % 50}', f'key-{i}',
                        1000 + i, 'KRW', None)
                   for i in range(n) for _ in range(1 + i % 4)])
    assert all(call.ok for call in calls), journal.statuses()

    payments = {call.key: call for call in calls}
    calls = mixed([Call('capture', call.merchant, f'capture-{call.key}',
                        100, None, call.id)
                   for call in payments.values() for _ in range(3)])
    assert all(call.ok for call in calls), journal.statuses()

    dump = check()
    assert len(dump.payments) == n
    assert all(payment['captured'] == 100
               for payment in dump.payments.values())


def test_races_for_one_payment(start_nginx, mariadb, database, journal, check):
    """Captures, refunds and voids of one payment at once, each with a key of
    its own: the states forbid some, the sums hold, nothing is lost."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    ask = Client(nginx.port, journal)
    rng = random.Random(3)

    for _ in range(5):
        payments = [ask.authorize(amount=1000).id for _ in range(8)]
        ask.at_once([ask.call(rng.choice(['capture', 'capture', 'refund',
                                          'void']),
                              payment=payment, amount=None
                              if rng.random() < .2 else 90)
                     for payment in payments for _ in range(8)])

    assert {call.status for call in journal} <= {200, 400, 409}, \
        journal.statuses()
    check()


def test_replay_as_conflict(start_nginx, mariadb, database, journal, check):
    """payment_idempotency_replay conflict: 409 with the payment's id, also
    for the copies that were under way at the same time."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        location='payment_idempotency_replay conflict;')

    calls = crowd(nginx.port, journal,
                  [Call('authorize', 'MERCHANT-1', 'the-one', 5000, 'KRW',
                        None) for _ in range(200)], 100)

    [good] = [call for call in calls if call.ok]

    for call in calls:
        if call is not good:
            assert call.status == 409, call
            assert call.code == 'DUPLICATE_REQUEST'
            assert call.json['paymentId'] == good.id

    assert len(check().payments) == 1
