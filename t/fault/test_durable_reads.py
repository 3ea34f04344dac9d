"""What is only read is told when it cannot be lost any more: InnoDB shows a
transaction to others before its log is on disk, and, where MariaDB waits for a
replica by default, before one has it. A lost COMMIT that is found, a replay, a
GET, a look-up, a page of operations and a list wait for a COMMIT of their own that began
after the look. Only a replay of what this node has told already does not.
"""

import json
import threading
import uuid

import pytest

import invariants
import loop
from client import Client, Load
from proxy import is_commit
from servers import ROOT, Shard, wait_for
from test_lookup import ask_for
from test_rigs import SEMI_SYNC
from test_server import get

SETTINGS = dict(read_timeout='500ms')
LOCATION = 'payment_timeout 3s;'
ON = 'payment_operations on;'
INDEX = ROOT / 'sql' / 'optional' / 'merchant_index.sql'


@pytest.fixture
def mariadb(start_mariadb):
    """In place of the one that all tests share."""
    return start_mariadb(faulty_disk=True)


@pytest.fixture
def nginx(start_nginx, mariadb, database):
    return start_nginx(Shard('main', database, f'unix:{mariadb.socket}',
                             **SETTINGS), location=LOCATION)


def seen(mariadb, database, number=1):
    """The latest payment, once so many can be seen."""

    def rows():
        found = mariadb.query('SELECT id FROM payment ORDER BY id', database)
        return found if len(found) >= number else None

    return str(uuid.UUID(bytes=wait_for(rows, 10, 'a visible payment')[-1][0]))


def test_a_commit_whose_answer_is_late(nginx, mariadb, database, ask, check):
    """It is found, but not on disk; then the power is cut."""

    mariadb.disk.stall()
    answer = ask.later([ask.call()])
    seen(mariadb, database)

    [call] = answer.result(20)
    assert call.status == 504 and call.code == 'OUTCOME_UNKNOWN', call

    mariadb.cut_power()
    mariadb.start()
    assert not mariadb.query('SELECT id FROM payment', database)

    nginx.wait_connected(20)
    again = ask.authorize(key=call.key)
    assert again.ok and not again.replayed, again
    assert len(check(ask).payments) == 1


def test_a_commit_that_comes_late(nginx, mariadb, database, ask, check):
    """The disk goes on: the truth is told, once."""

    mariadb.disk.stall()
    answer = ask.later([ask.call()])
    seen(mariadb, database)
    wait_for(lambda: nginx.lines('timed out'), 10, 'a COMMIT that is given up')
    mariadb.disk.resume()

    [call] = answer.result(20)
    assert call.ok and not call.replayed, call
    assert len(check(ask).payments) == 1


class Disk:
    """It stalls, and then the power is cut."""

    def __init__(self, start_mariadb):
        self.first = self.last = start_mariadb(faulty_disk=True)
        self.database = self.first.new_database()
        self.servers = [f'unix:{self.first.socket}']

    def stall(self):
        self.first.disk.stall()

    def lose(self):
        self.first.cut_power()
        self.first.start()


class Replica:
    """It stops, so that no COMMIT is confirmed; then the primary is lost, and
    the replica is promoted. The primary waits where MariaDB does by default,
    behind the commit, which others see by then."""

    def __init__(self, start_mariadb):
        self.first, self.last = (start_mariadb(SEMI_SYNC.format(number))
                                 for number in (1, 2))
        self.last.query('SET GLOBAL read_only = 1')
        self.last.replicate(self.first)

        self.first.query('SET GLOBAL rpl_semi_sync_master_enabled = 1')
        wait_for(lambda: self.first.status('Rpl_semi_sync_master_clients')
                 == '1', 10, 'a semi-synchronous replica')

        self.database = self.first.new_database()
        self.servers = [f'unix:{self.first.socket}',
                        f'unix:{self.last.socket}']

    def stall(self):
        self.last.query('STOP SLAVE')

    def lose(self):
        self.first.kill()
        self.last.query('SET GLOBAL read_only = 0')


@pytest.fixture(params=[Disk, Replica], ids=['disk', 'replica'])
def rig(request, start_mariadb):
    """What is seen and may be lost."""
    made = request.param(start_mariadb)
    made.first.run_script(INDEX, made.database)
    return made


