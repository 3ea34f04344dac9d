"""What repeats and reads cost, beside payments that are new.

Called by replays.sh with the directory for its servers, and perhaps with an
older build to take turns with. In each round each build is measured, with 64
clients, on a worker that has made some ten thousand payments before:

  new         no request is a repeat
  10 50 100   so many percent repeat one of those payments
  get         no request but reads of them
  steady      all requests are new; 250 more a second come from elsewhere
  hot         the same, but those 250 repeat one single request

What counts are ratios within a round, and of those the median: requests served
with so many repeats to those without, and in "hot" to those in "steady".

Raw numbers go to bench/results/replays-COMMIT.json.
"""

import argparse
import os
import statistics
import threading
import time

import pair
import saturation
from saturation import ROOT, commit_of, keep, sql, start_nginx, tool, wrk

CLIENTS = 64
REPEATS = ('10', '50', '100')
BESIDE = 250                        # requests a second
BESIDE_CLIENTS = 5
KNOWN_SECONDS = 2                   # of payments that are repeated afterwards
READ = 1000                         # payments that are read

FIGURES = ('new', *REPEATS, 'get', 'steady', 'hot')
OVER = {'hot': 'steady'}            # else 'new'


def known(database):
    """Payments to be repeated: what wrk has to know of them."""

    seed = f'{time.time_ns()}'
    run = wrk(CLIENTS, KNOWN_SECONDS, seed=seed)
    rows = sql('SELECT LOWER(HEX(id)), merchant_id FROM payment'
               f' ORDER BY id DESC LIMIT {READ}', database)
    path = f'{saturation.DIR}/payments'

    with open(path, 'w') as out:
        for id, merchant in rows:
            out.write(f'{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}'
                      f' {merchant}\n')

    return {'KNOWN_SEED': f'{seed}-0', 'PAYMENTS': path,
            'KNOWN_KEYS': str(int(run['requests']) - 10 * CLIENTS)}


def beside(seconds, hot):
    """The other 250 requests a second, in the background."""

    # a client waits for its answer and then for so long
    delay = 1000 * BESIDE_CLIENTS // BESIDE - 3
    environment = {'DELAY': str(delay)}

    if hot:
        environment['HOT'] = f'hot-{time.time_ns()}'

    runs = []
    thread = threading.Thread(target=lambda: runs.append(
        wrk(BESIDE_CLIENTS, seconds, **environment)))
    thread.start()

    return thread, runs


def one(figure, seconds, environment):
    if figure in ('steady', 'hot'):
        thread, runs = beside(seconds, figure == 'hot')
        run = wrk(CLIENTS, seconds)
        thread.join()
        run['beside_rps'] = runs[0]['rps']
        run['beside_p50_ms'] = runs[0]['p50_ms']
        bad = run['non2xx'] + runs[0]['non2xx']

    elif figure == 'get':
        run = wrk(CLIENTS, seconds, 'get', **environment)
        bad = run['non2xx']

    else:
        run = wrk(CLIENTS, seconds, **environment,
                  REPEATS='0' if figure == 'new' else figure)
        bad = run['non2xx']

    if bad or run['errors']:
        raise SystemExit(f'bench: not all answers are good: {figure}: {run}')

    return run


def measure(root, database, seconds, backwards):
    start_nginx(1, root, database)
    runs = {}

    try:
        environment = known(database)

        for figure in reversed(FIGURES) if backwards else FIGURES:
            before = sql('SELECT COUNT(*) FROM payment', database)[0][0]
            runs[figure] = one(figure, seconds, environment)
            rows = sql('SELECT COUNT(*) FROM payment', database)[0][0]

            # those that were under way when the run before ended come late
            if figure in ('100', 'get') and rows - before > CLIENTS:
                raise SystemExit(f'bench: {rows - before} payments were made'
                                 f' by {figure}')

            saturation.wait_for('the outbox coming empty',
                                lambda: saturation.outbox_empty(database))
    finally:
        tool('server.sh', 'nginx', 'stop', saturation.DIR)

    return runs


def ratio(runs, figure):
    return runs[figure]['rps'] / runs[OVER.get(figure, 'new')]['rps']


def table(rounds, names):
    lines = [f'{"":28}' + ''.join(f'{figure:>10}' for figure in FIGURES)]

    for name in names:
        runs = [one[name] for one in rounds]

        for what, value in (
                ('requests/s', lambda run, f: run[f]['rps']),
                ('p50 ms', lambda run, f: run[f]['p50_ms']),
                ('p99 ms', lambda run, f: run[f]['p99_ms']),
                ('ratio', ratio)):
            lines.append(f'{name} {what:19}' + ''.join(
                f'{statistics.median(value(run, f) for run in runs):10.2f}'
                for f in FIGURES))

    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('--base')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seconds', type=int, default=4)
    options = parser.parse_args()

    saturation.DIR = options.dir
    roots = [ROOT] + ([options.base] if options.base else [])
    builds = {commit_of(root): (root, f'payment_{number}')
              for number, root in enumerate(roots)}

    saturation.start_servers()

    for root, database in builds.values():
        pair.make_database(root, database)

    rounds = []

    for number in range(options.rounds + 1):
        rounds.append({name: measure(*build, options.seconds, number % 2)
                       for name, build in builds.items()})

        if number:
            print(f'round {number} of {options.rounds}', flush=True)

    del rounds[0]                   # its broker's JVM was cold
    print(table(rounds, builds))
    keep(f'replays-{"-".join(builds)}.json',
         {'rounds': rounds, 'seconds': options.seconds,
          'load': os.getloadavg()[0]})


if __name__ == '__main__':
    main()
