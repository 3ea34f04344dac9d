"""Several shards: what happens to one is nobody else's business."""

import invariants
from client import Client, Load
from outbox import free_lease, settings
from proxy import is_bulk_of, is_query
from servers import Shard, merchant, wait_for
from test_expiry import Nowhere


def test_one_shard_is_down(start_nginx, mariadb, database, start_proxy,
                           journal):
    """In every way there is; only its merchants hear of it."""

    other = mariadb.new_database()
    proxy = start_proxy(mariadb.socket)

    nginx = start_nginx(
        [Shard('left', database, f'unix:{mariadb.socket}', '0-511'),
         Shard('right', other, proxy.address, '512-1023',
               connect_timeout='1s', read_timeout='1s')],
        location='payment_timeout 2s;')
    ask = Client(nginx.port, journal)
    left, right = merchant((0, 511)), merchant((512, 1023))
    payments = {}

    for name in (left, right):
        payments[name] = ask.authorize(merchant=name).id

    with Load(nginx.port, journal, clients=6, merchant=left, changes=True,
              pause=0.002) as good, \
         Load(nginx.port, journal, clients=6, merchant=right,
              changes=True, pause=0.002, name='bad') as bad:

        good.wait(50)
        bad.wait(50)

        proxy.refuse()
        wait_for(lambda: ask.authorize(merchant=right).status == 503, 5,
                 '503')
        good.wait(100)
        proxy.accept()
        bad.wait(50)

        proxy.black_hole()
        wait_for(lambda: ask.authorize(merchant=right).status in (503, 504),
                 8, 'an end of the waiting')
        good.wait(100)
        proxy.heal()
        bad.wait(50)

        mariadb.query('RENAME TABLE idempotency_key TO lost', other)
        wait_for(lambda: ask.authorize(merchant=right).status == 503, 5,
                 '503')
        good.wait(100)
        mariadb.query('RENAME TABLE lost TO idempotency_key', other)
        bad.wait(50)

    assert not good.bad(), good.bad()[:5]
    assert max(call.seconds for call in good.calls) < 0.5
    assert {call.status for call in bad.bad()} <= {503, 504}

    # the id alone finds the shard; another's merchant does not
    for name, ident in payments.items():
        call = ask.change('capture', ident, merchant=name, amount=1)
        assert call.ok, call

    call = ask.change('capture', payments[left], merchant=right, amount=1)
    assert call.status == 404, call

    # I16: every row lies where its merchant does
    for name, tenant in ((database, left), (other, right)):
        for table in ('payment', 'outbox_event'):
            rows = mariadb.query(f'SELECT DISTINCT merchant_id FROM {table}',
                                 name)
            assert [row[0] for row in rows] == [tenant]

    invariants.check(journal, (mariadb, database), (mariadb, other),
                     settle=ask)
    nginx.stop()
    mariadb.drop_database(other)


def test_each_shard_is_told_of(start_nginx, mariadb, database, start_proxy,
                               journal):
    """Where both fail in the same way, the error log has both names, of what a
    worker does and of what the helper does."""

    other = mariadb.new_database()
    free_lease(mariadb, database, other)
    proxies = [start_proxy(mariadb.socket) for _ in range(2)]

    for proxy in proxies:
        proxy.strike(is_bulk_of(b'INSERT INTO idempotency_key'), 'error',
                     error=1364, times=100000)
        proxy.strike(is_query(b'UPDATE outbox_lease'), 'error', error=1364,
                     times=100000)

    nginx = start_nginx(
        [Shard('left', database, proxies[0].address, '0-511'),
         Shard('right', other, proxies[1].address, '512-1023')],
        http=settings(Nowhere, 'payments'), workers=1)
    ask = Client(nginx.port, journal)

    for slots in ((0, 511), (512, 1023)):
        assert ask.authorize(merchant=merchant(slots)).status == 503

    for who in ('payment', 'payment outbox'):
        for name in ('left', 'right'):
            wait_for(lambda: [line for line
                              in nginx.lines(f'{who}: shard "{name}": ')
                              if '(1364)' in line], 5, (who, name))

    nginx.stop()
    mariadb.drop_database(other)
