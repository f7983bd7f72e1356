-- +goose Up
ALTER TABLE sandboxes RENAME COLUMN hygiene TO restore_report;

-- +goose Down
ALTER TABLE sandboxes RENAME COLUMN restore_report TO hygiene;
