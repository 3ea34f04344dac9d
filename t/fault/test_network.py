"""The network between nginx and the database: ways to name a server, and ways
in which a connection can be bad.
"""

import pathlib
import re
import time

import pytest

import invariants
import servers
from client import Client, Load
from conftest import LONG
from proxy import is_query
from servers import Shard, merchant, wait_for

QUARTERS = [(0, 255), (256, 511), (512, 767), (768, 1023)]


def slots(pair):
    return f'{pair[0]}-{pair[1]}'


def test_every_kind_of_address(start_nginx, mariadb, journal, start_proxy):
    """IPv4, IPv6, a name, a unix socket: a shard each."""

    databases = [mariadb.new_database() for _ in QUARTERS]
    addresses = [f'127.0.0.1:{mariadb.port}',
                 start_proxy(mariadb.socket, host='::1').address,
                 f'localhost:{mariadb.port}',
                 f'unix:{mariadb.socket}']

    nginx = start_nginx([Shard(f's{i}', database, address, slots(pair))
                         for i, (database, address, pair)
                         in enumerate(zip(databases, addresses, QUARTERS))])
    ask = Client(nginx.port, journal)

    for i, pair in enumerate(QUARTERS):
        for number in (1, 2, 3):
            call = ask.authorize(merchant=merchant(pair, number))
            assert call.ok, (addresses[i], call)

    # I16: each where it belongs
    for database, pair in zip(databases, QUARTERS):
        rows = mariadb.query('SELECT merchant_id FROM payment', database)
        assert sorted(row[0] for row in rows) == sorted(
            merchant(pair, number) for number in (1, 2, 3))

    invariants.check(journal, *((mariadb, name) for name in databases))
    nginx.stop()

    for name in databases:
        mariadb.drop_database(name)


def test_a_slow_resolver(start_nginx, mariadb, database, work, journal):
    """Two shards have names that take three seconds to look up, one of them
    in vain; the third one's clients, on the same worker, do not notice."""

    other = mariadb.new_database()
    vain = mariadb.new_database()

    # databases get to know whose they are only when all of them are there
    here = f'unix:{mariadb.socket}'
    start_nginx([Shard('slow', other, here, '0-255'),
                 Shard('never', vain, here, '256-511'),
                 Shard('quick', database, here, '512-1023')],
                workers=1).stop()

    nginx = start_nginx(
        [Shard('slow', other, f'slow.test:{mariadb.port}', '0-255'),
         Shard('never', vain, f'never.test:{mariadb.port}', '256-511'),
         Shard('quick', database, f'unix:{mariadb.socket}', '512-1023')],
        ready=False, workers=1,
        environment=dict(LD_PRELOAD=servers.preload('slow_names'),
                         ASAN_OPTIONS='verify_asan_link_order=0'))
    started = time.monotonic()

    ask = Client(nginx.port, journal)
    quick, slow = merchant((512, 1023)), merchant((0, 255))
    never = merchant((256, 511))

    with Load(nginx.port, journal, clients=2, merchant=quick,
              pause=0.002) as load:
        call = ask.authorize(merchant=slow)
        assert call.status == 503 and call.seconds < 1.5, call

        wait_for(lambda: ask.authorize(merchant=slow).ok, 6, 'the slow name')
        assert time.monotonic() - started > 2.5

        # the second of two vain attempts ends after six seconds
        wait_for(lambda: ask.authorize(merchant=never).seconds < 0.2, 8,
                 '503 at once')

    assert not load.bad(), load.bad()[:5]
    assert max(call.seconds for call in load.calls) < 0.5
    assert nginx.lines('never.test')

    invariants.check(journal, (mariadb, database), (mariadb, other))
    nginx.stop()
    mariadb.drop_database(other)
    mariadb.drop_database(vain)


@pytest.mark.asan
@pytest.mark.parametrize('reset', [True, False])
def test_links_are_cut(nginx, proxy, journal, check, ask, reset):
    """All links at once, again and again, in the middle of whatever."""

    with Load(nginx.port, journal, clients=12, changes=True) as load:
        for _ in range(25):
            load.wait(20)
            proxy.cut(reset)

        load.wait(50)

    # who was cut twice while connecting says that the database is away
    assert {call.status for call in load.bad()} <= {503}, \
        load.calls.statuses()
    assert len(load.bad()) < len(load.calls) / 4, load.calls.statuses()
    check(ask)


def test_nobody_listens(nginx, proxy, journal, check, ask):
    with Load(nginx.port, journal, clients=8) as load:
        load.wait(50)
        proxy.refuse()
        wait_for(lambda: ask.authorize().status == 503, 5, '503')
        quick = [ask.authorize() for _ in range(10)]
        assert all(call.status == 503 and call.seconds < 0.2
                   for call in quick), quick
        proxy.accept()
        load.wait(50)

    assert {call.status for call in load.bad()} <= {503, 504}
    check(ask)


def test_a_long_way(start_nginx, database, proxy, journal, check):
    """15 ms in each direction: batches grow, nothing fails."""

    proxy.delay = 0.015
    nginx = start_nginx(servers.Shard('main', database, proxy.address))

    with Load(nginx.port, journal, clients=24, changes=True) as load:
        load.wait(300)

    assert not load.bad(), load.bad()[:5]
    assert nginx.status()['shards'][0]['average_batch'] > 3
    check()


