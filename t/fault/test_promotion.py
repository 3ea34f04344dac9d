"""Whoever promotes whichever server, in good order or bad: the payments that
were answered are there, and no node writes to a second primary.
"""

import os
import random
import subprocess
import time
import uuid

import pytest

import loop
from client import Load
from conftest import LONG
from outbox import ADMIN, admin
from servers import PROBE, ROOT, wait_for
from test_install import PROMOTER, PROMOTERS_PASSWORD, by_socket
from test_lookup import ask_for
from test_server import get
from voters import payments

REPLICA = dict(durability='replica', read_timeout='1s')


def test_a_primary_that_came_back(voters, start_node):
    """It died, another one was promoted, and it came back writable. Whoever is
    new to all of this takes the other one, too."""

    old, *others = voters
    start_node().first()
    old.kill()
    new = voters.promote(*others)
    old.start(options='read_only = 0')
    before = payments(old)

    node = start_node()
    node.first()
    assert all(node.ask.authorize().ok for _ in range(10))

    assert payments(new) == before + 11
    assert payments(old) == before

    # each node looks at it still, and that is all
    wait_for(lambda: len(old.connections('payment')) == 2 * PROBE, 5,
             'the looks of two nodes')


def test_one_that_was_made_writable(voters, start_node):
    """By hand, beside the primary: nothing is written there."""

    primary, second, third = voters
    first = start_node()
    first.first()
    second.set(read_only=0)

    node = start_node([second, third, primary])
    node.first()
    assert all(node.ask.authorize().ok for _ in range(10))
    assert payments(primary) == 12

    # what it has came from the primary
    assert second.query('SELECT @@gtid_binlog_pos')[0][0].split('-')[1] == '1'


def test_a_primary_that_is_cut_off(voters, start_node):
    """One node still reaches it, and nobody else does; the other node has the
    primary that was promoted meanwhile."""

    old, *others = voters
    near = start_node(location='payment_timeout 2s;', **REPLICA)
    far = start_node(location='payment_timeout 2s;', **REPLICA)
    near.first()
    far.first()

    old.front.refuse()
    far.ways[old].refuse()

    for voter in others:
        near.ways[voter].refuse()

    new = voters.promote(*others)
    assert far.first().ok

    with Load(near.nginx.port, near.ask.journal, clients=4) as load:
        wait_for(lambda: len(load.calls) > 20, 30, 'answers')

    assert not load.calls.of(status=200), load.calls.statuses()

    # who sees both believes the later one
    for voter in others:
        near.ways[voter].accept()

    near.first()
    assert payments(new) == 4
    near.check()


def test_a_primary_that_is_cut_off_with_one_copy(voters, start_node):
    """With durability local a node goes on with a primary that was cut off
    together with it, as long as its connections last: no other server could say
    that there is a successor. It opens none to it, and when it sees the
    successor it has left the old one before the next payment."""

    old, *others = voters
    old.set(rpl_semi_sync_master_enabled=0)
    near = start_node(location='payment_timeout 2s;')
    near.first()

    # nobody waits for a replica with durability local
    wait_for(lambda: [payments(voter) for voter in others] == [1, 1], 10,
             'the payment on the replicas')

    old.front.refuse()

    for voter in others:
        near.ways[voter].refuse()
        near.ways[voter].cut()

    new = voters.promote(*others)
    assert near.ask.authorize().ok
    assert payments(old) == 2 and payments(new) == 1

    def refused():
        near.ways[old].cut()
        return near.nginx.lines('too few')

    # until those who answered have done so too long ago
    wait_for(refused, 20, 'a line about it')
    calls = [near.ask.authorize() for _ in range(20)]
    assert not [call for call in calls if call.ok], calls

    for voter in others:
        near.ways[voter].accept()

    near.first()
    assert payments(old) == 2 and payments(new) == 2


