"""Each alert fires for what it is meant for, in time, and for nothing near it.

promtool plays series to the shipped rules.  A case is what a scrape finds every
15 s, when to look, and which alerts fire by then: these and no other.
"""

import ast
import collections
import json
import pathlib
import re
import subprocess

import pytest
import yaml                             # comes with schemathesis

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "conf/prometheus/alerts.yml"
SPRING = ROOT / "conf/prometheus/spring.rules.yml"
RUNBOOK = ROOT / "docs/runbook.md"
FAULTS = ROOT / "t/fault/test_runbook.py"

ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"]
          for rule in group["rules"] if "alert" in rule]
NAMES = {rule["alert"] for rule in ALERTS}

NODE = 'instance="a",job="payment"'
SHARD = NODE + ',shard="main"'
OTHER = SHARD.replace('"a"', '"b"')


def requests(good, bad, since=0):
    """So many a scrape, for as long as the longest window; bad ones since so
    many scrapes."""

    name = "payment_requests_total{" + NODE + ',operation="authorize",'

    return {name + 'outcome="OK",status="200"}': f"0+{good}x1500",
            name + 'outcome="SERVICE_UNAVAILABLE",status="503"}':
                f"0x{since} 0+{bad}x1500"}


def buckets(metric, slow, labels=""):
    """A scrape's observations: 100 of 50 ms, and some of nearly 5 s."""

    name = f"{metric}_bucket{{{NODE}{labels},"

    return {name + 'le="0.1"}': "0+100x100", name + 'le="0.25"}': "0+100x100",
            name + 'le="5.0"}': f"0+{100 + slow}x100",
            name + 'le="+Inf"}': f"0+{100 + slow}x100"}


def once_slow(metric):
    """Observations of 50 ms, and of nearly 5 s in a single scrape."""

    name = f"{metric}_bucket{{{NODE},"

    return {name + 'le="0.1"}': "0+100x100",
            name + 'le="5.0"}': "0+100x20 2150+100x80",
            name + 'le="+Inf"}': "0+100x20 2150+100x80"}


def gauge(name, values, labels=NODE):
    return {f"{name}{{{labels}}}": values}


def breaker(**states):
    """What is said of each of its states; it is in none of the others."""

    return {f'resilience4j_circuitbreaker_state{{{NODE},'
            f'name="kafka-publisher",state="{one}"}}':
            states.get(one, "0x100")
            for one in ("closed", "open", "half_open", "disabled",
                        "forced_open")}


# alert: what happens, when it is to fire, and which others fire with it

