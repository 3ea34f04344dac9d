-- expand: identity
--
-- Whose database this is, and a row to commit.

-- One row, written by the first connection that comes when there is none, and
-- compared at each connect: a database that holds other slots, another shard or
-- another installation's payments is refused. Who moves slots on purpose
-- changes it by hand: docs/operations.md, "Adding a shard".
--
-- only_row      keeps it one
-- installation  a UUID that all databases of an installation share
-- shard, slots  as in the payment_shard block, slots sorted and joined:
--               '0-511', '0-99 200-299'
-- secret        of the installation: what it adds to a key's hash cannot be
--               guessed from a payment's id

CREATE TABLE IF NOT EXISTS payment_identity (
    only_row      TINYINT UNSIGNED NOT NULL PRIMARY KEY DEFAULT 1,
    installation  CHAR(36) CHARACTER SET ascii NOT NULL,
    shard         VARCHAR(32) CHARACTER SET ascii NOT NULL,
    slots         VARCHAR(8192) CHARACTER SET ascii NOT NULL,
    secret        BINARY(16)   NOT NULL,
    created_at    DATETIME     NOT NULL DEFAULT UTC_TIMESTAMP(),

    CONSTRAINT payment_identity_only_row CHECK (only_row = 1)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;


-- InnoDB shows a transaction to others before its log is on disk. What was only
-- read is confirmed by a COMMIT that begins after the look: it is answered when
-- all that was before it in the log is on disk, too. A transaction that changes
-- nothing is not written to the log, so that this one changes a row here: one
-- of a few, taken at random, so that nobody waits for another.

CREATE TABLE IF NOT EXISTS payment_barrier (
    id     TINYINT UNSIGNED NOT NULL PRIMARY KEY,
    turns  BIGINT UNSIGNED  NOT NULL
) ENGINE=InnoDB;
