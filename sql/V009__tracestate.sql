-- expand: tracestate
--
-- What W3C's trace context calls tracestate, beside the traceparent of an event.

-- NULL: the request had none, or it was taken by an older module. The column is
-- the last one of each table, which makes it a change of the table's
-- description alone: no row is written. Older modules name their columns, and
-- so write NULL, and leave it behind when they move an event to another table.

ALTER TABLE outbox_event
    ADD COLUMN IF NOT EXISTS
        tracestate VARCHAR(512) CHARACTER SET ascii NULL,
    ALGORITHM=INSTANT, LOCK=NONE;

ALTER TABLE outbox_dead
    ADD COLUMN IF NOT EXISTS
        tracestate VARCHAR(512) CHARACTER SET ascii NULL,
    ALGORITHM=INSTANT, LOCK=NONE;


-- These two have the same columns in the same order: outbox_archive_upkeep()
-- exchanges their rows. Should it do so between the two statements, it fails,
-- and is called again a minute later.

ALTER TABLE outbox_archive_overflow
    ADD COLUMN IF NOT EXISTS
        tracestate VARCHAR(512) CHARACTER SET ascii NULL,
    ALGORITHM=INSTANT, LOCK=NONE;

ALTER TABLE outbox_archive
    ADD COLUMN IF NOT EXISTS
        tracestate VARCHAR(512) CHARACTER SET ascii NULL,
    ALGORITHM=INSTANT, LOCK=NONE;
