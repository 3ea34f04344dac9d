"""The runbook's faults, each tried: a real Prometheus scrapes a real nginx, and
of the shipped alerts those fire that are meant for the fault, and no others.

Time runs SPEED times as fast: the scrape's interval, each alert's "for" and the
ranges of its expression are so much shorter. Thresholds are as shipped.
"""

import functools
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pytest
import yaml                             # comes with schemathesis

import servers
from client import Client, Load
from freeport import free_port
from kafka_proxy import KafkaProxy
from outbox import (ADMIN, COLUMNS, admin, fill,          # noqa: F401
                    free_lease, helpers, kafka, outbox, start_outbox, topic,
                    wait_empty, wait_leased)
from proxy import is_commit, is_query
from servers import ROOT, wait_for
from test_outbox_gauges import METRICS
from test_outbox_helper import kill_helper
from test_outbox_kafka import PLAIN, narrow, poison               # noqa: F401
from test_spans import collector                                  # noqa: F401
from test_two_of_three import (LOCATION as REPLICA_LOCATION, REPLICA,
                               kill_query, waits)

RULES = [ROOT / 'conf/prometheus/alerts.yml',
         ROOT / 'conf/prometheus/spring.rules.yml']
DASHBOARD = ROOT / 'conf/grafana/ngx_payment.json'

SPEED = 15
SCRAPE_MS = 15000 // SPEED

# seconds: what an operator does may last for an hour; that is not waited for
FOR_SECONDS_MAX = 10

# for how long nothing else may fire, once all that should does
CALM_SECONDS = 4

# how much longer than its rule says an alert may take: the scrapes that find
# the fault and let the rules be evaluated, and a machine that has other work
SCRAPES = 4
BUSY_SECONDS = 10

UNITS = {'s': 1, 'm': 60, 'h': 3600}


def faster(number, unit, most=float('inf')):
    seconds = min(int(number) * UNITS[unit] / SPEED, most)
    return f'{round(seconds * 1000)}ms'


def quick(expression):
    """Its ranges and offsets."""

    return re.sub(r'(\[|\boffset )(\d+)([smh])\b',
                  lambda match: match[1] + faster(*match.groups()[1:]),
                  expression)


def quick_rules(path):
    rules = yaml.safe_load(path.read_text())

    for group in rules['groups']:
        for rule in group['rules']:
            rule['expr'] = quick(rule['expr'])

            if 'for' in rule:
                rule['for'] = faster(*re.fullmatch(
                    r'(\d+)([smh])', rule['for']).groups(), FOR_SECONDS_MAX)

    return rules


def limits():
    """{alert: seconds}: its "for", and the longest of its ranges, which may have
    to be filled."""

    return {rule['alert']: sum(
        max(map(float, re.findall(pattern, text)), default=0) / 1000
        for pattern, text in ((r'(\d+)ms', rule.get('for', '')),
                              (r'\[(\d+)ms\]', rule['expr'])))
            + SCRAPES * SCRAPE_MS / 1000 + BUSY_SECONDS
            for path in RULES for group in quick_rules(path)['groups']
            for rule in group['rules'] if 'alert' in rule}


def dashboard():
    """The expressions of its panels and annotations, with what Grafana fills
    in."""

    def expressions(node):
        for panel in node.get('panels', []):
            yield from (target['expr'] for target in panel.get('targets', []))
            yield from expressions(panel)

    content = json.loads(DASHBOARD.read_text())
    found = [*expressions(content),
             *(one['expr'] for one in content['annotations']['list'])]

    return [re.sub(r'\$\w+', '.*', re.sub(
        r'\[\$__\w+\]', '[1m]', quick(expression))) for expression in found]


