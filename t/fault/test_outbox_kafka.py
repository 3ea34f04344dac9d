"""Kafka's worst days: no client notices, no event is lost, none overtakes
another of its payment, and few come twice."""

import collections
import contextlib
import os
import re
import signal
import socket
import threading
import time
import urllib.request
import uuid

import pytest
from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType,
    ResourcePatternType, ResourceType)

from client import Load
from conftest import LONG
from kafka_proxy import KafkaProxy
from outbox import (ADMIN, COLUMNS, Kafka, Writer, admin,  # noqa: F401
                    committed, fill, helper, judge, kafka, outbox, pending,
                    relay, settings, start_outbox, topic, wait_empty,
                    wait_leased, waits)
from servers import wait_for

IN_FLIGHT = 15000

# Resilience4j's settings, but for shorter times
QUICK = dict(breaker_slow_call_duration_threshold='1s',
             breaker_wait_duration_in_open_state='2s')


def breaker(nginx):
    return nginx.status()['breaker']


def wait_state(nginx, *states, seconds=20):
    wait_for(lambda: breaker(nginx)['state'] in states, seconds,
             f'breaker {states}')


def transitions(nginx):
    return [line.rpartition('circuit breaker ')[2]
            for line in nginx.lines('circuit breaker ') if ' -> ' in line]


def cpu(pid):
    """Seconds of processor time."""
    with open(f'/proc/{pid}/stat') as stat:
        fields = stat.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def test_away_at_start(start_outbox, mariadb, database, kafka, topic, journal):
    """nginx starts, takes payments, and costs nothing while it waits."""

    kafka.stop()
    nginx = start_outbox(breaker='off')
    wait_leased(nginx)

    with Load(nginx.port, journal, clients=4) as load:
        load.wait(300)

    assert not load.bad()
    time.sleep(2)
    before = cpu(helper(nginx))
    time.sleep(5)
    assert cpu(helper(nginx)) - before < 0.15
    assert not outbox(nginx)['kafka_up']
    last = outbox(nginx)['kafka_last_error']
    assert last['code'] in ('_ALL_BROKERS_DOWN', '_TRANSPORT')
    assert abs(last['at_ms'] / 1000 - time.time()) < 20
    assert len(nginx.lines('[error]')) < 10

    kafka.start()
    wait_empty(mariadb, database, 60)
    judge(kafka.messages(topic), committed(mariadb, database), IN_FLIGHT, 8)


@pytest.mark.asan
@pytest.mark.timeout(300)
def test_killed_under_load(start_outbox, mariadb, database, kafka, topic,
                           journal):
    """Closed, open, half open, closed; and HTTP does not notice."""

    nginx = start_outbox(**QUICK)
    wait_leased(nginx)

    with Load(nginx.port, journal, clients=8, changes=True, pause=0.005) \
            as load:
        load.wait(500)
        kafka.kill()
        wait_state(nginx, 'OPEN', seconds=10)
        load.wait(1500)
        kafka.start()
        wait_state(nginx, 'CLOSED', seconds=30)
        load.wait(500)

    assert not load.bad()
    wait_empty(mariadb, database, 60)
    repeats = judge(kafka.messages(topic), committed(mariadb, database),
                    IN_FLIGHT, 8)

    states = transitions(nginx)
    assert states[0] == 'CLOSED -> OPEN' and \
        states[-1] == 'HALF_OPEN -> CLOSED', states
    print(f'{repeats} repeats, {states}')


@pytest.mark.timeout(1800)
def test_restarted_again_and_again(start_outbox, mariadb, database, kafka,
                                   topic):
    nginx = start_outbox(**QUICK)
    rounds = 20 if LONG else 4

    with Writer(mariadb, database, threads=2, batch=10, changes=0.6,
                pause=0.02) as writer:
        for i in range(rounds):
            writer.wait(300)
            kafka.kill()
            time.sleep(0.3 * (i % 4))
            kafka.start()
            # half of the kills hit a producer that is just coming back
            if i % 2:
                wait_state(nginx, 'CLOSED', seconds=60)

    wait_empty(mariadb, database, 90)
    repeats = judge(kafka.messages(topic), writer.expected,
                    IN_FLIGHT * rounds, 8)
    print(f'{rounds} rounds, {len(writer.expected)} events, {repeats} repeats,'
          f' {outbox(nginx)["producers"]} producers')


