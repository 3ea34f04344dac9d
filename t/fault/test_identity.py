"""Each database knows whose it is: which installation's, which shard's, which
slots it holds. A configuration that says something else takes no payment there
and says both: a key that was used in the right database would be free in the
wrong one, and pay twice.
"""

import re

import pytest

import invariants
import servers
from client import Client
from servers import Shard, merchant, wait_for

LEFT, RIGHT = (0, 511), (512, 1023)


@pytest.fixture
def other(mariadb):
    """The name of another empty database, on the same server."""

    name = mariadb.new_database()
    yield name
    mariadb.drop_database(name)


def identities(mariadb, *databases):
    return [mariadb.query('SELECT installation, shard, slots'
                          ' FROM payment_identity', database)
            for database in databases]


def shard(mariadb, name, database, slots=None):
    return Shard(name, database, f'unix:{mariadb.socket}',
                 slots and f'{slots[0]}-{slots[1]}')


def refuses(nginx, ask, *words, **members):
    """503 for every payment, and a line with all of the words."""

    def said():
        return [line for line in nginx.lines('payment: shard')
                if all(word in line for word in words)]

    wait_for(said, 10, f'a line with {words}')
    wait_for(lambda: ask.authorize(**members).status == 503, 5, '503')
    assert all(ask.authorize(**members).status == 503 for _ in range(10))


def test_the_first_connection_says_whose_it_is(start_nginx, mariadb, database,
                                               journal, check):
    """Two nodes of four workers come at once: one row."""

    shards = shard(mariadb, 'main', database)
    nodes = [start_nginx(shards, ready=False, workers=4) for _ in range(2)]

    for node in nodes:
        node.wait_connected()
        assert Client(node.port, journal).authorize().ok
        assert not node.lines('[error]'), node.lines('[error]')

    [[row]] = identities(mariadb, database)
    assert re.fullmatch('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', row[0])
    assert row[1:] == ('main', '0-1023')
    check()


def test_slots_that_moved_without_their_rows(start_nginx, mariadb, database,
                                             other, journal):
    """One shard becomes two, the second one on a fresh database. What it would
    take there was paid before."""

    nginx = start_nginx(shard(mariadb, 'main', database))
    ask = Client(nginx.port, journal)
    mine = {slots: ask.authorize(merchant=merchant(slots))
            for slots in (LEFT, RIGHT)}
    nginx.stop()

    nginx = start_nginx([shard(mariadb, 'main', database, LEFT),
                         shard(mariadb, 'second', other, RIGHT)], ready=False)
    again = Client(nginx.port, journal)

    refuses(nginx, again, '"main"', 'slots 0-1023', 'slots 0-511',
            merchant=merchant(LEFT))
    refuses(nginx, again, '"second"', '"main"', merchant=merchant(RIGHT))

    for slots, first in mine.items():
        call = again.authorize(merchant=first.merchant, key=first.key)
        assert call.status == 503, call

    assert not mariadb.query('SELECT * FROM payment', other)
    assert identities(mariadb, other) == [()]
    invariants.check(journal, (mariadb, database))


def test_two_shards_of_one_database(start_nginx, mariadb, database, journal):
    """By two names of one server, so that `nginx -t` cannot know."""

    nginx = start_nginx([shard(mariadb, 'left', database, LEFT),
                         Shard('right', database,
                               f'127.0.0.1:{mariadb.port}', '512-1023')],
                        ready=False)
    ask = Client(nginx.port, journal)

    def said():
        return [line for line in nginx.lines('is shard "')
                if '"left"' in line and '"right"' in line]

    wait_for(said, 10, 'a line about both')
    answers = {ask.authorize(merchant=merchant(slots)).status
               for slots in (LEFT, RIGHT)}
    assert 503 in answers, answers

    rows = identities(mariadb, database)[0]
    assert len(rows) <= 1, rows


def test_the_wrong_database_after_a_reload(start_nginx, mariadb, database,
                                           other, journal, check):
    """It is migrated and nobody's, but the shard had another one."""

    nginx = start_nginx(shard(mariadb, 'main', database), reuseport=False)
    ask = Client(nginx.port, journal)
    first = ask.authorize()
    assert first.ok

    config = (nginx.dir / 'nginx.conf').read_text()
    (nginx.dir / 'nginx.conf').write_text(
        config.replace(f'database {database};', f'database {other};'))
    nginx.reload()

    refuses(nginx, ask, '"main"', other)
    assert identities(mariadb, other) == [()]

    (nginx.dir / 'nginx.conf').write_text(config)
    nginx.reload()
    wait_for(lambda: ask.authorize(key=first.key).replayed, 10, 'a replay')
    check()


def test_the_database_of_another_installation(start_nginx, mariadb, database,
                                              other, journal):
    """Of two shards, one is a copy that belongs to somebody else."""

    mariadb.identify(database, 'left', '0-511')
    mariadb.identify(other, 'right', '512-1023',
                     '11111111-1111-4111-8111-111111111111')

    nginx = start_nginx([shard(mariadb, 'left', database, LEFT),
                         shard(mariadb, 'right', other, RIGHT)], ready=False)

    wait_for(lambda: [line for line in nginx.lines('installation')
                      if '00000000-' in line and '11111111-' in line], 10,
             'a line about both')

    answers = {Client(nginx.port, journal).authorize(
        merchant=merchant(slots)).status for slots in (LEFT, RIGHT)}
    assert 503 in answers, answers


