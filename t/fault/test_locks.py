"""Somebody else holds what we want: rows, keys, tables, all in other orders.

One who cannot have a payment's row waits alone; everybody else goes on as if
nothing were.
"""

import threading
import time
import uuid

import pymysql
import pytest

import loop
from client import Client, Load
from invariants import key_hash
from servers import Shard, wait_for
from test_server import get


def hold(mariadb, database, payment):
    """A session that has the payment's row until it is closed."""

    session = mariadb.session(database)
    session.cursor().execute('SELECT * FROM payment'
                             f' WHERE id = {binary(payment)} FOR UPDATE')
    return session


def binary(payment):
    return f"x'{uuid.UUID(payment).hex}'"


def slowest(calls, share=1.0):
    """In seconds; of the quicker share of them."""
    seconds = sorted(call.seconds for call in calls)
    return seconds[int(len(seconds) * share) - 1]


def test_one_row_is_held(nginx, mariadb, database, journal, check, ask):
    """... longer than anybody wants to wait."""

    payment = ask.authorize().id

    with Load(nginx.port, journal, clients=12, changes=True) as load:
        load.wait(100)
        holder = hold(mariadb, database, payment)

        call = ask.change('capture', payment, amount=None)
        assert call.status in (503, 504), call
        assert call.seconds < 6

        load.wait(100)
        holder.close()

        again = ask.change('capture', payment, key=call.key, amount=None)
        assert again.ok, again

    assert not load.bad(), load.bad()[:5]
    assert slowest(load.calls, 0.99) < 0.5, slowest(load.calls, 0.99)
    assert slowest(load.calls) < 1, slowest(load.calls)
    check(ask)


def test_many_who_want_one_row(start_nginx, mariadb, database, journal, check):
    """They wait for it in a part of the queue; the rest is everybody else's."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        workers=1, http='payment_queue_size 100;',
                        location='payment_timeout 20s;')
    ask = Client(nginx.port, journal)
    payment = ask.authorize(amount=1000).id
    holder = hold(mariadb, database, payment)

    waits = [ask.later([ask.call('capture', payment=payment, amount=1)])
             for _ in range(150)]
    wait_for(lambda: sum(wait.done() for wait in waits) == 125, 10,
             'those who have no room')

    assert all(ask.authorize().ok for _ in range(20))
    holder.close()

    calls = [call for wait in waits for call in wait.result(10)]
    assert sum(call.ok for call in calls) == 25
    assert {call.status for call in calls} == {200, 503}
    check(ask)


def test_one_row_is_held_for_a_moment(nginx, mariadb, database, journal,
                                      check, ask):
    """Who waits gets it as soon as it is free."""

    payment = ask.authorize().id
    holder = hold(mariadb, database, payment)

    answers = ask.later([ask.call('capture', payment=payment, amount=None)])
    time.sleep(1.5)
    released = time.monotonic()
    holder.close()

    [call] = answers.result(10)
    assert call.ok, call
    assert call.received - released < 0.5
    check(ask)


def test_a_row_that_everybody_wants(nginx, mariadb, database, journal, check,
                                    ask):
    """Many clients ask for the row that is held, again and again, for three
    seconds. The others get at least a third of what they get without that."""

    payment = ask.authorize(amount=1000000).id
    answers = []

    with Load(nginx.port, journal, clients=12, changes=True,
              pause=0.005) as load:
        load.wait(100)
        start = load.good()
        time.sleep(1)
        free = load.good() - start
        start = load.good()
        holder = hold(mariadb, database, payment)

        for _ in range(30):
            answers.append(ask.later([
                ask.call('capture', payment=payment, amount=1)
                for _ in range(2)]))
            time.sleep(0.1)

        done = load.good() - start
        holder.close()
        calls = [call for answer in answers for call in answer.result(20)]

    assert not load.bad(), load.bad()[:5]
    assert slowest(load.calls) < 1, slowest(load.calls)
    assert slowest(load.calls, 0.99) < 0.3, slowest(load.calls, 0.99)
    assert done > free, (done, free)

    assert {call.status for call in calls} <= {200, 503, 504}
    dump = check(ask)
    assert dump.payments[payment]['captured'] \
        == len([call for call in journal
                if call.payment == payment and call.ok])


@pytest.mark.parametrize('what', ['payment', 'key'])
def test_a_hot(what, start_nginx, mariadb, database, journal, check):
    """250 captures a second of one payment, or repeats of one authorization,
    for four seconds: all are answered, and the others hardly notice."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    ask = Client(nginx.port, journal)
    made = ask.authorize(amount=1000000)
    answers = []

    with Load(nginx.port, journal, clients=12, changes=True,
              pause=0.005) as load:
        load.wait(100)
        alone = others(load, 4, lambda: None)

        def call():
            if what == 'key':
                return ask.call(key=made.key, amount=1000000)

            return ask.call('capture', payment=made.id, amount=1)

        beside = others(load, 4, lambda: answers.append(
            ask.later([call() for _ in range(5)])))

    hot = [call for answer in answers for call in answer.result(20)]
    assert not load.bad(), load.bad()[:5]
    assert all(call.ok for call in hot), [c for c in hot if not c.ok][:5]
    captured = check(ask).payments[made.id]['captured']
    assert captured == (len(hot) if what == 'payment' else 0)
    assert all(call.replayed == (what == 'key') for call in hot)

    print(f'\nothers: {numbers(alone)}; beside {numbers(hot)} of one {what}:'
          f' {numbers(beside)}')
    assert len(beside) > len(alone) / 2, (len(beside), len(alone))
    assert slowest(beside, 0.5) < 3 * slowest(alone, 0.5) + 0.01
    assert slowest(beside, 0.99) < 0.3, slowest(beside, 0.99)
    assert slowest(hot, 0.99) < 1, slowest(hot, 0.99)