def test_nothing_there_says_one_that_is_cut_off(voters, start_node):
    """The primary that was replaced has not what was made since. Whoever asks
    for that, by way of the node that still reaches it, is not told that it is
    not there, nor that a repeat of it is forbidden: for all he knows, he would
    pay again."""

    old, *others = voters
    old.run_script(ROOT / 'sql' / 'optional' / 'merchant_index.sql', 'payment')
    near = start_node(http='payment_operations on;',
                      location='payment_timeout 2s; payment_max_amount 5000;'
                               ' payment_list on;',
                      **REPLICA)
    far = start_node(http='payment_operations on;',
                     location='payment_timeout 2s;', **REPLICA)
    port = near.nginx.port
    near.first()
    far.first()

    nobodys = str(uuid.uuid4())
    assert loop.run(get(port, nobodys, 'MERCHANT-1'))[0] == 404
    assert loop.run(ask_for(port, 'MERCHANT-1', 'nobodys'))[0] == 404
    assert loop.run(get(port, '', 'nobody'))[0] == 200
    assert near.ask.change('capture', nobodys, amount=None).status == 404
    assert near.ask.authorize(amount=10000).code == 'INVALID_REQUEST'

    old.front.refuse()
    far.ways[old].refuse()

    for voter in others:
        near.ways[voter].refuse()

    voters.promote(*others)
    made = far.first(amount=10000)

    told = {
        'get': loop.run(get(port, made.id, made.merchant))[0],
        'operations': loop.run(get(port, f'{made.id}/operations',
                                   made.merchant))[0],
        'lookup': loop.run(ask_for(port, made.merchant, made.key))[0],
        'list': loop.run(get(port, '', made.merchant))[0],
        'capture': near.ask.change('capture', made.id, amount=None).status,
        'repeat': near.ask.authorize(key=made.key, amount=10000).status
    }
    assert set(told.values()) <= {503, 504}, told

    for voter in others:
        near.ways[voter].accept()

    wait_for(lambda: loop.run(get(port, made.id, made.merchant))[0] == 200, 20,
             'the payment')
    wait_for(lambda: near.ask.authorize(key=made.key, amount=10000).replayed,
             20, 'the repeat')
    near.check()


def test_a_majority_that_is_away(voters, start_node):
    """A new node that sees one server alone does not know whether that one is
    the primary still."""

    primary, *others = voters
    node = start_node()
    node.first()

    for voter in others:
        voter.kill()

    late = start_node()
    wait_for(lambda: late.nginx.lines('too few'), 10, 'a line about it')
    assert late.ask.authorize().status == 503

    others[0].start()
    late.first()


def test_a_promotion_that_lost_payments(voters, start_node):
    """The voter that is promoted lacks what was answered."""

    primary, second, third = voters
    node = start_node(**ADMIN, **REPLICA)
    node.first()
    assert node.nginx.status()['shards'][0]['voters'] == 2

    third.query('STOP SLAVE')
    assert node.ask.authorize().ok
    second.query('STOP SLAVE')
    primary.kill()

    voters.primary = third
    third.query('RESET SLAVE ALL')
    voters.open(third)

    # it would take them: a voter has come
    fourth, = voters.add()
    fourth.follow(third)

    wait_for(lambda: node.nginx.lines('lacks'), 10, 'a line about it')
    assert node.ask.authorize().status == 503
    assert payments(third) == 1
    assert node.nginx.status()['shards'][0]['lacking'] == 1

    # nor after a restart
    node.nginx.quit()
    node.nginx.restart()
    wait_for(lambda: node.nginx.lines('lacks'), 10, 'a line about it')
    assert node.ask.authorize().status == 503

    admin(node.nginx, 'accept-loss', shard='main')
    node.first()
    assert payments(third) == 2


def test_a_claim_that_is_too_low(voters, start_node):
    """The server that was promoted had not yet heard of the last claims. Its
    own claim is one of an earlier epoch: it gets no payment, and the log says
    why, once; until it has claimed them so often that it is ahead."""

    old, new, other = voters
    node = start_node(location='payment_timeout 2s;', **REPLICA)
    wait_for(lambda: old.query('SELECT * FROM payment.payment_identity'), 10,
             'the database has an owner')

    # it has all but the claims
    new.applied(old.query('SELECT @@global.gtid_binlog_pos')[0][0])
    new.query('STOP SLAVE')
    voters.claim(old)
    voters.claim(old)
    other.applied(old.query('SELECT @@global.gtid_binlog_pos')[0][0])
    wait_for(lambda: node.nginx.status()['shards'][0]['topology_epoch'] == 3,
             10, 'the claims are known')
    old.kill()
    new.query('RESET SLAVE ALL')
    voters.primary = new
    voters.open(new)

    # it would take them: a voter has come
    fourth, = voters.add()
    fourth.follow(new)
    voters.wait_voters(1)

    line = 'has claimed them with epoch 2 of 3, and has an earlier epoch'
    wait_for(lambda: node.nginx.lines(line), 10, 'a line about it')
    assert node.ask.authorize().status == 503
    assert 'no server has the payments: ' in node.nginx.lines(line)[0]

    voters.claim(new)
    voters.claim(new)
    node.first()
    assert len(node.nginx.lines(line)) == 1


def test_with_the_rights_of_promoter_sql(voters, start_node):
    """Whoever has these can switch and promote servers, the first claim
    included."""

    primary, *others = voters
    primary.run(by_socket((ROOT / 'conf' / 'promoter.sql').read_text()),
                'payment')
    position = primary.query('SELECT @@global.gtid_binlog_pos')[0][0]

    for voter in others:
        voter.query(f"DO MASTER_GTID_WAIT('{position}', 20)")

    voters.act_as(PROMOTER, PROMOTERS_PASSWORD)
    primary.query("CALL payment_claim('first')", 'payment')
    node = start_node(**REPLICA)
    node.first()

    voters.switch()
    node.first()

    old = voters.primary
    kill_and_promote(voters)
    node.first()

    voters.rejoin(old)
    voters.wait_voters(2)

    voters.act_as()
    node.check()


