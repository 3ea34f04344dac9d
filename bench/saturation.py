"""How many payments a second, and beside what.

Called by run.sh with the directory for its servers. In every round, in this
order, on the same MariaDB (log flushed at every commit):

  batches   a bare C client, always full batches of 64, 4 connections
  single    a bare C client, one transaction per payment, 16 connections
  batches published, single published
            the same clients, and their events are published to Kafka by the
            helper meanwhile; until the last one is
  c1 .. c256  nginx with everything on, publishing to Kafka, 1 to 256 clients
            (wrk)

The medians of the rounds are quoted, and their ratios. While wrk runs, the
backlog is sampled: a rate that the helper cannot follow is not counted as one.
Then the tables get ten million payments and keys (--preload), and c64 is
measured again.

Raw numbers go to bench/results/saturation-COMMIT.json.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

import pymysql

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)

sys.path.insert(0, os.path.join(ROOT, 't', 'lib'))

from freeport import free_port                                  # noqa: E402
from progress import Progress                                   # noqa: E402

DB_PORT, KAFKA_PORT, HTTP_PORT = free_port(), free_port(2), free_port()
USER = PASSWORD = 'payment'
WARM_UP = 40                        # seconds until the broker's JVM is warm
OURS, BARE = 'payment', 'payment_physical'

# connections, rows of a batch, published by the helper
YARDSTICKS = {'batches': (4, 64, False), 'single': (16, 1, False),
              'batches published': (4, 64, True),
              'single published': (16, 1, True)}

CLIENTS = (1, 4, 16, 64, 256)

TICKS = os.sysconf('SC_CLK_TCK')
PAGE = os.sysconf('SC_PAGE_SIZE')

CONFIG = """
load_module {root}/build/ngx_http_payment_module.so;
{user}
worker_processes {workers};
pid nginx.pid;
error_log logs/error.log notice;
events {{ worker_connections 4096; }}
http {{
    {http}
    keepalive_requests 100000000;
    client_body_temp_path client_body_temp;
    proxy_temp_path proxy_temp;
    fastcgi_temp_path fastcgi_temp;
    uwsgi_temp_path uwsgi_temp;
    scgi_temp_path scgi_temp;
    payment_outbox_path payment_outbox_temp;
    {shards}
    payment_kafka_brokers 127.0.0.1:{kafka_port};
    server {{
        listen 127.0.0.1:{http_port} backlog=4096;
        location /api/payments {{ payment_api; {api} }}
        location = /status {{ payment_status; }}
        {server}
    }}
}}
"""


SHARD = """
    payment_shard {name} {{
        slots {first}-{last};
        server unix:{dir}/mariadb.sock;
        database {database}; user {db_user}; password {db_password};
        {lines}
    }}
"""


def tool(name, *arguments, **environment):
    subprocess.run([os.path.join(ROOT, 'tools', name), *arguments],
                   check=True, env=dict(os.environ, **environment))


def sql(statement, database=OURS):
    connection = pymysql.connect(unix_socket=f'{DIR}/mariadb.sock',
                                 user='root', database=database,
                                 autocommit=True, read_timeout=1800)

    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def status():
    url = f'http://127.0.0.1:{HTTP_PORT}/status'

    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def backlog():
    return sum(s['backlog'] for s in status()['outbox']['shards'])


def wait_for(what, condition, seconds=60):
    deadline = time.monotonic() + seconds

    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f'bench: {what} took more than {seconds} s')

        time.sleep(0.005)


def outbox_empty(database=OURS):
    return not sql('SELECT EXISTS (SELECT 1 FROM outbox_event)',
                   database)[0][0]


class Cpu:
    """CPU seconds of the servers' processes."""

    def __init__(self):
        self.pids = {'mariadbd': pid('mariadb'), 'kafka': pid('kafka')}
        master = pid('nginx')
        workers = []

        for child in children(master):
            title = open(f'/proc/{child}/cmdline').read()

            if 'worker' in title:
                workers.append(child)
            else:
                self.pids['helper'] = child

        for number, child in enumerate(workers):
            self.pids[f'worker{number}'] = child

        self.begin = self.seconds()

    def seconds(self):
        taken = {}

        for name, number in self.pids.items():
            fields = open(f'/proc/{number}/stat').read().rsplit(')', 1)[1]
            fields = fields.split()
            taken[name] = (int(fields[11]) + int(fields[12])) / TICKS

        return taken

    def per_payment_us(self, payments):
        return {name: round((after - self.begin[name]) * 1e6 / payments, 1)
                for name, after in self.seconds().items()}

    def resident_mib(self):
        return {name: round(int(open(f'/proc/{number}/statm').read().split()[1])
                            * PAGE / 2**20, 1)
                for name, number in self.pids.items()
                if name not in ('mariadbd', 'kafka')}


