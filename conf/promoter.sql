-- Who promotes a shard's servers, and what docs/high-availability.md has it do:
-- the claim, the freeze, and the statements around them; no payment can be read
-- or written. To be run in the payment's database, on the primary, once, after
-- ngx-payment-migrate: replicas get it by replication.
--
--     mariadb payment < promoter.sql
--
-- What to put in place of what is here: the password, and the addresses that
-- the manager comes from. A manager that has a user already needs the grants
-- alone, with its name in them.
--
-- SUPER is no substitute: since MariaDB 10.11 it does not include READ_ONLY
-- ADMIN any more, and since 11.0 several of the others either.

-- Without TLS the login is refused. By the unix socket of the database's own
-- machine it is 'promoter'@'localhost', and needs no REQUIRE SSL.
CREATE USER 'promoter'@'10.0.0.%'
    IDENTIFIED BY 'another long random password'
    REQUIRE SSL;

-- payment_claim() and payment_freeze() run with their caller's rights, and
-- `epoch = epoch + 1` reads the row, too
GRANT SELECT, UPDATE            ON payment_topology
    TO 'promoter'@'10.0.0.%';
GRANT EXECUTE                   ON PROCEDURE payment_claim
    TO 'promoter'@'10.0.0.%';
GRANT EXECUTE                   ON PROCEDURE payment_freeze
    TO 'promoter'@'10.0.0.%';

-- SET GLOBAL read_only; and the claim, which is made before that is lifted
GRANT READ_ONLY ADMIN           ON *.*
    TO 'promoter'@'10.0.0.%';

-- RESET SLAVE ALL, without which a promoted server would follow the old primary
-- again when it restarts; RESET MASTER, which loses payments, takes no more
GRANT RELOAD                    ON *.*
    TO 'promoter'@'10.0.0.%';

-- STOP SLAVE, CHANGE MASTER, START SLAVE
GRANT REPLICATION SLAVE ADMIN   ON *.*
    TO 'promoter'@'10.0.0.%';

-- SHOW SLAVE STATUS, which has Gtid_IO_Pos
GRANT SLAVE MONITOR             ON *.*
    TO 'promoter'@'10.0.0.%';

-- SET GLOBAL rpl_semi_sync_master_enabled
GRANT REPLICATION MASTER ADMIN  ON *.*
    TO 'promoter'@'10.0.0.%';
