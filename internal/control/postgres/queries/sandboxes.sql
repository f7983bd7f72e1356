-- name: InsertSandbox :one
INSERT INTO sandboxes (
    id, generation, state, template, vcpus, memory_mb, disk_mb, timeout_sec,
    min_isolation, metadata, host_id, acceleration, isolation
) VALUES (
    @id, @generation, @state, @template, @vcpus, @memory_mb, @disk_mb, @timeout_sec,
    @min_isolation, @metadata, @host_id, @acceleration, @isolation
) RETURNING *;

-- name: GetSandbox :one
SELECT * FROM sandboxes WHERE id = @id;

-- name: ListSandboxes :many
SELECT * FROM sandboxes
WHERE (sqlc.narg('states')::text[] IS NULL OR state = ANY (sqlc.narg('states')::text[]))
  AND (sqlc.narg('template')::text IS NULL OR template = sqlc.narg('template')::text)
  AND (sqlc.narg('before_created')::timestamptz IS NULL
       OR (created_at, id) < (sqlc.narg('before_created')::timestamptz, sqlc.narg('before_id')::text))
ORDER BY created_at DESC, id DESC
LIMIT sqlc.narg('max_rows')::integer;

-- name: UnendedSandboxes :many
SELECT * FROM sandboxes WHERE host_id = @host_id AND ended_at IS NULL ORDER BY id;

-- MoveSandbox is the only statement that changes a state.
-- name: MoveSandbox :one
UPDATE sandboxes SET
    state        = @to_state,
    generation   = @next_generation,
    stop_reason  = coalesce(sqlc.narg('stop_reason'), stop_reason),
    message      = coalesce(sqlc.narg('message'), message),
    guest_ip     = coalesce(sqlc.narg('guest_ip'), guest_ip),
    host_ip      = coalesce(sqlc.narg('host_ip'), host_ip),
    acceleration = coalesce(sqlc.narg('acceleration'), acceleration),
    isolation    = coalesce(sqlc.narg('isolation'), isolation),
    started_at   = coalesce(sqlc.narg('started_at'), started_at),
    updated_at   = now(),
    ended_at     = CASE WHEN @ended::boolean THEN coalesce(ended_at, now()) END
WHERE id = @id AND generation = @generation AND state = @from_state
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
