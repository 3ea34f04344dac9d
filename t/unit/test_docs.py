"""Forgetting is noticed: what is said in several places is said alike.

A directive, a variable, a metric, an alert or a member of an event is made in
the C sources and told of in docs/, conf/ and t/.  These tests read both sides.
What they cannot see without a running nginx (that the exposition has exactly
the metrics of docs/operations.md) is looked at by t/metrics.t.
"""

import collections
import fnmatch
import functools
import json
import os
import re
import shutil
import subprocess

import pytest
import yaml                             # comes with schemathesis

from sources import DEFINITION, ROOT, Source, repository

FILES = repository()
MODULE = "ngx_payment_module/http/ngx_http_payment_module.c"
SHARD = "ngx_payment_module/http/ngx_http_payment_shard.c"
DASHBOARD = "conf/grafana/ngx_payment.json"
ALERTS = "conf/prometheus/alerts.yml"

DOCS = {path: text for path, text in FILES.items() if path.endswith(".md")}
C = {path: text for path, text in FILES.items()
     if path.startswith(("ngx_payment_module/", "worker/"))
     and path.endswith((".c", ".h"))}


# --- reading

def rows(text):
    """The rows of all tables: the heading above, the table's head, cells."""

    heading, head = "", None

    for line in text.split("\n"):
        if line.startswith("#"):
            heading, head = line.lstrip("# "), None

        elif line.startswith("|"):
            cells = [cell.strip().replace("\\|", "|")
                     for cell in re.split(r"(?<!\\)\|", line)[1:-1]]

            if head is None:
                head = cells
            elif not set("".join(cells)) <= set("-: "):
                yield heading, head, cells

        else:
            head = None


def section(text, heading):
    """What stands below a heading, to the next one of its level or above."""

    match = re.search(rf"^(#+) {re.escape(heading)}[^\n]*\n", text, re.M)
    assert match, f"there is no heading '{heading}'"
    level = len(match.group(1))
    end = re.compile(rf"^#{{1,{level}}} ", re.M).search(text, match.end())

    return text[match.end():end.start() if end else len(text)]


def quoted(cell):
    """What is in backticks."""

    return re.findall(r"`([^`]*)`", cell)


def name_of(cell):
    return (quoted(cell) or [""])[0].split(" ")[0].strip("$;")


# --- the directives, as C has them

Directive = collections.namedtuple(
    "Directive", "name flags set field post table")

ENTRY = re.compile(
    r'(?:NGX_HTTP_PAYMENT_(?P<macro>MAIN|LOC)\(|\{ ngx_string\()\s*'
    r'"(?P<name>\w+)"\)?,\s*(?P<rest>[^"]*?)(?:\}|\)),\s*\n\n', re.S)

CONTEXTS = {"NGX_HTTP_MAIN_CONF": "http", "NGX_HTTP_SRV_CONF": "server",
            "NGX_HTTP_LOC_CONF": "location"}


def table(path):
    text = re.search(r"ngx_command_t\s+\w+\[\] = \{\n(.*?)^\};", FILES[path],
                     re.S | re.M).group(1)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    found = {}

    for match in ENTRY.finditer(text):
        parts = [part.strip() for part in match.group("rest").split(",")]
        flags, set_by = parts[0], parts[1]

        if match.group("macro"):
            flags += {"MAIN": "|NGX_HTTP_MAIN_CONF",
                      "LOC": "|NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF"
                             "|NGX_HTTP_LOC_CONF"}[match.group("macro")]
            field = parts[2]
        else:
            field = re.search(r"offsetof\(\w+, ([\w.]+)\)|$",
                              match.group("rest")).group(1)

        found[match.group("name")] = Directive(
            match.group("name"), flags.split("|"), set_by, field,
            parts[-1].strip("& "), path)

    assert len(found) == len(re.findall(r'ngx_string\(|_MAIN\(|_LOC\(', text))

    return found


DIRECTIVES = table(MODULE)
IN_SHARD = table(SHARD)

# Directives without a constant as their default, and what the document says
# in its place.

DEFAULTS_IN_WORDS = {
    "payment_outbox": "on with `payment_kafka_brokers`",
    "payment_outbox_path": "`payment_outbox_temp`",
    "payment_kafka_topic": "`payments`",
    "payment_kafka_brokers": "",
    "payment_kafka_property": "",
    "payment_kafka_property_file": "",
    "payment_event_source": "`ngx_payment_module`",
    "payment_event_type_prefix": "none",
    "payment_event_dataschema": "none",
    "payment_trace_exporter": "none",
    "payment_authorization_lifetime": "none",
    "payment_merchant": "none",
    "payment_currencies": "all of ISO 4217",
    "payment_api": "",
    "payment_status": "`json`",
    "payment_health": "`ready any`",
    "payment_challenge": "`'Bearer realm=\"payments\"'`",
    "payment_problem": "",
    "payment_problem_base": "`about:blank` alone",
    "payment_openapi": "",
    "payment_asyncapi": "",
    "payment_event_schema": "",
    "payment_dashboard": "`status=/status`",
    "payment_outbox_admin": "",
}

# Of payment_shard's: what has to be said, or is said in words.

SHARD_IN_WORDS = {"slots", "server", "database", "installation", "user",
                  "password", "password_file", "ssl_ca", "ssl_certificate",
                  "ssl_certificate_key"}


@functools.cache
def constants():
    """Numbers that have a name."""

    return {name: value for text in C.values() for name, value in re.findall(
        r"^#define (\w+)\s+(?:INT64_C\()?(\d+)\)?\s*$", text, re.M)}


