"""The helper process: there once, gone in order, replaced when it is killed,
and whatever happens to it no event is lost and few come twice."""

import os
import pathlib
import signal
import time

import pytest

import servers
from client import Client, Load
from conftest import LONG
from outbox import (Writer, committed, fill, helper,      # noqa: F401
                    helpers, judge, kafka, lease, outbox, pending, relay,
                    settings, start_outbox, topic, wait_empty, wait_leased)
from servers import wait_for
from test_tls import show, tls, tls_database                      # noqa: F401

# what may be in flight when a helper is killed: payment_outbox_max_in_flight
IN_FLIGHT = 15000

# nothing more is handed out while so many wait for their deletion
UNDELETED = 8000


def kill_helper(nginx):
    """kill -9; its pid."""

    nginx.expect('exited on signal 9')
    pid = helper(nginx)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in helpers(nginx), 5, 'its end')
    return pid


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(
        stat.read_text().rpartition(')')[2].split()[0] in 'Tt'
        for stat in pathlib.Path(f'/proc/{pid}/task').glob('*/stat')),
        20, 'every thread of it to stand')


def test_there_once(start_outbox, mariadb, database):
    nginx = start_outbox()
    first = helper(nginx)
    wait_leased(nginx)

    for _ in range(5):
        old = helper(nginx)
        nginx.reload()
        wait_for(lambda: helpers(nginx) and old not in helpers(nginx), 10,
                 'the end of the old helper')

    assert len(helpers(nginx)) == 1
    assert helpers(nginx) != [first]
    assert outbox(nginx)['pid'] == helper(nginx)
    wait_leased(nginx)

    pids = helpers(nginx)
    nginx.quit()
    assert not any(servers._alive(pid) for pid in pids)
    assert not lease(mariadb, database)['owner']
    assert mariadb.query("SELECT * FROM outbox_lease WHERE name <> 'payment-outbox'",
                         database) == ()


def test_a_failed_reload_changes_nothing(start_outbox):
    nginx = start_outbox()
    wait_leased(nginx)
    before = helper(nginx)

    (nginx.dir / 'nginx.conf').write_text(
        nginx.config().replace('payment_kafka_topic', 'payment_kafka_trick'))
    nginx.expect('payment_kafka_trick')
    nginx.signal(signal.SIGHUP)
    wait_for(lambda: nginx.lines('payment_kafka_trick'), 10, 'the refusal')

    assert helpers(nginx) == [before]
    assert relay(nginx)['lease_held']


def test_killed(start_outbox, mariadb, database, kafka, topic, journal):
    """Its successor takes the lease over at once: the old one is known to be
    dead."""

    nginx = start_outbox()
    wait_leased(nginx)
    epoch = relay(nginx)['lease_epoch']

    killed = time.monotonic()
    kill_helper(nginx)
    wait_for(lambda: relay(nginx)['lease_epoch'] > epoch, 5, 'a new lease')
    assert time.monotonic() - killed < 2

    Client(nginx.port, journal).authorize()
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


def test_crash_loop_is_damped(start_outbox):
    nginx = start_outbox()

    for _ in range(6):
        wait_for(lambda: outbox(nginx)['pid'] in helpers(nginx), 5,
                 'a helper that has begun')
        kill_helper(nginx)

    wait_for(lambda: nginx.lines('6 helpers died within 30 s, starting in'
                                 ' 2000 ms'), 5, 'a delay')

    # and it does come
    wait_leased(nginx, 10)


def test_master_killed(start_outbox, mariadb, database):
    """Nobody is left behind, and the lease is given back."""

    nginx = start_outbox()
    wait_leased(nginx)
    pids = nginx.all_pids()
    mine = helper(nginx)

    nginx.process.kill()
    nginx.process.wait(5)
    wait_for(lambda: not servers._alive(mine), 5, 'the end of the helper')
    assert not lease(mariadb, database)['owner']

    for pid in pids:
        servers._kill(pid)

    nginx.process = None


def test_terminated(start_outbox, mariadb, database):
    nginx = start_outbox()
    wait_leased(nginx)
    nginx.signal(signal.SIGTERM)
    nginx.process.wait(5)
    assert not lease(mariadb, database)['owner']


@pytest.mark.parametrize('number, duplicates', [
    (signal.SIGQUIT, 0), (signal.SIGTERM, IN_FLIGHT)])
def test_ends_with_a_full_pipeline(start_outbox, mariadb, database, kafka,
                                   topic, number, duplicates):
    """What was acknowledged is deleted before it goes, and the lease is given
    back. After TERM it has one second for that, and some may come again."""

    # there before it starts: it publishes faster than the test can fill
    expected = fill(mariadb, database, 200000)
    nginx = start_outbox()
    wait_for(lambda: relay(nginx)['published'] > 1000, 20, 'some published')

    nginx.signal(number)
    nginx.process.wait(10)
    assert not lease(mariadb, database)['owner']
    assert pending(mariadb, database) > 0, 'it was over before it was stopped'
    nginx.process = None

    nginx.start()
    wait_empty(mariadb, database, 60)
    judge(kafka.messages(topic), expected, duplicates, 8)


def test_logs_are_reopened(start_outbox):
    nginx = start_outbox()
    wait_leased(nginx)
    nginx.log.rename(nginx.dir / 'old.log')
    nginx.signal(signal.SIGUSR1)
    wait_for(lambda: nginx.log.exists(), 5, 'a new log')
    nginx.expect('exited on signal 9')
    mine = helper(nginx)
    wait_for(lambda: str(nginx.log) in [
        os.path.realpath(f'/proc/{mine}/fd/{fd}')
        for fd in os.listdir(f'/proc/{mine}/fd')], 5, 'the helper has it')


