-- expand: topology
--
-- Which server a shard's payments are written to, for shards with replicas.

-- One row, in the shard's own database, so that it replicates with it: a replica
-- has its primary's claim, and so refuses itself. Each transaction of the module
-- looks at it, under a lock that a change of the row waits for.
--
-- only_row       keeps it one
-- epoch          rises with each change: who has seen a higher one takes no lower
--                one any more
-- server_id      of the server that payments are written to; NULL: whichever
--                lets itself be written to, for a server that has no replicas or
--                whose manager claims nothing; 0: none, for a planned switch
-- slots          the slots that this database has, a bit each; NULL: those of
--                payment_identity
-- slots_version  rises with each change of slots
-- note           by whom, and why
--
-- docs/high-availability.md tells when to call what is below.

CREATE TABLE IF NOT EXISTS payment_topology (
    only_row       TINYINT UNSIGNED NOT NULL PRIMARY KEY DEFAULT 1,
    epoch          BIGINT UNSIGNED  NOT NULL DEFAULT 0,
    server_id      INT UNSIGNED     NULL,
    slots          BINARY(128)      NULL,
    slots_version  INT UNSIGNED     NOT NULL DEFAULT 0,
    note           VARCHAR(200)     NOT NULL DEFAULT '',
    changed_at     DATETIME(3)      NULL,

    CONSTRAINT payment_topology_only_row CHECK (only_row = 1)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

INSERT IGNORE INTO payment_topology (only_row) VALUES (1);


-- Both run with the rights of their caller, who promotes servers and may write
-- to one that is read-only. The server's number is put into a variable first:
-- whatever the binary log's format, replicas get the number and not the question.

DELIMITER //

-- This server takes the payments from now on.

CREATE OR REPLACE PROCEDURE payment_claim(why VARCHAR(200))
    SQL SECURITY INVOKER
BEGIN
    DECLARE me INT UNSIGNED DEFAULT @@global.server_id;

    UPDATE payment_topology
    SET epoch = epoch + 1, server_id = me, note = why,
        changed_at = UTC_TIMESTAMP(3)
    WHERE only_row = 1;
END //


-- No server takes payments until one claims them. Returns when the transactions
-- that were under way have ended; those that come wait in nginx.

CREATE OR REPLACE PROCEDURE payment_freeze(why VARCHAR(200))
    SQL SECURITY INVOKER
BEGIN
    UPDATE payment_topology
    SET epoch = epoch + 1, server_id = 0, note = why,
        changed_at = UTC_TIMESTAMP(3)
    WHERE only_row = 1;
END //

DELIMITER ;