def test_slow(start_outbox, mariadb, database, kafka, topic):
    """A broker that doesn't answer opens the breaker in the time of a slow
    call, long before a message times out; and then gets nothing."""

    nginx = start_outbox(**QUICK)
    wait_leased(nginx)
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)

    kafka.freeze()
    frozen = time.monotonic()

    # more than the window, as it is full of good ones
    for _ in range(3):
        expected.update(fill(mariadb, database, 100))

    wait_state(nginx, 'OPEN', seconds=5)
    assert time.monotonic() - frozen < 2.5

    published = relay(nginx)['published']
    assert relay(nginx)['in_flight'] <= 300
    time.sleep(1)
    assert relay(nginx)['published'] == published
    kafka.thaw()

    wait_state(nginx, 'CLOSED', seconds=30)
    wait_empty(mariadb, database, 30)
    judge(kafka.messages(topic), expected, 300, 8)


def test_open_sends_nothing(start_outbox, mariadb, database, kafka, topic):
    nginx = start_outbox(nginx=ADMIN)
    wait_leased(nginx)
    admin(nginx, 'breaker-force-open')
    wait_state(nginx, 'FORCED_OPEN')

    expected = fill(mariadb, database, 500)
    time.sleep(1.5)
    assert kafka.count(topic) == 0

    # it stays forced over a reload
    old = helper(nginx)
    nginx.reload()
    wait_for(lambda: helper(nginx) != old and relay(nginx)['lease_held'], 10,
             'the new helper')
    assert breaker(nginx)['state'] == 'FORCED_OPEN'

    admin(nginx, 'breaker-close')
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    assert breaker(nginx)['state'] == 'CLOSED'

    admin(nginx, 'breaker-disable')
    wait_state(nginx, 'DISABLED')
    admin(nginx, 'breaker-reset')
    wait_state(nginx, 'CLOSED')


def test_off_is_not_disabled(start_outbox, mariadb, database, kafka, topic):
    """What is shown while there is no breaker is not what an operator said:
    switched on by a reload, the breaker begins CLOSED."""

    nginx = start_outbox(breaker='off')
    wait_leased(nginx)
    wait_state(nginx, 'DISABLED')

    (nginx.dir / 'nginx.conf').write_text(
        nginx.config().replace('payment_breaker off', 'payment_breaker on'))
    old = helper(nginx)
    nginx.reload()
    wait_for(lambda: helper(nginx) != old and relay(nginx)['lease_held'], 10,
             'the new helper')

    wait_state(nginx, 'CLOSED', seconds=5)
    expected = fill(mariadb, database, 20)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)


def test_slow_and_then_failed(start_outbox, mariadb, database, kafka, topic):
    """An event that is slow opens the breaker before its report comes; and
    what the report says is what is counted."""

    nginx = start_outbox(kafka_property='message.timeout.ms 3000',
                         breaker_slow_call_duration_threshold='1s',
                         breaker_wait_duration_in_open_state='30s')
    wait_leased(nginx)

    # a producer that has no id yet would hand nothing to Kafka
    fill(mariadb, database, 1)
    wait_empty(mariadb, database)
    kafka.freeze()
    fill(mariadb, database, 60)
    wait_state(nginx, 'OPEN', seconds=3)

    wait_for(lambda: relay(nginx)['in_flight'] == 0, 15, 'the reports')
    seen = wait_for(lambda: breaker(nginx)['buffered_calls'] > 1
                    and breaker(nginx), 5, 'the results')
    assert seen['failed_calls'] == seen['buffered_calls'] - 1, seen
    rate = 100 * seen['failed_calls'] / seen['buffered_calls']
    assert (seen['failure_rate'] == -1
            or abs(seen['failure_rate'] - rate) < 0.02), seen


@pytest.fixture
def proxy(kafka):
    proxy = KafkaProxy(kafka)
    yield proxy
    proxy.close()


def test_a_cut_connection_is_no_outage(start_outbox, mariadb, database, kafka,
                                       topic, proxy):
    """A connection that is reset with events on it, as brokers do hourly to
    renew a login: made again, nothing twice, and the breaker hears nothing."""

    nginx = start_outbox(kafka_brokers=proxy.address)
    wait_leased(nginx)
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)
    accepted = proxy.accepted

    for _ in range(5):
        proxy.held.set()
        expected.update(fill(mariadb, database, 100))
        wait_for(lambda: relay(nginx)['in_flight'] == 100, 10, 'a full line')
        proxy.cut()
        proxy.held.clear()
        wait_empty(mariadb, database, 10)

    assert proxy.accepted >= accepted + 5
    assert transitions(nginx) == []
    assert breaker(nginx)['state'] == 'CLOSED'
    assert outbox(nginx)['producers'] == 1
    judge(kafka.messages(topic), expected, 0, 8)


