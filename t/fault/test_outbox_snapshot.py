"""A snapshot that stays open, as that of a nightly mariadb-dump
--single-transaction: InnoDB keeps every row that was deleted since, and a
search that begins before them goes over all of them.

What is counted is the pages that the server looks at, not time."""

import time
import uuid

import pytest

from outbox import (ADMIN, COLUMNS, admin, fill,          # noqa: F401
                    general_log, judge, kafka, pending, relay, said,
                    start_outbox, topic, wait_empty, wait_leased)
from servers import wait_for
from test_outbox_helper import kill_helper
from test_outbox_kafka import dead, poison

ROWS = 150000


@pytest.fixture
def mariadb(start_mariadb):
    """In place of the one that all tests share: nobody else reads pages."""
    return start_mariadb('innodb_stats_auto_recalc = 0\n'
                         'innodb_buffer_pool_size = 128M')


def pages(mariadb):
    return int(mariadb.status('Innodb_buffer_pool_read_requests'))


@pytest.fixture
def graveyard(mariadb, database):
    """graveyard(): many events are published and deleted, and stay in
    the pages of the table; how many pages a look at them costs. So many others
    wait."""

    sessions = []

    def make(others=0):
        session = mariadb.session(database)
        sessions.append(session)
        session.cursor().execute('START TRANSACTION WITH CONSISTENT SNAPSHOT')

        events = fill(mariadb, database, ROWS, bulk=5000)
        wait_for(lambda: pending(mariadb, database) == others, 90,
                 'all published')

        return events, walk(mariadb, database)

    yield make

    for session in sessions:
        session.close()


def walk(mariadb, database):
    """The pages of a look at all rows, from the first place on: the least of
    some, since the helper may look at the same time."""

    costs = []

    for _ in range(5):
        before = pages(mariadb)
        mariadb.query('SELECT COUNT(*) FROM outbox_event', database)
        costs.append(pages(mariadb) - before)

    assert min(costs) > 1000, costs
    return min(costs)


def settled(mariadb, cost):
    """What was deleted in the last seconds is still gone over, four times a
    second and more; later there is a look and a half, once a second."""

    before = pages(mariadb)
    time.sleep(2)
    return pages(mariadb) - before < 5 * cost


def change(db, payment, version):
    db.execute(f'INSERT INTO outbox_event ({COLUMNS}) VALUES'
               f" ('payment', '{payment}', 'authorized', 'm', {version},"
               " UTC_TIMESTAMP(6), NULL, '{}')")
    return {f'{payment}:{version}': 'm'}


@pytest.fixture
def changes_are_cheap(mariadb, database):
    """changes_are_cheap(nginx, expected, cost): later versions, whose gate
    opens by a look at the head, cost about as many pages as if the table had
    always been empty."""

    def check(nginx, expected, cost):
        def dear():
            """Looks that five payments' changes cost, beyond three, and beyond
            the one each second that nobody waits for."""

            before = pages(mariadb)
            began = time.monotonic()

            with mariadb.admin(database) as db:
                for _ in range(5):
                    payment = str(uuid.uuid4())

                    for version in range(1, 11):
                        expected.update(change(db, payment, version))

                    wait_for(lambda: relay(nginx)['published']
                             == len(expected), 20, 'all published')

            looks = (pages(mariadb) - before) / cost
            took = time.monotonic() - began
            print(f'{looks:.1f} looks in {took:.1f} s')
            return looks > 3 + took

        # what was deleted in the last seconds is still gone over
        wait_for(lambda: not dear(), 30, 'payments that cost little')

    return check


@pytest.mark.timeout(240)
def test_nobody_looks_at_deleted_rows(start_outbox, mariadb, database, kafka,
                                      topic, graveyard, changes_are_cheap):
    nginx = start_outbox()
    wait_leased(nginx)
    expected, cost = graveyard()
    changes_are_cheap(nginx, expected, cost)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)


