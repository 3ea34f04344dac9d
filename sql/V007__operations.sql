-- expand: operations
--
-- What was done with each payment, for `payment_operations on`: a module that
-- has it off neither writes nor reads this table, and needs no right to it.

-- One row per operation, written in the operation's own transaction, and never
-- changed: it outlives the key and the event, which are deleted. Rows of
-- authorizations arrive in key order; those of changes go beside them.
--
-- version     the payment's version that the operation made
-- status      the payment's, as the operation left it
-- amount      what the operation moved, as operationAmount in its event
-- created_at  when: the payment's updated_at after it
-- reason, reference, metadata
--             what the request brought; NULLs take no room

CREATE TABLE IF NOT EXISTS payment_operation (
    payment_id  BINARY(16)   NOT NULL,
    version     INT UNSIGNED NOT NULL,
    operation   ENUM('authorize', 'capture', 'refund', 'void') NOT NULL,
    status      ENUM('AUTHORIZED', 'PARTIALLY_CAPTURED', 'CAPTURED',
                     'PARTIALLY_REFUNDED', 'REFUNDED', 'VOIDED') NOT NULL,
    amount      BIGINT       NOT NULL,
    created_at  DATETIME(3)  NOT NULL,
    reason      VARCHAR(128) NULL,
    reference   VARCHAR(64)  NULL,
    metadata    TEXT         NULL,

    PRIMARY KEY (payment_id, version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;