def test_the_helper_stood_still(start_outbox, mariadb, database, kafka, topic,
                                proxy):
    """Events were on their way when the helper was stopped, as by a virtual
    machine that is moved, for longer than a call may take. That it was not
    there is no slowness of Kafka."""

    slow = 1
    nginx = start_outbox(
        kafka_brokers=proxy.address, breaker_minimum_number_of_calls='100',
        breaker_slow_call_duration_threshold=f'{slow}s')
    wait_leased(nginx)
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)

    proxy.held.set()
    expected.update(fill(mariadb, database, 200))
    wait_for(lambda: relay(nginx)['in_flight'] == 200, 10, 'a full line')
    stopped = helper(nginx)
    os.kill(stopped, signal.SIGSTOP)

    try:
        proxy.held.clear()
        time.sleep(3 * slow)
    finally:
        os.kill(stopped, signal.SIGCONT)

    wait_empty(mariadb, database, 10)
    assert transitions(nginx) == []
    assert breaker(nginx)['slow_calls'] == 0
    judge(kafka.messages(topic), expected, 0, 8)


def test_clock_that_is_seldom_looked_at(start_outbox, mariadb, database, kafka,
                                        topic, proxy):
    """timer_resolution makes ticks as rare as the gaps by which the helper
    tells that it was stopped: a Kafka that does not answer is slow there, too."""

    nginx = start_outbox(
        kafka_brokers=proxy.address, breaker_minimum_number_of_calls='100',
        breaker_slow_call_duration_threshold='2s',
        nginx=dict(main='timer_resolution 1s;'))
    wait_leased(nginx, 20)
    fill(mariadb, database, 100)
    wait_empty(mariadb, database)

    proxy.held.set()
    fill(mariadb, database, 200)
    wait_state(nginx, 'OPEN')
    assert nginx.lines('SLOW_CALL_RATE_EXCEEDED')
    assert not nginx.lines('FAILURE_RATE_EXCEEDED')
    proxy.held.clear()
    wait_for(lambda: relay(nginx)['in_flight'] == 0, 20, 'no event in flight')


def test_probes_are_of_distinct_keys(start_outbox, mariadb, database, kafka,
                                     topic):
    """HALF_OPEN hands out three at a time, and of one merchant only one."""

    nginx = start_outbox(breaker_wait_duration_in_open_state='1s',
                         breaker_slow_call_duration_threshold='500ms')
    wait_leased(nginx)
    kafka.freeze()
    expected = fill(mariadb, database, 50, merchants=1)
    wait_state(nginx, 'OPEN')
    sent = relay(nginx)['in_flight']
    expected.update(fill(mariadb, database, 50, merchants=1))
    wait_state(nginx, 'HALF_OPEN')
    time.sleep(0.2)
    assert relay(nginx)['in_flight'] <= sent + 1
    kafka.thaw()

    # three probes of one merchant: one after the other
    wait_state(nginx, 'CLOSED', seconds=30)
    wait_empty(mariadb, database, 30)
    judge(kafka.messages(topic), expected, 60, 8)


# an event that Kafka will not have

def poison(mariadb, database, payment=None, version=1, size=20000):
    payment = payment or str(uuid.uuid4())
    mariadb.query(f"INSERT INTO outbox_event ({COLUMNS}) VALUES ('payment',"
                  f" '{payment}', 'authorized', 'M-1', {version},"
                  f" UTC_TIMESTAMP(6), NULL, REPEAT('x', {size}))", database)
    return payment


def healthy(mariadb, database, payment, version):
    return poison(mariadb, database, payment, version, 10)


def dead(mariadb, database):
    return mariadb.query('SELECT aggregateid, version, reason, attempts, id'
                         ' FROM outbox_dead ORDER BY id', database)


@pytest.fixture
def narrow(kafka, topic):
    """A topic that takes no event of more than 10 KB."""
    kafka.configure(topic, max_message_bytes=10000)
    return topic