@pytest.mark.timeout(240)
def test_one_waits_before_deleted_rows(start_outbox, mariadb, database, kafka,
                                       topic, graveyard, changes_are_cheap):
    """An event that is refused waits before them, and others do not pay for
    it; and rows that come where all was known are found all the same."""

    nginx = start_outbox(retry_interval='1h',
                         kafka_property='message.max.bytes 5000')
    wait_leased(nginx)
    poison(mariadb, database)
    waiting = mariadb.query('SELECT id FROM outbox_event', database)[0][0]
    wait_for(lambda: nginx.lines('was refused'), 20, 'its refusal')
    expected, cost = graveyard(others=1)
    changes_are_cheap(nginx, expected, cost)

    # as if somebody had restored some of those that were deleted
    with mariadb.admin(database) as db:
        for number in (1, 2):
            payment = str(uuid.uuid4())
            expected[f'{payment}:1'] = 'm'
            db.execute(f'INSERT INTO outbox_event (id, {COLUMNS}) VALUES'
                       f" ({waiting + 10 * number}, 'payment', '{payment}',"
                       " 'authorized', 'm', 1, UTC_TIMESTAMP(6), NULL, '{}')")

    wait_for(lambda: pending(mariadb, database) == 1, 30, 'those, too')
    judge(kafka.messages(topic), expected, 0, 8)
    assert relay(nginx)['errors'] == 0


@pytest.mark.timeout(240)
def test_replays_over_deleted_rows(start_outbox, mariadb, database, kafka,
                                   topic, graveyard):
    """They come back under ids below all others, and are found there, by a
    return to the head."""

    nginx = start_outbox(nginx=ADMIN)
    wait_leased(nginx)
    expected, cost = graveyard()

    first = mariadb.query('SELECT AUTO_INCREMENT FROM'
                          ' information_schema.tables WHERE table_schema ='
                          f" '{database}' AND table_name = 'outbox_event'")[0][0]
    letters = []

    with mariadb.admin(database) as db:
        for number in range(10):
            payment = str(uuid.uuid4())
            letters.append(first + 10 * number)

            for version in (1, 2):
                expected[f'{payment}:{version}'] = 'm'
                db.execute(f'INSERT INTO outbox_dead (id, {COLUMNS}, reason,'
                           ' attempts, dead_at) VALUES'
                           f" ({first + 10 * number + version - 1}, 'payment',"
                           f" '{payment}', 'authorized', 'm', {version},"
                           " UTC_TIMESTAMP(6), NULL, '{}', 'test', 5,"
                           ' UTC_TIMESTAMP(3))')

    wait_for(lambda: settled(mariadb, cost), 30, 'the floor')
    rewinds = relay(nginx)['rewinds']
    before = pages(mariadb)

    for letter in letters:
        published = relay(nginx)['published']
        admin(nginx, 'replay', shard='main', id=letter)
        wait_for(lambda: relay(nginx)['published'] == published + 2, 10,
                 'the letters are published')

    looks = (pages(mariadb) - before) / cost
    assert relay(nginx)['rewinds'] >= rewinds + 10
    assert looks < 10, f'{looks:.0f} looks at all deleted rows'

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    assert dead(mariadb, database) == ()


@pytest.mark.timeout(240)
def test_emptied_behind_deleted_rows(start_outbox, mariadb, database, kafka,
                                     topic, general_log):
    """Ids that begin anew, below all that were ever seen, are found."""

    nginx = start_outbox()
    wait_leased(nginx)
    expected = fill(mariadb, database, 100, each=2)
    wait_empty(mariadb, database, 15)

    # it knows where the table begins now, and looks no further down but here
    wait_for(lambda: said(mariadb, database, 'WHERE id < ___)'), 20, 'a floor')

    mariadb.query('TRUNCATE TABLE outbox_event', database)
    expected.update(fill(mariadb, database, 100, each=2))
    wait_empty(mariadb, database, 15)
    assert nginx.lines('there are events below id')

    expected.update(fill(mariadb, database, 100, each=2))
    wait_empty(mariadb, database, 15)
    judge(kafka.messages(topic), expected, 0, 8)


@pytest.mark.timeout(240)
def test_a_limit_of_the_servers_own(start_outbox, mariadb, database, kafka,
                                    topic, graveyard):
    """A new helper has to go over all that was deleted once, however long its
    server lets a statement of other clients take."""

    nginx = start_outbox()
    wait_leased(nginx)
    expected, _ = graveyard()
    wait_empty(mariadb, database)
    began = time.monotonic()
    mariadb.query('SELECT COUNT(*) FROM outbox_event', database)
    took = time.monotonic() - began

    try:
        mariadb.query(f'SET GLOBAL max_statement_time = {took / 5:.6f}')
        kill_helper(nginx)
        wait_leased(nginx)
        expected.update(fill(mariadb, database, 10))
        wait_for(lambda: kafka.count(topic) == len(expected), 20, 'all')
    finally:
        mariadb.query('SET GLOBAL max_statement_time = 0')

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    assert relay(nginx)['errors'] == 0
