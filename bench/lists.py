"""What the index of payment_list costs, and how long a page takes.

Called by lists.sh with the directory for its servers. Two databases have the
same payments (--rows), of a thousand merchants, one of them with the index.

In every round one build meets each of them in turns, with 64 and with 256
clients: the ratios of a round's two runs are what the index costs at
saturation, and of those the median counts.

Then about a thousand authorizations a second are made, alone and beside about
a hundred pages a second, of 20 payments, of 100, and by a status that no
payment has, which is 128 rows looked at for an empty page; and beside as
many look-ups of keys, of which each payment has one.

Raw numbers go to bench/results/lists-COMMIT.json.
"""

import argparse
import contextlib
import functools
import os
import statistics
import subprocess
import threading
import time

import pair
import saturation
from saturation import ROOT, commit_of, keep, sql, wrk

PLAIN, INDEXED = 'payment_plain', 'payment_indexed'
LISTS = {'http': 'access_log off; payment_list on;'}
STEADY = pair.STEADY[0]

PAGE_CLIENTS, PAGE_REST_MS = 4, 38          # about 100 pages a second
PAGES = {'20': '', '100': '&limit=100', 'status': '&status=REFUNDED'}
KEYS = 'keys'


def fill(database, rows):
    """A payment a millisecond until now, whose ids are in order, and their
    keys."""

    million = 1000000
    id = f"""UNHEX(CONCAT(LPAD(HEX({int(time.time() * 1000) - rows} + seq), 12,
                                '0'), '70008000', SUBSTR(MD5(seq), 21)))"""
    merchant = "CONCAT('MERCHANT-', seq % 1000 + 1)"

    for first in range(1, rows + 1, million):
        seq = f'seq_{first}_to_{min(first + million - 1, rows)}'
        sql(f"""INSERT INTO payment (id, merchant_id, currency, status, amount,
                                     created_at, updated_at)
                SELECT {id}, {merchant}, 'KRW', 'AUTHORIZED', 1000,
                       UTC_TIMESTAMP(), UTC_TIMESTAMP()
                FROM {seq}""", database)
        sql(f"""INSERT INTO idempotency_key (key_hash, payment_id, fingerprint,
                                             operation)
                SELECT LEFT(UNHEX(SHA2(CONCAT({merchant}, CHAR(0), 'list-',
                                              seq), 256)), 16), {id}, LEFT(MD5(seq), 8),
                       'authorize'
                FROM {seq} ORDER BY 1""", database)


def add_index():
    """How many seconds it takes, as an operator does it."""

    start = time.monotonic()
    subprocess.run([f'{ROOT}/tools/migrate.sh', 'add', 'merchant_index',
                    INDEXED, '--no-defaults', '--protocol=socket',
                    f'--socket={saturation.DIR}/mariadb.sock', '--user=root'],
                   check=True, stderr=subprocess.DEVNULL)

    return round(time.monotonic() - start, 1)


def index_mib():
    sql('ANALYZE TABLE payment', INDEXED)

    return round(int(sql('SELECT index_length FROM information_schema.tables'
                         f" WHERE table_schema = '{INDEXED}'"
                         " AND table_name = 'payment'", INDEXED)[0][0])
                 / 2**20, 1)


@contextlib.contextmanager
def reads(seconds, script, environment, runs):
    """A hundred of them a second, in the background."""

    thread = threading.Thread(target=lambda: runs.append(
        wrk(PAGE_CLIENTS, seconds, script, DELAY=str(PAGE_REST_MS),
            **environment)))
    thread.start()
    yield
    thread.join()


def measure_pages(seconds, rows):
    """Authorizations alone, and beside pages of each kind, and look-ups."""

    alone = pair.measure(ROOT, INDEXED, STEADY, seconds, **LISTS)
    found = {'alone': {'authorize': alone}}

    kinds = {name: ('list', {'FILTERS': filters})
             for name, filters in PAGES.items()}
    kinds[KEYS] = 'lookup', {'KEYS': str(rows)}

    for name, (script, environment) in kinds.items():
        runs = []
        authorize = pair.measure(
            ROOT, INDEXED, STEADY, seconds,
            beside=functools.partial(reads, seconds, script, environment,
                                     runs), **LISTS)
        [page] = runs

        if page['non2xx'] or page['errors']:
            raise SystemExit(f'bench: not all of {name} are good: {page}')

        found[name] = {'authorize': authorize, 'pages': page}

    return found


def tell_pages(rounds):
    print(f'{"beside":18}{"pages/s":>9}{"p50 ms":>9}{"p99 ms":>9}'
          f'{"payments/s":>12}{"p50 ms":>9}{"p99 ms":>9}')

    for name in rounds[0]:
        def median(what, figure, name=name):
            runs = [one[name][what] for one in rounds if what in one[name]]
            return statistics.median([run[figure] for run in runs] or [0])

        print(f'{name:18}{median("pages", "rps"):9.0f}'
              f'{median("pages", "p50_ms"):9.2f}'
              f'{median("pages", "p99_ms"):9.2f}'
              f'{median("authorize", "rps"):12.0f}'
              f'{median("authorize", "p50_ms"):9.2f}'
              f'{median("authorize", "p99_ms"):9.2f}')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('--rows', type=int, default=2000000)
    parser.add_argument('--rounds', type=int, default=5,
                        help='of saturation; with 0 of them, pages alone')
    parser.add_argument('--seconds', type=int, default=5)
    parser.add_argument('--pages', type=int, default=3, help='rounds of pages')
    options = parser.parse_args()

    saturation.DIR = options.dir
    saturation.start_servers()

    for database in (PLAIN, INDEXED) if options.rounds else (INDEXED,):
        pair.make_database(ROOT, database)
        fill(database, options.rows)

    built, mib = add_index(), index_mib()
    print(f'the index of {options.rows} payments took {built} s and {mib} MiB',
          flush=True)

    rounds = options.rounds and pair.take_turns(
        {'indexed': functools.partial(pair.measure, ROOT, INDEXED, **LISTS),
         'plain': functools.partial(pair.measure, ROOT, PLAIN)},
        options, pair.FULL)

    if rounds:
        print(pair.table(rounds, ('indexed', 'plain')))

    listed = [measure_pages(options.seconds, options.rows)
              for _ in range(options.pages)]
    tell_pages(listed)

    keep(f'lists-{commit_of(ROOT)}.json',
         {'rows': options.rows, 'index_seconds': built, 'index_mib': mib,
          'rounds': rounds,
          'pages': listed, 'seconds': options.seconds,
          'load': os.getloadavg()[0]})


if __name__ == '__main__':
    main()
