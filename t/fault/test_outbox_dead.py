"""Dead letters on bad days: answers that are lost, moves by halves, ids that
were given before, replays that nobody waits for any more."""

import time
import urllib.error
import uuid

import pytest

import servers
from outbox import (ADMIN, COLUMNS, admin, fill,          # noqa: F401
                    general_log, judge, kafka, pending, relay, said,
                    start_outbox, topic, wait_empty, wait_leased)
from proxy import is_query
from servers import wait_for
from test_outbox_kafka import (PLAIN, dead, healthy, narrow,      # noqa: F401
                               poison)

RETRY = dict(PLAIN, retry_interval='200ms')


def in_exchange_of(text, then):
    """A command that contains then, on a link that has seen text before."""

    def matches(payload, link):
        if payload[0] == 3 and text in payload:
            link.statements['seen'] = True
            return False

        return payload[0] == 3 and then in payload \
            and link.statements.pop('seen', False)

    return matches


def widen(kafka, topic):
    kafka.configure(topic, max_message_bytes=1000000)


def replay(nginx, number):
    """The status of the answer."""

    try:
        admin(nginx, 'replay', shard='main', id=number)
        return 200
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def behind_proxy(start_outbox, proxy, database):
    def start(**changes):
        nginx = start_outbox(servers.Shard('main', database, proxy.address),
                             nginx=ADMIN, **{**RETRY, **changes})
        wait_leased(nginx)
        return nginx

    return start


@pytest.fixture
def lock_row(mariadb, database):
    """lock_row(payment, version): a session that holds that row."""

    sessions = []

    def lock(payment, version=1):
        session = mariadb.session(database)
        sessions.append(session)
        cursor = session.cursor()
        cursor.execute('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED')
        cursor.execute(f"SELECT id FROM outbox_event WHERE aggregateid ="
                       f" '{payment}' AND version = {version} FOR UPDATE")
        assert cursor.rowcount == 1
        return session

    yield lock

    for session in sessions:
        if session.open:
            session.close()


@pytest.mark.parametrize('action', ['swallow', 'before'])
def test_lost_answer_of_a_move(behind_proxy, proxy, mariadb, database, kafka,
                               narrow, action):
    """Whether or not the move was carried out whose answer was lost, no later
    event of the payment is published before it."""

    nginx = behind_proxy()
    strike = proxy.strike(in_exchange_of(b'INTO outbox_dead', b'COMMIT'),
                          action)
    bad = poison(mariadb, database)
    strike.wait(40)
    healthy(mariadb, database, bad, 2)
    healthy(mariadb, database, bad, 3)
    wait_for(lambda: len(dead(mariadb, database)) == 3, 20, 'all three')
    wait_empty(mariadb, database)
    assert kafka.count(narrow) == 0

    widen(kafka, narrow)
    assert replay(nginx, dead(mariadb, database)[0][4]) == 200
    wait_for(lambda: kafka.count(narrow) == 3, 15, 'all three')
    assert [m.version for m in kafka.messages(narrow)] == [1, 2, 3]


def test_lost_answer_of_a_replay(behind_proxy, proxy, mariadb, database,
                                 kafka, narrow):
    """It was carried out, and nobody knows: the events are published once, in
    order, and no replay is needed any more."""

    nginx = behind_proxy()
    bad = poison(mariadb, database)
    healthy(mariadb, database, bad, 2)
    wait_for(lambda: len(dead(mariadb, database)) == 2, 15, 'both')
    widen(kafka, narrow)
    strike = proxy.strike(in_exchange_of(b'FROM outbox_dead', b'COMMIT'),
                          'swallow')
    replay(nginx, dead(mariadb, database)[0][4])
    strike.wait()
    wait_for(lambda: kafka.count(narrow) == 2, 15, 'both are published')
    wait_empty(mariadb, database)
    assert [m.version for m in kafka.messages(narrow)] == [1, 2]
    assert dead(mariadb, database) == ()


def test_move_by_halves(start_outbox, mariadb, database, kafka, narrow,
                        lock_row):
    """The row can be copied and not deleted, since somebody holds it: it is
    in one place only at any time, and goes to the other later."""

    nginx = start_outbox(nginx=ADMIN, **RETRY)
    wait_leased(nginx)
    kafka.freeze()
    bad = poison(mariadb, database)
    session = lock_row(bad)
    kafka.thaw()
    wait_for(lambda: relay(nginx)['errors'] >= 2, 20, 'moves that fail')
    assert dead(mariadb, database) == ()
    assert len(nginx.lines('moving dead letters failed')) == 1

    session.close()
    wait_for(lambda: dead(mariadb, database), 10, 'the dead letter')
    wait_empty(mariadb, database)
    errors = relay(nginx)['errors']

    widen(kafka, narrow)
    assert replay(nginx, dead(mariadb, database)[0][4]) == 200
    wait_for(lambda: kafka.count(narrow) == 1, 15, 'it is published')
    wait_empty(mariadb, database)
    assert dead(mariadb, database) == ()
    assert relay(nginx)['errors'] == errors