class Prometheus:
    def __init__(self, directory):
        self.dir = directory
        self.port = free_port()
        self.process = None
        self.began = time.time()
        self.limits = limits()

        for path in RULES:
            (directory / path.name).write_text(
                yaml.safe_dump(quick_rules(path)))

    def scrape(self, *nodes):
        """Starts it, or has it read anew whom to scrape."""

        (self.dir / 'prometheus.yml').write_text(yaml.safe_dump({
            'global': {'scrape_interval': f'{SCRAPE_MS}ms',
                       'scrape_timeout': f'{SCRAPE_MS}ms',
                       'evaluation_interval': f'{SCRAPE_MS}ms'},
            'rule_files': [path.name for path in RULES],
            'scrape_configs': [{
                'job_name': 'payment', 'metrics_path': '/metrics',
                'static_configs': [{'targets': [
                    f'127.0.0.1:{node.port}' for node in nodes]}]}]}))

        if self.process:
            self.ask('/-/reload', method='POST')
        else:
            self.start()

        wait_for(lambda: len(self.query(
            f'count_over_time(up[1m]) > {5000 // SCRAPE_MS}')) == len(nodes),
            60, f'Prometheus, which has scraped: {self.log.read_text()}')

    @property
    def log(self):
        return self.dir / 'log'

    def start(self):
        subprocess.run([ROOT / 'tools' / 'fetch.sh', 'prometheus'],
                       check=True)

        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(
                [ROOT / 'build' / 'bin' / 'prometheus',
                 f'--config.file={self.dir}/prometheus.yml',
                 f'--storage.tsdb.path={self.dir}/data',
                 f'--web.listen-address=127.0.0.1:{self.port}',
                 '--web.enable-lifecycle', '--log.level=warn'],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        wait_for(self.answers, 60, 'Prometheus')

    def answers(self):
        assert self.process.poll() is None, self.log.read_text()

        try:
            self.ask('/-/ready')
        except OSError:
            return False

        return True

    def close(self):
        """Before it ends, the dashboard is drawn as somebody would see it who
        looks at the fault."""

        if not self.process:
            return

        try:
            for expression in dashboard():
                self.draw(expression)
        finally:
            self.process.terminate()
            self.process.wait(20)

    def ask(self, path, method='GET', **parameters):
        query = urllib.parse.urlencode(parameters)
        request = urllib.request.Request(
            f'http://127.0.0.1:{self.port}{path}?{query}', method=method)

        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 503:
                raise

            raise AssertionError(f'{parameters}: {error.read()}') from None

    def query(self, expression):
        answer = json.loads(self.ask('/api/v1/query', query=expression))
        assert answer['status'] == 'success' and not answer.get('warnings')
        return answer['data']['result']

    def firing(self):
        alerts = json.loads(self.ask('/api/v1/alerts'))['data']['alerts']

        return {alert['labels']['alertname'] for alert in alerts
                if alert['state'] == 'firing'}

    def draw(self, expression):
        """Its graph, since the beginning."""

        answer = json.loads(self.ask(
            '/api/v1/query_range', query=expression, start=self.began,
            end=time.time(), step=SCRAPE_MS / 1000))
        assert answer['status'] == 'success' and not answer.get('warnings')
        return answer['data']['result']

    def shows(self, expression):
        """Whether there is a number in its graph."""

        return any(value != 'NaN' for series in self.draw(expression)
                   for _, value in series['values'])

    def wait_firing(self, names, perhaps=frozenset()):
        """Until these do, which must be within their times; and no other may
        until a while after that, but for those that it depends on the moment of
        the fault."""

        seconds = max((self.limits[name] for name in names), default=0)
        end = time.monotonic() + seconds
        calm = None

        while calm is None or time.monotonic() < calm:
            firing = self.firing()
            others = firing - names - perhaps
            assert not others, f'{others} fire, too'

            if calm is None and names <= firing:
                calm = time.monotonic() + CALM_SECONDS

            assert calm or time.monotonic() < end, \
                f'{names - firing} do not fire within {seconds:.0f} s'
            time.sleep(SCRAPE_MS / 4000)


LOCATIONS = dict(location=METRICS['location'] + ADMIN['location'])


class Rig:
    """A node that publishes, and what watches it."""

    def __init__(self, prometheus, start_outbox, mariadb, database, kafka,
                 topic, journal):
        self.prometheus = prometheus
        self.start_outbox = functools.partial(start_outbox, nginx=LOCATIONS)
        self.mariadb = mariadb
        self.database = database
        self.kafka = kafka
        self.topic = topic
        self.journal = journal
        self.nginx = None
        self.clients = []

    def start(self, **changes):
        self.nginx = self.start_outbox(**changes)
        wait_leased(self.nginx)
        wait_for(lambda: outbox(self.nginx)['kafka_up'], 10, 'Kafka')

        # the first event of a topic is slow
        fill(self.mariadb, self.database, 1)
        wait_empty(self.mariadb, self.database)
        self.prometheus.scrape(self.nginx)

        # what was so at the start may have begun to count
        wait_for(lambda: not self.prometheus.firing(), 30, 'no alert')

    def admin(self, action):
        admin(self.nginx, action)


@pytest.fixture
def prometheus(tmp_path):
    made = Prometheus(tmp_path)
    yield made
    made.close()


@pytest.fixture
def rig(prometheus, start_outbox, mariadb, database, kafka,       # noqa: F811
        topic, journal):                                          # noqa: F811
    return Rig(prometheus, start_outbox, mariadb, database, kafka, topic,
               journal)


# --- the faults

def reloads(rig):
    """Not a fault: each reload has a helper of its own."""

    for _ in range(4):
        rig.nginx.reload()


def nginx_is_stopped(rig):
    rig.nginx.stop()


def the_database_is_stopped(rig):
    rig.mariadb.stop()


def the_database_is_read_only(rig):
    """As a primary that was demoted, and whose successor is not known here."""

    rig.mariadb.query('SET GLOBAL read_only = 1')


def a_connection_is_not_to_be_had(rig):
    """max_connections has room for the workers and one of the helper's two."""

    # a server takes no limit below 10
    rig.clients = [rig.mariadb.session(rig.database) for _ in range(10)]
    [[_, connected]] = rig.mariadb.query(
        "SHOW STATUS LIKE 'Threads_connected'")

    # but for the one that asks, and one
    rig.mariadb.query(f'SET GLOBAL max_connections = {int(connected) - 2}')
    kill_helper(rig.nginx)


def kafka_is_stopped(rig):
    rig.kafka.stop()


def events_do_not_reach_kafka(rig):
    """As if for two minutes."""

    rig.kafka.stop()
    rig.mariadb.query(
        f"INSERT INTO outbox_event ({COLUMNS}) VALUES ('payment',"
        " UUID(), 'authorized', 'm', 1,"
        " UTC_TIMESTAMP(6) - INTERVAL 2 MINUTE, NULL, '{}')", rig.database)


def the_helper_dies(rig):
    for _ in range(4):
        wait_for(lambda: outbox(rig.nginx)['pid'] in helpers(rig.nginx)
                 and outbox(rig.nginx)['kafka_up'], 10,
                 'a helper that has begun')

        # it takes some seconds until a helper that has nothing to send says
        # that it reaches Kafka, and in a row they would be minutes
        now = time.time()
        wait_for(lambda: rig.prometheus.query(
            f'timestamp(payment_outbox_kafka_up == 1) > {now}'), 20,
            'a scrape that found Kafka')
        kill_helper(rig.nginx)


def the_breaker_is_forced_open(rig):
    rig.admin('breaker-force-open')


def the_table_of_dead_letters_is_gone(rig):
    rig.mariadb.query('RENAME TABLE outbox_dead TO elsewhere', rig.database)


def publishing_is_paused(rig):
    rig.admin('pause')


def the_node_is_drained(rig):
    rig.admin('drain')


def another_database_has_the_name(rig):
    """Two nodes say that they publish one shard: each has a database."""

    other = rig.mariadb.new_database()
    free_lease(rig.mariadb, other)
    second = rig.start_outbox(servers.Shard(
        'main', other, f'unix:{rig.mariadb.socket}'))
    wait_leased(second)
    rig.prometheus.scrape(rig.nginx, second)


FAULTS = {
    reloads: set(),
    nginx_is_stopped: {'PaymentDown'},

    # whose lease is in it
    the_database_is_stopped: {'PaymentDatabaseAway', 'PaymentLeaseNobody'},
    the_database_is_read_only: {'PaymentDatabaseAway', 'PaymentLeaseNobody'},
    a_connection_is_not_to_be_had: {'PaymentLeaseNobody'},
    kafka_is_stopped: {'PaymentKafkaAway'},
    events_do_not_reach_kafka: {'PaymentKafkaAway', 'PaymentEventsLate'},
    the_helper_dies: {'PaymentOutboxRestarts'},
    the_breaker_is_forced_open: {'PaymentBreakerOpen'},
    publishing_is_paused: {'PaymentPaused'},
    the_node_is_drained: {'PaymentDrained'},
    the_table_of_dead_letters_is_gone: {'PaymentOutboxErrors'},
    another_database_has_the_name: {'PaymentLeaseTwice'},
}


# what ends it, as the runbook has it
CURES = {
    the_database_is_stopped: lambda rig: rig.mariadb.start(),
    the_database_is_read_only: lambda rig: rig.mariadb.query(
        'SET GLOBAL read_only = 0'),
    # on a connection that is there: for a new one it is a race with the helper
    a_connection_is_not_to_be_had: lambda rig: rig.clients[0].query(
        'SET GLOBAL max_connections = 300'),
    kafka_is_stopped: lambda rig: rig.kafka.start(),
    the_breaker_is_forced_open: lambda rig: rig.admin('breaker-reset'),
    publishing_is_paused: lambda rig: rig.admin('resume'),
    the_node_is_drained: lambda rig: rig.admin('undrain'),
    the_table_of_dead_letters_is_gone: lambda rig: rig.mariadb.query(
        'RENAME TABLE elsewhere TO outbox_dead', rig.database),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize('fault', FAULTS, ids=lambda fault: fault.__name__)
def test_fault(rig, fault):
    rig.start()
    fault(rig)
    rig.prometheus.wait_firing(FAULTS[fault])

    if fault in CURES:
        CURES[fault](rig)
        wait_for(lambda: not rig.prometheus.firing(), 60,
                 'the end of all alerts')


@pytest.mark.timeout(240)
def test_events_cannot_be_read(rig, proxy):
    """The helper has its connections and the lease, and each read fails."""

    rig.start(shard=servers.Shard('main', rig.database, proxy.address))
    proxy.strike(is_query(b'FROM outbox_event WHERE id >'), 'error',
                 times=10 ** 9, error=1054)
    rig.prometheus.wait_firing({'PaymentLeaseNobody', 'PaymentOutboxErrors'})
    proxy.calm()
    wait_for(lambda: not rig.prometheus.firing(), 60, 'the end of all alerts')


@pytest.mark.timeout(240)
def test_payments_are_refused(rig):
    """The database's stop, when there are payments."""

    rig.start()

    with Load(rig.nginx.port, rig.journal, clients=4, pause=0.02) as load:
        load.wait(100)
        rig.mariadb.stop()
        rig.prometheus.wait_firing({
            'PaymentDatabaseAway', 'PaymentLeaseNobody', 'PaymentShedding',
            'PaymentErrorsBurnFast', 'PaymentErrorsBurn'},
            perhaps={'PaymentOutcomeUnknown'})      # a COMMIT was cut off


@pytest.mark.timeout(240)
def test_commits_are_slow(rig, proxy):
    proxy.strike(is_commit, 'delay', times=10 ** 9, seconds=0.15)
    rig.start(shard=servers.Shard('main', rig.database, proxy.address))

    with Load(rig.nginx.port, rig.journal, clients=4) as load:
        load.wait(20)
        rig.prometheus.wait_firing({'PaymentSlow'})


@pytest.mark.timeout(240)
def test_a_commit_without_an_answer(rig, proxy):
    """And the database is away until the client has been told so."""

    rig.start(shard=servers.Shard('main', rig.database, proxy.address),
              nginx=dict(location='payment_timeout 1s;'
                                  + LOCATIONS['location']))
    ask = Client(rig.nginx.port, rig.journal)
    assert ask.authorize().ok

    strike = proxy.strike(is_commit, 'after')
    answer = ask.later([ask.call()])
    strike.wait()
    proxy.refuse()
    [call] = answer.result(10)
    assert call.code == 'OUTCOME_UNKNOWN'
    proxy.accept()

    rig.prometheus.wait_firing(
        {'PaymentOutcomeUnknown', 'PaymentErrorsBurnFast',
         'PaymentErrorsBurn'},
        perhaps={'PaymentDatabaseAway', 'PaymentLeaseNobody'})


@pytest.mark.timeout(240)
def test_kafka_is_far_away(rig):
    """Each event needs more than a second. Some need two, which is when the
    breaker would open."""

    proxy = KafkaProxy(rig.kafka, delay=0.6)

    try:
        rig.start(kafka_brokers=proxy.address, breaker='off')

        with Load(rig.nginx.port, rig.journal, clients=4, pause=0.05) as load:
            load.wait(20)
            rig.prometheus.wait_firing({'PaymentPublishSlow'})
    finally:
        proxy.close()


@pytest.mark.timeout(240)
def test_more_events_come_than_go(rig):
    """Events are there already, and others come."""

    rig.start()
    rig.kafka.stop()
    fill(rig.mariadb, rig.database, 12000)
    over = threading.Event()

    def come():
        while not over.wait(SCRAPE_MS / 4000):
            fill(rig.mariadb, rig.database, 20)

    thread = threading.Thread(target=come)
    thread.start()

    try:
        # what waits for Kafka too long has failed, and opens the breaker
        rig.prometheus.wait_firing(
            {'PaymentKafkaAway', 'PaymentBacklog'},
            perhaps={'PaymentBreakerOpen', 'PaymentEventsLate'})
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(240)
def test_the_master_is_killed(rig):
    """The helper ends, and nobody starts it again; payments go on."""

    rig.start()
    pids = rig.nginx.all_pids()

    try:
        rig.nginx.process.kill()
        rig.nginx.process.wait(5)
        rig.prometheus.wait_firing({'PaymentOutboxDown',
                                    'PaymentLeaseNobody'})
        assert Client(rig.nginx.port, rig.journal).authorize().ok
    finally:
        for pid in pids:
            servers._kill(pid)

        rig.nginx.process = None


@pytest.mark.timeout(240)
def test_a_switch_that_was_not_finished(rig):
    """The payments were taken from one server, and given to none: what
    payment_freeze() does. Clients go on."""

    rig.start()

    with Load(rig.nginx.port, rig.journal, clients=4, pause=0.02) as load:
        load.wait(100)
        rig.mariadb.query('UPDATE payment_topology SET epoch = epoch + 1,'
                          ' server_id = 0', rig.database)

        # a connection that no client's request comes to stays open
        rig.prometheus.wait_firing(
            {'PaymentPrimaryUnknown', 'PaymentLeaseNobody', 'PaymentShedding',
             'PaymentErrorsBurnFast', 'PaymentErrorsBurn'},
            perhaps={'PaymentDatabaseAway'})


# what the voters' tests ask for, and a place to be scraped at
REPLICA_NODE = dict(location=REPLICA_LOCATION + METRICS['location'], **REPLICA)


@pytest.mark.timeout(240)
def test_a_wait_for_a_replica_is_ended(prometheus, voters, start_node):
    """The primary answers a COMMIT that no replica has."""

    primary, *others = voters
    node = start_node(**REPLICA_NODE)
    node.first()
    prometheus.scrape(node.nginx)

    for voter in others:
        voter.query('STOP SLAVE')

    answer = node.ask.later([node.ask.call()])
    kill_query(primary, wait_for(lambda: waits(primary), 10,
                                 'a COMMIT that waits'))

    for voter in others:
        voter.query('START SLAVE')

    assert answer.result(20)

    # the client may have been told that nothing is known, or to come again
    prometheus.wait_firing(
        {'PaymentUnconfirmed'},
        perhaps={'PaymentVoters', 'PaymentErrorsBurnFast', 'PaymentErrorsBurn',
                 'PaymentOutcomeUnknown', 'PaymentShedding'})


@pytest.mark.timeout(240)
def test_a_node_that_hears_of_no_promotion(prometheus, voters, start_node):
    """It is cut off together with the old primary, and goes on there, as a node
    with durability local does."""

    old, *others = voters
    old.set(rpl_semi_sync_master_enabled=0)
    near, far = (start_node(location=METRICS['location']) for _ in range(2))
    near.first()
    far.first()
    prometheus.scrape(near.nginx, far.nginx)

    old.front.refuse()
    far.ways[old].refuse()

    for voter in others:
        near.ways[voter].refuse()
        near.ways[voter].cut()

    voters.promote(*others)
    far.first()

    # until it has found the new one, the other node refuses
    prometheus.wait_firing(
        {'PaymentEpochsDiffer'},
        perhaps={'PaymentPrimaryUnknown', 'PaymentDatabaseAway',
                 'PaymentShedding', 'PaymentErrorsBurnFast',
                 'PaymentErrorsBurn'})


@pytest.mark.timeout(240)
def test_claims_that_go_to_and_fro(prometheus, voters, start_node):
    """Somebody freezes the payments, and the manager claims them again. One
    switch is no reason for an alert."""

    node = start_node(location='payment_timeout 15s;' + METRICS['location'],
                      http='payment_queue_timeout 8s;', **REPLICA)
    node.first()
    prometheus.scrape(node.nginx)

    def freeze():
        """Until a scrape has seen that a transaction was refused."""

        had = node.nginx.status()['shards'][0]['refused']
        voters.primary.query("CALL payment_freeze('the test')", 'payment')
        now = wait_for(lambda: (count := node.nginx.status()['shards'][0][
            'refused']) > had and count, 20, 'a transaction that is refused')
        voters.claim(voters.primary)
        wait_for(lambda: prometheus.query(
            f'payment_shard_refused_total >= {now}'), 20, 'a scrape')
        load.wait(20)

    with Load(node.nginx.port, node.ask.journal, clients=4,
              pause=0.02) as load:
        load.wait(20)
        freeze()
        prometheus.wait_firing(set())

        for _ in range(3):
            freeze()

        # who came while they were frozen waited
        prometheus.wait_firing({'PaymentPrimaryDisputed'},
                               perhaps={'PaymentSlow'})


@pytest.mark.timeout(240)
def test_a_promotion_that_lost_payments(prometheus, voters, start_node):
    """A replica stops; and after the primary's death just that one is
    promoted."""

    primary, second, third = voters
    node = start_node(**REPLICA_NODE)
    node.first()
    prometheus.scrape(node.nginx)

    third.query('STOP SLAVE')
    prometheus.wait_firing({'PaymentVoters'})

    assert node.ask.authorize().ok
    second.query('STOP SLAVE')
    primary.kill()
    voters.primary = third
    third.query('RESET SLAVE ALL')
    voters.open(third)
    fourth, = voters.add()
    fourth.follow(third)

    # which has one voter, and no payment is taken; one was, when there was only
    # one replica that could confirm it
    prometheus.wait_firing(
        {'PaymentLacking', 'PaymentVoters'},
        perhaps={'PaymentDatabaseAway', 'PaymentPrimaryUnknown',
                 'PaymentSlow'})


@pytest.mark.timeout(240)
def test_rows_that_stay(rig, narrow):                             # noqa: F811
    """An event that Kafka refuses, and an authorization that somebody holds
    beyond its time: both wait for an operator."""

    rig.start(**PLAIN, retry_interval='200ms', max_retries='2',
              nginx=dict(location='payment_authorization_lifetime 1h;'
                                  + LOCATIONS['location']))
    poison(rig.mariadb, rig.database)
    rig.prometheus.wait_firing({'PaymentDeadLetters'})

    with rig.mariadb.admin(rig.database) as db:
        assert Client(rig.nginx.port, rig.journal).authorize().ok
        overdue = 'SET expires_at = expires_at - INTERVAL 2 HOUR'
        db.execute(f'UPDATE payment {overdue}')
        db.execute('START TRANSACTION')
        db.execute('SELECT 1 FROM payment FOR UPDATE')
        rig.mariadb.query(f'UPDATE payment_expiry {overdue}', rig.database)
        rig.prometheus.wait_firing({'PaymentDeadLetters',
                                    'PaymentExpiryLate'})


@pytest.mark.timeout(240)
def test_nobody_has_the_lease(rig):
    """Somebody who has gone had it for an hour."""

    rig.mariadb.query(
        'INSERT INTO outbox_lease (name, lock_until, locked_at, locked_by,'
        " epoch, owner_uuid) VALUES ('payment-outbox',"
        ' UTC_TIMESTAMP(3) + INTERVAL 1 HOUR, UTC_TIMESTAMP(3), \'gone\', 1,'
        ' UUID())', rig.database)
    rig.prometheus.scrape(rig.start_outbox())
    rig.prometheus.wait_firing({'PaymentLeaseNobody'})


@pytest.mark.timeout(240)
def test_every_expression_is_evaluated(rig, collector):           # noqa: F811
    """Of the dashboard, on what an nginx at work gives; the rules' own are, by
    Prometheus."""

    collector.start()
    rig.start(trace_exporter=collector.url)
    rig.nginx.reload()

    with Load(rig.nginx.port, rig.journal, clients=4, changes=True) as load:
        load.wait(200)

    assert Client(rig.nginx.port, rig.journal).change(
        'capture', str(uuid.uuid4())).status == 404

    found = dashboard()
    assert len(found) > 40

    # each has something to show, once what was done has been scraped
    for expression in found:
        wait_for(functools.partial(rig.prometheus.shows, expression), 20,
                 f'what {expression} shows')

    groups = json.loads(rig.prometheus.ask('/api/v1/rules'))['data']['groups']
    assert {group['name'] for group in groups} == {
        group['name'] for path in RULES
        for group in quick_rules(path)['groups']}

    wait_for(lambda: all(
        rule['health'] != 'unknown' for group in json.loads(
            rig.prometheus.ask('/api/v1/rules'))['data']['groups']
        for rule in group['rules']), 30, 'rules that were evaluated')

    for group in json.loads(
            rig.prometheus.ask('/api/v1/rules'))['data']['groups']:
        for rule in group['rules']:
            assert rule['health'] == 'ok', rule
