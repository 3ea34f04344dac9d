-- What the examples of consumers keep in a MariaDB database of their own, which
-- is never one of the module's.
--
-- consumed_event has every event that was carried out. Its row is inserted in
-- the transaction that carries the event out, so that both are there or none is.
-- source is the message that the event first came in: topic/partition/offset.

CREATE TABLE IF NOT EXISTS consumed_event (
    payment_id   CHAR(36) CHARACTER SET ascii NOT NULL,
    version      INT UNSIGNED  NOT NULL,
    source       VARCHAR(300) CHARACTER SET ascii NOT NULL,
    consumed_at  TIMESTAMP(6)  NOT NULL DEFAULT CURRENT_TIMESTAMP(6),

    PRIMARY KEY (payment_id, version)
) ENGINE=InnoDB;


-- The ledger: what each merchant's customers have paid and got back, in minor
-- units. An amount fits into 53 bits; a sum of them need not.

CREATE TABLE IF NOT EXISTS merchant_balance (
    merchant_id  VARCHAR(32) CHARACTER SET utf8mb4
                 COLLATE utf8mb4_nopad_bin NOT NULL,
    currency     CHAR(3) CHARACTER SET ascii NOT NULL,
    captured     DECIMAL(30, 0) NOT NULL,
    refunded     DECIMAL(30, 0) NOT NULL,

    PRIMARY KEY (merchant_id, currency)
) ENGINE=InnoDB;


-- The bridge: the number that a payment has for consumers that know numbers
-- only. They begin far above those that the predecessor gave, because its
-- consumers have both in one table.

CREATE TABLE IF NOT EXISTS bridge_payment (
    number      BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    payment_id  CHAR(36) CHARACTER SET ascii NOT NULL UNIQUE
) ENGINE=InnoDB AUTO_INCREMENT = 1000000000000;
