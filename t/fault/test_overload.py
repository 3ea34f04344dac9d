"""Too much, too slow, too early gone: clients that are a burden."""

import asyncio
import socket
import time
import urllib.request

import pytest

import loop
from client import Client, Connection, Load
from proxy import is_commit
from servers import Shard, wait_for


def shard(nginx):
    return nginx.status()['shards'][0]


async def get(port, url):
    """The answer's status, on a connection of its own."""

    connection = Connection(port)
    await connection.open()
    connection.writer.write(f'GET {url} HTTP/1.1\r\nHost: t\r\n'
                            'Connection: close\r\n\r\n'.encode())
    answer = await connection.reader.read()
    connection.close()
    return int(answer.split(b' ')[1])


def test_the_queue_is_full(start_nginx, database, proxy, journal, check):
    """Both connections are stuck and 20 wait already: the next is told at
    once to come again, and those who waited get their answer."""

    nginx = start_nginx(Shard('main', database, proxy.address), workers=1,
                        http='payment_queue_size 20;'
                             'payment_queue_timeout 10s;')
    ask = Client(nginx.port, journal)
    strike = proxy.strike(is_commit, 'hold', times=2)

    stuck = []

    for hits in (1, 2):
        stuck.append(ask.later([ask.call()]))
        wait_for(lambda: strike.hits == hits, 5, 'a held COMMIT')

    waiting = ask.later([ask.call() for _ in range(20)])
    wait_for(lambda: shard(nginx)['queued'] == 20, 5, 'a full queue')

    for call in ask.at_once([ask.call() for _ in range(30)]):
        assert call.status == 503 and call.seconds < 0.5, call
        assert int(call.headers['retry-after']) >= 1

    proxy.calm()
    strike.release()

    for answers in stuck + [waiting]:
        assert all(call.ok for call in answers.result(10))

    assert shard(nginx)['shed'] == 30
    assert shard(nginx)['queued'] == 0
    check(ask)


