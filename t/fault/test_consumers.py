"""The examples of consumers: each event counts once, whatever is killed and
however often it comes."""

import json
import os
import random
import signal
import subprocess
import sys
import uuid

import confluent_kafka
import pytest

from client import Load
from outbox import kafka, start_outbox, topic, wait_empty  # noqa: F401
from servers import PASSWORD, ROOT, USER, wait_for

EXAMPLES = ROOT / 'examples' / 'consumers'
PYTHON = EXAMPLES / 'python'


class Consumers:
    """Processes of one example, in a group and on a database of their own."""

    def __init__(self, command, directory, kafka, mariadb, topic):
        self.command = command
        self.log = directory / 'log'
        self.kafka = kafka
        self.mariadb = mariadb
        self.topic = topic
        self.group = f'group-{uuid.uuid4()}'
        self.running = []

        self.database = mariadb.empty_database()
        mariadb.run((EXAMPLES / 'schema.sql').read_text(), self.database)

        self.options = directory / 'client.cnf'
        self.options.write_text(
            f'[client]\nsocket = {mariadb.socket}\nuser = {USER}\n'
            f'password = {PASSWORD}\ndatabase = {self.database}\n')

    def start(self, instance=1):
        environment = dict(
            os.environ, KAFKA_BROKERS=self.kafka.address,
            KAFKA_TOPICS=self.topic, KAFKA_GROUP=self.group,
            MARIADB_OPTION_FILE=str(self.options),
            MARIADB_URL='jdbc:mariadb://127.0.0.1:'
                        f'{self.mariadb.port}/{self.database}',
            MARIADB_USER=USER, MARIADB_PASSWORD=PASSWORD,
            BRIDGE_INSTANCE=str(instance))

        with open(self.log, 'ab') as log:
            process = subprocess.Popen(self.command, env=environment,
                                       stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log)

        process.instance = instance
        self.running.append(process)
        return process

    def kill(self):
        """kill -9 of one, and another begins in its place."""

        process = random.choice(self.running)
        assert process.poll() is None, self.log.read_text()
        process.kill()
        process.wait(20)
        self.running.remove(process)
        self.start(process.instance)

    def stop(self):
        for process in self.running:
            assert process.poll() is None, self.log.read_text()
            process.send_signal(signal.SIGTERM)

        for process in self.running:
            process.wait(30)

        self.running.clear()

    def close(self):
        for process in self.running:
            process.kill()
            process.wait(20)

        self.mariadb.drop_database(self.database)

    def query(self, statement):
        return self.mariadb.query(statement, self.database)

    def at_the_end(self):
        """The group has read all that the topic has."""

        watcher = confluent_kafka.Consumer({
            'bootstrap.servers': self.kafka.address, 'group.id': self.group,
            'log_level': 0})

        try:
            ends = {partition: end for partition, end
                    in self.kafka.ends(self.topic).items() if end}
            found = watcher.committed(
                [confluent_kafka.TopicPartition(self.topic, partition)
                 for partition in ends], 20)
            return all(place.offset == ends[place.partition]
                       for place in found)
        finally:
            watcher.close()

    def wait_at_the_end(self):
        # partitions of what was killed go to others after 10 seconds
        wait_for(self.at_the_end, 60, 'consumers that have read everything')


@pytest.fixture
def start_consumers(kafka, mariadb, topic, tmp_path):       # noqa: F811
    """start_consumers(command): Consumers, none of which runs yet."""

    started = []

    def start(command):
        started.append(Consumers(command, tmp_path, kafka, mariadb, topic))
        return started[-1]

    yield start

    for consumers in started:
        consumers.close()


def example(name):
    if name != 'Ledger.java':
        return [sys.executable, PYTHON / name]

    subprocess.run([ROOT / 'tools' / 'fetch.sh', 'ledger'], check=True)

    return ['java', '-Xmx128m', '-cp', f"{ROOT / 'build/ledger/libs'}/*",
            EXAMPLES / 'java' / name]