@pytest.fixture
def start_node(start_nginx, rig):
    """start_node(): one nginx of several that have the rig's payments."""

    return lambda: start_nginx(Shard('main', rig.database, rig.servers,
                                     **SETTINGS), http=ON,
                               location='payment_timeout 2s;'
                                        ' payment_list on;')


ASK_ABOUT = {
    'replay': lambda asks, call, payment: asks.authorize(key=call.key).status,
    'get': lambda asks, call, payment:
        loop.run(get(asks.port, payment, call.merchant))[0],
    'lookup': lambda asks, call, payment:
        loop.run(ask_for(asks.port, call.merchant, call.key))[0],
    'operations': lambda asks, call, payment:
        loop.run(get(asks.port, f'{payment}/operations', call.merchant))[0],
    'list': lambda asks, call, payment:
        loop.run(get(asks.port, '', call.merchant))[0],
    'capture': lambda asks, call, payment:
        asks.change('capture', payment, amount=None).status
}


@pytest.mark.parametrize('what', ASK_ABOUT)
def test_what_others_see(start_node, rig, journal, what):
    """Another node looks at a payment that is visible and may be lost."""

    node, other = start_node(), start_node()
    ask, asks = Client(node.port, journal), Client(other.port, journal)

    rig.stall()
    first = ask.call()
    answer = ask.later([first])
    payment = seen(rig.first, rig.database)

    status = ASK_ABOUT[what](asks, first, payment)
    assert status in (503, 504), status
    assert answer.result(20)[0].status == 504

    rig.lose()

    def told():
        status, body = loop.run(get(other.port, payment, first.merchant))
        assert status in (404, 503), body
        return status == 404

    wait_for(told, 20, 'that the payment is not there')
    wait_for(lambda: asks.authorize(key=first.key).ok, 20, 'the payment')
    assert len(rig.last.query('SELECT id FROM payment', rig.database)) == 1


def test_a_conflict_with_what_others_see(start_node, rig, journal):
    """A change is refused because of one that is visible and may be lost: a
    client that is told of the conflict takes the other change for done."""

    node, other = start_node(), start_node()
    ask, asks = Client(node.port, journal), Client(other.port, journal)
    payment = ask.authorize(amount=1000).id

    rig.stall()
    answer = ask.later([ask.call('void', payment=payment, amount=None)])
    wait_for(lambda: rig.first.query("SELECT 1 FROM payment"
                                     " WHERE status = 'VOIDED'", rig.database),
             10, 'a void that can be seen')

    refused = asks.change('capture', payment, amount=None)
    assert refused.status in (503, 504), refused
    assert answer.result(20)[0].status == 504

    rig.lose()
    wait_for(lambda: asks.change('capture', payment, amount=None,
                                 key=refused.key).ok, 20, 'the capture')
    invariants.check(journal, (rig.last, rig.database), settle=asks)


def test_what_was_found_is_gone(start_nginx, nginx, mariadb, database, ask,
                                journal, check):
    """A repeat was found, together with another change whose COMMIT is lost;
    then the power is cut, and neither is there. Each is done anew."""

    other = start_nginx(Shard('main', database, f'unix:{mariadb.socket}',
                              **SETTINGS), workers=1,
                        http='payment_batch_spare_delay 10s;',
                        location='payment_timeout 15s;')
    asks = Client(other.port, journal)
    payments = [ask.authorize(amount=1000).id for _ in range(2)]

    def captured():
        return mariadb.query('SELECT COUNT(*) FROM payment'
                             ' WHERE captured_amount > 0', database)[0][0]

    mariadb.disk.stall()
    answer = ask.later([ask.call('capture', payment=payments[0], amount=100,
                                 key='repeated')])
    wait_for(captured, 10, 'a capture that can be seen')

    # the first one is on the way for as long as the others need to come
    first = asks.later([asks.call()])
    wait_for(lambda: other.status()['shards'][0]['connections_busy'], 10,
             'a batch')
    both = asks.later([asks.call('capture', payment=payments[0], amount=100,
                                 key='repeated'),
                       asks.call('capture', payment=payments[1], amount=100)])
    wait_for(lambda: captured() == 2, 10, 'both in one batch')
    wait_for(lambda: len(other.lines('timed out')) > 1, 10, 'a lost COMMIT')

    # nobody but the other node is left to do it
    assert answer.result(30)[0].status == 504

    mariadb.cut_power()
    mariadb.start()

    repeated, _ = both.result(30)
    first.result(30)
    assert captured() == 2, journal.statuses()
    assert repeated.ok and not repeated.replayed, repeated
    check(asks)


