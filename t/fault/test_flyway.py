"""Flyway applies sql/ as ngx-payment-migrate does, and the module takes
payments on what it made."""

import subprocess

import pytest

from client import Client
from migrations import Checkout
from servers import ROOT, Shard

FLYWAY = ROOT / 't' / 'flyway'


@pytest.fixture
def migrated(mariadb):
    """The name of a database that Flyway made."""

    name = mariadb.empty_database()
    mariadb.query("CREATE USER 'flyway'@'127.0.0.1' IDENTIFIED BY 'flyway'")
    mariadb.query(f"GRANT ALL ON {name}.* TO 'flyway'@'127.0.0.1'")
    subprocess.run([ROOT / 'tools' / 'fetch.sh', 'flyway'], check=True)

    for _ in range(2):                      # the second has nothing to apply
        done = subprocess.run(
            ['java', '-cp', f"{ROOT / 'build/flyway/libs'}/*",
             FLYWAY / 'Migrate.java',
             f'jdbc:mariadb://127.0.0.1:{mariadb.port}/{name}', 'flyway',
             'flyway', f'filesystem:{ROOT}/sql',
             f'filesystem:{ROOT}/conf/flyway'],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=120)
        assert done.returncode == 0, done.stdout

    yield name
    mariadb.query("DROP USER 'flyway'@'127.0.0.1'")
    mariadb.drop_database(name)


def tables(mariadb, database):
    return mariadb.query(
        'SELECT table_name, column_name, column_type, is_nullable,'
        ' column_default FROM information_schema.columns'
        f" WHERE table_schema = '{database}'"
        " AND table_name <> 'flyway_schema_history' ORDER BY 1, 2")


@pytest.mark.timeout(300)
def test_flyway(migrated, mariadb, start_nginx, journal, tmp_path):
    nginx = start_nginx(Shard('main', migrated, f'unix:{mariadb.socket}'))
    ask = Client(nginx.port, journal)
    paid = ask.authorize()
    assert paid.ok and ask.change('capture', paid.id, amount=paid.amount).ok

    # the same tables, and who comes later with ngx-payment-migrate goes on
    checkout = Checkout(tmp_path / 'checkout')
    usual = mariadb.empty_database()

    try:
        checkout.run(mariadb, 'up', usual)
        assert tables(mariadb, migrated) == tables(mariadb, usual)
        assert 'nothing to apply' in checkout.run(mariadb, 'up', migrated)

        query = 'SELECT version, kind, checksum FROM payment_schema_version'
        assert mariadb.query(query, migrated) == mariadb.query(query, usual)
    finally:
        mariadb.drop_database(usual)
