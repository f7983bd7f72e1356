-- InsertSandboxes writes a row for each id, all alike, or none where its host
-- cannot carry all of them. When relaxed, its commit does not wait
-- for the disk.
-- name: InsertSandboxes :many
INSERT INTO sandboxes (
    id, generation, state, template, vcpus, memory_mb, disk_mb, timeout_sec,
    min_isolation, metadata, host_id, acceleration, isolation,
    lifetime_sec, on_timeout, auto_resume, snapshot_id, parent_id, name, server, spec, build_id
)
SELECT
    unnest(@ids::text[]), @generation::bigint, @state::text, @template::text, @vcpus::integer, @memory_mb::integer,
    @disk_mb::integer, @timeout_sec::integer, @min_isolation::text, @metadata::jsonb, @host_id::text,
    @acceleration::text, @isolation::text, @lifetime_sec::integer, @on_timeout::text, @auto_resume::boolean,
    @snapshot_id::text, @parent_id::text, @name::text, @server::bigint, @spec::jsonb, @build_id::text
WHERE (SELECT set_config('synchronous_commit', CASE WHEN @relaxed::boolean THEN 'off'
       ELSE current_setting('synchronous_commit') END, true)) IS NOT NULL
  AND take_capacity(@on_host::text, @need_vcpus::bigint, @need_memory_mb::bigint, @holding::text[])
RETURNING *;

-- name: GetSandbox :one
SELECT * FROM sandboxes WHERE id = @id;

-- name: ListSandboxes :many
SELECT * FROM sandboxes
WHERE (sqlc.narg('states')::text[] IS NULL OR state = ANY (sqlc.narg('states')::text[]))
  AND build_id = ''
  AND (sqlc.narg('template')::text IS NULL OR template = sqlc.narg('template')::text AND coalesce(spec->>'TemplateID', '') = ''
       OR spec->>'TemplateID' = sqlc.narg('template')::text OR spec->>'TemplateRef' = sqlc.narg('template')::text
       OR split_part(spec->>'TemplateRef', ':', 1) = sqlc.narg('template')::text)
  AND (sqlc.narg('name')::text IS NULL OR name = sqlc.narg('name')::text)
  AND (sqlc.narg('metadata')::jsonb IS NULL OR metadata @> sqlc.narg('metadata')::jsonb)
  AND (sqlc.narg('before_created')::timestamptz IS NULL
       OR (created_at, id) < (sqlc.narg('before_created')::timestamptz, sqlc.narg('before_id')::text))
ORDER BY created_at DESC, id DESC
LIMIT sqlc.narg('max_rows')::integer;

-- name: Machines :many
SELECT * FROM sandboxes
WHERE build_id <> '' AND (@build::text = '' OR build_id = @build::text) AND ended_at IS NULL
ORDER BY created_at, id;

-- name: UnendedSandboxes :many
SELECT * FROM sandboxes WHERE host_id = @host_id AND ended_at IS NULL ORDER BY id;

-- MoveSandbox is the only statement that changes a state. When relaxed, its
-- commit does not wait for the disk.
-- name: MoveSandbox :one
UPDATE sandboxes SET
    state            = @to_state,
    generation       = @next_generation,
    server           = @server,
    disk_full        = false,
    stop_reason      = coalesce(sqlc.narg('stop_reason'), stop_reason),
    message          = coalesce(sqlc.narg('message'), message),
    guest_ip         = coalesce(sqlc.narg('guest_ip'), guest_ip),
    host_ip          = coalesce(sqlc.narg('host_ip'), host_ip),
    acceleration     = coalesce(sqlc.narg('acceleration'), acceleration),
    isolation        = coalesce(sqlc.narg('isolation'), isolation),
    started_at       = coalesce(sqlc.narg('started_at'), started_at),
    last_active_at   = greatest(last_active_at, sqlc.narg('started_at'), sqlc.narg('active_at')),
    source           = coalesce(sqlc.narg('source'), source),
    restore_report   = coalesce(sqlc.narg('restore_report'), restore_report),
    lifetime_ends_at = CASE WHEN @keep_lifetime::boolean THEN lifetime_ends_at ELSE sqlc.narg('lifetime_ends_at') END,
    updated_at       = now(),
    ended_at         = CASE WHEN @ended::boolean THEN coalesce(ended_at, now()) END
WHERE id = @id AND generation = @generation AND state = @from_state
  AND (SELECT set_config('synchronous_commit', CASE WHEN @relaxed::boolean THEN 'off'
       ELSE current_setting('synchronous_commit') END, true)) IS NOT NULL
RETURNING *;

-- LearnSandbox takes the end of a lifetime only of a host that keeps the
-- lifetime of the row: it may have been changed since the host spoke.
-- name: LearnSandbox :exec
UPDATE sandboxes SET
    started_at       = coalesce(sqlc.narg('started_at'), started_at),
    source           = coalesce(sqlc.narg('source'), source),
    restore_report   = coalesce(sqlc.narg('restore_report'), restore_report),
    disk_full        = @disk_full,
    lifetime_ends_at = CASE WHEN lifetime_sec = @lifetime_sec THEN sqlc.narg('lifetime_ends_at') ELSE lifetime_ends_at END
WHERE id = @id AND generation = @generation AND state = 'running';

-- name: SetSandboxClocks :one
UPDATE sandboxes SET
    timeout_sec = @timeout_sec, lifetime_sec = @lifetime_sec, on_timeout = @on_timeout,
    auto_resume = @auto_resume, lifetime_ends_at = sqlc.narg('lifetime_ends_at')
WHERE id = @id AND generation = @generation AND state = @state
  AND timeout_sec = @was_timeout_sec AND lifetime_sec = @was_lifetime_sec AND on_timeout = @was_on_timeout
  AND auto_resume = @was_auto_resume AND lifetime_ends_at IS NOT DISTINCT FROM sqlc.narg('was_lifetime_ends_at')
RETURNING *;

-- name: SetSandboxEgress :one
UPDATE sandboxes SET spec = jsonb_set(spec, '{Egress}', @egress::jsonb)
WHERE id = @id AND generation = @generation AND state = @state
  AND coalesce(spec->'Egress', '{}'::jsonb) = @was_egress::jsonb
RETURNING *;

-- name: TouchSandboxes :exec
UPDATE sandboxes SET last_active_at = greatest(last_active_at, seen.at)
FROM (SELECT unnest(@ids::text[]) AS id, unnest(@times::timestamptz[]) AS at) AS seen
WHERE sandboxes.id = seen.id;

-- name: DeleteEndedSandboxes :execrows
DELETE FROM sandboxes WHERE id IN (
    SELECT old.id FROM sandboxes AS old
    WHERE old.ended_at <= now() - make_interval(secs => @age_sec)
    ORDER BY old.ended_at LIMIT @max_rows
    FOR UPDATE SKIP LOCKED
);
