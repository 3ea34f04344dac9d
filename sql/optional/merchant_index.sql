-- optional: payments by merchant
-- index: payment.payment_merchant
--
-- What `payment_list` reads a merchant's payments by. Nothing else needs it, and
-- each authorization pays for it: so no upgrade makes it.
--
-- The server builds it beside the table, which is read and written meanwhile,
-- and is not copied. Payments of that time are kept in a log of the server's,
-- which must not become longer than innodb_online_alter_log_max_size. It waits
-- for the transactions that have the table at its begin and at its end, and a
-- replica builds it when the primary has ended.
--
-- The ids of a merchant's payments stand in it in order of their time. What of a
-- payment can change is not in it, so that no capture or refund has to write to
-- it.

ALTER TABLE payment
    ADD INDEX IF NOT EXISTS payment_merchant (merchant_id, id),
    ALGORITHM=NOCOPY, LOCK=NONE;
