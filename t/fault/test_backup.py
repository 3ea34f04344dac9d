"""A dump and the binary log bring back every payment with its key; the dump
alone forgets keys, and the same request pays a second time.
"""

import re
import subprocess

import pytest

from client import Client
from servers import Shard


def tool(*arguments, **settings):
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE,
                          timeout=60, **settings).stdout


@pytest.mark.parametrize('binary_log', [True, False])
def test_restore(start_mariadb, start_nginx, journal, binary_log):
    server = start_mariadb('log_bin = binlog\nbinlog_format = ROW')
    database = 'payment'
    shard = Shard('main', database, f'unix:{server.socket}')

    nginx = start_nginx(shard)
    ask = Client(nginx.port, journal)
    first = ask.authorize()
    dump = tool('mariadb-dump', *server.login(), '--single-transaction',
                '--routines', '--master-data=2', database)
    second = ask.authorize()
    captured = ask.change('capture', first.id, amount=first.amount)
    nginx.stop()

    assert first.ok and second.ok and captured.ok

    # the disk with the data is lost, the one with the binary log is not
    file, start = re.search(rb"MASTER_LOG_FILE='(\S+)', MASTER_LOG_POS=(\d+)",
                            dump).groups()
    log = tool('mariadb-binlog', '--no-defaults', b'--start-position=' + start,
               f'--database={database}',
               server.dir / 'mariadb' / file.decode())

    server.run(f'SET sql_log_bin = 0; DROP DATABASE {database};'
               f' CREATE DATABASE {database}')
    tool('mariadb', *server.login(), database, input=dump)

    if binary_log:
        tool('mariadb', *server.login(), input=log)

    nginx = start_nginx(shard)
    ask = Client(nginx.port, journal)
    again = ask.authorize(key=second.key)

    assert ask.authorize(key=first.key).id == first.id
    assert again.ok and again.replayed is binary_log
    assert (again.id == second.id) is binary_log
    assert server.query('SELECT COUNT(*) FROM payment',
                        database)[0][0] == 2

    captured_amount = server.query('SELECT SUM(captured_amount) FROM payment',
                                   database)[0][0]
    assert captured_amount == (first.amount if binary_log else 0)