def turns(mariadb, database):
    """How many looks were confirmed by a COMMIT of their own."""
    return mariadb.query('SELECT COALESCE(SUM(turns), 0)'
                         ' FROM payment_barrier', database)[0][0]


@pytest.mark.parametrize('operation', ['authorize', 'capture'])
def test_what_was_told_is_told_again(nginx, mariadb, database, ask, operation):
    """A node that has answered says the same again, be the disk as it may. How
    the payment is now is another question."""

    first = ask.authorize()
    payment = first.id

    if operation == 'capture':
        first = ask.change('capture', payment, amount=100)
        assert first.ok

    def again():
        return ask.send(ask.call(operation, key=first.key,
                                 amount=first.amount, payment=first.payment))

    mariadb.disk.stall()
    call = again()
    assert call.replayed and call.body == first.body, call

    status, _ = loop.run(get(nginx.port, payment, first.merchant))
    assert status == 503

    mariadb.disk.resume()
    assert again().replayed


@pytest.mark.parametrize('rig', [Replica], indirect=True)
def test_who_has_told(start_node, rig, journal):
    """Another node has told nobody yet, nor has a server that took the place of
    the one that had the payment: the first replay is confirmed."""

    node, other = start_node(), start_node()
    ask, asks = Client(node.port, journal), Client(other.port, journal)
    first = ask.authorize()

    def confirmed(who, server):
        before = turns(server, rig.database)
        assert who.authorize(key=first.key).replayed
        return turns(server, rig.database) - before

    assert confirmed(ask, rig.first) == 0
    assert confirmed(asks, rig.first) == 1
    assert confirmed(asks, rig.first) == 0

    rig.lose()
    wait_for(lambda: ask.authorize().ok, 20, 'the other server')
    assert confirmed(ask, rig.last) == 1
    assert confirmed(ask, rig.last) == 0


