-- +goose Up

-- The environment of commands in sandboxes made from a build, as an object of strings.
ALTER TABLE template_builds ADD COLUMN env json NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE template_builds DROP COLUMN env;
