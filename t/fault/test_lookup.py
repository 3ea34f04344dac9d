"""What became of a key, asked for after an answer that did not come.

A look-up tells what is committed, and stays so; it says that there is nothing
only when no transaction at the database has the key, of whichever node, and no
request with it is under way at this node, in whichever of its workers.
"""

import json

import pytest

import loop
from client import Call, Client, Connection, Load
from invariants import key_hash
from proxy import is_bulk_of, is_commit
from servers import Shard, wait_for

is_keys = is_bulk_of(b'INSERT INTO idempotency_key')


async def ask_for(port, merchant, key):
    """Status and body, on a connection of its own."""

    connection = Connection(port)
    await connection.open()
    connection.writer.write(
        f'GET /api/payments/?merchantId={merchant}&idempotencyKey={key}'
        ' HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n'.encode())
    answer = await connection.reader.read()
    connection.close()
    head, body = answer.split(b'\r\n\r\n', 1)
    return int(head.split(b' ')[1]), json.loads(body)


def look_up(nginx, call):
    return loop.run(ask_for(nginx.port, call.merchant, call.key))


def found(call, body):
    """The look-up's answer is the operation that call's answer tells."""

    operation = body['operation']

    return ((operation['type'], operation['status'],
             operation['capturedAmount'], operation['refundedAmount'])
            == (call.operation, call.json['status'],
                call.json['capturedAmount'], call.json['refundedAmount'])
            and body['paymentId'] == call.id)


@pytest.mark.parametrize('action, made', [('after', True), ('before', False)])
def test_the_truth_after_a_504(start_nginx, mariadb, database, proxy, journal,
                               check, action, made):
    """On another node, while the one that was asked does not know it yet."""

    nginx = start_nginx(Shard('main', database, proxy.address),
                        location='payment_timeout 1s;')
    other = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    ask = Client(nginx.port, journal)

    strike = proxy.strike(is_commit, action)
    answer = ask.later([ask.call()])
    strike.wait()
    proxy.refuse()

    [call] = answer.result(20)
    assert call.status == 504, call

    status, body = look_up(other, call)

    if made:
        assert status == 200 and body['status'] == 'AUTHORIZED', body
        assert body['operation']['version'] == 1
    else:
        assert (status, body['code']) == (404, 'NOT_FOUND')

    proxy.accept()
    nginx.wait_connected(20)

    again = ask.authorize(key=call.key)
    assert again.ok and again.replayed == made

    status, body = look_up(nginx, again)
    assert status == 200 and found(again, body), body
    check(ask)


def test_a_transaction_that_may_commit(start_nginx, mariadb, database, journal):
    """Another node's has inserted the key: nothing is told until it ends."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        location='payment_timeout 1s;')
    call = Client(nginx.port, journal).call()
    session = mariadb.session(database)

    session.cursor().execute(
        'INSERT INTO idempotency_key (key_hash, payment_id, fingerprint,'
        " operation) VALUES (%s, %s, REPEAT('f', 8), 'authorize')",
        [key_hash(call.merchant, call.key), b'p' * 10])

    status, body = look_up(nginx, call)
    assert (status, body['code']) == (503, 'SERVICE_UNAVAILABLE'), body

    answer = loop.spawn(ask_for(nginx.port, call.merchant, call.key))
    wait_for(lambda: nginx.status()['shards'][0]['queued'], 5,
             'a look-up that waits')
    session.rollback()
    assert answer.result(5)[0] == 404


def test_beside_a_look_up_that_waits(start_nginx, mariadb, database, journal):
    """Others are told at once, also in its batch."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        workers=1)
    ask = Client(nginx.port, journal)
    made, held = ask.authorize(), ask.call()
    session = mariadb.session(database)

    session.cursor().execute(
        'INSERT INTO idempotency_key (key_hash, payment_id, fingerprint,'
        " operation) VALUES (%s, %s, REPEAT('f', 8), 'authorize')",
        [key_hash(held.merchant, held.key), b'p' * 10])

    waits = [loop.spawn(ask_for(nginx.port, held.merchant, held.key))
             for _ in range(20)]
    wait_for(lambda: nginx.status()['shards'][0]['queued'] == 20, 5,
             'look-ups that wait')

    for _ in range(20):
        assert look_up(nginx, made)[0] == 200
        assert ask.authorize().seconds < 1

    assert not any(wait.done() for wait in waits)
    session.rollback()
    assert {wait.result(5)[0] for wait in waits} == {404}


