"""What InnoDB shows is not on disk yet: nothing is in Kafka that a power cut
takes back."""

import pytest

from client import Client
from outbox import (committed, fill, judge, kafka, pending,     # noqa: F401
                    relay, start_outbox, topic, wait_empty, wait_leased)
from servers import wait_for


@pytest.fixture
def mariadb(start_mariadb):
    """In place of the one that all tests share."""
    return start_mariadb(faulty_disk=True)


def behind_a_stalled_disk(mariadb, database, ask):
    """A payment whose COMMIT waits for the disk, and whose event was read."""

    mariadb.disk.stall()
    answer = ask.later([ask.call()])
    wait_for(lambda: pending(mariadb, database) == 1, 10, 'a visible event')

    # the reader's own COMMIT, behind the rows that it has read
    wait_for(lambda: mariadb.query(
        'SELECT COUNT(*) FROM information_schema.processlist'
        " WHERE info LIKE '%\\'reader/%' AND command = 'Query'"
        ' AND id <> CONNECTION_ID()')[0][0], 10, 'a reader that waits')

    return answer


@pytest.mark.parametrize('power', ['stays', 'is cut'])
def test_not_on_disk_not_in_kafka(start_outbox, mariadb, database, kafka,
                                  topic, journal, power):
    nginx = start_outbox()
    wait_leased(nginx)
    ask = Client(nginx.port, journal)
    answer = behind_a_stalled_disk(mariadb, database, ask)
    assert kafka.count(topic) == 0
    assert relay(nginx)['in_flight'] == 0

    if power == 'stays':
        mariadb.disk.resume()
        call, = answer.result(10)
        assert call.ok, call

    else:
        assert mariadb.cut_power() > 0
        mariadb.start()
        answer.result(20)                # it may have been done again
        nginx.wait_connected(20)
        wait_for(lambda: ask.authorize().ok, 20, 'a payment')

    wait_empty(mariadb, database, 40)
    judge(kafka.messages(topic), committed(mariadb, database), 0, 8)


def barriers(mariadb, database):
    """What readers have committed themselves."""

    return int(mariadb.query(
        "SELECT COALESCE(SUM(epoch), 0) FROM outbox_lease"
        " WHERE name LIKE 'reader/%'", database)[0][0])


def test_what_a_worker_has_proved(start_outbox, mariadb, database, kafka,
                                  topic, journal):
    """Its own payments are published without another COMMIT, and what somebody
    else has written is not."""

    nginx = start_outbox()
    wait_leased(nginx)
    ask = Client(nginx.port, journal)
    before = barriers(mariadb, database)

    for number in range(1, 101):
        assert ask.authorize().ok
        wait_for(lambda: relay(nginx)['published'] >= number, 10, 'its event')

    # a look of the poll interval may come between a COMMIT and its answer
    assert barriers(mariadb, database) - before < 50

    before = barriers(mariadb, database)
    fill(mariadb, database, 10)
    wait_empty(mariadb, database)
    assert barriers(mariadb, database) > before