@functools.cache
def enums():
    """The words of each ngx_conf_enum_t: table, then name of the value"""

    return {table: dict((value, word) for word, value in re.findall(
                r'ngx_string\("(\w+)"\), (\w+)', body))
            for path in (MODULE, SHARD)
            for table, body in re.findall(
                r"ngx_conf_enum_t\s+(\w+)\[\] = \{(.*?)\};", FILES[path],
                re.S)}


@functools.cache
def defaults(path):
    """field: expression, of all that is initialised by nginx's macros"""

    found = {}

    for match in DEFINITION.finditer(FILES[path]):
        body = match.group("body")
        alias = dict(re.findall(r"(\w+) = &pmcf->(\w+);", body))

        for variable, field, value in re.findall(
                r"ngx_conf_init_(?:\w+_)?value\((\w+)->(\w+),\s*(.+?)\);",
                body, re.S):
            prefix = alias[variable] + "." if variable in alias else ""
            found[prefix + field] = value

        for field, value in re.findall(
                r"ngx_conf_merge_(?:\w+_)?value\(conf->(\w+),\s*prev->\w+,"
                r"\s*(.+?)\);", body, re.S):
            found[field] = value

    return found


def c_default(directive):
    """The default, if it is a word of an enum or a product of numbers."""

    value = defaults(directive.table).get(directive.field, "")

    if directive.post in enums():
        return enums()[directive.post].get(value)

    value = constants().get(value, value)

    if not re.fullmatch(r"[\d\s*()]+", value):
        return None

    number = eval(value)

    return number // 100 if directive.set.endswith("_percent") else number


UNITS = {"msec": {"ms": 1, "s": 1000, "m": 60000, "h": 3600000, "": 1},
         "sec": {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 1},
         "size": {"k": 1024, "m": 1024 * 1024, "": 1},
         "num": {"": 1}}


def value_of(directive, text):
    """A value as a configuration or a document writes it, as C has it."""

    text = text.strip("`; ")
    unit = re.search(r"_set_(\w+?)_slot", directive.set)
    unit = unit.group(1) if unit else "num"

    if unit == "flag":
        return {"on": 1, "off": 0}[text]

    if directive.post in enums():
        assert text in enums()[directive.post].values(), text
        return text

    if text == "2^53-1":
        return 2 ** 53 - 1

    number, suffix = re.match(r"(\d+)([a-z]*)", text).groups()

    return int(number) * UNITS[unit][suffix]


def contexts(directive):
    return ", ".join(CONTEXTS[flag] for flag in CONTEXTS
                     if flag in directive.flags)


@functools.cache
def documented_directives():
    """name: context, default, what is in backticks"""

    found = {}

    for heading, head, cells in rows(DOCS["docs/directives.md"]):
        name = name_of(cells[0])

        if head[0] != "directive" or not name.startswith("payment_"):
            continue

        row = dict(zip(head, cells))
        context = re.search(r"\(context: (.*)\)", heading)
        found[name] = (context.group(1) if context else row["context"],
                       row.get("default", ""), quoted(cells[0])[0])

    return found


# --- directives

def test_the_table_of_directives_was_read():
    assert len(DIRECTIVES) > 40 and len(IN_SHARD) > 15
    assert len([d for d in DIRECTIVES.values() if c_default(d) is not None]) \
        > 35


@pytest.mark.parametrize("name", sorted(set(DIRECTIVES) - {"payment_shard"}))
def test_directive_is_documented(name):
    """docs/directives.md has it, with its context, arguments and default."""

    directive = DIRECTIVES[name]
    assert name in documented_directives(), (
        f"add {name} to the table of its section in docs/directives.md")

    context, default, usage = documented_directives()[name]
    assert context == contexts(directive), (
        f"docs/directives.md says that {name} is of '{context}'")

    if "NGX_CONF_FLAG" in directive.flags:
        assert usage == f"{name} on | off"

    if directive.post in enums():
        assert usage == f"{name} " + " | ".join(
            enums()[directive.post].values())

    if name in DEFAULTS_IN_WORDS:
        assert default == DEFAULTS_IN_WORDS[name]
        return

    value = c_default(directive)
    assert value is not None, (
        f"{name} has no number or word as its default, set by "
        "ngx_conf_init_*_value() or ngx_conf_merge_*_value(): add what the "
        "document says in its place to DEFAULTS_IN_WORDS")
    assert value_of(directive, default) == value, (
        f"docs/directives.md says that {name} is {default} by default")


def test_documented_directives_exist():
    assert set(documented_directives()) <= set(DIRECTIVES)
    assert set(DEFAULTS_IN_WORDS) <= set(DIRECTIVES)


def test_shard_directives_are_documented():
    """The table of payment_shard: names, and defaults in their order."""

    text = section(DOCS["docs/directives.md"], "payment_shard")
    told = {}

    for _, head, cells in rows(text):
        usages = [usage for part in quoted(cells[0])
                  for usage in part.split(";") if usage.strip()]
        values = cells[1].split(";")

        if len(values) < len(usages):
            values = values * len(usages)

        for usage, value in zip(usages, values):
            told[usage.split()[0]] = value.strip()

        for word in quoted(cells[2]):
            if word.split()[0] in SHARD_IN_WORDS:
                told.setdefault(word.split()[0], "")

    for name in re.findall(r"`(\w+)`", text):
        told.setdefault(name, "")

    assert set(IN_SHARD) <= set(told), set(IN_SHARD) - set(told)

    for name, directive in IN_SHARD.items():
        if name in SHARD_IN_WORDS:
            continue

        if name == "ssl_verify":            # on, where there is TLS
            assert told[name] == "`on`"
            continue

        assert value_of(directive, told[name]) == c_default(directive), (
            f"docs/directives.md says that {name} is {told[name]} by default")


