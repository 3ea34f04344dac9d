"""Several shards: what happens to one is nobody else's business."""

import invariants
from client import Client, Load
from servers import Shard, merchant, wait_for


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
