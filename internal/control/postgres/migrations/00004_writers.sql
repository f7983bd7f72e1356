-- +goose Up

-- The server process that made the row or its last move. 0 is unknown. A row
-- that is on its way, and whose server has ended, has no operation any more.
ALTER TABLE sandboxes ADD COLUMN server bigint NOT NULL DEFAULT 0;

-- One row, replaced by each probe that the database takes writes. The padding
-- fills most of a page, so that a probe needs a new page of the table.
CREATE TABLE write_probe (
    at      timestamptz NOT NULL DEFAULT now(),
    padding text        NOT NULL
);
ALTER TABLE write_probe ALTER COLUMN padding SET STORAGE PLAIN;

-- +goose Down
DROP TABLE write_probe;
ALTER TABLE sandboxes DROP COLUMN server;
