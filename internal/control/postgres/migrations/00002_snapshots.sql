-- +goose Up

-- Snapshots of sandboxes, which outlive them: sandbox_id refers to nothing.
CREATE TABLE snapshots (
    id              text        PRIMARY KEY CHECK (id ~ '^[a-z0-9]+$'),
    -- 'named' is a user's; 'fork' serves one fork and is hidden.
    kind            text        NOT NULL CONSTRAINT snapshots_kind_check CHECK (kind IN ('named', 'fork')),
    status          text        NOT NULL CONSTRAINT snapshots_status_check CHECK (status IN (
        'creating', 'ready', 'deleting', 'error')),
    name            text        NOT NULL DEFAULT '',
    -- The template that it is.
    template_name   text        UNIQUE,
    sandbox_id      text        NOT NULL,
    generation      bigint      NOT NULL CHECK (generation > 0),
    host_id         text        NOT NULL REFERENCES hosts (id),
    template        text        NOT NULL,
    vcpus           integer     NOT NULL CHECK (vcpus > 0),
    memory_mb       integer     NOT NULL CHECK (memory_mb > 0),
    disk_mb         integer     NOT NULL CHECK (disk_mb > 0),
    -- What the host last said.
    bytes           bigint      NOT NULL DEFAULT 0,
    users           integer     NOT NULL DEFAULT 0,
    pause_window_us bigint      NOT NULL DEFAULT 0,
    metadata        jsonb       NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- The time of the last change of status.
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT snapshots_template_check CHECK (template_name IS NULL OR (kind = 'named' AND status = 'ready'))
);

-- Lists go newest first, in this order.
CREATE INDEX snapshots_newest ON snapshots (created_at DESC, id DESC);
CREATE INDEX snapshots_of_sandbox ON snapshots (sandbox_id);
CREATE INDEX snapshots_of_host ON snapshots (host_id);

ALTER TABLE sandboxes
    -- Time from the last start, or the last change of it, after which it ends.
    -- 0 is never.
    ADD COLUMN lifetime_sec     integer NOT NULL DEFAULT 0 CHECK (lifetime_sec >= 0),
    ADD COLUMN lifetime_ends_at timestamptz,
    ADD COLUMN on_timeout       text    NOT NULL DEFAULT 'destroy'
        CONSTRAINT sandboxes_on_timeout_check CHECK (on_timeout IN ('destroy', 'pause')),
    ADD COLUMN auto_resume      boolean NOT NULL DEFAULT false,
    ADD COLUMN snapshot_id      text    NOT NULL DEFAULT '',
    ADD COLUMN parent_id        text    NOT NULL DEFAULT '',
    ADD COLUMN source           text    NOT NULL DEFAULT '',
    ADD COLUMN hygiene          jsonb;

-- take_capacity locks a host until the transaction ends and reports whether it
-- can carry so much more; null when there is no such host. Being volatile, it
-- sums up what is there once the lock is held, not when its caller began.
-- +goose StatementBegin
CREATE FUNCTION take_capacity(host text, need_vcpus bigint, need_memory_mb bigint, holding text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    total  hosts%ROWTYPE;
    enough boolean;
BEGIN
    SELECT * INTO total FROM hosts WHERE id = host FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(sum(vcpus), 0) + need_vcpus <= total.capacity_vcpus
       AND coalesce(sum(memory_mb), 0) + need_memory_mb <= total.capacity_memory_mb
    INTO enough
    FROM sandboxes WHERE host_id = host AND ended_at IS NULL AND state = ANY (holding);
    RETURN enough;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION take_capacity;
ALTER TABLE sandboxes
    DROP COLUMN lifetime_sec, DROP COLUMN lifetime_ends_at, DROP COLUMN on_timeout, DROP COLUMN auto_resume,
    DROP COLUMN snapshot_id, DROP COLUMN parent_id, DROP COLUMN source, DROP COLUMN hygiene;
DROP TABLE snapshots;
