"""The servers that a fault test may kill: MariaDB and nginx, on loopback ports
of their own, in directories under build/test/fault*.

MariaDB is started by tools/server.sh, as everywhere; nginx runs in the
foreground as a child, so that its end is seen. What a test leaves running is
stopped when the test ends, and nginx's log is read then: an alert, a crash or
a socket left open fails the test that caused it.
"""

import functools
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import zlib

import pymysql

import told
from freeport import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEST_DIR = pathlib.Path(os.environ.get('PAYMENT_TEST_DIR',
                                       ROOT / 'build' / 'test'))

# pytest-xdist runs several tests at once, in processes with servers of their own
PROCESS = os.environ.get('PYTEST_XDIST_WORKER', '')
WORK = TEST_DIR / f'fault{PROCESS}'

NGINX = os.environ.get('TEST_NGINX_BINARY') or shutil.which(
    'nginx', path=os.environ['PATH'] + ':/usr/sbin:/sbin')
MODULES = os.environ.get('TEST_NGINX_LOAD_MODULES',
                         str(ROOT / 'build' / 'ngx_http_payment_module.so'))

# lines of every MariaDB's configuration: "log-bin=db-bin;sync-binlog=1". Not of
# one with a faulty disk: where that stalls, a binary log lets no row be seen.
OPTIONS = os.environ.get('PAYMENT_TEST_MARIADB', '').replace(';', '\n')

USER = 'payment'
PASSWORD = 'pay-ment-secret'

# of what every nginx of every test logs; PAYMENT_TEST_LEVEL=debug for the most
LEVEL = told.level('info')

# what nothing may show: the password, and a part of each key that a client makes
KEY_MARK = 'unlogged'
SECRETS = KEY_MARK, PASSWORD, *told.MARKS

# lines of a MariaDB's configuration, before plugin-load-add
PLUGINS = f"plugin-dir = {ROOT / 'build' / 'plugins'}\n"

# the connection by which a node looks at each server of a shard with several
PROBE = 1

TABLES = ('payment', 'idempotency_key', 'outbox_event', 'outbox_dead',
          'outbox_lease', 'payment_identity', 'payment_barrier',
          'payment_topology', 'payment_operation', 'payment_expiry')


def wait_for(condition, seconds=10, what='a condition'):
    """What condition() returned first that is true; fails after seconds, but
    not before it was asked a few times: the machine may have been away."""

    end = time.monotonic() + seconds
    asked = 0

    while True:
        result = condition()
        if result:
            return result

        asked += 1
        assert time.monotonic() < end or asked < 20, \
            f'{what}: not within {seconds} s'
        time.sleep(0.01)


def preload(name):
    """Compiles t/fault/NAME.c into a library for LD_PRELOAD; its path."""

    library = WORK / f'{name}.so'
    subprocess.run(['gcc', '-shared', '-fPIC', '-Wall', '-Wextra', '-Werror',
                    '-o', library, ROOT / 't' / 'fault' / f'{name}.c', '-ldl'],
                   check=True)

    return str(library)


class Disk:
    """What faulty_disk.c makes of a MariaDB's disk."""

    # A COMMIT of statistics that waits would keep everybody from opening a
    # table; and where the sync of each second waits, the log of a COMMIT is
    # not even written.
    OPTIONS = ('innodb_stats_auto_recalc = 0\n'
               'innodb_flush_log_at_timeout = 2700')

    def __init__(self, data):
        self.data = data
        self.dir = data.parent / 'disk'
        self.dir.mkdir(parents=True, exist_ok=True)
        self.stalled = self.dir / 'stalled'
        self.environment = dict(FAULTY_DISK=str(self.dir),
                                MARIADB_PRELOAD=preload('faulty_disk'))

    def stall(self):
        """From now on, nothing that is logged gets on disk."""
        self.stalled.touch()

    def resume(self):
        self.stalled.unlink(missing_ok=True)

    def lose(self):
        """Takes back what the logs were not synced after; the number of
        writes. For a server that is not running."""

        return sum(self._undo(path) for path in self.dir.glob('*.undo'))

    def _undo(self, path):
        undo = path.read_bytes()
        records = []
        place = struct.unpack_from('q', undo)[0] if undo else 0

        while place < len(undo):
            offset, length, size = struct.unpack_from('qqq', undo, place)
            place += struct.calcsize('qqq')
            records.append((offset, undo[place:place + length], size))
            place += length

        if records:
            log, = [log for log in self.data.iterdir()
                     if log.stat().st_ino == int(path.stem)]

            with open(log, 'r+b') as file:
                for offset, old, size in reversed(records):
                    file.seek(offset)
                    file.write(old)
                    file.truncate(size)

        path.unlink()
        return len(records)


