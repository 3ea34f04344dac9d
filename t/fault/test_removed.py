"""A payment that was removed while its key was kept, and an id that is taken."""

import pytest

from client import Load


@pytest.mark.parametrize('operation', ['authorize', 'capture'])
def test_the_key_of_a_payment_that_was_removed(nginx, mariadb, database, ask,
                                               operation):
    """The same answer at once, each time; nobody waits with it."""

    first = ask.authorize()
    payment = first.id
    change = ask.change('capture', payment, amount=1)
    assert change.ok

    mariadb.query('DELETE FROM payment', database)
    mariadb.query('DELETE FROM outbox_event', database)
    again = first if operation == 'authorize' else change

    with Load(nginx.port, [], clients=4) as load:
        for _ in range(5):
            call = ask.send(ask.call(operation, key=again.key,
                                     amount=again.amount,
                                     payment=again.payment))
            assert call.status == 410 and call.code == 'PAYMENT_GONE', call
            assert call.seconds < 1

        load.wait(20)

    assert not load.bad(), load.bad()[:5]

    # another request under the key is told that first
    call = ask.send(ask.call(operation, key=again.key, amount=77,
                             payment=again.payment))
    assert call.status == 422, call


def test_an_id_that_is_taken(nginx, mariadb, database, ask, check):
    """Another payment has it: this one gets another. The table that
    remembers the first id is no part of the transaction."""

    with mariadb.admin(database) as db:
        db.execute('CREATE TABLE taken (id BINARY(16)) ENGINE=MyISAM')
        db.execute("""CREATE TRIGGER taken BEFORE INSERT ON payment
            FOR EACH ROW BEGIN
                IF (SELECT COUNT(*) FROM taken) = 0 THEN
                    INSERT INTO taken VALUES (NEW.id);
                END IF;
                IF EXISTS (SELECT 1 FROM taken WHERE id = NEW.id) THEN
                    SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1062,
                        MESSAGE_TEXT = 'Duplicate entry';
                END IF;
            END""")

    calls = ask.at_once([ask.call() for _ in range(10)])
    assert all(call.ok and not call.replayed for call in calls), calls
    assert len(mariadb.query('SELECT id FROM taken', database)) == 1
    assert len(check().payments) == 10
