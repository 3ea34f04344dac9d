"""The archive's upkeep on bad days: it stands in nobody's way.

What was published goes on being deleted, and put into the archive, while days
that were missed are made up for, and while somebody reads the archive."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from outbox import (COLUMNS, fill, judge, kafka,          # noqa: F401
                    pending, relay, start_outbox, topic, wait_empty,
                    wait_leased)
from servers import wait_for
from test_outbox import ARCHIVE, add_archive, partitions

ROWS = 100000


def days(mariadb, *numbers):
    """The names of partitions, so many days from today."""

    return [mariadb.query("SELECT DATE_FORMAT(UTC_DATE() + INTERVAL"
                          f" {number} DAY, 'p%Y%m%d')")[0][0]
            for number in numbers]


def miss_days(mariadb, database, first, *others):
    """The archive has partitions for these days only, numbered from today, and
    for none of those that follow."""

    made = []

    for number in (first, *others):
        name = days(mariadb, number)[0]
        made.append(f'PARTITION {name} VALUES LESS THAN'
                    f" ('{name[1:5]}-{name[5:7]}-{name[7:]} 23:59:59.999')")

    mariadb.query('ALTER TABLE outbox_archive REORGANIZE PARTITION '
                  + ', '.join(partitions(mariadb, database))
                  + f" INTO ({', '.join(made)},"
                  ' PARTITION p_later VALUES LESS THAN (MAXVALUE))', database)


@contextlib.contextmanager
def waits_for_shapes(mariadb, database):
    """A list of the statements that were seen to wait for the lock of a table's
    shape; it grows as long as the context lasts."""

    waits = []
    over = threading.Event()

    def look():
        with mariadb.session('information_schema') as session:
            cursor = session.cursor()

            while not over.wait(0.02):
                cursor.execute(
                    'SELECT info FROM information_schema.processlist'
                    " WHERE db = %s AND state LIKE '%%metadata lock%%'",
                    [database])
                waits.extend(statement for statement, in cursor.fetchall())

    with ThreadPoolExecutor() as pool:
        looks = pool.submit(look)

        try:
            yield waits
        finally:
            over.set()

        looks.result()


def archived(mariadb, database, partition=''):
    return mariadb.query('SELECT COUNT(*) FROM outbox_archive'
                         + (partition and f' PARTITION ({partition})'),
                         database)[0][0]


def overflow(mariadb, database):
    return mariadb.query('SELECT COUNT(*) FROM outbox_archive_overflow',
                         database)[0][0]


def fill_archive(mariadb, database, rows, after=0):
    """Rows of yesterday and today, under ids that no event will have."""

    mariadb.query(
        f'INSERT INTO outbox_archive (id, {COLUMNS}, archived_at)'
        f' SELECT 1000000000 + {after} + seq,'
        " 'payment', UUID(), 'authorized', 'm', 1, UTC_TIMESTAMP(6), NULL,"
        " REPEAT('x', 200), UTC_TIMESTAMP(3) - INTERVAL (seq & 1) DAY"
        f' FROM seq_1_to_{rows}', database)


def keep_up(mariadb, database):
    """All the way without the helper's pauses."""

    with mariadb.admin(database) as db:
        more = 1

        while more:
            db.execute('CALL outbox_archive_upkeep()')
            db.execute('SELECT @outbox_archive_more')
            more = db.fetchone()[0]


