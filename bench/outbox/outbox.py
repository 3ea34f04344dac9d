"""The outbox by itself: events go into the table by SQL, and out to Kafka.

Called by run.sh with the directory for its servers.

  drain    for each number of rows: nginx is stopped, the table is filled, nginx
           is started; from the moment that the lease is held until the table
           is empty. Rows are written as the batch writer does, 64 in a
           transaction. Once with one event a payment, once with three.
  steady   payments over HTTP at a rate; commit to acknowledgement, from the
           helper's own histogram, and CPU per event
  outage   the same while Kafka is killed for a minute, and back again
  idle     CPU of the helper with nothing to do

With --base, the directory of another checkout that is built, it only drains, by
both builds in turns: what counts is the median of the ratios.

The helper's memory is VmRSS; librdkafka's buffers and its threads are in it.
Raw numbers go to bench/results/outbox-COMMIT.json.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
import uuid

import pymysql

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

sys.path.insert(0, os.path.join(ROOT, 't', 'lib'))

from freeport import free_port                                  # noqa: E402

DB_PORT, KAFKA_PORT, HTTP_PORT = free_port(), free_port(2), free_port()
USER = PASSWORD = 'payment'
DATABASE = 'payment'
TICKS = os.sysconf('SC_CLK_TCK')

CONFIG = """
load_module {root}/build/ngx_http_payment_module.so;
{user}
worker_processes 1;
pid nginx.pid;
error_log logs/error.log notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    payment_shard main {{
        server unix:{dir}/mariadb.sock;
        database payment; user payment; password payment;
    }}
    payment_kafka_brokers 127.0.0.1:{kafka_port};
    payment_outbox_initial_delay 0;
    server {{
        listen 127.0.0.1:{http_port};
        location /api/payments {{ payment_api; }}
        location = /status {{ payment_status; }}
    }}
}}
"""

PAYLOAD = ('{"eventType":"authorized","paymentId":"%s","merchantId":"%s",'
           '"amount":12000,"currency":"KRW","status":"AUTHORIZED","version":%d,'
           '"capturedAmount":0,"refundedAmount":0,"operationAmount":12000,'
           '"occurredAt":"2026-11-22T19:16:09.483Z"}')


def tool(name, *arguments, **environment):
    subprocess.run([os.path.join(ROOT, 'tools', name), *arguments],
                   check=True, stdout=subprocess.DEVNULL,
                   env=dict(os.environ, **environment))


def connect():
    return pymysql.connect(unix_socket=f'{DIR}/mariadb.sock', user='root',
                           database=DATABASE, autocommit=True)


def status():
    url = f'http://127.0.0.1:{HTTP_PORT}/status'
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def relay():
    return status()['outbox']['shards'][0]


def wait_for(what, condition, seconds=600, pause=0.002):
    deadline = time.monotonic() + seconds

    while not (result := condition()):
        if time.monotonic() > deadline:
            sys.exit(f'bench: {what} took more than {seconds} s')
        time.sleep(pause)

    return result


def pid(server):
    with open(f'{DIR}/{server}.pid') as file:
        return int(file.read())


def cpu(number):
    with open(f'/proc/{number}/stat') as file:
        fields = file.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss(number):
    """MiB"""
    with open(f'/proc/{number}/status') as file:
        for line in file:
            if line.startswith('VmRSS'):
                return int(line.split()[1]) / 1024


def row(payment, merchant, version):
    return (f"('payment','{payment}','authorized','{merchant}',{version},"
            f"UTC_TIMESTAMP(6),NULL,'{PAYLOAD % (payment, merchant, version)}')")


INSERT = ('INSERT INTO outbox_event (aggregatetype, aggregateid, type,'
          ' merchant_id, version, created_at, traceparent, payload) VALUES ')


def fill(n, each):
    payments = n // each
    ids = [str(uuid.uuid4()) for _ in range(payments)]

    with connect() as db, db.cursor() as cursor:
        cursor.execute('SET GLOBAL innodb_flush_log_at_trx_commit = 2')

        for version in range(1, each + 1):
            for i in range(0, payments, 64):
                cursor.execute(INSERT + ','.join(
                    row(ids[j], f'MERCHANT-{j % 1000}', version)
                    for j in range(i, min(i + 64, payments))))

        cursor.execute('SET GLOBAL innodb_flush_log_at_trx_commit = 1')


class Nginx:
    def __enter__(self):
        tool('server.sh', 'nginx', 'start', DIR, 'nginx.conf')
        self.helper = wait_for('the helper', lambda: status()['outbox']['pid'])
        return self

    def __exit__(self, *error):
        tool('server.sh', 'nginx', 'stop', DIR)


def drain(n, each):
    fill(n, each)

    with Nginx() as nginx:
        # not by a query: from the head it would pass all that was deleted
        def empty():
            return relay()['deleted'] == n

        pids = dict(helper=nginx.helper, mariadbd=pid('mariadb'),
                    kafka=pid('kafka'))
        wait_for('the lease', lambda: relay()['lease_held'])
        began = time.monotonic()
        before = {name: cpu(p) for name, p in pids.items()}
        peak = []
        wait_for('the drain', lambda: (peak.append(rss(nginx.helper)),
                                       empty())[1], pause=0.01)
        seconds = time.monotonic() - began
        state = relay()

        with connect() as db, db.cursor() as cursor:
            cursor.execute('SELECT COUNT(*) FROM outbox_event')
            assert cursor.fetchone()[0] == 0

        assert state['published'] == n, state
        assert state['failed'] == 0, state

        return dict(rows=n, each=each, seconds=seconds, rate=n / seconds,
                    rss=max(peak), rewinds=state['rewinds'],
                    reads=state['read'] / n,
                    cpu={name: (cpu(p) - before[name]) / n * 1e6
                         for name, p in pids.items()})


def authorize(rate, over, latencies=None):
    """Payments over HTTP until over(n), one after the other on each of a few
    connections; latencies get (when, seconds)."""

    threads = 8

    def client(number):
        connection = http.client.HTTPConnection('127.0.0.1', HTTP_PORT)
        began = time.monotonic() + number / rate
        n = 0

        while not over(n * threads):
            time.sleep(max(0, began + n * threads / rate - time.monotonic()))
            sent = time.monotonic()
            connection.request(
                'POST', '/api/payments/authorize',
                json.dumps({'merchantId': f'MERCHANT-{n % 1000}',
                            'amount': 1000, 'currency': 'KRW',
                            'idempotencyKey': str(uuid.uuid4())}),
                {'Content-Type': 'application/json'})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            n += 1

            if latencies is not None:
                latencies.append((sent, time.monotonic() - sent))

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for end in [pool.submit(client, n) for n in range(threads)]:
            end.result()


def steady(rate, seconds):
    with Nginx() as nginx:
        wait_for('the lease', lambda: relay()['lease_held'])
        before = cpu(nginx.helper)
        began = time.monotonic()
        authorize(rate, lambda n: n >= rate * seconds)
        last = time.monotonic()
        wait_for('the end', lambda: relay()['backlog'] == 0, pause=0.001)
        emptied = time.monotonic() - last
        used = cpu(nginx.helper) - before
        times = status()['times']['commit_to_ack']
        n = times['count']

        return dict(events=n, rate=n / (last - began), p50_us=times['p50_us'],
                    p95_us=times['p95_us'], p99_us=times['p99_us'],
                    empty_ms=emptied * 1000, cpu_us=used / n * 1e6)


def sample_backlog(timeline, over):
    while not over.wait(0.5):
        timeline.append((time.monotonic(), relay()['backlog']))


def outage(rate, seconds):
    """Kafka is killed for a minute under load; any answer but 200 ends it."""

    def wait(seconds):
        time.sleep(seconds)
        return time.monotonic()

    def p99_ms(begin, end):
        taken = sorted(took for at, took in latencies if begin < at < end)
        return taken[len(taken) * 99 // 100] * 1000

    with Nginx(), concurrent.futures.ThreadPoolExecutor(1) as pool:
        log = f'{DIR}/logs/error.log'
        skip = os.path.getsize(log)
        latencies, timeline, over = [], [], threading.Event()
        wait_for('the lease', lambda: relay()['lease_held'])
        load = pool.submit(authorize, rate, lambda n: over.is_set(), latencies)
        watch = threading.Thread(target=sample_backlog, args=(timeline, over))
        watch.start()

        try:
            warm = wait(10)
            killed = wait(seconds)
            tool('server.sh', 'kafka', 'kill', DIR)
            away = time.monotonic()
            back = wait(seconds)
            backlog = relay()['backlog']
            tool('server.sh', 'kafka', 'start', DIR, str(KAFKA_PORT))
            began = time.monotonic()
            wait_for('the backlog', lambda: relay()['backlog'] < rate)
            caught_up = time.monotonic() - began
            wait(5)
        finally:
            over.set()

        load.result()
        watch.join()
        wait_for('the end', lambda: relay()['deleted'] == len(latencies))
        state = relay()

        with open(log) as file:
            file.seek(skip)
            changes = re.findall(r'circuit breaker (\w+) -> (\w+)',
                                 file.read())

        return dict(rate=rate, seconds=seconds, requests=len(latencies),
                    published=state['published'], deleted=state['deleted'],
                    p99_before_ms=p99_ms(warm, killed),
                    p99_away_ms=p99_ms(away, back), backlog=backlog,
                    caught_up_s=caught_up, breaker=changes,
                    away_s=[killed - warm, began - warm],
                    backlog_s=[[at - warm, n] for at, n in timeline])


def idle():
    with Nginx() as nginx:
        wait_for('the lease', lambda: relay()['lease_held'])
        time.sleep(2)
        before = cpu(nginx.helper), cpu(pid('mariadb'))
        time.sleep(10)
        return dict(helper_percent=(cpu(nginx.helper) - before[0]) * 10,
                    mariadbd_percent=(cpu(pid('mariadb')) - before[1]) * 10,
                    rss=rss(nginx.helper))


def use(root):
    with open(f'{DIR}/nginx.conf', 'w') as file:
        file.write(CONFIG.format(
            root=root, dir=DIR, kafka_port=KAFKA_PORT, http_port=HTTP_PORT,
            user='user root;' if os.geteuid() == 0 else ''))


def beside(base, rows, rounds):
    """The same backlogs by this build and by another one, in turns."""

    pairs = []

    for n in rows:
        for each in (1, 3):
            ratios = []

            for number in range(rounds):
                pair = {}

                for name, root in (('new', ROOT), ('base', base))[
                        ::-1 if number % 2 else 1]:
                    use(root)
                    pair[name] = drain(n - n % each, each)

                pairs.append(pair)
                ratios.append(pair['new']['rate'] / pair['base']['rate'])

            print(f'{n} rows, {each} a payment: {statistics.median(ratios):.3f}'
                  f' ({min(ratios):.2f} to {max(ratios):.2f}) of the base',
                  flush=True)

    return pairs


def alone(options, rows):
    """All that this build does."""

    results = dict(drain=[], steady=[])

    print('rows      each  events/s   helper/mariadbd/kafka CPU us   RSS MiB')

    for n in rows:
        for each in (1, 3):
            n -= n % each
            runs = [drain(n, each) for _ in range(options.rounds)]
            results['drain'] += runs
            print(f'{n:<9} {each:<5} '
                  f'{statistics.median(r["rate"] for r in runs):<10.0f} '
                  + ' / '.join(
                      f'{statistics.median(r["cpu"][p] for r in runs):.1f}'
                      for p in ('helper', 'mariadbd', 'kafka'))
                  + f'   {max(r["rss"] for r in runs):.0f}', flush=True)

    results['steady'] = [steady(options.rate, 20)
                         for _ in range(options.rounds)]

    for r in results['steady']:
        print(f'{r["rate"]:.0f}/s: commit to ack p50 {r["p50_us"]} us, '
              f'p99 {r["p99_us"]} us; empty after {r["empty_ms"]:.0f} ms; '
              f'helper {r["cpu_us"]:.0f} us/event', flush=True)

    if options.outage:
        results['outage'] = r = outage(options.rate, options.outage)
        print(f'Kafka away for {options.outage} s under {options.rate}/s: '
              f'{r["requests"]} requests, all 200; '
              f'p99 {r["p99_before_ms"]:.1f} ms before, '
              f'{r["p99_away_ms"]:.1f} ms meanwhile; '
              f'backlog {r["backlog"]}, caught up {r["caught_up_s"]:.1f} s '
              f'after its start began; {r["published"]} published, '
              f'{r["deleted"]} deleted; breaker '
              + ', '.join(' -> '.join(c) for c in r['breaker']), flush=True)

    results['idle'] = idle()
    print(f'idle: helper {results["idle"]["helper_percent"]:.1f} % of a core, '
          f'mariadbd {results["idle"]["mariadbd_percent"]:.1f} %')

    return results


def commit_of(root):
    return subprocess.check_output(
        ['git', '-C', root, 'rev-parse', '--short', 'HEAD'],
        text=True).strip()


def main():
    global DIR

    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('--rows', default='10000,100000,1000000')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--rate', type=int, default=1000)
    parser.add_argument('--outage', type=int, default=60)
    parser.add_argument('--base')
    options = parser.parse_args()
    rows = [int(n) for n in options.rows.split(',')]
    DIR = options.dir

    tool('build.sh', 'dynamic')
    os.makedirs(f'{DIR}/logs', exist_ok=True)
    tool('server.sh', 'mariadb', 'start', DIR, str(DB_PORT))
    tool('server.sh', 'mariadb', 'database', DIR, DATABASE, USER, PASSWORD)
    tool('server.sh', 'kafka', 'start', DIR, str(KAFKA_PORT))

    with connect() as db, db.cursor() as cursor:
        cursor.execute("INSERT IGNORE INTO outbox_lease VALUES"
                       " ('payment-outbox', '2000-01-01', '2000-01-01', '', 0,"
                       " '')")

    use(ROOT)
    drain(200000, 1)                     # the broker's JVM, warm

    if options.base:
        results = {'pairs': beside(options.base, rows, options.rounds)}
        name = f'outbox-{commit_of(options.base)}-{commit_of(ROOT)}'
    else:
        results = alone(options, rows)
        name = f'outbox-{commit_of(ROOT)}'

    with open(f'{ROOT}/bench/results/{name}.json', 'w') as file:
        json.dump(results, file, indent=1)


main()
