"""What must be true whatever died: the clients' journal against the tables.

I1   every 2xx has exactly one row, with the merchant, amount and currency
I2   every row is explained by a request
I4   one key, one payment; all its 2xx answers are equal to the byte; another
     body under the key is refused and changes nothing
I5   each change of a payment has exactly its event; no event without a change
I14  captured <= amount, refunded <= captured; states follow the graph
     an operation that was kept says what its event says, and those of a
     payment sum up to its amounts
     nothing has expired but what says so, once, and is out of the queue
I15  a 503 never hides a payment; after a 504 or a broken connection, the same
     request again gets the one final answer

Where the publisher is off, all events are still in the outbox; where it is on,
those that it has published are given, too.
"""

import collections
import hashlib
import json
import time
import uuid

from client import Call
from tables import ALL_OPERATIONS, ID_OF_KEY

GRAPH = {
    ('authorized', None): {'AUTHORIZED'},
    ('captured', 'AUTHORIZED'): {'CAPTURED', 'PARTIALLY_CAPTURED'},
    ('captured', 'PARTIALLY_CAPTURED'): {'CAPTURED', 'PARTIALLY_CAPTURED'},
    ('refunded', 'CAPTURED'): {'REFUNDED', 'PARTIALLY_REFUNDED'},
    ('refunded', 'PARTIALLY_CAPTURED'): {'REFUNDED', 'PARTIALLY_REFUNDED'},
    ('refunded', 'PARTIALLY_REFUNDED'): {'REFUNDED', 'PARTIALLY_REFUNDED'},
    ('voided', 'AUTHORIZED'): {'VOIDED'},
    ('voided', 'PARTIALLY_CAPTURED'): {'CAPTURED'},
    ('expired', 'AUTHORIZED'): {'VOIDED'},
    ('expired', 'PARTIALLY_CAPTURED'): {'CAPTURED'},
}

EVENTS = {'authorize': 'authorized', 'capture': 'captured',
          'refund': 'refunded', 'void': 'voided', 'expire': 'expired'}


def key_hash(merchant, key):
    return hashlib.sha256(merchant.encode() + b'\0'
                          + key.encode()).digest()[:16]


class Dump:
    """What is in the tables of one or more databases, as one."""

    def __init__(self, *places):
        self.payments = {}
        self.keys = {}
        self.events = collections.defaultdict(dict)
        self.operations = collections.defaultdict(dict)
        self.waiting = set()          # to expire
        self.doubles = []

        for server, database in places:
            with server.admin(database) as db:
                self._load(db)

    def _load(self, db):
        # an older schema has not all of it
        db.execute('SHOW TABLES')
        tables = {row[0] for row in db.fetchall()}
        expiry = 'expires_at, expired_at' if 'payment_expiry' in tables \
            else 'NULL, NULL'

        db.execute('SELECT id, merchant_id, currency, status, amount,'
                   ' captured_amount, refunded_amount, version,'
                   f' {expiry} FROM payment')

        for row in db.fetchall():
            ident = str(uuid.UUID(bytes=row[0]))

            if ident in self.payments:
                self.doubles.append(ident)

            self.payments[ident] = dict(
                merchant=row[1], currency=row[2], status=row[3],
                amount=row[4], captured=row[5], refunded=row[6],
                version=row[7], expires=row[8], expired=row[9])

        if 'payment_expiry' in tables:
            db.execute('SELECT payment_id FROM payment_expiry')
            self.waiting |= {str(uuid.UUID(bytes=row[0]))
                             for row in db.fetchall()}

        if 'payment_operation' in tables:
            db.execute('SELECT payment_id, version, operation, status, amount,'
                       f' reason, reference FROM {ALL_OPERATIONS}')

            for row in db.fetchall():
                self.operations[str(uuid.UUID(bytes=row[0]))][row[1]] = dict(
                    type=EVENTS[row[2]], status=row[3], amount=row[4],
                    reason=row[5], reference=row[6])

        # what stands for what is left out: sql/V003
        db.execute(f'SELECT key_hash, {ID_OF_KEY}, operation,'
                   " COALESCE(status, 'AUTHORIZED'), COALESCE(version, 1)"
                   ' FROM idempotency_key')

        for row in db.fetchall():
            if row[0] in self.keys:
                self.doubles.append(row[0].hex())

            self.keys[row[0]] = dict(payment=str(uuid.UUID(bytes=row[1])),
                                     operation=row[2], status=row[3],
                                     version=row[4])

        db.execute('SELECT aggregateid, type, merchant_id, version, payload'
                   ' FROM outbox_event')

        for ident, kind, merchant, version, payload in db.fetchall():
            if version in self.events[ident]:
                self.doubles.append(f'{ident} version {version}')

            self.events[ident][version] = dict(
                type=kind, merchant=merchant, payload=json.loads(payload))

    def publish(self, messages):
        """Events that are in Kafka, and so in the outbox no more."""

        for message in messages:
            payload = json.loads(message.value)
            self.events[message.payment][message.version] = dict(
                type=payload['eventType'], merchant=message.key,
                payload=payload)