def test_a_failing_move_holds_nobody_up(start_outbox, mariadb, database,
                                        kafka, narrow, lock_row):
    """While one letter can't be moved, another is replayed, and what Kafka has
    is deleted."""

    nginx = start_outbox(nginx=ADMIN, **RETRY)
    wait_leased(nginx)
    other = poison(mariadb, database)
    wait_for(lambda: dead(mariadb, database), 15, 'the first letter')

    kafka.freeze()
    bad = poison(mariadb, database)
    lock_row(bad)
    kafka.thaw()

    # the topic takes others: it is the event that is refused
    expected = fill(mariadb, database, 1)
    wait_for(lambda: relay(nginx)['errors'], 20, 'moves that fail')

    widen(kafka, narrow)
    assert replay(nginx, dead(mariadb, database)[0][4]) == 200
    expected.update({**fill(mariadb, database, 50), f'{other}:1': 'M-1'})
    wait_for(lambda: pending(mariadb, database) == 1, 10, 'the others')
    judge(kafka.messages(narrow), expected, 0, 8)


def test_deletion_that_fails_holds_no_replay_up(start_outbox, mariadb,
                                                database, kafka, narrow,
                                                lock_row):
    nginx = start_outbox(nginx=ADMIN, **RETRY)
    wait_leased(nginx)
    bad = poison(mariadb, database)
    wait_for(lambda: dead(mariadb, database), 15, 'the letter')

    kafka.freeze()
    good = poison(mariadb, database, size=10)
    lock_row(good)
    kafka.thaw()
    wait_for(lambda: relay(nginx)['errors'], 20, 'deletions that fail')
    widen(kafka, narrow)
    assert replay(nginx, dead(mariadb, database)[0][4]) == 200
    wait_for(lambda: kafka.count(narrow) == 2, 15, 'both are published')
    wait_for(lambda: pending(mariadb, database) == 1, 10, 'one is deleted')
    assert bad


def letter(mariadb, database, number, payment, version):
    mariadb.query(f'INSERT INTO outbox_dead (id, {COLUMNS}, reason, attempts,'
                  ' dead_at) VALUES'
                  f" ({number}, 'payment', '{payment}', 'authorized', 'M-2',"
                  f" {version}, UTC_TIMESTAMP(6), NULL, '{{}}', 'test', 5,"
                  ' UTC_TIMESTAMP(3))', database)


def test_id_of_a_dead_letter_is_given_again(start_outbox, mariadb, database,
                                            kafka, narrow):
    """TRUNCATE, a restored dump or a promoted replica give ids again: letters
    of two payments may then have one number. Both are kept, both replayed."""

    nginx = start_outbox(nginx=ADMIN, **RETRY)
    wait_leased(nginx)
    old = str(uuid.uuid4())

    for version, number in ((1, 1), (2, 2), (3, 3)):
        letter(mariadb, database, number, old, version)

    bad = poison(mariadb, database)
    healthy(mariadb, database, bad, 2)
    wait_for(lambda: len(dead(mariadb, database)) == 5, 15, 'all five')
    wait_empty(mariadb, database)

    rows = dead(mariadb, database)
    assert {row[:2] for row in rows} == \
        {(old, v) for v in (1, 2, 3)} | {(bad, v) for v in (1, 2)}
    assert relay(nginx)['errors'] == 0

    widen(kafka, narrow)

    for payment in (bad, old):
        number = [row[4] for row in rows if row[0] == payment][0]
        assert replay(nginx, number) == 200

    wait_for(lambda: kafka.count(narrow) == 5, 15, 'all five')
    wait_empty(mariadb, database)
    assert dead(mariadb, database) == ()
    judge(kafka.messages(narrow),
          {**{f'{old}:{v}': 'M-2' for v in (1, 2, 3)},
           **{f'{bad}:{v}': 'M-1' for v in (1, 2)}}, 0, 8)


