-- +goose Up

-- The runtime of the sandbox that the snapshot was taken of. Those of earlier
-- versions are of microVMs.
ALTER TABLE snapshots ADD COLUMN runtime text NOT NULL DEFAULT 'microvm';

-- +goose Down
ALTER TABLE snapshots DROP COLUMN runtime;
