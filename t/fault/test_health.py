"""payment_health tells whether this node can take a payment: within 2 s of the
change, both ways, for what ails the database, and never for what ails Kafka.
"""

import json
import signal
import socket
import time
import urllib.error
import urllib.request

import pytest

from client import Client, Load
from outbox import (committed, free_lease, judge,         # noqa: F401
                    kafka, settings, start_outbox, topic, wait_empty,
                    wait_leased)
from servers import Shard, merchant, wait_for
from test_outbox_kafka import QUICK
from test_primary import standby                                  # noqa: F401

WITHIN = 2                              # seconds

LOCATIONS = """}
        location = /health { payment_health; }
        location = /live { payment_health live; }
        location = /any { payment_health ready any; }
        location = /all { payment_health ready all; }
        location = /outbox { payment_outbox_admin;
"""


def get(nginx, path='/health', data=None):
    request = urllib.request.Request(
        f'http://127.0.0.1:{nginx.port}{path}', data,
        {'Content-Type': 'application/json'})

    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as answer:
        status, text = answer.code, answer.read()

    return status, json.loads(text)


def becomes(nginx, status, path='/health', seconds=WITHIN):
    """The JSON, once the status is there."""

    wait_for(lambda: get(nginx, path)[0] == status, seconds,
             f'{path} to be {status}: {get(nginx, path)}')
    return get(nginx, path)[1]


def details_of_main(nginx):
    shards = get(nginx)[1]['components']['db']['components']
    return shards['main']['details']


@pytest.fixture
def ailing(start_nginx, database, proxy):
    """An nginx that was healthy, behind the proxy."""

    nginx = start_nginx(Shard('main', database, proxy.address,
                              read_timeout='1500ms'),
                        location=LOCATIONS, reuseport=False)
    state = becomes(nginx, 200)
    assert state['status'] == 'UP'
    assert state['components']['db'] == {
        'status': 'UP', 'components': {'main': {
            'status': 'UP', 'details': {'server': proxy.address,
                                        'connections': 4}}}}
    assert 'outbox' not in state['components']
    return nginx


@pytest.mark.parametrize('away', [0, 5])
def test_database_away(ailing, proxy, away):
    """However long it was away: the pauses between tries are short."""

    proxy.refuse()
    state = becomes(ailing, 503)
    assert state['status'] == state['components']['db']['status'] == 'DOWN'
    assert state['reason'] == 'no shard can be used'
    wait_for(lambda: details_of_main(ailing) == {
        'server': proxy.address, 'connections': 0,
        'reason': 'the server cannot be reached'}, WITHIN, 'the reason')

    end = time.monotonic() + away
    while time.monotonic() < end:
        assert get(ailing)[0] == 503
        assert get(ailing, '/live') == (200, {'status': 'UP'})
        time.sleep(0.1)

    proxy.accept()
    assert becomes(ailing, 200)['status'] == 'UP'

    [shard] = ailing.status()['shards']
    assert shard['last_error']['code'] in (2002, 2003, 2013)
    assert abs(shard['last_error']['at_ms'] / 1000 - time.time()) < away + 5


@pytest.mark.parametrize('seconds', [0, 5])
def test_database_hangs(ailing, proxy, seconds):
    """Its connections stay open, or open and are not greeted, and no payment
    comes that would notice."""

    proxy.black_hole()
    becomes(ailing, 503)
    assert details_of_main(ailing)['reason'] == 'the server does not answer'

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert get(ailing)[0] == 503
        time.sleep(0.1)

    proxy.heal()
    becomes(ailing, 200)


@pytest.mark.parametrize('payments', [True, False])
def test_read_only_everywhere(ailing, mariadb, journal, payments):
    """The first payment notices, and where none comes, an idle connection; and
    so does one worker for all."""

    ask = Client(ailing.port, journal)

    try:
        mariadb.query('SET GLOBAL read_only = 1')
        assert not payments or ask.authorize().status == 503
        becomes(ailing, 503)
        wait_for(lambda: details_of_main(ailing)['reason']
                 == 'the server takes no writes', WITHIN, 'the reason')
    finally:
        mariadb.query('SET GLOBAL read_only = 0')

    becomes(ailing, 200)
    wait_for(lambda: ask.authorize().ok, WITHIN, 'a payment')


