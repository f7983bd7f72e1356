-- +goose Up

-- The snapshot has no memory, so that sandboxes boot from its disk. Those of earlier
-- versions have one.
ALTER TABLE snapshots ADD COLUMN disk_only boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE snapshots DROP COLUMN disk_only;