def test_reads_beside_writes(start_nginx, database, proxy, journal, check):
    """One connection for both, and more writes than a batch takes: a GET has
    its turn as a write has."""

    proxy.delay = 0.004
    nginx = start_nginx(Shard('main', database, proxy.address, connections=1),
                        workers=1, http='payment_batch_size 8;')
    ask = Client(nginx.port, journal)
    payment = ask.authorize().id
    url = (f'http://127.0.0.1:{nginx.port}/api/payments/{payment}'
           '?merchantId=MERCHANT-1')
    seconds = []

    with Load(nginx.port, journal, clients=32) as load:
        load.wait(64)

        for _ in range(11):
            began = time.monotonic()
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.status == 200
            seconds.append(time.monotonic() - began)

        load.wait(64)

    assert not load.bad(), load.bad()[:5]
    writes = sorted(call.seconds for call in load.calls)
    assert sorted(seconds)[5] < 2 * writes[len(writes) // 2], seconds
    check()


def test_pages_beside_payments(start_nginx, database, proxy, journal, check):
    """Many who ask for a page of operations wait in nobody's room: what an
    answer may hold at most is not what a question takes."""

    nginx = start_nginx(Shard('main', database, proxy.address), workers=1,
                        http='payment_operations on;'
                             'payment_queue_timeout 10s;')
    ask = Client(nginx.port, journal)
    url = (f'/api/payments/{ask.authorize().id}/operations'
           '?merchantId=MERCHANT-1')
    strike = proxy.strike(is_commit, 'hold', times=2)
    stuck = []

    for hits in (1, 2):
        stuck.append(ask.later([ask.call()]))
        wait_for(lambda: strike.hits == hits, 5, 'a held COMMIT')

    pages = [loop.spawn(get(nginx.port, url)) for _ in range(300)]
    wait_for(lambda: shard(nginx)['queued'] == len(pages), 5, 'the pages')
    payment = ask.later([ask.call()])
    wait_for(lambda: shard(nginx)['queued'] == len(pages) + 1, 5, 'a payment')
    strike.release()

    assert {page.result(10) for page in pages} == {200}
    assert all(answer.result(10)[0].ok for answer in [*stuck, payment])
    check(ask)


def test_too_many_bytes_wait(start_nginx, database, proxy, journal, check):
    """The queue is bounded in bytes, too."""

    nginx = start_nginx(Shard('main', database, proxy.address), workers=1,
                        http='payment_queue_bytes 64k;'
                             'payment_queue_timeout 10s;')
    ask = Client(nginx.port, journal)
    strike = proxy.strike(is_commit, 'hold', times=2)
    stuck = []

    for hits in (1, 2):
        stuck.append(ask.later([ask.call()]))
        wait_for(lambda: strike.hits == hits, 5, 'a held COMMIT')

    answers = ask.later([ask.call() for _ in range(200)])
    wait_for(lambda: shard(nginx)['shed'] > 100, 5, 'shedding')
    strike.release()
    calls = answers.result(10) + [call for answer in stuck
                                  for call in answer.result(10)]

    assert {call.status for call in calls} == {200, 503}
    assert sum(call.ok for call in calls) > 10
    check(ask)


def test_waited_too_long(start_nginx, database, proxy, journal, check):
    """payment_queue_timeout."""

    nginx = start_nginx(Shard('main', database, proxy.address,
                              read_timeout='5s'), workers=1,
                        http='payment_queue_timeout 300ms;')
    ask = Client(nginx.port, journal)
    strike = proxy.strike(is_commit, 'hold', times=2)
    stuck = []

    for hits in (1, 2):
        stuck.append(ask.later([ask.call()]))
        wait_for(lambda: strike.hits == hits, 5, 'a held COMMIT')

    for call in ask.at_once([ask.call() for _ in range(30)]):
        assert call.status == 503, call
        assert 0.25 < call.seconds < 0.6, call

    strike.release()
    assert all(answer.result(10)[0].ok for answer in stuck)
    check(ask)


def test_payment_timeout(start_nginx, database, proxy, journal, check):
    """Begun and not ended in time: 504, and the payment goes on; a repeat
    gets the one final answer. Not begun: 503, and there is nothing."""

    nginx = start_nginx(Shard('main', database, proxy.address), workers=1,
                        location='payment_timeout 400ms;')
    ask = Client(nginx.port, journal)
    strike = proxy.strike(is_commit, 'delay', seconds=1)

    call = ask.authorize()

    assert strike.hits == 1
    assert call.status == 504 and call.code == 'OUTCOME_UNKNOWN', call
    assert 0.35 < call.seconds < 0.8
    assert int(call.headers['retry-after']) >= 1

    # at once: the first one is still under way; it must not be done twice
    calls = [ask.authorize(key=call.key)]

    while not calls[-1].ok:
        assert calls[-1].status in (503, 504), calls[-1]
        assert len(calls) < 20
        calls.append(ask.authorize(key=call.key))

    assert calls[-1].replayed
    assert len(check(ask).payments) == 1


@pytest.mark.asan
def test_clients_that_leave(nginx, proxy, journal, check, ask):
    """They send a request and are gone, at every moment of its life: each
    payment is there wholly or not at all, and nobody else notices."""

    async def leave(calls):
        for i, call in enumerate(calls):
            connection = Connection(nginx.port)
            await connection.open()
            wire = call.wire()
            call.sent = time.monotonic()

            if i % 4 == 0:
                wire = wire[:-10]           # not even all of it

            connection.writer.write(wire)
            await connection.writer.drain()

            if i % 2:
                await asyncio.sleep(0.001 * (i % 10))

            if i % 3 == 0:
                sock = connection.writer.get_extra_info('socket')
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                b'\1\0\0\0\0\0\0\0')

            connection.writer.transport.abort()
            call.error = 'left'
            call.received = time.monotonic()
            journal.append(call)

    calls = [ask.call(key=f'left-{i}') for i in range(200)]

    with Load(nginx.port, journal, clients=4, changes=True) as load:
        load.wait(20)
        loop.run(leave(calls))
        load.wait(20)

    assert not load.bad(), load.bad()[:5]
    wait_for(lambda: shard(nginx)['connections_busy'] == 0, 5, 'rest')
    dump = check(ask)

    # the settling made every one of them
    assert sum(1 for _ in dump.payments) >= 200


@pytest.mark.asan
def test_left_while_stuck(nginx, proxy, journal, check, ask):
    """The client is gone before COMMIT is answered; the payment is made."""

    strike = proxy.strike(is_commit, 'delay', seconds=0.5)
    call = ask.call()

    async def leave():
        connection = Connection(nginx.port)
        await connection.open()
        connection.writer.write(call.wire())
        call.sent = time.monotonic()
        await asyncio.get_running_loop().run_in_executor(None, strike.wait)
        connection.close()
        call.error = 'left'
        journal.append(call)

    loop.run(leave())
    wait_for(lambda: shard(nginx)['rows'] == 1, 5, 'the payment')

    again = ask.authorize(key=call.key)
    assert again.ok and again.replayed
    assert len(check().payments) == 1


