"""From the database into Kafka: everything, once, in order."""

import json
import subprocess
import time
import uuid

import pytest

import servers
from client import Client, Load
from conftest import LONG
from outbox import (ADMIN, COLUMNS, Writer, admin,        # noqa: F401
                    committed, fill, general_log, judge, kafka, outbox,
                    pending, relay, said, settings, start_outbox, topic,
                    wait_empty, wait_leased)
from proxy import is_after, is_query
from servers import wait_for


def test_a_payment(start_outbox, mariadb, database, kafka, topic, journal):
    nginx = start_outbox()
    ask = Client(nginx.port, journal)

    payment = ask.authorize(merchant='MERCHANT-7')
    ask.change('capture', payment.id, merchant='MERCHANT-7', amount=None)
    ask.change('refund', payment.id, merchant='MERCHANT-7', amount=None)

    wait_for(lambda: kafka.count(topic) == 3, 30, 'three events')
    wait_empty(mariadb, database)

    messages = kafka.messages(topic)
    judge(messages, committed(mariadb, database), 0, 8)

    assert [m.headers['ce_type'] for m in messages] == \
        ['authorized', 'captured', 'refunded']

    event = json.loads(messages[0].value)
    assert event['paymentId'] == payment.id and event['amount'] == 1000

    headers = messages[0].headers
    when = headers.pop('ce_time')
    assert time.strptime(when[:19], '%Y-%m-%dT%H:%M:%S') and when[-1] == 'Z'
    # one is when the payment was taken, the other when its row was written
    assert (float(when[17:-1]) - float(event['occurredAt'][17:-1])) % 60 < 1
    assert headers == {
        'id': f'{payment.id}:1', 'eventId': f'{payment.id}:1',
        'ce_specversion': '1.0', 'ce_id': f'{payment.id}:1',
        'ce_source': 'ngx_payment_module', 'ce_type': 'authorized',
        'ce_subject': payment.id, 'content-type': 'application/json',
        'version': '1', 'epoch': str(relay(nginx)['lease_epoch'])}

    state = relay(nginx)
    assert state['published'] == state['deleted'] == state['read'] == 3
    assert nginx.status()['times']['commit_to_ack']['count'] == 3
    assert outbox(nginx)['kafka_up']


def test_under_load(start_outbox, mariadb, database, kafka, topic, journal):
    """Not one duplicate, and empty soon after the last."""

    nginx = start_outbox()

    with Load(nginx.port, journal, clients=32, changes=True) as load:
        load.wait(5000, 60)

    wait_empty(mariadb, database, 2)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)
    assert relay(nginx)['failed'] == 0


def test_max_delay(start_outbox, mariadb, database, kafka, topic, journal,
                   general_log):
    """Under load events are read in groups, and none waits for longer than it
    may; and one that comes alone is read at once. Changes are read: of new
    payments their workers tell."""

    reads = []

    def found():
        """Reads, of which few are the poll's."""
        return said(mariadb, database, 'FROM outbox_event WHERE id > %LIMIT')

    for delay in '0', '1s':
        nginx = start_outbox(max_delay=delay, poll_interval='1s')
        wait_leased(nginx)
        ask = Client(nginx.port, journal)

        took = []

        for published in 1, 2, 3, 4, 5:
            began = time.monotonic()
            ask.authorize()
            wait_for(lambda: relay(nginx)['published'] == published, 10,
                     'the event')
            took.append(time.monotonic() - began)

        # a broker that was just started takes its time for the first ones
        assert min(took) < 0.5, took
        before = found()

        with Load(nginx.port, journal, clients=16, changes=True) as load:
            load.wait(3000, 60)

        wait_empty(mariadb, database, 5)
        state = relay(nginx)
        reads.append((found() - before) / (state['published'] - 5))
        assert nginx.status()['times']['commit_to_ack']['p99_us'] < 3000000
        assert state['failed'] == 0
        nginx.stop()

    assert reads[1] < reads[0] / 3, reads
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


