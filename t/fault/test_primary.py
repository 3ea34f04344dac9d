"""Which server is the primary is one choice of the node, of all its processes:
a server that died and came back is not taken again by whoever is new, one that
only we could not reach for want of something of our own stays the one, and a
name behind which another server appears does not mix the two.
"""

import socket

import pytest

import servers
from client import Client, Load
from servers import PROBE, ROOT, Shard, wait_for


@pytest.fixture
def standby(second_mariadb, mariadb, database):
    """Another server with the same database, as replication would make it; it
    is writable, as a server that came back is when nobody forbade it."""

    second_mariadb.new_database(database)
    mariadb.identify(database)
    second_mariadb.identify(database)
    yield second_mariadb
    second_mariadb.drop_database(database)


def payments(server, database):
    return server.query('SELECT COUNT(*) FROM payment', database)[0][0]


@pytest.mark.parametrize('who', ['worker', 'reload'])
def test_what_comes_back_is_not_taken_again(start_nginx, mariadb, standby,
                                            database, proxy, journal, who):
    nginx = start_nginx(Shard('main', database,
                              [proxy.address, f'unix:{standby.socket}']),
                        reuseport=False)
    ask = Client(nginx.port, journal)

    proxy.refuse()
    wait_for(lambda: ask.authorize().ok, 10, 'a payment on the other server')
    nginx.wait_connected()
    proxy.accept()

    calls = [ask.authorize() for _ in range(20)]
    assert all(call.ok for call in calls)

    if who == 'worker':
        nginx.kill_worker()
        wait_for(lambda: len(nginx.worker_pids()) == 2, 5, 'a new worker')
    else:
        nginx.reload()

    wait_for(lambda: len(standby.connections(database)) == 4 + PROBE,
             10,
             'all connections at the other server')

    # on every worker, each on a connection of its own
    for call in calls:
        again = ask.authorize(key=call.key)
        assert again.replayed and again.body == call.body, again

    assert len(mariadb.connections(database)) <= PROBE
    assert not payments(mariadb, database)


def test_all_processes_move_together(start_nginx, mariadb, standby, database,
                                     start_proxy, journal):
    """One worker cannot reach its server any more, the other one could, but
    has nothing to do: they do not part."""

    proxy = start_proxy(mariadb.socket)
    nginx = start_nginx(Shard('main', database,
                              [proxy.address, f'unix:{standby.socket}']),
                        workers=4)
    ask = Client(nginx.port, journal)
    proxy.refuse()
    wait_for(lambda: ask.authorize().ok, 10, 'a payment on the other server')
    nginx.wait_connected()
    assert len(standby.connections(database)) == 8 + PROBE

    lines = nginx.lines('is the primary now')
    assert len(lines) == 2, lines
    assert proxy.address in lines[0] and standby.dir.name in lines[1], lines
    newest = max(int(file.name[1:4]) for file in (ROOT / 'sql').glob('V*.sql'))
    assert all(f'), no TLS, schema {newest}' in line for line in lines), lines


def test_our_own_want_moves_nobody(start_nginx, mariadb, standby, database,
                                   journal):
    """The worker has no connection left to give: no fault of the server's."""

    nginx = start_nginx(Shard('main', database,
                              [f'unix:{mariadb.socket}',
                               f'unix:{standby.socket}'], connections=1),
                        workers=1, connections=24)
    ask = Client(nginx.port, journal)
    first = ask.authorize()
    assert first.ok

    # clients who begin a request and do not go on: also for the connection
    # that is free for the moment in which the database's is gone
    clients = []

    def crowd():
        client = socket.create_connection(('127.0.0.1', nginx.port))
        client.send(b'GET /alive HTTP/1.1\r\nX')
        clients.append(client)

    try:
        for _ in range(24):
            crowd()

        nginx.expect('worker_connections are not enough')
        wait_for(lambda: nginx.lines('worker_connections are not enough'), 10,
                 'all connections are taken')

        # whether the crowd or the database's new connection is faster is
        # chance: it is tried until the crowd was
        for number in range(3000):
            if number % 300 == 0:
                mariadb.kill_connections(database)

            crowd()

            if nginx.lines('no free connection'):
                break

        assert nginx.lines('no free connection')

    finally:
        for client in clients:
            client.close()

    def again():
        call = ask.authorize(key=first.key)
        assert call.status in (200, 503) or call.error, call
        return call.ok and call

    call = wait_for(again, 15, 'recovery')
    assert call.replayed, call
    assert len(standby.connections(database)) == PROBE
    assert not payments(standby, database)


