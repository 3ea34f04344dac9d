"""Runs one k6 scenario and checks what it left behind.

Called by run.sh, with the system's address in the environment. The status is
0 only if k6's thresholds hold, the number of accepted payments, of new payment
rows and of payments with an event are one number, every change has exactly
its one event, and the outbox came empty.

The report goes to standard output and, as JSON, to bench/results/.
"""

import json
import os
import re
import subprocess
import sys
import time

import confluent_kafka
import pymysql

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

DRAIN_SECONDS = 60      # longer than this the outbox is not coming empty
EVENTS_SECONDS = 120    # for reading the run's events back
STATS = ('avg', 'med', 'p(95)', 'p(99)', 'p(99.9)', 'max')


class Database:
    """The counts in the tables."""

    def __init__(self):
        self.connection = pymysql.connect(
            unix_socket=os.environ['db_socket'], user=os.environ['db_user'],
            password=os.environ['db_password'], database=os.environ['db_name'],
            autocommit=True)
        self.cursor = self.connection.cursor()

    def value(self, sql):
        self.cursor.execute(sql)
        return self.cursor.fetchone()[0]

    def payments(self):
        return self.value('SELECT COUNT(*) FROM payment')

    def backlog(self):
        return self.value('SELECT COUNT(*) FROM outbox_event')

    def dead(self):
        return self.value('SELECT COUNT(*) FROM outbox_dead')

    def outbox_empty(self):
        return not self.value('SELECT EXISTS (SELECT 1 FROM outbox_event)')


class Topic:
    """The events that came into the topic since `mark`."""

    def __init__(self):
        self.name = os.environ['topic']
        self.consumer = confluent_kafka.Consumer({
            'bootstrap.servers': f"127.0.0.1:{os.environ['kafka_port']}",
            'group.id': 'bench-k6',
            'enable.auto.commit': False,
            'fetch.wait.max.ms': 20,
        })
        self.begin = self.ends()

    def ends(self):
        topics = self.consumer.list_topics(self.name, timeout=10).topics
        ends = {}

        for number in topics[self.name].partitions:
            partition = confluent_kafka.TopicPartition(self.name, number)
            ends[number] = self.consumer.get_watermark_offsets(
                partition, timeout=10)[1]

        return ends

    def read(self):
        """Yields the records from `begin` to the present end."""

        ends = self.ends()
        left = {n for n, end in ends.items() if end > self.begin[n]}

        if not left:
            return

        self.consumer.assign([
            confluent_kafka.TopicPartition(self.name, n, self.begin[n])
            for n in left])
        deadline = time.monotonic() + EVENTS_SECONDS

        while left:
            if time.monotonic() > deadline:
                sys.exit(f'the topic {self.name} cannot be read to its end')

            for record in self.consumer.consume(10000, timeout=1):
                if record.error():
                    sys.exit(f'reading {self.name}: {record.error()}')

                yield record

                if record.offset() >= ends[record.partition()] - 1:
                    left.discard(record.partition())


def run_k6(scenario, duration, rate, summary):
    """Runs k6 to its end; its status and when the last request was over."""

    environment = dict(os.environ, SUMMARY=summary, DURATION=duration,
                       RATE=rate,
                       BASE_URL=f"http://127.0.0.1:{os.environ['http_port']}")

    # on two cores, what k6 collects of its garbage is seen as latency
    environment.setdefault('GOGC', '800')

    process = subprocess.Popen(
        [os.path.join(ROOT, 'build', 'bin', 'k6'), 'run', '--quiet',
         '--no-usage-report', '--log-format', 'raw', '--address', '',
         os.path.join(HERE, f'{scenario}.js')],
        env=environment, stderr=subprocess.PIPE, text=True)

    ended = None
    drained = None
    database = Database()

    try:
        for line in process.stderr:
            match = re.match(r'load ended at (\d+)', line)

            if match:
                ended = int(match.group(1)) / 1000
                drained = drain(database, ended)
            else:
                print(line, end='', file=sys.stderr)

        return process.wait(), drained

    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def drain(database, since):
    """Milliseconds from `since` until the outbox was seen empty, or None."""

    while time.time() < since + DRAIN_SECONDS:
        if database.outbox_empty():
            return round((time.time() - since) * 1000, 1)

        time.sleep(0.001)

    return None


