"""What a release promised its clients and consumers still holds.

t/released/VERSION/ has the API's description as that release served it, and
what its messages were. Members may be added to what is sent, and none is taken
away or made to look otherwise; of what is accepted, nothing is refused that was
accepted. What came since only by a directive, for those who asked for it, is
named below.
"""

import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = ROOT / "ngx_payment_module"
RELEASED = ROOT / "t/released"

RELEASES = sorted(place.name for place in RELEASED.iterdir())

OPENAPI = json.loads((MODULE / "http/openapi.json").read_text())
MESSAGE = json.loads((MODULE / "http/asyncapi.json").read_text())[
    "components"]["messages"]["paymentEvent"]

# what is another now, by which directive: nobody is harmed who did not ask for
# it
EXPLAINED = {
    "headers ce_source: const is None, was ngx_payment_module":
        "`payment_event_source",
    "headers ce_type: pattern is ^([!-~]+\\.)?(authorized|captured|refunded|"
    "voided|expired)$, was ^(authorized|captured|refunded|voided)$":
        "`payment_event_type_prefix",
    " type: const is None, was about:blank": "`payment_problem_base",
}

# the parameter whose pattern became one of two, for generators of clients
REWRITTEN = ("header", "Idempotency-Key")

# words that were added to what is sent, and by which directive they come
WORDS_SINCE = {
    "expired": "`payment_authorization_lifetime",
    "AUTHORIZATION_EXPIRED": "`payment_authorization_lifetime",
    "FORBIDDEN": "`payment_challenge",
    # for whose payment was removed by hand: it was "not found" before
    "PAYMENT_GONE": "",
}

# they promise nothing
WORDS = {"description", "title", "summary", "example", "examples", "$comment",
         "tags", "operationId"}


def whole(node, document):
    """With what its references stand for."""

    if isinstance(node, list):
        return [whole(item, document) for item in node]

    if not isinstance(node, dict):
        return node

    if "$ref" in node:
        place = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            place = place[step]
        return whole(place, document)

    return {name: whole(value, document) for name, value in node.items()}


def broken(old, new, where, is_sent):
    """What of a schema does not hold any more. is_sent: by us, so that who
    reads it relies on it; otherwise it is what we accept."""

    for word in sorted((old.keys() | new.keys()) - WORDS):
        before, after = old.get(word), new.get(word)

        if word == "properties":
            for name, value in before.items():
                if name not in (after or {}):
                    yield f"{where} {name}: gone"
                elif isinstance(value, bool):
                    assert after[name] is value
                else:
                    yield from broken(value, after[name], f"{where} {name}",
                                      is_sent)

        elif word == "required":
            fewer, more = (before, after) if is_sent else (after, before)
            if not set(fewer or ()) <= set(more or ()):
                yield f"{where}: required is {after}, was {before}"

        elif word == "enum" and before and after:
            added = set(after) - set(before) - WORDS_SINCE.keys()
            if not set(before) <= set(after) or is_sent and added:
                yield f"{where}: {word} is {after}, was {before}"

        elif word == "allOf" and before and after:
            for one, other in zip(before, after, strict=True):
                yield from broken(one, other, f"{where} {word}", is_sent)

        elif isinstance(before, dict) and isinstance(after, dict):
            yield from broken(before, after, f"{where} {word}", is_sent)

        elif before != after and not (is_sent and before is None):
            yield f"{where}: {word} is {after}, was {before}"


def unexplained(complaints):
    return [one for one in complaints
            if not any(f" {one}".endswith(what) for what in EXPLAINED)]


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", whole(operation, document)


def parameters(operation):
    return {(one["in"], one["name"]): one
            for one in operation.get("parameters", ())}


def no_longer_so(old, new):
    """What of an operation of the API does not hold any more."""

    for place, before in parameters(old).items():
        after = parameters(new).get(place)
        if after is None:
            yield f"{place}: gone"
        elif place != REWRITTEN:
            yield from broken(before["schema"], after["schema"],
                              f"{place}", False)

    for place, after in parameters(new).items():
        if after.get("required") and place not in parameters(old):
            yield f"{place}: required, and was not there"

    for kind, before in old.get("requestBody", {}).get("content", {}).items():
        after = new["requestBody"]["content"][kind]
        yield from broken(before["schema"], after["schema"], "request", False)

    for status, before in old["responses"].items():
        after = new["responses"].get(status)
        if after is None:
            yield f"{status}: gone"
            continue

        for name in before.get("headers", {}):
            if name not in after.get("headers", {}):
                yield f"{status}: no {name}"

        for kind, value in before.get("content", {}).items():
            yield from broken(value["schema"],
                              after["content"][kind]["schema"], status, True)


def test_each_version_is_kept():
    """Copied when it is made: see docs/development.md, "To make a release"."""

    assert RELEASES == sorted(re.findall(
        r"^Version (\S+)$", (ROOT / "CHANGES").read_text(), re.M))


@pytest.mark.parametrize("release", RELEASES)
def test_messages(release):
    old = json.loads((RELEASED / release / "events.json").read_text())
    complaints = [
        *broken(old["headers"], MESSAGE["headers"], "headers", True),
        *broken(old["payload"], MESSAGE["payload"]["schema"], "payload", True)]

    assert unexplained(complaints) == []


def test_the_directives_are_there():
    directives = (ROOT / "docs/directives.md").read_text()
    for name in (*EXPLAINED.values(), *WORDS_SINCE.values()):
        assert name in directives


@pytest.mark.parametrize("release", RELEASES)
def test_api(release):
    old = json.loads((RELEASED / release / "openapi.json").read_text())
    now = dict(operations(OPENAPI))
    complaints = []

    for name, before in operations(old):
        complaints += ([f"{name} {one}"
                        for one in no_longer_so(before, now[name])]
                       if name in now else [f"{name}: gone"])

    assert unexplained(complaints) == []


SENT = {"required": ["a"], "properties": {
    "a": {"type": "string", "enum": ["x"]}, "b": {"type": "integer"}}}


@pytest.mark.parametrize("new, is_sent, complaints", [
    (SENT, True, 0),
    (SENT, False, 0),
    ({**SENT, "required": ["a", "b"]}, True, 0),
    ({**SENT, "required": ["a", "b"]}, False, 1),
    ({**SENT, "required": []}, True, 1),
    ({**SENT, "required": []}, False, 0),
    ({**SENT, "properties": {"a": SENT["properties"]["a"]}}, True, 1),
    ({**SENT, "properties": {**SENT["properties"], "c": {}}}, True, 0),
    ({**SENT, "properties": {**SENT["properties"], "c": {}}}, False, 0),
    ({**SENT, "properties": {**SENT["properties"],
                             "b": {"type": "string"}}}, True, 1),
    ({**SENT, "properties": {**SENT["properties"],
                             "b": {"type": "integer", "maximum": 9}}}, True, 0),
    ({**SENT, "properties": {**SENT["properties"],
                             "b": {"type": "integer", "maximum": 9}}}, False, 1),
    ({**SENT, "properties": {
        **SENT["properties"],
        "a": {"type": "string", "enum": ["x", "y"]}}}, True, 1),
    ({**SENT, "properties": {
        **SENT["properties"],
        "a": {"type": "string", "enum": ["x", "y"]}}}, False, 0),
])
def test_what_breaks_a_promise(new, is_sent, complaints):
    assert len(list(broken(SENT, new, "", is_sent))) == complaints
