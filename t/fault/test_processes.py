"""nginx itself: reload, quit and kill -9, under load."""

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request

import pytest

import servers
from client import Client, Load
from conftest import LONG
from proxy import is_commit
from servers import Shard, wait_for


@pytest.mark.asan
@pytest.mark.parametrize('fresh', [True, False])
def test_reload(start_nginx, database, mariadb, journal, check, fresh):
    """Twenty times under load: not one request fails. With connections kept
    alive a client may find its own just closed, sends again, and gets its
    answer."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        reuseport=False)

    with Load(nginx.port, journal, clients=8, changes=True,
              fresh=fresh) as load:
        for _ in range(100 if LONG else 20):
            load.wait(10)
            nginx.reload()

        load.wait(50)

    assert not load.bad(), load.bad()[:5]

    # the old workers are gone, and so are their connections
    wait_for(lambda: len(nginx.all_pids()) == 3, 10, 'the old workers\' end')
    assert len(mariadb.connections(database)) == 4
    assert nginx.status()['shards'][0]['connections_open'] == 4
    assert nginx.status()['shards'][0]['connections_busy'] == 0
    check()


@pytest.mark.skipif(' ' in servers.MODULES or not servers.MODULES,
                    reason='the module is no shared object of its own')
def test_reload_with_another_module(start_nginx, database, mariadb, work,
                                    monkeypatch):
    """The file is replaced: the old code runs on, and the log says so."""

    file = work / 'module.so'
    shutil.copyfile(servers.MODULES, file)
    monkeypatch.setattr(servers, 'MODULES', str(file))
    nginx = start_nginx(
        Shard('main', database, f'unix:{mariadb.socket}'), reuseport=False,
        location='}\n        location = /metrics {\n'
                 '            payment_status prometheus;')

    notes = subprocess.check_output(['readelf', '-n', file], text=True)
    build = re.search(r'Build ID: ([0-9a-f]{40})', notes)[1]
    assert len(nginx.lines(f', build {build}, built for ')) == 1
    assert len(nginx.lines(f', from {file}')) == 1

    with urllib.request.urlopen(f'http://127.0.0.1:{nginx.port}/metrics',
                                timeout=20) as answer:
        assert f',build="{build}",'.encode() in answer.read()

    nginx.reload()
    assert not nginx.lines('was replaced')

    shutil.copyfile(file, work / 'newer.so')
    os.replace(work / 'newer.so', file)
    nginx.reload()
    assert len(nginx.lines(f'though {file} was replaced')) == 1
    assert len(nginx.lines(f', from {file}')) == 1


def test_reload_with_another_database(start_nginx, mariadb, database, journal,
                                      check):
    """What is under way ends in the old one, what is new begins in the new,
    which an operator has made the shard's; by itself none takes its place."""

    import invariants

    other = mariadb.new_database()
    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        reuseport=False)

    with Load(nginx.port, journal, clients=8, fresh=True) as load:
        load.wait(50)
        mariadb.query(f"""
            INSERT INTO {other}.payment_identity
                   (installation, shard, slots, secret)
            SELECT installation, 'renamed', slots, secret
            FROM {database}.payment_identity""")
        nginx.shards = [Shard('renamed', other, f'unix:{mariadb.socket}')]
        (nginx.dir / 'nginx.conf').write_text(nginx.config())
        nginx.reload()
        load.wait(200)

    assert not load.bad(), load.bad()[:5]
    assert mariadb.query('SELECT COUNT(*) FROM payment', database)[0][0] >= 50
    assert mariadb.query('SELECT COUNT(*) FROM payment', other)[0][0] >= 50
    invariants.check(journal, (mariadb, database), (mariadb, other))
    nginx.stop()
    mariadb.drop_database(other)


