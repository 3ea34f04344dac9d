"""What a shard of three voters promises, under load and at random instants, and
what is counted where the promise is not kept: for test_ha.py.

lost        answered with 2xx, and not in the tables, or its event nowhere
doubled     one key that made two payments, or two answers; or one event with
            two contents
disordered  an event that came to Kafka before an earlier one of its payment
phantom     a payment that nobody asked for, or an event of nothing
broken      what the scenario itself promises: see test_ha.py
"""

import collections
import os
import random
import signal
import time

import invariants
import outbox
from client import Load
from servers import WORK, wait_for

SEED = int(os.environ.get('PAYMENT_TEST_SEED', random.randrange(1 << 32)))
RESULTS = WORK.parent / 'ha.md'
FIGURES = 'lost', 'doubled', 'disordered', 'phantom', 'broken'
ROUNDS = int(os.environ.get('PAYMENT_TEST_ROUNDS', 50))

# clients of each node, and the seconds that each rests after an answer: 400
# payments a second all in all, or 1000 with 12 of them
CLIENTS = int(os.environ.get('PAYMENT_TEST_CLIENTS', 5))
REST = 0.02

# For a machine that has other work a switch takes long; and the other node's
# helper may have to wait for a lease.
SHARD = dict(read_timeout='1s', connect_timeout='1s')
PATIENT = dict(http='payment_queue_timeout 8s;',
               location='payment_timeout 15s;')
QUICK = dict(http='', location='payment_timeout 3s;')


def row(what, guard, rounds, calls, found, remark):
    """A line of the table in docs/high-availability.md."""

    cells = [what, guard, rounds, len(calls),
             *(found[name] for name in FIGURES), remark]
    line = f'| {" | ".join(map(str, cells))} |'
    print(line)

    with open(RESULTS, 'a') as file:
        print(line, file=file)


class Rig:
    """Three voters, two nodes, each with its own way to each voter and with its
    own helper, a broker, and clients of both nodes that never stop."""

    def __init__(self, voters, start_node, kafka, topic, journal, times=QUICK,
                 **settings):
        self.voters = voters
        self.kafka = kafka
        self.topic = topic
        self.journal = journal
        self.rng = random.Random(SEED)
        self.broken = []
        self.seconds = collections.defaultdict(list)
        self.extra = None            # a fourth server
        self.decks = {}              # see draw()

        http = '\n    '.join([times['http'], outbox.settings(
            kafka, topic, lock_at_most_for='3s')])

        # neither has the other's first server as its first
        self.nodes = [start_node(order, http=http, location=times['location'],
                                 **SHARD, **settings)
                      for order in (voters[:3], voters[2::-1])]

        for node in self.nodes:
            node.first()

        self.loads = []

    def __enter__(self):
        self.loads = [Load(node.nginx.port, self.journal, clients=CLIENTS,
                           changes=True, fights=True, pause=REST,
                           seed=self.rng.randrange(1 << 32)).start()
                      for node in self.nodes]

        return self

    def __exit__(self, *error):
        for load in self.loads:
            load.stop()

    def pause(self, most):
        """Until a random instant."""
        time.sleep(self.rng.random() * most)

    def draw(self, things):
        """A random one of them, and none again before all were."""

        if not self.decks.get(things):
            self.decks[things] = self.rng.sample(things, len(things))

        return self.decks[things].pop()

    def roles(self):
        """The primary, and the others in a random order."""

        primary = self.voters.primary
        others = [voter for voter in self.voters[:3] if voter is not primary]
        self.rng.shuffle(others)

        return primary, others

    def paid(self, n, load=None, seconds=20):
        """Until so many more were answered with 200 at each node, or at that
        one."""

        for load in [load] if load else self.loads:
            mark = len(load.calls)
            wait_for(lambda: sum(call.ok for call in load.calls[mark:]) >= n,
                     seconds, 'payments')

    def answers(self, since, load=None):
        """Answers to what was sent since then."""

        calls = load.calls if load else self.journal

        return [call for call in calls[:] if call.sent >= since]

    def paid_since(self, since, load=None):
        return [call for call in self.answers(since, load) if call.ok]

    def refusals(self):
        """How often each node has begun to refuse all payments."""

        return [len(node.nginx.lines('no payments are taken'))
                for node in self.nodes]

    def promote(self, *voters):
        """Returns when there is a payment again."""

        new = self.voters.promote(*voters)
        claimed = self.voters.claimed
        first = wait_for(lambda: min((call.received
                                      for call in self.journal[-3000:]
                                      if call.ok and call.received > claimed),
                                     default=None), 20, 'a payment')
        self.seconds['from the claim to the first 2xx'].append(first - claimed)

        return new

    def rejoin(self, voter):
        """One that died as the primary."""

        self.voters.rejoin(voter)
        self.voters.wait_voters(2)
        self.voters.catch_up()

    def rebuild(self, voter):
        voter.rebuild(self.voters.template, self.voters.primary)
        self.voters.wait_voters(2)
        self.voters.catch_up()

    def forget_voters(self):
        """The primary answers what nobody has confirmed."""
        self.voters.primary.set(rpl_semi_sync_master_enabled=0)

    def restart(self, node):
        """Nothing that its processes knew is left."""

        node.nginx.quit()
        node.nginx.restart()

    def kill_helper(self, node):
        node.nginx.expect('exited on signal 9')

        for pid in outbox.helpers(node.nginx):
            os.kill(pid, signal.SIGKILL)

    def messages(self):
        """What is in Kafka when nothing more is to come."""

        outbox.wait_empty(self.voters.primary, 'payment', 60)
        return self.kafka.messages(self.topic)

    def place(self):
        return self.voters.primary, 'payment'

    def count(self):
        """What there is of the above, when the clients have stopped."""

        return count(self.journal, self.place(),
                     self.kafka.messages(self.topic)) \
            | dict(broken=len(self.broken))

    def check(self):
        """Everything, at the end; clients without an answer get theirs."""

        invariants.check(self.journal, self.place(), settle=self.nodes[0].ask,
                         published=self.messages)


def count(journal, place, messages):
    dump = invariants.Dump(place)
    dump.publish(messages)
    found = collections.Counter(lost=0, disordered=0, phantom=0,
                                doubled=len(dump.doubles))
    calls = invariants.by_key(journal)

    for (merchant, key), group in calls.items():
        bodies = {call.body for call in group if call.ok}
        row = dump.keys.get(invariants.key_hash(merchant, key))
        there = row and row['payment'] in dump.payments \
            and row['version'] in dump.events[row['payment']]
        found['lost'] += bool(bodies) and not there
        found['doubled'] += len(bodies) > 1

    asked = {invariants.key_hash(*key) for key in calls}
    found['phantom'] += len(dump.keys.keys() - asked)

    contents = {}
    latest = collections.Counter()

    for message in messages:
        payment = dump.payments.get(message.payment)

        if message.id in contents:
            found['doubled'] += contents[message.id] != message.value
            continue

        contents[message.id] = message.value
        found['phantom'] += payment is None \
            or message.version > payment['version']
        found['disordered'] += message.version != latest[message.payment] + 1
        latest[message.payment] = message.version

    return dict(found)