class Clock:
    """What stepped_clock.c makes of a MariaDB's time of day."""

    def __init__(self, data):
        self.file = data.parent / 'clock'
        self.environment = dict(STEPPED_CLOCK=str(self.file),
                                MARIADB_PRELOAD=preload('stepped_clock'))
        self.file.write_bytes(struct.pack('q', 0))

    def set(self, seconds):
        """From now on it is so many seconds ahead of the true time."""

        with open(self.file, 'r+b') as file:
            file.write(struct.pack('q', seconds))


class MariaDB:
    """A private server, with as many databases as tests want. With a faulty
    disk it has a Disk, and can have its power cut; with a stepped clock it has
    a Clock."""

    def __init__(self, name, options='', faulty_disk=False,
                 stepped_clock=False):
        self.dir = WORK / name
        self.socket = self.dir / 'mariadb.sock'
        self.port = free_port()
        self.options = options
        self.faulty_disk = faulty_disk
        self.stepped_clock = stepped_clock
        self.disk = None
        self.clock = None
        self.count = 0

    def _tool(self, verb, *arguments, options=None):
        environment = dict(os.environ, MARIADB_BUFFER_POOL='64M',
                           MARIADB_LOG_SIZE='64M')

        for rig in filter(None, (self.disk, self.clock)):
            environment.update(rig.environment)

        environment['MARIADB_OPTIONS'] = '\n'.join(
            filter(None, (self.disk.OPTIONS if self.disk else OPTIONS,
                          self.options, options))).replace('\n', '\\n')

        subprocess.run([ROOT / 'tools' / 'server.sh', 'mariadb', verb,
                        self.dir, *arguments], env=environment, check=True,
                       stdout=subprocess.DEVNULL, timeout=200)

    def start(self, options=None):
        self._tool('start', str(self.port), options=options)

    def stop(self):
        if self.disk:
            self.disk.resume()

        self._tool('stop')

    def kill(self):
        """SIGKILL; returns when the process is gone."""
        self._tool('kill')

    def runs(self):
        """Whether there is a process, be it at its beginning or end."""

        return subprocess.run(
            [ROOT / 'tools' / 'server.sh', 'mariadb', 'status', self.dir],
            stdout=subprocess.DEVNULL, timeout=20).returncode == 0

    def cut_power(self):
        """SIGKILL, and what was not synced is lost; how many writes."""

        self.kill()
        lost = self.disk.lose()
        self.disk.resume()

        return lost

    def restart(self, options=None):
        self.stop()
        self.start(options)

    def first_start(self, template=None):
        """With empty data, copied from a stopped server if there is one."""

        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)

        if template:
            shutil.copytree(template, self.dir / 'mariadb')

        if self.faulty_disk:
            self.disk = Disk(self.dir / 'mariadb')

        if self.stepped_clock:
            self.clock = Clock(self.dir / 'mariadb')

        self.start()

        with self.admin() as db:
            db.execute("DROP USER IF EXISTS 'payment'@'localhost',"
                       " 'payment'@'127.0.0.1'")

            for host in ('localhost', '127.0.0.1'):
                db.execute(f"CREATE USER '{USER}'@'{host}'"
                           f" IDENTIFIED BY '{PASSWORD}'")
                db.execute("GRANT SELECT, INSERT, UPDATE, DELETE"
                           f" ON `payment%`.* TO '{USER}'@'{host}'")

            db.execute('CREATE DATABASE IF NOT EXISTS payment')

        self.migrate('payment')

    def login(self):
        """Options of the mariadb client, for the server's owner."""
        return ('--no-defaults', '--protocol=socket',
                f'--socket={self.socket}', f'--user={_me()}')

    def migrate(self, database, verb='up'):
        subprocess.run([ROOT / 'tools' / 'migrate.sh', *verb.split(), database,
                        *self.login()], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run_script(self, path, database):
        """A migration by itself, which nothing records."""
        self.run(path.read_text(), database)

    def run(self, script, *database):
        """What a person gives to the mariadb client."""

        subprocess.run(['mariadb', *self.login(), *database], input=script,
                       text=True, check=True)

    def admin(self, database=None):
        """A cursor of the server's owner, committing as it goes."""

        return self.cursor(user=_me(), database=database)

    def cursor(self, **login):
        """Of whom that says, committing as it goes."""

        return _Cursor(pymysql.connect(
            unix_socket=str(self.socket), autocommit=True, read_timeout=30,
            write_timeout=30, **login))

    def session(self, database):
        """A connection without autocommit: something that holds locks."""

        return pymysql.connect(unix_socket=str(self.socket), user=_me(),
                               database=database, autocommit=False,
                               init_command='SET lock_wait_timeout = 5,'
                                            ' innodb_lock_wait_timeout = 5')

    def query(self, statement, database=None):
        with self.admin(database) as db:
            db.execute(statement)
            return db.fetchall()

    def empty_database(self, name=None):
        """A database without tables; its name."""

        self.count += 1
        name = name or f'payment_{self.dir.name.replace("-", "")}_{self.count}'
        self.query(f'CREATE DATABASE IF NOT EXISTS {name}')

        return name

    def new_database(self, name=None):
        """An empty payment database; its name."""

        name = self.empty_database(name)

        with self.admin() as db:
            for table in TABLES + ('payment_schema_version',):
                db.execute(f'CREATE TABLE {name}.{table}'
                           f' LIKE payment.{table}')

            for table in ('payment_schema_version', 'payment_topology'):
                db.execute(f'INSERT INTO {name}.{table}'
                           f' SELECT * FROM payment.{table}')

        return name

    def identify(self, database, shard='main', slots='0-1023',
                 installation='00000000-0000-4000-8000-000000000000'):
        """Says whose the database is, as its first connection would: what
        replication brings to a standby."""

        self.query('INSERT INTO payment_identity'
                   ' (installation, shard, slots, secret)'
                   f" VALUES ('{installation}', '{shard}', '{slots}',"
                   " '0123456789abcdef')", database)

    def copy(self, database, name):
        """The tables of one database, instead of those of another."""

        dump = subprocess.run(['mariadb-dump', *self.login(), database],
                              check=True, capture_output=True).stdout
        subprocess.run(['mariadb', *self.login(), name], input=dump,
                       check=True)

    def drop_database(self, name):
        with self.admin() as db:
            db.execute(f'DROP DATABASE {name}')

    def replicate(self, primary):
        """From where the primary is now; the data must be equal until there.
        Returns when the replica has asked for it."""

        log, position = primary.query('SHOW MASTER STATUS')[0][:2]

        with primary.admin() as db:
            db.execute("GRANT REPLICATION SLAVE ON *.* TO"
                       " 'replica'@'127.0.0.1' IDENTIFIED BY 'replica'")

        with self.admin() as db:
            db.execute("CHANGE MASTER TO MASTER_HOST = '127.0.0.1',"
                       f" MASTER_PORT = {primary.port},"
                       " MASTER_USER = 'replica', MASTER_PASSWORD = 'replica',"
                       f" MASTER_LOG_FILE = '{log}',"
                       f" MASTER_LOG_POS = {position},"
                       " MASTER_CONNECT_RETRY = 1")
            db.execute('START SLAVE')

        wait_for(lambda: self.status('Slave_running') == 'ON',
                 what='the replica runs')

    def status(self, name):
        """The value of one status variable."""
        return self.query(f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1]

    def connections(self, database, db=None):
        """Ids of the module's connections to the database."""

        statement = ('SELECT id FROM information_schema.processlist'
                     f" WHERE user = '{USER}' AND db = '{database}'")

        if db is None:
            return [row[0] for row in self.query(statement)]

        db.execute(statement)
        return [row[0] for row in db.fetchall()]

    def kill_connections(self, database, what='CONNECTION'):
        """KILLs each; how many there were."""

        killed = 0

        with self.admin() as db:
            for ident in self.connections(database, db):
                try:
                    db.execute(f'KILL {what} {ident}')
                    killed += 1
                except pymysql.Error:
                    pass              # it went by itself

        return killed


class _Cursor:
    def __init__(self, connection):
        self.connection = connection
        self.cursor = connection.cursor()

    def __enter__(self):
        return self.cursor

    def __exit__(self, *error):
        self.connection.close()


@functools.cache
def _me():
    return subprocess.check_output(['id', '-un'], text=True).strip()


class Shard:
    """A payment_shard{} block."""

    def __init__(self, name, database, servers, slots=None, **settings):
        self.name = name
        self.database = database
        self.servers = [servers] if isinstance(servers, str) else servers
        self.slots = slots
        self.settings = dict(user=USER)

        if 'password' not in settings:
            self.settings['password_file'] = _password_file()

        self.settings.update(settings)

    def text(self):
        lines = [f'payment_shard {self.name} {{',
                 f'    database {self.database};']

        if self.slots:
            lines.append(f'    slots {self.slots};')

        lines += [f'    server {server};' for server in self.servers]
        lines += [f'    {name} {value};'
                  for name, value in self.settings.items() if value is not None]

        return '\n    '.join(lines + ['}'])


def _password_file():
    file = WORK / 'password'

    # an nginx may be reading it
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PASSWORD + '\n')

    return file


