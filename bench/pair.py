"""Two builds in turns, in one run: is the new one as fast as the one before?

Called by pair.sh with the directory for its servers and the other checkout,
which is built already. Both builds meet the same MariaDB and the same Kafka,
each with a database of its own that its own migrations made; nginx is started
anew for each run. In every round each build runs once with 64 clients, once
with 256, and once each with about 1000 and 100 payments a second; which build
is first alternates.

The machine's speed changes from minute to minute, so what counts is the ratio
of the two runs of one round, and of those the median. CPU and memory of a
worker and the helper are from the same runs.

Raw numbers go to bench/results/pair-COMMIT-COMMIT.json.
"""

import argparse
import contextlib
import functools
import os
import statistics
import subprocess
import typing

import saturation
from saturation import ROOT, commit_of, keep, ours, start_nginx, tool

class Load(typing.NamedTuple):
    name: str
    clients: int
    rest_ms: int = 0                # before each request of a client


WARM = Load('64 clients', 64)
FULL = (WARM, Load('256 clients', 256))
STEADY = (Load('1000/s', 20, 19), Load('100/s', 4, 39))
WARM_UP = 1                         # seconds, for a fresh nginx

# what is compared, and the column's head
FIGURES = (('rps', 'payments/s'), ('p50_ms', 'p50'), ('p99_ms', 'p99'),
           ('worker0 us', 'worker us'), ('helper us', 'helper us'),
           ('mariadbd us', 'mariadbd us'), ('kafka us', 'kafka us'),
           ('worker0 MiB', 'worker MiB'), ('helper MiB', 'helper MiB'),
           ('acked_p50_ms', 'acked p50'), ('acked_p99_ms', 'acked p99'),
           ('flushes', 'flushes'))


def make_database(root, name):
    """Its schema comes from the migrations of the checkout that is measured;
    its user may do all that any version of the module does."""

    client = ['mariadb', '--no-defaults', '--protocol=socket',
              f'--socket={saturation.DIR}/mariadb.sock', '--user=root']
    user, password = saturation.USER, saturation.PASSWORD

    subprocess.run(client, check=True, text=True, input=f"""
        CREATE DATABASE {name};
        CREATE USER IF NOT EXISTS '{user}'@'localhost'
            IDENTIFIED BY '{password}';
        GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON {name}.*
            TO '{user}'@'localhost';""")
    subprocess.run([f'{root}/tools/migrate.sh', name, *client[1:]], check=True,
                   stderr=subprocess.DEVNULL)


def measure(root, database, load, seconds, beside=contextlib.nullcontext,
            **lines):
    """beside: what goes on meanwhile. lines: see start_nginx()."""

    rest = {'DELAY': str(load.rest_ms)} if load.rest_ms else {}
    start_nginx(1, root, database, **lines)

    try:
        ours(load.clients, WARM_UP, database, **rest)

        with beside():
            run = ours(load.clients, seconds, database, **rest)
    finally:
        tool('server.sh', 'nginx', 'stop', saturation.DIR)

    for name, value in run['cpu_us'].items():
        run[f'{name} us'] = value

    for name, value in run['resident_mib'].items():
        run[f'{name} MiB'] = value

    return run


def median(values):
    return statistics.median(values)


def table(rounds, names, figures=FIGURES):
    lines = [f'{"":24}' + ''.join(f'{head:>12}' for _, head in figures)]

    for load in dict.fromkeys(r['load'] for r in rounds):
        for name in names:
            runs = [r[name] for r in rounds if r['load'] == load]
            lines.append(f'{f"{load}, {name}":24}' + ''.join(
                f'{median([run[figure] for run in runs]):12.2f}'
                for figure, _ in figures))

        new, base = names
        lines.append(f'{"  ratio, median of pairs":24}' + ''.join(
            f'{ratio(rounds, load, figure, new, base):12.3f}'
            for figure, _ in figures))

    return '\n'.join(lines)


def ratio(rounds, load, figure, new, base):
    return median([r[new][figure] / r[base][figure] for r in rounds
                   if r['load'] == load and r[base][figure]] or [1])


def take_turns(runs, options, loads):
    """The rounds of two names' runs, each a function of a load and seconds;
    the first name is the one that is compared with the other."""

    names = tuple(runs)
    rounds = []
    runs[names[1]](WARM, saturation.WARM_UP)               # not counted

    for number in range(options.rounds):
        for load in loads:
            one = {'load': load.name, 'load_average': os.getloadavg()[0]}

            for name in names if number % 2 else reversed(names):
                one[name] = runs[name](load, options.seconds)

            rounds.append(one)
            print(f'round {number + 1} of {options.rounds}, {load.name}:'
                  f' {one[names[0]]["rps"] / one[names[1]]["rps"]:.3f}',
                  flush=True)

    return rounds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('base')
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--seconds', type=int, default=8)
    options = parser.parse_args()

    saturation.DIR = options.dir
    names = (commit_of(ROOT), commit_of(options.base))

    if names[0] == names[1]:
        raise SystemExit('bench: both builds are of the same commit')

    builds = {names[0]: (ROOT, 'payment_new'),
              names[1]: (options.base, 'payment_base')}

    saturation.start_servers()

    for root, database in builds.values():
        make_database(root, database)

    rounds = take_turns({name: functools.partial(measure, *builds[name])
                         for name in names}, options, (*FULL, *STEADY))

    print(table(rounds, names))
    keep(f'pair-{names[1]}-{names[0]}.json',
         {'new': names[0], 'base': names[1], 'rounds': rounds,
          'seconds': options.seconds})


if __name__ == '__main__':
    main()
