"""The circuit breaker's rules, written down as plainly as they are spoken.

This is the reference that the C code is compared with: no windows updated in
place, no sums carried along, no generations.  Every call and every metrics
object is kept, and each number is counted anew when it is asked for.

As a program it plays a trace from stdin and prints what breaker_driver
prints; the format of a trace is described there.
"""

import struct
import sys

CLOSED, OPEN, HALF_OPEN, DISABLED, FORCED_OPEN, METRICS_ONLY = range(6)
NAMES = ("CLOSED", "OPEN", "HALF_OPEN", "DISABLED", "FORCED_OPEN",
         "METRICS_ONLY")

NEVER = 2 ** 64 - 1
MS = 10 ** 6
SECOND = 10 ** 9
YEAR = 365 * 86400 * SECOND

BOUNDS = [int(ms * MS) for ms in (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000,
                                  2500, 5000, 10000)]

# Everything else is allowed, from a state to itself included.
ILLEGAL = {(CLOSED, HALF_OPEN), (METRICS_ONLY, OPEN),
           (METRICS_ONLY, HALF_OPEN)}


def f32(x):
    """Rounds to a single-precision number, which rates are computed in."""
    return struct.unpack("f", struct.pack("f", x))[0]


class Config:
    FIELDS = ("failure_rate", "slow_rate", "slow_ns", "window", "size",
              "minimum", "permitted", "wait_ns", "max_wait_ns", "after",
              "automatic", "growth", "now")

    def __init__(self, line):
        words = line.split()[1:]
        assert len(words) == len(self.FIELDS), line
        for name, word in zip(self.FIELDS, words):
            if name in ("failure_rate", "slow_rate"):
                value = f32(float(word))
            elif name == "window":
                value = word
            else:
                value = int(word)
            setattr(self, name, value)

    def open_wait(self, attempts):
        if self.growth == 0:
            return self.wait_ns
        wait = self.wait_ns // 1000 * self.growth ** min(attempts - 1, 100)
        return min(max(wait, MS), YEAR)


