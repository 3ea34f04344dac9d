-- expand: authorization expiry
--
-- When authorizations end, for `payment_authorization_lifetime`: a module that
-- has no lifetime set neither writes nor reads what is new here, and needs no
-- right to it.

-- expires_at  when what was not captured by then is released; NULL: never
-- expired_at  when that was done; NULL: it was not

ALTER TABLE payment
    ADD COLUMN IF NOT EXISTS expires_at DATETIME(3) NULL,
    ADD COLUMN IF NOT EXISTS expired_at DATETIME(3) NULL,
    ALGORITHM=INSTANT, LOCK=NONE;


-- The queue of what is to expire: a row per authorization that has a lifetime,
-- written in its transaction. The row stays when the payment is captured or
-- voided, and is deleted when its time has come, be there something to release
-- or not. With one lifetime for all, rows arrive in key order.

CREATE TABLE IF NOT EXISTS payment_expiry (
    expires_at  DATETIME(3)  NOT NULL,
    payment_id  BINARY(16)   NOT NULL,

    PRIMARY KEY (expires_at, payment_id)
) ENGINE=InnoDB;


-- A value at the end of an ENUM changes no row. A module that does not know it
-- shows such an operation under another type.

ALTER TABLE payment_operation
    MODIFY operation ENUM('authorize', 'capture', 'refund', 'void', 'expire')
        NOT NULL,
    ALGORITHM=INSTANT, LOCK=NONE;
