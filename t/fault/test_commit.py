"""COMMIT and what can come between it and its answer.

Whatever happens to the connection, a client is told the truth: 200 only for
what is there, 503 only for what is not, and what could not be found out in
time is said to be so.
"""

import random
import re
import time

import pytest

import invariants
import servers
from client import Client, Load
from proxy import is_bulk, is_bulk_of, is_commit, is_query, is_rollback

is_keys = is_bulk_of(b'INSERT INTO idempotency_key')
is_resolve = is_query(b'LOCK IN SHARE MODE')
is_read = is_query(b'FOR UPDATE')


def resolved(nginx):
    return nginx.status()['shards'][0]['resolved']


@pytest.mark.parametrize('action', ['after', 'at-once', 'swallow'])
def test_committed_but_not_heard(start_nginx, database, proxy, journal, check,
                                 action):
    nginx = start_nginx(servers.Shard('main', database, proxy.address,
                                      read_timeout='500ms'))
    strike = proxy.strike(is_commit, action)

    call = Client(nginx.port, journal).authorize()

    assert strike.hits == 1
    assert call.ok and not call.replayed, call
    assert call.seconds < 2
    assert resolved(nginx) == 1
    assert len(check().payments) == 1


def test_never_committed(nginx, proxy, ask, check):
    for i, action in enumerate(('before', 'half')):
        strike = proxy.strike(is_commit, action)

        call = ask.authorize()

        assert strike.hits == 1
        assert call.ok and not call.replayed, (action, call)
        assert call.seconds < 2
        assert resolved(nginx) == i + 1

    assert len(check().payments) == 2


def test_an_error_is_no_proof(nginx, proxy, ask, check):
    """COMMIT was answered by an error: carried out or not, who knows."""

    cases = [('lie', 1180), ('lie', 1213), ('error', 1180), ('error', 1317)]

    for i, (action, error) in enumerate(cases):
        strike = proxy.strike(is_commit, action, error=error)

        call = ask.authorize()

        assert strike.hits == 1
        assert call.ok and not call.replayed, (action, error, call)
        assert resolved(nginx) == i + 1

    assert len(check().payments) == len(cases)


def test_changes_happen_once(nginx, proxy, ask, check):
    for action in ('after', 'before'):
        for operation in ('capture', 'refund', 'void'):
            payment = ask.authorize().id

            if operation == 'refund':
                ask.change('capture', payment, amount=None)

            strike = proxy.strike(is_commit, action)
            call = ask.change(operation, payment, amount=None)

            assert strike.hits == 1
            assert call.ok, (action, call)

            again = ask.change(operation, payment, key=call.key, amount=None)
            assert again.ok and again.replayed and again.body == call.body

    assert resolved(nginx) == 6
    check()


def test_the_resolving_is_cut_too(nginx, proxy, ask, check):
    proxy.strike(is_commit, 'after')
    strike = proxy.strike(is_resolve, 'before', times=2)

    call = ask.authorize()

    assert strike.hits == 2
    assert call.ok and not call.replayed, call
    assert len(check().payments) == 1


@pytest.mark.parametrize('action, made', [('after', 1), ('before', 0)])
def test_unknown_in_time(start_nginx, database, proxy, journal, check,
                         action, made):
    """The database is gone with the answer: 504, and the truth when it is
    back."""

    nginx = start_nginx(servers.Shard('main', database, proxy.address),
                        location='payment_timeout 1s;')
    ask = Client(nginx.port, journal)

    strike = proxy.strike(is_commit, action)
    answers = ask.later([ask.call()])
    strike.wait()
    proxy.refuse()

    [call] = answers.result(10)

    assert call.status == 504 and call.code == 'OUTCOME_UNKNOWN', call
    assert 0.9 < call.seconds < 1.5
    assert 'retry-after' in call.headers

    proxy.accept()
    nginx.wait_connected()

    again = ask.authorize(key=call.key)

    assert again.ok and again.replayed == bool(made), again
    assert len(check(ask).payments) == 1


@pytest.mark.parametrize('settings', [{}, {'read_timeout': '500ms'}])
def test_a_commit_that_is_stuck(start_nginx, database, proxy, journal, check,
                                settings):
    """COMMIT is lost on the way and the connection seems open to the server:
    the transaction holds its locks until the server gives it up. There is time
    to find out, by default too."""

    nginx = start_nginx(servers.Shard('main', database, proxy.address,
                                      **settings))
    ask = Client(nginx.port, journal)
    strike = proxy.strike(is_commit, 'hold')

    call = ask.authorize()

    assert strike.hits == 1
    assert call.ok and not call.replayed, call
    assert call.seconds < 5

    # the COMMIT that was on its way all the time comes too late
    strike.release()
    assert ask.authorize().ok
    assert len(check().payments) == 2


@pytest.mark.asan
def test_cut_between_the_statements(nginx, proxy, ask, check):
    """Three bulk statements are under way at once; the second, say, never
    arrives."""

    for action in ('before', 'half', 'after'):
        for skip in (0, 1, 2):
            strike = proxy.strike(is_bulk, action, skip=skip)

            call = ask.authorize()

            assert strike.hits == 1
            assert call.ok and not call.replayed, (action, skip, call)

    assert len(check().payments) == 9


def test_cut_while_reading_for_a_change(nginx, proxy, ask, check):
    for action in ('before', 'half', 'after'):
        payment = ask.authorize().id
        strike = proxy.strike(is_read, action)

        call = ask.change('capture', payment, amount=None)

        assert strike.hits == 1
        assert call.ok and not call.replayed, (action, call)

    check()