# text that repeats itself would be small again in a compressed batch
PLAIN = dict(kafka_property='compression.codec none')
RETRY = dict(PLAIN, retry_interval='200ms')


def test_a_property_from_a_file(start_outbox, mariadb, database, kafka, topic,
                                tmp_path):
    """It is read again by a reload: how a secret of Kafka's is rotated. What
    could not be published with the wrong one waits."""

    file = tmp_path / 'protocol'
    file.write_text('ssl\n')
    nginx = start_outbox(kafka_property_file=f'security.protocol {file}')
    wait_leased(nginx)
    expected = fill(mariadb, database, 10)
    wait_for(lambda: nginx.lines('SSL'), 20, "Kafka's refusal")
    assert pending(mariadb, database) == 10

    file.write_text('plaintext\r\n')
    nginx.reload()
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)


class NoTLS:
    """A port where a TLS handshake is answered by what is none and by nothing,
    in turn: a broker's port for plaintext does either, as it happens."""

    def __init__(self):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.address = '127.0.0.1:%d' % self.listener.getsockname()[1]
        self.tries = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return

            self.tries += 1

            with client, contextlib.suppress(OSError):
                client.recv(4096)

                if self.tries % 2:
                    client.sendall(b'no TLS is spoken here\n')
                    client.recv(4096)

    def close(self):
        self.listener.close()


def test_errors_that_take_turns(start_outbox):
    """Each try to reach a broker fails, by another error than the last, and
    with up to 2.5 s between two: they are said ever more rarely."""

    broker = NoTLS()

    with contextlib.closing(broker):
        nginx = start_outbox(kafka_brokers=broker.address,
                             kafka_property='security.protocol ssl')
        wait_leased(nginx)
        wait_for(lambda: broker.tries >= 20, 90, 'tries')

        said = collections.Counter(re.search(r'": (\w+): ', line)[1]
                                   for line in nginx.lines('Kafka at "'))
        assert said.keys() == {'_SSL', '_TRANSPORT', '_ALL_BROKERS_DOWN'}, said
        assert max(said.values()) <= 6, said

        wait_for(lambda: re.search(r'\(and \d+ more like it before\)', ''.join(
            nginx.lines('Kafka at "'))), 60, 'an error that was counted')


def test_poison(start_outbox, mariadb, database, kafka, narrow):
    """Tried five times, 1 s apart, and moved away; its neighbours, refused with
    it in one batch, are published; nobody else waits."""

    nginx = start_outbox(**PLAIN)
    wait_leased(nginx)
    began = time.monotonic()
    expected = fill(mariadb, database, 50)
    bad = poison(mariadb, database)
    expected.update(fill(mariadb, database, 50))

    wait_for(lambda: dead(mariadb, database), 15, 'a dead letter')
    assert 3.5 < time.monotonic() - began < 8

    assert dead(mariadb, database)[0][:4] == (bad, 1, 'MSG_SIZE_TOO_LARGE', 5)

    wait_empty(mariadb, database, 10)
    judge(kafka.messages(narrow), expected, 0, 8)
    assert relay(nginx)['dead'] == 1
    assert breaker(nginx)['state'] == 'CLOSED'
    assert len(nginx.lines('is a dead letter')) == 1


def test_a_batch_that_is_too_large(start_outbox, mariadb, database, kafka,
                                   narrow):
    """A broker refuses a batch as a whole. Each of its events is fine, is
    published, and no warning says otherwise."""

    nginx = start_outbox(**PLAIN)
    wait_leased(nginx)
    expected = fill(mariadb, database, 600, size=500)

    wait_empty(mariadb, database, 60)
    judge(kafka.messages(narrow), expected, 0, 8)
    assert relay(nginx)['failed'] > 100
    assert dead(mariadb, database) == ()

    told = nginx.lines('was refused')
    assert 1 <= len(told) <= 4, told
    assert all('[notice]' in line and f'by topic "{narrow}"' in line
               and 'will be tried alone' in line for line in told), told


