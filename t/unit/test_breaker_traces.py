"""The circuit breaker in C and its model in Python see the same traces and
must show the same after every step.

    BREAKER_TRACES=5000  how many
    BREAKER_SEED=1       which; without it a new one each time, printed

A trace that tells them apart is cut down to the steps that matter and kept
beside the driver; breaker_driver and breaker_model.py both take it on stdin.
"""

import os
import random
import subprocess
import time

from breaker_model import (HALF_OPEN, MS, NAMES, NEVER, OPEN, SECOND, Player,
                           f32)

OUT = os.environ.get("UNIT_OUT") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "../../build/unit/san")
DRIVER = os.path.join(OUT, "breaker_driver")
TRACES = int(os.environ.get("BREAKER_TRACES", "6000"))
SEED = int(os.environ.get("BREAKER_SEED", "0")) or int(time.time() * 1000)
TRACES_A_RUN = 500


def random_config(rng):
    rate = lambda: rng.choice((50, 50, 1, 25, 100.0 / 3, 200.0 / 3, 60, 99.5,
                               100, rng.uniform(0.1, 100)))
    window = rng.choice(("count", "time"))
    size = rng.choice((1, 2, 3, 5, 10, rng.randint(1, 30), 100, 65536))
    if window == "time":
        size = rng.choice((1, 2, 3, 5, 10, 60))
    wait = rng.choice((MS, 10 * MS, SECOND, 30 * SECOND,
                       rng.randint(MS, 100 * SECOND)))
    max_wait = rng.choice((0, 0, MS, SECOND, rng.randint(MS, 20 * SECOND)))
    start = rng.choice((0, SECOND, rng.randint(0, 10 ** 6 * SECOND)))
    return "config %.9g %.9g %d %s %d %d %d %d %d %d %d %d %d" % (
        f32(rate()), f32(rate()),
        rng.choice((1, MS, 2 * SECOND, rng.randint(1, 3 * SECOND))),
        window, size, rng.choice((1, 2, 3, 5, 5, rng.randint(1, 12), 100)),
        rng.choice((1, 2, 3, 3, 5, rng.randint(1, 10))), wait, max_wait,
        rng.choice((0, 1)), rng.choice((0, 1)),
        rng.choice((0, 0, 0, 1, 2, 10)), start)


