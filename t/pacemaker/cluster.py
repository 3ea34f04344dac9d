"""Three nodes with Debian's corosync, Pacemaker and MariaDB, and the network
that joins them.

A node is a root file system (tools/tree.sh), and namespaces for its processes,
mounts, name, shared memory and network: t/pacemaker/node is its first process.
Their network is a bridge, on which we are the fourth; all this is made in
namespaces of tools/pacemaker.sh, with which it ends.

Fencing is real: Pacemaker calls fence_test, and Fence takes the node's power.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import xml.etree.ElementTree

import pymysql

import servers
from servers import ROOT, MariaDB, wait_for

HERE = pathlib.Path(__file__).resolve().parent
CONF = ROOT / 'conf' / 'pacemaker'
TREE = ROOT / 'build' / 'trees' / 'pacemaker'
NETWORK = '10.99.0'
NAMES = 'db1', 'db2', 'db3'              # as in conf/pacemaker/payment.crm

COROSYNC = """
totem {{
    version: 2
    cluster_name: payment
    transport: knet
    crypto_cipher: none
    crypto_hash: none
}}

quorum {{
    provider: corosync_votequorum
}}

logging {{
    to_logfile: yes
    logfile: /var/log/corosync/corosync.log
    to_syslog: no
    to_stderr: no
}}

nodelist {{
{nodes}
}}
"""

MEMBER = """
    node {{
        name: {name}
        nodeid: {number}
        ring0_addr: {address}
    }}
"""

SERVER = """
[mariadbd]
bind_address = 0.0.0.0
skip_name_resolve
innodb_buffer_pool_size = 64M
innodb_log_file_size = 64M
"""

FENCING = """
primitive fence stonith:fence_test params pcmk_host_list="{names}" \\
    op monitor interval=60s timeout=20s