def test_beside_proxy_cache(start_outbox, mariadb, database, kafka, topic):
    """The process is nginx's cache manager, and stays that."""

    nginx = start_outbox()
    nginx.http += ('\n    proxy_cache_path cache_temp keys_zone=one:1m'
                   ' manager_sleep=50ms;')
    nginx.location = ('}\n        location /cached {\n            proxy_cache'
                      ' one;\n            proxy_pass http://127.0.0.1:9;')
    (nginx.dir / 'nginx.conf').write_text(nginx.config())
    nginx.reload()

    expected = fill(mariadb, database, 1000)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    assert len(helpers(nginx)) <= 2


@pytest.mark.asan
@pytest.mark.timeout(300)
def test_reload_under_load(start_outbox, mariadb, database, kafka, topic,
                           journal):
    """No event lost, none twice, no request failed."""

    nginx = start_outbox()

    with Load(nginx.port, journal, clients=16, changes=True) as load:
        for _ in range(5):
            load.wait(300)
            nginx.reload()

        load.wait(300)

    assert not load.bad()
    wait_empty(mariadb, database, 20)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


@pytest.mark.asan
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('proved', [False, True])
def test_killed_under_load(start_outbox, mariadb, database, kafka, topic,
                           journal, proved):
    """What comes twice was with Kafka and not yet acknowledged when a helper
    was killed, or acknowledged and not yet deleted; and of neither is there
    much, also while a helper drains what has gathered before it began. Both
    with rows of which nobody has told, and with those of workers."""

    nginx = start_outbox()
    kills = 100 if LONG else 10
    in_flight = []
    undeleted = []

    def unexplained():
        """Published and not deleted, by helpers that are gone."""
        state = relay(nginx)
        return state['published'] - state['deleted']

    if proved:
        source = Load(nginx.port, journal, clients=8, changes=True)
    else:
        source = Writer(mariadb, database, threads=2, batch=10)

    with source:
        for _ in range(kills):
            # before the kill: a successor needs but milliseconds
            epoch = wait_leased(nginx, 20)['lease_epoch']
            before = sum(undeleted)

            # standing still, all of it, its gauges can be asked
            stop(helper(nginx))
            in_flight.append(relay(nginx)['in_flight'])
            undeleted.append(unexplained() - before)
            kill_helper(nginx)
            wait_for(lambda: relay(nginx)['lease_epoch'] > epoch, 20,
                     'the next one has the lease')
            source.wait(200)

    assert max(undeleted) <= UNDELETED + IN_FLIGHT

    wait_empty(mariadb, database, 60)
    expected = committed(mariadb, database) if proved else source.expected
    repeats = judge(kafka.messages(topic), expected,
                    sum(in_flight) + sum(undeleted), 8)
    print(f'{kills} kills, {len(expected)} events, {repeats} repeats:'
          f' {sum(in_flight)} were in flight, {max(in_flight)} at most,'
          f' and {sum(undeleted)} not deleted, {max(undeleted)} at most')


@pytest.mark.timeout(300)
@pytest.mark.parametrize('debian', [False, True])
def test_binary_upgrade(start_outbox, mariadb, database, kafka, topic,
                        journal, debian):
    """USR2, WINCH, QUIT of the old: both helpers live for a while; or USR2 and
    QUIT, as Debian's packages do it."""

    nginx = start_outbox(nginx=dict(module=servers.MODULES))
    wait_leased(nginx, 20)

    with Load(nginx.port, journal, clients=8, fresh=True) as load:
        load.wait(200)
        nginx.upgrade(between=lambda: load.wait(200), debian=debian)

    wait_empty(mariadb, database, 40)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)
    assert not load.bad()


@pytest.mark.timeout(300)
def test_binary_upgrade_and_back(start_outbox, mariadb, database, kafka, topic,
                                 journal):
    """HUP to the old master, whose workers were sent away, and QUIT to the new
    one: the old one goes on."""

    nginx = start_outbox(nginx=dict(module=servers.MODULES))
    wait_leased(nginx, 20)
    old = nginx.process

    with Load(nginx.port, journal, clients=8, fresh=True) as load:
        load.wait(200)
        nginx.signal(signal.SIGUSR2)
        nginx.process = new = servers.Daemon(nginx._master(other_than=old.pid))
        wait_for(nginx._listens, 20, 'the new workers')
        nginx.process = old
        nginx.signal(signal.SIGWINCH)
        load.wait(200)

        nginx.signal(signal.SIGHUP)
        wait_for(nginx._listens, 20, 'the old workers')
        new.send_signal(signal.SIGQUIT)
        new.wait(20)
        wait_for(lambda: nginx._master() == old.pid, 20, 'the old master')
        load.wait(200)

    wait_leased(nginx, 20)
    wait_empty(mariadb, database, 40)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)
    assert not load.bad()


@pytest.mark.asan
def test_quit_while_connecting(start_nginx, kafka, topic, tls,  # noqa: F811
                               tls_database, start_proxy):      # noqa: F811
    """The helper's threads are in their handshakes when it ends: it waits for
    none of them, and none of them touches what is gone."""

    show(tls, 'good')
    proxy = start_proxy(('127.0.0.1', tls.port))
    proxy.delay = 0.02

    for i in range(12):
        accepted = proxy.accepted
        nginx = start_nginx(
            servers.Shard('main', tls_database, proxy.address, ssl='on',
                          ssl_ca=tls.certs / 'ca.crt', connections=1),
            http=settings(kafka, topic), ready=False, workers=1)
        pid = helper(nginx)
        wait_for(lambda: proxy.accepted >= accepted + 2, 10, 'connections')
        time.sleep(0.02 * i)
        os.kill(pid, signal.SIGQUIT)
        wait_for(lambda: not servers._alive(pid), 5, 'the end of the helper')
        nginx.stop()
