-- expand: archive upkeep in steps
--
-- The archive's upkeep in short steps. What it did at once could take half a
-- minute: days that had been missed were made of a last partition that was
-- full of rows, and copied them all; and it waited for whoever read the
-- archive. Meanwhile nothing was deleted from outbox_event.
--
-- Only new tables, and a procedure of the same name: whoever ran before runs on.

-- What was written while there was no partition for its day, apart from the
-- archive only while it is moved to where it belongs. A row is in one of the
-- two, or, until all are moved, in both. The columns are those of outbox_archive.

CREATE TABLE IF NOT EXISTS outbox_archive_overflow (
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
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;


-- How far that is: all rows of outbox_archive_overflow up to this id are in the
-- archive.

CREATE TABLE IF NOT EXISTS outbox_archive_position (
    only_row       TINYINT UNSIGNED NOT NULL PRIMARY KEY DEFAULT 1,
    id             BIGINT UNSIGNED NOT NULL,

    CONSTRAINT outbox_archive_position_only_row CHECK (only_row = 1)
) ENGINE=InnoDB;


-- One step: at most one change of partitions, or 500 rows moved. It waits for
-- nobody. The helper calls it once an hour, and as @outbox_archive_more says
-- afterwards: 1, again soon, there is more to do; 2, somebody reads the archive,
-- later; 0, that was all. It runs with its definer's rights: the module's user
-- needs EXECUTE and no more.

DELIMITER //

CREATE OR REPLACE PROCEDURE outbox_archive_upkeep()
BEGIN
    DECLARE today DATE DEFAULT UTC_DATE();
    DECLARE day DATE;
    DECLARE days TEXT DEFAULT '';
    DECLARE old VARCHAR(64);
    DECLARE later INT UNSIGNED;
    DECLARE moved, upto BIGINT UNSIGNED;
    DECLARE patience INT UNSIGNED DEFAULT @@SESSION.lock_wait_timeout;

    -- 1205: the lock of a table's shape is not to be had
    DECLARE EXIT HANDLER FOR 1205
    BEGIN
        ROLLBACK;
        SET SESSION lock_wait_timeout = patience, @outbox_archive_more = 2;
    END;

    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        SET SESSION lock_wait_timeout = patience;
        RESIGNAL;
    END;

    SET SESSION lock_wait_timeout = 0, @outbox_archive_more = 0;

    -- a partition for today and each of the next seven days; after the last
    -- there is, for partitions are made in order
    SELECT GREATEST(today, COALESCE(MAX(STR_TO_DATE(partition_name, 'p%Y%m%d'))
                                    + INTERVAL 1 DAY, today))
    INTO day FROM information_schema.partitions
    WHERE table_schema = DATABASE() AND table_name = 'outbox_archive'
      AND partition_name REGEXP '^p[0-9]{8}$';

    WHILE day <= today + INTERVAL 7 DAY DO
        SET days = CONCAT(days, 'PARTITION ', DATE_FORMAT(day, 'p%Y%m%d'),
                          ' VALUES LESS THAN (''', day + INTERVAL 1 DAY,
                          '''), ');
        SET day = day + INTERVAL 1 DAY;
    END WHILE;

    IF days <> '' THEN
        -- all rows of p_later are copied: so they must be few, or apart
        SELECT COUNT(*) INTO later
        FROM (SELECT 1 FROM outbox_archive PARTITION (p_later) LIMIT 1001) t;

        IF later > 1000
           AND NOT EXISTS (SELECT 1 FROM outbox_archive_overflow)
        THEN
            INSERT INTO outbox_archive_position (id) VALUES (0)
            ON DUPLICATE KEY UPDATE id = 0;

            ALTER TABLE outbox_archive EXCHANGE PARTITION p_later
                WITH TABLE outbox_archive_overflow;

            SET later = 0, @outbox_archive_more = 1;
        END IF;

        IF later <= 1000 THEN
            EXECUTE IMMEDIATE CONCAT(
                'ALTER TABLE outbox_archive REORGANIZE PARTITION p_later INTO (',
                days, 'PARTITION p_later VALUES LESS THAN (MAXVALUE))');
        END IF;
    END IF;

    SET moved = COALESCE((SELECT id FROM outbox_archive_position), 0);
    SET upto = COALESCE((SELECT id FROM outbox_archive_overflow
                         WHERE id > moved ORDER BY id LIMIT 499, 1),
                        (SELECT MAX(id) FROM outbox_archive_overflow
                         WHERE id > moved));

    IF upto IS NOT NULL THEN
        START TRANSACTION;

        INSERT INTO outbox_archive
        SELECT * FROM outbox_archive_overflow
        WHERE id > moved AND id <= upto;

        INSERT INTO outbox_archive_position (id) VALUES (upto)
        ON DUPLICATE KEY UPDATE id = upto;

        COMMIT;

        SET @outbox_archive_more = 1;

    ELSEIF EXISTS (SELECT 1 FROM outbox_archive_overflow) THEN
        TRUNCATE TABLE outbox_archive_overflow;
        SET @outbox_archive_more = 1;

    ELSE
        -- the oldest day that is not to be kept any longer
        SELECT MIN(partition_name) INTO old
        FROM information_schema.partitions
        WHERE table_schema = DATABASE() AND table_name = 'outbox_archive'
          AND partition_name REGEXP '^p[0-9]{8}$'
          AND partition_name < DATE_FORMAT(today - INTERVAL COALESCE(
                  (SELECT days_kept FROM outbox_archive_policy LIMIT 1), 30)
                  DAY, 'p%Y%m%d');

        IF old IS NOT NULL THEN
            EXECUTE IMMEDIATE CONCAT(
                'ALTER TABLE outbox_archive DROP PARTITION ', old);
            SET @outbox_archive_more = 1;
        END IF;
    END IF;

    SET SESSION lock_wait_timeout = patience;
END //

DELIMITER ;