@pytest.mark.asan
def test_slow_bodies(nginx, journal, check, ask):
    """A byte at a time; meanwhile nobody waits for them."""

    async def drip(call):
        connection = Connection(nginx.port)
        await connection.open()
        call.sent = time.monotonic()

        for byte in call.wire():
            connection.writer.write(bytes([byte]))
            await asyncio.sleep(0.002)

        await connection.answer(call)
        journal.append(call)
        connection.close()
        return call

    async def all_of_them():
        return await asyncio.gather(*(drip(ask.call()) for _ in range(30)))

    with Load(nginx.port, journal, clients=4) as load:
        calls = loop.run(all_of_them())

    assert all(call.ok for call in calls)
    assert not load.bad()
    assert max(call.seconds for call in load.calls) < 0.5
    check()


@pytest.mark.asan
def test_pipelining(nginx, journal, check, ask):
    """Fifty on one connection, all sent at once, answered in order."""

    calls = [ask.call(amount=i + 1) for i in range(50)]
    calls[20] = ask.call(amount=21, key=calls[3].key)       # another body
    calls[30] = ask.call(amount=5, key=calls[4].key)        # the same
    calls[40].amount = -1

    ask.pipelined(calls)

    for i, call in enumerate(calls):
        if i == 20:
            assert call.status == 422, call
        elif i == 30:
            assert call.ok and call.replayed and call.body == calls[4].body
        elif i == 40:
            assert call.status == 400, call
        else:
            assert call.ok and call.json['amount'] == i + 1, call

    assert len(check().payments) == 47


def test_clients_that_hold_all_connections(start_nginx, mariadb, database,
                                           journal, check):
    """Idle ones have taken all that nginx has; the database is lost and comes
    back: its connections are worth more than theirs."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        workers=1, connections=40)
    nginx.expect('worker_connections are not enough')
    ask = Client(nginx.port, journal)

    async def crowd():
        connections = []

        for _ in range(60):
            connection = Connection(nginx.port)
            call = await connection.send(ask.call(), patience=3)
            journal.append(call)
            connections.append(connection)

        return connections

    connections = loop.run(crowd())
    mariadb.kill_connections(database)
    wait_for(lambda: ask.authorize().ok, 5, 'recovery')

    for connection in connections:
        loop.call(connection.close)

    check(ask)


def test_bad_rows_do_no_harm(start_nginx, mariadb, database, proxy, journal,
                             check):
    """Rows that the database refuses, in the middle of batches: each fails
    alone, its neighbours are made."""

    with mariadb.admin(database) as db:
        db.execute('ALTER TABLE payment ADD CONSTRAINT unlucky'
                   ' CHECK (amount <> 13000)')

    nginx = start_nginx(Shard('main', database, proxy.address), workers=1)
    ask = Client(nginx.port, journal)

    # what comes while the first COMMIT is slow is one batch
    proxy.strike(is_commit, 'delay', times=2, seconds=0.3)
    first = ask.later([ask.call(), ask.call()])
    time.sleep(0.1)

    calls = [ask.call(amount=13000 if i in (7, 8, 40) else 1000 + i)
             for i in range(60)]
    ask.at_once(calls)
    assert all(call.ok for call in first.result(10))

    for i, call in enumerate(calls):
        if i in (7, 8, 40):
            assert call.status == 503, call
        else:
            assert call.ok, call

    assert max(call.seconds for call in calls) < 2
    assert shard(nginx)['splits'] > 3
    assert len(check().payments) == 59


def test_one_too_large_for_the_server(start_nginx, mariadb, database, proxy,
                                      journal, check):
    """A batch that is more than the server's max_allowed_packet loses its
    connection, each time: in the end it is divided."""

    mariadb.query('SET GLOBAL max_allowed_packet = 16384')

    try:
        nginx = start_nginx(Shard('main', database, proxy.address), workers=1)
        ask = Client(nginx.port, journal)

        proxy.strike(is_commit, 'delay', times=1, seconds=0.3)
        first = ask.later([ask.call()])
        time.sleep(0.1)
        calls = ask.at_once([ask.call() for _ in range(120)])
        first.result(10)

        assert all(call.ok for call in calls), journal.statuses()
        check()

    finally:
        mariadb.query('SET GLOBAL max_allowed_packet = 16777216')
