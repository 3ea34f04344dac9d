"""No password, no key and no body is in anything that somebody may be shown:
the log at its most talkative, nginx -T, the status pages, the terminal.
"""

import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request

import pytest

import servers
from outbox import (ADMIN, free_lease, helper, kafka,    # noqa: F401
                    settings, topic, wait_empty)
from servers import Shard, wait_for

DB_PASSWORD = 'hush-database-9d1c'
KAFKA_PASSWORD = 'hush-kafka-52ab'
KEY_PASSWORD = 'hush-keystore-77e0'
BODY_KEY = 'hush-body-key-1f44'
HEADER_KEY = 'hush-header-key-88c2'
METADATA = 'hush-metadata-3b6e'
REASON = 'hush-reason-c0de'
NONSENSE = 'hush-nonsense-4e4e'

# nginx's own line for each header that it reads, at the level debug alone
HEADER = re.compile(r'^.* \[debug\] .* http header: .*$', re.M)


@pytest.fixture
def user(mariadb, database):
    """A user of the database whose password is like no other text."""

    mariadb.query("CREATE USER 'hush'@'localhost' IDENTIFIED BY"
                  f" '{DB_PASSWORD}'")
    mariadb.query(f"GRANT ALL ON {database}.* TO 'hush'@'localhost'")
    yield 'hush'
    mariadb.query("DROP USER 'hush'@'localhost'")


def post(nginx, path, body, headers=()):
    request = urllib.request.Request(
        f'http://127.0.0.1:{nginx.port}/api/payments{path}', data=body,
        headers={'Content-Type': 'application/json', **dict(headers)})

    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def get(nginx, path):
    with urllib.request.urlopen(f'http://127.0.0.1:{nginx.port}{path}',
                                timeout=20) as answer:
        return answer.read().decode()


@pytest.mark.timeout(300)
def test_nothing_tells_a_secret(start_nginx, mariadb, database, user, kafka,
                                topic, journal, tmp_path):
    (tmp_path / 'db').write_text(DB_PASSWORD + '\n')
    (tmp_path / 'kafka').write_text(KAFKA_PASSWORD + '\n')
    (tmp_path / 'keystore').write_text(KEY_PASSWORD + '\n')
    free_lease(mariadb, database)

    nginx = start_nginx(
        Shard('main', database, f'unix:{mariadb.socket}', user=user,
              password=None, password_file=tmp_path / 'db'),
        http=settings(kafka, topic, kafka_property='debug all',
                      kafka_property_file=[
                          f'sasl.password {tmp_path}/kafka',
                          f'ssl.key.password {tmp_path}/keystore']),
        location='}\n        location = /metrics {\n'
                 '            payment_status prometheus;\n' + ADMIN['location'],
        level='debug')
    shown = []

    def authorize(**members):
        return json.dumps({'merchantId': 'M-1', 'amount': 1000,
                           'currency': 'KRW', 'idempotencyKey': BODY_KEY,
                           'metadata': {'note': METADATA}, **members}).encode()

    # the good, the repeated, the bad
    status, paid = post(nginx, '/authorize', authorize())
    assert status == 200
    assert post(nginx, '/authorize', authorize())[0] == 200
    shown.append(str(post(nginx, '/authorize', authorize(amount=2000))))
    assert post(nginx, '/authorize', json.dumps(
        {'merchantId': 'M-1', 'amount': 1, 'currency': 'KRW'}).encode(),
        {'Idempotency-Key': HEADER_KEY})[0] == 200

    target = f"/capture/{paid['paymentId']}"
    assert post(nginx, target, b'{"merchantId": "M-1"}')[0] == 200
    assert post(nginx, target.replace('capture', 'refund'), json.dumps(
        {'merchantId': 'M-1', 'reason': REASON}).encode())[0] == 200

    for body in (b'{"' + NONSENSE.encode(), b'\xff' + NONSENSE.encode(),
                 NONSENSE.encode(), authorize(amount=NONSENSE)):
        status, said = post(nginx, '/authorize', body)
        assert status == 400
        shown.append(str(said))

    # the database refuses, goes away and comes back
    wait_empty(mariadb, database)
    mariadb.query(f"SET PASSWORD FOR '{user}'@'localhost' ="
                  " PASSWORD('another')")
    mariadb.kill_connections(database)
    mariadb.query('KILL USER hush')
    wait_for(lambda: nginx.lines('Access denied'), 10, 'a refusal')
    shown.append(str(post(nginx, '/authorize', authorize(
        idempotencyKey=BODY_KEY + '-2'))))
    mariadb.query(f"SET PASSWORD FOR '{user}'@'localhost' ="
                  f" PASSWORD('{DB_PASSWORD}')")
    nginx.wait_connected()

    # Kafka refuses
    kafka.stop()
    assert post(nginx, '/authorize', authorize(
        idempotencyKey=BODY_KEY + '-3'))[0] == 200
    shown += [get(nginx, path) for path in ('/status', '/metrics', '/outbox')]
    kafka.start()
    wait_empty(mariadb, database, 60)

    # processes die
    nginx.expect('exited on signal 11')
    os.kill(nginx.worker_pids()[0], signal.SIGSEGV)
    os.kill(helper(nginx), signal.SIGSEGV)
    wait_for(lambda: len(nginx.lines('exited on signal 11')) == 2, 10, 'deaths')
    wait_for(lambda: len(nginx.worker_pids()) == nginx.workers, 10, 'workers')
    nginx.reload()

    shown += [get(nginx, path) for path in ('/status', '/metrics', '/outbox')]
    shown.append(subprocess.run(
        [servers.NGINX, '-T', '-p', nginx.dir, '-c', nginx.dir / 'nginx.conf',
         '-e', nginx.log], check=True, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT).stdout)
    assert 'payment_kafka_property_file' in shown[-1]

    nginx.quit()

    for name in 'error.log', 'stdout', 'stderr':
        shown.append((nginx.dir / name).read_text(errors='replace'))

    # it was as talkative as it can be, and the way of looking finds a secret
    log = shown[-3]
    assert '[debug]' in log and HEADER_KEY in log
    assert any(HEADER_KEY in line for line in HEADER.findall(log))
    assert 'rdkafka' in log.lower() or 'BROKER' in log

    for text in shown:
        text = HEADER.sub('', text)
        found = re.findall(r'.*hush-.*', text)
        assert not found, found[:5]
