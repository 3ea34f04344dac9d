"""The circuit breaker in C, and its model, against what the real Resilience4j
showed for the same steps: resilience4j/recorded.txt, made by record.py there.
"""

import os
import re

from breaker_model import Player, f32
from test_breaker_traces import drive

RECORDED = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "resilience4j/recorded.txt")

OURS = re.compile(r"(?P<answer>[a-z]+(?:=-?\d+)?) (?P<state>[A-Z_]+) "
                  r"attempts=\S+ since=\S+ until=\S+ rates=(?P<rates>\S+) "
                  r"calls=(?P<calls>\S+) denied=(?P<denied>\d+),\d+ "
                  r"probes=\S+ \S+ \S+ \S+(?P<events>.*)")


def events(text):
    """The names, and what belongs to them; rates as numbers."""
    for word in text.split():
        name, _, detail = word.partition(":")
        name = name.partition("@")[0]
        if name.endswith("_EXCEEDED"):
            yield name, f32(float(detail))
        else:
            yield name, detail


def rates(text):
    return [f32(float(rate)) for rate in text.split(",")]


def of_theirs(line):
    answer, state, rate, calls, denied, *rest = line.split(" ", 5)
    return (answer, state, rates(rate), calls, denied,
            list(events(rest[0] if rest else "")))


def of_ours(line):
    match = OURS.match(line)
    answer = match["answer"]
    return ("tick" if answer.startswith("tick") else answer, match["state"],
            rates(match["rates"]), match["calls"], match["denied"],
            list(events(match["events"])))


def recorded():
    with open(RECORDED, encoding="ascii") as lines:
        lines = [line.rstrip("\n") for line in lines
                 if not line.startswith("#")]
    return lines[0::2], [line[2:] for line in lines[1::2]]


def compare(steps, shown, theirs):
    start = 0
    for number, step in enumerate(steps):
        if step.startswith("config"):
            start = number
        assert of_ours(shown[number]) == of_theirs(theirs[number]), (
            "\n".join(steps[start:number + 1]))


def test_c_does_what_resilience4j_did():
    steps, theirs = recorded()
    code, shown, errors = drive(steps)
    assert code == 0, errors
    assert len(shown) == len(steps) > 1000
    states = {of_theirs(line)[1] for line in theirs}
    assert len(states) == 6, states
    compare(steps, shown, theirs)


def test_model_does_what_resilience4j_did():
    steps, theirs = recorded()
    player = Player()
    compare(steps, [player.play(step) for step in steps], theirs)
