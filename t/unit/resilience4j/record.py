#!/usr/bin/env python3
"""Records what the real Resilience4j does with random traces, so that
test_breaker_recorded.py can hold our breaker against it without a JVM.

    record.py 60 > recorded.txt     needs java, javac, mvn

The traces leave out what we do differently on purpose (payment_breaker.h says
what and why): results and releases of calls that were permitted under other
metrics, results in an OPEN that has no window, time that runs back. Waits are
whole milliseconds, which is how finely upstream sets its timers.
"""

import os
import random
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from breaker_model import HALF_OPEN, MS, SECOND, Player  # noqa: E402
from test_breaker_traces import random_config, random_now  # noqa: E402

VERSION = "2.4.0"
JARS = ("io.github.resilience4j:resilience4j-circuitbreaker:" + VERSION,
        "io.github.resilience4j:resilience4j-core:" + VERSION,
        "org.slf4j:slf4j-api:2.0.16")


def config(rng):
    words = random_config(rng).split()
    unit = MS if words[12] == "0" else SECOND
    words[8] = str(max(unit, int(words[8]) // unit * unit))
    words[9] = str(int(words[9]) // MS * MS)
    return " ".join(words)


def comparable(breaker, call, line):
    """Whether upstream would see it as we do."""
    if call is None:
        return False
    if line.startswith("release") or " ignored " in line:
        return breaker.state != HALF_OPEN or call.probes is breaker.probes
    return call.metrics is breaker.metrics and (
        call.metrics.window == "time" or call.metrics.size > 0)


def trace(rng):
    player = Player()
    lines = [config(rng)]
    player.play(lines[0])
    breaker = player.breaker
    failing = rng.choice((0, 0.1, 0.5, 0.9, 1))
    slowing = rng.choice((0, 0, 0.1, 0.5, 1))
    meddling = rng.choice((0, 0, 0.05, 0.3))
    slow = breaker.config.slow_ns
    out = []
    number = 0
    now = breaker.config.now

    for _ in range(rng.randint(10, 60)):
        now = max(now, random_now(rng, now, breaker))
        # The timers first: what is comparable depends on the state.
        lines.append("tick %d" % now)
        player.play(lines[-1])
        kind = rng.random()
        if rng.random() < meddling:
            line = ("reset %d" % now if rng.random() < 0.2 else
                    "force %d %d" % (now, rng.randint(0, 5)))
        elif kind < 0.5 or not out:
            line = "acquire %d %d" % (now, number)
            out.append(number)
            number += 1
        else:
            call = out.pop(0 if rng.random() < 0.7 else
                           rng.randrange(len(out)))
            duration = (slow + rng.choice((1, MS)) if rng.random() < slowing
                        else rng.choice((0, slow, rng.randint(0, MS))))
            outcome = ("ignored" if rng.random() < 0.05 else
                       "failure" if rng.random() < failing else "success")
            line = ("release %d" % call if rng.random() < 0.1 else
                    "result %d %d %s %d" % (now, call, outcome, duration))
            if not comparable(breaker, player.calls.get(str(call)), line):
                continue
        lines.append(line)
        player.play(line)
    return lines


def play(lines):
    with tempfile.TemporaryDirectory() as place:
        for jar in JARS:
            subprocess.run(["mvn", "-q", "dependency:copy",
                            "-Dartifact=" + jar, "-DoutputDirectory=" + place],
                           check=True, stdout=sys.stderr)
        sources = [os.path.join(HERE, "Recorder.java"), os.path.join(
            HERE, "io/github/resilience4j/circuitbreaker/internal/"
            "SchedulerFactory.java")]
        path = place + ":" + os.path.join(place, "*")
        subprocess.run(["javac", "-cp", path, "-d", place] + sources,
                       check=True)
        run = subprocess.run(["java", "-cp", path, "Recorder"],
                             input="\n".join(lines) + "\n", text=True,
                             stdout=subprocess.PIPE, check=True)
    return run.stdout.splitlines()


def main():
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    lines = [line for _ in range(int(sys.argv[1])) for line in trace(rng)]
    shown = play(lines)
    assert len(shown) == len(lines)
    print("# Resilience4j %s, by record.py: a step, and what it showed after"
          % VERSION)
    for line, answer in zip(lines, shown):
        print(line)
        print("> " + answer)


if __name__ == "__main__":
    main()
