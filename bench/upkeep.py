"""What the helper's upkeep does to payments that are made meanwhile.

Called by upkeep.sh with the directory for its servers. About 1000 payments a
second go on, and in every round nginx runs once with something to keep up, and
once without, in turns:

    purge       idempotency keys whose retention is over
    archive     days of published events that are not to be kept any longer, and
                no partition for the days to come

What counts is the median of the ratios of the two runs of one round.

Raw numbers go to bench/results/upkeep-COMMIT.json, or -COMMIT-JOB.json.
"""

import argparse
import datetime
import time

import pair
import saturation
from saturation import (ROOT, commit_of, keep, sql, start_nginx, status, tool,
                        wrk)

DATABASE = 'payment_upkeep'
FIGURES = (('rps', 'payments/s'), ('p50_ms', 'p50'), ('p95_ms', 'p95'),
           ('p99_ms', 'p99'), ('done', 'done'))
MILLION = 1000000
DAYS = 100                          # of the archive, for each run
FIRST_DAY = datetime.date(2020, 1, 1)
ONE_DAY = datetime.timedelta(days=1)
LONG_AGO, NOW = 1600000000000, int(time.time() * 1000)


class Purge:
    """Of keys; done: keys. They are as many as a walk of 450 s, the eighth of an
    hour, goes over as fast as that of 24 h does at 1000 payments a second; and
    as there, every eighth is old."""

    http = 'payment_idempotency_retention 1h;'

    def __init__(self, rows):
        self.rows = rows
        sql('CREATE TABLE old LIKE idempotency_key', DATABASE)

        for first in range(1, rows + 1, MILLION):
            last = min(first + MILLION - 1, rows)
            self.add(f'seq_{first}_to_{last}')

    @staticmethod
    def add(sequence, beginning='f'):
        """Keys up to this beginning; all ids begin with their milliseconds."""

        sql(f"""INSERT IGNORE INTO old (key_hash, payment_id, fingerprint,
                                        operation)
                SELECT UNHEX(MD5(CONCAT('old', seq))),
                       UNHEX(CONCAT(LPAD(HEX(IF(seq % 8, {NOW}, {LONG_AGO})),
                                         12, '0'), '70008000')),
                       UNHEX(SUBSTR(MD5(seq), 1, 16)), 'authorize'
                FROM {sequence}
                WHERE MD5(CONCAT('old', seq)) < '{beginning}g'""", DATABASE)

    def begin(self):
        """All walks begin at the first key, and have old ones there."""

        self.add(f'seq_8_to_{self.rows}_step_8', '2')
        sql('RENAME TABLE idempotency_key TO young, old TO idempotency_key',
            DATABASE)

    @staticmethod
    def end():
        sql('RENAME TABLE idempotency_key TO old, young TO idempotency_key',
            DATABASE)

    @staticmethod
    def done():
        return sum(shard['purged'] for shard in status()['outbox']['shards'])


class Archive:
    """Of published events; done: partitions that were dropped. Those to come
    are made in the first step, together with the first drop."""

    http = 'payment_outbox_archive on;'

    def __init__(self, rows):
        self.rows = rows // 10              # so many are made for each run

    @staticmethod
    def clear(days=()):
        """An empty archive, with partitions for these days."""

        later = 'PARTITION p_later VALUES LESS THAN (MAXVALUE)'
        named = [f"PARTITION {day:p%Y%m%d} VALUES LESS THAN"
                 f" ('{day + ONE_DAY}')" for day in days]

        sql('TRUNCATE TABLE outbox_archive', DATABASE)
        sql('ALTER TABLE outbox_archive REMOVE PARTITIONING', DATABASE)
        sql('ALTER TABLE outbox_archive PARTITION BY RANGE COLUMNS'
            f' (archived_at) ({", ".join((*named, later))})', DATABASE)

    def begin(self):
        self.clear([FIRST_DAY + number * ONE_DAY for number in range(DAYS)])
        sql(f"""INSERT INTO outbox_archive (id, aggregatetype, aggregateid,
                                            type, merchant_id, version,
                                            created_at, payload, archived_at)
                SELECT seq, 'payment', UUID(), 'payment.authorized',
                       'MERCHANT-1', 1, '{FIRST_DAY}', REPEAT('x', 300),
                       '{FIRST_DAY}' + INTERVAL seq % {DAYS} DAY
                FROM seq_1_to_{self.rows}""", DATABASE)

    def end(self):
        """Nothing is to be kept up in the next run."""

        self.clear()
        sql('CALL outbox_archive_upkeep()', DATABASE)

    @staticmethod
    def done():
        """Not to be asked beside the upkeep, which would wait for the answer."""

        old = sql(f"""SELECT COUNT(*) FROM information_schema.partitions
                      WHERE table_schema = '{DATABASE}'
                      AND partition_name BETWEEN 'p2020' AND 'p2022'""",
                  DATABASE)
        return DAYS - int(old[0][0])


JOBS = {'purge': Purge, 'archive': Archive}


def measure(job, busy, load, seconds):
    if busy:
        job.begin()

    start_nginx(1, ROOT, DATABASE, http=f'access_log off; {job.http}')

    try:
        rest = {'DELAY': str(load.rest_ms)} if load.rest_ms else {}
        wrk(load.clients, pair.WARM_UP, **rest)

        run = wrk(load.clients, seconds, **rest)
        run['done'] = job.done() if busy else 0

        if run['non2xx'] or run['errors']:
            raise SystemExit(f'bench: not all answers are good: {run}')

        if busy and not run['done']:
            raise SystemExit(f'bench: nothing was kept up: {run}')
    finally:
        tool('server.sh', 'nginx', 'stop', saturation.DIR)

        if busy:
            job.end()

    return run


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('--only', choices=JOBS)
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--seconds', type=int, default=10)
    parser.add_argument('--rows', type=int, default=3600000)
    options = parser.parse_args()

    saturation.DIR = options.dir
    saturation.start_servers()
    pair.make_database(ROOT, DATABASE)
    kept = {'seconds': options.seconds, 'rows': options.rows}

    for name in [options.only] if options.only else JOBS:
        job = JOBS[name](options.rows)
        kept[name] = pair.take_turns(
            {'kept up': lambda *of, job=job: measure(job, True, *of),
             'still': lambda *of, job=job: measure(job, False, *of)},
            options, pair.STEADY[:1])
        print(f'{name}:\n'
              + pair.table(kept[name], ('kept up', 'still'), FIGURES))

    keep('-'.join(['upkeep', commit_of(ROOT),
                   *([options.only] if options.only else [])]) + '.json', kept)


if __name__ == '__main__':
    main()