@pytest.mark.parametrize('since', ['the start', 'now'])
def test_no_thread_moves_nobody(start_nginx, mariadb, standby, database,
                                journal, work, since):
    """A connection is opened in a thread of its own, and there is none to be
    had: no fault of the server's. One line says what is wanting, and when
    there are threads again, there are payments."""

    wanting = work / 'no-threads'
    wanting.unlink(missing_ok=True)

    if since == 'the start':
        wanting.touch()

    nginx = start_nginx(Shard('main', database,
                              [f'unix:{mariadb.socket}',
                               f'unix:{standby.socket}']),
                        workers=1, ready=False,
                        environment=dict(
                            LD_PRELOAD=servers.preload('no_threads'),
                            NO_THREADS=str(wanting)))
    ask = Client(nginx.port, journal)

    if since == 'now':
        nginx.wait_connected()
        assert ask.authorize().ok
        wanting.touch()
        mariadb.kill_connections(database)

    def failed():
        return nginx.status()['shards'][0]['connect_failures']

    before = failed()
    wait_for(lambda: failed() >= before + 8, 20, 'attempts that fail')
    assert ask.authorize().status == 503
    assert len(nginx.lines('pthread_create() failed')) == 1
    assert nginx.lines('there is no thread to connect in')

    wanting.unlink()
    nginx.wait_connected()
    assert ask.authorize().ok
    assert nginx.status()['shards'][0]['failovers'] == 0
    assert not payments(standby, database)


def test_a_name_that_moves(start_nginx, mariadb, standby, database, proxy,
                           journal):
    """The name leads to another server while the first one still works for
    us: it stays the one until it goes."""

    nginx = start_nginx(Shard('main', database, proxy.address))
    ask = Client(nginx.port, journal)
    calls = [ask.authorize() for _ in range(4)]

    proxy.target = str(standby.socket)
    mariadb.query(f'KILL {mariadb.connections(database)[0]}')

    with Load(nginx.port, journal, clients=4) as load:
        load.wait(20)
        wait_for(lambda: nginx.lines('is another server than'), 10,
                 'a line about it')
        load.wait(100)

    assert not load.bad(), load.bad()[:5]
    assert not payments(standby, database)

    mariadb.stop()
    nginx.wait_connected(15)

    # nothing was replicated here: what counts is where they all are
    assert ask.authorize().ok
    assert len(standby.connections(database)) == 4
    assert calls


def test_the_first_claim_is_noticed(start_nginx, mariadb, database, journal,
                                    check):
    """A server that nobody has claimed is not asked in each transaction, but
    often enough: a first freeze holds a second later, and from then on each
    change holds at once."""

    def change(server):
        mariadb.query('UPDATE payment_topology SET epoch = epoch + 1,'
                      f' server_id = {server}', database)

    def freeze():
        change('0')

    def claim():
        change('@@global.server_id')

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    ask = Client(nginx.port, journal)
    call = ask.authorize()
    assert call.ok

    freeze()
    wait_for(lambda: ask.authorize().status == 503, 3, 'the freeze')
    assert nginx.status()['shards'][0]['topology_epoch'] == 1
    made = payments(mariadb, database)
    assert all(ask.authorize().status == 503 for _ in range(4))
    assert payments(mariadb, database) == made

    claim()
    wait_for(lambda: ask.authorize().ok, 10, 'a payment')
    nginx.wait_connected()

    assert ask.authorize().ok
    freeze()
    made = payments(mariadb, database)
    assert ask.authorize().status == 503
    assert payments(mariadb, database) == made
    claim()
    wait_for(lambda: ask.authorize().ok, 10, 'a payment')

    assert ask.authorize(key=call.key).body == call.body
    check()
