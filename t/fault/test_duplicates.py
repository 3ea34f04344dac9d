"""One key, many requests: one payment, one answer."""

import asyncio
import random
import time
import uuid

import pytest

import loop
from client import Call, Client, Connection, Load
from conftest import LONG
from invariants import key_hash
from migrations import Checkout
from tables import ID_OF_KEY
from proxy import is_bulk_of, is_commit
from servers import Shard, wait_for


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


def test_a_crowd_at_one_key(start_nginx, proxy, database, journal, check):
    """As many requests of one key as the queue takes at all, each with another
    body, and each is refused: so each has its turn, one after the other. A key
    may have a part of the queue; beyond, and when a turn does not come in time,
    the answer is that nothing happened. Nobody else is refused, nor waits
    with them."""

    proxy.delay = 0.004
    nginx = start_nginx(Shard('main', database, proxy.address), workers=1,
                        http='payment_queue_size 800;'
                             'payment_queue_timeout 10s;',
                        location='payment_timeout 6s;')
    ask = Client(nginx.port, journal)
    payment = ask.authorize(amount=1000).id
    beside = Client(nginx.port, journal)

    def seconds():
        calls = [beside.authorize(merchant='MERCHANT-2') for _ in range(9)]
        assert all(call.ok for call in calls), calls
        return sorted(call.seconds for call in calls)[4]

    calm = seconds()

    turns = ask.later([ask.call('capture', payment=payment, key='the-one',
                                amount=2000 + i) for i in range(900)])
    wait_for(lambda: nginx.status()['shards'][0]['queued'] > 190
             or journal.of(key='the-one', status=503), 20, 'a crowd')

    crowded = seconds()
    copies = beside.at_once([beside.call(key='other', merchant='MERCHANT-2')
                             for _ in range(100)])
    answers = turns.result(60)

    assert all(call.ok for call in copies), copies
    # their times end one after the other, as they came: few have their turn just
    # then, and of these alone the outcome is not known
    assert sum(call.status == 504 for call in answers) < 10, \
        journal.statuses()
    assert {call.status for call in answers} <= {409, 503, 504}
    assert sum(call.status == 409 for call in answers) > 40
    assert crowded < 3 * calm, (calm, crowded)
    assert nginx.status()['shards'][0]['queued'] == 0
    check(ask)


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


@pytest.mark.asan
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


def test_repeats_roll_nothing_back(start_nginx, mariadb, database, journal,
                                   check):
    """A storm of repeats, on both workers, beside payments that are new: none
    of them makes a batch fail, for keys that were used are known."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    ask = Client(nginx.port, journal)
    calls = [ask.authorize() for _ in range(20)]
    calls += [ask.change('capture', call.id, amount=100) for call in calls]

    with Load(nginx.port, journal, clients=8) as load:
        for _ in range(5):
            load.wait(20)
            repeats = ask.at_once([Call(call.operation, call.merchant,
                                        call.key, call.amount, call.currency,
                                        call.payment)
                                   for call in calls for _ in range(3)])
            assert all(repeat.replayed for repeat in repeats), repeats
            others = ask.at_once([Call(call.operation, call.merchant, call.key,
                                       7, call.currency, call.payment)
                                  for call in calls])
            assert {call.code for call in others} == {'IDEMPOTENCY_KEY_REUSED'}

        load.wait(20)

    shard = nginx.status()['shards'][0]
    assert shard['duplicates'] == 0 and shard['rollbacks'] == 0, shard
    assert not load.bad(), load.bad()[:5]
    check(ask)


def test_what_a_repeat_asks(start_nginx, mariadb, database, journal):
    """One question, for the row that was told of. Who has the payments, where no
    server has claimed them, is asked once a second."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        workers=1)
    ask = Client(nginx.port, journal)
    call = ask.authorize()

    def questions():
        return int(mariadb.query("SHOW GLOBAL STATUS LIKE 'Com_select'")[0][1])

    before, began = questions(), time.monotonic()

    for _ in range(200):
        assert ask.authorize(key=call.key).replayed

    asked, took = questions() - before, time.monotonic() - began
    assert 200 <= asked < 220 + 10 * took


