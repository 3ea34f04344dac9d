"""Full tables beside empty ones: payments and keys that are there already.

Called by tables.sh with the directory for its servers. One server has two
databases, one of them with --rows payments and as many keys, and the buffer
pool that docs/operations.md asks for so many. One build pays into them in
turns, in the rounds of pair.py; what counts is the median of the ratios, full
to empty.

Raw numbers go to bench/results/tables-COMMIT-MILLIONS.json.
"""

import argparse
import functools

import pair
import saturation
from saturation import ROOT, commit_of, keep, sql

# docs/operations.md: bytes of a key in the pool, and what is to be left free
KEY_BYTES, ROOM = 90, 1.2
POOL_MIN = 1 << 30

FIGURES = (*pair.FIGURES[:6], ('reads', 'pages read'),
           ('writes', 'written'))


def pages():
    found = dict(sql("SHOW GLOBAL STATUS WHERE Variable_name IN"
                     " ('Innodb_pages_read', 'Innodb_pages_written')", 'mysql'))
    return int(found['Innodb_pages_read']), int(found['Innodb_pages_written'])


def paid(database, load, seconds):
    read, written = pages()
    run = pair.measure(ROOT, database, load, seconds)
    run['reads'], run['writes'] = (
        round((after - before) / run['committed'], 3)
        for before, after in zip((read, written), pages()))

    return run


def size(database):
    """Bytes of both tables and their indexes, as the server believes."""

    return int(sql(f"""SELECT SUM(data_length + index_length)
                       FROM information_schema.tables
                       WHERE table_schema = '{database}' AND table_name IN
                       ('payment', 'idempotency_key')""", 'mysql')[0][0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('--rows', type=int, default=50000000)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=int, default=8)
    options = parser.parse_args()

    pool = max(int(options.rows * KEY_BYTES * ROOM), POOL_MIN)
    saturation.DIR = options.dir
    saturation.start_servers(str(pool))
    databases = {'full': 'payment_full', 'empty': 'payment_empty'}

    for database in databases.values():
        pair.make_database(ROOT, database)

    saturation.preload(options.rows, databases['full'])

    rounds = pair.take_turns({name: functools.partial(paid, database)
                              for name, database in databases.items()},
                             options, pair.FULL)

    bytes_there = size(databases['full'])
    print(pair.table(rounds, tuple(databases), FIGURES))
    print(f'{options.rows} payments and keys of {bytes_there >> 20} MiB,'
          f' a pool of {pool >> 20} MiB')
    keep(f'tables-{commit_of(ROOT)}-{options.rows // 1000000}.json',
         {'rounds': rounds, 'rows': options.rows, 'pool': pool,
          'bytes': bytes_there, 'seconds': options.seconds})


if __name__ == '__main__':
    main()