def test_topic_for_each_type(start_outbox, mariadb, database, kafka, topic):
    for kind in ('authorized', 'captured'):
        kafka.create(f'{topic}.{kind}')

    start_outbox(kafka_topic=f'{topic}.$event')
    expected = fill(mariadb, database, 10)
    wait_empty(mariadb, database)

    judge(kafka.messages(f'{topic}.authorized'), expected)
    assert kafka.count(f'{topic}.captured') == 0


def test_overlapping_transactions(start_outbox, mariadb, database, kafka,
                                  topic):
    """Late commits, gaps, rollbacks, later versions: all of it, in order."""

    nginx = start_outbox()

    with Writer(mariadb, database, threads=6, late=0.3, changes=0.6) as writer:
        writer.wait(20000, 90)

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), writer.expected, 0, 8)
    assert relay(nginx)['late'] > 0


def test_a_late_commit_is_not_overtaken(start_outbox, mariadb, database,
                                        kafka, topic):
    """The first event of a payment has a low id and commits late, when the
    cursor is far beyond it; the second follows at once."""

    nginx = start_outbox()
    late = mariadb.session(database)
    expected = {}

    def row(payment, version):
        expected[f'{payment}:{version}'] = 'm'
        return (f'INSERT INTO outbox_event ({COLUMNS}) VALUES'
                f" ('payment', '{payment}', 'authorized', 'm', {version},"
                " UTC_TIMESTAMP(6), NULL, '{}')")

    for _ in range(20):
        payment = str(uuid.uuid4())
        cursor = late.cursor()
        cursor.execute(row(payment, 1))

        others = fill(mariadb, database, 500, merchants=7)
        expected.update(others)
        wait_for(lambda: pending(mariadb, database) == 0, 10,
                 'the cursor beyond the late one')

        late.commit()
        cursor.execute(row(payment, 2))
        late.commit()

    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    assert relay(nginx)['late'] >= 1


@pytest.mark.parametrize('each', [1, 3])
def test_backlog(start_outbox, mariadb, database, kafka, topic, each):
    expected = fill(mariadb, database, 60000, each)
    nginx = start_outbox()

    wait_leased(nginx)
    wait_for(lambda: relay(nginx)['backlog'] > 0, 10, 'a backlog to see')
    wait_empty(mariadb, database, 60)

    judge(kafka.messages(topic), expected, 0, 8)
    wait_for(lambda: relay(nginx)['backlog'] == 0, 5, 'no backlog to see')

    # rows may be read twice, where a broker answers its first batches late, but
    # nothing is sent twice
    state = relay(nginx)
    assert (state['published'], state['failed']) == (60000, 0)


def test_a_look_that_fails_leaves_nothing(start_outbox, mariadb, database,
                                          proxy, kafka, topic):
    """The helper looks at rows that nobody has committed, to see from which id
    on it must read. Where that look fails before it has locked the table, the
    server would read the next rows in the same way; and with another node's
    events about they would be published, though they are rolled back."""

    nginx = start_outbox(servers.Shard('main', database, proxy.address))
    nginx.expect('reading events failed: (1146)')
    wait_leased(nginx)
    row = (f"INSERT INTO outbox_event ({COLUMNS}) VALUES ('payment', UUID(),"
           " 'authorized', 'm', 1, UTC_TIMESTAMP(6), NULL, '{}')")
    expected = {}

    # while there is such a row it looks each two seconds
    with mariadb.session(database) as lasting:
        lasting.cursor().execute(row)

        for _ in range(40):
            # another node's, behind which a second of barriers begins
            began = time.monotonic()
            expected.update(fill(mariadb, database, 1))
            wait_for(lambda: relay(nginx)['published'] == len(expected), 10,
                     'an event')

            with mariadb.session(database) as phantom:
                phantom.cursor().execute(row)
                look = proxy.strike(is_after(b'LEVEL READ UNCOMMITTED'),
                                    'elsewhere')
                wait_for(lambda: look.hits
                         or time.monotonic() > began + 0.7, 10, 'a look')

                if look.hits:
                    # the first ends before the second begins
                    reads = proxy.strike(
                        is_query(b'FROM outbox_event WHERE id >'), 'delay',
                        times=2)
                    wait_for(lambda: reads.hits == 2, 10, 'two reads')
                    break

            proxy.calm()
            wait_for(lambda: time.monotonic() > began + 1.3, 10,
                     'the end of barriers')

    assert look.hits
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected)