@pytest.mark.parametrize('servers', [1, 2])
def test_frozen(start_nginx, mariadb, standby, database, proxy, servers):
    """No server has the payments, for a switch that was not finished, and no
    payment comes that would notice."""

    def change(server, status):
        mariadb.query('UPDATE payment_topology SET epoch = epoch + 1,'
                      f' server_id = {server}', database)
        state = becomes(nginx, status)
        wait_for(lambda: nginx.status()['shards'][0]['primary_known']
                 == (status == 200), WITHIN, 'the gauge')
        return state

    nginx = start_nginx(Shard('main', database,
                              [proxy.address,
                               f'unix:{standby.socket}'][:servers]),
                        location=LOCATIONS)
    becomes(nginx, 200)

    # the first claim, and one after a claim
    for _ in range(2):
        state = change('0', 503)
        assert state['reason'] == 'no shard can be used'
        wait_for(lambda: details_of_main(nginx)['reason']
                 == 'no server has the payments', WITHIN, 'the reason')
        change('@@global.server_id', 200)

    nginx.wait_connected()
    assert Client(nginx.port).authorize().ok


def test_wrong_schema(ailing, mariadb, database):
    def newest(version, kind):
        mariadb.query(f"UPDATE payment_schema_version SET version = {version},"
                      f" kind = '{kind}' ORDER BY version DESC LIMIT 1",
                      database)
        mariadb.kill_connections(database)

    newest('version + 900', 'contract')
    becomes(ailing, 503)
    wait_for(lambda: details_of_main(ailing)['reason']
             == 'the schema has another version', WITHIN, 'the reason')
    newest('version - 900', 'expand')
    becomes(ailing, 200)


@pytest.mark.parametrize('signal_of', [signal.SIGQUIT, signal.SIGHUP])
def test_worker_that_shuts_down(ailing, signal_of):
    """It answers what it has begun to read, and says that it leaves."""

    with socket.create_connection(('127.0.0.1', ailing.port)) as probe:
        probe.sendall(b'GET /health HTTP/1.1\r\nHost: x\r\n')

        # the worker that took it has read this much when it shows it
        wait_for(lambda: ailing.status()['nginx']['clients']['reading'] >= 1,
                 5, 'the probe being read')
        old = set(ailing.worker_pids())
        ailing.signal(signal_of)
        wait_for(lambda: not old & set(ailing.worker_pids()), 5,
                 'workers that shut down')
        probe.sendall(b'Connection: close\r\n\r\n')
        probe.settimeout(5)
        answer = b''

        while part := probe.recv(65536):
            answer += part

    head, _, body = answer.partition(b'\r\n\r\n')
    assert head.startswith(b'HTTP/1.1 503'), answer
    assert json.loads(body)['status'] == 'OUT_OF_SERVICE'
    assert json.loads(body)['reason'] == 'this worker is shutting down'


def test_old_workers_do_not_count(ailing, database, proxy):
    """After a reload to a login that is refused, workers of before still have
    their connections, and take no new payment."""

    with socket.create_connection(('127.0.0.1', ailing.port)) as slow:
        slow.sendall(b'GET /health HTTP/1.1\r\nHost: x\r\n')
        wait_for(lambda: ailing.status()['nginx']['clients']['reading'] >= 1,
                 5, 'the request being read')

        ailing.shards = [Shard('main', database, proxy.address,
                               password='wrong')]
        (ailing.dir / 'nginx.conf').write_text(ailing.config())
        ailing.reload()

        wait_for(lambda: 'the login is refused' in json.dumps(get(ailing)[1]),
                 5, 'the refusal')
        assert get(ailing)[0] == 503
        assert ailing.status()['shards'][0]['connections_open'] > 0


def test_drained(ailing):
    """By an operator, until told otherwise: also through a reload."""

    status, state = get(ailing, '/outbox', b'{"action":"drain"}')
    assert status == 200 and state['draining'] is True
    assert get(ailing, '/outbox')[1]['draining'] is True
    assert ailing.status()['nginx']['draining'] is True

    status, state = get(ailing)
    assert (status, state['status']) == (503, 'OUT_OF_SERVICE')
    assert state['reason'] == 'an operator has drained the node'
    assert state['components']['db']['status'] == 'UP'
    assert get(ailing, '/live')[0] == 200

    # who was sent here all the same is served
    assert Client(ailing.port).authorize().ok

    ailing.reload()
    assert get(ailing)[0] == 503

    assert get(ailing, '/outbox', b'{"action":"undrain"}')[1][
        'draining'] is False
    becomes(ailing, 200)


