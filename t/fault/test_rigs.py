"""The rigs for servers that are not as ours is: what a proxy makes of a server,
servers with options of their own, replicas.
"""

import subprocess

import pymysql

import servers
from servers import wait_for

SEMI_SYNC = """
server-id = {}
log-bin = db-bin
sync-binlog = 1
rpl-semi-sync-slave-enabled = 1
rpl-semi-sync-master-timeout = 600000
rpl-semi-sync-master-wait-point = AFTER_COMMIT
"""


def connect(port, user=servers.USER, password=servers.PASSWORD):
    return pymysql.connect(host='127.0.0.1', port=port, user=user,
                           password=password, connect_timeout=10,
                           read_timeout=10)


def test_a_server_of_another_version(proxy):
    proxy.version = '12.1.2-MariaDB'
    proxy.rewrite('@@global.read_only', "IF(@@global.read_only, 'ON', 'OFF')")

    with connect(proxy.port) as connection, connection.cursor() as cursor:
        assert connection.server_version == '5.5.5-12.1.2-MariaDB'

        cursor.execute('SELECT @@global.read_only, 1')
        assert cursor.fetchall() == (('OFF', 1),)


def test_a_plugin(start_mariadb):
    server = start_mariadb(servers.PLUGINS + 'plugin-load-add = auth_ed25519')
    server.query("CREATE USER ed@'127.0.0.1' IDENTIFIED VIA ed25519"
                 " USING PASSWORD('secret')")
    server.query("GRANT SELECT ON payment.* TO ed@'127.0.0.1'")

    said = subprocess.run(
        ['mariadb', '--no-defaults', '--host=127.0.0.1',
         f'--port={server.port}', '--user=ed', '--password=secret', '-NB',
         '-e', 'SELECT CURRENT_USER()'], stdout=subprocess.PIPE, text=True,
        check=True, timeout=30)

    assert said.stdout == 'ed@127.0.0.1\n'


def test_semi_sync(start_mariadb):
    """The primary's COMMIT waits for its replica, which has the row by then."""

    primary = start_mariadb(SEMI_SYNC.format(1))
    replica = start_mariadb(SEMI_SYNC.format(2) + 'read-only = 1')

    replica.replicate(primary)

    # not in its configuration: it would wait for a replica from the start
    primary.query('SET GLOBAL rpl_semi_sync_master_enabled = 1')
    wait_for(lambda: primary.status('Rpl_semi_sync_master_clients') == '1',
             what='a semi-synchronous replica')

    primary.query('CREATE TABLE payment.t (id INT PRIMARY KEY)')
    primary.query('INSERT INTO payment.t VALUES (1)')
    assert int(primary.status('Rpl_semi_sync_master_yes_tx')) >= 1

    wait_for(lambda: replica.query('SELECT id FROM payment.t') == ((1,),),
             what='the row on the replica')