def test_an_authorization_that_may_have_expired(start_nginx, mariadb, database,
                                                journal):
    """The answer to a replay says whether it has."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        http='payment_authorization_lifetime 1h;')
    ask = Client(nginx.port, journal)
    first = ask.authorize()
    before = turns(mariadb, database)

    assert ask.authorize(key=first.key).replayed
    assert turns(mariadb, database) == before + 1


def forget(mariadb, database, call):
    """As when the retention of its key is over."""
    hashed = invariants.key_hash(call.merchant, call.key).hex()
    mariadb.query(f"DELETE FROM idempotency_key WHERE key_hash = x'{hashed}'",
                  database)


@pytest.mark.parametrize('by', ['another node', 'another worker'])
def test_a_key_that_is_used_anew(start_node, rig, journal, by):
    """What a node has told of a key is not told of a row that came later."""

    node = start_node()
    other = start_node() if by == 'another node' else node
    ask, asks = Client(node.port, journal), Client(other.port, journal)
    first = ask.authorize()
    assert ask.authorize(key=first.key).replayed

    forget(rig.first, rig.database, first)
    rig.stall()
    answers = [asks.later([asks.call(key=first.key)])]
    seen(rig.first, rig.database, 2)

    # some of them come to each worker
    answers += [ask.later([ask.call(key=first.key)]) for _ in range(12)]
    statuses = {answer.result(20)[0].status for answer in answers}
    assert statuses <= {503, 504}, statuses

    rig.lose()
    wait_for(lambda: asks.authorize(key=first.key).ok, 20, 'the payment')


def test_who_waits_for_a_commit(start_nginx, start_proxy, mariadb, database,
                                journal):
    """In a queue of repeats, whoever asks for what has to be confirmed, here
    that a payment was removed: the others do not wait with him."""

    first = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'))
    gone = Client(first.port, journal).authorize()
    mariadb.query('DELETE FROM payment', database)

    proxy = start_proxy(mariadb.socket)
    nginx = start_nginx(Shard('main', database, proxy.address, connections=1,
                              read_timeout='8s'), workers=1,
                        location='payment_timeout 15s;')
    ask = Client(nginx.port, journal)
    assert ask.authorize(key=gone.key).status == 410
    kept = [ask.authorize() for _ in range(8)]

    def queued(number):
        wait_for(lambda: nginx.status()['shards'][0]['queued'] == number, 5,
                 f'{number} that wait')

    # what comes while the only connection is busy is in one queue
    strike = proxy.strike(is_commit, 'hold')
    answer = ask.later([ask.call()])
    strike.wait()
    repeats = ask.later([ask.call(key=call.key) for call in kept])
    queued(8)
    last = ask.later([ask.call(key=gone.key)])
    queued(9)

    other = proxy.strike(is_commit, 'hold')
    strike.release()
    assert answer.result(10)[0].ok
    other.wait()
    assert all(call.replayed for call in repeats.result(5))

    other.release()
    assert last.result(10)[0].status == 410


def test_a_removal_that_others_see(nginx, mariadb, database, ask):
    """A payment was removed, and may be there again after a crash."""

    first = ask.authorize()
    mariadb.disk.stall()

    def remove():
        mariadb.query('DELETE FROM payment', database)

    thread = threading.Thread(target=remove)
    thread.start()
    wait_for(lambda: not mariadb.query('SELECT 1 FROM payment', database), 10,
             'a removal that can be seen')

    assert ask.authorize(key=first.key).status in (503, 504)

    mariadb.disk.resume()
    thread.join()
    wait_for(lambda: ask.authorize(key=first.key).status == 410, 10,
             'that it is gone')


def test_a_look_in_vain_writes_nothing(start_nginx, mariadb, database,
                                       journal):
    """Nobody waits for a disk because of a payment that is not there."""

    mariadb.run_script(INDEX, database)
    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}',
                              **SETTINGS), location='payment_list on;')
    ask = Client(nginx.port, journal)

    call = ask.authorize()
    before = turns(mariadb, database)

    def confirmed():
        return turns(mariadb, database) - before

    status, _ = loop.run(get(nginx.port, str(uuid.uuid4()), call.merchant))
    assert status == 404
    assert confirmed() == 0

    assert loop.run(ask_for(nginx.port, call.merchant, 'nobodys'))[0] == 404
    assert confirmed() == 0

    assert loop.run(get(nginx.port, '', 'nobody'))[0] == 200
    assert confirmed() == 0

    status, body = loop.run(get(nginx.port, call.id, call.merchant))
    assert status == 200 and json.loads(body)['paymentId'] == call.id
    assert confirmed() == 1

    assert loop.run(ask_for(nginx.port, call.merchant, call.key))[0] == 200
    assert confirmed() == 2

    assert loop.run(get(nginx.port, '', call.merchant))[0] == 200
    assert confirmed() == 3


def test_one_barrier_for_all_looks(start_nginx, mariadb, database,
                                   start_proxy, journal):
    """A payment, a page of its operations and a look-up, in one batch: whoever
    changes several rows of payment_barrier, in any order, has deadlocks."""

    proxy = start_proxy(mariadb.socket)
    nginx = start_nginx(Shard('main', database, proxy.address, connections=1,
                              read_timeout='8s'), workers=1, http=ON,
                        location='payment_timeout 15s;')
    ask = Client(nginx.port, journal)
    made = ask.authorize()

    def barriers():
        return set(mariadb.query('SELECT id, turns FROM payment_barrier',
                                 database))

    # what comes while the only connection is busy shares a batch
    strike = proxy.strike(is_commit, 'hold')
    answer = ask.later([ask.call()])
    strike.wait()
    before = barriers()

    reads = [loop.spawn(read) for read in (
        get(nginx.port, made.id, made.merchant),
        get(nginx.port, f'{made.id}/operations', made.merchant),
        ask_for(nginx.port, made.merchant, made.key))]
    wait_for(lambda: nginx.status()['shards'][0]['queued'] == 3, 5,
             'three that wait')
    strike.release()

    assert [read.result(10)[0] for read in reads] == [200] * 3
    assert answer.result(10)[0].ok
    assert len(barriers() - before) == 1


def test_under_load(nginx, mariadb, database, journal, check, ask):
    """The disk stalls and loses what it had not written, again and again:
    whatever was answered is there."""

    with Load(nginx.port, journal, clients=8, changes=True,
              fights=True) as load:
        for _ in range(3):
            load.wait(50)
            mariadb.disk.stall()
            wait_for(lambda: nginx.lines('timed out'), 10, 'a late COMMIT')
            mariadb.cut_power()
            mariadb.start()

        load.wait(50)

    assert {call.status for call in load.bad()} <= {409, 503, 504, 422}, \
        load.calls.statuses()
    check(ask)
