"""What the helper's upkeep does to payments that are made meanwhile.

Called by upkeep.sh with the directory for its servers. About 1000 payments a
second go on, and in every round nginx runs once with something to keep up, and
once without, in turns:

    purge       idempotency keys whose retention is over, so many that the walk
                is behind its plan, and as fast as it ever is
    archive     days of published events that are not to be kept any longer, and
                no partition for the days to come

What counts is the median of the ratios of the two runs of one round. A run with
upkeep counts only if that began and was not over before its end.

Raw numbers go to bench/results/upkeep-COMMIT.json, or -COMMIT-JOB.json.
"""

import argparse
import datetime

import pair
import saturation
from saturation import (ROOT, commit_of, keep, sql, start_nginx, status, tool,
                        wrk)

DATABASE = 'payment_upkeep'
FIGURES = (('rps', 'payments/s'), ('p50_ms', 'p50'), ('p95_ms', 'p95'),
           ('p99_ms', 'p99'), ('done', 'done'))
MILLION = 1000000
DAYS = 400                          # of the archive, for each run
FIRST_DAY = datetime.date(2020, 1, 1)
ONE_DAY = datetime.timedelta(days=1)


class Purge:
    """Of keys; done: keys. The shortest of the walks: eight in a minute."""

    http = 'payment_idempotency_retention 1m;'

    def __init__(self, rows):
        sql('CREATE TABLE old LIKE idempotency_key', DATABASE)

        for first in range(1, rows + 1, MILLION):
            last = min(first + MILLION - 1, rows)
            sql(f"""INSERT INTO old (key_hash, payment_id, fingerprint,
                                     operation)
                    SELECT UNHEX(MD5(CONCAT('old', seq))),
                           UNHEX(CONCAT(LPAD(HEX(1600000000000 + seq), 12,
                                             '0'), '70008000')),
                           UNHEX(SUBSTR(MD5(seq), 1, 16)), 'authorize'
                    FROM seq_{first}_to_{last}""", DATABASE)

    @staticmethod
    def begin():
        sql('RENAME TABLE idempotency_key TO young, old TO idempotency_key',
            DATABASE)

    @staticmethod
    def end():
        sql('RENAME TABLE idempotency_key TO old, young TO idempotency_key',
            DATABASE)

    @staticmethod
    def done():
        return sum(shard['purged'] for shard in status()['outbox']['shards'])

    @staticmethod
    def left():
        return int(sql("""SELECT COUNT(*) FROM (
                              SELECT 1 FROM idempotency_key
                              WHERE HEX(payment_id) < '0180' LIMIT 1) t""",
                       DATABASE)[0][0])


class Archive:
    """Of published events; done: partitions that were dropped. Those to come
    are made in the first step, before any is dropped."""

    http = 'payment_outbox_archive on;'

    def __init__(self, rows):
        self.rows = rows

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

    def done(self):
        return DAYS - self.left()

    @staticmethod
    def left():
        return int(sql(f"""SELECT COUNT(*) FROM information_schema.partitions
                           WHERE table_schema = '{DATABASE}'
                           AND partition_name BETWEEN 'p2020' AND 'p2022'""",
                       DATABASE)[0][0])


JOBS = {'purge': Purge, 'archive': Archive}


def measure(job, busy, load, seconds):
    if busy:
        job.begin()

    start_nginx(1, ROOT, DATABASE, http=f'access_log off; {job.http}')

    try:
        rest = {'DELAY': str(load.rest_ms)} if load.rest_ms else {}
        wrk(load.clients, pair.WARM_UP, **rest)

        before = job.done()
        run = wrk(load.clients, seconds, **rest)
        run['done'] = job.done() - before

        if run['non2xx'] or run['errors']:
            raise SystemExit(f'bench: not all answers are good: {run}')

        if busy and not (run['done'] and job.left()):
            raise SystemExit(f'bench: the upkeep was over too soon: {run}')
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
    parser.add_argument('--rows', type=int, default=2 * MILLION)
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