def test_black_hole(start_nginx, database, proxy, journal, check):
    """Nothing arrives any more and nobody says so; later, all of it does.
    Every answer has its time, whatever it is."""

    nginx = start_nginx(Shard('main', database, proxy.address,
                              connect_timeout='1s', read_timeout='1s'),
                        location='payment_timeout 2s;')
    ask = Client(nginx.port, journal)

    with Load(nginx.port, journal, clients=8, changes=True) as load:
        load.wait(100)
        proxy.black_hole()

        # as soon as it is known, nobody has to wait any more
        wait_for(lambda: all(ask.authorize().seconds < 0.2
                             for _ in range(3)), 10, '503 at once')
        proxy.heal()
        load.wait(100)

    assert all(call.seconds < 2.5 for call in journal), \
        max(journal, key=lambda call: call.seconds)
    assert {call.status for call in load.bad()} <= {503, 504}, \
        load.calls.statuses()
    check(ask)


def test_a_slow_answer_of_one(start_nginx, database, proxy, journal, check):
    """One batch's statements take half a second; the spare connection serves
    the others meanwhile."""

    nginx = start_nginx(Shard('main', database, proxy.address), workers=1)
    ask = Client(nginx.port, journal)
    payment = ask.authorize().id

    with Load(nginx.port, journal, clients=8) as load:
        load.wait(50)
        strike = proxy.strike(is_query(b'FOR UPDATE'), 'delay', seconds=1)
        call = ask.change('capture', payment, amount=None)
        load.wait(50)

    assert strike.hits == 1
    assert call.ok and call.seconds > 0.9
    assert not load.bad()

    # but for those in its batch
    slow = [call for call in load.calls if call.seconds > 0.3]
    assert len(slow) <= 8, slow
    check()


def test_recycling(start_nginx, database, mariadb, journal, check):
    """Connections that may do ten exchanges, or live 200 ms, or idle 50 ms:
    nobody notices that they come and go."""

    for settings in (dict(max_requests=10), dict(max_age='200ms'),
                     dict(idle_timeout='50ms')):
        nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}',
                                  **settings))

        with Load(nginx.port, journal, clients=4, changes=True,
                  pause=0.005) as load:
            time.sleep(1.5)

        assert not load.bad(), load.bad()[:5]
        assert max(call.seconds for call in load.calls) < 0.5
        assert nginx.status()['shards'][0]['connects'] > 10, settings
        assert nginx.status()['shards'][0]['connections_lost'] == 0
        assert len(mariadb.connections(database)) <= 4
        nginx.stop()

    check()


def test_coming_and_going_leaves_nothing(start_nginx, database, proxy,
                                         journal, check):
    """I17: a connection for each exchange, lost ones among them, thousands
    of them: no descriptor stays, and no memory."""

    nginx = start_nginx(Shard('main', database, proxy.address,
                              max_requests=1), workers=1)
    [pid] = nginx.worker_pids()

    def resources():
        wait_for(lambda: nginx.status()['shards'][0]['connections_open'] == 2,
                 5, 'two connections')
        status = pathlib.Path(f'/proc/{pid}/status').read_text()
        return (len(list(pathlib.Path(f'/proc/{pid}/fd').iterdir())),
                int(re.search(r'VmRSS:\s+(\d+)', status)[1]))

    def churn(n):
        with Load(nginx.port, journal, clients=4, changes=True) as load:
            for i in range(n):
                load.wait(40)

                if i % 4 == 0:
                    proxy.cut(reset=True)

        assert {call.status for call in load.bad()} <= {503}

    churn(5)
    files, memory = resources()
    churn(40 if LONG else 15)
    files_after, memory_after = resources()

    assert nginx.status()['shards'][0]['connects'] > 200
    assert abs(files_after - files) <= 4, (files, files_after)

    if 'asan' not in servers.NGINX:
        assert memory_after - memory < 2048, (memory, memory_after)

    check()


def test_the_primary_vanishes(start_nginx, mariadb, second_mariadb, database,
                              journal, proxy, start_proxy):
    """It is in a black hole, and the other one has been promoted: all work
    goes there, though the first one still seems open."""

    second_mariadb.new_database(database)
    mariadb.identify(database)
    second_mariadb.identify(database)
    second_mariadb.query('SET GLOBAL read_only = 1')

    nginx = start_nginx(Shard('main', database,
                              [proxy.address,
                               f'unix:{second_mariadb.socket}'],
                              connect_timeout='1s', read_timeout='1s'))
    ask = Client(nginx.port, journal)

    with Load(nginx.port, journal, clients=8) as load:
        load.wait(100)
        mariadb.query('SET GLOBAL read_only = 1')
        second_mariadb.query('SET GLOBAL read_only = 0')
        proxy.black_hole()
        load.wait(200)

    assert len(second_mariadb.query('SELECT id FROM payment', database)) > 100
    assert {call.status for call in load.bad()} <= {503, 504}, \
        load.calls.statuses()

    # the load may have been one worker's; another finds out by a time-out
    wait_for(lambda: ask.authorize().ok, 8, 'a payment')

    nginx.stop()
    invariants.check(journal, (mariadb, database), (second_mariadb, database))
    second_mariadb.drop_database(database)
