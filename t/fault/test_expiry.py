"""payment_authorization_lifetime: an authorization ends when its time has come,
once, whatever dies meanwhile and whoever captures it at that moment.
"""

import datetime
import time

import pymysql
import pytest

from client import Client, Load
from outbox import free_lease, relay, settings, wait_leased
from proxy import is_query
from servers import Shard, wait_for
from test_outbox_helper import kill_helper

CALM = 8         # NGX_PAYMENT_EXPIRY_CALM
STEP = 64        # NGX_PAYMENT_EXPIRY_STEP
PAUSE = datetime.timedelta(seconds=1)   # NGX_PAYMENT_EXPIRY_PAUSE


class Nowhere:
    """No Kafka: all events stay where the invariants look for them."""

    address = '127.0.0.1:1'


def on(lifetime='1s', at_most='5s'):
    return (settings(Nowhere, 'payments', lock_at_most_for=at_most)
            + f' payment_authorization_lifetime {lifetime};'
              ' payment_operations on; payment_void_remainder on;')


@pytest.fixture
def start_node(start_nginx, mariadb, database):
    """start_node(address, lifetime): a node that has the lease, or will."""

    free_lease(mariadb, database)

    def start(address=None, lifetime='1s', at_most='5s', **more):
        return start_nginx(Shard('main', database,
                                 address or f'unix:{mariadb.socket}'),
                           http=on(lifetime, at_most), **more)

    return start


def expiries(mariadb, database):
    return mariadb.query('SELECT COUNT(*) FROM payment_expiry', database)[0][0]


def wait_swept(mariadb, database, seconds=30):
    wait_for(lambda: not expiries(mariadb, database), seconds, 'the sweep')


def make_overdue(mariadb, database):
    """All that is to expire has been for an hour."""

    with mariadb.admin(database) as db:
        for table in ('payment', 'payment_expiry'):
            db.execute(f'UPDATE {table} SET expires_at = expires_at'
                       ' - INTERVAL 2 HOUR WHERE expires_at IS NOT NULL')


def make_due(mariadb, database, ms):
    """From now on, one after the other, so many milliseconds apart."""

    with mariadb.admin(database) as db:
        db.execute(f"""
            UPDATE payment_expiry e
            JOIN (SELECT id, ROW_NUMBER() OVER (ORDER BY id) n FROM payment) r
            ON r.id = e.payment_id
            SET e.expires_at = UTC_TIMESTAMP(3) + INTERVAL n * {ms * 1000}
                                                  MICROSECOND""")
        db.execute("""
            UPDATE payment p JOIN payment_expiry e ON e.payment_id = p.id
            SET p.expires_at = e.expires_at""")


def steps(mariadb, database):
    """When each step was, and how many expired in it."""

    return mariadb.query(
        'SELECT expired_at, COUNT(*) FROM payment'
        ' WHERE expired_at IS NOT NULL GROUP BY 1 ORDER BY 1', database)


def end_of(call):
    """When what was authorized expires; Unix time."""
    return datetime.datetime.fromisoformat(call.json['expiresAt']).timestamp()


def statuses(dump):
    return sorted({payment['status'] for payment in dump.payments.values()})


def test_sweep(start_node, mariadb, database, journal, check):
    """More than one step of them, and some that were captured and voided."""

    nginx = start_node(lifetime='1h')
    ask = Client(nginx.port, journal)
    n = 3 * STEP

    calls = ask.at_once([ask.call() for _ in range(n)])
    ids = [call.id for call in calls]
    assert 'expiresAt' in calls[0].json

    assert ask.change('capture', ids[0]).ok
    assert ask.change('capture', ids[1], amount=300).ok
    assert ask.change('void', ids[2], amount=None).ok
    assert ask.change('capture', ids[3], amount=300).ok
    assert ask.change('void', ids[3], amount=None).ok
    assert expiries(mariadb, database) == n

    make_overdue(mariadb, database)
    wait_swept(mariadb, database)

    dump = check(ask)
    seen = {ident: (dump.payments[ident]['status'],
                    dump.payments[ident]['version'],
                    dump.payments[ident]['expired'] is not None)
            for ident in ids}

    assert seen[ids[0]] == ('CAPTURED', 2, False)
    assert seen[ids[1]] == ('CAPTURED', 3, True)
    assert seen[ids[2]] == ('VOIDED', 2, False)
    assert seen[ids[3]] == ('CAPTURED', 3, False)
    assert {seen[ident] for ident in ids[4:]} == {('VOIDED', 2, True)}

    event = dump.events[ids[1]][3]['payload']
    assert event['operationAmount'] == 700 and event['capturedAmount'] == 300

    for operation in ('capture', 'void'):
        call = ask.change(operation, ids[1])
        assert (call.status, call.code) == (409, 'AUTHORIZATION_EXPIRED')

    assert ask.change('refund', ids[1], amount=300).ok

    wait_for(lambda: relay(nginx)['expired'] == n - 3, 5, 'the counter')
    wait_for(lambda: relay(nginx)['overdue'] == 0, 5, 'the gauge')
    assert relay(nginx)['errors'] == 0
    check(ask)


