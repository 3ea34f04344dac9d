"""What the image of deploy/Dockerfile would do, without a container: its script
makes the database, and nginx runs deploy/nginx.conf as user 33 with a root file
system that it cannot write to, two directories, and no capability.
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
from freeport import free_port
from outbox import (committed, judge, kafka, topic,      # noqa: F401
                    wait_empty)
from servers import ROOT, wait_for
from test_install import installed                              # noqa: F401
from test_sandbox import SANDBOX

USER = 33
PASSWORD = "it's a \\ long one"


@pytest.fixture
def secrets(tmp_path):
    (tmp_path / 'db-password').write_text(PASSWORD + '\n')
    (tmp_path / 'admin-password').write_text('\n')
    return tmp_path


@pytest.fixture
def shop(mariadb):
    """The name of a database that is not there yet."""

    name = f'container_{mariadb.count}'
    yield name
    mariadb.query(f'DROP DATABASE IF EXISTS {name}')
    mariadb.query("DROP USER IF EXISTS 'clerk'@'localhost'")


def prepare(mariadb, installed, secrets, shop, verb='up'):
    """ngx-payment-database, as compose.yaml and the chart's Job call it."""

    said = subprocess.run(
        [ROOT / 'deploy' / 'database.sh', verb, '--protocol=socket',
         f'--socket={mariadb.socket}'],
        env=dict(os.environ, PATH=f"{installed}/bin:{os.environ['PATH']}",
                 PAYMENT_DOC=f'{installed}/share/doc/libnginx-mod-http-payment',
                 PAYMENT_DB_HOST='localhost', PAYMENT_DB_NAME=shop,
                 PAYMENT_DB_ADMIN=servers._me(), PAYMENT_DB_USER='clerk',
                 PAYMENT_DB_USER_HOST='localhost',
                 PAYMENT_DB_ADMIN_PASSWORD=str(secrets / 'admin-password'),
                 PAYMENT_DB_PASSWORD=str(secrets / 'db-password')),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert said.returncode == 0, said.stdout
    return said.stdout


def configuration(mariadb, kafka, topic, shop, secrets, directory, ports):
    text = (ROOT / 'deploy' / 'nginx.conf').read_text()

    for there, here in (
            ('modules/ngx_http_payment_module.so', servers.MODULES),
            ('/run/nginx', directory / 'run'),
            ('/var/lib/nginx', directory / 'state'),
            ('/run/secrets', secrets),
            ('mariadb:3306', f'unix:{mariadb.socket}'),
            ('database       payment', f'database {shop}'),
            ('user           payment', 'user clerk'),
            ('kafka:9092', kafka.address),
            ('payment_kafka_topic    payments', f'payment_kafka_topic {topic}'),
            ('listen  8080', f'listen 127.0.0.1:{ports[0]}'),
            ('listen  8081', f'listen 127.0.0.1:{ports[1]}')):
        assert there in text, there
        text = text.replace(there, str(here))

    return text


def pre_stop():
    """The chart's command, as Kubernetes has it after Helm."""

    text = (ROOT / 'deploy/helm/ngx-payment/templates/deployment.yaml'
            ).read_text()
    command = re.search(r'- >-\n(.*?exec sleep )', text, re.S)[1]
    return ' '.join(command.split()) + ' 0'


def ask(port, path, body=None):
    request = urllib.request.Request(
        f'http://127.0.0.1:{port}{path}',
        data=body and json.dumps(body).encode(),
        headers={'Content-Type': 'application/json'})

    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.geteuid() != 0, reason='root alone can become another')
def test_the_image(mariadb, kafka, topic, work, installed, secrets, shop,
                   tmp_path_factory):
    assert 'applied' in prepare(mariadb, installed, secrets, shop)
    assert 'nothing to apply' in prepare(mariadb, installed, secrets, shop)
    assert 'nothing to apply' in prepare(mariadb, installed, secrets, shop,
                                         'finish')

    # where everybody may get to
    directory = work / 'container'
    subprocess.run(['rm', '-rf', directory], check=True)

    for name in 'run', 'state':
        (directory / name).mkdir(parents=True)
        os.chown(directory / name, USER, USER)

    ports = free_port(), free_port()
    (directory / 'nginx.conf').write_text(configuration(
        mariadb, kafka, topic, shop, directory, directory, ports))

    password = directory / 'db-password'
    password.write_text(PASSWORD + '\n')
    password.chmod(0o440)
    os.chown(password, 0, USER)

    log = open(directory / 'log', 'wb')
    os.fchown(log.fileno(), USER, USER)
    nginx = subprocess.Popen(
        ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', SANDBOX,
         'sandbox', directory, 'setpriv', f'--reuid={USER}', f'--regid={USER}',
         '--clear-groups', '--no-new-privs', '--bounding-set=-all',
         '--inh-caps=-all', servers.NGINX, '-c', directory / 'nginx.conf',
         '-e', 'stderr', '-g', 'daemon off;'],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def said():
        return (directory / 'log').read_text()

    def connected():
        assert nginx.poll() is None, said()

        try:
            return ask(ports[1], '/status')['shards'][0]['connections_open']
        except OSError:
            return False

    try:
        wait_for(connected, 20, 'nginx pays')
        paid = ask(ports[0], '/api/payments/authorize', {
            'merchantId': 'M-1', 'amount': 1000, 'currency': 'KRW',
            'idempotencyKey': 'first'})
        assert paid['status'] == 'AUTHORIZED'

        # the engine's check, and what a pod does before its end
        assert ask(ports[1], '/live') and ask(ports[1], '/ready')
        socket = directory / 'run' / 'admin.sock'
        subprocess.run(pre_stop().replace('/run/nginx', f'{directory}/run'),
                       shell=True, check=True, timeout=60)

        with pytest.raises(urllib.error.HTTPError) as error:
            ask(ports[1], '/ready')

        assert error.value.code == 503
        assert ask(ports[1], '/live')

        wait_empty(mariadb, shop)
        judge(kafka.messages(topic), committed(mariadb, shop), 0, 8)

        # as the engine stops it
        nginx.send_signal(signal.SIGQUIT)
        assert nginx.wait(20) == 0
    finally:
        if nginx.poll() is None:
            # its workers would outlive a killed master
            nginx.terminate()
            nginx.wait(20)

    assert not re.search(r'\[(alert|emerg|crit|error)\]', said()), said()
    assert not socket.exists()
    assert PASSWORD not in said()
