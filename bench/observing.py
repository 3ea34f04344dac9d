"""What it costs to be watched, and how long a scrape takes.

Called by observing.sh with the directory for its servers. One build runs in
turns, in the rounds of pair.py: bare, and with all that conf/production.conf
has for whoever watches: the access log in JSON, with its buffer, a trace for
each payment, in its answer, its log line and its event, and besides a scrape of
the metrics and a question for the health each second, which is fifteen times as
often as Prometheus asks. What counts is the median of the ratios.

With --only PART it is one part of that: log, trace, or asking; or combined, the
access log that every nginx has, or own, the lines of log made of variables, both
written in the same way; or spans, the trace and --sample percent of the spans,
for a collector that throws them away. With --beside combined, own or trace, nginx
is not bare, but has that one. --only probes is not a part of it: 20 000 questions
for the health a second, beside about 1000 payments a second; with --beside returns
the other one is asked as often, and answers by nginx's own return.

The access log is written below the directory for the servers, so on the disk of
the redo log, or in that of --logs.

Without --only, one nginx with four shards is scraped then, SCRAPES times in a row
when nothing else happens, and ten times a second while 64 clients pay.

Raw numbers go to bench/results/observing-COMMIT.json, or -COMMIT-PART.json, or
-COMMIT-PART-BESIDE.json; of spans the percentage is a part of PART.
"""

import argparse
import contextlib
import functools
import http.client
import http.server
import os
import re
import signal
import threading
import time

import pair
import saturation
from saturation import ROOT, commit_of, keep, start_nginx, tool, wrk

SHARDS = 4
SCRAPES = 500
PERIOD = 1                          # seconds between two scrapes, in the turns
PERIOD_AT_WORK = 0.1                # and of the four shards

# where a log's format is, which is there alone, what it is called, and what
# it looks like
FORMATS = {
    'log': ('conf/production.conf', 'payment',
            re.compile(r'^    log_format  payment  .*?;$', re.MULTILINE)),
    'own': ('docs/operations.md', 'own',
            re.compile(r"^    log_format  own  .*?';$",
                       re.MULTILINE | re.DOTALL))
}

BUFFER = 'buffer=64k flush=1s;'
LOGS = 'logs'                       # where, from nginx's prefix or from /

PARTS = ('log', 'trace', 'asking')

# connections, each with a rest of so many ms before it asks
PROBERS, PROBERS_REST = 400, 19


def observed(*parts, exporter=''):
    """The lines of these parts for start_nginx(), and what goes on beside."""

    found = {}

    if 'spans' in parts:
        found['http'] = f'access_log off; {exporter}'

    for log in {'log', 'own', 'combined'} & set(parts):
        found['http'] = access_log(log)

    if {'trace', 'spans'} & set(parts):
        found['api'] = ('payment_trace_context make;'
                        ' add_header X-Request-Id $payment_trace_id always;')

    if 'asking' in parts:
        found['server'] = ('location = /metrics { payment_status prometheus; }'
                           ' location = /health { payment_health; }')
        found['beside'] = Watching

    if 'probes' in parts:
        found['server'] = 'location = /health { payment_health; }'
        found['beside'] = probing

    if 'returns' in parts:
        found['server'] = 'location = /health { return 200 "UP"; }'
        found['beside'] = probing

    return found


