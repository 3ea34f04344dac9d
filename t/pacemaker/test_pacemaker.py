"""Debian's Pacemaker with the agents and the configuration of conf/pacemaker:
it promotes, the claim follows, and what clients were answered is held against
the tables. `make test-pacemaker`, PAYMENT_TEST_ROUNDS=2 of each.

The names are those of docs/high-availability.md.
"""

import subprocess

import pytest

from cluster import CONF, HERE
from rig import ROUNDS
from servers import wait_for

# what an OCF agent says
SUCCESS, ERROR, NOT_RUNNING = 0, 1, 7


def test_shell_scripts():
    """All that a shell runs here."""

    subprocess.run(['shellcheck', *CONF.glob('payment-*'), HERE / 'node',
                    HERE / 'fence_test'], check=True)


def test_the_claim_as_pacemaker_calls_it(rig):
    """Whether it runs is what the server says. Pacemaker looks away."""

    primary, others, epoch = rig.roles()
    primary.crm('resource', 'unmanage', 'payment-claim')

    assert primary.agent('monitor') == SUCCESS
    assert primary.agent('start') == SUCCESS
    assert rig.cluster.claimed()[1] == epoch

    assert primary.agent('stop') == SUCCESS
    assert primary.agent('monitor') == NOT_RUNNING
    assert primary.agent('stop') == SUCCESS
    assert rig.ask.authorize().status == 503

    for other in others:
        other.query('STOP SLAVE IO_THREAD')

    assert primary.agent('start') == ERROR

    for other in others:
        other.query('START SLAVE IO_THREAD')

    wait_for(lambda: primary.agent('start') == SUCCESS, 30, 'the claim')
    assert rig.cluster.claimed()[1] == epoch + 2
    wait_for(lambda: rig.ask.authorize().ok, 10, 'a payment')

    for other in others:
        assert other.agent('monitor') == NOT_RUNNING
        assert other.agent('stop') == SUCCESS

    primary.crm('resource', 'manage', 'payment-claim')


def test_a_primary_that_dies(rig):
    """SIGKILL of its MariaDB; its node is well."""

    with rig:
        for _ in range(ROUNDS):
            primary, _, epoch = rig.roles()
            rig.pause(2)
            rig.switched('SIGKILL', primary.kill_server, epoch, stays=True)

    rig.check('primary that dies')


def test_replicas_that_are_behind(rig):
    """The same, when they have received a lot that they have not applied."""

    with rig:
        for _ in range(ROUNDS):
            primary, others, epoch = rig.roles()

            with others[0].behind(), others[1].behind():
                rig.load.wait(100)
                primary.kill_server()
                rig.pause(5)

            rig.switched('lock', lambda: None, epoch, stays=True)

    rig.check('replicas that are behind')


def test_a_replica_that_dies(rig):
    """Payments go on at the same server, and the other replica follows it."""

    with rig:
        for _ in range(ROUNDS):
            primary, (replica, other), epoch = rig.roles()
            rig.pause(2)
            replica.kill_server()
            rig.load.wait(100)
            assert rig.roles()[::2] == (primary, epoch)

    rig.check('replica that dies')


@pytest.mark.parametrize('how', ['power_off', 'cut'])
def test_a_node_that(how, rig):
    """The primary's: all of it ends at once, or its link alone. Pacemaker must
    have taken its power before there is another primary."""

    with rig:
        for _ in range(ROUNDS):
            primary, _, epoch = rig.roles()
            rig.pause(2)
            new = rig.switched(how, getattr(primary, how), epoch)
            assert new is not primary
            assert rig.cluster.fence.done.pop() == primary.name

            primary.start()

    rig.check(f'node that is {how}')


def test_a_planned_switch(rig):
    """crm node standby, and online when another one has the payments. Nobody
    is told 503."""

    with rig:
        for _ in range(ROUNDS):
            primary, _, epoch = rig.roles()
            rig.pause(2)
            new = rig.switched('standby', lambda: primary.crm(
                'node', 'standby', primary.name), epoch)
            assert new is not primary
            primary.crm('node', 'online', primary.name)

        primary, _, _ = rig.roles()

    assert {call.status for call in rig.calls() if not call.error} \
        <= {200, 409, 422}
    rig.check('planned switch')
