-- For who applies sql/ with Flyway and not with ngx-payment-migrate: a callback
-- that writes down where the module looks what Flyway has applied. This folder
-- is one of Flyway's locations then:
--
--     flyway -locations=filesystem:sql,filesystem:conf/flyway migrate
--
-- What older modules cannot live with (contract, in a migration's first line)
-- is Flyway's user to hold back until they are gone, with -target.

CREATE TABLE IF NOT EXISTS payment_schema_version (
    version      INT UNSIGNED NOT NULL PRIMARY KEY,
    description  VARCHAR(200) NOT NULL,
    applied_at   DATETIME     NOT NULL DEFAULT UTC_TIMESTAMP(),
    kind         ENUM('expand', 'contract') NOT NULL DEFAULT 'expand',
    checksum     CHAR(64) CHARACTER SET ascii NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

-- all migrations so far are of the kind that is the default
INSERT IGNORE INTO payment_schema_version (version, description)
SELECT CAST(version AS UNSIGNED), description
FROM flyway_schema_history
WHERE version IS NOT NULL AND success = 1;
