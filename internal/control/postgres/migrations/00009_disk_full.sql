-- +goose Up

-- The sandbox runs and stands still, because its host's disk is full.
ALTER TABLE sandboxes ADD COLUMN disk_full boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE sandboxes DROP COLUMN disk_full;
