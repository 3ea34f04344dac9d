"""Two nodes and the lease between them; databases that go away under it."""

import collections
import os
import signal
import time
import uuid

import pymysql
import pytest

import servers
from client import Load
from outbox import (Writer, committed, fill, free_lease,  # noqa: F401
                    general_log, helper, helpers, judge, kafka, lease, outbox,
                    pending, relay, said, settings, start_outbox, topic,
                    wait_empty, wait_leased)
from conftest import LONG
from servers import wait_for
from test_outbox import add_archive
from test_outbox_helper import kill_helper

IN_FLIGHT = 15000
SHORT = dict(lock_at_most_for='3s')


def holders(*nodes, shard=0):
    return [node for node in nodes if relay(node, shard)['lease_held']]


def epochs_in_order(messages, slack):
    """I10: an older epoch is not seen after a newer one's first event, but for
    slack events. How many were."""

    stale = 0
    latest = collections.defaultdict(int)

    for message in messages:
        stale += message.epoch < latest[message.partition]
        latest[message.partition] = max(latest[message.partition],
                                        message.epoch)

    assert stale <= slack, f'I10: {stale} events of an old epoch'
    return stale


@pytest.fixture
def two_nodes(start_outbox, start_nginx, mariadb, database, kafka, topic):
    """two_nodes(..): two instances on one shard."""

    def start(**changes):
        first = start_outbox(**changes)
        wait_leased(first)
        second = start_nginx(
            servers.Shard('main', database, f'unix:{mariadb.socket}'),
            http=settings(kafka, topic, **changes))
        return first, second

    return start


def test_one_publishes(two_nodes, mariadb, database, kafka, topic):
    first, second = two_nodes()

    with Writer(mariadb, database, threads=2) as writer:
        writer.wait(2000)

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), writer.expected, 0, 8)
    assert holders(first, second) == [first]
    assert relay(second)['published'] == 0


def test_graceful_stop(two_nodes, mariadb, database, kafka, topic):
    """The other one has the lease within a second."""

    first, second = two_nodes()

    with Writer(mariadb, database, threads=2) as writer:
        writer.wait(500)
        time.sleep(1)                     # payment_outbox_lock_at_least_for
        first.signal(signal.SIGQUIT)
        wait_for(lambda: not lease(mariadb, database)['owner']
                 or holders(second), 10, 'the lease is given back')
        released = time.monotonic()
        wait_for(lambda: holders(second), 5, 'it is taken')
        assert time.monotonic() - released < 1
        writer.wait(500)

    first.process.wait(10)
    wait_empty(mariadb, database)
    messages = kafka.messages(topic)
    judge(messages, writer.expected, 0, 8)
    epochs_in_order(messages, 0)
    first.process = None


def test_node_killed(two_nodes, mariadb, database, kafka, topic):
    """kill -9 of everything: the other one takes over when the lease is up."""

    first, second = two_nodes(**SHORT)

    with Writer(mariadb, database, threads=2) as writer:
        writer.wait(500)

        for pid in first.all_pids():
            servers._kill(pid)

        killed = time.monotonic()
        wait_for(lambda: holders(second), 10, 'it is taken')
        assert time.monotonic() - killed < 3 + 1
        writer.wait(500)

    wait_empty(mariadb, database)
    messages = kafka.messages(topic)
    judge(messages, writer.expected, IN_FLIGHT, 8)
    epochs_in_order(messages, IN_FLIGHT)
    first.process.wait(5)
    first.process = None


@pytest.mark.timeout(3600)
def test_holders_killed_in_turn(two_nodes, mariadb, database, kafka, topic):
    """kill -9 of the holder's helper, again and again: whoever comes first
    goes on, the next helper of that node or the other one."""

    nodes = two_nodes(**SHORT)
    kills = 100 if LONG else 5

    with Writer(mariadb, database, threads=2, batch=10) as writer:
        for _ in range(kills):
            writer.wait(200)
            node = wait_for(lambda: holders(*nodes), 20, 'a holder')[0]
            epoch = lease(mariadb, database)['epoch']
            kill_helper(node)
            wait_for(lambda: lease(mariadb, database)['epoch'] > epoch, 20,
                     'the next holder')

        writer.wait(200)

    wait_empty(mariadb, database, 60)
    messages = kafka.messages(topic)
    repeats = judge(messages, writer.expected, IN_FLIGHT * kills, 8)
    epochs_in_order(messages, IN_FLIGHT * kills)
    print(f'{kills} kills, {len(writer.expected)} events, {repeats} repeats')