def test_many_who_look_up_one_key(start_nginx, mariadb, database, journal):
    """What becomes of it is long in coming: those who wait for that leave room
    in the queue for all others, who would be shed beside them."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        workers=1, http='payment_queue_size 100;',
                        location='payment_timeout 20s;')
    ask = Client(nginx.port, journal)
    held = ask.call()
    session = mariadb.session(database)

    session.cursor().execute(
        'INSERT INTO idempotency_key (key_hash, payment_id, fingerprint,'
        " operation) VALUES (%s, %s, REPEAT('f', 8), 'authorize')",
        [key_hash(held.merchant, held.key), b'p' * 10])

    def waits():
        return [loop.spawn(ask_for(nginx.port, held.merchant, held.key))
                for _ in range(50)]

    first, second, third = waits(), waits(), waits()
    wait_for(lambda: sum(wait.done() for wait in first + second + third)
             == 125, 5, 'those who have no room')

    assert all(ask.authorize().ok for _ in range(20))
    wait_for(lambda: nginx.status()['shards'][0]['queued'] == 25, 5,
             'those who have')

    session.rollback()
    answers = [wait.result(5)[0] for wait in first + second + third]
    assert sorted(set(answers)) == [404, 503] and answers.count(404) == 25


def test_a_request_that_waits_in_another_worker(start_nginx, database, proxy,
                                                journal, check):
    """Its key has not come to the database yet."""

    nginx = start_nginx(Shard('main', database, proxy.address), workers=2,
                        location='payment_timeout 8s;')
    ask = Client(nginx.port, journal)

    strike = proxy.strike(is_keys, 'hold')
    answer = ask.later([ask.call(key='held')])
    strike.wait()

    waits = [loop.spawn(ask_for(nginx.port, 'MERCHANT-1', 'held'))
             for _ in range(20)]
    assert look_up(nginx, ask.call(key='another'))[0] == 404
    assert not any(wait.done() for wait in waits)

    strike.release()
    [call] = answer.result(10)
    assert call.ok, call

    for wait in waits:
        status, body = wait.result(10)
        assert status == 200 and found(call, body), body

    check(ask)


def test_a_worker_that_was_killed(start_nginx, database, proxy, journal,
                                  check):
    """What it had under way is under way no more."""

    nginx = start_nginx(Shard('main', database, proxy.address), workers=1)
    ask = Client(nginx.port, journal)

    strike = proxy.strike(is_keys, 'hold')
    answer = ask.later([ask.call()])
    strike.wait()

    worker = nginx.kill_worker()
    [call] = answer.result(10)
    assert call.error, call

    wait_for(lambda: nginx.worker_pids() not in ([], [worker]), 10,
             'another worker')
    nginx.wait_connected(20)
    assert look_up(nginx, call)[0] == 404

    check(ask)


def test_under_load(start_nginx, mariadb, database, journal, check):
    """Keys of answers, and of requests that are being done, on two nodes: what
    was answered is found, and what is not found was not done."""

    nodes = [start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
             for _ in range(2)]

    with Load(nodes[0].port, journal, clients=16, changes=True) as load:
        for turn in range(100):
            load.wait(20)
            call = load.calls[-1 - turn % 8]
            status, body = look_up(nodes[turn % 2], call)

            if call.ok:
                assert status == 200 and found(call, body), (call, body)

            # one that comes from now on, looked up while it is done
            ask = Client(nodes[0].port, journal)
            call = Call('authorize', 'MERCHANT-1', ask.key(), 1000, 'KRW',
                        None)
            answer = ask.later([call])
            status, body = look_up(nodes[turn % 2], call)
            [call] = answer.result(20)

            assert status == 404 or found(call, body), (call, body)

    assert not load.bad(), load.bad()[:5]
    check()
