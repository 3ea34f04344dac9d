"""Everything at once, in an order that a seed decides.

PAYMENT_TEST_SEED plays one run again, as far as the machine lets it;
PAYMENT_TEST_LONG makes it five minutes instead of some seconds.
"""

import os
import random
import time

import pymysql
import pytest

import invariants
from client import Client, Load
from conftest import LONG
from proxy import is_bulk, is_commit, is_query, is_rollback
from servers import Shard, wait_for

COMMANDS = [is_commit, is_commit, is_commit, is_bulk, is_rollback,
            is_query(b'FOR UPDATE'), is_query(b'LOCK IN SHARE MODE')]
ACTIONS = ['before', 'half', 'after', 'at-once', 'swallow', 'hold', 'delay',
           'lie']


class Chaos:
    """One fault after the other; each is over when its method returns."""

    def __init__(self, rng, nginx, mariadb, database, proxy):
        self.rng = rng
        self.nginx = nginx
        self.mariadb = mariadb
        self.database = database
        self.proxy = proxy
        self.told = []

    def step(self):
        name = self.rng.choice(
            ['strike'] * 8 + ['cut'] * 3 + ['kill'] * 3 + ['hold_rows'] * 3
            + ['slow', 'black_hole', 'refuse', 'read_only', 'stop_commits',
               'reload', 'kill_worker', 'kill_server'])
        self.told.append(name)

        try:
            getattr(self, name)()
        except pymysql.err.OperationalError as error:
            # what we do to others can happen to us
            assert error.args[0] in (1205, 1213), error

        time.sleep(self.rng.random() / 10)

    def pause(self, most):
        time.sleep(self.rng.random() * most)

    def strike(self):
        strike = self.proxy.strike(
            self.rng.choice(COMMANDS), self.rng.choice(ACTIONS),
            times=self.rng.randrange(1, 4), seconds=self.rng.random(),
            error=self.rng.choice([1213, 1205, 1317, 1180]))
        self.told[-1] = f'strike {strike.action}'
        self.pause(0.3)
        self.proxy.calm()

        if self.rng.random() < 0.5:
            strike.release()

    def cut(self):
        self.proxy.cut(reset=self.rng.random() < 0.5)

    def kill(self):
        self.mariadb.kill_connections(
            self.database, self.rng.choice(['CONNECTION', 'QUERY']))

    def hold_rows(self):
        with self.mariadb.session(self.database) as session:
            session.cursor().execute('SELECT * FROM payment ORDER BY id DESC'
                                     ' LIMIT 5 FOR UPDATE')
            self.pause(1)

    def slow(self):
        self.proxy.delay = self.rng.random() / 20
        self.pause(0.5)
        self.proxy.delay = 0

    def black_hole(self):
        self.proxy.black_hole()
        self.pause(2)
        self.proxy.heal()

    def refuse(self):
        self.proxy.refuse()
        self.pause(0.5)
        self.proxy.accept()

    def read_only(self):
        self.mariadb.query('SET GLOBAL read_only = 1')
        self.pause(0.5)
        self.mariadb.query('SET GLOBAL read_only = 0')

    def stop_commits(self):
        with self.mariadb.session(self.database) as session:
            session.cursor().execute('FLUSH TABLES WITH READ LOCK')
            self.pause(0.5)

    def reload(self):
        self.nginx.reload()

    def kill_worker(self):
        self.nginx.kill_worker()
        wait_for(lambda: len(self.nginx.worker_pids()) >= 2, 5, 'a worker')

    def kill_server(self):
        self.mariadb.kill()
        self.mariadb.start()


@pytest.mark.timeout(420)
def test_chaos(start_nginx, mariadb, database, proxy, journal):
    seed = int(os.environ.get('PAYMENT_TEST_SEED',
                              random.randrange(1 << 32)))
    print(f'PAYMENT_TEST_SEED={seed}')

    nginx = start_nginx(Shard('main', database, proxy.address,
                              read_timeout='1s', connect_timeout='1s'),
                        location='payment_timeout 2s;', reuseport=False)
    ask = Client(nginx.port, journal)
    chaos = Chaos(random.Random(seed), nginx, mariadb, database, proxy)
    end = time.monotonic() + (300 if LONG else 12)

    with Load(nginx.port, journal, clients=10, merchants=20, fights=True,
              seed=seed) as load:
        while time.monotonic() < end:
            chaos.step()

        proxy.calm()
        load.wait(50)

    print(chaos.told, load.calls.statuses())

    # whatever happens, an answer comes in its time
    late = [call for call in journal if call.seconds > 3.5]
    assert not late, late[:5]

    allowed = {200, 404, 409, 422, 503, 504, 'reset', 'stale', 'refused'}
    assert set(load.calls.statuses()) <= allowed, load.calls.statuses()

    wait_for(lambda: ask.authorize().ok, 8, 'recovery')
    invariants.check(journal, (mariadb, database), settle=ask)
    wait_for(lambda: len(nginx.all_pids()) == 3, 10, 'the old workers\' end')