def test_block(start_outbox, mariadb, database, kafka, narrow):
    """Later events of the payment follow, whether they were there before,
    during or after; a replay publishes all of it, in order."""

    nginx = start_outbox(nginx=ADMIN, **RETRY)
    wait_leased(nginx)

    bad = poison(mariadb, database)
    healthy(mariadb, database, bad, 2)
    wait_for(lambda: len(dead(mariadb, database)) == 2, 15, 'both')
    healthy(mariadb, database, bad, 3)
    wait_for(lambda: len(dead(mariadb, database)) == 3, 5, 'the third')

    rows = dead(mariadb, database)
    assert [row[:2] for row in rows] == [(bad, v) for v in (1, 2, 3)]
    assert rows[1][2].startswith('follows') and rows[2][3] == 0
    assert kafka.count(narrow) == 0
    assert pending(mariadb, database) == 0

    # nothing has changed: it comes back
    admin(nginx, 'replay', shard='main', id=rows[0][4])
    wait_for(lambda: len(nginx.lines('is a dead letter')) == 2, 15, 'again')
    wait_for(lambda: len(dead(mariadb, database)) == 3, 5, 'all three')

    kafka.configure(narrow, max_message_bytes=1000000)
    admin(nginx, 'replay', shard='main', id=rows[1][4])
    healthy(mariadb, database, bad, 4)
    wait_for(lambda: kafka.count(narrow) == 4, 15, 'all four')
    wait_empty(mariadb, database)

    messages = kafka.messages(narrow)
    assert [m.version for m in messages] == [1, 2, 3, 4]
    assert dead(mariadb, database) == ()


def test_divert(start_outbox, mariadb, database, kafka, narrow):
    """Later events go on without it."""

    nginx = start_outbox(dead_letter='divert', **RETRY)
    wait_leased(nginx)
    bad = poison(mariadb, database)
    healthy(mariadb, database, bad, 2)
    wait_for(lambda: kafka.count(narrow) == 1, 15, 'the second')
    healthy(mariadb, database, bad, 3)
    wait_for(lambda: kafka.count(narrow) == 2, 15, 'the third')
    assert [row[:2] for row in dead(mariadb, database)] == [(bad, 1)]


def test_a_library_that_refuses(start_outbox, mariadb, database, kafka, topic):
    """Too large for librdkafka itself: the same fate."""

    nginx = start_outbox(kafka_property='message.max.bytes 5000',
                         retry_interval='200ms')
    wait_leased(nginx)
    bad = poison(mariadb, database)
    expected = fill(mariadb, database, 50)
    wait_for(lambda: dead(mariadb, database), 15, 'a dead letter')
    assert dead(mariadb, database)[0][:4] == (bad, 1, 'MSG_SIZE_TOO_LARGE', 5)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)


@pytest.mark.asan
def test_many_poisons(start_outbox, mariadb, database, kafka, narrow):
    nginx = start_outbox(**RETRY)
    wait_leased(nginx)

    bad = {poison(mariadb, database) for _ in range(60)}
    expected = fill(mariadb, database, 500)
    wait_for(lambda: len(dead(mariadb, database)) == 60, 40, 'all of them')
    wait_empty(mariadb, database)
    assert {row[0] for row in dead(mariadb, database)} == bad
    judge(kafka.messages(narrow), expected, 0, 8)


def test_poison_of_many_partitions(start_outbox, mariadb, database, kafka,
                                   narrow):
    """Each is tried with nothing else in its partition, and the others go on:
    so partitions take no turns, and are done the sooner the more there are."""

    kafka.configure(narrow, message_timestamp_type='LogAppendTime')
    nginx = start_outbox(**RETRY)
    wait_leased(nginx)
    expected = {}

    def seconds(merchants):
        """Until 400 of them are dead letters, and others published."""

        before = len(dead(mariadb, database))
        began = time.monotonic()

        mariadb.query(
            f"INSERT INTO outbox_event ({COLUMNS}) SELECT 'payment', UUID(),"
            f" 'authorized', CONCAT('M-', seq % {merchants}), 1,"
            " UTC_TIMESTAMP(6), NULL, REPEAT('x', 20000) FROM seq_1_to_400",
            database)

        while len(dead(mariadb, database)) < before + 400:
            assert time.monotonic() < began + 60
            expected.update(fill(mariadb, database, 8))
            time.sleep(0.1)

        return time.monotonic() - began

    # in turns, for a machine may be slow for one of them
    took = [(seconds(1), seconds(50)) for _ in range(2)]
    one, many = map(min, zip(*took))
    wait_empty(mariadb, database)
    waited = waits(kafka.messages(narrow))
    print(f'{one:.1f} s in one partition, {many:.1f} s in many; others waited'
          f' for {waited[-1]:.1f} s at most')
    assert many < 0.6 * one
    judge(kafka.messages(narrow), expected, 0, 8)


