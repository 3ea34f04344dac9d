"""`payment_operations on`: what was done is kept with what it did, whatever
dies, and a database that has no place for it yet is told of.
"""

import json
import uuid


import loop
from client import Client, Connection, Load
from proxy import is_commit
from servers import Shard, wait_for
from tables import ALL_OPERATIONS

ON = 'payment_operations on;'


def kept(mariadb, database):
    """Each change of each payment, by its operation and by its event."""

    operations = mariadb.query(
        'SELECT payment_id, version,'
        " FIELD(operation, 'authorize', 'capture', 'refund', 'void'), status,"
        f" amount, COALESCE(reason, '') FROM {ALL_OPERATIONS}"
        ' ORDER BY payment_id, version', database)
    events = mariadb.query(
        "SELECT UNHEX(REPLACE(aggregateid, '-', '')) id, version,"
        " FIELD(type, 'authorized', 'captured', 'refunded', 'voided'),"
        " JSON_VALUE(payload, '$.status'),"
        " CAST(JSON_VALUE(payload, '$.operationAmount') AS INT),"
        " COALESCE(JSON_VALUE(payload, '$.reason'), '')"
        ' FROM outbox_event ORDER BY id, version', database)

    return list(map(tuple, operations)), list(map(tuple, events))


async def capture(port, payment, reference):
    """The answer's status, on a connection of its own."""

    connection = Connection(port)
    await connection.open()
    body = json.dumps({'merchantId': 'MERCHANT-1', 'amount': 1,
                       'reference': reference,
                       'idempotencyKey': str(uuid.uuid4())})
    connection.writer.write(
        f'POST /api/payments/capture/{payment} HTTP/1.1\r\nHost: t\r\n'
        'Content-Type: application/json\r\nConnection: close\r\n'
        f'Content-Length: {len(body)}\r\n\r\n{body}'.encode())
    answer = await connection.reader.read()
    connection.close()
    return int(answer.split(b' ')[1])


def test_whatever_dies(start_nginx, mariadb, database, proxy, journal, check):
    """Answers to COMMIT are lost, connections and workers die, and changes
    fight for payments: every change that is there has its operation."""

    nginx = start_nginx(Shard('main', database, proxy.address), http=ON)
    ask = Client(nginx.port, journal)

    with Load(nginx.port, journal, clients=8, changes=True,
              fights=True) as load:
        for action in ('after', 'before', 'swallow'):
            load.wait(50)
            proxy.strike(is_commit, action)
            load.wait(50)
            proxy.cut()

        nginx.kill_worker()
        load.wait(100)

    dump = check(ask)
    operations, events = kept(mariadb, database)

    assert operations == events
    assert len(operations) == sum(payment['version'] for payment
                                  in dump.payments.values())


def test_a_table_that_refuses(start_nginx, mariadb, database, journal, check):
    """What cannot be kept is not done: no payment is without its operation."""

    nginx = start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                        http=ON)
    ask = Client(nginx.port, journal)
    payment = ask.authorize().id

    mariadb.query('ALTER TABLE payment_operation ADD COLUMN more INT NOT NULL'
                  ' CHECK (more > 0)', database)
    assert ask.change('capture', payment, amount=1).status == 503

    mariadb.query('ALTER TABLE payment_operation DROP COLUMN more', database)
    wait_for(lambda: ask.change('capture', payment, amount=1).ok, 10,
             'a capture')

    check(ask)
    operations, events = kept(mariadb, database)
    assert operations == events


def test_one_reference_many_requests(start_nginx, mariadb, database, journal,
                                     check):
    """At once, in one batch and on two nodes: one of them has it."""

    nodes = [start_nginx(Shard('main', database, f'unix:{mariadb.socket}'),
                         http=ON, workers=1) for _ in range(2)]
    ask = Client(nodes[0].port, journal)
    payment = ask.authorize(amount=1000).id

    answers = [loop.spawn(capture(nodes[n % 2].port, payment, f'r-{n % 4}'))
               for n in range(80)]
    statuses = sorted(answer.result(20) for answer in answers)

    assert statuses == [200] * 4 + [409] * 76
    assert mariadb.query('SELECT captured_amount FROM payment',
                         database)[0][0] == 4


def test_references_of_a_payment_with_many_operations(
        start_nginx, mariadb, database, proxy, journal):
    """They are looked through once for all that a batch brings."""

    nginx = start_nginx(Shard('main', database, proxy.address, connections=1),
                        http=ON, workers=1)
    ask = Client(nginx.port, journal)
    payment = ask.authorize(amount=100000).id
    ident = f"x'{payment.replace('-', '')}'"
    many, n = 5000, 50

    mariadb.query(
        'INSERT INTO payment_operation (payment_id, version, operation, status,'
        f" amount, created_at, reference) SELECT {ident}, 1 + seq, 'capture',"
        " 'PARTIALLY_CAPTURED', 1, UTC_TIMESTAMP(), CONCAT('r-', seq)"
        f' FROM seq_1_to_{many}', database)
    mariadb.query(f'UPDATE payment SET captured_amount = {many}, version ='
                  f" {many} + 1, status = 'PARTIALLY_CAPTURED'", database)

    def read():
        return int(mariadb.status('Handler_read_next'))

    # they wait for the one line together
    strike = proxy.strike(is_commit, 'hold')
    stuck = ask.later([ask.call()])
    strike.wait()
    answers = [loop.spawn(capture(nginx.port, payment, f'r-{many // 2 + i}'))
               for i in range(2 * n)]
    wait_for(lambda: nginx.status()['shards'][0]['queued'] == 2 * n, 10,
             'captures')
    before = read()
    strike.release()

    assert stuck.result(10)[0].ok
    assert {answer.result(10) for answer in answers} == {409}
    assert read() - before < 10 * many
