"""What a long measurement is doing, how far it is, and how long it will take.

    progress = Progress([('64 clients', 10), ('256 clients', 10)])
    progress.next()         3 of 12, 2 min left: 64 clients

Seconds are what a step is expected to take; what the steps before really took
corrects them.
"""

import time


class Progress:

    def __init__(self, steps):
        self.steps = steps
        self.done = 0
        self.began = time.monotonic()

    def next(self):
        """Says which step begins now."""

        expected = [seconds for _, seconds in self.steps]
        behind, ahead = sum(expected[:self.done]), sum(expected[self.done:])

        if behind:
            ahead *= (time.monotonic() - self.began) / behind

        left = (f'{ahead / 60:.0f} min' if ahead >= 90 else f'{ahead:.0f} s')
        name = self.steps[self.done][0]
        self.done += 1

        print(f'{self.done} of {len(self.steps)}, {left} left: {name}',
              flush=True)