FIRES = {
    # three minutes in which every third fails, after six good hours
    "PaymentErrorsBurnFast": (requests(100, 50, 1440), "6h3m", set()),
    "PaymentErrorsBurn": (requests(992, 8), "6h", set()),
    "PaymentDown": ({f"up{{{NODE}}}": "1x4 0x20"}, "3m", set()),
    "PaymentDatabaseAway": (
        {**gauge("payment_shard_usable", "1x4 0x80", SHARD),
         **gauge("payment_outbox_errors_total", "3x4 3+1x80", SHARD)}, "16m",
        set()),
    "PaymentOutcomeUnknown": (
        gauge("payment_shard_unknown_total", "0x10 1x90", SHARD), "4m",
        set()),
    "PaymentSlow": (buckets("payment_request_duration_seconds", 5,
                            ',operation="refund"'), "12m", set()),
    "PaymentShedding": (
        gauge("payment_shard_shed_total", "0+10x100", SHARD), "5m", set()),
    "PaymentDrained": (gauge("payment_draining", "1x400"), "62m", set()),
    "PaymentVoters": (
        {**gauge("payment_shard_voters", "2x4 3x40", SHARD),
         **gauge("payment_shard_durability_replica", "1x44", SHARD)}, "3m",
        set()),
    "PaymentPrimaryUnknown": (
        gauge("payment_shard_primary_known", "1x4 0x40", SHARD), "3m", set()),
    "PaymentEpochsDiffer": (
        {**gauge("payment_shard_topology_epoch", "3x4 4x40", SHARD),
         **gauge("payment_shard_topology_epoch", "3x44", OTHER)}, "3m",
        set()),
    "PaymentPrimaryDisputed": (
        gauge("payment_shard_refused_total", "0x4 2x8 5x8 6x40", SHARD), "8m",
        set()),
    "PaymentLacking": (
        gauge("payment_shard_lacking", "0x4 1x40", SHARD), "2m", set()),
    "PaymentUnconfirmed": (
        gauge("payment_shard_unconfirmed_total", "0x10 1x90", SHARD), "4m",
        set()),

    # Kafka goes away at 1 min, with few payments: in 3 minutes
    "PaymentEventsLate": (
        {**gauge("payment_outbox_oldest_event_age_seconds", "0x4 0+15x40",
                 SHARD), **gauge("payment_outbox_paused", "0x50")},
        "4m", set()),
    "PaymentBacklog": (
        gauge("payment_outbox_backlog", "0+2000x40", SHARD), "6m", set()),
    "PaymentKafkaAway": (
        {**gauge("payment_outbox_kafka_up", "1x4 0x40"),
         **gauge("payment_outbox_up", "1x50")}, "4m", set()),
    "PaymentOutboxDown": (
        {**gauge("payment_outbox_kafka_up", "1x4 0x40"),
         **gauge("payment_outbox_up", "1x4 0x40")}, "3m", set()),
    "PaymentOutboxRestarts": (
        {**gauge("payment_outbox_starts_total", "1x10 2x4 3x4 4x4 5x80"),
         **gauge("payment_configurations_total", "1x110")}, "10m", set()),
    "PaymentLeaseNobody": (
        {**gauge("payment_outbox_lease_held", "1x4 0x40", SHARD),
         **gauge("payment_outbox_lease_held", "0x40", OTHER)}, "3m", set()),
    "PaymentOutboxErrors": (
        {**gauge("payment_outbox_errors_total", "3x4 3+1x80", SHARD),
         **gauge("payment_shard_usable", "1x90", SHARD)}, "16m", set()),
    "PaymentLeaseTwice": (
        {**gauge("payment_outbox_lease_held", "1x40", SHARD),
         **gauge("payment_outbox_lease_held", "0x4 1x40",
                 OTHER)}, "3m", set()),
    "PaymentPublishSlow": (
        buckets("payment_commit_to_ack_duration_seconds", 5), "12m", set()),
    "PaymentBreakerOpen": (breaker(half_open="1x100"), "3m", set()),
    "PaymentPaused": (
        {**gauge("payment_outbox_paused", "1x80"),
         **gauge("payment_outbox_oldest_event_age_seconds", "0+15x80",
                 SHARD)}, "16m", set()),

    # until somebody does something
    "PaymentDeadLetters": (
        gauge("payment_outbox_dead_letters", "0x4 1x1400", SHARD), "5h",
        set()),

    # nothing is swept from 1 min on
    "PaymentExpiryLate": (
        {**gauge("payment_outbox_overdue_age_seconds", "0x4 0+15x40", SHARD),
         **gauge("payment_outbox_overdue_age_seconds", "0x50",
                 OTHER)}, "5m", set()),
}

# when the first look is at those of which somebody has to hear soon

SOON = {
    # a minute after the database has died
    "PaymentDatabaseAway": "2m",

    # what comes at 1 min 15 s, and lasts for a minute
    "PaymentDown": "2m15s",
    "PaymentVoters": "2m15s",
    "PaymentPrimaryUnknown": "2m15s",
    "PaymentEpochsDiffer": "2m15s",
    "PaymentOutboxDown": "2m15s",
    "PaymentLeaseNobody": "2m15s",
    "PaymentLeaseTwice": "2m15s",
    "PaymentDeadLetters": "2m15s",
    "PaymentBreakerOpen": "1m",

    # at once
    "PaymentLacking": "1m15s",
    "PaymentOutcomeUnknown": "2m45s",
    "PaymentUnconfirmed": "2m45s",
}

# alert: what comes near to it, and until when it is not to fire for that