@pytest.mark.parametrize('single', [False, True])
def test_quit(start_nginx, database, mariadb, journal, check, single):
    """Under load: what was taken is answered, the connections are closed in
    order, and it does not take long."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        single=single)

    with Load(nginx.port, journal, clients=8, changes=True) as load:
        load.wait(100)
        start = time.monotonic()
        assert nginx.quit() == 0
        took = time.monotonic() - start

    # a connection that was never accepted is reset; one that was, is served
    assert {call.error or call.status for call in load.bad()} <= {
        'refused', 'reset'}, load.calls.statuses()
    assert took < 3
    assert not nginx.lines('Aborted connection')
    wait_for(lambda: not mariadb.connections(database), 5,
             'the end of the connections')
    check()


def test_quit_while_stuck(start_nginx, database, proxy, journal, check):
    """A worker that has been told to quit still finds out what became of a
    COMMIT, and tells its client."""

    nginx = start_nginx(Shard('main', database, proxy.address,
                              read_timeout='500ms'))
    ask = Client(nginx.port, journal)
    strike = proxy.strike(is_commit, 'swallow')

    answers = ask.later([ask.call()])
    strike.wait()
    assert nginx.quit() == 0

    [call] = answers.result(10)
    assert call.ok and not call.replayed, call
    check()


def test_quit_without_a_database(start_nginx, mariadb, database, journal,
                                 proxy):
    """Nothing to be had, threads under way: still a quick and orderly end."""

    proxy.black_hole()
    nginx = start_nginx(Shard('main', database, proxy.address), ready=False)
    ask = Client(nginx.port, journal)
    answers = ask.later([ask.call() for _ in range(10)])
    time.sleep(0.2)
    start = time.monotonic()
    assert nginx.quit() == 0
    assert time.monotonic() - start < 3
    assert all(call.status == 503 for call in answers.result(10))


@pytest.mark.parametrize('single', [False, True])
def test_term(start_nginx, database, mariadb, journal, check, single):
    """A fast shutdown: connections break, no half payment stays."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        single=single)

    with Load(nginx.port, journal, clients=8, changes=True) as load:
        load.wait(100)
        nginx.signal(signal.SIGTERM)
        assert nginx.process.wait(10) == 0

    nginx.stop()
    wait_for(lambda: not mariadb.connections(database), 5,
             'the end of the connections')

    again = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    check(Client(again.port, journal))


@pytest.mark.asan
def test_workers_are_killed(start_nginx, database, mariadb, journal, check):
    """kill -9 under load, again and again. Clients see a reset, ask again,
    and get the one answer."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        reuseport=False)
    ask = Client(nginx.port, journal)

    with Load(nginx.port, journal, clients=12, changes=True) as load:
        for _ in range(30 if LONG else 8):
            load.wait(40)
            nginx.kill_worker()
            wait_for(lambda: len(nginx.worker_pids()) == 2, 5,
                     'another worker')

        load.wait(40)

    assert {call.error or call.status for call in load.bad()} <= {
        'reset', 'refused', 503}, load.calls.statuses()

    # nothing of the dead stays on the server
    wait_for(lambda: len(mariadb.connections(database)) == 4, 5,
             'as many connections as there should be')
    check(ask)


def test_workers_are_stopped(start_nginx, database, mariadb, journal, check):
    """SIGSTOP for longer than a transaction may be silent, then CONT: what
    it had begun is rolled back by the server, and done again by it."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    ask = Client(nginx.port, journal)

    with Load(nginx.port, journal, clients=8, changes=True) as load:
        load.wait(50)
        pids = nginx.worker_pids()

        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

        time.sleep(3)

        for pid in pids:
            os.kill(pid, signal.SIGCONT)

        load.wait(100)

    assert {call.status for call in load.bad()} <= {503, 504}, \
        load.calls.statuses()
    check(ask)


def test_one_process(start_nginx, database, proxy, journal, check):
    """master_process off: the same, in one."""

    nginx = start_nginx(Shard('main', database, proxy.address), single=True)
    ask = Client(nginx.port, journal)
    proxy.strike(is_commit, 'after')

    with Load(nginx.port, journal, clients=8, changes=True) as load:
        load.wait(100)
        proxy.cut()
        load.wait(100)

    assert not load.bad(), load.bad()[:5]
    check(ask)