@pytest.mark.timeout(200)
def test_frozen_beyond_the_lease(two_nodes, mariadb, database, kafka, topic):
    """SIGSTOP for longer than the lease, then CONT: it deletes nothing that is
    the other's, and publishes no more than it had handed out."""

    first, second = two_nodes(**SHORT)

    with Writer(mariadb, database, threads=2) as writer:
        for round in range(3):
            node, other = (first, second) if holders(first) \
                else (second, first)
            writer.wait(500)
            frozen = helper(node)
            os.kill(frozen, signal.SIGSTOP)
            wait_for(lambda: holders(other), 10, 'the other one has it')
            epoch = relay(other)['lease_epoch']
            writer.wait(500)
            os.kill(frozen, signal.SIGCONT)
            wait_for(lambda: not holders(node), 5, 'the frozen one knows')
            writer.wait(500)
            assert relay(other)['lease_epoch'] == epoch
            assert holders(first, second) == [other]
            wait_for(lambda: node.lines('lease lost'), 5, 'a line in its log')

    wait_empty(mariadb, database)
    messages = kafka.messages(topic)
    repeats = judge(messages, writer.expected, 3 * IN_FLIGHT, 8)
    stale = epochs_in_order(messages, 3 * IN_FLIGHT)
    print(f'{repeats} repeats, {stale} of an old epoch')


def test_alone_and_frozen(start_outbox, mariadb, database, kafka, topic):
    """The only node's helper is stopped for longer than the lease, while events
    are written, and goes on: it publishes them at once, each once."""

    nginx = start_outbox(**SHORT)
    wait_leased(nginx)
    expected = fill(mariadb, database, 10)
    wait_empty(mariadb, database)

    frozen = helper(nginx)
    os.kill(frozen, signal.SIGSTOP)

    try:
        expected.update(fill(mariadb, database, 20))
        time.sleep(4)
    finally:
        os.kill(frozen, signal.SIGCONT)

    wait_leased(nginx, 5)
    expected.update(fill(mariadb, database, 10))
    wait_empty(mariadb, database, 5)
    judge(kafka.messages(topic), expected, 0, 8)


def test_row_deleted(start_outbox, mariadb, database, kafka, topic):
    nginx = start_outbox(**SHORT)
    epoch = wait_leased(nginx)['lease_epoch']

    with Writer(mariadb, database, threads=1) as writer:
        writer.wait(200)
        mariadb.query("DELETE FROM outbox_lease", database)
        wait_for(lambda: relay(nginx)['leases_lost'] == 1, 5, 'the loss')
        wait_for(lambda: relay(nginx)['lease_epoch'] > epoch, 15,
                 'a new one, of a higher epoch')
        writer.wait(200)

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), writer.expected, IN_FLIGHT, 8)


def test_held_by_the_dead(start_outbox, mariadb, database, kafka, topic):
    """Somebody unknown has it: it is waited for, and no longer."""

    free_lease(mariadb, database)
    mariadb.query("UPDATE outbox_lease SET epoch = 41, owner_uuid = 'x',"
                  " lock_until = UTC_TIMESTAMP(3) + INTERVAL 3 SECOND",
                  database)
    expected = fill(mariadb, database, 100)
    nginx = start_outbox()
    time.sleep(1.5)
    assert not relay(nginx)['lease_held']
    assert pending(mariadb, database) == 100
    wait_leased(nginx, 5)
    assert relay(nginx)['lease_epoch'] == 42
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)


