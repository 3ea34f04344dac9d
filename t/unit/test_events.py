"""The events' contract says what the C sources say; test_released.py holds it to
what it said before."""

import json
import pathlib
import re

import jsonschema_rs
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = ROOT / "ngx_payment_module"

SCHEMA = json.loads((MODULE / "http/event-schema.json").read_text())
ASYNCAPI = json.loads((MODULE / "http/asyncapi.json").read_text())
MESSAGE = ASYNCAPI["components"]["messages"]["paymentEvent"]

RENDER = (MODULE / "payment/payment_render.c").read_text()
NAMES = (MODULE / "payment/payment_name.c").read_text()
HEADER = (MODULE / "payment/payment.h").read_text()
PRODUCER = (ROOT / "worker/ngx_payment_producer_message.c").read_text()

EVENT = MESSAGE["examples"][0]["payload"]


def body(text, function):
    return re.search(rf"^{function}\(.*?^}}", text, re.S | re.M).group(0)


def limit(name):
    return int(re.search(rf"^#define {name}\s+(?:INT64_C\()?(\d+)", HEADER,
                         re.M).group(1))


def valid(event):
    return jsonschema_rs.Draft7Validator(SCHEMA).is_valid(event)


def test_asyncapi_has_the_schema():
    assert MESSAGE["payload"]["schema"] == SCHEMA


def test_members_are_those_that_are_rendered():
    code = body(RENDER, "payment_render_event")
    made = re.findall(r'\\"(\w+)\\":', code)
    optional = {"reason", "reference", "metadata"}

    assert list(SCHEMA["properties"]) == made
    assert set(SCHEMA["required"]) == set(made) - optional


def test_words_are_those_of_the_enums():
    events = re.findall(r'return "(\w+)"', body(NAMES, "payment_name_event"))
    states = re.findall(r'"([A-Z_]+)"', re.search(
        r"names\[\] = \{(.*?)\};", NAMES, re.S).group(1))

    assert SCHEMA["properties"]["eventType"]["enum"] == events
    assert SCHEMA["properties"]["status"]["enum"] == states
    assert MESSAGE["headers"]["properties"]["ce_type"]["pattern"] == (
        rf"^([!-~]+\.)?({'|'.join(events)})$")


def test_limits_are_those_of_the_sources():
    properties = SCHEMA["properties"]

    assert properties["merchantId"]["maxLength"] == limit(
        "PAYMENT_MERCHANT_CHARS")
    assert properties["reason"]["maxLength"] == limit("PAYMENT_REASON_CHARS")
    assert properties["reference"]["maxLength"] == limit(
        "PAYMENT_REFERENCE_CHARS")
    assert properties["metadata"]["maxProperties"] == limit(
        "PAYMENT_METADATA_MEMBERS")

    for name in ("tracestate", "ce_tracestate"):
        assert MESSAGE["headers"]["properties"][name]["maxLength"] == limit(
            "PAYMENT_TRACESTATE_LEN")

    for name in ("amount", "capturedAmount", "refundedAmount",
                 "operationAmount"):
        assert properties[name]["maximum"] == limit("PAYMENT_AMOUNT_MAX")


def test_headers_are_those_that_are_sent():
    sent = re.findall(r'ngx_payment_header\("([\w-]+)"', PRODUCER)

    assert list(MESSAGE["headers"]["properties"]) == sent
    assert set(MESSAGE["headers"]["required"]) == {
        name for name in sent
        if name not in ("ce_dataschema", "ce_sequence")
        and not name.removeprefix("ce_").startswith("trace")}
    assert len(sent) == int(re.search(
        r"^#define NGX_PAYMENT_PRODUCER_HEADERS_MAX\s+(\d+)", PRODUCER,
        re.M).group(1))


def test_the_example_is_valid_and_that_of_the_document():
    assert valid(EVENT)
    jsonschema_rs.Draft7Validator(MESSAGE["headers"]).validate(
        MESSAGE["examples"][0]["headers"])

    text = (ROOT / "docs/api.md").read_text()
    text = text[text.index("\n## Events"):]
    assert json.loads(re.search(r"```json\n(.*?)```", text, re.S).group(1)) \
        == EVENT


@pytest.mark.parametrize("change", [
    dict(eventType="made"), dict(paymentId="1"), dict(amount=0),
    dict(amount=1.5), dict(amount="1"), dict(currency="krw"),
    dict(status="OPEN"), dict(version=0), dict(operationAmount=-1),
    dict(reason=""), dict(reference=""), dict(metadata={}), dict(metadata={"a": 1}),
    dict(occurredAt="yesterday"), dict(eventType="captured")])
def test_what_no_event_may_be_is_refused(change):
    assert not valid({**EVENT, **change})


@pytest.mark.parametrize("name", sorted([*SCHEMA["required"], "reason"]))
def test_what_every_event_has_is_required(name):
    assert not valid({member: value for member, value in EVENT.items()
                      if member != name})