def identity(record):
    """What names a change for ever: the payment and its version."""

    event = json.loads(record.value())
    return event['paymentId'], event['version']


def read_events(topic):
    changes = set()
    records = 0

    for record in topic.read():
        changes.add(identity(record))
        records += 1

    return {
        'records': records,
        'distinct': len(changes),
        'duplicates': records - len(changes),
        'payments': len({payment for payment, _ in changes}),
    }


def count(metrics, name):
    return int(metrics[name]['values']['count']) if name in metrics else 0


def report(scenario, duration, rate, metrics, result):
    trends = ['http_req_duration'] + sorted(
        name for name in metrics if re.match(r'payment_\w+_duration$', name))
    width = max(map(len, trends))

    print(f'{scenario}: {rate}/s for {duration}, '
          f"{count(metrics, 'http_reqs')} requests, "
          f"{count(metrics, 'dropped_iterations')} iterations dropped")
    print(f"{'ms':>{width}}" + ''.join(f'{stat:>10}' for stat in STATS))

    for name in trends:
        values = metrics[name]['values']
        print(f'{name:>{width}}'
              + ''.join(f'{values[stat]:>10.2f}' for stat in STATS))

    failed = metrics['http_req_failed']['values']
    print(f"{'failed requests':>{width}}{failed['passes']:>10.0f}")

    for name, metric in sorted(metrics.items()):
        for threshold, state in metric.get('thresholds', {}).items():
            verdict = 'ok' if state['ok'] else 'NOT MET'
            print(f'{name:>{width}}  {threshold}: {verdict}')

    drained = result['outbox_empty_after_ms']
    print()
    print(f"{result['accepted']:>10}  payments accepted")
    print(f"{result['rows']:>10}  new payment rows")
    print(f"{result['events']['payments']:>10}  payments with events")
    print(f"{result['changes']:>10}  changes answered with 200")
    print(f"{result['events']['distinct']:>10}  distinct new events")
    print(f"{result['events']['duplicates']:>10}  events published twice")
    print(f"{result['dead']:>10}  events in outbox_dead")
    print(f"{'never' if drained is None else drained:>10}  "
          'ms after the last answer the outbox was empty')


def main(scenario, duration, rate):
    results = os.path.join(ROOT, 'bench', 'results')
    stamp = time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())
    path = os.path.join(results, f'k6-{scenario}-{stamp}.json')
    summary = os.path.join(ROOT, 'build', f'k6-{os.getpid()}.json')
    os.makedirs(results, exist_ok=True)

    database = Database()

    if drain(database, time.time()) is None:
        sys.exit('the outbox is not empty, and does not come empty; '
                 'what the run would leave there could not be told apart')

    rows, dead = database.payments(), database.dead()
    topic = Topic()

    print(f'{scenario}: {rate}/s for {duration} ..', flush=True)
    status, drained = run_k6(scenario, duration, rate, summary)

    if not os.path.exists(summary):
        sys.exit(f'k6 ended with status {status} and without a summary')

    with open(summary, encoding='utf-8') as file:
        metrics = json.load(file)['metrics']

    os.unlink(summary)

    accepted = count(metrics, 'payment_accepted')
    result = {
        'scenario': scenario,
        'at': stamp,
        'duration': duration,
        'rate': int(rate),
        'cpus': os.cpu_count(),
        'accepted': accepted,
        'changes': count(metrics, 'payment_changes') or accepted,
        'rows': database.payments() - rows,
        'dead': database.dead() - dead,
        'events': read_events(topic),
        'outbox_empty_after_ms': drained,
        'k6_status': status,
        'k6': metrics,
    }

    result['agree'] = (
        accepted == result['rows'] == result['events']['payments']
        and result['changes'] == result['events']['distinct']
        and result['dead'] == 0 and accepted > 0)

    with open(path, 'w', encoding='utf-8') as file:
        json.dump(result, file, indent=1, sort_keys=True)
        file.write('\n')

    report(scenario, duration, rate, metrics, result)
    print(f'\n{os.path.relpath(path, ROOT)}')

    problems = []

    if status == 99:
        problems.append('a threshold is not met')
    elif status != 0:
        problems.append(f'k6 ended with status {status}')
    if not result['agree']:
        problems.append('the numbers do not agree')
    if drained is None:
        problems.append('the outbox did not come empty')

    if problems:
        sys.exit('; '.join(problems))


main(*sys.argv[1:])