def test_row_locked(start_outbox, mariadb, database, kafka, topic):
    """A transaction of somebody holds the lease's row for longer than the
    lease: publishing stops in time and goes on afterwards."""

    nginx = start_outbox(**SHORT)
    wait_leased(nginx)
    fence = mariadb.session(database)
    fence.cursor().execute("SELECT * FROM outbox_lease FOR UPDATE")
    time.sleep(3.5)
    before = kafka.count(topic)
    expected = fill(mariadb, database, 100)
    time.sleep(0.5)
    assert kafka.count(topic) == before
    fence.rollback()
    fence.close()
    wait_empty(mariadb, database, 20)
    judge(kafka.messages(topic), expected, 0, 8)


def test_stuck_transaction(start_outbox, mariadb, database, kafka, topic):
    """An insertion that isn't committed for long stops nobody."""

    nginx = start_outbox()
    wait_leased(nginx)
    late = uuid.uuid4()
    stuck = mariadb.session(database)
    stuck.cursor().execute(
        "INSERT INTO outbox_event (aggregatetype, aggregateid, type,"
        " merchant_id, version, created_at, payload) VALUES ('payment',"
        f" '{late}', 'authorized', 'm', 1, UTC_TIMESTAMP(6), '{{}}')")
    expected = {}

    for n in (1, 3, 17, 100, 500):
        expected.update(fill(mariadb, database, n))
        wait_empty(mariadb, database)

    stuck.commit()
    expected[f'{late}:1'] = 'm'
    wait_for(lambda: kafka.count(topic) == len(expected), 30, 'the late one')
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    assert relay(nginx)['errors'] == 0


@pytest.mark.timeout(300)
def test_database_killed(start_outbox, mariadb, database, kafka, topic,
                         journal):
    nginx = start_outbox(**SHORT)

    with Load(nginx.port, journal, clients=8, changes=True, patience=40) \
            as load:
        for wait in (0, 1, 4):
            load.wait(300)
            mariadb.kill()
            time.sleep(wait)
            mariadb.start()
            load.wait(100, 60)

    wait_empty(mariadb, database, 30)
    judge(kafka.messages(topic), committed(mariadb, database), 3 * IN_FLIGHT, 8)


@pytest.mark.asan
def test_connections_killed(start_outbox, mariadb, database, kafka, topic):
    nginx = start_outbox()
    wait_leased(nginx)

    with Writer(mariadb, database, threads=2) as writer:
        for _ in range(10):
            writer.wait(200)
            mariadb.kill_connections(database)

    wait_empty(mariadb, database, 30)
    judge(kafka.messages(topic), writer.expected, 0, 8)


@pytest.mark.asan
@pytest.mark.parametrize('archive', ['off', 'on'])
def test_statements_killed(start_outbox, mariadb, database, kafka, topic,
                           archive):
    """Statements are killed, as a server with a max_statement_time does it.
    MariaDB reports a DELETE that was killed while it was planned, which many
    single ids make long, as done, with no rows: no event comes again for it,
    and none is in two tables."""

    add_archive(mariadb, database)
    nginx = start_outbox(archive=archive)
    wait_leased(nginx)
    expected = {}

    with mariadb.admin() as db:
        for _ in range(4):
            expected.update(fill(mariadb, database, 2000, 2, step=3))
            idents = mariadb.connections(database, db)
            end = time.monotonic() + 3

            while pending(mariadb, database) and time.monotonic() < end:
                for ident in idents:
                    try:
                        db.execute(f'KILL QUERY {ident}')
                    except pymysql.Error:
                        pass          # it went by itself

    wait_empty(mariadb, database, 30)
    judge(kafka.messages(topic), expected, 0, 8)

    if archive == 'on':
        rows = mariadb.query("SELECT CONCAT(aggregateid, ':', version),"
                             ' merchant_id FROM outbox_archive', database)
        assert len(rows) == len(expected) and dict(rows) == expected