def test_directive_is_accepted_by_a_test():
    """t/directives.t gives each a good value in one configuration."""

    blocks = [block for block in FILES["t/directives.t"].split("\n=== ")
              if "all directives" in block.split("\n", 1)[0]]
    assert len(blocks) == 1, (
        "one block of t/directives.t has 'all directives' in its name")

    missing = {name for name in DIRECTIVES if name != "payment_shard"
               and not re.search(rf"^\s*(?:location [^{{]*\{{ )?{name}\b",
                                 blocks[0], re.M)}
    assert not missing, (
        "give these a good value in the block 'all directives' of "
        f"t/directives.t: {sorted(missing)}")

    tests = "".join(text for path, text in FILES.items()
                    if path.startswith("t/"))
    missing = {name for name in IN_SHARD
               if not re.search(rf"\b{name}[ =]+[\w$'{{/]", tests)}
    assert not missing, f"no test sets these of payment_shard: {missing}"


def test_directive_is_refused_by_a_test():
    """t/wrong-conf.t has a wrong use of each."""

    table = FILES["t/wrong-conf.t"].split("my @errors")[1].split("# what is")[0]

    # that of the whole block is the shard() of each row
    missing = {name for name in {*DIRECTIVES, *IN_SHARD} - {"payment_shard"}
               if not re.search(rf"\b{name}\b[ \\\"]", table)}
    assert not missing, (
        f"t/wrong-conf.t has no wrong use of these: {sorted(missing)}")


def configurations():
    for path, text in FILES.items():
        if path.startswith("conf/") and path.endswith(".conf"):
            yield path, text

    for path in DOCS:
        for block in re.findall(r"^```[a-z]*\n(.*?)^```|((?:^ {4}.*\n)+)",
                                DOCS[path], re.S | re.M):
            yield path, "".join(block)


def settings(text):
    """commented out, name, arguments, of each directive of ours"""

    for match in re.finditer(r"^\s*(?:\S.*\{\s+)?(#?)(payment_\w+)"
                             r"(?:\s+([^;{}#]*))?\s*[;{]", text, re.M):
        yield bool(match.group(1)), match.group(2), match.group(3) or ""


def test_configurations_use_directives_that_exist():
    """Also those in comments, which nginx -t does not see."""

    seen = 0

    for path, text in configurations():
        for _, name, _ in settings(text):
            seen += 1
            assert name in DIRECTIVES, f"{path}: there is no {name}"

    assert seen > 50


def test_comments_of_production_conf_show_defaults():
    """As its head promises, but for those that it names."""

    text = FILES["conf/production.conf"]
    head = text[:text.index("load_module")]
    assert "A setting in a comment shows its" in re.sub(r"\n# ", " ", head)

    for commented, name, arguments in settings(text):
        if commented and name not in head:
            directive = DIRECTIVES[name]
            assert value_of(directive, arguments) == c_default(directive), (
                f"conf/production.conf: #{name} {arguments} is not its "
                "default")

    for name, argument in re.findall(r"^\s+#([a-z_]+)\s+(\w+);", text, re.M):
        if name in IN_SHARD:
            assert value_of(IN_SHARD[name], argument) \
                == c_default(IN_SHARD[name]), name


@pytest.mark.parametrize("path", [
    "conf/production.conf", "conf/quickstart.conf", "deploy/nginx.conf",
    "deploy/helm/ngx-payment/templates/configmap.yaml"])
def test_all_log_the_same_line(path):
    assert re.findall(r"log_format\s+payment\s+(.*?);", FILES[path], re.S) \
        == ["escape=none  $payment_log"]


def test_readme_table_of_directives():
    for _, head, cells in rows(FILES["README.md"]):
        if head[0] == "directive":
            assert cells[1] == contexts(DIRECTIVES[name_of(cells[0])])


# --- variables

def variables():
    text = FILES["ngx_payment_module/http/ngx_http_payment_variables.c"]

    return set(re.findall(r'(?:NGX_HTTP_PAYMENT_(?:LOG_)?VAR\(|ngx_string\()'
                          r'"(payment_\w+)"', text))


def test_variables_are_documented():
    told = {name_of(cells[0]) for _, head, cells
            in rows(section(DOCS["docs/directives.md"], "Variables"))}

    assert len(told) > 5
    assert told == variables(), "docs/directives.md, Variables"


def maps(text):
    return set(re.findall(r"^\s*(?:map|set|geo)\s.*?\$(payment_\w+)\s*\{",
                          text, re.M))


def test_variables_that_are_used_exist():
    """In the shipped configurations and in the documents, which may speak of
    what production.conf defines."""

    production = maps(FILES["conf/production.conf"])

    for path, text in list(configurations()) + list(DOCS.items()):
        defined = maps(text) | (production if path in DOCS else set())
        used = set(re.findall(r"\$(payment_\w+)", text))
        unknown = used - defined - variables()
        assert not unknown, f"{path}: {unknown}"


# --- metrics, alerts and the dashboard

@functools.cache
def metrics():
    """name: type, labels, as docs/operations.md has them (see t/metrics.t)"""

    return {name_of(cells[0]): (cells[1], set(quoted(cells[2])))
            for _, head, cells
            in rows(section(DOCS["docs/operations.md"], "Metrics"))
            if head[0] == "metric"}


def series():
    """The names that a query may use."""

    for name, (kind, _) in metrics().items():
        if kind in ("histogram", "summary"):
            yield from (name + part for part in ("_sum", "_count"))

        if kind == "histogram":
            yield name + "_bucket"
        else:
            yield name


SERIES = re.compile(r"(?<!:)\b((?:payment|resilience4j|nginx|process)_"
                    r"[a-z0-9_]+)\b(?!:)")