def others(load, seconds, what):
    """What the load was answered in so many seconds, in which something is done
    50 times each."""

    before = len(load.calls)
    begun = time.monotonic()

    for i in range(50 * seconds):
        what()
        time.sleep(max(0, begun + (i + 1) / 50 - time.monotonic()))

    return load.calls[before:]


def numbers(calls):
    return f'{len(calls)} calls, ' + ', '.join(
        f'p{round(100 * share)} {1000 * slowest(calls, share):.1f} ms'
        for share in (0.5, 0.95, 0.99))


@pytest.mark.parametrize('connections', [1, 2])
def test_gets_beside_a_row_that_is_held(start_nginx, mariadb, database,
                                        journal, check, connections):
    """Changes wait for payments that somebody holds, on the spare connection if
    there is one. Whoever reads another payment meanwhile does not wait with
    them, be there one connection or two."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}',
                              connections=connections), workers=1,
                        location='payment_timeout 30s;')
    ask = Client(nginx.port, journal)
    held = [ask.authorize(amount=1000).id for _ in range(2)]
    other = ask.authorize()

    def gets():
        """How long it takes to read the other payment so many times."""

        start = time.monotonic()

        for _ in range(100):
            assert loop.run(get(nginx.port, other.id, other.merchant))[0] == 200

        return time.monotonic() - start

    alone = gets()
    holders = [hold(mariadb, database, payment) for payment in held]
    answer = ask.later([ask.call('capture', payment=payment, amount=1)
                        for payment in held for _ in range(10)])
    wait_for(lambda: nginx.status()['shards'][0]['queued'] or
             nginx.lines('Lock wait timeout'), 10, 'changes that wait')

    beside = gets()
    assert not answer.done()

    for holder in holders:
        holder.close()

    assert all(call.ok for call in answer.result(30))
    assert beside < 8 * alone, (beside, alone)
    check(ask)


@pytest.mark.parametrize('connections', [1, 2])
def test_a_busy_payment(start_nginx, mariadb, database, journal, check,
                        connections):
    """All of the traffic is about one payment, on all workers: it changes
    hands from batch to batch, and everybody gets a turn."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}',
                              connections=connections))
    ask = Client(nginx.port, journal)
    payment = ask.authorize(amount=1000000).id
    calls = []

    for _ in range(10):
        calls += ask.at_once([ask.call('capture', payment=payment, amount=1)
                              for _ in range(30)])

    assert all(call.ok for call in calls), calls
    assert slowest(calls) < 3, slowest(calls)
    dump = check()
    assert dump.payments[payment]['captured'] == 300


def test_cut_while_waiting_for_a_row(nginx, proxy, mariadb, database, journal,
                                     check, ask):
    """The connection that waits for the lock is lost."""

    payment = ask.authorize().id
    holder = hold(mariadb, database, payment)
    answers = ask.later([ask.call('capture', payment=payment, amount=10)
                         for _ in range(10)])

    for _ in range(3):
        time.sleep(0.2)
        proxy.cut(reset=True)

    holder.close()
    calls = answers.result(10)
    assert all(call.ok for call in calls), calls
    assert check().payments[payment]['captured'] == 100


