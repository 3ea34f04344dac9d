"""The outbox by itself: events go into the table by SQL, and out to Kafka.

Called by run.sh with the directory for its servers.

  drain    for each number of rows: nginx is stopped, the table is filled, nginx
           is started; from the moment that the lease is held until the table
           is empty. Rows are written as the batch writer does, 64 in a
           transaction. Once with one event a payment, once with three.
  steady   a writer commits single events at a rate; commit to acknowledgement,
           from the helper's own histogram, and CPU per event
  idle     CPU of the helper with nothing to do

The helper's memory is VmRSS; librdkafka's buffers and its threads are in it.
Raw numbers go to bench/results/outbox-COMMIT.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid

import pymysql

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

DB_PORT, KAFKA_PORT, HTTP_PORT = 23346, 27102, 28190
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
        assert state['rewinds'] == state['failed'] == 0, state

        return dict(rows=n, each=each, seconds=seconds, rate=n / seconds,
                    rss=max(peak),
                    cpu={name: (cpu(p) - before[name]) / n * 1e6
                         for name, p in pids.items()})


def steady(rate, seconds):
    with connect() as db, db.cursor() as cursor, Nginx() as nginx:
        wait_for('the lease', lambda: relay()['lease_held'])
        time.sleep(1)
        before = cpu(nginx.helper)
        began = time.monotonic()
        n = 0

        while (now := time.monotonic() - began) < seconds:
            if n < now * rate:
                cursor.execute(INSERT + row(str(uuid.uuid4()),
                                            f'MERCHANT-{n % 1000}', 1))
                n += 1
            else:
                time.sleep(0.0002)

        last = time.monotonic()

        def empty():
            cursor.execute('SELECT EXISTS (SELECT 1 FROM outbox_event)')
            return not cursor.fetchone()[0]

        wait_for('empty', empty, pause=0.001)
        emptied = time.monotonic() - last
        used = (cpu(nginx.helper) - before) / n * 1e6
        times = status()['times']['commit_to_ack']

        return dict(events=n, rate=n / seconds, p50_us=times['p50_us'],
                    p95_us=times['p95_us'], p99_us=times['p99_us'],
                    empty_ms=emptied * 1000, cpu_us=used)


def idle():
    with Nginx() as nginx:
        wait_for('the lease', lambda: relay()['lease_held'])
        time.sleep(2)
        before = cpu(nginx.helper), cpu(pid('mariadb'))
        time.sleep(10)
        return dict(helper_percent=(cpu(nginx.helper) - before[0]) * 10,
                    mariadbd_percent=(cpu(pid('mariadb')) - before[1]) * 10,
                    rss=rss(nginx.helper))


def main():
    global DIR

    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('--rows', default='10000,100000,1000000')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--rate', type=int, default=1000)
    parser.add_argument('--keep', action='store_true',
                        help='write the raw numbers to bench/results')
    options = parser.parse_args()
    DIR = options.dir

    tool('build.sh', 'dynamic')
    os.makedirs(f'{DIR}/logs', exist_ok=True)
    tool('server.sh', 'mariadb', 'start', DIR, str(DB_PORT))
    tool('database.sh', DIR, DATABASE, USER, PASSWORD)
    tool('server.sh', 'kafka', 'start', DIR, str(KAFKA_PORT))

    with connect() as db, db.cursor() as cursor:
        cursor.execute("INSERT IGNORE INTO outbox_lease VALUES"
                       " ('payment-outbox', '2000-01-01', '2000-01-01', '', 0,"
                       " '')")

    with open(f'{DIR}/nginx.conf', 'w') as file:
        file.write(CONFIG.format(
            root=ROOT, dir=DIR, kafka_port=KAFKA_PORT, http_port=HTTP_PORT,
            user='user root;' if os.geteuid() == 0 else ''))

    drain(200000, 1)                     # the broker's JVM, warm
    results = dict(drain=[], steady=[], idle=None)

    print('rows      each  events/s   helper/mariadbd/kafka CPU us   RSS MiB')

    for n in map(int, options.rows.split(',')):
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

    results['idle'] = idle()
    print(f'idle: helper {results["idle"]["helper_percent"]:.1f} % of a core, '
          f'mariadbd {results["idle"]["mariadbd_percent"]:.1f} %')

    if options.keep:
        commit = subprocess.check_output(
            ['git', '-C', ROOT, 'rev-parse', '--short', 'HEAD'],
            text=True).strip()
        path = f'{ROOT}/bench/results/outbox-{commit}.json'

        with open(path, 'w') as file:
            json.dump(results, file, indent=1)


main()