MATCHERS = re.compile(r"\b((?:payment|resilience4j|nginx|process)_\w+)"
                      r"\{([^}]*)\}")

# Labels that Prometheus gives, and those of its types.

GIVEN = {"instance", "job", "le", "quantile"}


def wrong_query(query):
    names = set(SERIES.findall(query)) - set(DIRECTIVES)
    unknown = names - set(series())

    if unknown:
        yield f"no metric is called {', '.join(sorted(unknown))}"

    known = GIVEN.union(*(metrics().get(re.sub("_(bucket|sum|count)$", "", n),
                                        metrics().get(n, ("", set())))[1]
                          for n in names))

    for name, matchers in MATCHERS.findall(query):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers):
            if label not in known:
                yield f"{name} has no label {label}"

    for labels in re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", query):
        for label in re.split(r"\s*,\s*", labels):
            if label not in known:
                yield f"none of its metrics has a label {label}"


@functools.cache
def queries():
    """where, expression, legend: of the dashboard's panels and annotations"""

    def unique(pairs):
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), f"a member twice: {names}"
        return dict(pairs)

    def panels(node):
        for panel in node.get("panels", []):
            yield panel
            yield from panels(panel)

    dashboard = json.loads(FILES[DASHBOARD], object_pairs_hook=unique)

    return [(panel["title"], target["expr"], target.get("legendFormat", ""))
            for panel in panels(dashboard)
            for target in panel.get("targets", [])] \
        + [(one["name"], one["expr"], one["textFormat"])
           for one in dashboard["annotations"]["list"]]


def as_prometheus(query):
    """Grafana's own variables, filled in."""

    return re.sub(r"\$\w+", "x", re.sub(r"\[\$__\w+\]", "[5m]", query))


def alerts():
    return [rule for group in yaml.safe_load(FILES[ALERTS])["groups"]
            for rule in group["rules"] if "alert" in rule]


