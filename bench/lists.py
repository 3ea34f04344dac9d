"""What the index of payment_list costs, and how long a page takes.

Called by lists.sh with the directory for its servers. Two databases have the
same payments (--rows), of a thousand merchants, one of them with the index.

In every round one build meets each of them in turns, with 64 and with 256
clients: the ratios of a round's two runs are what the index costs at
saturation, and of those the median counts.

Then about a thousand authorizations a second are made, alone and beside about
a hundred pages a second, of 20 payments, of 100, and by a status that no payment
has, which is a thousand rows looked at for an empty page.

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


def fill(database, rows):
    """A payment a millisecond until now, whose ids are in order."""

    million = 1000000
    begin = int(time.time() * 1000) - rows

    for first in range(1, rows + 1, million):
        last = min(first + million - 1, rows)
        sql(f"""INSERT INTO payment (id, merchant_id, currency, status, amount,
                                     created_at, updated_at)
                SELECT UNHEX(CONCAT(LPAD(HEX({begin} + seq), 12, '0'),
                                    '70008000', SUBSTR(MD5(seq), 21))),
                       CONCAT('MERCHANT-', seq % 1000 + 1), 'KRW', 'AUTHORIZED',
                       1000, UTC_TIMESTAMP(), UTC_TIMESTAMP()
                FROM seq_{first}_to_{last}""", database)


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
def pages(seconds, filters, runs):
    """A hundred pages a second, in the background."""

    thread = threading.Thread(target=lambda: runs.append(
        wrk(PAGE_CLIENTS, seconds, 'list', FILTERS=filters,
            DELAY=str(PAGE_REST_MS))))
    thread.start()
    yield
    thread.join()


def measure_pages(seconds):
    """Authorizations alone, and beside pages of each kind."""

    alone = pair.measure(ROOT, INDEXED, STEADY, seconds, **LISTS)
    found = {'alone': {'authorize': alone}}

    for name, filters in PAGES.items():
        runs = []
        authorize = pair.measure(
            ROOT, INDEXED, STEADY, seconds,
            beside=functools.partial(pages, seconds, filters, runs), **LISTS)
        [page] = runs

        if page['non2xx'] or page['errors']:
            raise SystemExit(f'bench: not all pages are good: {page}')

        found[name] = {'authorize': authorize, 'pages': page}

    return found


def tell_pages(rounds):
    print(f'{"beside pages of":18}{"pages/s":>9}{"p50 ms":>9}{"p99 ms":>9}'
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
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=int, default=5)
    parser.add_argument('--pages', type=int, default=3, help='rounds of pages')
    options = parser.parse_args()

    saturation.DIR = options.dir
    saturation.start_servers()

    for database in (PLAIN, INDEXED):
        pair.make_database(ROOT, database)
        fill(database, options.rows)

    built, mib = add_index(), index_mib()
    print(f'the index of {options.rows} payments took {built} s and {mib} MiB',
          flush=True)

    rounds = pair.take_turns(
        {'indexed': functools.partial(pair.measure, ROOT, INDEXED, **LISTS),
         'plain': functools.partial(pair.measure, ROOT, PLAIN)},
        options, pair.FULL)
    print(pair.table(rounds, ('indexed', 'plain')))

    listed = [measure_pages(options.seconds) for _ in range(options.pages)]
    tell_pages(listed)

    keep(f'lists-{commit_of(ROOT)}.json',
         {'rows': options.rows, 'index_seconds': built, 'index_mib': mib,
          'rounds': rounds,
          'pages': listed, 'seconds': options.seconds,
          'load': os.getloadavg()[0]})


if __name__ == '__main__':
    main()
