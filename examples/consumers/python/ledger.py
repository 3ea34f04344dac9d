"""A ledger: what each merchant's customers have paid and got back.

Its sums are right whatever is killed, and however often an event comes: a sum
is raised in the transaction that claims the event.

    KAFKA_BROKERS=localhost:9092 KAFKA_TOPICS=payments KAFKA_GROUP=ledger \\
        MARIADB_OPTION_FILE=ledger.cnf python3 ledger.py
"""

import collections
import logging

import payment_events


def moved(event):
    """(captured, refunded)"""

    match event.type:
        case 'captured':
            return event.moved, 0
        case 'refunded':
            return 0, event.moved
        case 'authorized' | 'voided' | 'expired':
            return 0, 0
        case _:
            raise payment_events.NotAnEvent(
                f'{event.source}: an event of type {event.type!r}')


def book(cursor, events):
    sums = collections.defaultdict(lambda: [0, 0])

    for event in events:
        captured, refunded = moved(event)

        if payment_events.claim(cursor, event) is None:
            balance = sums[event.merchant, event.currency]
            balance[0] += captured
            balance[1] += refunded

    # in one order, so that two ledgers do not wait for each other
    for (merchant, currency), (captured, refunded) in sorted(sums.items()):
        cursor.execute('INSERT INTO merchant_balance VALUES (%s, %s, %s, %s)'
                       ' ON DUPLICATE KEY UPDATE'
                       ' captured = captured + VALUE(captured),'
                       ' refunded = refunded + VALUE(refunded)',
                       (merchant, currency, captured, refunded))


def main():
    logging.basicConfig(level=logging.INFO)
    database = payment_events.database()
    consumer = payment_events.consumer()

    for events in payment_events.batches(consumer):
        with database.cursor() as cursor:
            book(cursor, events)

        database.commit()
        payment_events.commit_offsets(consumer)

    consumer.close()


if __name__ == '__main__':
    main()
