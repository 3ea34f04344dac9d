"""Three MariaDBs as conf/mariadb/voter.cnf has them: one is the primary, and a
commit waits until another one has it.

What promotes a server is not a part of the module. Here it is a few statements
of a manager, in the order of docs/high-availability.md: Voters.promote().
"""

import contextlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pymysql

import invariants
from client import Client
from servers import ROOT, MariaDB, Shard, wait_for

CONF = ROOT / 'conf' / 'mariadb' / 'voter.cnf'


def settings(**changes):
    """The lines of voter.cnf, and those that a test has otherwise."""

    lines = [line.split('#')[0].strip()
             for line in CONF.read_text().splitlines()]

    return '\n'.join([line for line in lines if line and line[0] != '[']
                     + [f'{name} = {value}'
                        for name, value in changes.items()])


class Voter(MariaDB):
    """One of them. Replicas reach it by its front, a proxy."""

    def __init__(self, name, number, **changes):
        super().__init__(name, settings(server_id=number, **changes))
        self.number = number
        self.front = None
        self.kept = None
        self.manager = None          # who acts here: its user and password

    def first_start(self, template=None):
        """With the data of a stopped server, as it is: all three begin with
        the same, and nothing that is not in the binary log."""

        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        shutil.copytree(template, self.dir / 'mariadb')
        self.start()

        with self.admin() as db:
            db.execute('SET sql_log_bin = 0')
            db.execute("GRANT REPLICATION SLAVE ON *.* TO"
                       " 'replica'@'127.0.0.1' IDENTIFIED BY 'replica'")

    @contextlib.contextmanager
    def at_hand(self):
        """Whoever asks it meanwhile has a connection that is open already, as
        a manager has."""

        with self._login('payment') as self.kept:
            try:
                yield
            finally:
                self.kept = None

    def admin(self, database=None):
        if self.kept:
            return contextlib.nullcontext(self.kept)

        return self._login(database)

    def _login(self, database):
        if not self.manager:
            return super().admin(database)

        user, password = self.manager
        return self.cursor(user=user, password=password, database=database)

    def crash(self):
        """SIGKILL, if it runs."""

        try:
            self.status('Uptime')
        except pymysql.Error:
            return

        self.kill()

    def shut_down(self):
        """By SHUTDOWN; returns when the process is gone."""

        self.query('SHUTDOWN')
        wait_for(lambda: not self.runs(), 30, 'the end of a SHUTDOWN')

    def rebuild(self, template, primary):
        """Whatever it has is thrown away: all comes from the primary, whose
        binary log has everything. Returns when it has come; nothing of that is
        flushed by itself, which would take minutes after many rounds."""

        self.crash()
        self.first_start(template)
        self.set(sync_binlog=0, innodb_flush_log_at_trx_commit=0)
        self.follow(primary)
        self.applied(primary.query('SELECT @@global.gtid_binlog_pos')[0][0])
        self.set(sync_binlog=1, innodb_flush_log_at_trx_commit=1)

    def follow(self, primary, demoted=False):
        """A replica of that one from now on, from where it is itself; demoted:
        it was a primary."""

        demote = ', MASTER_DEMOTE_TO_SLAVE = 1' if demoted else ''

        with self.admin() as db:
            db.execute('STOP SLAVE')
            db.execute("CHANGE MASTER TO MASTER_HOST = '127.0.0.1',"
                       f" MASTER_PORT = {primary.front.port},"
                       " MASTER_USER = 'replica', MASTER_PASSWORD = 'replica',"
                       f" MASTER_USE_GTID = slave_pos{demote},"
                       " MASTER_CONNECT_RETRY = 1,"
                       " MASTER_HEARTBEAT_PERIOD = 1")
            db.execute('START SLAVE')

    def slave(self, member):
        """A column of SHOW SLAVE STATUS."""

        with self.admin() as db:
            db.execute('SHOW SLAVE STATUS')
            names = [column[0] for column in db.description]
            return db.fetchone()[names.index(member)]

    def received(self):
        """How many transactions it has, applied or not: of one domain and
        with strict GTIDs, the number is the place."""

        position = self.slave('Gtid_IO_Pos')
        return int(position.split('-')[2]) if position else 0

    def applied(self, position, seconds=25):
        """Until it has applied that."""

        result = self.query(f"SELECT MASTER_GTID_WAIT('{position}',"
                            f" {seconds})")[0][0]
        assert result == 0, f'{position}: not applied within {seconds} s'

    def set(self, **variables):
        with self.admin() as db:
            for name, value in variables.items():
                db.execute(f'SET GLOBAL {name} = {value}')