def merchant(slots, number=1):
    """The number-th merchant whose slot lies in slots, (first, last)."""

    serial = 0

    while number:
        serial += 1
        name = f'MERCHANT-{serial}'

        if slots[0] <= zlib.crc32(name.encode()) % 1024 <= slots[1]:
            number -= 1

    return name


class Daemon:
    """A process that is nobody's child, with what a Popen has."""

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        return None if _alive(self.pid) else 0

    def wait(self, seconds):
        try:
            wait_for(lambda: not _alive(self.pid), seconds)
        except AssertionError:
            raise subprocess.TimeoutExpired('nginx', seconds) from None

        return 0

    def send_signal(self, number):
        os.kill(self.pid, number)


class Nginx:
    """An nginx with payment_api at /api/payments.

    reuseport spreads few connections evenly over the workers; but a reload
    loses what waits in the old workers' queues, so that it is off there.

    module is a shared object to begin with, of which it gets a copy that
    upgrade() can replace. With one, it is a daemon. within(directory) is what
    to put before its command, user who the workers of root's nginx are, main
    what stands before events{}."""

    # what a healthy nginx never logs; a test may expect some of it
    SICK = re.compile(rb'\[(alert|emerg|crit)\]|exited on signal'
                      rb'|AddressSanitizer|runtime error|LeakSanitizer')

    def __init__(self, name, shards, http='', location='', workers=2,
                 single=False, reuseport=True, connections=2048,
                 environment=None, module=None, user='root', within=None,
                 level=LEVEL, main=''):
        self.dir = WORK / name
        self.port = free_port()
        self.shards = shards
        self.main = main
        self.http = http
        self.location = location
        self.workers = workers
        self.single = single
        self.reuseport = reuseport
        self.connections = connections
        self.module = module
        self.user = user
        self.level = level
        self.within = within or (lambda directory: [])
        self.environment = dict(
            os.environ,
            LSAN_OPTIONS=f'suppressions={ROOT}/t/fault/lsan.supp'
                         ':print_suppressions=0',
            **(environment or {}))
        self.process = None
        self.expected = []

    def config(self):
        modules = [self.loaded] if self.module else MODULES.split()
        load = '\n'.join(f'load_module {module};' for module in modules)
        user = f'user {self.user};' if os.geteuid() == 0 else ''
        listen = 'reuseport' if self.reuseport and not self.single else ''
        shards = '\n    '.join(shard.text() for shard in self.shards)

        return f"""
{load}
{user}
{self.main}
daemon {'on' if self.module else 'off'};
master_process {'off' if self.single else 'on'};
worker_processes {self.workers};
worker_rlimit_nofile 16384;
pid {self.pidfile};
error_log {self.log} {self.level};

events {{
    worker_connections {self.connections};
}}

http {{
    access_log off;
    client_body_temp_path {self.dir}/body;
    proxy_temp_path {self.dir}/proxy;
    fastcgi_temp_path {self.dir}/fastcgi;
    uwsgi_temp_path {self.dir}/uwsgi;
    scgi_temp_path {self.dir}/scgi;
    payment_outbox_path {self.dir}/payment_outbox_temp;

    keepalive_requests 1000000;

    {shards}
    {self.http}

    server {{
        listen 127.0.0.1:{self.port} backlog=4096 {listen};

        location /api/payments {{
            payment_api;
            {self.location}
        }}

        location = /alive {{
            return 200 $pid;
        }}

        location = /status {{
            payment_status;
        }}
    }}
}}
"""

    @property
    def log(self):
        return self.dir / 'error.log'

    @property
    def pidfile(self):
        return self.dir / 'nginx.pid'

    @property
    def loaded(self):
        """Where its own copy of the shared object is."""
        return self.dir / 'module.so'

    def start(self, ready=True):
        """ready: waits until each worker has a connection of each shard."""

        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        (self.dir / 'nginx.conf').write_text(self.config())
        self.restart(ready)

    def restart(self, ready=False):
        """After an end, with the files that the one before has left."""

        if self.module:
            shutil.copyfile(self.module, self.loaded)

        self.process = subprocess.Popen(
            [*self.within(self.dir), NGINX, '-p', str(self.dir),
             '-c', str(self.dir / 'nginx.conf'), '-e', str(self.log)],
            env=self.environment, stdin=subprocess.DEVNULL,
            stdout=open(self.dir / 'stdout', 'ab'),
            stderr=open(self.dir / 'stderr', 'ab'), start_new_session=True)

        if self.module:
            assert self.process.wait(20) == 0, self.errors()
            self.process = Daemon(self._master())

        wait_for(self._listens, 20, 'nginx listens')

        if ready:
            self.wait_connected()

    def _listens(self):
        assert self.process.poll() is None, self.errors()

        try:
            socket.create_connection(('127.0.0.1', self.port), 1).close()
        except OSError:
            return False

        return bool(self.single or len(self.worker_pids()) >= self.workers)

    def wait_connected(self, seconds=30):
        wanted = (1 if self.single else self.workers)

        wait_for(lambda: all(self._open(i) >= wanted
                             * int(shard.settings.get('connections', 2))
                             for i, shard in enumerate(self.shards)),
                 seconds, 'the connections to the database')

    def _open(self, i):
        return self.status()['shards'][i]['connections_open']

    def status(self):
        import json
        import urllib.request

        with urllib.request.urlopen(
                f'http://127.0.0.1:{self.port}/status', timeout=5) as answer:
            return json.load(answer)

    def worker_pids(self):
        """Those that take requests; not those that are shutting down."""

        if self.single:
            return [self.process.pid]

        pids = []

        for child in _children(self.process.pid):
            title = _title(child)

            if 'worker process' in title and 'shutting down' not in title:
                pids.append(child)

        return pids

    def all_pids(self):
        return [self.process.pid] + _children(self.process.pid)

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self):
        """HUP; returns when the new workers are there."""

        old = set(self.worker_pids())
        self.signal(signal.SIGHUP)
        wait_for(lambda: len(set(self.worker_pids()) - old) >= self.workers,
                 20, 'new workers')

    def _master(self, other_than=None):
        def pid():
            try:
                pid = int(self.pidfile.read_text())
            except (OSError, ValueError):
                return None

            return pid if pid != other_than else None

        return wait_for(pid, 20, 'a master')

    def upgrade(self, module=None, between=lambda: None, debian=False):
        """nginx's own way to another program: USR2, WINCH, QUIT of the old
        master. between() is called after each step. Debian's packages send the
        QUIT as soon as there is a second master."""

        if module:
            # nobody changes a file that is mapped
            shutil.copyfile(module, f'{self.loaded}.new')
            os.replace(f'{self.loaded}.new', self.loaded)

        old = self.process
        old.send_signal(signal.SIGUSR2)
        self.process = Daemon(self._master(other_than=old.pid))

        if not debian:
            wait_for(self._listens, 20, 'the new workers')
            between()
            old.send_signal(signal.SIGWINCH)
            between()

        old.send_signal(signal.SIGQUIT)
        old.wait(20)
        between()

    def kill_worker(self):
        """kill -9 of one worker; its pid."""

        self.expected.append('exited on signal 9')
        pid = random.choice(self.worker_pids())
        os.kill(pid, signal.SIGKILL)
        return pid

    def quit(self, seconds=20):
        """Graceful; the exit status."""

        self.signal(signal.SIGQUIT)
        return self.process.wait(seconds)

    def stop(self, seconds=20):
        """The end of a test: graceful, and everything is looked at."""

        if self.process is None:
            return

        pids = self.all_pids()
        secrets = []

        if self.process.poll() is None:
            secrets = told.in_pages(self.port, self.pages(), SECRETS)
            self.signal(signal.SIGQUIT)

            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                for pid in self.all_pids():
                    _kill(pid)

                self.process.wait(5)
                raise AssertionError(f'nginx did not quit in {seconds} s')

        self.process = None
        wait_for(lambda: not any(_alive(pid) for pid in pids), 5,
                 'the end of the workers')

        sick = self.sick_lines()
        assert not sick, '\n'.join(sick[:20])
        secrets += self.told_secrets()
        assert not secrets, secrets[:5]

    def expect(self, *texts):
        """What this test makes nginx log is no sickness."""
        self.expected += texts

    def sick_lines(self):
        return [line for log in self.logs()
                for line in told.lines(log, self.SICK)
                if not any(text in line for text in self.expected)]

    def logs(self):
        """What it wrote, there and to a terminal; old ones, too."""

        return [path for path in sorted(self.dir.iterdir())
                if path.suffix == '.log' or path.name in ('stdout', 'stderr')]

    def pages(self):
        return ['/status'] + re.findall(r'location (?:= )?(/\w+) \{',
                                        self.location)

    def told_secrets(self):
        """Lines with a password, a key, or a piece of a body."""

        secrets = [line for log in self.logs()
                   for line in told.in_file(log, SECRETS)]
        return secrets + told.in_dump(NGINX, self.dir, self.dir / 'nginx.conf',
                                      self.dir / 'dump.log', SECRETS)

    def errors(self):
        return self.log.read_text(errors='replace') \
            if self.log.exists() else ''

    def lines(self, text):
        return told.lines(self.log, re.escape(text).encode()) \
            if self.log.exists() else []


def _children(pid):
    children = []

    for task in pathlib.Path(f'/proc/{pid}/task').glob('*/children'):
        try:
            children += [int(child) for child in task.read_text().split()]
        except OSError:
            pass

    return children


def _title(pid):
    try:
        return pathlib.Path(f'/proc/{pid}/cmdline').read_text()
    except OSError:
        return ''


def _alive(pid):
    try:
        return ') Z ' not in pathlib.Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return False


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