def repeat(kafka, topic, part):                               # noqa: F811
    """Sends a part of the topic's messages again, as the helper does after an
    end in between."""

    producer = confluent_kafka.Producer({
        'bootstrap.servers': kafka.address, 'partitioner': 'murmur2_random'})

    for message in kafka.messages(topic):
        if random.random() < part:
            producer.produce(topic, message.value, message.key,
                             headers=message.headers)

    assert producer.flush(30) == 0


def work(nginx, journal, consumers, rounds=4):
    """Payments are made while consumers are killed."""

    with Load(nginx.port, journal, clients=16, changes=True) as load:
        for _ in range(rounds):
            load.wait(300, 60)
            consumers.kill()


def committed_balances(mariadb, database):
    return {(merchant, currency): (int(captured), int(refunded))
            for merchant, currency, captured, refunded in mariadb.query(
                'SELECT merchant_id, currency, SUM(captured_amount),'
                ' SUM(refunded_amount) FROM payment'
                ' GROUP BY merchant_id, currency', database)}


def balances(ledgers):
    return {(merchant, currency): (int(captured), int(refunded))
            for merchant, currency, captured, refunded
            in ledgers.query('SELECT * FROM merchant_balance')}


LEDGERS = pytest.mark.parametrize('name', ['ledger.py', 'Ledger.java'])


@LEDGERS
@pytest.mark.timeout(400)
def test_ledger(start_outbox, mariadb, database, kafka, topic,  # noqa: F811
                journal, start_consumers, name):
    nginx = start_outbox()
    ledgers = start_consumers(example(name))
    ledgers.start(1)
    ledgers.start(2)

    work(nginx, journal, ledgers)
    wait_empty(mariadb, database)
    expected = committed_balances(mariadb, database)
    assert any(refunded for _, refunded in expected.values())

    repeat(kafka, topic, 0.5)
    ledgers.wait_at_the_end()
    assert balances(ledgers) == expected

    # killed behind the commit of the database, for all events at once
    ledgers.stop()
    ledgers.group += '-again'
    ledgers.start()
    ledgers.wait_at_the_end()
    assert balances(ledgers) == expected
    ledgers.stop()


def captured():
    return {'eventType': 'captured', 'paymentId': str(uuid.uuid4()),
            'merchantId': 'M', 'currency': 'KRW', 'version': 2,
            'operationAmount': 5, 'occurredAt': '2026-01-01T00:00:00.000Z'}


def produce(kafka, topic, events):                            # noqa: F811
    """Into partition 3, which is empty: at the offsets 0, 1, 2 and so on."""

    producer = confluent_kafka.Producer({'bootstrap.servers': kafka.address})

    for event in events:
        producer.produce(topic, json.dumps(event), partition=3)

    assert producer.flush(30) == 0


@LEDGERS
def test_what_is_no_event_stops_a_ledger(kafka, topic,          # noqa: F811
                                         start_consumers, name):
    """It books nothing of a batch that it can't read, and names the message."""

    event = captured()
    produce(kafka, topic, [
        event, {**event, 'version': 3, 'eventType': 'charged back'}])

    ledgers = start_consumers(example(name))
    process = ledgers.start()

    assert process.wait(60) == 1
    assert f'{topic}/3/1' in ledgers.log.read_text()
    assert balances(ledgers) == {}
    assert not ledgers.at_the_end()


# --- the bridge to the predecessor's consumers

REQUESTS = {'captured': 'payment.capture-requested',
            'refunded': 'payment.refund-requested'}