def test_a_payment_that_is_not_there(nginx, ask, check):
    """Not to be mistaken for one that is held."""

    ident = ask.authorize().id
    nobody = ident[:-4] + ('0000' if ident[-4:] != '0000' else '1111')

    call = ask.change('capture', nobody, amount=None)
    assert call.status == 404 and call.seconds < 0.5, call
    check()


def test_a_key_is_held(nginx, mariadb, database, journal, check, ask):
    """Another node has inserted the key and not committed yet, and will not."""

    call = ask.call(key='held')
    session = mariadb.session(database)
    session.cursor().execute(
        'INSERT INTO idempotency_key (key_hash, payment_id, fingerprint,'
        f" operation, status, version, created_at) VALUES"
        f" (x'{key_hash(call.merchant, call.key).hex()}', 'x', 'x',"
        " 'authorize', 'AUTHORIZED', 1, NOW())")

    with Load(nginx.port, journal, clients=12) as load:
        load.wait(50)
        answers = ask.later([call])
        load.wait(300)
        time.sleep(1.5)
        session.rollback()
        [call] = answers.result(10)

    assert call.ok, call
    assert not load.bad(), load.bad()[:5]
    assert slowest(load.calls, 0.98) < 0.5
    session.close()
    check(ask)


@pytest.mark.asan
def test_deadlock_storm(nginx, mariadb, database, journal, check, ask):
    """Others take the same rows the other way round, all the time, and have
    more to lose, so that we are the victim."""

    payments = sorted(ask.authorize(amount=100000).id for _ in range(6))
    mariadb.query('CREATE TABLE ballast (a INT)', database)
    stop = threading.Event()
    won = []

    def other():
        session = mariadb.session(database)
        cursor = session.cursor()

        while not stop.is_set():
            try:
                cursor.execute('INSERT INTO ballast VALUES (1), (2), (3), (4),'
                               ' (5), (6), (7), (8), (9), (10)')

                for payment in reversed(payments):
                    cursor.execute('SELECT id FROM payment WHERE id ='
                                   f' {binary(payment)} FOR UPDATE')
                    time.sleep(0.002)

                session.rollback()
                won.append(1)
                time.sleep(0.002)

            except pymysql.err.OperationalError:
                session.rollback()

        session.close()

    threads = [threading.Thread(target=other) for _ in range(2)]

    for thread in threads:
        thread.start()

    with Load(nginx.port, journal, clients=4) as load:
        calls = []

        for _ in range(15):
            calls += ask.at_once([
                ask.call('capture', payment=payment, amount=10)
                for payment in payments for _ in range(2)])

        stop.set()

        for thread in threads:
            thread.join()

        load.wait(10)

    assert not load.bad(), load.bad()[:5]
    assert {call.status for call in calls} <= {200, 503}, calls
    assert sum(1 for call in calls if call.ok) > len(calls) * 0.9
    dump = check(ask)

    for payment in payments:
        good = [call for call in journal
                if call.payment == payment and call.ok]
        assert dump.payments[payment]['captured'] == 10 * len(good)


def test_a_table_is_held(nginx, mariadb, database, journal, check, ask):
    """An ALTER TABLE of somebody's: nothing can be written for a while. All
    hear of it in time, nothing is left behind on the server."""

    session = mariadb.session(database)

    with Load(nginx.port, journal, clients=8) as load:
        load.wait(50)
        session.cursor().execute('LOCK TABLES payment WRITE')
        time.sleep(4)
        assert len(mariadb.connections(database)) <= 8
        session.cursor().execute('UNLOCK TABLES')
        load.wait(50)

    session.close()
    assert {call.status for call in load.bad()} <= {503, 504}, \
        load.calls.statuses()
    assert all(call.seconds < 6 for call in journal)
    check(ask)


def test_nothing_locks_more_than_it_needs(mariadb, database):
    """A batch must lock its own rows and no others, whatever the statistics
    say of a table that is new or small."""

    with mariadb.admin(database) as db:
        for n in (1, 20, 300):
            ids = ','.join(f"x'{i:032x}'" for i in range(n))

            db.execute('EXPLAIN SELECT * FROM payment WHERE id IN'
                       f' ({ids}) ORDER BY id FOR UPDATE')
            for row in db.fetchall():
                assert row[3] in ('range', 'const') \
                    or 'Impossible' in row[-1], row