@pytest.mark.parametrize('number', [1, 32, 33, 256, 1024])
def test_a_look_at_many_keys(start_nginx, proxy, database, journal, number):
    """In one batch, and whoever makes the ends of the ids."""

    nginx = start_nginx(Shard('main', database, proxy.address, connections=1),
                        workers=1, connections=4096,
                        http='payment_batch_size 1024;'
                             'payment_batch_bytes 16m;'
                             'payment_queue_timeout 10s;',
                        location='payment_timeout 20s;')
    ask = Client(nginx.port, journal)
    calls = [Call('authorize', 'MERCHANT-1', str(uuid.uuid4()), 5000, 'KRW',
                  None) for _ in range(number)]
    crowd(nginx.port, journal, calls)
    assert all(call.ok for call in calls), journal.statuses()

    strike = proxy.strike(is_commit, 'hold')
    first = ask.later([ask.call()])
    strike.wait()
    again = [Call('authorize', 'MERCHANT-1', call.key, 5000, 'KRW', None)
             for call in calls]
    answers = ask.later(again)
    wait_for(lambda: nginx.status()['shards'][0]['queued'] == number, 20,
             'all of them in the queue')
    strike.release()
    assert first.result(20)[0].ok
    answers.result(30)

    assert all(call.replayed for call in again), journal.statuses()
    assert [call.body for call in again] == [call.body for call in calls]


def test_keys_that_are_known_and_forgotten(start_nginx, proxy, mariadb,
                                           database, journal):
    """Keys and payments were removed meanwhile: their requests are new ones,
    also in one batch with a repeat, and beside a payment that is new."""

    nginx = start_nginx(Shard('main', database, proxy.address, connections=1),
                        workers=1)
    ask = Client(nginx.port, journal)
    gone, kept = ask.authorize(), ask.authorize()

    def forget():
        hashed = key_hash(gone.merchant, gone.key).hex()
        mariadb.query(f"DELETE FROM idempotency_key WHERE key_hash ="
                      f" x'{hashed}'", database)

    def together(*calls):
        strike = proxy.strike(is_commit, 'delay', seconds=0.5)
        first = ask.later([ask.call()])
        strike.wait()
        answers = ask.later(list(calls))
        wait_for(lambda: nginx.status()['shards'][0]['queued'] == len(calls),
                 5, 'a queue')
        assert first.result(10)[0].ok
        return answers.result(10)

    def again(call):
        return ask.call(key=call.key, merchant=call.merchant)

    # alone; with a repeat; with a repeat and a new one
    forget()
    assert ask.send(again(gone)).id != gone.id
    forget()
    one, other = together(again(gone), again(kept))
    assert one.ok and not one.replayed, one
    assert other.replayed and other.body == kept.body, other
    forget()
    one, other, new = together(again(gone), again(kept), ask.call())
    assert one.ok and not one.replayed, one
    assert other.replayed and other.body == kept.body, other
    assert new.ok and not new.replayed, new

    shard = nginx.status()['shards'][0]
    assert shard['duplicates'] == 0 and shard['rollbacks'] == 0, shard
    assert mariadb.query('SELECT COUNT(*) FROM payment',
                         database)[0][0] == 2 + 3 + 3


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


def test_keys_of_an_older_schema(start_nginx, mariadb, database, journal,
                                 check, tmp_path):
    """sql/V003 makes the rows of keys narrower. Those that were there before
    get the same answers; they are made from new ones here."""

    first = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    ask = Client(first.port, journal)
    payment = ask.authorize(amount=5000).id

    for operation, amount in (('capture', 1000), ('capture', 3000),
                              ('refund', 500)):
        ask.change(operation, payment, amount=amount)

    ask.change('void', ask.authorize().id, amount=None)
    assert all(call.ok for call in journal), list(journal)

    narrow = mariadb.query(
        "SELECT DISTINCT operation = 'authorize', LENGTH(payment_id),"
        ' status IS NULL, version IS NULL, created_at IS NULL'
        ' FROM idempotency_key', database)
    assert set(narrow) == {(1, 10, 1, 1, 1), (0, 16, 0, 0, 0)}

    old = mariadb.empty_database()

    try:
        Checkout(tmp_path / 'old').keep(1).run(mariadb, 'up', old)
        columns = ', '.join(row[0] for row in mariadb.query(
            'SHOW COLUMNS FROM payment', old))
        mariadb.query(f'INSERT INTO payment SELECT {columns}'
                      f' FROM {database}.payment', old)
        mariadb.query(
            f'INSERT INTO idempotency_key SELECT key_hash, {ID_OF_KEY},'
            " fingerprint, operation, COALESCE(status, 'AUTHORIZED'),"
            ' COALESCE(version, 1), captured_amount, refunded_amount,'
            ' COALESCE(created_at, UTC_TIMESTAMP())'
            f' FROM {database}.idempotency_key'.replace(
                'payment_identity', f'{database}.payment_identity'), old)
        mariadb.migrate(old)

        second = start_nginx(Shard('main', old, f'unix:{mariadb.socket}'))
        again = Client(second.port)

        for call in journal:
            repeat = again.send(Call(call.operation, call.merchant, call.key,
                                     call.amount, call.currency,
                                     call.payment))
            assert repeat.ok and repeat.replayed, (call, repeat)
            assert repeat.body == call.body, (call, repeat)

        second.stop()
    finally:
        mariadb.drop_database(old)

    check()


