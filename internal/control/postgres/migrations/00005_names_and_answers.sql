-- +goose Up

-- The user's name of a sandbox, unique among those that have not ended.
ALTER TABLE sandboxes ADD COLUMN name text NOT NULL DEFAULT '';
CREATE UNIQUE INDEX sandboxes_live_name ON sandboxes (name) WHERE name <> '' AND ended_at IS NULL;

-- Answers to requests that carried an Idempotency-Key, kept until expires_at
-- so that a retry gets the same answer.
CREATE TABLE idempotency_keys (
    -- The id of the API key of the caller; empty on a server without keys.
    principal    text        NOT NULL,
    key          text        NOT NULL,
    -- SHA-256 of what makes the request the same request.
    fingerprint  bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),
    -- The server that works on the request renews this. A row without an
    -- answer whose lease has run out belongs to a server that stopped.
    leased_until timestamptz NOT NULL,
    -- The answer; status is null while the request is under way.
    status       integer,
    header       jsonb       NOT NULL DEFAULT '{}',
    -- Null when the answer was too large to be kept.
    body         bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- +goose Down
DROP TABLE idempotency_keys;
DROP INDEX sandboxes_live_name;
ALTER TABLE sandboxes DROP COLUMN name;