SILENT = {
    # a minute and a half in which every third fails: 1.23 % of the hour's; and
    # 0.5 % for ever, which is less than spends a month's in five days
    "PaymentErrorsBurnFast": (requests(100, 50, 1440), "6h1m30s"),
    "PaymentErrorsBurn": (requests(995, 5), "6h"),
    "PaymentDown": ({f"up{{{NODE}}}": "1x4 0x2 1x20"}, "3m"),

    # connections that are made anew
    "PaymentDatabaseAway": (
        gauge("payment_shard_usable", "1x4 0x1 1x20", SHARD), "4m"),

    # nginx is started anew, and was not at 0 before
    "PaymentOutcomeUnknown": (
        gauge("payment_shard_unknown_total", "3x10 0x90", SHARD), "10m"),

    # 1 of 101
    "PaymentSlow": (buckets("payment_request_duration_seconds", 1,
                            ',operation="refund"'), "12m"),
    "PaymentShedding": (
        gauge("payment_shard_shed_total", "0x4 10x100", SHARD), "5m"),
    "PaymentDrained": (gauge("payment_draining", "1x230 0x300"), "62m"),

    # a replica that is started anew
    "PaymentVoters": (
        {**gauge("payment_shard_voters", "2x4 1x2 2x40", SHARD),
         **gauge("payment_shard_durability_replica", "1x50", SHARD)}, "5m"),
    "PaymentPrimaryUnknown": (
        gauge("payment_shard_primary_known", "1x4 0x2 1x40", SHARD), "3m"),

    # a promotion that the other node hears of three scrapes later
    "PaymentEpochsDiffer": (
        {**gauge("payment_shard_topology_epoch", "3x4 4x40", SHARD),
         **gauge("payment_shard_topology_epoch", "3x7 4x40", OTHER)}, "3m"),

    # a switch that two scrapes see, and a day's others
    "PaymentPrimaryDisputed": (
        gauge("payment_shard_refused_total", "7x4 9x0 12x60", SHARD), "6m"),

    # a promotion that has lost nothing
    "PaymentLacking": (
        {**gauge("payment_shard_lacking", "0x50", SHARD),
         **gauge("payment_shard_primary_known", "1x4 0x2 1x40", SHARD),
         **gauge("payment_shard_topology_epoch", "3x6 4x40", SHARD),
         **gauge("payment_shard_voters", "2x4 0x2 2x40", SHARD),
         **gauge("payment_shard_durability_replica", "1x50", SHARD)}, "5m"),

    # nginx is started anew
    "PaymentUnconfirmed": (
        gauge("payment_shard_unconfirmed_total", "5x10 0x90", SHARD), "10m"),
    "PaymentEventsLate": (
        {**gauge("payment_outbox_oldest_event_age_seconds", "0+15x40",
                 SHARD), **gauge("payment_outbox_paused", "1x50")}, "8m"),
    "PaymentBacklog": (
        gauge("payment_outbox_backlog", "90000-2000x40", SHARD), "6m"),
    "PaymentKafkaAway": (
        {**gauge("payment_outbox_kafka_up", "1x4 0x7 1x40"),
         **gauge("payment_outbox_up", "1x50")}, "5m"),
    "PaymentOutboxDown": (gauge("payment_outbox_up", "1x4 0x2 1x40"), "4m"),

    # five reloads
    "PaymentOutboxRestarts": (
        {**gauge("payment_outbox_starts_total", "1x10 2x4 3x4 4x4 5x4 6x80"),
         **gauge("payment_configurations_total",
                 "1x10 2x4 3x4 4x4 5x4 6x80")}, "10m"),

    # handed over
    "PaymentLeaseNobody": (
        {**gauge("payment_outbox_lease_held", "1x4 0x40", SHARD),
         **gauge("payment_outbox_lease_held", "0x6 1x40",
                 OTHER)}, "4m"),
    # a fail-over
    "PaymentOutboxErrors": (
        {**gauge("payment_outbox_errors_total", "3x4 40x80", SHARD),
         **gauge("payment_shard_usable", "1x90", SHARD)}, "16m"),
    "PaymentLeaseTwice": (
        {**gauge("payment_outbox_lease_held", "1x6 0x40", SHARD),
         **gauge("payment_outbox_lease_held", "0x4 1x40",
                 OTHER)}, "4m"),
    "PaymentPublishSlow": (
        buckets("payment_commit_to_ack_duration_seconds", 1), "12m"),

    # it opens, tries, and closes within a minute
    "PaymentBreakerOpen": (
        breaker(closed="1x4 0x3 1x90", open="0x4 1x1 0x90",
                half_open="0x6 1x1 0x90"), "3m"),
    "PaymentPaused": (gauge("payment_outbox_paused", "1x58 0x40"), "16m"),

    # they are replayed
    "PaymentDeadLetters": (
        gauge("payment_outbox_dead_letters", "0x4 5x2 0x40", SHARD), "8m"),

    # some seconds all the time, and once a minute and a half too many at once
    "PaymentExpiryLate": (
        gauge("payment_outbox_overdue_age_seconds",
              "2x20 15+15x7 2x40", SHARD), "9m"),
}