@pytest.mark.timeout(600)
@pytest.mark.skipif(not LONG, reason='PAYMENT_TEST_LONG=1')
def test_backlog_of_a_million(start_outbox, mariadb, database, kafka, topic):
    expected = fill(mariadb, database, 1000000)
    nginx = start_outbox()

    wait_empty(mariadb, database, 300)
    judge(kafka.messages(topic), expected, 0, 8)
    assert relay(nginx)['late'] == 0


def test_single_process(start_outbox, mariadb, database, kafka, topic,
                        journal):
    nginx = start_outbox(nginx=dict(single=True))

    with Load(nginx.port, journal, clients=4) as load:
        load.wait(300)

    # what was not read by then stays for the next one, and nothing is sent twice
    nginx.quit()
    assert nginx.lines('payment outbox: stopped')
    nginx.start()
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


def test_reference_profile(start_outbox, mariadb, database, kafka, topic):
    start_outbox(kafka_profile='reference')
    expected = fill(mariadb, database, 3000, 3)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)


def test_properties(start_outbox, mariadb, database, kafka, topic):
    start_outbox(kafka_property=['linger.ms 20', 'client.id someone',
                                 'message.timeout.ms 5000'])
    expected = fill(mariadb, database, 100)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)


@pytest.mark.parametrize('directives, says', [
    (dict(kafka_property='acks 1'), 'acks'),
    (dict(kafka_property='no.such.thing 1'), 'no.such.thing'),
    (dict(kafka_property='linger.ms secret'), 'linger.ms'),
    (dict(kafka_property='bootstrap.servers a:1'), 'payment_kafka_brokers'),
    (dict(kafka_property='transactional.id a'), 'transactional.id'),
    (dict(kafka_property='message.timeout.ms 20000'), 'lock_at_most_for'),
    (dict(kafka_property='max.in.flight 6'), 'max.in.flight'),
    (dict(kafka_profile='reference',
          kafka_property='enable.idempotence true'), 'idempotence'),
    (dict(kafka_property='ssl.ca.location /no/such/file'),
     'ssl.ca.location'),
    (dict(kafka_property=['security.protocol ssl',
                          'ssl.ca.location /no/such/file']), 'ssl'),
    # what would report events as delivered that Kafka does not have
    (dict(kafka_profile='reference', kafka_property='acks 0'), 'acks'),
    (dict(kafka_profile='reference',
          kafka_property='request.required.acks 0'), 'acks'),
    (dict(kafka_profile='reference',
          kafka_property=['acks 1', 'acks 0']), 'acks'),
    (dict(kafka_profile='reference', kafka_property='acks 1'), None),
    (dict(kafka_property='test.mock.num.brokers 1'), 'test.mock'),
    (dict(kafka_property='partitioner random'), 'partitioner'),
    # what can never reach Kafka, or ends the helper
    (dict(kafka_property=['security.protocol sasl_ssl',
                          'sasl.mechanisms OAUTHBEARER']), 'OAUTHBEARER'),
    (dict(kafka_property=['security.protocol sasl_ssl',
                          'sasl.mechanism OAUTHBEARER',
                          'enable.sasl.oauthbearer.unsecure.jwt true']),
     'OAUTHBEARER'),
    (dict(kafka_topic='"a b"'), 'payment_kafka_topic'),
    (dict(kafka_topic='x.$event'), None),
])
def test_configuration(work, mariadb, directives, says):
    """nginx -t, which touches no server, finds what makes no sense."""

    class Nobody:
        address = '127.0.0.1:9'

    nginx = servers.Nginx('nginx-t', [servers.Shard('main', 'x', '/x')],
                          http=settings(Nobody, 'payments', **directives))
    nginx.shards[0].servers = ['127.0.0.1:9']
    nginx.dir.mkdir(parents=True, exist_ok=True)
    (nginx.dir / 'nginx.conf').write_text(nginx.config())

    result = subprocess.run(
        [servers.NGINX, '-t', '-p', str(nginx.dir), '-c',
         str(nginx.dir / 'nginx.conf'), '-e', 'stderr'],
        capture_output=True, text=True, timeout=20)

    if says:
        assert result.returncode == 1, result.stderr
        assert says in result.stderr
        assert 'secret' not in result.stderr
    else:
        assert result.returncode == 0, result.stderr


