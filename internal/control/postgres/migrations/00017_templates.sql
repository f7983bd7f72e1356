-- +goose Up

-- Templates are names for the snapshots that builds make.
CREATE TABLE templates (
    id         text        PRIMARY KEY CHECK (id ~ '^[a-z0-9]+$'),
    -- No snapshot has the name as its template_name: both are written under one lock.
    name       text        NOT NULL CONSTRAINT templates_name_key UNIQUE,
    public     boolean     NOT NULL DEFAULT false,
    -- The number of sandboxes that were created from it, and the time of the last.
    spawned    bigint      NOT NULL DEFAULT 0,
    spawned_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE template_builds (
    id             text        PRIMARY KEY,
    -- The order of insertion.
    position       bigint      GENERATED ALWAYS AS IDENTITY,
    template_id    text        NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    status         text        NOT NULL CONSTRAINT template_builds_status_check CHECK (status IN (
        'waiting', 'building', 'ready', 'error')),
    -- The tags that it gets when it is ready.
    tags           text[]      NOT NULL,
    vcpus          integer     NOT NULL CHECK (vcpus > 0),
    memory_mb      integer     NOT NULL CHECK (memory_mb > 0),
    disk_mb        integer     NOT NULL CHECK (disk_mb > 0),
    runtime        text        NOT NULL DEFAULT '',
    -- json and not jsonb, because the text of a plan may hold NUL. Null while it waits.
    plan           json,
    has_inputs     boolean     NOT NULL DEFAULT false,
    -- The server process that carries it out.
    server         bigint      NOT NULL DEFAULT 0,
    -- The failure; null unless the status is error.
    reason_message text,
    reason_step    text        NOT NULL DEFAULT '',
    -- Empty until it is ready, and after the snapshot has been removed.
    snapshot_id    text        NOT NULL DEFAULT '',
    host_id        text        NOT NULL DEFAULT '',
    default_user   text        NOT NULL DEFAULT '',
    default_dir    text        NOT NULL DEFAULT '',
    step           integer     NOT NULL DEFAULT 0,
    steps          integer     NOT NULL DEFAULT 0,
    -- The sizes of its log, and whether the rest was left out.
    log_entries    bigint      NOT NULL DEFAULT 0,
    log_bytes      bigint      NOT NULL DEFAULT 0,
    log_full       boolean     NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    finished_at    timestamptz,
    CONSTRAINT template_builds_finished_check CHECK ((finished_at IS NOT NULL) = (status IN ('ready', 'error'))),
    CONSTRAINT template_builds_reason_check CHECK ((reason_message IS NOT NULL) = (status = 'error'))
);
CREATE INDEX template_builds_newest ON template_builds (template_id, position DESC);
-- The servers look for builds that have not ended.
CREATE INDEX template_builds_unended ON template_builds (status) WHERE finished_at IS NULL;

CREATE TABLE template_build_logs (
    build_id text        NOT NULL REFERENCES template_builds (id) ON DELETE CASCADE,
    seq      bigint      NOT NULL CHECK (seq > 0),
    at       timestamptz NOT NULL,
    level    text        NOT NULL,
    step     text        NOT NULL DEFAULT '',
    message  text        NOT NULL,
    PRIMARY KEY (build_id, seq)
);

CREATE TABLE template_tags (
    template_id text        NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    name        text        NOT NULL,
    build_id    text        NOT NULL REFERENCES template_builds (id) ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (template_id, name)
);
CREATE INDEX template_tags_of_build ON template_tags (build_id);

-- Snapshots after the steps of builds. They outlive the build that made them.
CREATE TABLE template_layers (
    key         text        PRIMARY KEY,
    snapshot_id text        NOT NULL,
    host_id     text        NOT NULL,
    build_id    text        NOT NULL,
    bytes       bigint      NOT NULL CHECK (bytes >= 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    used_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX template_layers_used ON template_layers (used_at);

ALTER TABLE snapshots
    DROP CONSTRAINT snapshots_kind_check,
    -- 'layer' and 'template' are of builds and hidden too.
    ADD CONSTRAINT snapshots_kind_check CHECK (kind IN ('named', 'fork', 'layer', 'template')),
    -- The template that its sandbox came from, or that it is, and the reference to it.
    ADD COLUMN template_id  text NOT NULL DEFAULT '',
    ADD COLUMN template_ref text NOT NULL DEFAULT '',
    ADD COLUMN default_user text NOT NULL DEFAULT '',
    ADD COLUMN default_dir  text NOT NULL DEFAULT '';

-- The build that the sandbox belongs to. Lists do not show such a sandbox.
ALTER TABLE sandboxes ADD COLUMN build_id text NOT NULL DEFAULT '';
CREATE INDEX sandboxes_of_build ON sandboxes (build_id) WHERE build_id <> '' AND ended_at IS NULL;

-- +goose Down
DROP INDEX sandboxes_of_build;
ALTER TABLE sandboxes DROP COLUMN build_id;
DELETE FROM snapshots WHERE kind IN ('layer', 'template');
ALTER TABLE snapshots
    DROP COLUMN template_id, DROP COLUMN template_ref, DROP COLUMN default_user, DROP COLUMN default_dir,
    DROP CONSTRAINT snapshots_kind_check,
    ADD CONSTRAINT snapshots_kind_check CHECK (kind IN ('named', 'fork'));
DROP TABLE template_layers;
DROP TABLE template_tags;
DROP TABLE template_build_logs;
DROP TABLE template_builds;
DROP TABLE templates;