def pid(server):
    return int(open(f'{DIR}/{server}.pid').read())


def children(parent):
    path = f'/proc/{parent}/task/{parent}/children'
    return [int(word) for word in open(path).read().split()]


def bare(connections, rows, seconds, published=False):
    start = time.monotonic()
    line = subprocess.run(
        [f'{DIR}/physical', f'{DIR}/mariadb.sock', OURS if published else BARE,
         USER, PASSWORD, str(connections), str(rows), str(seconds)],
        check=True, capture_output=True, text=True).stdout
    run = {name: float(value)
           for name, value in re.findall(r'(\w+)=([\d.]+)', line)}

    if published:
        wait_for('the outbox coming empty', outbox_empty)
        run['rate'] = round(run['payments'] / (time.monotonic() - start))
    else:
        for table in ('payment', 'idempotency_key', 'outbox_event'):
            sql(f'TRUNCATE TABLE {table}', BARE)

    return run


def wrk(clients, seconds, script='authorize', seed=None, **environment):
    """What wrk says of its requests; each run has keys of its own."""

    with wrk_runs(clients, seconds, script, seed, **environment) as running:
        return wrk_result(running)


def wrk_runs(clients, seconds, script='authorize', seed=None, **environment):
    return subprocess.Popen(
        ['wrk', '-t1', f'-c{clients}', f'-d{seconds}s', '-s',
         os.path.join(HERE, 'wrk', f'{script}.lua'),
         f'http://127.0.0.1:{HTTP_PORT}/api/payments/authorize', '--',
         seed or f'{time.time_ns()}'],
        stdout=subprocess.PIPE, text=True,
        env=dict(os.environ, **environment))


def wrk_result(running):
    output = running.communicate()[0]

    if running.returncode:
        raise SystemExit(f'bench: wrk failed: {running.returncode}')

    line = next(l for l in output.splitlines() if l.startswith('RESULT'))

    return {name: float(value)
            for name, value in re.findall(r'(\w+)=([\d.]+)', line)}


def flushes():
    """So far: of the log at each commit, and a few of other files."""

    return int(sql("SHOW GLOBAL STATUS LIKE 'Innodb_data_fsyncs'",
                   'mysql')[0][1])