def test_a_wrong_database_at_the_start(start_nginx, mariadb, database, other,
                                       journal, check):
    """A database that was migrated and never used is anybody's; the
    configuration says that it is not."""

    nginx = start_nginx(shard(mariadb, 'main', database))
    ask = Client(nginx.port, journal)
    first = ask.authorize()
    assert first.ok
    nginx.stop()
    [(row,)] = identities(mariadb, database)
    installation = row[0]

    def node(name):
        return Shard('main', name, f'unix:{mariadb.socket}',
                     installation=installation.upper())

    nginx = start_nginx(node(other), ready=False)
    refuses(nginx, Client(nginx.port), '"main"', other, '"installation"')
    assert identities(mariadb, other) == [()]
    nginx.stop()

    # that of another installation, as well
    mariadb.identify(other, 'main', '0-1023',
                     '11111111-1111-4111-8111-111111111111')
    nginx = start_nginx(node(other), ready=False)
    refuses(nginx, Client(nginx.port), other, '11111111-', installation)
    nginx.stop()

    nginx = start_nginx(node(database))
    ask = Client(nginx.port, journal)
    assert ask.authorize(key=first.key).replayed
    check()


def test_payments_that_are_not_ours(start_nginx, mariadb, database, other,
                                    journal):
    """A database from before it had an identity: its payments tell."""

    nginx = start_nginx(shard(mariadb, 'main', database))
    assert Client(nginx.port, journal).authorize(merchant=merchant(RIGHT)).ok
    nginx.stop()
    mariadb.query('DELETE FROM payment_identity', database)

    nginx = start_nginx([shard(mariadb, 'main', database, LEFT),
                         shard(mariadb, 'second', other, RIGHT)], ready=False)
    refuses(nginx, Client(nginx.port), '"main"', 'slot', '0-511',
            merchant=merchant(LEFT))
    assert identities(mariadb, database, other) == [(), ()]


def test_an_empty_standby(start_nginx, mariadb, second_mariadb, database,
                          start_proxy, journal, check):
    """A server that nothing was ever replicated to is no standby: what was
    paid on the first one would be paid again."""

    second_mariadb.new_database(database)
    proxy = start_proxy(mariadb.socket)

    nginx = start_nginx(Shard('main', database, [
        proxy.address, f'unix:{second_mariadb.socket}']))
    ask = Client(nginx.port, journal)
    first = ask.authorize()
    proxy.refuse()

    refuses(nginx, ask, '"main"', second_mariadb.dir.name, 'identity')
    proxy.accept()
    wait_for(lambda: ask.authorize(key=first.key).replayed, 10, 'a replay')
    assert not second_mariadb.query('SELECT * FROM payment', database)
    second_mariadb.drop_database(database)
    check()


def test_adding_a_shard(start_nginx, mariadb, database, other, journal):
    """As docs/operations.md says: its statements, word for word."""

    text = (servers.ROOT / 'docs' / 'operations.md').read_text()
    chapter = text.partition('\n## Adding a shard')[2].partition('\n## ')[0]
    script = re.search('```sql\n(.*?) +```', chapter, re.S)[1] \
        .replace('payment_2.', f'{other}.').replace('payment_1.',
                                                    f'{database}.').rstrip()

    on = 'payment_operations on; payment_authorization_lifetime 1h;'
    nginx = start_nginx(shard(mariadb, 'main', database), http=on)
    ask = Client(nginx.port, journal)
    calls = []

    for slots in (LEFT, RIGHT):
        for number in range(1, 6):
            call = ask.authorize(merchant=merchant(slots, number))
            calls.append(call)
            calls.append(ask.change('capture', call.id, amount=1,
                                    merchant=call.merchant))

    assert all(call.ok for call in calls)
    nginx.stop()

    mariadb.copy(database, other)

    with mariadb.admin() as db:
        for statement in script.split(';\n'):
            db.execute(statement)

    nginx = start_nginx([shard(mariadb, 'main', database, LEFT),
                         shard(mariadb, 'second', other, RIGHT)], http=on)
    ask = Client(nginx.port, journal)

    for call in calls:
        again = ask.send(ask.call(call.operation, call.merchant, call.key,
                                  call.amount, payment=call.payment))
        assert again.replayed and again.body == call.body, again

    for slots, name in ((LEFT, database), (RIGHT, other)):
        assert ask.authorize(merchant=merchant(slots)).ok

        for table in ('payment', 'outbox_event'):
            rows = mariadb.query(f'SELECT merchant_id FROM {table}', name)
            assert rows and {row[0] for row in rows} <= {
                merchant(slots, number) for number in range(1, 6)}

        for table, n in (('payment_operation', 5), ('payment_expiry', 6)):
            assert mariadb.query('SELECT COUNT(*), COUNT(p.id)'
                                 f' FROM {table} o LEFT JOIN payment p'
                                 ' ON p.id = o.payment_id', name) == ((n, n),)

    invariants.check(journal, (mariadb, database), (mariadb, other))