def test_purge_of_keys(start_outbox, mariadb, database, journal):
    """Old keys are forgotten, young ones are not, all over the key space."""

    with mariadb.admin(database) as db:
        for age, n in ((3600, 6000), (0, 3000)):
            # half of them with a time of their own, half with their
            # payment's; what the other of the two says must not matter
            db.execute(
                'INSERT INTO idempotency_key (key_hash, payment_id,'
                ' fingerprint, operation, created_at)'
                " SELECT UNHEX(MD5(CONCAT(RAND(), seq))), UNHEX(CONCAT("
                ' LPAD(HEX((UNIX_TIMESTAMP() - IF(seq % 2, 1800, %s)) * 1000),'
                " 12, '0'), '70008000')), 'fffffff1', 'authorize',"
                ' IF(seq % 2, UTC_TIMESTAMP() - INTERVAL %s SECOND, NULL)'
                f' FROM seq_1_to_{n}'.replace('%s', str(age)))

    shard = servers.Shard('main', database, f'unix:{mariadb.socket}')
    nginx = start_outbox(shard, archive='off')
    assert relay(nginx)['purged'] == 0

    nginx.http += '\n    payment_idempotency_retention 60s;'
    (nginx.dir / 'nginx.conf').write_text(nginx.config())
    nginx.reload()

    wait_for(lambda: mariadb.query('SELECT COUNT(*) FROM idempotency_key',
                                   database)[0][0] == 3000, 30,
             'a purge of the old keys and no others')
    wait_for(lambda: relay(nginx)['purged'] == 6000, 5, 'the counter')


@pytest.mark.timeout(300)
def test_purge_over_reloads(start_outbox, mariadb, database):
    """A walk that is longer than a helper lives goes on with the next one:
    keys at the very end of the key space are forgotten, too."""

    with mariadb.admin(database) as db:
        # young ones to walk through, and one old one behind them
        db.execute(
            'INSERT INTO idempotency_key (key_hash, payment_id,'
            ' fingerprint, operation, created_at)'
            " SELECT UNHEX(MD5(seq)), UNHEX(CONCAT(LPAD(HEX("
            " UNIX_TIMESTAMP() * 1000), 12, '0'), '70008000')), 'fffffff1',"
            " 'authorize', UTC_TIMESTAMP() FROM seq_1_to_40000")
        db.execute(
            'INSERT INTO idempotency_key (key_hash, payment_id,'
            ' fingerprint, operation, created_at)'
            " VALUES (REPEAT(x'FF', 16), REPEAT(x'00', 10), 'fffffff1',"
            " 'authorize', UTC_TIMESTAMP() - INTERVAL 1 DAY)")

    nginx = start_outbox()
    nginx.http += '\n    payment_idempotency_retention 200s;'
    (nginx.dir / 'nginx.conf').write_text(nginx.config())
    old = "SELECT COUNT(*) FROM idempotency_key" \
          " WHERE key_hash = REPEAT(x'FF', 16)"

    # a walk has 80 steps, and takes 25 s
    for _ in range(12):
        nginx.reload()
        wait_leased(nginx)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            if not mariadb.query(old, database)[0][0]:
                return
            time.sleep(0.1)

    assert not mariadb.query(old, database)[0][0], 'never reached'