class Metrics:
    """The calls recorded in one state: (time, failed, slow), oldest first."""

    def __init__(self, window, size, minimum):
        self.window = window
        self.size = size
        self.minimum = min(minimum, size) if window == "count" else minimum
        self.recorded = []
        self.not_permitted = 0

    def record(self, now, failed, slow):
        self.recorded.append((now, failed, slow))

    def buffered(self, now):
        if self.window == "count":
            return self.recorded[-self.size:] if self.size else []
        oldest = now // SECOND - self.size
        return [call for call in self.recorded if call[0] // SECOND > oldest]

    def counts(self, now):
        calls = self.buffered(now)
        return (len(calls),
                sum(1 for _, failed, _ in calls if failed),
                sum(1 for _, _, slow in calls if slow),
                sum(1 for _, failed, slow in calls if failed and slow))

    def rates(self, now):
        total, failed, slow, _ = self.counts(now)
        if total == 0 or total < self.minimum:
            return -1.0, -1.0
        return (f32(f32(failed * 100) / total), f32(f32(slow * 100) / total))


class Call:
    """A permitted call remembers which metrics and which probes it is of."""

    def __init__(self, breaker):
        self.metrics = breaker.metrics
        self.probes = breaker.probes


class Probes:
    """The permits of one HALF_OPEN."""

    def __init__(self, permits):
        self.permits = permits
        self.out = 0


class Breaker:
    def __init__(self, config):
        self.config = config
        self.now = config.now
        self.attempts = 0
        self.metrics = None
        self.timed = {"success": [], "failure": [], "ignored": []}
        self.not_permitted_total = 0
        self.events = []
        self.state = None
        self.enter(CLOSED)

    # states

    def enter(self, state):
        config = self.config
        if state in (CLOSED, DISABLED, METRICS_ONLY):
            self.attempts = 0
        elif state in (OPEN, FORCED_OPEN):
            self.attempts += 1

        self.probes = None
        self.until = NEVER
        if state in (CLOSED, METRICS_ONLY):
            self.metrics = Metrics(config.window, config.size, config.minimum)
        elif state == HALF_OPEN:
            self.metrics = Metrics("count", config.permitted, config.minimum)
            self.probes = Probes(config.permitted)
            if config.max_wait_ns > 0:
                self.until = self.now + config.max_wait_ns
        elif state in (DISABLED, FORCED_OPEN):
            self.metrics = Metrics("count", 0, config.minimum)
        else:
            # OPEN keeps the metrics that it finds.
            self.until = self.now + config.open_wait(self.attempts)

        self.said = set()
        self.since = self.now
        self.state = state

    def transition(self, state):
        before = self.state
        self.enter(state)
        if before != state:
            self.publish("STATE_TRANSITION", NAMES[before], NAMES[state])

    def at(self, now):
        """Time passes up to now, never back; what was due happens."""
        self.now = max(self.now, now)
        if self.now >= self.until:
            if self.state == HALF_OPEN:
                self.transition(self.config.after)
            elif self.state == OPEN and self.config.automatic:
                self.transition(HALF_OPEN)

    # events

    def publish(self, name, *details):
        muted = self.state in (DISABLED, FORCED_OPEN)
        if muted and name not in ("STATE_TRANSITION", "RESET"):
            return False
        words = [name + "@%d" % self.now]
        words += ["%.9g" % d if isinstance(d, float) else str(d)
                  for d in details]
        self.events.append(":".join(words))
        return True

    # what a caller does

    def acquire(self, now):
        self.at(now)
        if self.state == OPEN and self.now > self.until:
            self.transition(HALF_OPEN)

        if self.state == HALF_OPEN:
            permitted = self.probes.permits > 0
        else:
            permitted = self.state in (CLOSED, DISABLED, METRICS_ONLY)

        if not permitted:
            self.metrics.not_permitted += 1
            if self.publish("NOT_PERMITTED"):
                self.not_permitted_total += 1
            return None

        if self.probes:
            self.probes.permits -= 1
            self.probes.out += 1
        return Call(self)

    def release(self, call):
        if call.probes and call.probes is self.probes:
            call.probes.out -= 1
            call.probes.permits += 1

    def result(self, now, call, outcome, duration):
        self.at(now)
        name = {"success": "SUCCESS", "failure": "ERROR",
                "ignored": "IGNORED_ERROR"}[outcome]

        if outcome == "ignored":
            self.release(call)
        if self.publish(name, duration):
            self.timed[outcome].append((self.now, duration))
        if outcome == "ignored" or call.metrics is not self.metrics:
            return

        if call.probes and call.probes is self.probes:
            call.probes.out -= 1
        self.metrics.record(self.now, outcome == "failure",
                            duration > self.config.slow_ns)
        self.evaluate()

    def evaluate(self):
        failure_rate, slow_rate = self.metrics.rates(self.now)
        if failure_rate == -1:
            return

        exceeded = []
        if failure_rate >= self.config.failure_rate:
            exceeded.append(("FAILURE_RATE_EXCEEDED", failure_rate))
        if slow_rate >= self.config.slow_rate:
            exceeded.append(("SLOW_CALL_RATE_EXCEEDED", slow_rate))

        if self.state == CLOSED and exceeded:
            for name, rate in exceeded:
                self.publish(name, rate)
            self.transition(OPEN)
        elif self.state == HALF_OPEN:
            self.transition(OPEN if exceeded else CLOSED)
        elif self.state == METRICS_ONLY:
            for name, rate in exceeded:
                if name not in self.said:
                    self.said.add(name)
                    self.publish(name, rate)

    def tick(self, now):
        self.at(now)
        if self.state == OPEN and not self.config.automatic:
            return NEVER
        return self.until

    def force(self, now, state):
        self.at(now)
        if state > METRICS_ONLY or (self.state, state) in ILLEGAL:
            return -1
        self.transition(state)
        return 0

    def reset(self, now):
        self.at(now)
        self.transition(CLOSED)
        self.publish("RESET")

    # what is seen

    def look(self, now, histogram):
        self.now = max(self.now, now)
        total, failed, slow, slow_failed = self.metrics.counts(self.now)
        failure_rate, slow_rate = self.metrics.rates(self.now)
        text = ("%s attempts=%d since=%d until=%d rates=%.9g,%.9g "
                "calls=%d,%d,%d,%d,%d,%d denied=%d,%d probes=%d,%d" % (
                    NAMES[self.state], self.attempts, self.since, self.until,
                    failure_rate, slow_rate, total, total - failed, failed,
                    slow, slow - slow_failed, slow_failed,
                    self.metrics.not_permitted, self.not_permitted_total,
                    self.probes.permits if self.probes else 0,
                    self.probes.out if self.probes else 0))

        period = self.now // (20 * SECOND)
        for kind in ("success", "failure", "ignored"):
            calls = self.timed[kind]
            recent = [duration for when, duration in calls
                      if when // (20 * SECOND) > period - 3]
            text += " %d/%d/%d" % (len(calls), sum(d for _, d in calls),
                                   max(recent, default=0))
            if histogram:
                buckets = [0] * (len(BOUNDS) + 1)
                for _, duration in calls:
                    buckets[sum(1 for b in BOUNDS if duration > b)] += 1
                text += "".join(",%d" % n for n in buckets)

        if self.events:
            text += " " + " ".join(self.events)
            self.events.clear()
        return text


class Player:
    """One trace, line by line; each line gives one line of output."""

    def __init__(self):
        self.breaker = None
        self.calls = {}
        self.now = 0

    def play(self, line):
        word, *args = line.split()
        answer = word
        histogram = False

        if word == "config":
            config = Config(line)
            self.breaker = Breaker(config)
            self.calls = {}
            self.now = config.now
            return "config " + self.breaker.look(self.now, True)

        if word == "release":
            call = self.calls.pop(args[0], None)
            if call:
                self.breaker.release(call)
            return "release " + self.breaker.look(self.now, False)

        self.now = int(args[0])
        if word == "acquire":
            call = self.breaker.acquire(self.now)
            if call:
                self.calls[args[1]] = call
            answer = "acquire=%d" % (call is not None)
        elif word == "result":
            call = self.calls.pop(args[1], None)
            if call:
                self.breaker.result(self.now, call, args[2], int(args[3]))
        elif word == "tick":
            answer = "tick=%d" % self.breaker.tick(self.now)
        elif word == "force":
            answer = "force=%d" % self.breaker.force(self.now, int(args[1]))
        elif word == "reset":
            self.breaker.reset(self.now)
        else:
            assert word == "look", line
            histogram = True

        return answer + " " + self.breaker.look(self.now, histogram)


if __name__ == "__main__":
    player = Player()
    for text in sys.stdin:
        if text.strip() and not text.startswith("#"):
            print(player.play(text))
