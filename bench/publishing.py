"""What publishing costs the database: mariadbd's CPU a payment, and flushes.

Called by publishing.sh with the directory for its servers. One build runs in
turns, in the rounds of pair.py: publishing, and with payment_outbox off, where
events stay in their table and nothing reads them. It is emptied between two
runs. What counts is the median of the ratios, published to kept.

At the end the helper has nothing to do for --idle seconds: its CPU, and the
statements that the server counts meanwhile.

Raw numbers go to bench/results/publishing-COMMIT.json.
"""

import argparse
import time

import pair
import saturation
from saturation import ROOT, Cpu, commit_of, keep, sql, start_nginx, tool, wrk

DATABASE = 'payment_new'
FIGURES = (('rps', 'payments/s'), ('p50_ms', 'p50'), ('p99_ms', 'p99'),
           ('mariadbd us', 'mariadbd us'), ('worker0 us', 'worker us'),
           ('flushes', 'flushes'))


def published(load, seconds):
    return pair.measure(ROOT, DATABASE, load, seconds)


def kept(load, seconds):
    """The same figures of a node whose events nobody reads."""

    rest = {'DELAY': str(load.rest_ms)} if load.rest_ms else {}
    start_nginx(1, ROOT, DATABASE, http='access_log off; payment_outbox off;')

    try:
        wrk(load.clients, pair.WARM_UP, **rest)
        rows = sql('SELECT COUNT(*) FROM outbox_event', DATABASE)[0][0]
        flushes, cpu = saturation.flushes(), Cpu()
        run = wrk(load.clients, seconds, **rest)
        flushes = saturation.flushes() - flushes
        taken = {name: after - cpu.begin[name]
                 for name, after in cpu.seconds().items()}
        rows = sql('SELECT COUNT(*) FROM outbox_event', DATABASE)[0][0] - rows
    finally:
        tool('server.sh', 'nginx', 'stop', saturation.DIR)

    if run['non2xx'] or run['errors'] \
            or not 0 <= rows - run['requests'] <= load.clients:
        raise SystemExit(f'bench: answers and events do not agree: {run}')

    sql('TRUNCATE TABLE outbox_event', DATABASE)
    run['flushes'] = round(flushes / rows, 3)
    run |= {f'{name} us': round(seconds * 1e6 / rows, 1)
            for name, seconds in taken.items()}

    return run


def questions():
    return int(sql("SHOW GLOBAL STATUS LIKE 'Questions'", 'mysql')[0][1])


def idle(seconds):
    """Percent of a core, and statements a second without our own question."""

    start_nginx(1, ROOT, DATABASE)

    try:
        wrk(4, 1)
        saturation.wait_for('the outbox coming empty',
                            lambda: saturation.outbox_empty(DATABASE))
        cpu, asked = Cpu(), questions()
        time.sleep(seconds)
        asked = questions() - asked - 1
        taken = {name: after - cpu.begin[name]
                 for name, after in cpu.seconds().items()}
    finally:
        tool('server.sh', 'nginx', 'stop', saturation.DIR)

    return {'statements_per_second': round(asked / seconds, 2),
            'percent_of_a_core': {name: round(100 * cpu_seconds / seconds, 2)
                                  for name, cpu_seconds in taken.items()}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=int, default=8)
    parser.add_argument('--idle', type=int, default=60)
    options = parser.parse_args()

    saturation.DIR = options.dir
    saturation.start_servers()
    pair.make_database(ROOT, DATABASE)

    names = ('published', 'kept')
    rounds = pair.take_turns({'published': published, 'kept': kept}, options,
                             (*pair.FULL, *pair.STEADY))
    nothing_to_do = idle(options.idle)

    print(pair.table(rounds, names, FIGURES))
    print(f'with nothing to do: {nothing_to_do}')
    keep(f'publishing-{commit_of(ROOT)}.json',
         {'rounds': rounds, 'seconds': options.seconds,
          'idle': nothing_to_do})


if __name__ == '__main__':
    main()
