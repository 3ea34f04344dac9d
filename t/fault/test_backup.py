"""A dump and the binary log bring back every payment with its key; the dump
alone forgets keys, and the same request pays a second time. What waited for
Kafka when it was made is sent again.

The commands are those of docs/day-2.md, "Backup and restore".
"""

import os
import re
import subprocess

import pytest

from client import Client
from outbox import kafka, settings, topic, wait_empty     # noqa: F401
from servers import ROOT, Shard

DATABASE = 'payment'
CHAPTER = (ROOT / 'docs' / 'day-2.md').read_text() \
    .partition('\n## Backup and restore')[2].partition('\n## ')[0]

# of the document: making a dump, looking, and bringing both back
DUMP, LOOK, DATA, LOG = re.search(
    r'^( {4}mariadb-dump .*?)^$'
    r'.*?^( {4}cp .*?)^$\n( {4}mariadb -e .*?)^( {4}mariadb-binlog .*?)^$',
    CHAPTER, re.M | re.S).groups()


class Operator:
    """At a shell of the server, in a directory for what is kept."""

    def __init__(self, server, directory):
        self.binlogs = server.dir / 'mariadb'
        self.directory = directory
        (directory / '.my.cnf').write_text(
            f'[client]\nsocket = {server.socket}\n'
            f'user = {server.login()[-1].partition("=")[2]}\n')

    def sh(self, commands):
        commands = commands.replace('/var/log/mysql', str(self.binlogs))
        return subprocess.run(
            ['sh', '-e', '-c', commands], cwd=self.directory, check=True,
            env=dict(os.environ, HOME=str(self.directory)), timeout=60,
            text=True, stdout=subprocess.PIPE).stdout

    def restore(self, binary_log):
        file, position = re.search(
            r"MASTER_LOG_FILE='(\S+)', MASTER_LOG_POS=(\d+)",
            self.sh(LOOK)).groups()
        files = sorted(copy.name for copy in self.directory.glob('binlog.0*')
                       if copy.name >= file)
        assert len(files) > 1
        self.sh(DATA)

        if binary_log:
            log = LOG.replace('FILE .. LAST', ' '.join(files))
            assert log != LOG
            self.sh(log.replace('POSITION', position))


@pytest.fixture
def server(start_mariadb):
    return start_mariadb('log_bin = binlog\nbinlog_format = ROW')


@pytest.fixture
def operator(server, tmp_path):
    return Operator(server, tmp_path)


@pytest.fixture
def shard(server):
    return Shard('main', DATABASE, f'unix:{server.socket}')


@pytest.mark.parametrize('binary_log', [True, False])
def test_restore(server, operator, shard, start_nginx, journal, binary_log):
    nginx = start_nginx(shard)
    ask = Client(nginx.port, journal)
    first = ask.authorize()
    operator.sh(DUMP)
    second = ask.authorize()
    server.run('FLUSH BINARY LOGS')
    captured = ask.change('capture', first.id, amount=first.amount)
    nginx.stop()

    assert first.ok and second.ok and captured.ok

    # the disk with the data is lost, the one with the binary log is not; and
    # what is restored is none of it, or could not be restored again
    before = server.query('SHOW MASTER STATUS')
    operator.restore(binary_log)
    operator.restore(binary_log)
    assert server.query('SHOW MASTER STATUS') == before

    nginx = start_nginx(shard)
    ask = Client(nginx.port, journal)
    again = ask.authorize(key=second.key)

    assert ask.authorize(key=first.key).id == first.id
    assert again.ok and again.replayed is binary_log
    assert (again.id == second.id) is binary_log
    assert server.query('SELECT COUNT(*) FROM payment',
                        DATABASE)[0][0] == 2

    captured_amount = server.query('SELECT SUM(captured_amount) FROM payment',
                                   DATABASE)[0][0]
    assert captured_amount == (first.amount if binary_log else 0)


def test_what_waited_comes_again(server, operator, shard, start_nginx, journal,
                                 kafka, topic):                   # noqa: F811
    """Kafka is away when the dump is made, and has the event when the data is
    lost: the binary log is lost, too."""

    http = settings(kafka, topic)
    kafka.freeze()

    try:
        nginx = start_nginx(shard, http=http)
        paid = Client(nginx.port, journal).authorize()
        operator.sh(DUMP)
    finally:
        kafka.thaw()

    assert paid.ok
    server.run('FLUSH BINARY LOGS')
    wait_empty(server, DATABASE)
    nginx.stop()
    assert [m.id for m in kafka.messages(topic)] == [f'{paid.id}:1']

    operator.restore(binary_log=False)
    start_nginx(shard, http=http)
    wait_empty(server, DATABASE)
    assert [m.id for m in kafka.messages(topic)] == [f'{paid.id}:1'] * 2