def check(journal, *places, settle=None, foreign_keys=(), published=list):
    """Everything above. settle, a Client, repeats what is not settled yet:
    each of the repeats must get its final answer, and that one is checked
    with the rest. places are (MariaDB, database) pairs; published() returns
    the messages that are in Kafka, where events go there."""

    before = Dump(*places)
    _check_honest(journal, before)

    if settle is not None:
        _settle(journal, settle)

    messages = published()
    dump = Dump(*places)
    dump.publish(messages)
    assert not dump.doubles, f'I4: there twice: {dump.doubles[:5]}'

    _check_answers(journal, dump)
    _check_explained(journal, dump, foreign_keys)
    _check_events(dump)
    _check_money(dump)
    _check_operations(dump)
    _check_expiry(dump)

    return dump


def by_key(journal):
    groups = collections.defaultdict(list)

    for call in journal:
        groups[call.merchant, call.key].append(call)

    return groups


def _check_honest(journal, dump):
    """I15: nobody was told 503 of something that is there all the same."""

    for (merchant, key), calls in by_key(journal).items():
        if all(call.status == 503 for call in calls):
            assert key_hash(merchant, key) not in dump.keys, \
                f'I15: 503, but it was done: {calls}'


def _settle(journal, client):
    """Repeats every request whose outcome its client does not know."""

    again = [calls[-1] for calls in by_key(journal).values()
             if not any(call.ok for call in calls)
             and any(call.error or call.status == 504 for call in calls)]
    end = time.monotonic() + 15

    while again:
        asked = [client.at_once([
            Call(call.operation, call.merchant, call.key, call.amount,
                 call.currency, call.payment) for call in again[i:i + 100]])
            for i in range(0, len(again), 100)]

        # a worker may not have found out yet that all is well again
        again = [call for part in asked for call in part
                 if call.status in (503, 504)]

        for call in (call for part in asked for call in part):
            assert call.status in (200, 404, 409, 503, 504), call

        assert not again or time.monotonic() < end, \
            f'I15: no final answer: {again[:5]}'
        time.sleep(0.1 if again else 0)


def _check_answers(journal, dump):
    for (merchant, key), calls in by_key(journal).items():
        good = [call for call in calls if call.ok]
        row = dump.keys.get(key_hash(merchant, key))

        if not good:
            continue

        bodies = {call.body for call in good}
        assert len(bodies) == 1, f'I4: one key, two answers: {good[:4]}'

        assert sum(1 for call in good if not call.replayed) <= 1 + sum(
            1 for call in calls if call.error or call.status == 504), \
            f'I4: made twice: {good[:4]}'

        call = good[0]
        answer = call.json

        assert row, f'I1: 200, but no key in the database: {call}'
        assert row['payment'] == answer['paymentId'], f'I1: {call}, {row}'
        assert row['operation'] == call.operation, f'I1: {call}, {row}'
        assert row['status'] == answer['status'], f'I1: {call}, {row}'

        payment = dump.payments.get(answer['paymentId'])

        assert payment, f'I1: 200, but no payment: {call}'
        assert payment['merchant'] == merchant, f'I1: {call}, {payment}'
        assert payment['amount'] == answer['amount'], f'I1: {call}, {payment}'
        assert payment['currency'] == answer['currency'], f'I1: {call}'

        if call.operation == 'authorize':
            assert payment['amount'] == call.amount, f'I1: {call}, {payment}'

        # another body under this key changed nothing
        for other in calls:
            if (other.amount, other.operation, other.payment) \
                    != (call.amount, call.operation, call.payment):
                assert other.error or other.status in (422, 503, 504), \
                    f'I4: key reused with another body: {other}'