def test_many_that_are_late(start_node, mariadb, database, journal, check):
    """Those who pay meanwhile do not feel it: steps are small, for all these
    have waited for an hour, and no more come."""

    nginx = start_node(lifetime='1h')
    ask = Client(nginx.port, journal)
    wait_leased(nginx)
    ask.at_once([ask.call() for _ in range(4 * STEP)])

    make_overdue(mariadb, database)
    wait_swept(mariadb, database)

    assert max(n for _, n in steps(mariadb, database)) == CALM
    check(ask)


def test_as_many_as_are_made(start_node, mariadb, database, proxy, journal,
                             check):
    """More expire in a second than small steps can end: they grow. The events
    of long names fill a step before its rows do: the next step follows at once,
    and not after the pause of a queue that is empty."""

    nginx = start_node(proxy.address, '1h')
    ask = Client(nginx.port, journal)
    wait_leased(nginx)

    for _ in range(5):
        ask.at_once([ask.call(merchant='\N{CREDIT CARD}' * 32)
                     for _ in range(200)])

    proxy.strike(is_query(STEPS[1]), 'delay', times=10 ** 6, seconds=0.05)
    make_due(mariadb, database, 5)
    wait_swept(mariadb, database, 60)
    proxy.calm()

    made = steps(mariadb, database)
    full = [i for i, (_, n) in enumerate(made) if CALM < n < STEP]
    assert full and max(n for _, n in made) < STEP, made
    assert min(made[i + 1][0] - made[i][0] for i in full) < PAUSE, made
    check(ask)