def test_cut_while_a_duplicate_is_looked_up(start_nginx, nginx, mariadb,
                                            database, proxy, ask, journal,
                                            check):
    """One that another node took makes a batch fail; one that is known by then
    is looked up at once."""

    other = Client(start_nginx(servers.Shard('main', database,
                                             f'unix:{mariadb.socket}')).port,
                   journal)

    for action in ('before', 'half', 'after'):
        first = other.authorize()

        for what in (is_rollback, is_query(b'FROM idempotency_key i')):
            strike = proxy.strike(what, action)

            again = ask.authorize(key=first.key)

            assert strike.hits == 1
            assert again.ok and again.replayed and again.body == first.body

    assert len(check().payments) == 3


def test_errors_that_pass(nginx, proxy, ask, check):
    """The server's word for "not now", each for the first of its kind."""

    errors = [1020,             # snapshot isolation
              1047,             # Galera: not prepared
              1053,             # shutdown in progress
              1205,             # lock wait timeout
              1213,             # deadlock
              1317,             # query interrupted
              1927, 1969,       # killed; took too long
              1021, 1114,       # disk full, table full
              1243,             # unknown statement
              1290]             # read-only

    for error in errors:
        strike = proxy.strike(is_keys, 'lie', error=error)

        call = ask.authorize()

        assert strike.hits == 1
        assert call.ok and not call.replayed, (error, call)
        assert nginx.lines(f'({error})'), error

    assert len(check().payments) == len(errors)


def test_errors_that_stay(nginx, proxy, ask, check):
    """503, honestly, and as soon as the tries are used up."""

    for error, tries in ((1213, 4), (1114, 4), (1364, 1)):
        strike = proxy.strike(is_keys, 'lie', error=error, times=1000)

        call = ask.authorize()

        assert call.status == 503 and 'retry-after' in call.headers, call
        assert call.seconds < 2
        assert strike.hits == tries

        proxy.calm()
        assert ask.authorize(key=call.key).ok

    assert len(check().payments) == 3


def test_a_storm_is_counted(start_nginx, database, proxy, journal):
    """Each row of a thousand is refused, and each of them is tried alone in the
    end: one line a second of a worker, which says how many others there were."""

    nginx = start_nginx(servers.Shard('main', database, proxy.address),
                        workers=1)
    ask = Client(nginx.port, journal)
    proxy.strike(is_keys, 'error', error=1364, times=100000)
    begun = time.monotonic()

    while time.monotonic() < begun + 2.5:
        calls = ask.at_once([ask.call() for _ in range(100)])
        assert {call.status for call in calls} == {503}

    lines = nginx.lines('(1364)')
    assert len(journal) >= 100
    assert 2 <= len(lines) <= time.monotonic() - begun + 2, len(lines)
    assert re.search(r'\(and \d+ more like it before\)', lines[-1]), lines[-1]


def is_commit_of_a_batch(payload, link):
    """Not the one by which the outcome of another is found out, which follows
    the statement that asks whether anything was found."""

    before, link.before = getattr(link, 'before', b''), payload
    return is_commit(payload, link) and b'FOUND_ROWS' not in before


@pytest.mark.asan
def test_storm_at_commit(nginx, proxy, journal, check):
    """Under load, every kind of accident at COMMIT: nobody notices."""

    rng = random.Random(4)
    hits = []

    with Load(nginx.port, journal, clients=12, changes=True) as load:
        for _ in range(30):
            strike = proxy.strike(is_commit_of_a_batch, rng.choice(
                ['after', 'before', 'half', 'at-once']))
            strike.wait()
            hits.append(strike)
            time.sleep(rng.random() / 20)

        load.wait(20)

    assert not load.bad(), load.bad()[:5]
    assert resolved(nginx) >= 30
    check()


def test_commits_that_hang(start_nginx, start_mariadb, journal):
    """No replica confirms, so that each COMMIT hangs at the server, and with
    it a thread: of those that were given up, and of new ones, there is a
    bounded number, until the server goes on."""

    server = start_mariadb('log-bin = db-bin\nserver-id = 1\n'
                           'rpl-semi-sync-master-timeout = 600000')
    database = server.new_database()
    nginx = start_nginx(servers.Shard('main', database,
                                      f'127.0.0.1:{server.port}',
                                      read_timeout='300ms'),
                        location='payment_timeout 1s;')
    ask = Client(nginx.port, journal)
    assert ask.authorize().ok

    server.query('SET GLOBAL rpl_semi_sync_master_enabled = 1')
    most = 0

    with Load(nginx.port, journal, clients=8) as load:
        end = time.monotonic() + 8

        while time.monotonic() < end:
            most = max(most, len(server.connections(database)))
            time.sleep(0.05)

    # each of the two workers has two, and opens one only beside three others
    # at most that it gave up
    assert 4 < most <= 2 * (2 + 3), most
    assert {call.status for call in load.bad()} <= {503, 504}, load.bad()[:5]

    server.query('SET GLOBAL rpl_semi_sync_master_enabled = 0')
    servers.wait_for(lambda: ask.authorize().ok, 10, 'recovery')
    servers.wait_for(lambda: len(server.connections(database)) <= 4, 10,
                     'the end of what was given up')
    invariants.check(journal, (server, database), settle=ask)