@pytest.mark.parametrize('refuse, allow, says, least', [
    # a node's clock that is wrong, as the broker sees it
    (dict(message_timestamp_before_max_ms=0),
     dict(message_timestamp_before_max_ms=2**63 - 1), 'INVALID_TIMESTAMP', 35),
    # a topic that takes nothing
    (dict(max_message_bytes=100), dict(max_message_bytes=1000000),
     'MSG_SIZE_TOO_LARGE', 130),
], ids=['clock', 'size'])
def test_what_every_event_meets_is_no_fault_of_one(
        start_outbox, mariadb, database, kafka, topic, refuse, allow, says,
        least):
    """When other payments' events are refused, too, it is the topic, and it is
    waited for: said once, with the topic's name, and nothing is dead."""

    kafka.configure(topic, **refuse)
    nginx = start_outbox(**RETRY)
    wait_leased(nginx)
    expected = fill(mariadb, database, 20)

    # each of the 20 would be dead after five
    wait_for(lambda: relay(nginx)['failed'] >= least, 60, 'many refusals')

    assert dead(mariadb, database) == ()
    assert pending(mariadb, database) == 20
    said = [line for line in nginx.lines(f'topic "{topic}"')
            if says in line and '[error]' in line]
    assert len(said) == 1, said
    assert breaker(nginx)['state'] == 'CLOSED'

    kafka.configure(topic, **allow)
    wait_empty(mariadb, database, 30)
    judge(kafka.messages(topic), expected, 0, 8)
    assert relay(nginx)['dead'] == 0


@pytest.mark.timeout(500)
def test_one_types_topic_is_missing(start_outbox, mariadb, database, work):
    """Its events wait, and nobody else's do; when it is there, they come."""

    strict = Kafka('kafka-strict', 'auto.create.topics.enable=false')
    strict.first_start()

    try:
        prefix = f'each-{uuid.uuid4()}'
        strict.create(f'{prefix}.authorized')
        nginx = start_outbox(kafka_brokers=strict.address,
                             kafka_topic=f'{prefix}.$event', **QUICK)
        wait_leased(nginx)

        for i in range(20):
            mariadb.query(f"INSERT INTO outbox_event ({COLUMNS}) VALUES"
                          f" ('payment', '{uuid.uuid4()}', 'voided', 'M-{i}',"
                          " 1, UTC_TIMESTAMP(6), NULL, '{}')", database)

        expected = fill(mariadb, database, 200)
        wait_for(lambda: pending(mariadb, database) == 20, 30, 'the others')
        judge(strict.messages(f'{prefix}.authorized'), expected, 0, 8)
        assert outbox(nginx)['producers'] <= 2
        assert dead(mariadb, database) == ()
        assert nginx.lines(f'topic "{prefix}.voided" takes no events')

        # nor does a later one wait for it
        expected.update(fill(mariadb, database, 200))
        wait_for(lambda: pending(mariadb, database) == 20, 5, 'the others')

        strict.create(f'{prefix}.voided')
        wait_empty(mariadb, database, 30)
        assert strict.count(f'{prefix}.voided') == 20
        assert outbox(nginx)['producers'] <= 2
    finally:
        strict.stop()


