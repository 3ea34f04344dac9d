"""From one release to the next without an outage: two nodes share a database
while one of them is old and the other new, the tables are brought up to date,
the way back works, and meanwhile no request fails, no outcome is unknown and
no event comes twice.

The old release is a commit of this repository, built beside this one.
"""

import json
import os
import re
import subprocess
import threading

import pytest

import servers
from client import Load
from migrations import Checkout
from outbox import (committed, judge, kafka, settings,    # noqa: F401
                    topic, wait_empty)
from servers import ROOT, WORK, Shard, wait_for

# The first that serves a range of schemas; of the releases to come, the last.
OLD = 'eeeaf272fc721505878b8b9a132fbda949f6656c'


@pytest.fixture(scope='session')
def old():
    """Where the old release is, built."""

    if subprocess.run(['git', '-C', ROOT, 'cat-file', '-e', OLD],
                      stderr=subprocess.DEVNULL).returncode:
        # .github/workflows/ci.yml fetches it
        if 'GITHUB_ACTIONS' in os.environ:
            pytest.fail(f'the checkout has no {OLD}')

        pytest.skip('not a git checkout that has the old release')

    return subprocess.check_output([ROOT / 'tools' / 'checkout.sh', OLD],
                                   text=True).strip()


@pytest.fixture
def shop(mariadb, old):
    """The name of a database that the old release made."""

    name = mariadb.empty_database()
    subprocess.run([f'{old}/tools/migrate.sh', 'up', name, *mariadb.login()],
                   check=True, stderr=subprocess.DEVNULL)
    yield name
    mariadb.drop_database(name)


@pytest.fixture
def nodes(mariadb, shop, old, kafka, topic, start_nginx):
    """Two of the old release."""

    return [start_nginx(Shard('main', shop, f'unix:{mariadb.socket}'),
                        http=settings(kafka, topic),
                        module=f'{old}/build/ngx_http_payment_module.so')
            for _ in range(2)]


def runs(nginx):
    """The file that its workers run is the one that was installed last."""

    inode = os.stat(nginx.loaded).st_ino
    return all(re.search(rf' {inode}\s+{re.escape(str(nginx.loaded))}$', line)
               for pid in nginx.worker_pids()
               for line in open(f'/proc/{pid}/maps')
               if 'module.so' in line)


def change_over(nodes, old, tree, mariadb, shop, pause):
    """All that an operator does, with a pause wherever both releases may stay
    beside each other."""

    old_module = f'{old}/build/ngx_http_payment_module.so'
    new_module = servers.MODULES
    first, second = nodes

    def upgrade(nginx, module):
        nginx.upgrade(module, pause)
        assert runs(nginx)
        pause()

    pause()
    tree.run(mariadb, 'up', shop)
    pause()

    upgrade(first, new_module)
    upgrade(first, old_module)              # the way back
    upgrade(second, new_module)
    upgrade(first, new_module)

    tree.run(mariadb, 'finish', shop)
    pause()


@pytest.fixture
def tree(tmp_path):
    """The new release's migrations, and one more, of the hottest table."""

    tree = Checkout(tmp_path / 'new')
    tree.add('expand', 'ALTER TABLE payment ADD COLUMN IF NOT EXISTS'
             ' of_a_later_release INT NULL, ALGORITHM=INSTANT, LOCK=NONE;')
    return tree


@pytest.mark.timeout(400)
def test_upgrade(nodes, old, tree, mariadb, shop, kafka, topic, journal):
    loads = [Load(nginx.port, journal, clients=4, fresh=True, changes=True,
                  pause=0.002) for nginx in nodes]

    def pause():
        for load in loads:
            load.wait(60)

    with loads[0], loads[1]:
        change_over(nodes, old, tree, mariadb, shop, pause)

    assert set(journal.statuses()) == {200}, journal.statuses()

    wait_empty(mariadb, shop, 40)
    expected = committed(mariadb, shop)
    judge(kafka.messages(topic), expected, 0, 8)

    assert len(journal) == len(expected)
    assert {call.id for call in journal} \
        == {ident.partition(':')[0] for ident in expected}


class Flows:
    """k6's full flow, 300 times a second, one run after the other until the
    with block ends: however long an upgrade takes, requests come meanwhile."""

    SECONDS = 20                                        # of one run

    def __init__(self, nodes):
        self.summary = WORK / 'k6.json'
        self.environment = dict(
            os.environ, SUMMARY=str(self.summary), RATE='300',
            DURATION=f'{self.SECONDS}s',
            BASE_URL=','.join(f'http://127.0.0.1:{nginx.port}'
                              for nginx in nodes))
        self.runs = []                                  # the metrics of each
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._go_on)

    def _go_on(self):
        while not self.over.is_set():
            self.summary.unlink(missing_ok=True)
            subprocess.run(
                [ROOT / 'build' / 'bin' / 'k6', 'run', '--quiet',
                 '--no-usage-report', '--address', '', '--no-connection-reuse',
                 ROOT / 'bench' / 'k6' / 'full-flow.js'],
                env=self.environment, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, timeout=self.SECONDS + 60)
            self.runs.append(json.loads(self.summary.read_text())['metrics'])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def total(self, name, value):
        return sum(run[name]['values'][value] for run in self.runs
                   if name in run)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_upgrade_under_k6(nodes, old, tree, mariadb, shop, kafka, topic):
    """300 flows a second: authorize, capture, refund. `make test-upgrade`"""

    def count():
        return mariadb.query('SELECT COUNT(*) FROM payment', shop)[0][0]

    with Flows(nodes) as flows:
        def pause():
            wanted = count() + 600
            wait_for(lambda: count() >= wanted, 90, '600 payments more')

        change_over(nodes, old, tree, mariadb, shop, pause)

    print(len(flows.runs), 'runs,', flows.total('http_reqs', 'count'),
          'requests', [run['payment_authorize_duration']['values']
                       for run in flows.runs])

    # k6 counts as a pass what the metric's name says
    assert flows.total('http_req_failed', 'passes') == 0
    assert flows.total('checks', 'fails') == 0

    wait_empty(mariadb, shop, 60)
    expected = committed(mariadb, shop)
    judge(kafka.messages(topic), expected, 0, 8)

    assert flows.total('payment_accepted', 'count') == count()
    assert flows.total('payment_changes', 'count') == len(expected)