@pytest.mark.timeout(400)
def test_missed_days(start_outbox, mariadb, database, kafka, topic):
    """The last partition is full of rows that belong into others."""

    add_archive(mariadb, database)
    miss_days(mariadb, database, -40, -3)
    fill_archive(mariadb, database, ROWS)
    nginx = start_outbox(archive='on')
    expected = {}
    longest = 0

    def moving():
        nonlocal longest
        began = time.monotonic()
        expected.update(fill(mariadb, database, 10))
        wait_empty(mariadb, database, 60)
        longest = max(longest, time.monotonic() - began)

        return set(days(mariadb, *range(8))) <= set(partitions(mariadb,
                                                               database)) \
            and archived(mariadb, database, 'p_later') == 0 \
            and archived(mariadb, database) > 10000

    wait_for(moving, 90, 'days ahead, and rows that return')
    assert longest < 2, f'nothing was deleted for {longest:.1f} s'

    nginx.stop()
    judge(kafka.messages(topic), expected, 0, 8)
    keep_up(mariadb, database)

    assert overflow(mariadb, database) == 0
    assert archived(mariadb, database) == ROWS + len(expected)
    assert archived(mariadb, database, 'p_later') == 0


def test_rows_of_an_older_schema(mariadb, database):
    """The archive has rows when its tables get another column: they are moved
    as others are, from a partition of before and from one of afterwards, and
    none of their columns is lost."""

    add_archive(mariadb, database, ARCHIVE[:2])

    for before, scripts in (0, ARCHIVE[2:]), (3000, ()):
        miss_days(mariadb, database, -3)
        fill_archive(mariadb, database, 3000, before)
        add_archive(mariadb, database, scripts)
        mariadb.query("UPDATE outbox_archive SET tracestate = CONCAT('n=', id)"
                      ' WHERE id % 3 = 0', database)
        keep_up(mariadb, database)

        assert overflow(mariadb, database) == 0
        assert archived(mariadb, database, 'p_later') == 0
        assert mariadb.query(
            'SELECT COUNT(*) FROM outbox_archive'
            " WHERE tracestate <=> IF(id % 3, NULL, CONCAT('n=', id))"
            " AND traceparent IS NULL AND payload LIKE 'xx%'"
            ' AND version = 1', database)[0][0] == before + 3000


def test_days_kept(start_outbox, mariadb, database):
    """Those that are older are dropped, and no others; not all at once, for
    commits wait for each."""

    add_archive(mariadb, database)
    miss_days(mariadb, database, -33, -32, -31, -30, -29)
    kept = days(mariadb, *range(-30, -28), *range(8)) + ['p_later']
    seen = {partitions(mariadb, database)[0]: 0}
    start_outbox(archive='on')

    def only_those_that_are_kept():
        found = partitions(mariadb, database)
        seen.setdefault(found[0], time.monotonic())
        return found == kept

    wait_for(only_those_that_are_kept, 60,
             'the partitions of the days that are kept')

    # three oldest days were dropped
    times = [*seen.values()][1:]
    assert len(times) == 3
    assert all(later - sooner > 4 for sooner, later in zip(times, times[1:]))

    mariadb.query('UPDATE outbox_archive_policy SET days_kept = 29', database)
    mariadb.query('CALL outbox_archive_upkeep()', database)
    assert partitions(mariadb, database) == kept[1:]


def test_somebody_reads_the_archive(start_outbox, mariadb, database, kafka,
                                    topic):
    """A transaction that has read it keeps its partitions from being changed:
    nobody waits for it."""

    add_archive(mariadb, database)
    miss_days(mariadb, database, -3)

    with mariadb.session(database) as reader, \
            waits_for_shapes(mariadb, database) as waits:
        reader.cursor().execute('SELECT COUNT(*) FROM outbox_archive')
        nginx = start_outbox(archive='on')
        wait_leased(nginx)

        expected = fill(mariadb, database, 100)
        wait_empty(mariadb, database)

        assert not waits
        assert not set(days(mariadb, *range(8))) & set(partitions(mariadb,
                                                                  database))
        assert relay(nginx)['errors'] == 0
        reader.rollback()

    # in an hour's rhythm, but a new helper looks at once
    nginx.reload()
    wait_for(lambda: set(days(mariadb, *range(8)))
             <= set(partitions(mariadb, database)), 20, 'the days ahead')
    judge(kafka.messages(topic), expected, 0, 8)
