"""k6's authorizations by two builds in turns: are answers as fast as before?

Called by pair.sh with the other checkout, which is built already. Both builds
have MariaDB, Kafka and an nginx with one worker of their own all the time, on
free ports; only one of them is asked at once, and which one is first alternates.
A run that does not agree with its rows and events ends everything.

What counts is the ratio of the two runs of one pair, and of those the median:
the machine's speed, and its disk's, change from minute to minute. The numbers
go to bench/results/k6-pair-COMMIT-COMMIT.json.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.dirname(HERE), os.path.join(ROOT, 't', 'lib')]

from freeport import free_port                                  # noqa: E402
from saturation import commit_of, keep                          # noqa: E402

FIGURES = ('avg', 'med', 'p(95)', 'p(99)')
WARM_UP = 10                        # seconds: Kafka's and k6's first are slow


class Build:
    """A checkout with the servers of its `make run`."""

    def __init__(self, root):
        self.root = root
        self.commit = commit_of(root)
        self.ports = {'PAYMENT_HTTP_PORT': free_port(1),
                      'PAYMENT_DB_PORT': free_port(1),
                      'PAYMENT_KAFKA_PORT': free_port(2)}

    def _call(self, *command):
        return subprocess.run(
            command, cwd=self.root, check=True, text=True,
            stdout=subprocess.PIPE,
            env={**os.environ, 'PAYMENT_WORKERS': '1',
                 **{name: str(port) for name, port in self.ports.items()}},
        ).stdout

    @contextlib.contextmanager
    def running(self):
        try:
            self._call('tools/run.sh', 'start')
            yield
        finally:
            self._call('tools/run.sh', 'stop')

    def run(self, seconds, rate):
        """What k6 saw. Its last line names the file that has it all."""

        output = self._call('bench/k6/run.sh', 'authorize', f'{seconds}s',
                            str(rate))
        path = os.path.join(self.root, output.split()[-1])

        with open(path, encoding='utf-8') as file:
            result = json.load(file)

        os.unlink(path)             # the pairs' file has what they are for

        if not result['agree'] or result['k6_status']:
            sys.exit(f'{self.commit}: answers, rows and events do not agree,'
                     f' or requests failed:\n{output}')

        times = result['k6']['http_req_duration']['values']
        return {'accepted': result['accepted'],
                **{name: round(times[name], 3) for name in (*FIGURES, 'max')}}


def ratios(pairs, figure):
    return [pair['new'][figure] / pair['base'][figure] for pair in pairs]


def table(pairs):
    lines = [f'{"ms":16}' + ''.join(f'{name:>10}' for name in FIGURES)]

    for name in ('new', 'base'):
        lines.append(f'{name:16}' + ''.join(
            f'{statistics.median(pair[name][figure] for pair in pairs):10.2f}'
            for figure in FIGURES))

    for head, of in (('ratio, median', statistics.median), ('least', min),
                     ('most', max)):
        lines.append(f'{head:16}' + ''.join(
            f'{of(ratios(pairs, figure)):10.2f}' for figure in FIGURES))

    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('base')
    parser.add_argument('--pairs', type=int, default=7)
    parser.add_argument('--seconds', type=int, default=15)
    parser.add_argument('--rate', type=int, default=1000)
    options = parser.parse_args()

    builds = {'new': Build(ROOT), 'base': Build(options.base)}
    commits = {name: build.commit for name, build in builds.items()}

    if commits['new'] == commits['base']:
        sys.exit('bench: both builds are of the same commit')

    pairs = []

    with contextlib.ExitStack() as servers:
        for build in builds.values():
            servers.enter_context(build.running())

        for build in builds.values():
            build.run(WARM_UP, options.rate)

        for number in range(options.pairs):
            order = list(builds) if number % 2 else list(reversed(builds))
            pair = {name: builds[name].run(options.seconds, options.rate)
                    for name in order}
            pairs.append({'first': order[0], **pair})
            print(f'pair {number + 1} of {options.pairs}: p50'
                  f' {ratios(pairs, "med")[-1]:.2f}, p99'
                  f' {ratios(pairs, "p(99)")[-1]:.2f}', flush=True)

    print(table(pairs))
    keep(f'k6-pair-{commits["base"]}-{commits["new"]}.json',
         {**commits, 'rate': options.rate, 'seconds': options.seconds,
          'pairs': pairs})


if __name__ == '__main__':
    main()