def test_ids_of_before_there_was_a_secret(start_nginx, mariadb, database,
                                          journal):
    """They end as the hashes of their keys do. Their payments are found by
    those keys, and changed, as others are."""

    def restart():
        return start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))

    first = restart()
    ask = Client(first.port, journal)
    payment = ask.authorize(amount=5000).id
    ask.change('capture', payment, amount=1000)
    ask.change('void', ask.authorize().id, amount=None)
    assert all(call.ok for call in journal), list(journal)
    first.stop()

    # an id of before, made of one that there is now
    before = ("CONCAT(LEFT(id, 9), CHAR((ORD(SUBSTR(id, 10)) & 240)"
              ' | (ORD(SUBSTR(key_hash, 10)) & 15)), SUBSTR(key_hash, 11))')
    mariadb.run(f"""
        CREATE TABLE changed SELECT id, {before} AS older, key_hash
            FROM (SELECT key_hash, {ID_OF_KEY} AS id FROM idempotency_key
                  WHERE operation = 'authorize') k;
        UPDATE payment JOIN changed USING (id) SET payment.id = older;
        UPDATE idempotency_key k JOIN changed ON k.payment_id = id
            SET k.payment_id = older;
        UPDATE idempotency_key k JOIN changed USING (key_hash)
            SET k.payment_id = LEFT(older, 10);""", database)
    older = {str(uuid.UUID(bytes=new)): str(uuid.UUID(bytes=old))
             for new, old in mariadb.query('SELECT id, older FROM changed',
                                           database)}
    assert len(older) == 2 and not set(older) & set(older.values())
    mariadb.query('DROP TABLE changed', database)

    again = Client(restart().port)

    for call in journal:
        repeat = again.send(Call(call.operation, call.merchant, call.key,
                                 call.amount, call.currency,
                                 older.get(call.payment)))

        # the fingerprint of a change has the payment's id in it
        if call.operation == 'authorize':
            assert repeat.ok and repeat.replayed, (call, repeat)
            assert repeat.json == dict(call.json, paymentId=older[call.id])
        else:
            assert repeat.code == 'IDEMPOTENCY_KEY_REUSED', (call, repeat)

    assert again.change('capture', older[payment], amount=2000).ok


def test_an_id_tells_nothing_of_its_key(start_nginx, mariadb, database,
                                        start_mariadb):
    """A key may be somebody's mail address: no part of an id is its hash, nor
    the same in another installation."""

    other = start_mariadb()
    servers = [(mariadb, database), (other, 'payment')]
    ends = set()

    for server, name in servers:
        nginx = start_nginx(Shard('main', name, f'unix:{server.socket}'))
        call = Client(nginx.port).authorize(key='somebody@example.net')
        ends.add(call.id[-12:])

        hashed = key_hash(call.merchant, call.key).hex()
        assert hashed[-12:] != call.id[-12:]
        assert hashed[19] != call.id[22]

    assert len(ends) == 2


@pytest.mark.asan
def test_a_copy_outlives_a_batch(start_nginx, database, proxy, journal, check):
    """A batch is divided and one half of it ends; the time of a copy, whose
    original is in the other half, is over afterwards. (What was wrong here is
    seen by AddressSanitizer only.)"""

    nginx = start_nginx(Shard('main', database, proxy.address), workers=1,
                        http='payment_batch_spare_delay 10s;'
                             'payment_queue_timeout 10s;',
                        location='payment_timeout 1s;')
    ask = Client(nginx.port, journal)
    is_keys = is_bulk_of(b'INSERT INTO idempotency_key')

    def queue(n, calls):
        answers = ask.later(calls)
        wait_for(lambda: nginx.status()['shards'][0]['queued'] == n, 5,
                 f'{n} in the queue')
        return answers

    strike = proxy.strike(is_commit, 'delay', seconds=0.5)
    first = ask.later([ask.call()])
    strike.wait()

    proxy.strike(is_keys, 'error', error=1264)
    held = proxy.strike(is_keys, 'hold')

    others = queue(4, [ask.call() for _ in range(4)])
    copies = queue(6, [ask.call(key='twice') for _ in range(2)])

    assert all(call.ok for call in first.result(10))
    held.wait()

    told = others.result(10)
    assert any(call.ok for call in told), told
    assert {call.status for call in copies.result(10)} == {504}

    proxy.calm()
    held.release()
    wait_for(lambda: ask.authorize(key='twice').ok, 10, 'the truth')
    check(ask)
