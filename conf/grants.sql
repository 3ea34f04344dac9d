-- What ngx_payment_module does with its tables, and no more: in particular, no
-- payment can be deleted, and no table be made, changed or emptied. To be run
-- in the payment's database, after ngx-payment-migrate, and again after each
-- migration that adds a table; a right that is there already is kept.

GRANT SELECT                          ON payment_schema_version
    TO 'payment'@'10.0.0.%';

-- whose database it is: written once, by the first connection; and the row
-- by which a look is confirmed
GRANT SELECT, INSERT                  ON payment_identity
    TO 'payment'@'10.0.0.%';
GRANT SELECT, INSERT, UPDATE          ON payment_barrier
    TO 'payment'@'10.0.0.%';

-- which server has the payments; who promotes servers changes it
GRANT SELECT                          ON payment_topology
    TO 'payment'@'10.0.0.%';

-- the workers
GRANT SELECT, INSERT, UPDATE          ON payment
    TO 'payment'@'10.0.0.%';
GRANT SELECT, INSERT, DELETE          ON idempotency_key
    TO 'payment'@'10.0.0.%';
GRANT SELECT, INSERT, DELETE          ON outbox_event
    TO 'payment'@'10.0.0.%';

-- the workers, with `payment_operations on`
GRANT SELECT, INSERT                  ON payment_operation
    TO 'payment'@'10.0.0.%';

-- workers and helper, with `payment_authorization_lifetime`
GRANT SELECT, INSERT, DELETE          ON payment_expiry
    TO 'payment'@'10.0.0.%';

-- the helper, which publishes what the workers put into outbox_event
GRANT SELECT, INSERT, DELETE          ON outbox_dead
    TO 'payment'@'10.0.0.%';
GRANT SELECT, INSERT, UPDATE, DELETE  ON outbox_lease
    TO 'payment'@'10.0.0.%';

-- the archive of published events: `payment_outbox_archive on`
GRANT INSERT                          ON outbox_archive
    TO 'payment'@'10.0.0.%';
GRANT EXECUTE  ON PROCEDURE outbox_archive_upkeep
    TO 'payment'@'10.0.0.%';
