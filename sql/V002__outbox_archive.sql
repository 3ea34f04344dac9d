-- expand: outbox archive
--
-- The outbox's archive, for `payment_outbox_archive on`, and the first row of
-- the lease.

-- Published events, by the day on which they were: written in the transaction
-- that deletes them from the queue, dropped a day at a time. The last partition
-- takes what no day was made for.

CREATE TABLE IF NOT EXISTS outbox_archive (
    id             BIGINT UNSIGNED NOT NULL,
    aggregatetype  VARCHAR(32) CHARACTER SET ascii NOT NULL,
    aggregateid    CHAR(36) CHARACTER SET ascii NOT NULL,
    type           VARCHAR(32) CHARACTER SET ascii NOT NULL,
    merchant_id    VARCHAR(32) COLLATE utf8mb4_nopad_bin NOT NULL,
    version        INT UNSIGNED NOT NULL,
    created_at     DATETIME(6)  NOT NULL,
    traceparent    VARCHAR(55) CHARACTER SET ascii NULL,
    payload        MEDIUMTEXT   NOT NULL,
    archived_at    DATETIME(3)  NOT NULL,

    PRIMARY KEY (id, archived_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin
PARTITION BY RANGE COLUMNS (archived_at) (
    PARTITION p_later VALUES LESS THAN (MAXVALUE)
);


-- One row: for how many whole days published events are kept.

CREATE TABLE IF NOT EXISTS outbox_archive_policy (
    days_kept      INT UNSIGNED NOT NULL
) ENGINE=InnoDB;

INSERT INTO outbox_archive_policy (days_kept)
SELECT 30 FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM outbox_archive_policy);


-- A partition for each of the next seven days, and none for days that are too
-- old. The helper calls it once an hour; calling it again changes nothing. It
-- runs with its definer's rights: the module's user needs EXECUTE and no more.

DELIMITER //

CREATE OR REPLACE PROCEDURE outbox_archive_upkeep()
BEGIN
    DECLARE today DATE DEFAULT UTC_DATE();
    DECLARE day DATE DEFAULT today;
    DECLARE kept INT UNSIGNED DEFAULT 30;
    DECLARE old VARCHAR(64);
    DECLARE done INT DEFAULT 0;
    DECLARE olds CURSOR FOR
        SELECT partition_name FROM information_schema.partitions
        WHERE table_schema = DATABASE() AND table_name = 'outbox_archive'
          AND partition_name REGEXP '^p[0-9]{8}$'
          AND partition_name < DATE_FORMAT(today - INTERVAL kept DAY,
                                           'p%Y%m%d');
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1;

    SELECT days_kept INTO kept FROM outbox_archive_policy LIMIT 1;
    SET done = 0;

    -- after the last there is: partitions are made in order
    SELECT GREATEST(today, COALESCE(MAX(STR_TO_DATE(partition_name, 'p%Y%m%d'))
                                    + INTERVAL 1 DAY, today))
    INTO day FROM information_schema.partitions
    WHERE table_schema = DATABASE() AND table_name = 'outbox_archive'
      AND partition_name REGEXP '^p[0-9]{8}$';

    WHILE day <= today + INTERVAL 7 DAY DO
        EXECUTE IMMEDIATE CONCAT(
            'ALTER TABLE outbox_archive REORGANIZE PARTITION p_later INTO (',
            'PARTITION ', DATE_FORMAT(day, 'p%Y%m%d'), ' VALUES LESS THAN (''',
            day + INTERVAL 1 DAY, '''), ',
            'PARTITION p_later VALUES LESS THAN (MAXVALUE))');
        SET day = day + INTERVAL 1 DAY;
    END WHILE;

    OPEN olds;

    dropping: LOOP
        FETCH olds INTO old;
        IF done THEN
            LEAVE dropping;
        END IF;
        EXECUTE IMMEDIATE CONCAT('ALTER TABLE outbox_archive DROP PARTITION ',
                                 old);
    END LOOP;

    CLOSE olds;
END //

DELIMITER ;

CALL outbox_archive_upkeep();


-- Out of date, so that the first helper need not wait for anybody.

INSERT IGNORE INTO outbox_lease (name, lock_until, locked_at, locked_by, epoch,
                                 owner_uuid)
VALUES ('payment-outbox', '2000-01-01', '2000-01-01', '', 0, '');