def test_overdue_and_not_swept(start_nginx, mariadb, database, journal, check):
    """Nobody sweeps where there is no helper; what is too late is too late all
    the same, and a refund is not."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        http='payment_authorization_lifetime 2s;')
    ask = Client(nginx.port, journal)
    whole, part = (ask.authorize() for _ in range(2))
    capture = ask.call('capture', payment=part.id, amount=300)
    assert ask.send(capture).ok

    wait_for(lambda: time.time() > end_of(part), 10, 'the end')

    for ident in (whole.id, part.id):
        for operation in ('capture', 'void'):
            call = ask.change(operation, ident, amount=100)
            assert (call.status, call.code) == (409, 'AUTHORIZATION_EXPIRED')

    # what was done in time is told again
    again = ask.send(ask.call('capture', payment=part.id, amount=300,
                              key=capture.key))
    assert again.ok and again.replayed

    assert ask.change('refund', part.id, amount=300).ok
    assert check(ask).payments[whole.id]['status'] == 'AUTHORIZED'


def test_others_hold_payments(start_node, mariadb, database, journal, check):
    """A payment that somebody holds does not keep the others, and is next."""

    nginx = start_node(lifetime='2s')
    ask = Client(nginx.port, journal)
    ids = [call.id for call in ask.at_once([ask.call() for _ in range(10)])]

    with mariadb.admin(database) as db:
        db.execute('START TRANSACTION')
        db.execute('SELECT 1 FROM payment WHERE id = %s FOR UPDATE',
                   [bytes.fromhex(ids[3].replace('-', ''))])
        wait_for(lambda: expiries(mariadb, database) == 1, 10, 'nine of them')
        assert relay(nginx)['errors'] == 0
        db.execute('ROLLBACK')

    wait_swept(mariadb, database)
    assert statuses(check(ask)) == ['VOIDED']


def test_no_time_of_before_a_lock(start_node, mariadb, database, journal,
                                  check):
    """A capture that has waited for its payment until this had expired is too
    late: it does not go by a time of before."""

    nginx = start_node(lifetime='3s')
    ask = Client(nginx.port, journal)
    call = ask.authorize()

    with mariadb.admin(database) as db:
        db.execute('START TRANSACTION')
        db.execute('SELECT 1 FROM payment WHERE id = %s FOR UPDATE',
                   [bytes.fromhex(call.id.replace('-', ''))])

        late = ask.later([ask.call('capture', payment=call.id)])
        wait_for(lambda: time.time() > end_of(call), 10, 'the end')
        assert not late.done()
        db.execute('ROLLBACK')

    answer, = late.result(20)
    assert (answer.status, answer.code) == (409, 'AUTHORIZATION_EXPIRED')

    wait_swept(mariadb, database)
    assert statuses(check(ask)) == ['VOIDED']


@pytest.mark.asan
@pytest.mark.timeout(180)
def test_captures_at_that_moment(start_node, mariadb, database, journal,
                                 check):
    """Two nodes capture what expires just now: each is captured or expired,
    and not both."""

    nodes = [start_node(lifetime='1s') for _ in range(2)]
    ask = [Client(node.port, journal) for node in nodes]
    outcomes = set()

    for _ in range(4):
        calls = ask[0].at_once([ask[0].call() for _ in range(100)])
        first = min(map(end_of, calls))
        wait_for(lambda: time.time() > first - 0.25, 10, 'nearly the end')
        part = 0

        while part < len(calls):
            some = calls[part:part + 10]
            part += 10
            done = ask[part // 10 % 2].at_once(
                [ask[0].call('capture', payment=call.id) for call in some])
            outcomes |= {call.code if call.status != 200 else 200
                         for call in done}
            time.sleep(0.04)

    wait_swept(mariadb, database)
    dump = check(ask[0])

    assert statuses(dump) == ['CAPTURED', 'VOIDED']
    assert outcomes == {200, 'AUTHORIZATION_EXPIRED'}

    for payment in dump.payments.values():
        assert (payment['status'] == 'VOIDED') == (payment['expired']
                                                   is not None)


STEPS = [b'SELECT @n :=', b'UPDATE payment SET status = IF(', b"'expired'",
         b"'expire'", b'DELETE FROM payment_expiry',
         b'EXECUTE IMMEDIATE IF(@f = ']


@pytest.mark.timeout(180)
@pytest.mark.parametrize('action', ['before', 'swallow'])
@pytest.mark.parametrize('step', range(len(STEPS)))
def test_helper_killed(start_node, mariadb, database, proxy, journal, check,
                       step, action):
    """With kill -9, when the server has got each of the statements, or has
    not; the other node goes on, and what is captured there meanwhile stays."""

    first = start_node(proxy.address, '1h')
    wait_leased(first)
    second = start_node(lifetime='1h')
    ask = Client(second.port, journal)
    ids = [call.id for call in ask.at_once([ask.call() for _ in range(2 * STEP)])]
    assert ask.change('capture', ids[0]).ok

    strike = proxy.strike(is_query(STEPS[step]), action)
    make_overdue(mariadb, database)
    strike.wait(20)
    kill_helper(first)

    calls = ask.at_once([ask.call('capture', payment=ident)
                         for ident in ids[1:20]])
    assert {call.code for call in calls} == {'AUTHORIZATION_EXPIRED'}

    wait_swept(mariadb, database, 60)
    dump = check(ask)
    assert sum(payment['expired'] is not None
               for payment in dump.payments.values()) == len(ids) - 1


@pytest.mark.asan
@pytest.mark.timeout(180)
def test_statements_killed(start_node, mariadb, database, journal, check):
    """KILL QUERY, all the time: MariaDB reports some that were killed as done,
    with fewer rows; none of these steps is committed by halves."""

    nginx = start_node(lifetime='1h')
    ask = Client(nginx.port, journal)
    wait_leased(nginx)

    for _ in range(4):
        ask.at_once([ask.call() for _ in range(3 * STEP)])
        make_overdue(mariadb, database)
        end = time.monotonic() + 3

        with mariadb.admin() as db:
            idents = mariadb.connections(database, db)

            while expiries(mariadb, database) and time.monotonic() < end:
                for _ in range(200):
                    for ident in idents:
                        try:
                            db.execute(f'KILL QUERY {ident}')
                        except pymysql.Error:
                            pass          # it went by itself

        wait_swept(mariadb, database)

    assert statuses(check(ask)) == ['VOIDED']


@pytest.mark.parametrize('table,when', [
    ('payment_expiry', 'DELETE'), ('payment', 'UPDATE')])
def test_fewer_rows(start_node, mariadb, database, journal, check, table,
                    when):
    """A statement that changes fewer rows than it should takes all back; and
    one row that cannot be changed does not keep the others."""

    nginx = start_node(lifetime='1h')
    ask = Client(nginx.port, journal)
    wait_leased(nginx)
    ids = [call.id for call in ask.at_once([ask.call() for _ in range(5)])]
    one = f"x'{ids[2].replace('-', '')}'"

    if when == 'UPDATE':
        mariadb.query(
            'CREATE TRIGGER halves BEFORE UPDATE ON payment FOR EACH ROW'
            f' IF OLD.id = {one} AND NEW.version > OLD.version'
            ' THEN SET NEW.version = OLD.version, NEW.status = OLD.status,'
            ' NEW.updated_at = OLD.updated_at, NEW.expired_at = NULL; END IF',
            database)
    else:
        mariadb.query(
            'CREATE TRIGGER halves BEFORE DELETE ON payment_expiry FOR EACH'
            f' ROW IF OLD.payment_id = {one} THEN'
            " SIGNAL SQLSTATE '45000'; END IF", database)

    make_overdue(mariadb, database)
    wait_for(lambda: expiries(mariadb, database) == 1, 20, 'the others')
    assert [ident for ident, payment in check(ask).payments.items()
            if payment['status'] == 'AUTHORIZED'] == [ids[2]]
    assert nginx.lines('expiring authorizations failed: (')
    wait_for(lambda: nginx.lines(f'payment {ids[2]} cannot expire'), 5,
             'its name')
    wait_for(lambda: relay(nginx)['overdue'] == 1, 5, 'the gauge')

    mariadb.query('DROP TRIGGER halves', database)
    wait_swept(mariadb, database)
    assert statuses(check(ask)) == ['VOIDED']


def test_whatever_dies(start_node, mariadb, database, proxy, journal, check):
    """Load with changes, while connections, workers and helpers die and all of
    it expires after a second."""

    nginx = start_node(proxy.address, '1s')
    other = start_node(lifetime='1s')
    ask = Client(other.port, journal)

    with Load(nginx.port, journal, clients=4, changes=True, fights=True), \
            Load(other.port, journal, clients=4, changes=True) as load:
        for _ in range(3):
            load.wait(100)
            proxy.cut()
            load.wait(100)
            kill_helper(nginx)

        nginx.kill_worker()
        load.wait(100)

    wait_swept(mariadb, database, 60)
    dump = check(ask)
    assert any(payment['expired'] for payment in dump.payments.values())


def test_no_lifetime_any_more(start_node, mariadb, database, journal, check):
    """What was authorized before ends when it was said to, and a repeat of its
    requests has the first answers; what is authorized now does not end."""

    nginx = start_node(lifetime='1h')
    ask = Client(nginx.port, journal)
    whole, part = ask.authorize(), ask.authorize()
    capture = ask.change('capture', part.id, amount=300)
    nginx.quit()

    nginx = start_node(lifetime='0')
    ask = Client(nginx.port, journal)

    for call in whole, part, capture:
        again = ask.send(ask.call(call.operation, payment=call.payment,
                                  amount=call.amount, key=call.key))
        assert again.replayed and again.body == call.body

    later = ask.authorize()
    assert 'expiresAt' not in later.json

    make_overdue(mariadb, database)
    wait_swept(mariadb, database)

    call = ask.change('capture', whole.id)
    assert (call.status, call.code) == (409, 'AUTHORIZATION_EXPIRED')

    payments = check(ask).payments
    assert payments[whole.id]['status'] == 'VOIDED'
    assert payments[part.id]['status'] == 'CAPTURED'
    assert payments[later.id]['status'] == 'AUTHORIZED'