def access_log(which):
    """The lines of nginx's configuration that write it."""

    if which == 'combined':
        return f'access_log {LOGS}/payment.log combined {BUFFER}'

    path, name, pattern = FORMATS[which]

    with open(os.path.join(ROOT, path)) as text:
        formats = pattern.findall(text.read())

    if len(formats) != 1:
        raise SystemExit(f'bench: {path} has another log')

    return f"""{formats[0]}
    map $host $payment_client {{ default ""; }}
    access_log {LOGS}/payment.log {name} {BUFFER}"""


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans, and throws them away."""

    protocol_version = 'HTTP/1.1'
    taken = 0                           # bytes

    def do_POST(self):
        Collector.taken += len(
            self.rfile.read(int(self.headers['Content-Length'])))
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def log_message(self, *words):
        pass


@contextlib.contextmanager
def collecting(sample):
    """The directive that sends spans to a collector, for as long as it runs."""

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    try:
        yield (f'payment_trace_exporter http://127.0.0.1:{server.server_port}'
               f' sample={sample}%;')
    finally:
        server.shutdown()


@contextlib.contextmanager
def probing():
    """Asks for the health all the time, and says how often that was."""

    with saturation.wrk_runs(PROBERS, 3600, 'probe',
                             DELAY=str(PROBERS_REST)) as running:
        yield
        running.send_signal(signal.SIGINT)
        run = saturation.wrk_result(running)

    if run['non2xx'] or run['errors']:
        raise SystemExit(f'bench: not all probes are answered: {run}')

    print(f'  {run["rps"]:.0f} probes a second', flush=True)


class Watch:
    """Asks for metrics and health, over one connection as Prometheus does, and
    notes how many milliseconds the metrics took."""

    def __init__(self):
        self.connection = http.client.HTTPConnection(
            '127.0.0.1', saturation.HTTP_PORT, timeout=10)
        self.ms = []
        self.bytes = 0

    def ask(self, path):
        self.connection.request('GET', path)
        answer = self.connection.getresponse()
        body = answer.read()

        if answer.status != 200:
            raise SystemExit(f'bench: {path}: {answer.status}')

        return body

    def scrape(self):
        began = time.perf_counter()
        self.bytes = len(self.ask('/metrics'))
        self.ms.append((time.perf_counter() - began) * 1000)

    def result(self):
        ms = sorted(self.ms)

        return {'scrapes': len(ms), 'bytes': self.bytes,
                'p50_ms': round(ms[len(ms) // 2], 2),
                'p99_ms': round(ms[len(ms) * 99 // 100], 2),
                'max_ms': round(ms[-1], 2)}


class Watching:
    """A Watch that asks again and again, for as long as its block lasts."""

    def __init__(self, period=PERIOD):
        self.period = period

    def __enter__(self):
        self.watch = Watch()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self.watch

    def run(self):
        while not self.over.wait(self.period):
            self.watch.scrape()
            self.watch.ask('/health')

    def __exit__(self, *failure):
        self.over.set()
        self.thread.join()


def scrapes(databases, seconds):
    """Of a node with many shards, at rest and at work."""

    lines = observed(*PARTS)
    del lines['beside']
    start_nginx(1, ROOT, *databases, **lines)

    try:
        wrk(64, 1)
        rest = Watch()

        for _ in range(SCRAPES):
            rest.scrape()

        with Watching(PERIOD_AT_WORK) as work:
            run = wrk(64, seconds)

        if run['non2xx'] or run['errors']:
            raise SystemExit(f'bench: not all answers are good: {run}')
    finally:
        tool('server.sh', 'nginx', 'stop', saturation.DIR)

    return {'shards': len(databases), 'at_rest': rest.result(),
            'at_work': work.result()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--seconds', type=int, default=8)
    parser.add_argument('--only', choices=[*PARTS, 'combined', 'own', 'spans',
                                           'probes'])
    parser.add_argument('--sample', type=int, default=100)
    parser.add_argument('--beside', default='bare',
                        choices=['bare', 'combined', 'own', 'trace',
                                 'returns'])
    parser.add_argument('--logs')
    options = parser.parse_args()

    global LOGS
    LOGS = options.logs or LOGS
    saturation.DIR = options.dir
    one, *four = (f'payment_{number}' for number in range(1 + SHARDS))
    saturation.start_servers()

    for database in (one, *four):
        pair.make_database(ROOT, database)

    parts = [options.only] if options.only else PARTS
    names = ('observed', options.beside)
    bare = functools.partial(pair.measure, ROOT, one)

    with collecting(options.sample) as exporter:
        rounds = pair.take_turns(
            {'observed': functools.partial(
                bare, **observed(*parts, exporter=exporter)),
             options.beside: functools.partial(
                 bare, **observed(options.beside))},
            options, pair.STEADY[:1] if options.only == 'probes'
            else pair.FULL)

    print(pair.table(rounds, names))
    kept = {'parts': parts, 'beside': options.beside, 'rounds': rounds,
            'seconds': options.seconds, 'logs': options.logs}

    if not options.only:
        kept['scrape'] = scrapes(four, options.seconds)
        print(f'a scrape of {SHARDS} shards: {kept["scrape"]}')

    if options.only == 'spans':
        kept |= {'sample': options.sample, 'collected_bytes': Collector.taken}
        options.only += str(options.sample)

    keep('-'.join(['observing', commit_of(ROOT),
                   *([options.only] if options.only else []),
                   *([options.beside] if options.beside != 'bare' else []),
                   *(['elsewhere'] if options.logs else [])])
         + '.json', kept)


if __name__ == '__main__':
    main()