def ours(clients, seconds, database=OURS, **environment):
    """One run of wrk, with what the servers did meanwhile."""

    before = status()['shards']
    last = sql('SELECT HEX(MAX(id)) FROM payment', database)[0][0] or '00'
    flushed = flushes()
    cpu = Cpu()
    samples, over = [], threading.Event()

    def sample():
        while not over.wait(0.25):
            samples.append(backlog())

    sampler = threading.Thread(target=sample)
    sampler.start()

    run = wrk(clients, seconds, **environment)
    ended = time.monotonic()
    over.set()
    sampler.join()

    wait_for('the outbox coming empty', lambda: outbox_empty(database))
    empty_ms = (time.monotonic() - ended) * 1000

    flushed = flushes() - flushed
    times = status()['times'].get('commit_to_ack', {})
    after = status()['shards']
    batches = after[0]['batches'] - before[0]['batches']
    committed = after[0]['rows'] - before[0]['rows']
    cpu_us = cpu.per_payment_us(committed)

    # not by all of the table: that would empty the buffer pool of all else
    new_rows = sql(f'SELECT COUNT(*) FROM payment WHERE id > X\'{last}\'',
                   database)[0][0]

    run.update(
        clients=clients, seconds=seconds, batch=round(committed / batches, 1),
        committed=committed, rows=new_rows, empty_after_ms=round(empty_ms),
        backlog_max=max(samples, default=0),
        backlog_half=samples[len(samples) // 2] if samples else 0,
        backlog_end=samples[-1] if samples else 0,
        flushes=round(flushed / committed, 3),
        acked_p50_ms=times.get('p50_us', 0) / 1000,
        acked_p99_ms=times.get('p99_us', 0) / 1000,
        cpu_us=cpu_us, resident_mib=cpu.resident_mib())

    # every answer is a row; wrk does not count the answers of its last moment
    if run['non2xx'] or run['errors'] or new_rows != committed \
            or not 0 <= committed - run['requests'] <= clients:
        sys.exit(f'bench: answers and rows do not agree: {run}')

    return run


def start_servers(pool='1G'):
    os.makedirs(f'{DIR}/logs', exist_ok=True)
    tool('server.sh', 'mariadb', 'start', DIR, str(DB_PORT),
         MARIADB_BUFFER_POOL=pool, MARIADB_LOG_SIZE='2G')
    tool('server.sh', 'kafka', 'start', DIR, str(KAFKA_PORT))


def start_nginx(workers, root=ROOT, *databases, http='access_log off;',
                server='', api='', shard=''):
    """nginx with the module that was built in root, and its helper at work:
    a shard for each database. http, server, api and shard are lines for the
    blocks of the configuration."""

    databases = databases or (OURS,)
    slots = 1024 // len(databases)

    with open(f'{DIR}/nginx.conf', 'w') as conf:
        conf.write(CONFIG.format(
            root=root, dir=DIR, kafka_port=KAFKA_PORT, http_port=HTTP_PORT,
            workers=workers, http=http, server=server, api=api,
            shards=''.join(SHARD.format(
                name=f's{number}', first=number * slots,
                last=(number + 1) * slots - 1, dir=DIR, database=database,
                db_user=USER, db_password=PASSWORD, lines=shard)
                for number, database in enumerate(databases)),
            user='user root;' if os.geteuid() == 0 else ''))

    tool('server.sh', 'nginx', 'start', DIR, 'nginx.conf')

    if 'payment_outbox off' not in http:
        wait_for('the lease', lambda: all(s['lease_held'] for s in
                                          status()['outbox']['shards']))


def start(options):
    start_servers()

    for database in (OURS, BARE):
        tool('server.sh', 'mariadb', 'database', DIR, database, USER,
             PASSWORD)

    start_nginx(options.workers)


def preload(rows, database=OURS):
    """Payments and keys that are there already, come in the order of the ids:
    the keys' index has grown at random places, as it does in life."""

    for name in ('payment', 'idempotency_key'):
        sql(f'TRUNCATE TABLE {name}', database)

    million = 1000000
    # a payment a millisecond until now: too young to be purged
    id = f"""UNHEX(CONCAT(LPAD(HEX({int(time.time() * 1000) - rows} + seq), 12,
                                '0'), '70008000',
                          SUBSTR(MD5(CONCAT('preload', seq)), 21)))"""

    for first in range(1, rows + 1, million):
        last = min(first + million - 1, rows)
        print(f'  preloading {last}', flush=True)
        sql(f"""INSERT INTO payment (id, merchant_id, currency, status, amount,
                                     created_at, updated_at)
                SELECT {id}, CONCAT('MERCHANT-', seq % 1000 + 1), 'KRW',
                       'AUTHORIZED', 1000, '2026-01-01', '2026-01-01'
                FROM seq_{first}_to_{last}""", database)
        sql(f"""INSERT INTO idempotency_key (key_hash, payment_id, fingerprint,
                                             operation)
                SELECT UNHEX(MD5(CONCAT('preload', seq))), LEFT({id}, 10),
                       UNHEX(SUBSTR(MD5(seq), 1, 16)), 'authorize'
                FROM seq_{first}_to_{last}""", database)

    # what the load itself left dirty is not the measurement's, and an idle
    # server keeps it
    sql('SET GLOBAL innodb_max_dirty_pages_pct = 0,'
        ' innodb_io_capacity = 2000', database)
    wait_for('flushing', lambda: int(sql(
        "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'",
        database)[0][1])
        < 2000, 600)
    sql('SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT,'
        ' innodb_io_capacity = DEFAULT', database)


def median(runs, name):
    return statistics.median(run[name] for run in runs)


def table(results):
    lines = [f'{"":18}{"payments/s":>12}{"p50 ms":>9}{"p99 ms":>9}'
             f'{"batch":>8}{"backlog":>9}{"empty ms":>10}'
             f'{"of batches":>12}{"of single":>11}'
             f'{"published":>12}{"published":>11}']
    yardsticks = [median(results[name], 'rate') for name in YARDSTICKS]

    for name, runs in results.items():
        if not isinstance(runs, list) or not runs:
            continue

        is_ours = 'rps' in runs[0]
        rate = median(runs, 'rps' if is_ours else 'rate')
        line = (f'{name:18}{rate:12.0f}{median(runs, "p50_ms"):9.2f}'
                f'{median(runs, "p99_ms"):9.2f}')

        if is_ours:
            line += (f'{median(runs, "batch"):8.1f}'
                     f'{median(runs, "backlog_end"):9.0f}'
                     f'{median(runs, "empty_after_ms"):10.0f} ')
            line += ' '.join(f'{rate / one:{width}.2f}' for one, width
                             in zip(yardsticks, (11, 10, 11, 10)))

        lines.append(line)

    for name in (*(f'c{n}' for n in CLIENTS), 'preloaded'):
        for run in results.get(name, [])[-1:]:
            lines.append(f'{name}: CPU us/payment {run["cpu_us"]}, '
                         f'resident MiB {run["resident_mib"]}')

    return '\n'.join(lines)


def commit_of(root):
    return subprocess.run(['git', '-C', root, 'rev-parse', '--short', 'HEAD'],
                          check=True, capture_output=True,
                          text=True).stdout.strip()


def keep(name, results):
    """Writes raw numbers to bench/results, and says where."""

    path = os.path.join(HERE, 'results', name)
    os.makedirs(os.path.dirname(path), exist_ok=True)

    with open(path, 'w') as out:
        json.dump(results, out, indent=1)
        out.write('\n')

    print(f'raw numbers: {os.path.relpath(path, ROOT)}')


def steps(options):
    """What main() does, in its order, and how many seconds each takes."""

    every = [(name, options.seconds) for name in YARDSTICKS]
    every += [(f'{n} clients', options.seconds + 2) for n in CLIENTS]
    every *= options.rounds

    if options.preload:
        every += [(f'preloading {options.preload} payments and keys',
                   options.preload / 50000 + options.seconds)]
        every += [('64 clients, preloaded', options.seconds + 2)] \
            * options.rounds

    return every


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seconds', type=int, default=10)
    parser.add_argument('--workers', type=int, default=1)
    parser.add_argument('--preload', type=int, default=10000000)
    options = parser.parse_args()

    global DIR
    DIR = options.dir

    start(options)
    ours(64, WARM_UP)               # not counted

    results = {name: [] for name in (*YARDSTICKS,
                                     *(f'c{n}' for n in CLIENTS), 'preloaded')}
    progress = Progress(steps(options))

    for _ in range(options.rounds):

        for name, (connections, rows, published) in YARDSTICKS.items():
            progress.next()
            results[name].append(bare(connections, rows, options.seconds / 2,
                                      published))

        for clients in CLIENTS:
            progress.next()
            results[f'c{clients}'].append(ours(clients, options.seconds))

    if options.preload:
        progress.next()
        preload(options.preload)
        ours(64, options.seconds)

        for _ in range(options.rounds):
            progress.next()
            results['preloaded'].append(ours(64, options.seconds))

    commit = commit_of(ROOT)
    results['commit'] = commit
    results['options'] = {'rounds': options.rounds, 'seconds': options.seconds,
                          'workers': options.workers,
                          'preload': options.preload}
    print(table(results))
    keep(f'saturation-{commit}.json', results)


if __name__ == '__main__':
    main()