@pytest.mark.timeout(300)
def test_a_node_leaves_under_load(start_nginx, mariadb, database, journal,
                                  kafka, topic):                  # noqa: F811
    """Two nodes; the one that publishes is drained, who has heard of it goes to
    the other one, and then it is told to quit: as a balancer does it, and
    Kubernetes with preStop. No request fails, and no event comes twice."""

    def start():
        return start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                           http=settings(kafka, topic), location=LOCATIONS,
                           reuseport=False)

    free_lease(mariadb, database)
    leaving = start()
    wait_leased(leaving, 20)
    staying = start()
    first, second = [Load(node.port, journal, clients=4, fresh=True,
                          changes=True) for node in (leaving, staying)]

    with second:
        with first:
            first.wait(100)
            assert get(leaving, '/outbox', b'{"action":"drain"}')[0] == 200
            assert get(leaving)[0] == 503
            first.wait(50)

        assert leaving.quit() == 0
        second.wait(100)

    assert not first.bad() + second.bad(), (first.bad() + second.bad())[:5]
    wait_leased(staying, 5)
    wait_empty(mariadb, database, 40)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


def test_one_shard_of_two(start_nginx, mariadb, database, proxy, start_proxy):
    """any goes on with the other one, all does not."""

    other = mariadb.new_database()
    far = start_proxy(mariadb.socket)
    nginx = start_nginx([Shard('one', database, proxy.address, '0-511'),
                         Shard('two', other, far.address, '512-1023')],
                        location=LOCATIONS)

    try:
        becomes(nginx, 200, '/all')
        far.refuse()
        state = becomes(nginx, 503, '/all')
        assert state['reason'] == 'not every shard can be used'
        assert state['components']['db']['status'] == 'DOWN'

        for path in ('/any', '/health'):
            status, state = get(nginx, path)
            assert (status, state['status']) == (200, 'UP')
            assert state['components']['db']['status'] == 'DEGRADED'
            assert [shard['status'] for shard in
                    state['components']['db']['components'].values()] \
                == ['UP', 'DOWN']

        assert Client(nginx.port).authorize(merchant=merchant((0, 511))).ok

        proxy.refuse()
        becomes(nginx, 503, '/any')
        far.accept()
        proxy.accept()
        becomes(nginx, 200, '/all')
    finally:
        nginx.stop()
        mariadb.drop_database(other)


def test_without_kafka(start_outbox, mariadb, database, kafka,    # noqa: F811
                       topic):                                    # noqa: F811
    """Payments go on without it, and so does the balancer."""

    nginx = start_outbox(nginx=dict(location=LOCATIONS), **QUICK)
    wait_leased(nginx)
    wait_for(lambda: get(nginx)[1]['components']['outbox']
             == {'status': 'UP'}, 10, 'Kafka')
    breaker = get(nginx)[1]['components']['circuitBreakers']
    assert breaker['status'] == 'UP'
    details = breaker['details']['kafka-publisher']['details']
    assert details['state'] == 'CLOSED'
    assert details['failureRateThreshold'] == '50.00%'
    assert details['failureRate'] == '-1.0%'

    ask = Client(nginx.port)
    kafka.stop()

    def degraded():
        assert ask.authorize().ok
        status, state = get(nginx)
        assert (status, state['status']) == (200, 'UP')
        parts = state['components']
        return (parts['outbox'].get('details', {}).get('reason')
                == 'no broker of Kafka can be reached'
                and parts['circuitBreakers']['status'] == 'CIRCUIT_OPEN')

    try:
        wait_for(degraded, 30, 'DEGRADED and CIRCUIT_OPEN')
    finally:
        kafka.start()


def test_paused(start_outbox, mariadb, database, kafka,            # noqa: F811
                topic):                                           # noqa: F811
    nginx = start_outbox(nginx=dict(location=LOCATIONS))
    wait_leased(nginx)
    get(nginx, '/outbox', b'{"action":"pause"}')
    status, state = get(nginx)
    assert (status, state['status']) == (200, 'UP')
    assert state['components']['outbox'] == {
        'status': 'DEGRADED',
        'details': {'reason': 'an operator has paused publishing'}}