def test_replay_onto_a_used_id(start_outbox, mariadb, database, kafka, topic):
    """A letter's number is that of an event which waits: both are published,
    and the letter's payment in order."""

    nginx = start_outbox(nginx=ADMIN, **RETRY)
    wait_leased(nginx)
    mariadb.query('ALTER TABLE outbox_event AUTO_INCREMENT = 100', database)
    payment = str(uuid.uuid4())
    letter(mariadb, database, 100, payment, 1)
    letter(mariadb, database, 101, payment, 2)

    # events that wait, with those ids
    admin(nginx, 'pause')
    expected = fill(mariadb, database, 10)
    assert replay(nginx, 100) == 200
    admin(nginx, 'resume')
    expected.update({f'{payment}:{v}': 'M-2' for v in (1, 2)})
    wait_empty(mariadb, database)
    judge(kafka.messages(topic), expected, 0, 8)
    assert dead(mariadb, database) == ()


def test_letter_in_both_tables(start_outbox, mariadb, database, kafka, narrow):
    """As a move by halves of an older release has left it."""

    nginx = start_outbox(nginx=ADMIN, **RETRY)
    wait_leased(nginx)
    kafka.freeze()
    bad = poison(mariadb, database)
    number = mariadb.query('SELECT id FROM outbox_event', database)[0][0]
    letter(mariadb, database, number, bad, 1)
    kafka.thaw()
    wait_empty(mariadb, database, 15)
    assert [row[:2] for row in dead(mariadb, database)] == [(bad, 1)]
    assert relay(nginx)['errors'] == 0


def test_replay_taken_back(behind_proxy, proxy, mariadb, database, kafka,
                           narrow):
    """Who was told that the replay failed may count on it."""

    nginx = behind_proxy()
    poison(mariadb, database)
    wait_for(lambda: dead(mariadb, database), 15, 'the letter')
    wait_empty(mariadb, database)
    widen(kafka, narrow)
    number = dead(mariadb, database)[0][4]

    proxy.refuse()
    assert replay(nginx, number) >= 400

    # nobody else waits for what was taken back
    admin(nginx, 'breaker-force-open')
    admin(nginx, 'breaker-reset')
    proxy.accept()

    expected = fill(mariadb, database, 10)
    wait_empty(mariadb, database, 20)
    time.sleep(1)
    judge(kafka.messages(narrow), expected, 0, 8)
    assert len(dead(mariadb, database)) == 1

    # and it can be asked for again
    assert replay(nginx, number) == 200
    wait_for(lambda: kafka.count(narrow) == 11, 15, 'it is published')


def test_replay_before_a_late_commit(behind_proxy, mariadb, database, kafka,
                                     narrow, general_log):
    """A later version has its id and is not committed yet, and the lowest row
    that is committed is some ids above it."""

    nginx = behind_proxy()
    fill(mariadb, database, 10)         # so that there are ids below
    bad = poison(mariadb, database)
    wait_for(lambda: dead(mariadb, database), 15, 'the letter')
    letter = dead(mariadb, database)[0][4]
    wait_for(lambda: said(mariadb, database,
                          f'FROM outbox_event WHERE id < {letter + 1})'),
             15, 'a helper that knows where nothing can come any more')
    widen(kafka, narrow)
    kafka.freeze()

    try:
        late = mariadb.session(database)
        cursor = late.cursor()
        cursor.execute(
            f"INSERT INTO outbox_event ({COLUMNS}) VALUES ('payment', '{bad}',"
            " 'captured', 'M-1', 2, UTC_TIMESTAMP(6), NULL, '{}')")

        # ids that nobody has
        with mariadb.admin(database) as db:
            db.execute('START TRANSACTION')
            for _ in range(5):
                db.execute(
                    f"INSERT INTO outbox_event ({COLUMNS}) VALUES ('payment',"
                    " UUID(), 'authorized', 'M-2', 1, UTC_TIMESTAMP(6), NULL,"
                    " '{}')")
            db.execute('ROLLBACK')

        fill(mariadb, database, 1)
        assert replay(nginx, letter) == 200
        assert mariadb.query('SELECT id FROM outbox_event WHERE aggregateid ='
                             f" '{bad}' AND version = 1",
                             database)[0][0] < cursor.lastrowid
        late.commit()
        late.close()
    finally:
        kafka.thaw()

    wait_for(lambda: kafka.count(narrow) == 13, 20, 'all of them')
    wait_empty(mariadb, database)
    ours = [m for m in kafka.messages(narrow) if m.id.startswith(bad)]
    assert [m.version for m in ours] == [1, 2]


