"""A bridge to the consumers of the Spring Boot payment service, which this
project follows: they listen to payment.capture-requested and
payment.refund-requested, know payments by numbers, and take amount for what is
to be moved.

Each capture and each refund is told once to who reads committed messages only
(isolation.level=read_committed): the bridge's messages and the offsets of the
events that they tell of are one transaction of Kafka's. After an end in between,
the events are read again, in the very messages in which they were claimed; an
event in another message is a repeat and is passed over.

    KAFKA_BROKERS=localhost:9092 KAFKA_TOPICS=payments KAFKA_GROUP=bridge \\
        MARIADB_OPTION_FILE=bridge.cnf BRIDGE_INSTANCE=1 python3 bridge.py
"""

import json
import logging
import os

import confluent_kafka

import payment_events

# seconds for a transaction of Kafka's, beyond which its broker aborts it
TRANSACTION_SECONDS_MAX = 30

# what came of a payment: where and how the predecessor asked for it
REQUESTS = {'captured': ('payment.capture-requested', 'CAPTURE_REQUESTED'),
            'refunded': ('payment.refund-requested', 'REFUND_REQUESTED')}


def number_of(cursor, payment):
    """The payment's number, the same for all its events."""

    cursor.execute('SELECT number FROM bridge_payment WHERE payment_id = %s',
                   (payment,))
    row = cursor.fetchone()

    if row:
        return row[0]

    # all events of a merchant have one reader, so that nobody else is here
    cursor.execute('INSERT INTO bridge_payment (payment_id) VALUES (%s)',
                   (payment,))
    return cursor.lastrowid


def request(event, number):
    """topic, value: in the members that the predecessor's events had"""

    topic, status = REQUESTS[event.type]
    value = {'paymentId': number, 'merchantId': event.merchant,
             'status': status, 'amount': event.moved,
             'currency': event.currency, 'occurredAt': event.occurred_at}

    if event.reason is not None:
        value['reason'] = event.reason

    return topic, value


def requests(cursor, events):
    """What is to be told of these events: (event, number)"""

    return [(event, number_of(cursor, event.payment)) for event in events
            if event.type in REQUESTS
            and payment_events.claim(cursor, event) in (None, event.source)]


def publish(producer, consumer, told):
    """All of it and the offsets, or nothing."""

    producer.begin_transaction()

    for event, number in told:
        topic, value = request(event, number)
        name = f'{event.payment}:{event.version}'
        producer.produce(topic, json.dumps(value, ensure_ascii=False).encode(),
                         str(number), headers={'eventId': name.encode()})

    producer.send_offsets_to_transaction(
        consumer.position(consumer.assignment()),
        consumer.consumer_group_metadata(), TRANSACTION_SECONDS_MAX)
    producer.commit_transaction(TRANSACTION_SECONDS_MAX)


def main():
    logging.basicConfig(level=logging.INFO)
    database = payment_events.database()
    consumer = payment_events.consumer()

    # of those that start with one id, Kafka lets the last one publish
    producer = confluent_kafka.Producer(payment_events.kafka(**{
        'transactional.id': f"{os.environ['KAFKA_GROUP']}"
                            f"-{os.environ['BRIDGE_INSTANCE']}",
        'transaction.timeout.ms': TRANSACTION_SECONDS_MAX * 1000}))
    producer.init_transactions(TRANSACTION_SECONDS_MAX)

    for events in payment_events.batches(consumer):
        with database.cursor() as cursor:
            told = requests(cursor, events)

        database.commit()
        publish(producer, consumer, told)

    consumer.close()


if __name__ == '__main__':
    main()
