"""What InnoDB shows is not on disk yet: nothing is in Kafka that a power cut
takes back."""

import pytest

from client import Client
from outbox import (committed, judge, kafka, pending,     # noqa: F401
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