def _check_explained(journal, dump, foreign_keys):
    asked = {key_hash(merchant, key) for merchant, key in by_key(journal)}
    asked |= set(foreign_keys)

    for hashed in dump.keys:
        assert hashed in asked, f'I2: nobody asked for key {hashed.hex()}'

    made = collections.Counter(row['payment'] for row in dump.keys.values()
                               if row['operation'] == 'authorize')

    for ident in dump.payments:
        assert made[ident] == 1, f'I2: payment {ident}: {made[ident]} keys'

    for ident in made:
        assert ident in dump.payments, f'I1: key without payment {ident}'


def _check_events(dump):
    assert set(dump.events) == set(dump.payments), \
        'I5: events and payments differ: ' \
        f'{list(set(dump.events) ^ set(dump.payments))[:5]}'

    done = collections.defaultdict(set)

    for row in dump.keys.values():
        assert row['version'] not in done[row['payment']], \
            f'I5: two operations made one version: {row}'
        done[row['payment']].add(row['version'])

        event = dump.events[row['payment']].get(row['version'])
        assert event and event['type'] == EVENTS[row['operation']], \
            f'I5: {row} has event {event}'

    for ident, payment in dump.payments.items():
        versions = dump.events[ident]

        assert sorted(versions) == list(range(1, payment['version'] + 1)), \
            f'I5: payment {ident} at version {payment["version"]} has ' \
            f'events {sorted(versions)}'
        expired = {version for version, event in versions.items()
                   if event['type'] == 'expired'}
        assert done[ident] == set(versions) - expired, \
            f'I5: {ident}: {done[ident]}'


def _check_money(dump):
    for ident, payment in dump.payments.items():
        assert 0 <= payment['refunded'] <= payment['captured'] \
            <= payment['amount'], f'I14: {ident}: {payment}'

        status = None

        for version in sorted(dump.events[ident]):
            event = dump.events[ident][version]
            payload = event['payload']

            assert payload['status'] in GRAPH.get((event['type'], status),
                                                  ()), \
                f'I14: {ident}: {status}, {event["type"]}, ' \
                f'{payload["status"]}'
            assert payload['amount'] == payment['amount'], f'I14: {ident}'
            status = payload['status']

        assert status == payment['status'], f'I14: {ident}: {payment}'
        assert payload['capturedAmount'] == payment['captured'], f'{ident}'
        assert payload['refundedAmount'] == payment['refunded'], f'{ident}'


def _check_operations(dump):
    for ident, operations in dump.operations.items():
        payment = dump.payments[ident]
        sums = collections.Counter()

        for version, operation in operations.items():
            payload = dump.events[ident][version]['payload']

            assert operation == dict(
                type=payload['eventType'], status=payload['status'],
                amount=payload['operationAmount'],
                reason=payload.get('reason'),
                reference=payload.get('reference')), \
                f'I14: {ident}: {operation}, {payload}'
            sums[operation['type']] += operation['amount']

        # those of before payment_operations was on are not there
        if len(operations) < payment['version']:
            continue

        released = sums['voided'] + sums['expired']

        assert sums['authorized'] == payment['amount'], f'I14: {ident}: {sums}'
        assert sums['captured'] == payment['captured'], f'I14: {ident}: {sums}'
        assert sums['refunded'] == payment['refunded'], f'I14: {ident}: {sums}'
        assert released in (0, payment['amount'] - payment['captured']), \
            f'I14: {ident}: {sums}'


def _check_expiry(dump):
    assert dump.waiting <= set(dump.payments), \
        f'I14: nothing to expire: {list(dump.waiting)[:5]}'

    for ident, payment in dump.payments.items():
        expired = [version for version, event in dump.events[ident].items()
                   if event['type'] == 'expired']

        assert len(expired) == (payment['expired'] is not None), \
            f'I14: {ident}: {payment}: expired with versions {expired}'

        if expired:
            assert payment['expires'] <= payment['expired'], f'I14: {payment}'
            assert ident not in dump.waiting, f'I14: {ident} expires again'
