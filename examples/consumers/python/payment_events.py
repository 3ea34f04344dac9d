"""Payment events from Kafka, in batches, for a consumer that keeps what comes
of them in MariaDB.

Kafka delivers every event at least once: the publisher repeats some after a
failure, and a consumer reads some again after its own. So a consumer claims
each event in the transaction that carries it out; a second claim is refused by
the primary key, whoever makes it. Kafka's offsets say only where to go on.

Whatever goes wrong ends the process, with nothing half done. Whoever started it
(systemd, say, with Restart=always) starts it again.
"""

import dataclasses
import json
import logging
import os
import signal

import confluent_kafka
import pymysql
from pymysql.constants import ER

# as many events share a transaction at most
BATCH_EVENTS_MAX = 500

# seconds that a batch's first event is waited for; a signal is seen after that
WAIT_SECONDS = 0.5

# after so many seconds without a word, a consumer's partitions go to others
SESSION_SECONDS = 10

AMOUNT_MAX = 2 ** 53 - 1

log = logging.getLogger('payment_events')


class NotAnEvent(Exception):
    """A message that is no payment event: a foreign publisher's, or of a later
    release. It is not passed over, since it may be about money."""


@dataclasses.dataclass(frozen=True)
class Event:
    payment: str
    version: int
    type: str
    merchant: str
    currency: str
    moved: int                      # minor units that this change moved
    reason: str | None
    occurred_at: str
    source: str                     # topic/partition/offset

    @classmethod
    def of(cls, message):
        source = f'{message.topic()}/{message.partition()}/{message.offset()}'

        try:
            value = json.loads(message.value())
            event = cls(value['paymentId'], value['version'],
                        value['eventType'], value['merchantId'],
                        value['currency'], value['operationAmount'],
                        value.get('reason'), value['occurredAt'], source)
        except (KeyError, TypeError, ValueError) as error:
            raise NotAnEvent(f'{source}: {error!r}') from None

        # True is an int to Python
        if type(event.moved) is not int or type(event.version) is not int \
           or not 0 <= event.moved <= AMOUNT_MAX or event.version < 1:
            raise NotAnEvent(f'{source}: a number that no event has')

        return event


def claim(cursor, event):
    """None, and the event is the transaction's own to carry out; or the source
    of the message in which it came before."""

    try:
        cursor.execute('INSERT INTO consumed_event (payment_id, version,'
                       ' source) VALUES (%s, %s, %s)',
                       (event.payment, event.version, event.source))
        return None
    except pymysql.err.IntegrityError as error:
        if error.args[0] != ER.DUP_ENTRY:
            raise

    cursor.execute('SELECT source FROM consumed_event WHERE payment_id = %s'
                   ' AND version = %s', (event.payment, event.version))
    return cursor.fetchone()[0]


def database():
    """Server, user, password and database are in an option file. At READ
    COMMITTED a claim locks no gap beside its row, and a row that another
    consumer has just committed is seen."""

    return pymysql.connect(read_default_file=os.environ['MARIADB_OPTION_FILE'],
                           read_default_group='client', charset='utf8mb4',
                           init_command='SET SESSION TRANSACTION ISOLATION'
                                        ' LEVEL READ COMMITTED')


def kafka(**properties):
    return {'bootstrap.servers': os.environ['KAFKA_BROKERS'], **properties}


def consumer():
    # earliest: what came before the group's first start is money, too
    found = confluent_kafka.Consumer(kafka(**{
        'group.id': os.environ['KAFKA_GROUP'], 'auto.offset.reset': 'earliest',
        'enable.auto.commit': False,
        'session.timeout.ms': SESSION_SECONDS * 1000}))
    found.subscribe(os.environ['KAFKA_TOPICS'].split(','))

    return found


def batches(source):
    """Lists of events, each partition's in its order, until SIGTERM."""

    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))

    while not stopping:
        messages = source.consume(BATCH_EVENTS_MAX, WAIT_SECONDS)

        for message in messages:
            if message.error():
                raise confluent_kafka.KafkaException(message.error())

        if messages:
            yield [Event.of(message) for message in messages]


def commit_offsets(source):
    """What was read is in the database. If Kafka does not take it, because the
    partitions have gone to another consumer, say, it is read and refused once
    more."""

    try:
        source.commit(asynchronous=False)
    except confluent_kafka.KafkaException as error:
        log.warning('offsets are not committed: %s', error)