def random_now(rng, now, breaker):
    """Often within the milliseconds, and often just where a rule turns."""
    kind = rng.random()
    if kind < 0.45:
        return now + rng.randint(0, 5 * MS)
    if kind < 0.65:
        return now + rng.randint(0, 2 * SECOND)
    if kind < 0.80 and breaker.until not in (NEVER, None):
        edge = breaker.until
        if edge < now + 200 * SECOND:
            return max(0, edge + rng.choice((-1, 0, 0, 1, 1, MS)))
    if kind < 0.88:
        return (now // SECOND + rng.randint(1, 3)) * SECOND - rng.randint(0, 1)
    if kind < 0.94:
        return now + rng.randint(0, 100 * SECOND)
    if kind < 0.97:
        return max(0, now - rng.randint(0, 3 * SECOND))
    return now


def random_trace(rng, seen):
    """A trace and what the model says to it; the model is asked on the way
    so that the trace can aim at its edges."""
    player = Player()
    lines = [random_config(rng)]
    expected = [player.play(lines[0])]
    config = player.breaker.config
    failing = rng.choice((0, 0.1, 0.5, 0.9, 1))
    slowing = rng.choice((0, 0, 0.1, 0.5, 1))
    returning = rng.choice((0.5, 0.9, 1, 1))
    meddling = rng.choice((0, 0, 0.05, 0.3))
    out = []
    number = 0
    now = config.now

    for _ in range(rng.randint(10, 110)):
        now = random_now(rng, now, player.breaker)
        kind = rng.random()
        if rng.random() < meddling:
            line = ("reset %d" % now if rng.random() < 0.2 else
                    "force %d %d" % (now, rng.randint(0, 6)))
        elif kind < 0.45 or not out:
            line = "acquire %d %d" % (now, number)
            if rng.random() < returning:
                out.append(number)
            number += 1
        elif kind < 0.85:
            # mostly in order, sometimes long after the others
            place = 0 if rng.random() < 0.7 else rng.randrange(len(out))
            duration = (config.slow_ns + rng.choice((1, MS, 5 * SECOND))
                        if rng.random() < slowing else
                        rng.choice((0, config.slow_ns, rng.randint(0, MS),
                                    rng.randint(0, config.slow_ns))))
            outcome = ("ignored" if rng.random() < 0.05 else
                       "failure" if rng.random() < failing else "success")
            line = "result %d %d %s %d" % (now, out.pop(place), outcome,
                                           duration)
        elif kind < 0.90:
            line = "release %d" % out.pop(rng.randrange(len(out)))
        elif kind < 0.96:
            line = "tick %d" % now
        else:
            line = "look %d" % now

        lines.append(line)
        expected.append(player.play(line))
        for event in expected[-1].split(" "):
            if "@" in event:
                name, _, rest = event.partition("@")
                if name == "STATE_TRANSITION":
                    name = rest.partition(":")[2]
                seen[name] = seen.get(name, 0) + 1

    return lines, expected


def drive(lines):
    run = subprocess.run([DRIVER], input="\n".join(lines) + "\n", text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         timeout=120)
    return run.returncode, run.stdout.splitlines(), run.stderr


def first_difference(lines):
    """The number of the first step where the two disagree, or None."""
    player = Player()
    expected = [player.play(line) for line in lines]
    code, shown, _ = drive(lines)
    for step, line in enumerate(expected):
        if step >= len(shown) or shown[step] != line:
            return step
    return len(lines) if code else None


def shrink(lines):
    """Leaves out steps, in ever smaller runs, while the two still disagree."""
    lines = lines[:first_difference(lines) + 1]
    size = len(lines) // 2
    while size > 0:
        start = 1
        while start < len(lines):
            shorter = lines[:start] + lines[start + size:]
            step = first_difference(shorter)
            if step is None:
                start += size
            else:
                lines = shorter[:step + 1]
        size //= 2
    return lines


def report(lines, seed):
    lines = shrink(lines)
    path = os.path.join(OUT, "breaker-%d.trace" % seed)
    with open(path, "w", encoding="ascii") as trace:
        trace.write("\n".join(lines) + "\n")
    player = Player()
    expected = [player.play(line) for line in lines]
    _, shown, errors = drive(lines)
    return ("BREAKER_SEED=%d: C and model differ at the last step of\n%s\n"
            "model:  %s\ndriver: %s\n%s(kept in %s)" % (
                seed, "\n".join(lines), expected[-1],
                shown[-1] if len(shown) == len(lines) else "(none)", errors,
                path))


def test_traces_agree():
    print("BREAKER_SEED=%d BREAKER_TRACES=%d" % (SEED, TRACES))
    rng = random.Random(SEED)
    seen = {}
    steps = 0

    for begin in range(0, TRACES, TRACES_A_RUN):
        traces = [random_trace(rng, seen)
                  for _ in range(min(TRACES_A_RUN, TRACES - begin))]
        code, shown, errors = drive([line for lines, _ in traces
                                     for line in lines])
        place = 0
        for lines, expected in traces:
            if shown[place:place + len(lines)] != expected:
                raise AssertionError(report(lines, SEED))
            place += len(lines)
        assert code == 0, errors
        assert place == len(shown)
        steps += place

    print("%d steps: %s" % (steps, ", ".join(
        "%s %d" % pair for pair in sorted(seen.items()))))

    # A run that saw little proves little.
    if TRACES >= 1000:
        transitions = {"%s:%s" % (a, b) for a in NAMES for b in NAMES
                       if a != b} - {"CLOSED:HALF_OPEN", "METRICS_ONLY:OPEN",
                                     "METRICS_ONLY:HALF_OPEN"}
        missing = (transitions | {
            "SUCCESS", "ERROR", "IGNORED_ERROR", "NOT_PERMITTED", "RESET",
            "FAILURE_RATE_EXCEEDED", "SLOW_CALL_RATE_EXCEEDED"}) - set(seen)
        assert not missing, missing
        assert seen["%s:%s" % (NAMES[HALF_OPEN], NAMES[OPEN])] > 100


def test_a_difference_is_found_and_cut_down(monkeypatch):
    """The comparison itself: a model with one rule bent must be caught, and
    the trace that shows it must be short."""
    import breaker_model

    def rates(self, now):
        total, failed, slow, _ = self.counts(now)
        if total == 0 or total <= self.minimum:
            return -1.0, -1.0
        return (f32(f32(failed * 100) / total), f32(f32(slow * 100) / total))

    monkeypatch.setattr(breaker_model.Metrics, "rates", rates)
    rng = random.Random(1)
    for _ in range(200):
        lines, _ = random_trace(rng, {})
        if first_difference(lines) is not None:
            assert len(shrink(lines)) <= 20
            return
    raise AssertionError("a wrong rule was not noticed in 200 traces")
