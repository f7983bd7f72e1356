-- +goose Up

-- The sandbox's spec as a document, without its environment. Fields that a query
-- needs, or that a statement changes, have columns of their own, which win.
ALTER TABLE sandboxes ADD COLUMN spec jsonb NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE sandboxes DROP COLUMN spec;
