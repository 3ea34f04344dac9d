"""What the sweep of expired authorizations does to those that are made, and how
long it takes.

Called by expiry.sh with the directory for its servers. A table of expired
authorizations is made at once; about 1000 payments a second go on. In every
round nginx runs once with an empty queue and once with that table as its queue,
in turns; what counts is the median of the ratios of the two runs of one round.
Then the sweep goes on beside the same load until nothing is left, or for as
long as it may.

Raw numbers go to bench/results/expiry-COMMIT.json.
"""

import argparse
import statistics
import time

import pair
import saturation
from saturation import (ROOT, commit_of, keep, sql, start_nginx, status, tool,
                        wrk)

DATABASE = 'payment_expiring'
LIFETIME = 'payment_authorization_lifetime 1h;'
LOAD = pair.STEADY[0]
STEP = 10                           # seconds of the load, while all is swept
MILLION = 1000000


def fill(rows):
    """Authorizations that should have expired long ago, in overdue: the queue
    that is put in the place of the one that is used."""

    sql('CREATE TABLE overdue LIKE payment_expiry', DATABASE)

    for first in range(1, rows + 1, MILLION):
        last = min(first + MILLION - 1, rows)
        id = "UNHEX(CONCAT(LPAD(HEX(1700000000000 + seq), 12, '0')," \
             " '70008000', SUBSTR(MD5(seq), 21)))"
        end = "'2020-01-01' + INTERVAL seq * 1000 MICROSECOND"

        sql(f"""INSERT INTO payment (id, merchant_id, currency, status, amount,
                                     created_at, updated_at, expires_at)
                SELECT {id}, CONCAT('MERCHANT-', seq % 1000 + 1), 'KRW',
                       'AUTHORIZED', 1000, '2019-01-01', '2019-01-01', {end}
                FROM seq_{first}_to_{last}""", DATABASE)
        sql(f"""INSERT INTO overdue (expires_at, payment_id)
                SELECT {end}, {id} FROM seq_{first}_to_{last}""", DATABASE)

    print(f'{rows} expired authorizations are there', flush=True)


class Node:
    """nginx, with what has expired in its queue or without."""

    def __init__(self, sweeping):
        self.sweeping = sweeping

    @staticmethod
    def swap(one, other):
        sql(f'RENAME TABLE payment_expiry TO {one}, {other} TO payment_expiry',
            DATABASE)

    def __enter__(self):
        if self.sweeping:
            self.swap('young', 'overdue')

        start_nginx(1, ROOT, DATABASE, api=LIFETIME)
        wrk(LOAD.clients, pair.WARM_UP, DELAY=str(LOAD.rest_ms))

    def __exit__(self, *failure):
        tool('server.sh', 'nginx', 'stop', saturation.DIR)

        if self.sweeping:
            self.swap('overdue', 'young')


def load(seconds):
    """wrk's figures, and how many authorizations expired in a second of it."""

    before, began = expired(), time.monotonic()
    run = wrk(LOAD.clients, seconds, DELAY=str(LOAD.rest_ms))
    run['expired'] = round((expired() - before) / (time.monotonic() - began))

    if run['non2xx'] or run['errors']:
        raise SystemExit(f'bench: not all answers are good: {run}')

    return run


def expired():
    return sum(shard['expired'] for shard in status()['outbox']['shards'])


def turns(options):
    rounds = []

    for number in range(options.rounds):
        one = {}

        for sweeping in (True, False) if number % 2 else (False, True):
            with Node(sweeping):
                one['swept' if sweeping else 'still'] = load(options.seconds)

        if not one['swept']['expired'] or one['still']['expired']:
            raise SystemExit(f'bench: the wrong run was swept: {one}')

        rounds.append(one)
        print(f'round {number + 1} of {options.rounds}:'
              f" {one['swept']['expired']} expired a second, p99"
              f" {one['swept']['p99_ms']} and {one['still']['p99_ms']} ms",
              flush=True)

    return rounds


def sweep_all(limit):
    """Beside the load: how long it takes, and what of it was done in time."""

    def count(table):
        return sql(f"""SELECT COUNT(*) FROM {table}
                       WHERE expires_at < '2021-01-01'""", DATABASE)[0][0]

    left = rows = count('overdue')
    runs = []

    with Node(True):
        began = time.monotonic()

        while left and time.monotonic() < began + limit:
            runs.append(load(STEP))
            left = count('payment_expiry')

        took = time.monotonic() - began

    return {'rows': rows, 'left': left, 'seconds': round(took, 1),
            'a_second': round((rows - left) / took), 'runs': runs}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('--rows', type=int, default=MILLION)
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--seconds', type=int, default=10)
    parser.add_argument('--limit', type=int, default=3600)
    options = parser.parse_args()

    saturation.DIR = options.dir
    saturation.start_servers()
    pair.make_database(ROOT, DATABASE)
    fill(options.rows)

    with Node(False):                                   # not counted
        load(options.seconds)

    rounds = turns(options)
    ratios = {name: round(statistics.median(
        one['swept'][name] / one['still'][name] for one in rounds), 3)
        for name in ('rps', 'p50_ms', 'p95_ms', 'p99_ms')}
    whole = sweep_all(options.limit)

    print(f'ratios, median of pairs: {ratios}')
    print({name: value for name, value in whole.items() if name != 'runs'})
    keep(f'expiry-{commit_of(ROOT)}.json',
         {'rounds': rounds, 'ratios': ratios, 'whole': whole,
          'seconds': options.seconds})


if __name__ == '__main__':
    main()
