"""Authorizations expire while a snapshot stays open, as that of a nightly
mariadb-dump --single-transaction: InnoDB keeps every row of payment_expiry that
was swept since, and a look that begins before them goes over all of them.

What is counted is the pages that the server looks at, and what is awaited is
that payments expire, though a look at all that was swept is cut short."""

import pymysql
import pytest

from client import Client
from outbox import relay, wait_leased
from servers import wait_for
from test_expiry import CALM, expiries, start_node     # noqa: F401
from test_outbox_helper import kill_helper
from test_outbox_snapshot import pages

GRAVES = 400000                  # at once
AT_MOST = '2s'                   # so that fewer rows are too many
BRIEFLY = 0.125                  # s: a 16th of that, for a look
BELOW = 20 * BRIEFLY             # s, from one look below the floor to the next


@pytest.fixture
def mariadb(start_mariadb):
    """In place of the one that all tests share: nobody else reads pages."""
    return start_mariadb('innodb_stats_auto_recalc = 0\n'
                         'innodb_buffer_pool_size = 512M\n'
                         'innodb_log_file_size = 512M')


@pytest.fixture
def snapshot(mariadb, database):
    """Somebody reads, for as long as the test wants."""

    session = mariadb.session(database)
    session.cursor().execute('START TRANSACTION WITH CONSISTENT SNAPSHOT')
    yield session

    if session.open:
        session.close()


def bury(mariadb, database):
    """Rows come due, an hour ago, and are swept, until a look at them takes
    too long. Nobody else sees one."""

    session = mariadb.session(database)
    cursor = session.cursor()

    for n in range(40):
        cursor.execute(
            'INSERT INTO payment_expiry SELECT UTC_TIMESTAMP(3)'
            f' - INTERVAL 1 HOUR + INTERVAL {GRAVES * n} + seq MICROSECOND,'
            f' UNHEX(MD5(seq + {GRAVES * n})) FROM seq_1_to_{GRAVES}')
        cursor.execute('DELETE FROM payment_expiry WHERE expires_at'
                       ' < UTC_TIMESTAMP(3) - INTERVAL 50 MINUTE')
        session.commit()

        if too_many(mariadb, database):
            break
    else:
        pytest.fail('this server looks at any number of rows at once')

    session.close()


def too_many(mariadb, database):
    """In twice the time that a look has."""

    try:
        mariadb.query(f'SET STATEMENT max_statement_time = {2 * BRIEFLY} FOR'
                      ' SELECT * FROM payment_expiry ORDER BY expires_at,'
                      ' payment_id LIMIT 1', database)
        return False
    except pymysql.Error as error:
        assert error.args[0] == 1969
        return True


def put(mariadb, database, call, minutes):
    """An authorization that should have expired so many minutes ago."""

    ident = f"x'{call.id.replace('-', '')}'"
    past = f'UTC_TIMESTAMP(3) - INTERVAL {minutes} MINUTE'

    with mariadb.admin(database) as db:
        # by its key: nothing else is locked, nor looked at
        db.execute(f'SELECT expires_at FROM payment WHERE id = {ident}')
        time, = db.fetchone()
        db.execute(f'UPDATE payment SET expires_at = {past} WHERE id = {ident}')
        db.execute(f'UPDATE payment_expiry SET expires_at = {past}'
                   f" WHERE expires_at = '{time}' AND payment_id = {ident}")


def expired(mariadb, database):
    return mariadb.query('SELECT COUNT(*) FROM payment'
                         ' WHERE expired_at IS NOT NULL', database)[0][0]


def wait_expired(mariadb, database, n, seconds):
    wait_for(lambda: expired(mariadb, database) == n, seconds,
             f'the end of {n}')


@pytest.mark.timeout(240)
def test_nobody_looks_at_swept_rows(start_node, mariadb, database, journal,
                                    snapshot, check):
    """What comes due is swept as if nothing had been before."""

    nginx = start_node(lifetime='1h', at_most=AT_MOST)
    ask = Client(nginx.port, journal)
    wait_leased(nginx)
    ask.at_once([ask.call() for _ in range(20 * CALM)])
    bury(mariadb, database)

    before = pages(mariadb)
    too_many(mariadb, database)
    cost = pages(mariadb) - before

    with mariadb.admin(database) as db:
        for table in ('payment', 'payment_expiry'):
            db.execute(f'UPDATE {table} SET expires_at = UTC_TIMESTAMP(3)'
                       ' + INTERVAL 5 SECOND'
                       ' WHERE expires_at > UTC_TIMESTAMP(3)')

    before = pages(mariadb)
    wait_expired(mariadb, database, 20 * CALM, 20)
    looks = (pages(mariadb) - before) / cost

    # of 20 and more from the floor on, and a few below it, which are cut short
    assert looks < 5, f'{looks:.1f} looks of {2 * BRIEFLY} s at swept rows'
    assert relay(nginx)['errors'] == 0
    check(ask)


def test_below_the_floor(start_node, mariadb, database, journal, check):
    """Where nothing was swept that is still seen, what comes below the floor
    expires as soon as anything, and many as fast."""

    nginx = start_node(lifetime='1h', at_most=AT_MOST)
    ask = Client(nginx.port, journal)
    wait_leased(nginx)
    calls = ask.at_once([ask.call() for _ in range(8 * CALM)])

    for minutes in (90, 600):
        put(mariadb, database, calls.pop(), minutes)
        wait_expired(mariadb, database, 8 * CALM - len(calls), 5)

    for call in calls:
        put(mariadb, database, call, 60)

    wait_expired(mariadb, database, 8 * CALM, 10)
    assert relay(nginx)['errors'] == 0
    check(ask)


@pytest.mark.timeout(240)
def test_come_below_the_floor(start_node, mariadb, database, journal,
                              snapshot, check):
    """Before the swept rows, it is found at once, and each by itself; behind
    them, when the snapshot is closed. Neither keeps others from expiring."""

    nginx = start_node(lifetime='1h', at_most=AT_MOST)
    ask = Client(nginx.port, journal)
    wait_leased(nginx)
    calls = ask.at_once([ask.call() for _ in range(12)])

    bury(mariadb, database)
    put(mariadb, database, calls[0], 30)

    for call in calls[1:4]:
        put(mariadb, database, call, 90)

    wait_expired(mariadb, database, 3, 8 * BELOW)

    for call in calls[4:]:
        put(mariadb, database, call, 0)

    wait_expired(mariadb, database, 11, 20)
    assert expiries(mariadb, database) == 1
    assert relay(nginx)['errors'] == 0

    snapshot.close()
    wait_expired(mariadb, database, 12, 60)
    check(ask)


@pytest.mark.timeout(240)
def test_holder_who_knows_no_floor(start_node, mariadb, database,
                                   journal, snapshot, check):
    """A new helper begins at the head, which is too far; then nearer and
    nearer, until it sees what came due of late."""

    nginx = start_node(lifetime='1h', at_most=AT_MOST)
    ask = Client(nginx.port, journal)
    wait_leased(nginx)
    calls = ask.at_once([ask.call() for _ in range(10)])

    bury(mariadb, database)
    kill_helper(nginx)
    wait_leased(nginx)

    for call in calls:
        put(mariadb, database, call, 0)

    wait_expired(mariadb, database, 10, 60)
    assert len(nginx.lines('are too many to go over')) == 1
    assert relay(nginx)['errors'] == 0
    check(ask)