def promtool(*arguments):
    program = ROOT / "build/bin/promtool"
    program = program if program.exists() else shutil.which("promtool")
    assert program, "promtool is missing: run 'make install-deps'"

    done = subprocess.run([program, *arguments], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_asks_for_what_there_is():
    assert len(queries()) > 40

    wrong = [f"{title}: {complaint}" for title, query, _ in queries()
             for complaint in wrong_query(query)]
    assert not wrong, "\n".join([DASHBOARD] + wrong)


def test_the_dashboard_has_legends_of_its_queries():
    """A label comes by a name in the query, or is one of its metric's."""

    for title, query, legend in queries():
        known = set().union(*(metrics().get(name, ("", set()))[1]
                              for name in SERIES.findall(query)
                              if not re.search(r"\bby\b", query)))

        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            assert label in known or re.search(rf"\b{label}\b", query), (
                f"{DASHBOARD}, {title}: no {label} comes out of {query}")


def test_the_dashboard_has_panels_of_its_own_in_their_places():
    """No id is given twice, and no panel lies on another."""

    panels = json.loads(FILES[DASHBOARD])["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)

    taken = collections.Counter(
        (x, y) for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"]))
    assert max(taken.values()) == 1
    assert max(x for x, _ in taken) == 23


def test_the_dashboard_is_promql(tmp_path):
    rules = tmp_path / "dashboard.yml"
    rules.write_text(yaml.safe_dump({"groups": [
        {"name": f"{number} {title}",
         "rules": [{"record": "x", "expr": as_prometheus(query)}]}
        for number, (title, query, _) in enumerate(queries())]}))

    promtool("check", "rules", "--lint=none", str(rules))


def test_the_alerts_are_promql():
    promtool("check", "rules", str(ROOT / ALERTS))
    promtool("check", "config", str(ROOT / "conf/prometheus/prometheus.yml"))


def test_the_alerts_ask_for_what_there_is():
    wrong = [f"{rule['alert']}: {complaint}" for rule in alerts()
             for text in (rule["expr"],
                          rule["annotations"].get("description", ""))
             for complaint in wrong_query(text)]
    assert not wrong, "\n".join([ALERTS] + wrong)


def test_alerts_are_documented():
    """Each has a row in docs/operations.md, and the same time."""

    told = {cells[0]: cells[1] for _, head, cells in rows(
        section(DOCS["docs/operations.md"], "What to alert on"))}

    assert sorted(told) == sorted(rule["alert"] for rule in alerts())

    for rule in alerts():
        ranges = re.findall(r"(?:\[|rate)(\d+[smh])", rule["expr"])
        number, unit = re.match(r"(\d+)(.)", rule.get("for") or ranges[-1]) \
            .groups()
        time = f"{number} {dict(s='s', m='min', h='h')[unit]}"

        assert time in told[rule["alert"]], (
            f"docs/operations.md says of {rule['alert']}: "
            f"{told[rule['alert']]}, {ALERTS} says {time}")


def test_a_wrong_query_is_noticed():
    for query in ("sum(payment_shard_rowz_total)",
                  "sum by (shart) (payment_shard_rows_total)",
                  'payment_outbox_up{shard="main"}'):
        assert list(wrong_query(query)), query


# --- counters in shared memory

STATS = "ngx_payment_module/shared/ngx_payment_stats.h"

# Whose processes write to a struct.

OWNERS = {
    "ngx_payment_shard_stats_t": ("ngx_payment_module/writer/",
                                  "ngx_payment_module/db/"),
    "ngx_payment_gauges_t": ("ngx_payment_module/writer/",
                             "ngx_payment_module/db/"),
    "ngx_payment_outbox_stats_t": ("worker/",),
    "ngx_payment_helper_stats_t": ("worker/",),
    "ngx_payment_life_gauges_t": ("worker/",),
    "ngx_payment_broker_t": ("worker/",),
}

# Fields that somebody else writes, too.

OTHER_WRITERS = {
    # sums of the workers' gauges, made when somebody asks
    ("ngx_payment_shard_stats_t", "open"): "ngx_payment_module/http/",
    ("ngx_payment_shard_stats_t", "busy"): "ngx_payment_module/http/",
    ("ngx_payment_shard_stats_t", "queued"): "ngx_payment_module/http/",
    # what all processes know together, and the configuration
    ("ngx_payment_shard_stats_t", "usable"): "ngx_payment_module/http/",
    ("ngx_payment_shard_stats_t", "primary_known"): "ngx_payment_module/http/",
    ("ngx_payment_shard_stats_t", "topology_epoch"): "ngx_payment_module/http/",
    ("ngx_payment_shard_stats_t", "durability_replica"):
        "ngx_payment_module/http/",
    ("ngx_payment_shard_stats_t", "voters"): "ngx_payment_module/http/",
    ("ngx_payment_shard_stats_t", "lacking"): "ngx_payment_module/http/",
    # and of the lives of the helper
    ("ngx_payment_outbox_stats_t", "lease_held"): "ngx_payment_module/http/",
    ("ngx_payment_outbox_stats_t", "reading_fails"): "ngx_payment_module/http/",
    ("ngx_payment_outbox_stats_t", "backlog"): "ngx_payment_module/http/",
    ("ngx_payment_outbox_stats_t", "in_flight"): "ngx_payment_module/http/",
    ("ngx_payment_outbox_stats_t", "oldest_age"): "ngx_payment_module/http/",
    ("ngx_payment_outbox_stats_t", "dead_letters"): "ngx_payment_module/http/",
    ("ngx_payment_outbox_stats_t", "overdue"): "ngx_payment_module/http/",
    ("ngx_payment_outbox_stats_t", "overdue_age"): "ngx_payment_module/http/",
    ("ngx_payment_helper_stats_t", "kafka_up"): "ngx_payment_module/http/",
    # an operator's words to the helper, which may not be there yet
    ("ngx_payment_helper_stats_t", "command"): "ngx_payment_module/http/",
    ("ngx_payment_helper_stats_t", "paused"): "ngx_payment_module/http/",
}

# Gauges that are a sum over the lives of the helper, of those that are alive.

OF_LIVES = ("lease_held", "reading_fails", "backlog", "oldest_age",
            "in_flight", "dead_letters", "overdue", "overdue_age", "kafka_up")

# Gauges of the helper that outlive it.

LASTING = {
    "epoch": "the lease that was held last",
    "paused": "an operator's word, which a reload and a crash do not undo",
}


@functools.cache
def fields(struct):
    body = re.search(rf"typedef struct \{{([^}}]*)\}} {struct};",
                     FILES[STATS]).group(1)

    return re.findall(r"^\s+(?:ngx_atomic_t|ngx_payment_histogram_t)\s+"
                      r"(\w+)", re.sub(r"/\*.*?\*/", "", body, flags=re.S),
                      re.M)


def counters():
    """struct: field: type, of the tables that status and metrics print"""

    text = "".join(C.values())
    found = collections.defaultdict(dict)

    for table, kind, field in re.findall(
            r'ngx_http_payment_(shard|outbox|helper)_counter\("\w+", '
            r'(COUNTER|GAUGE|HOLDERS|FLAG),\s*(\w+),', text):
        found[f"ngx_payment_{table}_stats_t"][field] = kind

    return found


# Fields that no table of counters has.

SHOWN_OTHERWISE = {
    "pid": "payment_outbox_up", "started_at": "the status",
    "command": "an operator's word to the helper",
    "command_result": "the helper's answer",
    "breaker_forced": "an operator's word to the breaker: see breaker_state",
    "purge_started_ms": "where the next helper goes on; see purged",
    "last_error": "the status",
}


def test_every_counter_is_shown():
    """A field that nobody can see is not worth its writing."""

    text = "".join(text for path, text in C.items()
                   if path.startswith("ngx_payment_module/http/"))

    for struct in ("ngx_payment_shard_stats_t", "ngx_payment_outbox_stats_t",
                   "ngx_payment_helper_stats_t"):
        assert len(fields(struct)) > 10

        for field in fields(struct):
            assert field in counters()[struct] or field in SHOWN_OTHERWISE \
                or re.search(rf"(?:h->|helper\.|stats_t, ){field}\b",
                             text), (
                    f"{struct}.{field} is in no table of counters "
                    "(ngx_http_payment_counters.c): nobody can see it")


WRITE = re.compile(r"(?:fetch_add|cmp_set|histogram_add)\(\s*&([\w.>\[\]-]+)"
                   r"|([\w>.\[\]-]+)\s*(?:=(?!=)|\+\+|--|\+=|-=)")


def struct_of(path, pointer, field):
    """The struct that a pointer of this name leads to."""

    helper = "ngx_payment_helper_stats_t"
    structs = {
        "gauges": ["ngx_payment_gauges_t"],
        "helper": [helper],
        "h": [helper],
        "broker": ["ngx_payment_broker_t"],
        "brokers": ["ngx_payment_broker_t"],
        "stats": ["ngx_payment_outbox_stats_t", helper]
                 if path.startswith("worker/")
                 else ["ngx_payment_shard_stats_t"],
    }

    return next((struct for struct in structs.get(pointer, [])
                 if field in fields(struct)), None)


@functools.cache
def writes():
    """(struct, field): files that write it"""

    found = collections.defaultdict(set)

    for path, text in C.items():
        for match in WRITE.finditer(Source(path, text).code):
            steps = re.sub(r"\[.*?\]", "", match.group(1) or match.group(2))
            steps = re.split(r"->|\.", steps)

            if len(steps) > 1:
                struct = struct_of(path, steps[-2], steps[-1])
                found[struct, steps[-1]].add(path)

    return found


def test_every_counter_has_its_writer():
    """A counter is written by the processes that own it, and by no other."""

    for struct, owners in OWNERS.items():
        for field in fields(struct):
            allowed = owners + tuple(
                other for key, other in OTHER_WRITERS.items()
                if key == (struct, field))
            strangers = [path for path in writes()[struct, field]
                         if not path.startswith(allowed)]
            assert not strangers, (
                f"{', '.join(strangers)} write {struct}.{field}: only "
                f"{', '.join(allowed)} may")

            assert any(re.search(rf"(?:->|\.|, ){field}\b", text)
                       for path, text in C.items()
                       if path.startswith(allowed)), (
                f"nobody writes {struct}.{field}")


def test_gauges_end_with_their_process():
    """The helper sets each of its gauges back, or has them in its life, which
    begins with zeros; a worker begins with zeros."""

    text = "".join(text for path, text in C.items()
                   if path.startswith("worker/"))

    for struct in ("ngx_payment_outbox_stats_t", "ngx_payment_helper_stats_t"):
        for field, kind in counters()[struct].items():
            assert kind == "COUNTER" or field in LASTING or field in OF_LIVES \
                or re.search(rf"(?:->|\.){field} = 0;", text), (
                    f"{struct}.{field} is a gauge that nothing in worker/ "
                    "sets to 0: what does it say when the helper is gone?")

    for path in ("ngx_payment_module/writer/ngx_payment_writer.c",
                 "worker/ngx_payment_outbox.c"):
        assert re.search(r"ngx_memzero\(\w+->gauges,", FILES[path]), path

    assert "ngx_memzero(life->brokers," in FILES["worker/ngx_payment_outbox.c"]


# --- events

def test_members_of_an_event_are_documented():
    """docs/api.md: the example has all members, the table tells of each."""

    text = FILES["ngx_payment_module/payment/payment_render.c"]
    body = re.search(r"^payment_render_event\(.*?^\}", text, re.S | re.M)
    made = re.findall(r'\\"(\w+)\\":', body.group(0))
    events = section(DOCS["docs/api.md"], "Events")
    example = json.loads(re.search(r"```json\n(.*?)```", events, re.S)
                         .group(1))
    told = {word for _, head, cells in rows(events) if head[0] == "member"
            for word in quoted(cells[0])}

    assert len(made) > 8
    assert list(example) == made, "docs/api.md, Events: the example"
    assert told == set(made), "docs/api.md, Events: the table"


def test_headers_of_a_message_are_documented():
    text = FILES["worker/ngx_payment_producer_message.c"]
    made = set(re.findall(r'ngx_payment_header\("([\w-]+)"', text))
    told = {word for _, head, cells
            in rows(section(DOCS["docs/outbox.md"], "The message"))
            for word in quoted(cells[0])}

    assert len(made) > 8
    assert told == made, "docs/outbox.md, The message"


def test_codes_of_errors_are_documented():
    """docs/api.md has a row for each code, with its status."""

    text = FILES["ngx_payment_module/payment/payment_name.c"]
    made = set(re.findall(r'\{ ([45]\d\d), "([A-Z_]+)", "', text))
    told = {(cells[0], name_of(cells[1])) for _, head, cells
            in rows(DOCS["docs/api.md"]) if head[:2] == ["status", "code"]}

    assert len(made) > 10
    assert told == made, "docs/api.md, the table of errors"


# --- the predecessor

# What its dashboards ask for, by what docs/migration.md says of it.

BREAKERS = ["state", "failure_rate", "slow_call_rate", "buffered_calls",
            "slow_calls", "not_permitted_calls_total", "calls_seconds_count",
            "calls_seconds_sum", "calls_seconds_bucket", "calls_seconds_max"]
PANELS = {
    "unchanged": ["process_start_time_seconds", *(
        f"resilience4j_circuitbreaker_{name}" for name in BREAKERS)],
    "by the recording rules": [
        f"http_server_requests_seconds_{part}"
        for part in ("count", "sum", "bucket")],
    "empty": ["pg-auth-api", "Hikari", "kafka_producer_record_send_total",
              "spring_kafka_template_seconds_count"],
}


def of_migration(heading):
    return [cells for _, _, cells
            in rows(section(DOCS["docs/migration.md"], heading))]


def becomes(name):
    """What the document says of panels that ask for it."""

    for panels, here in of_migration("What its dashboards show"):
        first, *more = quoted(panels) or panels.split(", ")
        stem = first.rpartition("_")[0]

        if any(fnmatch.fnmatchcase(name, pattern) for pattern in
               [first, *more, *(stem + part for part in more)]):
            return here

    raise AssertionError(f"docs/migration.md says nothing of {name}")


def test_panels_of_the_predecessor():
    """What goes on is a metric, or recorded; what takes a name's place is
    there."""

    rules = yaml.safe_load(FILES["conf/prometheus/spring.rules.yml"])
    there = {"unchanged": set(series()),
             "by the recording rules": {rule["record"]
                                        for group in rules["groups"]
                                        for rule in group["rules"]}}

    for verdict, names in PANELS.items():
        for name in names:
            assert becomes(name).startswith(verdict), name
            assert verdict not in there or name in there[verdict], name

            if verdict == "empty":
                for other in quoted(becomes(name)):
                    assert fnmatch.filter([*series(), *metrics()], other), (
                        name, other)


def test_consumers_of_the_predecessor():
    """What they wait for is no event here; what they are told to read is."""

    members = json.loads(FILES[
        "ngx_payment_module/http/event-schema.json"])["properties"]
    types = members["eventType"]["enum"]
    here = {*types, *members, *DIRECTIVES, *series(), "outbox_dead"}

    told = {cells[0]: cells[1:] for cells
            in of_migration("What consumers of the events notice")}
    assert set(told) == {"settlement", "refund", "ledger",
                         "monitoring of the dead-letter topics"}
    wanted = [name for wants, _ in told.values() for name in quoted(wants)]

    for operation in "capture", "refund":
        assert f"payment.{operation}-requested" in wanted
        assert f"{operation}-requested" not in types

    for _, sees in told.values():
        assert quoted(sees) and {
            name.split()[0] for name in quoted(sees)} <= here


def test_clients_of_the_predecessor():
    """The paths, codes and states that stay are the API's."""

    told = {cells[0]: cells[1]
            for cells in of_migration("What stays the same for a client")}
    api = json.loads(FILES["ngx_payment_module/http/openapi.json"])
    paths = [path.rpartition("/api/payments")[2].removeprefix("POST ")
             for path in quoted(told["paths"])]
    assert len(paths) == 3 and set(paths) <= set(api["paths"])

    words = FILES["ngx_payment_module/payment/payment_name.c"]
    codes = set(re.findall(r'\{ ([45]\d\d), "([A-Z_]+)", "', words))
    kept = [(status, code) for part, status
            in re.findall(r"([^\d]+) with (\d+)", told["codes"])
            for code in quoted(part)]
    assert len(kept) == 5 and set(kept) <= codes

    for name in quoted(told["states"]):
        assert (f'"{name}"' in words) == (not name.endswith("_REQUESTED"))


def test_knobs_of_the_predecessor():
    """The breaker's, by the names and with the values that they had."""

    [(theirs, told)] = [
        (quoted(cells[0]), cells[2])
        for cells in of_migration("Its knobs by the names they had")
        if "`payment_breaker_`" in cells[1]]
    values = told.partition(": ")[2].split(", ")
    assert len(theirs) == len(values) == 10

    for name, value in zip(theirs, values):
        directive = DIRECTIVES["payment_breaker_" + name.replace("-", "_")]
        assert value_of(directive, value.replace(" ", "")) \
            == c_default(directive), name


# --- what a server must have

def test_requirements_of_a_server_are_documented():
    """docs/operations.md has C's list: what must be, and what should be."""

    text = FILES["ngx_payment_module/db/ngx_payment_requirement.c"]
    kinds = {"00": "must be", "10": "should be", "11": "should be",
             "01": "with durability replica"}
    made = {name: (kinds[advice + replica],
                   set(good.strip("|").split("|")) - {""})
            for name, good, advice, replica in re.findall(
                r'\{ "(\w+)",\s*"[^{}]*?(?:NULL|"(\|[^"]*\|)"),'
                r'[^{}]*?([01]), ([01]), [01] \}', text)}
    told = {name_of(cells[0]): (head[1], set(quoted(cells[1])))
            for _, head, cells in rows(DOCS["docs/operations.md"])
            if head[0] == "variable"}

    assert len(made) > 5

    for name, (kind, good) in made.items():
        assert name in told, (
            f"docs/operations.md, The database server: add {name}")
        assert told[name][0] == kind and good <= told[name][1], (
            f"docs/operations.md says that {name} {told[name]}, "
            f"C says {kind} {good}")

    # what is asked in another way has no backticks
    assert set(told) - {""} <= set(made)


# --- migrations

MIGRATIONS = {int(path[5:8]): text for path, text in FILES.items()
              if re.fullmatch(r"sql/V\d{3}__\w+\.sql", path)}


def test_migrations_are_numbered_and_announced():
    """One after the other, to the last that C knows; see CHANGES."""

    known = {name: int(number) for text in C.values()
             for name, number in re.findall(
                 r"^#define NGX_PAYMENT_SCHEMA_VERSION_(\w+)\s+(\d+)$", text,
                 re.M)}

    assert sorted(MIGRATIONS) == list(range(1, len(MIGRATIONS) + 1))
    assert known["NEWEST"] == len(MIGRATIONS)
    assert known["LOWEST"] <= known["NEWEST"]

    for number, text in MIGRATIONS.items():
        assert re.match(r"-- (expand|contract): [A-Za-z0-9_, -]+\n", text), (
            f"sql/V{number:03}: the first line says its kind, and what it is")
        assert "payment_schema_version" not in text, (
            f"sql/V{number:03}: tools/migrate.sh records what it applied")
        assert f"V{number:03}" in FILES["CHANGES"], (
            f"say in CHANGES, at its version, that V{number:03} is needed")


def statements(text):
    """Those of a migration, without comments, each on one line; a procedure
    comes in parts."""

    text = re.sub(r"^\s*--.*$", "", text, flags=re.M)
    return [" ".join(part.split()) for part in text.split(";")]


def holds_up_payments(statement):
    """It copies or walks a table that each payment writes to, under a lock.
    What says INSTANT or NOCOPY is refused by the server if it can not be."""

    hot = r"`?(payment|idempotency_key|outbox_event)\b"
    alters = rf"(ALTER (ONLINE )?TABLE|CREATE .*INDEX \S+ .*ON) {hot}"
    walks = (rf"(UPDATE|DELETE FROM|OPTIMIZE TABLE|REPLACE INTO) {hot}"
             rf"|INSERT .*SELECT .*\bFROM {hot}")

    if re.match(alters, statement, re.I):
        return not (re.search(r"ALGORITHM ?= ?(INSTANT|NOCOPY)", statement, re.I)
                    and re.search(r"LOCK ?= ?NONE", statement, re.I))

    return bool(re.match(walks, statement, re.I))


def test_migrations_do_not_hold_up_payments():
    """V003 does: it is that of 1.0.0, before which nobody took payments."""

    assert {number for number, text in MIGRATIONS.items()
            if any(map(holds_up_payments, statements(text)))} == {3}

    for statement in ("ALTER TABLE payment ADD COLUMN x INT",
                      "CREATE INDEX i ON payment (merchant_id)",
                      "UPDATE outbox_event SET version = 1",
                      "INSERT INTO t SELECT id FROM payment"):
        assert holds_up_payments(statement), statement

    for statement in ("ALTER TABLE payment ADD COLUMN x INT,"
                      " ALGORITHM=INSTANT, LOCK=NONE",
                      "ALTER TABLE payment_identity ADD COLUMN x INT"):
        assert not holds_up_payments(statement), statement


# --- what documents name

def plain_name(path):
    """A file's, without the prefix that all files of its folder have."""

    return re.sub(r"^(ngx_http_payment|ngx_payment|payment)_", "",
                  path.rpartition("/")[2].rpartition(".")[0])


def tokens():
    """All words of the sources, so that a document's can be looked up."""

    words = {plain_name(path) for path in C}

    for path, text in FILES.items():
        if not path.endswith(".md") and path != "CHANGES":
            words |= set(re.findall(r"\w+", text))

    return words


NAME = re.compile(r"\b((?:ngx_http_payment|ngx_payment|payment|outbox"
                  r"|resilience4j)_[a-z0-9_]*[a-z0-9])\b(?![*_])")


def test_names_in_documents_exist():
    known = tokens() | set(series()) | set(metrics())

    wrong = [f"{path}: {name}" for path, text in sorted(DOCS.items())
             for name in sorted(set(NAME.findall(text)))
             if name not in known]
    assert not wrong, "\n".join(["nothing is called so:"] + wrong)


FILE = re.compile(r"`([\w./-]+\.(?:c|h|py|t|sh|conf|sql|json|yml|md|pm|js"
                  r"|txt|java))`")


def test_files_in_documents_exist():
    names = {path.rpartition("/")[2] for path in FILES}

    for path, text in sorted(DOCS.items()):
        for name in FILE.findall(text):
            if name.startswith(("/", "run/", "build/")):
                continue                # of a system, or made by a command

            assert (ROOT / name).exists() or name in names \
                or (ROOT / path).parent.joinpath(name).exists(), (
                    f"{path}: there is no {name}")


TEST = re.compile(r"^\s*(?:def |static void\n)(test_\w+)\(", re.M)


def test_tests_in_documents_exist():
    """What holds a promise by a test's name, and by its file's where both are
    said: `test_x.py`: `test_a`, `test_b`;"""

    tests = {path: set(TEST.findall(text)) for path, text in FILES.items()
             if path.startswith("t/")}
    known = set().union(*tests.values())
    assert len(known) > 500

    for path, text in sorted(DOCS.items()):
        for name in re.findall(r"`(test_\w+)`", text):
            assert name in known, f"{path}: there is no {name}()"

        for file, names in re.findall(
                r"`([\w/]*test_\w+\.(?:py|c))`: ((?:`test_\w+`(?:, )?)+)", text):
            found = [held for where, held in tests.items()
                     if where.endswith("/" + file) or where == file]

            assert len(found) == 1, f"{path}: {file}"
            wrong = set(quoted(names)) - found[0]
            assert not wrong, f"{path}: {file} has no {wrong}"


def test_the_tree_has_every_file():
    """docs/development.md, The tree: each file stands in its folder."""

    text = section(DOCS["docs/development.md"], "The tree")
    text = re.search(r"^```\n(.*?)^```", text, re.S | re.M).group(1)
    told, place = collections.defaultdict(set), []

    for line in text.split("\n"):
        indent, names = re.match(r"( *)(.*?)(?:  +\S.*)?$", line).groups()
        depth = len(indent) // 2

        if names.endswith("/"):
            place = place[:depth] + [names.rstrip("/")]
        elif indent:
            told["/".join(place)] |= set(re.split(r",\s*", names))

    there = collections.defaultdict(set)

    for path in C:
        there[path.rpartition("/")[0]].add(plain_name(path))

    for folder in there:
        assert told[folder] == there[folder], (
            f"docs/development.md, The tree: {folder}/")


def slug(heading):
    """As GitHub makes an anchor of a heading."""

    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_lead_somewhere():
    for path, text in sorted(DOCS.items()):
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if "://" in target or path.startswith(".github/"):
                continue

            name, _, anchor = target.partition("#")
            where = os.path.normpath(os.path.join(os.path.dirname(path),
                                                  name)) if name else path
            assert (ROOT / where).exists(), f"{path}: there is no {name}"

            if anchor:
                anchors = {slug(heading) for heading in re.findall(
                    r"^#+ (.*)$", FILES[where], re.M)}
                assert anchor in anchors, f"{path}: no heading #{anchor}"


def test_make_targets_exist():
    """In the documents and in what the CI runs."""

    targets = set(re.findall(r"^([\w-]+):", FILES["Makefile"], re.M))
    ci = ".github/workflows/ci.yml"

    for path, text in sorted(DOCS.items()) + [(ci, FILES[ci])]:
        for target in re.findall(r"(?:`|run:.*?)make ([a-z][\w-]*)", text):
            assert target in targets, f"{path}: there is no make {target}"


def test_gitattributes_name_files():
    for line in FILES[".gitattributes"].split("\n"):
        if line and not line.startswith("#"):
            pattern = line.split()[0]
            assert list(ROOT.glob(pattern)) or list(ROOT.glob(
                "**/" + pattern)), f".gitattributes: nothing is {pattern}"