class Listener:
    """Reads a message as the predecessor's listeners do: paymentId and amount
    have to be numbers that fit into a Java long, merchantId is text, and a
    refund that has no reason gets one."""

    def __init__(self, message):
        payload = json.loads(message.value())
        self.topic = message.topic()
        self.payment = self.number(payload, 'paymentId')
        self.amount = self.number(payload, 'amount')
        self.merchant = payload['merchantId']
        self.reason = payload.get('reason', "at the customer's request")
        self.event = dict(message.headers())['eventId'].decode()
        assert isinstance(self.merchant, str)
        assert message.key().decode() == str(self.payment)

    @staticmethod
    def number(payload, member):
        value = payload[member]
        assert type(value) is int and -2 ** 63 <= value < 2 ** 63
        return value


@pytest.fixture
def request_topics(kafka):                                    # noqa: F811
    for name in REQUESTS.values():
        kafka.create(name)

    yield list(REQUESTS.values())

    kafka.delete(*REQUESTS.values())


def listen(kafka, topics):                                    # noqa: F811
    """What the topics have for who reads committed messages only."""

    consumer = confluent_kafka.Consumer({
        'bootstrap.servers': kafka.address, 'group.id': str(uuid.uuid4()),
        'enable.auto.commit': False, 'enable.partition.eof': True,
        'log_level': 0, 'isolation.level': 'read_committed'})

    try:
        left = {(topic, partition) for topic in topics
                for partition in kafka.ends(topic, consumer)}
        consumer.assign([confluent_kafka.TopicPartition(*place, 0)
                         for place in left])
        found = []

        while left:
            message = consumer.poll(20)
            assert message, 'no end of a partition was seen in 20 s'

            if not message.error():
                found.append(Listener(message))
                continue

            assert message.error().code() == \
                confluent_kafka.KafkaError._PARTITION_EOF
            left.discard((message.topic(), message.partition()))

        return found
    finally:
        consumer.close()


@pytest.mark.timeout(400)
def test_bridge(start_outbox, mariadb, database, kafka, topic,  # noqa: F811
                journal, start_consumers, request_topics):
    """Each capture and each refund is asked for once, with what it moved and a
    number of the payment's own."""

    nginx = start_outbox()
    bridges = start_consumers(example('bridge.py'))
    bridges.start(1)
    bridges.start(2)

    work(nginx, journal, bridges)
    wait_empty(mariadb, database)
    repeat(kafka, topic, 0.5)
    bridges.wait_at_the_end()
    bridges.stop()

    events = {message.id: json.loads(message.value)
              for message in kafka.messages(topic)}
    wanted = {name: (REQUESTS[event['eventType']], event['merchantId'],
                     event['operationAmount'])
              for name, event in events.items()
              if event['eventType'] in REQUESTS}
    heard = listen(kafka, request_topics)

    assert len(heard) == len(wanted) and set(REQUESTS.values()) == {
        one.topic for one in heard}
    assert {one.event: (one.topic, one.merchant, one.amount)
            for one in heard} == wanted
    assert all(one.reason == events[one.event]['reason'] for one in heard
               if one.topic == REQUESTS['refunded'])

    numbers = {}
    for one in heard:
        payment = events[one.event]['paymentId']
        assert numbers.setdefault(payment, one.payment) == one.payment

    assert len(set(numbers.values())) == len(numbers)
    assert min(numbers.values()) >= 10 ** 12


def test_a_bridge_that_ended_in_between(kafka, topic,            # noqa: F811
                                        start_consumers, request_topics):
    """It had claimed an event and not told of it: then the same message is
    told, and a repeat in another one is not."""

    event = captured()
    produce(kafka, topic, [event, {**event, 'version': 3}, event])

    bridges = start_consumers(example('bridge.py'))
    for version, source in ((2, f'{topic}/3/0'), (3, f'{topic}/3/99')):
        bridges.query('INSERT INTO consumed_event (payment_id, version, source)'
                      f" VALUES ('{event['paymentId']}', {version},"
                      f" '{source}')")

    bridges.start()
    bridges.wait_at_the_end()
    bridges.stop()

    assert [one.event for one in listen(kafka, request_topics)] \
        == [f"{event['paymentId']}:2"]
