"""The system under test: a database of its own, and an nginx of its own.

The servers behind both are those of tools/test-env.sh. Everything made here is
removed by close(); every wait has a limit.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pymysql

import told
from freeport import free_port

from .client import Connection

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))

WAIT = 20               # seconds for a process to come or go
NOBODY = '01890000-0000-7000-8000-000000000000'     # no payment's id
READY = f'/api/payments/{NOBODY}?merchantId=M'


def await_that(condition, what, seconds=WAIT):
    """Until the condition holds; what() or a text says what did not."""

    deadline = time.monotonic() + seconds

    while True:
        result = condition()

        if result:
            return result

        if time.monotonic() > deadline:
            raise AssertionError(what() if callable(what) else what)

        time.sleep(0.01)


def read(path):
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ''


def record(name, result):
    """A long run's numbers, kept beside those of bench/."""

    stamp = time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())
    commit = subprocess.run(['git', '-C', ROOT, 'rev-parse', '--short', 'HEAD'],
                            stdout=subprocess.PIPE, text=True, timeout=WAIT)
    path = os.path.join(ROOT, 'bench', 'results', f'{name}-{stamp}.json')
    os.makedirs(os.path.dirname(path), exist_ok=True)

    with open(path, 'w', encoding='utf-8') as file:
        json.dump({'at': stamp, 'commit': commit.stdout.strip(),
                   'cpus': os.cpu_count(), 'load': os.getloadavg(), **result},
                  file, indent=1)
        file.write('\n')


def environment():
    """The variables of tools/test-env.sh; starts the servers if need be."""

    if 'PAYMENT_TEST_DB_SOCKET' not in os.environ:
        said = subprocess.run(
            [os.path.join(ROOT, 'tools', 'test-env.sh'), 'start', '--for',
             str(os.getpid())], check=True, stdout=subprocess.PIPE, text=True)

        for name, value in re.findall(r'^export (\w+)=(.*)$', said.stdout,
                                      re.M):
            os.environ[name] = re.sub(r'\\(.)', r'\1', value)

    return os.environ


class Database:
    """A database with the schema of sql/ and nothing in it."""

    def __init__(self, label):
        env = environment()
        self.name = f"{env['PAYMENT_TEST_DB_NAME']}_api{os.getpid()}_{label}"
        self.drop()
        self.execute(f'CREATE DATABASE {self.name}', database=None)

        subprocess.run(
            [os.path.join(ROOT, 'tools', 'migrate.sh'), 'up', self.name,
             '--no-defaults', '--protocol=socket',
             f"--socket={env['PAYMENT_TEST_DB_SOCKET']}",
             f"--user={env['PAYMENT_TEST_DB_ADMIN_USER']}"],
            env={**env, 'MYSQL_PWD': env['PAYMENT_TEST_DB_ADMIN_PASSWORD']},
            stderr=subprocess.DEVNULL, check=True, timeout=60)

    def connect(self, **options):
        return connect(self.name, **options)

    def execute(self, sql, args=None, database=''):
        with connect(self.name if database == '' else database) as connection:
            with connection.cursor() as cursor:
                cursor.execute(sql, args)
                return cursor.fetchall()

    def value(self, sql, args=None):
        return self.execute(sql, args)[0][0]

    def drop(self):
        self.execute(f'DROP DATABASE IF EXISTS {self.name}', database=None)

    def shard(self, name='main', slots='0-1023'):
        """payment_shard{} for a configuration."""

        env = os.environ

        return f"""
            payment_shard {name} {{
                slots {slots};
                server unix:{env['PAYMENT_TEST_DB_SOCKET']};
                database {self.name};
                user {env['PAYMENT_TEST_DB_USER']};
                password_file {password_file()};
            }}
        """


def password_file():
    env = environment()
    path = os.path.join(env['PAYMENT_TEST_DIR'], 'api-password')

    with open(path, 'w', encoding='utf-8') as file:
        file.write(env['PAYMENT_TEST_DB_PASSWORD'] + '\n')

    return path


def connect(database, **options):
    env = environment()

    return pymysql.connect(
        unix_socket=env['PAYMENT_TEST_DB_SOCKET'],
        user=env['PAYMENT_TEST_DB_ADMIN_USER'],
        password=env['PAYMENT_TEST_DB_ADMIN_PASSWORD'], database=database,
        charset='utf8mb4', **{'autocommit': True, **options})


