"""What the guards of docs/high-availability.md cost.

Called by guards.sh with the directory for its servers; each part has servers of
its own.

  claim   one MariaDB without a binary log, two databases: in one of them a
          server has claimed the payments, so that each transaction asks for
          that, and in the other one nobody has. In turns, as pair.py does it;
          what counts is the median of the ratios.

  voters  three MariaDBs as conf/mariadb/voter.cnf has them, and durability
          replica, on the machine that has everything else, too. Beside it, in
          each round, the bare client of saturation.py writes to the same
          primary, whose commits wait for the same replicas, and k6 pays 1000
          times a second.

Raw numbers go to bench/results/guards-PART-COMMIT.json.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess

import pair
import saturation
from freeport import free_port
from saturation import PASSWORD, ROOT, USER, commit_of, keep, sql, tool

CLAIMED, UNCLAIMED = 'claimed', 'unclaimed'

# connections and rows of a batch of the bare client, as in saturation.py
BARE = {'batches': (4, 64), 'single': (16, 1)}

# payments a second, and what its times are called here
K6_RATE = 1000
K6_FIGURES = {'p50_ms': 'med', 'p95_ms': 'p(95)', 'p99_ms': 'p(99)'}

# the primary's commits wait, and so does whoever stops it
VOTERS = 2, 3


def claim(options):
    saturation.start_servers()

    for name in (CLAIMED, UNCLAIMED):
        pair.make_database(ROOT, name)

    sql("CALL payment_claim('bench')", CLAIMED)

    return pair.take_turns({name: functools.partial(pair.measure, ROOT, name)
                            for name in (CLAIMED, UNCLAIMED)},
                           options, pair.FULL)


def tell_claim(rounds):
    print(pair.table(rounds, (CLAIMED, UNCLAIMED)))


def voter_lines(number):
    with open(os.path.join(ROOT, 'conf', 'mariadb', 'voter.cnf')) as conf:
        lines = [line.split('#')[0].strip() for line in conf]

    return '\\n'.join([line for line in lines if line and line[0] != '[']
                      + [f'server_id = {number}'])


def start_voters():
    """The first one, which is the primary, is where all of bench/ has its
    server."""

    ports = {}

    for number in (1, *VOTERS):
        directory = saturation.DIR if number == 1 \
            else f'{saturation.DIR}/voter-{number}'
        ports[number] = free_port()
        tool('server.sh', 'mariadb', 'start', directory, str(ports[number]),
             MARIADB_BUFFER_POOL='1G', MARIADB_LOG_SIZE='1G',
             MARIADB_OPTIONS=voter_lines(number))

    tool('server.sh', 'kafka', 'start', saturation.DIR,
         str(saturation.KAFKA_PORT))

    for statement in ('SET GLOBAL read_only = 0',
                      "GRANT REPLICATION SLAVE ON *.* TO 'replica'@'127.0.0.1'"
                      " IDENTIFIED BY 'replica'"):
        sql(statement, 'mysql')

    for number in VOTERS:
        follow(f'{saturation.DIR}/voter-{number}', ports[1])

    tool('server.sh', 'mariadb', 'database', saturation.DIR, 'payment', USER,
         PASSWORD)
    tool('server.sh', 'mariadb', 'database', saturation.DIR, saturation.BARE,
         USER, PASSWORD)
    sql("CALL payment_claim('bench')", 'payment')
    sql('SET GLOBAL rpl_semi_sync_master_enabled = 1', 'mysql')

    saturation.wait_for('the voters', lambda: int(sql(
        "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'", 'mysql'
        )[0][1]) == len(VOTERS))


def follow(directory, port):
    primary, saturation.DIR = saturation.DIR, directory

    try:
        sql("CHANGE MASTER TO MASTER_HOST = '127.0.0.1',"
            f" MASTER_PORT = {port}, MASTER_USER = 'replica',"
            " MASTER_PASSWORD = 'replica', MASTER_USE_GTID = slave_pos",
            'mysql')
        sql('START SLAVE', 'mysql')
    finally:
        saturation.DIR = primary


def k6(seconds, lines):
    """The reference service's scenario, whatever the answers take. Every answer
    has to be 200, and to have its row."""

    summary = f'{saturation.DIR}/k6.json'
    saturation.start_nginx(1, ROOT, 'payment', shard=lines)

    try:
        before, = sql('SELECT COUNT(*) FROM payment', 'payment')[0]
        subprocess.run(
            [f'{ROOT}/build/bin/k6', 'run', '--quiet', '--no-usage-report',
             '--address', '', f'{ROOT}/bench/k6/authorize.js'],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={'GOGC': '800', **os.environ, 'SUMMARY': summary,
                 'DURATION': f'{seconds}s', 'RATE': str(K6_RATE),
                 'BASE_URL': f'http://127.0.0.1:{saturation.HTTP_PORT}'})
        after, = sql('SELECT COUNT(*) FROM payment', 'payment')[0]
    finally:
        tool('server.sh', 'nginx', 'stop', saturation.DIR)

    with open(summary) as file:
        metrics = json.load(file)['metrics']

    accepted = metrics['payment_accepted']['values']['count']
    requests = metrics['http_reqs']['values']['count']

    if not accepted == requests == int(after) - int(before):
        raise SystemExit(f'bench: {requests} requests, {accepted} answered with'
                         f' 200, {int(after) - int(before)} rows')

    times = metrics['http_req_duration']['values']

    return {'rps': accepted / seconds, 'payments': accepted,
            **{name: times[of] for name, of in K6_FIGURES.items()}}


def voters(options):
    start_voters()
    lines = 'durability replica; ' + ' '.join(
        f'server unix:{saturation.DIR}/voter-{number}/mariadb.sock;'
        for number in VOTERS)
    rounds = []

    for number in range(options.rounds):
        one = {name: saturation.bare(*size, options.seconds / 2)
               for name, size in BARE.items()}

        for load in (*pair.FULL, pair.STEADY[0]):
            one[load.name] = pair.measure(ROOT, 'payment', load,
                                          options.seconds, shard=lines)

        one['k6 1000/s'] = k6(2 * options.seconds, lines)
        rounds.append(one)
        ratio = one[pair.WARM.name]['rps'] / one['batches']['rate']
        print(f'round {number + 1} of {options.rounds}: {ratio:.3f} of batches',
              flush=True)

    return rounds


def tell_voters(rounds):
    def median(name, figure):
        return statistics.median(one[name][figure] for one in rounds)

    for name in rounds[0]:
        rate = 'rate' if name in BARE else 'rps'
        line = f'{name:12}{median(name, rate):10.0f}/s' \
               f' p50 {median(name, "p50_ms"):7.2f} ms' \
               f' p99 {median(name, "p99_ms"):7.2f} ms'

        for bare in BARE if name not in BARE else ():
            ratio = statistics.median(one[name]['rps'] / one[bare]['rate']
                                      for one in rounds)
            line += f'  {ratio:.3f} of {bare}'

        print(line)


PARTS = {'claim': (claim, tell_claim), 'voters': (voters, tell_voters)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('part', choices=list(PARTS))
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--seconds', type=int, default=8)
    options = parser.parse_args()

    saturation.DIR = options.dir
    measure, tell = PARTS[options.part]
    commit = commit_of(ROOT)
    rounds = measure(options)
    tell(rounds)
    keep(f'guards-{options.part}-{commit}.json',
         {'commit': commit, 'rounds': rounds, 'seconds': options.seconds})


if __name__ == '__main__':
    main()