property stonith-enabled=true stonith-action=off
"""

# as the agent's description has it; a user of ours at each node's socket, too
RIGHTS = ('SUPER, REPLICATION SLAVE, REPLICATION CLIENT, PROCESS, RELOAD,'
          ' READ_ONLY ADMIN, REPLICATION SLAVE ADMIN, SLAVE MONITOR')


def run(*command, **settings):
    return subprocess.run([str(word) for word in command], check=True,
                          capture_output=True, text=True, timeout=120,
                          **settings).stdout


class Node:
    """One of them; its disk outlives its processes."""

    def __init__(self, work, number):
        self.name = NAMES[number - 1]
        self.number = number
        self.address = f'{NETWORK}.{number}'
        self.link = f'to-{self.name}'
        self.dir = work / self.name
        self.process = None
        self.lock = threading.Lock()

    def __repr__(self):
        return self.name

    # --- what it is made of

    def build(self, data, corosync, hosts):
        upper = self.dir / 'upper'

        def write(path, text):
            (upper / path).parent.mkdir(parents=True, exist_ok=True)
            (upper / path).write_text(text)

        def install(path, source):
            (upper / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, upper / path)

        voter = (ROOT / 'conf' / 'mariadb' / 'voter.cnf').read_text()
        shutil.copytree(data, self.dir / 'data')
        write('etc/hosts', hosts)
        write('etc/corosync/corosync.conf', corosync)
        write('etc/mysql/mariadb.conf.d/90-voter.cnf', voter.replace(
            'server_id = 1 ', f'server_id = {self.number} '))
        write('etc/mysql/mariadb.conf.d/91-test.cnf', SERVER)

        for agent in 'payment-claim', 'payment-mariadb':
            install(f'usr/lib/ocf/resource.d/payment/{agent}', CONF / agent)

        install('usr/sbin/fence_test', HERE / 'fence_test')

        run('ip', 'netns', 'add', self.name)
        run('ip', 'link', 'add', self.link, 'type', 'veth', 'peer', 'name',
            'eth0', 'netns', self.name)
        run('ip', 'link', 'set', self.link, 'master', 'nodes', 'up')

    # --- power, and the network

    def start(self):
        with self.lock:
            self.process = subprocess.Popen(
                ['nsenter', f'--net=/run/netns/{self.name}', 'unshare',
                 '--mount', '--pid', '--uts', '--ipc', '--fork',
                 '--kill-child', HERE / 'node', self.name, self.address, TREE,
                 self.dir], stdin=subprocess.DEVNULL,
                stdout=open(self.dir / 'log', 'ab'), stderr=subprocess.STDOUT)

        self.join()
        wait_for(self.first, 10, f'the first process of {self.name}')

    def first(self):
        """The pid of its first process."""

        pid = self.process.pid
        children = pathlib.Path(f'/proc/{pid}/task/{pid}/children')

        return int(children.read_text() or 0)

    def power_off(self):
        """Nothing of it says good-bye to anybody."""

        with self.lock:
            if self.process.poll() is not None:
                return

            self.cut()
            os.kill(self.first(), signal.SIGKILL)
            self.process.wait(20)

    def cut(self):
        run('ip', 'link', 'set', self.link, 'down')

    def join(self):
        run('ip', 'link', 'set', self.link, 'up')

    # --- what runs there

    def run(self, *command, **settings):
        return run('nsenter', '--target', self.first(), '--mount', '--pid',
                   '--uts', '--ipc', '--net', '--root', '--wd', *command,
                   **settings)

    def crm(self, *words, **settings):
        return self.run('crm', *words, **settings)

    def agent(self, action):
        """The exit status of our agent, called as Pacemaker calls it."""

        try:
            self.run('env', 'OCF_ROOT=/usr/lib/ocf',
                     'OCF_RESOURCE_INSTANCE=payment-claim',
                     '/usr/lib/ocf/resource.d/payment/payment-claim', action)
        except subprocess.CalledProcessError as error:
            return error.returncode

        return 0

    def kill_server(self):
        """SIGKILL of its MariaDB."""
        self.run('sh', '-c', 'kill -9 "$(cat /run/mysqld/mysqld.pid)"')

    def admin(self, database=None):
        """A cursor of the server's owner."""

        connection = pymysql.connect(
            unix_socket=f'/proc/{self.first()}/root/run/mysqld/mysqld.sock',
            user='root', database=database, autocommit=True, read_timeout=10,
            write_timeout=10)

        return servers._Cursor(connection)

    def query(self, statement, database=None):
        with self.admin(database) as db:
            db.execute(statement)
            return db.fetchall()

    def status(self, name):
        return self.query(f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1]

    @contextlib.contextmanager
    def behind(self):
        """It receives what the primary commits, and applies nothing of it."""

        with self.admin() as db:
            db.execute('FLUSH TABLES WITH READ LOCK')
            yield

    def follows(self, primary):
        """It replicates from that one."""

        try:
            with self.admin() as db:
                db.execute('SHOW SLAVE STATUS')
                row = db.fetchone()
                names = [column[0] for column in db.description]
        except (pymysql.Error, OSError):
            return False

        slave = dict(zip(names, row or ()))

        return slave.get('Master_Host') == primary.name \
            and slave['Slave_IO_Running'] == slave['Slave_SQL_Running'] == 'Yes'


class Fence(threading.Thread):
    """What fence_test asks for, by a file with the node's name."""

    def __init__(self, nodes, directory):
        super().__init__(daemon=True)
        self.nodes = {node.name: node for node in nodes}
        self.dir = directory
        self.dir.mkdir()
        self.done = []                   # names, in their order
        self.ends = threading.Event()

    def run(self):
        while not self.ends.wait(0.05):
            for request in self.dir.iterdir():
                self.nodes[request.name].power_off()
                self.done.append(request.name)
                request.unlink()