class Voters(list):
    """The three; the first begins as the primary."""

    def __init__(self, template, start_proxy):
        super().__init__()
        self.template = template
        self.start_proxy = start_proxy
        self.claimed = 0             # when the last claim was made

        self.primary = self.add(3)[0]

        for voter in self[1:]:
            voter.follow(self.primary)

        self.open(self.primary)
        self.wait_voters(2)

    def add(self, n=1):
        """So many more, with the data that all begin with."""

        first = len(self) + 1
        more = [Voter(f'voter-{number}', number)
                for number in range(first, first + n)]
        self.extend(more)

        for voter in more:
            voter.stop()             # of a session that was killed
            voter.front = self.start_proxy(('127.0.0.1', voter.port))

        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda voter: voter.first_start(self.template),
                          more))

        return more

    def close(self):
        for voter in self:
            voter.crash()            # a COMMIT that waits would keep it
            shutil.rmtree(voter.dir)

    def act_as(self, *manager):
        """What is done from now on is done by that user, with his password;
        without one by the servers' owner."""

        for voter in self:
            voter.manager = manager

    def open(self, voter):
        """Payments may come."""

        self.claim(voter)
        voter.set(rpl_semi_sync_master_enabled=1, read_only=0)

    def claim(self, voter):
        voter.query("CALL payment_claim('the test')", 'payment')
        self.claimed = time.monotonic()

    def wait_voters(self, n, seconds=20):
        """Until so many replicas of the primary confirm its commits."""

        wait_for(lambda: int(self.primary.status('Rpl_semi_sync_master_clients'
                                                 )) == n, seconds,
                 f'{n} voters')

    def catch_up(self):
        """Until the replicas have what the primary has now: claims, too."""

        position = self.primary.query('SELECT @@global.gtid_binlog_pos')[0][0]

        for voter in self[:3]:
            if voter is not self.primary:
                voter.applied(position)

    def promote(self, *voters):
        """Of these replicas, the one that has received most; its order is a
        manager's, and only the claim is ours. Returns it."""

        for voter in voters:
            voter.query('STOP SLAVE IO_THREAD')

        best = max(voters, key=Voter.received)
        best.applied(best.slave('Gtid_IO_Pos'))
        best.query('STOP SLAVE')
        best.query('RESET SLAVE ALL')
        self.primary = best

        for voter in voters:
            if voter is not best:
                voter.follow(best)

        self.open(best)

        return best

    def rejoin(self, voter):
        """One that died as the primary is a replica now; what it alone had is
        taken back."""

        voter.start(options='init_rpl_role = SLAVE')
        voter.follow(self.primary, demoted=True)

    def switch(self, read_only=True):
        """Another one becomes the primary while all three are well. Without
        read_only the manager forgets to say it."""

        with contextlib.ExitStack() as stack:
            for voter in self:
                stack.enter_context(voter.at_hand())

            self._switch(read_only)

    def _switch(self, read_only):
        old = self.primary
        new, other = (voter for voter in self if voter is not old)

        old.query("CALL payment_freeze('the test')", 'payment')

        if read_only:
            old.set(read_only=1)

        position = old.query('SELECT @@global.gtid_binlog_pos')[0][0]
        new.applied(position)
        new.query('STOP SLAVE')
        new.query('RESET SLAVE ALL')
        self.primary = new
        self.claim(new)

        # a primary that none confirms for a second is refused at once
        other.follow(new)
        wait_for(lambda: other.slave('Slave_IO_Running') == 'Yes', 20,
                 'a voter that follows')
        new.set(rpl_semi_sync_master_enabled=1, read_only=0)

        old.set(rpl_semi_sync_master_enabled=0, read_only=1)
        old.follow(new, demoted=True)
        self.wait_voters(2)


class Node:
    """An nginx, and its own way to each of the servers. It is blind to what the
    pairs of texts are about: where it asks the one, its servers are asked the
    other."""

    def __init__(self, voters, start_nginx, start_proxy, journal, order=None,
                 http='', location='', blind=(), **settings):
        self.voters = voters
        self.ways = {voter: start_proxy(('127.0.0.1', voter.port))
                     for voter in order or voters}

        for way in self.ways.values():
            for asked, instead in blind:
                way.rewrite(asked, instead)

        self.nginx = start_nginx(
            Shard('main', 'payment',
                  [way.address for way in self.ways.values()], **settings),
            ready=False, http=http, location=location)
        self.ask = Client(self.nginx.port, journal)

    def first(self, seconds=15, **members):
        """The first payment that is answered with 200."""

        def paid():
            call = self.ask.authorize(**members)
            assert call.status in (200, 503, 504), call
            return call.ok and call

        return wait_for(paid, seconds, 'a payment')

    def check(self):
        """What was answered, against the primary's tables."""

        invariants.check(self.ask.journal, (self.voters.primary, 'payment'),
                         settle=self.ask)


def payments(server):
    return server.query('SELECT COUNT(*) FROM payment', 'payment')[0][0]
