"""What a directive costs: one build with it and without it, in turns.

Called by directive.sh with the directory for its servers and the directive, as
it stands in http{}. The rounds are those of pair.py, at saturation; what counts
is the median of the ratios of the two runs of one round.

Raw numbers go to bench/results/directive-NAME-COMMIT.json.
"""

import argparse
import functools

import pair
import saturation
from saturation import ROOT, commit_of, keep

BARE = 'access_log off;'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('dir')
    parser.add_argument('directive')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=int, default=5)
    options = parser.parse_args()

    saturation.DIR = options.dir
    saturation.start_servers()

    names = ('with', 'without')
    runs = {}

    for name, http in zip(names, (f'{BARE} {options.directive}', BARE)):
        pair.make_database(ROOT, f'payment_{name}')
        runs[name] = functools.partial(pair.measure, ROOT, f'payment_{name}',
                                       http=http)

    rounds = pair.take_turns(runs, options, pair.FULL)

    print(pair.table(rounds, names))
    keep(f'directive-{options.directive.split()[0]}-{commit_of(ROOT)}.json',
         {'directive': options.directive, 'rounds': rounds,
          'seconds': options.seconds})


if __name__ == '__main__':
    main()