ARCHIVE = ('V002__outbox_archive.sql', 'V005__archive_upkeep_in_steps.sql',
           'V009__tracestate.sql')


def add_archive(mariadb, database, scripts=ARCHIVE):
    """The archive's tables and procedure, in a database of one test."""

    for script in scripts:
        mariadb.run_script(servers.ROOT / 'sql' / script, database)

    for host in ('localhost', '127.0.0.1'):
        mariadb.query(f'GRANT EXECUTE ON PROCEDURE {database}.'
                      'outbox_archive_upkeep TO'
                      f" '{servers.USER}'@'{host}'")


def partitions(mariadb, database):
    return [row[0] for row in mariadb.query(
        'SELECT partition_name FROM information_schema.partitions'
        f" WHERE table_schema = '{database}'"
        " AND table_name = 'outbox_archive'"
        ' ORDER BY partition_ordinal_position')]


def test_archive(start_outbox, mariadb, database, kafka, topic):
    """What was deleted is in the archive; its days are looked after."""

    add_archive(mariadb, database)
    last = partitions(mariadb, database)[-2]
    mariadb.query(f'ALTER TABLE outbox_archive DROP PARTITION {last}',
                  database)

    nginx = start_outbox(archive='on')
    expected = fill(mariadb, database, 3000, 3)
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)

    rows = mariadb.query("SELECT CONCAT(aggregateid, ':', version),"
                         ' merchant_id FROM outbox_archive', database)
    assert dict(rows) == expected and len(rows) == len(expected)
    assert last in partitions(mariadb, database)
    assert relay(nginx)['errors'] == 0


def test_archive_without_execute(start_outbox, mariadb, database, kafka,
                                 topic):
    """It is said at the first connect, and not only when the hour has come;
    and nothing is said where there is no archive."""

    add_archive(mariadb, database)

    for host in ('localhost', '127.0.0.1'):
        mariadb.query(f'REVOKE EXECUTE ON PROCEDURE {database}.'
                      'outbox_archive_upkeep FROM'
                      f" '{servers.USER}'@'{host}'")

    missing = 'EXECUTE is missing, on PROCEDURE outbox_archive_upkeep'
    nginx = start_outbox(archive='on')
    assert nginx.lines(missing) and '[warn]' in nginx.lines(missing)[0]
    nginx.stop()

    nginx = start_outbox()
    assert not nginx.lines(missing)


def test_archive_that_fails(start_outbox, mariadb, database, kafka, topic):
    """What can't be archived is not deleted."""

    add_archive(mariadb, database)
    mariadb.query('ALTER TABLE outbox_archive RENAME TO elsewhere', database)
    nginx = start_outbox(archive='on')
    expected = fill(mariadb, database, 100)
    wait_for(lambda: kafka.count(topic) == 100, 10, 'they are published')
    wait_for(lambda: relay(nginx)['errors'] > 1, 10, 'failures')
    assert pending(mariadb, database) == 100

    mariadb.query('ALTER TABLE elsewhere RENAME TO outbox_archive', database)
    wait_empty(mariadb, database, 10)
    judge(kafka.messages(topic), expected, 0, 8)
    assert mariadb.query('SELECT COUNT(*) FROM outbox_archive',
                         database)[0][0] == 100


def test_many_payments_while_paused(start_outbox, mariadb, database, kafka,
                                    topic):
    """The helper's word of shared memory is what payment_outbox_admin sets;
    here it does it over HTTP."""

    nginx = start_outbox(nginx=ADMIN)
    wait_leased(nginx)
    admin(nginx, 'pause')
    expected = fill(mariadb, database, 100)
    time.sleep(0.5)
    assert kafka.count(topic) == 0
    assert outbox(nginx)['paused']
    wait_for(lambda: relay(nginx)['backlog'] >= 100, 5, 'the backlog')

    # a pause outlives the helper
    nginx.reload()
    time.sleep(0.5)
    assert kafka.count(topic) == 0

    admin(nginx, 'resume')
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