def test_replay_during_a_read(behind_proxy, proxy, mariadb, database, kafka,
                              narrow):
    """The read still saw the dead letter, and so that a later event is to
    follow it; when its answer comes that is not so any more."""

    nginx = behind_proxy()
    bad = poison(mariadb, database)
    wait_for(lambda: dead(mariadb, database), 15, 'the letter')
    wait_empty(mariadb, database)
    widen(kafka, narrow)

    admin(nginx, 'pause')
    healthy(mariadb, database, bad, 2)
    read = proxy.strike(is_query(b'FROM outbox_event WHERE id > '), 'withhold')
    admin(nginx, 'resume')
    read.wait()
    assert replay(nginx, dead(mariadb, database)[0][4]) == 200
    assert dead(mariadb, database) == ()
    read.release()

    wait_for(lambda: kafka.count(narrow) == 2, 15, 'both')
    wait_empty(mariadb, database)
    assert [m.version for m in kafka.messages(narrow)] == [1, 2]
    assert dead(mariadb, database) == ()


def test_replay_frees_what_waits_to_follow(start_outbox, mariadb, database,
                                           kafka, narrow, lock_row):
    """An event was read as one that follows a dead letter, and could not be
    moved yet: after the replay it is published behind it."""

    nginx = start_outbox(nginx=ADMIN, **RETRY)
    wait_leased(nginx)
    bad = poison(mariadb, database)
    wait_for(lambda: dead(mariadb, database), 15, 'the letter')
    wait_empty(mariadb, database)
    widen(kafka, narrow)

    # written and locked in one transaction: nobody moves it in between
    session = mariadb.session(database)
    session.cursor().execute(
        f"INSERT INTO outbox_event ({COLUMNS}) VALUES ('payment', '{bad}',"
        " 'captured', 'M-1', 2, UTC_TIMESTAMP(6), NULL, '{}')")
    admin(nginx, 'pause')
    session.commit()
    session.close()
    lock_row(bad, 2)
    admin(nginx, 'resume')
    wait_for(lambda: relay(nginx)['errors'], 15, 'a move that fails')

    assert replay(nginx, dead(mariadb, database)[0][4]) == 200
    wait_for(lambda: kafka.count(narrow) == 2, 15, 'both')
    assert [m.version for m in kafka.messages(narrow)] == [1, 2]
    assert dead(mariadb, database) == ()


COUNTED = 'SELECT COUNT(%) FROM (SELECT 1 FROM outbox_dead'


def letters(mariadb, database, n):
    """So many, that nobody asks for."""

    mariadb.query(f'INSERT INTO outbox_dead (id, {COLUMNS}, reason, attempts,'
                  " dead_at) SELECT seq, 'payment', UUID(), 'authorized',"
                  " 'M1', 1, UTC_TIMESTAMP(6), NULL, '{}', 'test', 1,"
                  f' UTC_TIMESTAMP(3) FROM seq_1_to_{n}', database)


def test_a_count_that_hangs(start_outbox, mariadb, database, kafka, topic,
                            general_log):
    """Letters that cannot be counted keep neither the lease nor deletions:
    the count is given up, and the gauge keeps the last one. Who does not hold
    the lease does not count."""

    nginx = start_outbox(lock_at_most_for='2s')
    wait_leased(nginx)
    other = start_outbox(lock_at_most_for='2s')
    letters(mariadb, database, 3)
    wait_for(lambda: relay(nginx)['dead_letters'] == 3, 10, 'three')
    before = relay(nginx)
    connections = set(mariadb.connections(database))

    with mariadb.admin(database) as db:
        db.execute('LOCK TABLES outbox_dead WRITE')
        expected = {}
        end = time.monotonic() + 6

        while time.monotonic() < end:
            expected.update(fill(mariadb, database, 100))
            wait_for(lambda: not pending(mariadb, database), 1.5, 'deletions')
            assert relay(nginx)['lease_held']
            assert relay(nginx)['dead_letters'] == 3

        db.execute('DELETE FROM outbox_dead')
        db.execute('UNLOCK TABLES')

    # none was given up for an answer that did not come
    assert set(mariadb.connections(database)) >= connections
    wait_for(lambda: relay(nginx)['dead_letters'] == 0, 20, 'none')

    after = relay(nginx)
    assert (after['lease_epoch'], after['errors']) == \
        (before['lease_epoch'], before['errors'])
    assert not relay(other)['lease_held']
    assert said(mariadb, database, COUNTED, 'COUNT(DISTINCT thread_id)') == 1
    judge(kafka.messages(topic), expected, 0, 8)