GUARDED = '\n'.join((
    'authorizer.class.name='
    'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    'super.users=User:nobody', 'allow.everyone.if.no.acl.found=true'))


def deny(guarded, kind, name, operation):
    """This operation, and no other; returns what allows it again."""

    admin = guarded.admin()

    # where there is a rule, what none names is forbidden
    for what, whether in ((AclOperation.ALL, AclPermissionType.ALLOW),
                          (operation, AclPermissionType.DENY)):
        rule = AclBinding(kind, name, ResourcePatternType.LITERAL,
                          'User:ANONYMOUS', '*', what, whether)
        admin.create_acls([rule])[rule].result(20)

    def allow():
        wanted = AclBindingFilter(kind, name, ResourcePatternType.LITERAL,
                                  None, None, AclOperation.ANY,
                                  AclPermissionType.ANY)
        admin.delete_acls([wanted])[wanted].result(20)

    return allow


def test_one_types_topic_is_forbidden(start_outbox, mariadb, database, work):
    """An operator has taken the permission away: the same."""

    guarded = Kafka('kafka-guarded', GUARDED)
    guarded.first_start()

    try:
        prefix = f'each-{uuid.uuid4()}'
        guarded.create(f'{prefix}.authorized')
        guarded.create(f'{prefix}.voided')
        allow = deny(guarded, ResourceType.TOPIC, f'{prefix}.voided',
                     AclOperation.WRITE)

        nginx = start_outbox(kafka_brokers=guarded.address,
                             kafka_topic=f'{prefix}.$event', **QUICK)
        wait_leased(nginx)
        fill(mariadb, database, 20, kind='voided')
        expected = fill(mariadb, database, 200)
        wait_for(lambda: pending(mariadb, database) == 20, 30, 'the others')
        judge(guarded.messages(f'{prefix}.authorized'), expected, 0, 8)
        assert dead(mariadb, database) == ()
        assert breaker(nginx)['state'] == 'CLOSED'
        [line] = nginx.lines(f'topic "{prefix}.voided" takes no events')
        assert 'TOPIC_AUTHORIZATION_FAILED' in line

        allow()
        wait_empty(mariadb, database, 30)
        assert guarded.count(f'{prefix}.voided') == 20
        assert nginx.lines(f'topic "{prefix}.voided" takes events again')
    finally:
        guarded.stop()


def test_an_outage_is_no_poison(start_outbox, mariadb, database, kafka,
                                topic):
    """Whatever the broker fails to do, no event is blamed for it."""

    nginx = start_outbox(breaker='off', lock_at_most_for='3s', **RETRY)
    wait_leased(nginx)
    kafka.kill()
    expected = fill(mariadb, database, 200)
    wait_for(lambda: relay(nginx)['failed'] >= 600, 30, 'many failures')
    assert dead(mariadb, database) == ()
    kafka.start()
    wait_empty(mariadb, database, 30)
    judge(kafka.messages(topic), expected, 1000, 8)
    assert relay(nginx)['dead'] == 0


def test_missing_topic(start_outbox, mariadb, database, work):
    """One topic for all that is not there is an outage: it is waited for."""

    strict = Kafka('kafka-strict', 'auto.create.topics.enable=false')
    strict.first_start()

    try:
        topic = f'late-{uuid.uuid4()}'
        nginx = start_outbox(kafka_brokers=strict.address, kafka_topic=topic,
                             **QUICK)
        wait_leased(nginx)
        expected = fill(mariadb, database, 20)

        # before anything is known of the events themselves
        wait_for(lambda: nginx.lines(f'Kafka has no topic "{topic}"'), 20,
                 'a line that names it')
        assert not nginx.lines('delivery to topic')
        wait_for(lambda: nginx.lines(f'delivery to topic "{topic}" failed'),
                 40, 'a line that names it')
        assert len(nginx.lines('has no topic')) == 1
        assert pending(mariadb, database) == 20
        assert dead(mariadb, database) == ()

        strict.create(topic)
        wait_empty(mariadb, database, 60)
        judge(strict.messages(topic), expected, 20, 8)
        wait_for(lambda: nginx.lines(f'Kafka has topic "{topic}" now'), 20,
                 'a line that it is there')
    finally:
        strict.stop()


def test_idle_costs_nothing(start_outbox, kafka):
    nginx = start_outbox()
    wait_leased(nginx)
    time.sleep(1)
    before = cpu(helper(nginx))
    time.sleep(5)
    assert cpu(helper(nginx)) - before < 0.1


def test_metrics(start_outbox, mariadb, database, kafka, topic):
    nginx = start_outbox(nginx=dict(location='}\n        location /metrics {\n'
                                    '            payment_status prometheus;'))
    wait_leased(nginx)
    fill(mariadb, database, 30)
    wait_empty(mariadb, database)

    with urllib.request.urlopen(
            f'http://127.0.0.1:{nginx.port}/metrics') as answer:
        text = answer.read().decode()

    wait_for(lambda: breaker(nginx)['buffered_calls'] == 30, 5, 'the window')
    assert 'resilience4j_circuitbreaker_state' in text
    assert breaker(nginx)['calls']['successful']['count'] == 30


def test_compression(start_outbox, mariadb, database, kafka, topic):
    """The library compresses only if the broker lists what it looks for."""

    start_outbox()
    expected = fill(mariadb, database, 2000, size=2000,
                    filling=lambda rng, size: 'x' * size)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)

    stored = sum(segment.stat().st_size for segment in
                 (kafka.dir / 'kafka').glob(f'{topic}-*/*.log'))
    assert stored < 2000 * 2000 / 4
