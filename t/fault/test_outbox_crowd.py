"""What many shards and many nodes cost while there is nothing to do: memory of
the helper, statements of the database. With -s the numbers are printed."""

import re
import time

import pytest

import servers
from outbox import (fill, free_lease, helper, judge,      # noqa: F401
                    kafka, relay, settings, start_outbox, topic, wait_empty,
                    wait_leased)
from servers import wait_for

SHARDS = 64
NODES = 20


@pytest.fixture
def mariadb(start_mariadb):
    """In place of the one that all tests share: nobody else asks it."""
    return start_mariadb('max_connections = 400\ntable_open_cache = 4000\n'
                         'innodb_stats_auto_recalc = 0')


def memory_kb(pid, what='RssAnon'):
    with open(f'/proc/{pid}/status') as file:
        return int(re.search(rf'{what}:\s+(\d+)', file.read())[1])


def statements(mariadb, seconds):
    """So many a second, and of them those that commit something."""

    def asked():
        return [int(mariadb.status(name)) for name in
                ('Questions', 'Handler_write', 'Handler_update')]

    began = time.monotonic()
    before = asked()
    time.sleep(seconds)
    after = asked()
    elapsed = time.monotonic() - began

    return [(b - a) / elapsed for a, b in zip(before, after)]


@pytest.mark.timeout(300)
def test_many_shards(mariadb, kafka, topic, start_nginx):
    """A helper with 64 shards: memory comes with events, and no table is asked
    more than some times a poll interval."""

    databases = [mariadb.new_database() for _ in range(SHARDS)]
    free_lease(mariadb, *databases)
    width = 1024 // SHARDS
    shards = [servers.Shard(f's{i}', database, f'unix:{mariadb.socket}',
                            slots=f'{i * width}-{(i + 1) * width - 1}',
                            connections=1)
              for i, database in enumerate(databases)]
    nginx = start_nginx(shards, workers=1, http=settings(kafka, topic))

    wait_for(lambda: all(relay(nginx, i)['lease_held'] for i in range(SHARDS)),
             60, 'all leases')

    pid = helper(nginx)
    idle_kb = memory_kb(pid)

    # the looks of the beginning are over
    wait_for(lambda: statements(mariadb, 2)[0] < 50 * SHARDS, 30,
             'not many statements')
    rate = statements(mariadb, 5)[0] / SHARDS

    expected = fill(mariadb, databases[0], 30000)
    wait_empty(mariadb, databases[0], 60)
    judge(kafka.messages(topic), expected, 0, 8)
    full_kb = memory_kb(pid)

    print(f'\n{SHARDS} shards: {rate:.0f} statements a second and shard;'
          f' {idle_kb // 1024} MB, {full_kb // 1024} MB after a backlog in one')

    assert idle_kb < 1024 * SHARDS
    assert full_kb - idle_kb < 100 * 1024
    assert rate < 50


@pytest.mark.timeout(300)
def test_many_nodes(mariadb, database, kafka, topic, start_nginx):
    """20 nodes, of which one has the lease: each of the others asks for it,
    and tells that it lives."""

    free_lease(mariadb, database)
    nodes = [start_nginx(servers.Shard('main', database,
                                       f'unix:{mariadb.socket}', connections=1),
                         workers=1, http=settings(kafka, topic))
             for _ in range(NODES)]

    wait_for(lambda: sum(relay(node)['lease_held'] for node in nodes) == 1, 20,
             'one holder')
    wait_for(lambda: mariadb.query(
        "SELECT COUNT(*) FROM outbox_lease WHERE name LIKE 'node/%'",
        database)[0][0] == NODES, 20, 'every node')

    rate, inserts, updates = statements(mariadb, 5)
    print(f'\n{NODES} nodes: {rate:.0f} statements a second,'
          f' {inserts + updates:.0f} rows written')

    assert rate < 12 * NODES + 50
    assert inserts + updates < 4 * NODES

    expected = fill(mariadb, database, 1000)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
