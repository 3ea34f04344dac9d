-- expand: payment and outbox
--
-- The schema of one shard. Every shard's database holds all of these tables.
--
-- Times are UTC and stored as DATETIME, so that no session time zone can shift
-- them and 2038 is a year like any other.

-- The id is a UUIDv7: rows arrive in key order, so the index grows at one end.
-- The CHECKs are the last line: the module never sends what they would refuse.

CREATE TABLE IF NOT EXISTS payment (
    id               BINARY(16)  NOT NULL PRIMARY KEY,
    merchant_id      VARCHAR(32) COLLATE utf8mb4_nopad_bin NOT NULL,
    currency         CHAR(3) CHARACTER SET ascii NOT NULL,
    status           ENUM('AUTHORIZED', 'PARTIALLY_CAPTURED', 'CAPTURED',
                          'PARTIALLY_REFUNDED', 'REFUNDED', 'VOIDED') NOT NULL,
    amount           BIGINT       NOT NULL,
    captured_amount  BIGINT       NOT NULL DEFAULT 0,
    refunded_amount  BIGINT       NOT NULL DEFAULT 0,
    version          INT UNSIGNED NOT NULL DEFAULT 1,
    created_at       DATETIME(3)  NOT NULL,
    updated_at       DATETIME(3)  NOT NULL,

    CONSTRAINT payment_amount   CHECK (amount > 0),
    CONSTRAINT payment_captured CHECK (captured_amount BETWEEN 0 AND amount),
    CONSTRAINT payment_refunded CHECK (refunded_amount BETWEEN 0
                                       AND captured_amount)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;


-- One row per answered operation. This is the one index that grows at random
-- places, so the row is narrow: what a replay needs that the payment row does
-- not say, and nothing else. NULLs take no room.
--
-- key_hash     the first 16 bytes of SHA-256(merchant_id, 0x00, key); for an
--              operation without a key, 16 random bytes
-- fingerprint  the first 8 bytes of SHA-256 over the request's meaning
-- status, version, captured_amount, refunded_amount
--              the payment as this operation left it (amounts: NULL is 0)
--
-- V003 makes it narrower.

CREATE TABLE IF NOT EXISTS idempotency_key (
    key_hash         BINARY(16)   NOT NULL PRIMARY KEY,
    payment_id       BINARY(16)   NOT NULL,
    fingerprint      BINARY(8)    NOT NULL,
    operation        ENUM('authorize', 'capture', 'refund', 'void') NOT NULL,
    status           ENUM('AUTHORIZED', 'PARTIALLY_CAPTURED', 'CAPTURED',
                          'PARTIALLY_REFUNDED', 'REFUNDED', 'VOIDED') NOT NULL,
    version          INT UNSIGNED NOT NULL,
    captured_amount  BIGINT       NULL,
    refunded_amount  BIGINT       NULL,
    created_at       DATETIME     NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;


-- The queue: appended at one end, deleted at the other, no secondary index.
-- Debezium's outbox column names, so that its event router can read the table.
-- (aggregateid, version) names an event for ever; id only places it.

CREATE TABLE IF NOT EXISTS outbox_event (
    id             BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    aggregatetype  VARCHAR(32) CHARACTER SET ascii NOT NULL,
    aggregateid    CHAR(36) CHARACTER SET ascii NOT NULL,
    type           VARCHAR(32) CHARACTER SET ascii NOT NULL,
    merchant_id    VARCHAR(32) COLLATE utf8mb4_nopad_bin NOT NULL,
    version        INT UNSIGNED NOT NULL,
    created_at     DATETIME(6)  NOT NULL,
    traceparent    VARCHAR(55) CHARACTER SET ascii NULL,
    payload        MEDIUMTEXT   NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;


-- Dead letters: events that Kafka will not take for their own sake.

CREATE TABLE IF NOT EXISTS outbox_dead (
    id             BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    aggregatetype  VARCHAR(32) CHARACTER SET ascii NOT NULL,
    aggregateid    CHAR(36) CHARACTER SET ascii NOT NULL,
    type           VARCHAR(32) CHARACTER SET ascii NOT NULL,
    merchant_id    VARCHAR(32) COLLATE utf8mb4_nopad_bin NOT NULL,
    version        INT UNSIGNED NOT NULL,
    created_at     DATETIME(6)  NOT NULL,
    traceparent    VARCHAR(55) CHARACTER SET ascii NULL,
    payload        MEDIUMTEXT   NOT NULL,
    reason         VARCHAR(255) NOT NULL,
    attempts       INT UNSIGNED NOT NULL,
    dead_at        DATETIME(3)  NOT NULL,

    KEY outbox_dead_aggregateid (aggregateid)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;


-- ShedLock's columns, plus what makes a lease safe: an epoch that rises at
-- every acquisition, and the identity of one helper process's one life.

CREATE TABLE IF NOT EXISTS outbox_lease (
    name        VARCHAR(64)     NOT NULL PRIMARY KEY,
    lock_until  DATETIME(3)     NOT NULL,
    locked_at   DATETIME(3)     NOT NULL,
    locked_by   VARCHAR(255)    NOT NULL,
    epoch       BIGINT UNSIGNED NOT NULL DEFAULT 0,
    owner_uuid  CHAR(36) CHARACTER SET ascii NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;


-- Out of date, so that the first helper does not wait for it.

INSERT IGNORE INTO outbox_lease (name, lock_until, locked_at, locked_by,
                                 owner_uuid)
VALUES ('payment-outbox', '2000-01-01', '2000-01-01', '', '');