@pytest.mark.timeout(200)
def test_two_shards_two_nodes(start_outbox, start_nginx, mariadb, database,
                              kafka, topic):
    """Each publishes one; either gone, the other has both; back, one each."""

    other = mariadb.new_database()
    free_lease(mariadb, other)
    shards = [servers.Shard('one', database, f'unix:{mariadb.socket}', '0-511'),
              servers.Shard('two', other, f'unix:{mariadb.socket}',
                            '512-1023')]

    def held(node):
        return [i for i in (0, 1) if relay(node, i)['lease_held']]

    try:
        first = start_outbox(shards, **SHORT)
        wait_for(lambda: held(first) == [0, 1], 10, 'both at the first')
        second = start_nginx(shards, http=settings(kafka, topic, **SHORT))
        wait_for(lambda: len(held(first)) == 1 and len(held(second)) == 1
                 and held(first) != held(second), 20, 'one each')

        for pid in first.all_pids():
            servers._kill(pid)

        first.process.wait(5)
        wait_for(lambda: held(second) == [0, 1], 6, 'both at the second')

        expected = fill(mariadb, database, 500)
        expected.update(fill(mariadb, other, 500))
        wait_empty(mariadb, database)
        wait_empty(mariadb, other)

        first.start()
        wait_for(lambda: len(held(first)) == 1 and len(held(second)) == 1,
                 20, 'one each again')

        expected.update(fill(mariadb, database, 500))
        expected.update(fill(mariadb, other, 500))
        wait_empty(mariadb, database)
        wait_empty(mariadb, other)
        judge(kafka.messages(topic), expected, 0, 8)
    finally:
        for node in (first, second):
            node.stop()
        mariadb.drop_database(other)


def test_a_bell_wakes_its_own_shard(start_outbox, mariadb, database,
                                    general_log, journal):
    """Changes of one shard's payments make the helper read that shard and no
    other. (New payments are told of, and are not read at once.)"""

    other = mariadb.new_database()
    free_lease(mariadb, other)
    shards = [servers.Shard('one', database, f'unix:{mariadb.socket}', '0-511'),
              servers.Shard('two', other, f'unix:{mariadb.socket}',
                            '512-1023')]

    try:
        nginx = start_outbox(shards, poll_interval='2s')
        wait_for(lambda: relay(nginx, 0)['lease_held']
                 and relay(nginx, 1)['lease_held'], 10, 'both leases')
        began = time.monotonic()

        with Load(nginx.port, journal, clients=2, pause=0.01, changes=True,
                  merchant=servers.merchant((0, 511))) as load:
            load.wait(200)

        wait_empty(mariadb, database)
        read = 'FROM outbox_event WHERE id >'
        assert said(mariadb, database, read) >= 20
        assert said(mariadb, other, read) <= time.monotonic() - began + 5
    finally:
        nginx.stop()
        mariadb.drop_database(other)


def test_a_standby_locks_nothing(two_nodes, mariadb, database, general_log):
    """Who waits for the lease looks at it, and takes it when it is free."""

    first, second = two_nodes()
    wait_for(lambda: said(mariadb, database, 'SELECT lock_until <= %'
                          ' FROM outbox_lease WHERE name') >= 10,
             20, 'a node that waits')
    assert said(mariadb, database, 'LAST_INSERT_ID(epoch + 1)') <= 2
    assert holders(first, second) == [first]


def test_a_standby_reads_nothing(two_nodes, mariadb, database, general_log,
                                 journal):
    """Only the holder looks for events: once each poll interval while nobody
    commits any here, and once more each second, for what the other node
    commits."""

    read = 'FROM outbox_event WHERE id > % ORDER BY'
    first, second = two_nodes(poll_interval='200ms')
    assert holders(first, second) == [first]

    began = time.monotonic()
    before = said(mariadb, database, read)

    with Load(second.port, journal, clients=2, pause=0.02) as load:
        wait_for(lambda: said(mariadb, database, read) >= before + 20, 30,
                 'twenty reads')

    reads = said(mariadb, database, read) - before
    seconds = time.monotonic() - began
    assert reads <= seconds / 0.2 + 1 + seconds + 1
    assert load.good() > 20

    assert said(mariadb, database, read, 'COUNT(DISTINCT thread_id)') == 1


def test_ingest_only(mariadb, database, kafka, topic, start_nginx, journal):
    """payment_outbox off: no helper, and the events wait."""

    nginx = start_nginx(
        servers.Shard('main', database, f'unix:{mariadb.socket}'),
        http=settings(kafka, topic) + '\n    payment_outbox off;')

    with Load(nginx.port, journal, clients=2) as load:
        load.wait(50)

    assert helpers(nginx) == []
    assert pending(mariadb, database) == load.good()