class Nginx:
    """An nginx with the module; http is the text of its http{} block.

    $PORT in the text is a free port, the first that the server listens on, and
    $PREFIX the server's directory.
    With whole=True the text is a complete nginx.conf of conf/, in which what
    it expects of a machine is replaced by what is here: see whole_text().
    """

    def __init__(self, label, http, workers=2, ready=READY, tls=None,
                 **whole):
        env = environment()
        self.prefix = os.path.join(env['PAYMENT_TEST_DIR'],
                                   f'api-{os.getpid()}-{label}')
        self.log = os.path.join(self.prefix, 'logs', 'error.log')
        self.conf = os.path.join(self.prefix, 'nginx.conf')
        self.port = free_port()
        self.master = None
        self.ready = ready              # a GET that the database answers
        self.tls = tls                  # an SSLContext for all connections

        shutil.rmtree(self.prefix, ignore_errors=True)
        os.makedirs(os.path.join(self.prefix, 'logs'))

        if whole:
            self.write(self.whole_text(http, **whole))
        else:
            self.configure(http, workers)

        self.start()

    def write(self, text):
        with open(self.conf, 'w', encoding='utf-8') as file:
            file.write(text)

    def main_lines(self):
        module = os.environ.get('TEST_NGINX_LOAD_MODULES', '')

        return '\n'.join((
            f'load_module {module};' if module else '',
            'user root;' if os.geteuid() == 0 else '',
            f'pid {self.prefix}/nginx.pid;',
            f'error_log {self.log} {told.level("notice")};'))

    def http_lines(self):
        return '\n'.join([f'payment_outbox_path {self.prefix}/outbox;'] + [
            f'{name}_temp_path {self.prefix}/{name};' for name in
            ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi')])

    def configure(self, http, workers=2):
        self.write(f"""
            {self.main_lines()}
            worker_processes {workers};
            events {{ worker_connections 1024; }}
            http {{
                {self.http_lines()}
                {http.replace('$PORT', str(self.port))
                     .replace('$PREFIX', self.prefix)}
            }}
        """)

    def whole_text(self, text, database, etc):
        """A file of conf/: its database, its /etc/nginx/payment, its port."""

        def replaced(pattern, by):
            nonlocal text
            text, n = re.subn(pattern, lambda _: by, text, flags=re.M)
            assert n, f'{pattern} is not in the configuration'

        replaced(r'^load_module .*$', self.main_lines())
        replaced(r'^http \{$', 'http {\n' + self.http_lines())
        replaced(r'unix:/run/mysqld/mysqld\.sock',
                 'unix:' + os.environ['PAYMENT_TEST_DB_SOCKET'])
        replaced(r'\bdatabase +payment;', f'database {database.name};')
        replaced(r'\buser +payment;',
                 f"user {os.environ['PAYMENT_TEST_DB_USER']};")
        replaced(r'/etc/nginx/payment', etc)
        replaced(r'\blisten +443 ', f'listen 127.0.0.1:{self.port} ')

        return text

    def command(self, *arguments):
        return subprocess.run(
            [os.environ['TEST_NGINX_BINARY'], '-p', self.prefix + '/',
             '-c', self.conf, '-e', self.log, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=WAIT)

    def start(self):
        said = self.command()
        assert said.returncode == 0, said.stdout + read(self.log)

        self.master = int(await_that(
            lambda: read(os.path.join(self.prefix, 'nginx.pid')).strip(),
            'nginx has no pid file'))

        # the database's connections open in the background
        await_that(self.answers, lambda: 'nginx takes no payments\n'
                                         + read(self.log))

    def answers(self):
        """No worker is still without its database, which it says with 503."""

        if self.ready is None:
            return True

        for _ in range(16):
            with self.connection() as c:
                if c.request('GET', self.ready).status == 503:
                    return False

        return True

    def children(self):
        return [int(pid) for pid in
                read(f'/proc/{self.master}/task/{self.master}/children')
                .split()]

    def workers(self):
        return [pid for pid in self.children()
                if 'worker process' in read(f'/proc/{pid}/cmdline')]

    def connection(self, **options):
        return Connection(self.port, **{'context': self.tls, **options})

    def reload(self):
        """With the configuration as it is now; when the old workers left."""

        old = self.children()
        self.signal_reload()
        await_that(lambda: not any(pid in self.children() for pid in old),
                   'the old workers stay')
        await_that(self.answers, 'nginx takes no payments')

    def signal_reload(self):
        os.kill(self.master, signal.SIGHUP)

    def stop(self):
        if self.master is None:
            return

        pid, self.master = self.master, None
        family = [pid] + [int(c) for c in
                          read(f'/proc/{pid}/task/{pid}/children').split()]

        try:
            os.kill(pid, signal.SIGQUIT)
            await_that(lambda: not any(alive(p) for p in family),
                       'nginx does not quit')
        except AssertionError:
            for p in family:
                if alive(p):
                    os.kill(p, signal.SIGKILL)
            raise

    def troubles(self):
        """Lines of the error log that no test here provokes, and those that
        tell what they must not."""

        marks = (os.environ['PAYMENT_TEST_DB_PASSWORD'], *told.MARKS)

        return told.lines(self.log, rb'\[(alert|emerg|crit)\]|exited on signal|'
                                    rb'AddressSanitizer|runtime error') \
            + told.in_file(self.log, marks) \
            + told.in_dump(os.environ['TEST_NGINX_BINARY'], self.prefix,
                           self.conf, f'{self.prefix}/logs/dump.log', marks)

    def close(self):
        try:
            self.stop()
        finally:
            troubles = self.troubles()
            shutil.rmtree(self.prefix, ignore_errors=True)

        assert not troubles, '\n'.join(troubles)


def alive(pid):
    stat = read(f'/proc/{pid}/stat')
    return stat != '' and stat.rpartition(')')[2].split()[0] != 'Z'