class Cluster(list):
    """The three, as conf/pacemaker/payment.crm has them."""

    def __init__(self, work):
        super().__init__(Node(work, number) for number in (1, 2, 3))
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)

        run('ip', 'link', 'add', 'nodes', 'type', 'bridge')
        run('ip', 'address', 'add', f'{NETWORK}.254/24', 'dev', 'nodes')
        run('ip', 'link', 'set', 'nodes', 'up')

        data = self.first_data()
        corosync = COROSYNC.format(nodes=''.join(
            MEMBER.format(**vars(node)) for node in self))
        hosts = '\n'.join(['127.0.0.1 localhost']
                          + [f'{node.address} {node.name}' for node in self])

        for node in self:
            node.build(data, corosync, hosts + '\n')

        self.fence = Fence(self, work / 'fence')
        self.fence.start()

    @staticmethod
    def first_data():
        """All three begin as copies of one server that has a binary log: the
        agent compares the places in it, and wants one of each."""

        first = MariaDB('template', 'server_id = 1\nlog_bin = voter-bin\n'
                                    'gtid_strict_mode = 1')
        first.first_start()

        with first.admin() as db:
            db.execute('SET sql_log_bin = 0')
            db.execute(f"CREATE USER payment@'{NETWORK}.%'"
                       f" IDENTIFIED BY '{servers.PASSWORD}'")
            db.execute('GRANT SELECT, INSERT, UPDATE, DELETE ON payment.* TO'
                       f" payment@'{NETWORK}.%'")

            for host in ('localhost', f'{NETWORK}.%'):
                db.execute(f"GRANT {RIGHTS} ON *.* TO replica@'{host}'"
                           " IDENTIFIED BY 'replica'")

            db.execute('SET GLOBAL gtid_slave_pos = @@global.gtid_binlog_pos')

        first.stop()

        return first.dir / 'mariadb'

    def start(self):
        for node in self:
            node.start()

        wait_for(lambda: self.online() == list(NAMES), 60, 'three nodes')
        names = ' '.join(NAMES)
        self[0].crm('configure', 'load', 'update', '-',
                    input=FENCING.format(names=names))
        self[0].crm('configure', 'load', 'update', '-',
                    input=(CONF / 'payment.crm').read_text())

    def close(self):
        self.fence.ends.set()
        self.fence.join()

        for node in self:
            node.power_off()

    # --- what Pacemaker says

    def here(self):
        """A node that is up."""
        return next(node for node in self if node.process.poll() is None)

    def state(self, node=None):
        """Of crm_mon, as XML."""

        node = node or self.here()

        return xml.etree.ElementTree.fromstring(
            node.run('crm_mon', '--one-shot', '--output-as=xml'))

    def online(self):
        try:
            state = self.state()
        except subprocess.CalledProcessError:
            return []

        return sorted(node.get('name') for node in state.iterfind('nodes/node')
                      if node.get('online') == 'true')

    # --- what the servers say

    def claimed(self, than=0):
        """The node whose server has the claim and is writable, with a higher
        epoch than that one; its epoch and time."""

        for node in self:
            try:
                rows = node.query(
                    'SELECT epoch, UNIX_TIMESTAMP(CONVERT_TZ(changed_at,'
                    " '+00:00', @@time_zone)) FROM payment_topology"
                    ' WHERE server_id = @@global.server_id'
                    ' AND NOT @@global.read_only', 'payment')
            except (pymysql.Error, OSError, ValueError):
                continue

            if rows and rows[0][0] > than:
                return node, rows[0][0], float(rows[0][1])

        return None

    def wait_claimed(self, than=0, seconds=120):
        return wait_for(lambda: self.claimed(than), seconds, 'a claim')

    def wait_well(self, seconds=120):
        """The primary and two that follow it; the primary."""

        def well():
            claim = self.claimed()

            return claim and all(node is claim[0] or node.follows(claim[0])
                                 for node in self) \
                and int(claim[0].status('Rpl_semi_sync_master_clients')) == 2 \
                and claim[0]

        return wait_for(well, seconds, 'two voters that follow')