# the same of what is over before it counts, where nothing of the above is

BRIEF = {
    "PaymentSlow": (once_slow("payment_request_duration_seconds"), "20m"),
    "PaymentPublishSlow": (
        once_slow("payment_commit_to_ack_duration_seconds"), "20m"),
    "PaymentEventsLate": (
        {**gauge("payment_outbox_oldest_event_age_seconds",
                 "0x4 70+15x2 0x40", SHARD),
         **gauge("payment_outbox_paused", "0x50")}, "8m"),
    "PaymentBacklog": (
        gauge("payment_outbox_backlog", "0x10 12000+2000x4 0x40", SHARD),
        "8m"),
}


def promtool(tmp_path, rules, series, at, expression, samples):
    test = {"rule_files": [str(rules)], "evaluation_interval": "15s",
            "tests": [{
                "interval": "15s",
                "input_series": [{"series": name, "values": values}
                                 for name, values in series.items()],
                "promql_expr_test": [{
                    "expr": expression, "eval_time": at,
                    "exp_samples": samples}]}]}
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(test))

    program = ROOT / "build/bin/promtool"
    done = subprocess.run([program, "test", "rules", file],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def fire(tmp_path, series, at, names, what='ALERTS{alertstate="firing"}',
         rules=RULES):
    """All that is played is scraped."""

    series = {f"up{{{NODE}}}": "1x1600", **series}

    promtool(tmp_path, rules, series, at, f"count by (alertname) ({what})",
             [{"labels": f'{{alertname="{name}"}}', "value": 1}
              for name in sorted(names)])


def test_every_alert_has_its_cases():
    assert set(FIRES) == set(SILENT) == NAMES


@pytest.mark.parametrize("name", sorted(FIRES))
def test_it_fires(tmp_path, name):
    series, at, others = FIRES[name]
    fire(tmp_path, series, at, {name} | others)


@pytest.mark.parametrize("name", sorted(SOON))
def test_it_fires_soon(tmp_path, name):
    series, _, _ = FIRES[name]
    fire(tmp_path, series, SOON[name], {name})


def silent(tmp_path, series, at, rules=RULES):
    """At no time: what comes near is over when that is looked at."""

    fire(tmp_path, series, at, set(),
         f'max_over_time(ALERTS{{alertstate="firing"}}[{at}])', rules)


@pytest.mark.parametrize("name", sorted(SILENT))
def test_it_is_silent(tmp_path, name):
    silent(tmp_path, *SILENT[name])


@pytest.mark.parametrize("name", sorted(
    rule["alert"] for rule in ALERTS if rule.get("for", "0m") != "0m"))
def test_it_waits(tmp_path, name):
    """What it is silent about, and would not be if it did not wait."""

    case = BRIEF.get(name, SILENT[name])
    silent(tmp_path, *case)

    hasty = yaml.safe_load(RULES.read_text())

    for group in hasty["groups"]:
        for rule in group["rules"]:
            if rule.get("alert") == name:
                del rule["for"]

    (tmp_path / "hasty.yml").write_text(yaml.safe_dump(hasty))

    with pytest.raises(AssertionError):
        silent(tmp_path, *case, rules=tmp_path / "hasty.yml")


def test_nothing_is_scraped(tmp_path):
    """No alert can fire then, but this one."""

    fire(tmp_path, {f"up{{{NODE}}}": "1x4"}, "11m", {"PaymentDown"})


# a job that scrapes all pods, of which one is of something else, and is down

PODS = {'up{instance="b",job="kubernetes-pods"}': "0x1600"}
POD = 'instance="a",job="kubernetes-pods"'


@pytest.mark.parametrize("at", ["3m", "5h"])
def test_a_node_is_down_in_a_job_of_another_name(tmp_path, at):
    promtool(tmp_path, RULES, {
        **PODS, f"up{{{POD}}}": "1x4 0x1600",
        f'payment_build_info{{{POD},version="1"}}': "1x4 stale"}, at,
        'ALERTS{alertstate="firing"}',
        [{"labels": 'ALERTS{alertname="PaymentDown",alertstate="firing",'
          f'severity="critical",{POD}}}', "value": 1}])


def test_nodes_are_up_in_a_job_of_another_name(tmp_path):
    """One is replaced, as by an upgrade, and is no target any more."""

    new = POD.replace('"a"', '"c"')
    promtool(tmp_path, RULES, {
        **PODS, f"up{{{POD}}}": "1x40 stale",
        f'payment_build_info{{{POD},version="1"}}': "1x40 stale",
        f"up{{{new}}}": "_x39 1x100",
        f'payment_build_info{{{new},version="2"}}': "_x39 1x100"}, "20m",
        'ALERTS{alertname="PaymentDown"}', [])


def test_no_pod_is_a_node(tmp_path):
    promtool(tmp_path, RULES, {
        **PODS, 'up{instance="c",job="kubernetes-pods"}': "1x40"}, "3m",
        'ALERTS{alertstate="firing"}',
        [{"labels": 'ALERTS{alertname="PaymentDown",alertstate="firing",'
          'severity="critical"}', "value": 1}])


def test_shards_of_one_name_in_two_jobs(tmp_path):
    """Two installations, one of which has no holder: each is by itself."""

    jobs = ['job="one"', 'job="two"']

    def both(name, one, two):
        return {f'{name}{{instance="{job[5]}",{job},shard="main"}}': values
                for job, values in zip(jobs, (one, two))}

    series = {
        **{f'up{{instance="{job[5]}",{job}}}': "1x100" for job in jobs},
        **{f'payment_build_info{{instance="{job[5]}",{job}}}': "1x100"
           for job in jobs},
        **both("payment_shard_topology_epoch", "3x100", "7x100"),
        **both("payment_outbox_backlog", "0+100x100", "20000x100")}
    counted = 'count by (alertname, job) (ALERTS{alertstate="firing"})'

    promtool(tmp_path, RULES, {
        **series, **both("payment_outbox_lease_held", "1x100", "1x100")},
        "12m", counted, [])
    promtool(tmp_path, RULES, {
        **series, **both("payment_outbox_lease_held", "1x100", "0x100")},
        "12m", counted,
        [{"labels": '{alertname="PaymentLeaseNobody",job="two"}', "value": 1}])


def test_a_wrong_expectation_is_noticed(tmp_path):
    series, at, _ = FIRES["PaymentPaused"]

    with pytest.raises(AssertionError):
        fire(tmp_path, series, at, {"PaymentDown"})


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_says_what_whoever_is_woken_needs(rule):
    """How bad, what, and where it is told what to do."""

    assert rule["labels"]["severity"] in ("critical", "warning")

    notes = rule["annotations"]
    assert notes["summary"] and notes["description"].endswith(".")
    assert notes["runbook_url"] == "runbook.md#" + rule["alert"].lower()


def linked(file):
    """What the command of the documentation makes of it, as it stands there."""

    [command] = re.findall(f"^    (sed .* {file})$",
                           (ROOT / "docs/operations.md").read_text(), re.M)
    return subprocess.run(command, shell=True, cwd=ROOT, check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def test_links_to_the_runbook_can_be_made():
    for group in yaml.safe_load(linked("conf/prometheus/alerts.yml"))["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["annotations"]["runbook_url"] == (
                    "https://wiki.example.net/payment/runbook.md#"
                    + rule["alert"].lower())

    made = linked("conf/grafana/ngx_payment.json")
    assert [link["url"] for link in json.loads(made)["links"]] \
        == ["https://wiki.example.net/payment/runbook.md"]
    assert made.count("wiki.example.net") == 1


def test_runbook_has_every_alert():
    """In their order, each with its three answers."""

    parts = re.split(r"^## ", RUNBOOK.read_text(), flags=re.M)[1:]
    found = {part.partition("\n")[0]: part for part in parts}

    assert [name for name in found if name.startswith("Payment")] \
        == [rule["alert"] for rule in ALERTS]

    for rule in ALERTS:
        part = found[rule["alert"]]

        for word in ("**Means**", "**Look at**", "**Do**"):
            assert word in part, f"{rule['alert']}: no {word}"


def named(node):
    """The alerts in a piece of the fault tests' source."""

    return frozenset(one.value for one in ast.walk(node)
                     if isinstance(one, ast.Constant))


def faults():
    """Which alerts each fault of t/fault/test_runbook.py fires, and which it
    may: of its table, and of the tests that say so themselves."""

    for node in ast.walk(ast.parse(FAULTS.read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(
                node.targets[0]) == "FAULTS":
            yield from ((named(value), frozenset())
                        for value in node.value.values)

        elif isinstance(node, ast.Call) and ast.unparse(
                node.func).endswith(".wait_firing"):
            [fired], perhaps = node.args, node.keywords

            if not isinstance(fired, ast.Subscript):
                yield named(fired), frozenset().union(
                    *(named(keyword.value) for keyword in perhaps))


def test_each_alert_is_fired_by_a_fault():
    assert frozenset().union(*(fired for fired, _ in faults())) == NAMES


def test_runbook_has_every_fault():
    """A row for each, with what it fires and what it may fire."""

    [table] = re.findall(r"^\| fault \|.*\n\|---.*\n((?:\|.*\n)+)",
                         RUNBOOK.read_text(), re.M)
    told = collections.Counter(
        tuple(frozenset(re.findall(r"Payment\w+", cell)) for cell in cells)
        for _, *cells in (row.strip("|").split("|")
                          for row in table.splitlines()))

    assert told == collections.Counter(faults())


def test_spring_panels_have_series(tmp_path):
    """What its dashboards ask of http_server_requests_seconds."""

    labels = NODE + ',operation="capture"'
    series = {
        f'payment_requests_total{{{labels},outcome="OK",status="200"}}':
            "0+60x40",
        f'payment_requests_total{{{labels},outcome="NOT_FOUND",'
        'status="404"}': "0+15x40",
        **buckets("payment_request_duration_seconds", 0,
                  ',operation="capture"'),
        f"payment_request_duration_seconds_sum{{{labels}}}": "0+3x40",
    }
    of = 'application="payment",uri="/payments/capture/{paymentId}"'

    for expression, value in (
            (f'sum(rate(http_server_requests_seconds_count{{{of},'
             'method="POST"}[5m]))', 5),
            ('sum(rate(http_server_requests_seconds_count{status=~"4.."}'
             '[5m]))', 1),
            ('sum(rate(http_server_requests_seconds_count{outcome="SUCCESS"}'
             '[5m]))', 4),
            ('sum(rate(http_server_requests_seconds_count'
             '{outcome="CLIENT_ERROR"}[5m]))', 1),
            (f'sum(rate(http_server_requests_seconds_sum{{{of}}}[5m]))', 0.2),
            ('histogram_quantile(0.95, sum by (le) (rate('
             f'http_server_requests_seconds_bucket{{{of}}}[5m])))', 0.095)):
        # Prometheus 3 makes 4.999999999999999 of 5
        promtool(tmp_path, SPRING, series, "8m",
                 f"round({expression}, 0.001)",
                 [{"labels": "{}", "value": value}])
