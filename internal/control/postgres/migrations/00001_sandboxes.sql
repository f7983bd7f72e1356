-- +goose Up

-- The hosts there are. Locking a row here serialises everything that takes
-- capacity on that host.
CREATE TABLE hosts (
    id                 text        PRIMARY KEY,
    -- What may be given out: the host's own, times the overcommit factors.
    capacity_vcpus     integer     NOT NULL CHECK (capacity_vcpus >= 0),
    capacity_memory_mb integer     NOT NULL CHECK (capacity_memory_mb >= 0),
    agent_version      text        NOT NULL,
    driver             text        NOT NULL,
    acceleration       text        NOT NULL,
    isolation          text        NOT NULL,
    seen_at            timestamptz NOT NULL DEFAULT now()
);

-- One row for each sandbox. The environment is not here: its values are
-- secrets that only the host needs.
CREATE TABLE sandboxes (
    id             text        PRIMARY KEY CHECK (id ~ '^[a-z0-9]+$'),
    generation     bigint      NOT NULL CHECK (generation > 0),
    state          text        NOT NULL CONSTRAINT sandboxes_state_check CHECK (state IN (
        'pending', 'running', 'pausing', 'paused', 'resuming', 'stopping', 'stopped', 'error')),
    stop_reason    text        CONSTRAINT sandboxes_stop_reason_check CHECK (stop_reason IN (
        'destroyed', 'expired', 'guest_exit', 'guest_crash', 'oom', 'vmm_crash', 'host_lost', 'boot_failed')),
    message        text        NOT NULL DEFAULT '',
    template       text        NOT NULL,
    vcpus          integer     NOT NULL CHECK (vcpus > 0),
    memory_mb      integer     NOT NULL CHECK (memory_mb > 0),
    disk_mb        integer     NOT NULL CHECK (disk_mb > 0),
    -- Idle time after which the host ends it. 0 is never.
    timeout_sec    integer     NOT NULL CHECK (timeout_sec >= 0),
    min_isolation  text        NOT NULL DEFAULT '',
    metadata       jsonb       NOT NULL DEFAULT '{}',
    host_id        text        NOT NULL REFERENCES hosts (id),
    guest_ip       text        NOT NULL DEFAULT '',
    host_ip        text        NOT NULL DEFAULT '',
    acceleration   text        NOT NULL DEFAULT '',
    isolation      text        NOT NULL DEFAULT '',
    created_at     timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    last_active_at timestamptz,
    -- The time of the last move.
    updated_at     timestamptz NOT NULL DEFAULT now(),
    ended_at       timestamptz,
    CONSTRAINT sandboxes_ended_check CHECK ((ended_at IS NOT NULL) = (state IN ('stopped', 'error')))
);

-- Lists go newest first, in this order.
CREATE INDEX sandboxes_newest ON sandboxes (created_at DESC, id DESC);
-- Capacity and reconciliation look at what a host still has.
CREATE INDEX sandboxes_of_host ON sandboxes (host_id) WHERE ended_at IS NULL;
-- Retention looks at what has ended.
CREATE INDEX sandboxes_ended ON sandboxes (ended_at) WHERE ended_at IS NOT NULL;

-- The keys of the API. Only the SHA-256 of a key is kept.
CREATE TABLE api_keys (
    id           text        PRIMARY KEY,
    name         text        NOT NULL,
    -- The part of the key that listings show.
    prefix       text        NOT NULL UNIQUE,
    hash         bytea       NOT NULL CHECK (octet_length(hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at   timestamptz
);

-- +goose Down
DROP TABLE api_keys;
DROP TABLE sandboxes;
DROP TABLE hosts;
