"""The API's description says what the C sources say.

Limits, currencies, states, codes and members are read from the sources, so
that neither can change without the other; the compiled copy must be current.
"""

import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = ROOT / "ngx_payment_module"

DOCUMENT = json.loads((MODULE / "http/openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]

OPERATIONS = {
    "PAYMENT_AUTHORIZE": ("/authorize", "AuthorizeRequest"),
    "PAYMENT_CAPTURE": ("/capture/{paymentId}", "CaptureRequest"),
    "PAYMENT_REFUND": ("/refund/{paymentId}", "RefundRequest"),
    "PAYMENT_VOID": ("/void/{paymentId}", "VoidRequest"),
}


def source(name):
    return (MODULE / "payment" / name).read_text()


def limit(name):
    match = re.search(rf"^#define {name}\s+(?:INT64_C\()?(\d+)",
                      source("payment.h"), re.MULTILINE)
    return int(match.group(1))


def resolve(node):
    while "$ref" in node:
        place = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            place = place[step]
        node = place
    return node


def operations():
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_compiled_copy_is_current():
    tool = ROOT / "tools" / "documents-to-c"
    subprocess.run([tool, "--check"], check=True)


def test_limits():
    assert SCHEMAS["MerchantId"]["maxLength"] == limit(
        "PAYMENT_MERCHANT_CHARS")
    assert SCHEMAS["Reason"]["maxLength"] == limit("PAYMENT_REASON_CHARS")
    assert SCHEMAS["IdempotencyKey"]["maxLength"] == limit(
        "PAYMENT_BODY_KEY_CHARS")
    assert DOCUMENT["components"]["parameters"]["idempotencyKey"]["schema"][
        "maxLength"] == limit("PAYMENT_BODY_KEY_CHARS")
    assert SCHEMAS["Amount"]["maximum"] == limit("PAYMENT_AMOUNT_MAX")
    assert SCHEMAS["OptionalAmount"]["maximum"] == limit("PAYMENT_AMOUNT_MAX")

    assert SCHEMAS["Reference"]["maxLength"] == limit(
        "PAYMENT_REFERENCE_CHARS")

    metadata = SCHEMAS["Metadata"]
    assert metadata["maxProperties"] == limit("PAYMENT_METADATA_MEMBERS")

    # bytes, where a character has 1 to 4 of them
    for schema, most in [
        (metadata["propertyNames"], limit("PAYMENT_METADATA_NAME_LEN")),
        (metadata["additionalProperties"],
         limit("PAYMENT_METADATA_VALUE_LEN")),
    ]:
        anything, ascii_only = schema["anyOf"]
        assert anything == {"maxLength": most // 4}
        assert ascii_only["maxLength"] == most

    header = DOCUMENT["components"]["parameters"]["IdempotencyKey"]["schema"]
    most = "{1,%d}" % limit("PAYMENT_HEADER_KEY_LEN")
    assert header["pattern"].count(most) == 2       # a bare word, a string


def test_currencies():
    text = source("payment_money.c")
    codes = []
    for list_of in re.findall(
            r'payment_money_codes_\d\[\] =\n((?:\s+"[A-Z]+")+);', text):
        letters = "".join(re.findall(r'"([A-Z]+)"', list_of))
        codes += [letters[at:at + 3] for at in range(0, len(letters), 3)]

    assert len(codes) == 165
    assert SCHEMAS["Currency"]["enum"] == sorted(codes)


def test_states():
    text = source("payment_name.c")
    table = re.search(r"names\[\] = \{(.*?)\};", text, re.DOTALL)
    states = re.findall(r'"([A-Z_]+)"', table.group(1))

    assert SCHEMAS["Status"]["enum"] == states


def test_codes_and_their_statuses():
    text = source("payment_name.c")
    table = re.search(r"errors\[\] = \{(.*?)\n    \};", text, re.DOTALL)
    errors = re.findall(r'\{ (\d+), "([A-Z_]+)"', table.group(1))
    codes = {code: status for status, code in errors if status != "200"}

    assert SCHEMAS["Problem"]["properties"]["code"]["enum"] == list(codes)

    # a response that speaks of a code has the code's status
    for path, method, operation in operations():
        for status, response in operation["responses"].items():
            words = resolve(response)["description"]
            for code in re.findall(r"[A-Z]+_[A-Z_]+", words):
                if code in codes:
                    assert codes[code] == status, (path, method, code)


def test_members_of_requests():
    text = source("payment_request.c")
    table = re.search(r"payment_members\[PAYMENT_MEMBERS_N\] = \{(.*?)\n\};",
                      text, re.DOTALL)
    every = set(OPERATIONS)
    known = {}

    for name, where in re.findall(r'\{ "(\w+)", (.*?) \}', table.group(1)):
        if where == "PAYMENT_ON_ANY":
            known[name] = every
        elif where == "PAYMENT_ON_MONEY":
            known[name] = every - {"PAYMENT_VOID"}
        elif where == "PAYMENT_ON_CHANGE":
            known[name] = every - {"PAYMENT_AUTHORIZE"}
        else:
            known[name] = set(re.findall(r"PAYMENT_ON\((\w+)\)", where))

    assert known

    for operation, (path, schema) in OPERATIONS.items():
        body = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
        assert body["application/json"]["schema"]["$ref"].endswith(
            "/" + schema)
        assert set(SCHEMAS[schema]["properties"]) == {
            name for name in known if operation in known[name]}
        assert SCHEMAS[schema]["additionalProperties"] is False


def test_arguments_of_a_list():
    table = re.search(r"payment_list_names\[PAYMENT_LIST_ARGUMENTS\] = \{"
                      r"(.*?)\n\};", source("payment_list.c"), re.DOTALL)
    names = re.findall(r'"(\w+)"', table.group(1))

    for method in ("get", "head"):
        told = [resolve(parameter) for parameter
                in DOCUMENT["paths"]["/"][method]["parameters"]]
        assert [parameter["name"] for parameter in told] == [
            "merchantId", "idempotencyKey", "Idempotency-Key", *names]

    most = told[names.index("limit") + 3]["schema"]
    assert most["maximum"] == limit("PAYMENT_LIST_LIMIT_MAX")
    assert most["default"] == limit("PAYMENT_LIST_LIMIT_USUAL")


def test_members_of_answers():
    text = source("payment_render.c")

    def members(function):
        code = re.search(rf"^{function}\(.*?^}}", text,
                         re.DOTALL | re.MULTILINE).group(0)
        own = set(re.findall(r'\\"(\w+)\\":', code))

        # and those that it leaves to another one
        return own.union(*map(members, re.findall(
            r"(payment_render_(?:payment|changes))\(", code)[
                :0 if function in ("payment_render_payment",
                                   "payment_render_changes") else None]))

    payment = SCHEMAS["Payment"]
    details = SCHEMAS["PaymentDetails"]["allOf"][1]

    assert set(payment["required"]) == (
        set(payment["properties"]) - {"reference", "expiresAt"})
    assert set(details["required"]) == (
        set(details["properties"]) - {"metadata", "expiredAt"})
    assert members("payment_render_response") == (
        set(payment["properties"]) | set(details["properties"]))

    done = SCHEMAS["Operation"]
    assert members("payment_render_done") == set(
        done["properties"])
    assert set(done["properties"]) - set(done["required"]) == {
        "reason", "reference", "metadata"}
    assert members("payment_render_operations") == set(
        SCHEMAS["Operations"]["properties"])
    assert SCHEMAS["Operations"]["properties"]["operations"]["maxItems"] \
        == limit("PAYMENT_PAGE_OPERATIONS")

    listed = SCHEMAS["ListedPayment"]
    page = SCHEMAS["Payments"]["properties"]

    assert members("payment_render_listed") == set(listed["properties"])
    assert set(listed["properties"]) - set(listed["required"]) == {
        "expiresAt", "expiredAt"}
    assert members("payment_render_list") == set(page)
    assert page["payments"]["maxItems"] == limit("PAYMENT_LIST_LIMIT_MAX")
    assert page["nextCursor"]["maxLength"] == limit("PAYMENT_LIST_CURSOR_LEN")

    found = SCHEMAS["FoundPayment"]["allOf"][1]["properties"]
    operation = found["operation"]

    assert set(operation["required"]) == set(operation["properties"])
    assert members("payment_render_found") == (
        set(found) | set(operation["properties"]))
    assert operation["properties"]["type"]["enum"] == [
        path.split("/")[1] for path, _ in OPERATIONS.values()]

    assert members("payment_render_problem") == set(
        SCHEMAS["Problem"]["properties"])


def test_every_reference_leads_somewhere():
    used = set()

    def walk(node):
        if isinstance(node, dict):
            if "$ref" in node:
                used.add(node["$ref"])
                assert resolve(node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(DOCUMENT)

    for way in DOCUMENT["security"]:
        used |= {f"#/components/securitySchemes/{name}" for name in way}

    for kind, entries in DOCUMENT["components"].items():
        for name in entries:
            assert f"#/components/{kind}/{name}" in used, name


def test_links_lead_to_operations():
    known = {operation["operationId"]: operation
             for _, _, operation in operations()}

    assert known

    for _, _, operation in operations():
        for link in operation["responses"]["200"].get("links", {}).values():
            parameters = [resolve(parameter)["name"] for parameter in
                          known[link["operationId"]]["parameters"]]
            assert set(link["parameters"]) <= set(parameters)
