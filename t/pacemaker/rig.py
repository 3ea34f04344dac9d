"""An nginx that pays by way of the cluster, its helper with a Kafka, and
clients that pay, change and repeat all the time. What they were answered is
held against the tables and the topic: t/fault/ha.py says what is counted.
"""

import collections
import os
import random
import statistics
import time
import uuid

import ha
import invariants
import outbox
from client import Client, Journal, Load
from servers import WORK, Nginx, Shard, wait_for

RESULTS = WORK.parent / 'pacemaker.md'
ROUNDS = int(os.environ.get('PAYMENT_TEST_ROUNDS', 2))


class Rig:
    def __init__(self, cluster):
        self.cluster = cluster
        self.journal = Journal()
        self.rng = random.Random(ha.SEED)
        self.seconds = collections.defaultdict(list)
        self.marked = 0
        self.load = None

        self.kafka = outbox.Kafka()
        self.kafka.stop()                # of a session that was killed
        self.kafka.first_start()
        self.topic = f'test-{uuid.uuid4()}'
        self.kafka.create(self.topic)

        cluster.wait_claimed()
        cluster.wait_well()
        settings = outbox.settings(self.kafka, self.topic,
                                   lock_at_most_for='3s')
        self.nginx = Nginx(
            'nginx', [Shard('main', 'payment',
                            [f'{node.address}:3306' for node in cluster],
                            durability='replica', **ha.SHARD)],
            http=f'{ha.PATIENT["http"]}\n    {settings}',
            location=ha.PATIENT['location'])
        self.nginx.start(ready=False)
        self.ask = Client(self.nginx.port, self.journal)
        wait_for(lambda: self.ask.authorize().ok, 30, 'a payment')

    def close(self):
        self.nginx.stop()
        self.kafka.stop()

    def __enter__(self):
        self.seconds.clear()
        self.marked = len(self.journal)
        self.load = Load(self.nginx.port, self.journal, clients=ha.CLIENTS,
                         changes=True, fights=True, pause=ha.REST,
                         seed=self.rng.randrange(1 << 32)).start()
        return self

    def __exit__(self, *error):
        self.load.stop()

    def roles(self):
        """The primary, the others, and the epoch; when all is well."""

        primary = self.cluster.wait_well()
        others = [node for node in self.cluster if node is not primary]

        return primary, others, self.cluster.claimed()[1]

    def pause(self, most):
        time.sleep(self.rng.random() * most)

    def switched(self, what, act, epoch, stays=False):
        """Does it, and waits until there are payments again: at another server,
        or, if it stays, perhaps at the same, with its old claim. Returns who
        has them."""

        clocks = time.monotonic() - time.time()
        began = time.monotonic()
        act()

        if not stays:
            self.cluster.wait_claimed(epoch)

        mark = time.monotonic()
        wait_for(lambda: any(call.ok and call.sent > mark
                             for call in self.journal[-5000:]), 120,
                 'a payment')
        node, now, claimed = self.cluster.wait_claimed()

        if now > epoch:
            self.seconds[f'{what} to claim'].append(claimed + clocks - began)

        self.load.wait(20)
        paid = sorted(call.received for call in self.calls()
                      if call.ok and call.received > began)
        self.seconds['no 2xx for'].append(max(
            later - sooner for sooner, later in zip([began] + paid, paid)))

        return node

    def calls(self):
        """Of this test."""
        return self.journal[self.marked:]

    def check(self, what):
        """Everything so far, when the clients have stopped."""

        place = self.cluster.wait_well(), 'payment'
        outbox.wait_empty(*place, 60)
        found = ha.count(self.journal, place, self.kafka.messages(self.topic))
        tell(what, self.calls(), found, self.seconds)
        assert not any(found.values()), found

        invariants.check(self.journal, place, settle=self.ask,
                         published=self.messages)

    def messages(self):
        outbox.wait_empty(self.cluster.wait_well(), 'payment', 60)
        return self.kafka.messages(self.topic)


def tell(what, calls, found, seconds):
    """A line of the table in docs/high-availability.md."""

    times = '; '.join(
        f'{name}: {statistics.median(values):.1f}'
        f' (at most {max(values):.1f}) s' for name, values in seconds.items())
    answers = collections.Counter(str(call.error or call.status)
                                  for call in calls)
    line = (f'| {what} | {ROUNDS} | '
            + ', '.join(f'{n} × {answer}'
                        for answer, n in answers.most_common())
            + ' | ' + ', '.join(str(found[name]) for name in found)
            + f' | {times} |')
    print(line)

    with open(RESULTS, 'a') as file:
        file.write(line + '\n')
