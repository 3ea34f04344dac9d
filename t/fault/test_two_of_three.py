"""A 2xx is on two of three servers: with `durability replica` a batch is only
answered when a replica has confirmed its COMMIT, whoever ends or forbids the
server's wait for that.
"""

import pytest

from client import Load
from conftest import LONG
from outbox import kafka, settings, topic               # noqa: F401
from servers import wait_for
from voters import payments

REPLICA = dict(durability='replica', read_timeout='1s')
LOCATION = 'payment_timeout 3s;'


@pytest.fixture
def node(start_node):
    node = start_node(location=LOCATION, **REPLICA)
    node.first()
    return node


def waits(primary):
    """The COMMIT of a payment that waits for a replica: its connection."""

    rows = primary.query("SELECT id FROM information_schema.processlist"
                         " WHERE user = 'payment'"
                         " AND state LIKE 'Waiting for semi-sync ACK%'")
    return rows and rows[0][0]


def kill_query(primary, ident):
    primary.query(f'KILL QUERY {ident}')


def kill_connection(primary, ident):
    primary.query(f'KILL CONNECTION {ident}')


def switch_off_and_on(primary, ident):
    primary.set(rpl_semi_sync_master_enabled=0)
    primary.set(rpl_semi_sync_master_enabled=1)


def switch_off(primary, ident):
    primary.set(rpl_semi_sync_master_enabled=0)


def wait_for_nobody(primary, ident):
    """Where no replica is connected, none is waited for any more."""

    wait_for(lambda: primary.status('Rpl_semi_sync_master_clients') == '0', 10,
             'the end of the last replica')
    primary.set(rpl_semi_sync_master_wait_no_slave=0)


def shut_down(primary, ident):
    """As an operator does; it is gone then."""
    primary.shut_down()


# each returns when it is done, and shut_down() when the server is gone
STRIKES = (kill_query, kill_connection, switch_off_and_on, switch_off,
           wait_for_nobody, shut_down)


def test_a_wait_that_somebody_ends(voters, node):
    """The server answers the COMMIT with OK, and no replica has it."""

    primary, *others = voters

    for strike in STRIKES * (13 if LONG else 1):
        for voter in others:
            voter.query('STOP SLAVE')

        answer = node.ask.later([node.ask.call()])
        ident = wait_for(lambda: waits(primary), 10, 'a COMMIT that waits')
        strike(primary, ident)

        [call] = answer.result(20)
        assert call.status in (503, 504), (strike, call)

        # as it was: it is the primary, and nothing of it was taken back
        if strike is shut_down:
            primary.start()

        primary.set(rpl_semi_sync_master_wait_no_slave=1,
                    rpl_semi_sync_master_enabled=1, read_only=0)

        for voter in others:
            voter.query('START SLAVE')

        assert node.first(key=call.key).replayed, strike

    assert node.nginx.status()['shards'][0]['unconfirmed'] >= 2
    node.check()


def test_no_event_of_what_no_replica_has(voters, start_node, kafka, topic):
    """The helper sees the payment, whose COMMIT the server has answered, and
    does not publish it until a replica has it."""

    node = start_node(http=settings(kafka, topic), location=LOCATION,
                      **REPLICA)
    node.first()
    wait_for(lambda: kafka.count(topic) == 1, 20, 'the first event')

    for voter in voters[1:]:
        voter.query('STOP SLAVE IO_THREAD')

    answer = node.ask.later([node.ask.call()])
    wait_for(lambda: waits(voters.primary), 10, 'a COMMIT that waits')
    switch_off(voters.primary, None)
    wait_for(lambda: node.nginx.lines('events are read again'), 20, 'a line')
    [call] = answer.result(20)
    assert call.status in (503, 504), call
    assert payments(voters.primary) == 2 and kafka.count(topic) == 1

    voters.primary.set(rpl_semi_sync_master_enabled=1)

    for voter in voters[1:]:
        voter.query('START SLAVE IO_THREAD')

    wait_for(lambda: kafka.count(topic) == 2, 20, 'the other event')
    assert node.first(key=call.key).replayed


VARIABLES = (('rpl_semi_sync_master_enabled', 0, 1),
             ('rpl_semi_sync_master_timeout', 10000, 31536000000),
             ('rpl_semi_sync_master_wait_no_slave', 0, 1),
             ('rpl_semi_sync_master_wait_point', "'AFTER_COMMIT'",
              "'AFTER_SYNC'"))


def test_a_server_that_would_not_wait(voters, node):
    """It is noticed in the next transaction, and told; and so is its end."""

    primary = voters.primary

    for name, bad, good in VARIABLES:
        had = payments(primary)
        primary.set(**{name: bad})

        calls = node.ask.at_once([node.ask.call() for _ in range(8)])
        assert {call.status for call in calls} <= {503, 504}, (name, calls)
        wait_for(lambda: node.nginx.lines(f'{name} is '), 10, 'a line')
        assert payments(primary) == had, name

        primary.set(**{name: good})
        node.first(5)


@pytest.mark.parametrize('die', [False, True])
def test_no_voter(voters, node, die):
    """Payments are refused at once, and not when their time is over; and they
    are taken again when a voter is back."""

    primary, *others = voters

    with Load(node.nginx.port, node.ask.journal, clients=4) as load:
        load.wait(20)

        for voter in others:
            if die:
                voter.kill()
            else:
                voter.query('STOP SLAVE')

        wait_for(lambda: node.nginx.lines('no payments are taken'), 10,
                 'a line about it')
        calls = [node.ask.authorize() for _ in range(10)]
        assert {call.status for call in calls} == {503}, calls
        assert max(call.seconds for call in calls) < 0.5, calls

        if die:
            others[0].start()
        else:
            others[0].query('START SLAVE')

        node.first(10)
        load.wait(20)

    assert {call.status for call in load.bad()} <= {503, 504}, load.bad()
    node.check()


@pytest.mark.parametrize('known', [False, True])
def test_more_voters_than_there_may_be(voters, start_node, known):
    """A third replica that confirms, be it a server of the shard or not: two
    servers that have a payment need not meet the two that choose the next
    primary."""

    fourth, = voters.add()
    node = start_node(list(voters) if known else voters[:3],
                      location=LOCATION, **REPLICA)
    node.first()
    fourth.follow(voters.primary)
    wait_for(lambda: node.ask.authorize().status == 503, 10, 'a refusal')
    had = payments(voters.primary)
    assert node.ask.authorize().status == 503
    assert payments(voters.primary) == had

    fourth.query('STOP SLAVE')
    node.first(10)


def test_a_crash_with_what_no_voter_has(voters, node):
    """The primary's restart shows payments that no replica has; whoever repeats
    the request is not answered from them."""

    primary, *others = voters

    for voter in others:
        voter.query('STOP SLAVE')

    answer = node.ask.later([node.ask.call()])
    wait_for(lambda: waits(primary), 10, 'a COMMIT that waits')
    primary.kill()
    [call] = answer.result(20)
    assert call.status in (503, 504), call

    primary.start()
    primary.set(rpl_semi_sync_master_enabled=1, read_only=0)
    assert payments(primary) == 2

    again = node.ask.authorize(key=call.key)
    assert again.status in (503, 504), again

    for voter in others:
        voter.query('START SLAVE')

    again = node.first(key=call.key)
    assert again.replayed, again
    wait_for(lambda: payments(others[0]) == 2 or payments(others[1]) == 2, 10,
             'the payment at a replica')