class Hooks:
    """conf/managers/payment-promote, as a manager calls it: from elsewhere, as
    the user of conf/promoter.sql."""

    def __init__(self, voters, directory):
        conf = ROOT / 'conf'
        voters.primary.run(
            (conf / 'promoter.sql').read_text().replace(
                '10.0.0.%', '127.0.0.1').replace('REQUIRE SSL', ''), 'payment')

        self.program = conf / 'managers' / 'payment-promote'
        self.cnf = directory / 'promoter.cnf'
        self.cnf.write_text('[client]\nuser = promoter\n'
                            f'password = {PROMOTERS_PASSWORD}\n')

    def begin(self, *arguments):
        return subprocess.Popen(
            ['sh', self.program, *map(str, arguments)],
            env=dict(os.environ, PAYMENT_PROMOTER_CNF=str(self.cnf)))

    def __call__(self, *arguments):
        return self.begin(*arguments).wait(60)


def test_by_the_hooks_of_a_manager(voters, start_node, tmp_path):
    """One that lifts read_only before it calls a hook, and redirects the other
    replica after that."""

    old, new, other = voters
    hook = Hooks(voters, tmp_path)
    node = start_node(**REPLICA)
    node.first()

    def lift(server):
        server.query('STOP SLAVE')
        server.query('RESET SLAVE ALL')
        server.set(read_only=0)
        voters.primary = server
        assert hook('claim', '127.0.0.1', server.port) == 0
        opening = hook.begin('open', '127.0.0.1', server.port)
        server.query('FLUSH TABLES')     # a commit that waits for nobody yet
        return opening

    # as planned
    assert hook('freeze', '127.0.0.1', old.port) == 0
    assert node.ask.authorize().status == 503
    old.set(read_only=1)
    position = old.query('SELECT @@global.gtid_binlog_pos')[0][0]
    new.query(f"DO MASTER_GTID_WAIT('{position}', 20)")
    opening = lift(new)
    other.follow(new)
    assert hook('demote', '127.0.0.1', old.port) == 0
    old.follow(new, demoted=True)
    assert opening.wait(60) == 0
    voters.wait_voters(2)
    node.first()

    # by a failure, and not while one of the two cannot be asked
    new.kill()
    others = ','.join(f'127.0.0.1:{voter.port}' for voter in (old, other))
    other.kill()
    assert hook('settle', 2, others) == 1
    assert hook('settle', 2, f'127.0.0.1:{old.port}') == 1
    assert old.slave('Slave_IO_Running') != 'No'
    other.start()
    assert hook('settle', 2, others) == 0
    assert old.slave('Slave_IO_Running') == 'No'
    best, worse = sorted((old, other), key=lambda voter: -voter.received())
    opening = lift(best)
    worse.follow(best)
    assert opening.wait(60) == 0
    node.first()
    node.check()


def kill_and_promote(voters):
    old, *others = sorted(voters, key=lambda voter: voter is not voters.primary)
    old.kill()
    return voters.promote(*others)


def test_a_primary_that_dies(voters, start_node):
    """Under load, at a random instant; and it comes back as a replica. What was
    answered is there; it takes no longer than a second and a half from the
    claim to the first payment."""

    node = start_node(**REPLICA)
    node.first()

    with Load(node.nginx.port, node.ask.journal, clients=8, changes=True,
              fights=True) as load:
        for _ in range(50 if LONG else 1):
            load.wait(20)
            time.sleep(random.random() / 2)

            old = voters.primary
            new = kill_and_promote(voters)
            claimed = time.monotonic()
            load.wait(1)
            print(f'{time.monotonic() - claimed:.2f} s')

            voters.rejoin(old)
            load.wait(20)

    assert {call.status for call in load.bad()} <= {409, 422, 503, 504}, \
        load.calls.statuses()
    node.check()


def test_a_planned_switch(voters, start_node):
    """Freeze, demote, promote: nobody notices but by waiting."""

    # so long, for a machine that has other work
    node = start_node(http='payment_queue_timeout 8s;',
                      location='payment_timeout 15s;', **REPLICA)
    node.first()

    with Load(node.nginx.port, node.ask.journal, clients=8,
              changes=True) as load:
        for _ in range(10 if LONG else 2):
            load.wait(50)
            voters.switch()
            load.wait(50)

    assert not load.bad(), load.bad()[:5]
    slowest = max(call.seconds for call in load.calls)
    print(f'longest answer {slowest:.2f} s')
    node.check()
