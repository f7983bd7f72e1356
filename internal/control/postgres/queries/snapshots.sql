-- LockSnapshots makes a transaction that checks the quota wait for one that does already.
-- name: LockSnapshots :exec
SELECT pg_advisory_xact_lock(@key);

-- name: CountSnapshots :one
SELECT count(*) AS count, coalesce(sum(bytes), 0)::bigint AS bytes
FROM snapshots WHERE kind = 'named' AND status <> 'error';

-- name: InsertSnapshot :one
INSERT INTO snapshots (
    id, kind, status, name, sandbox_id, generation, host_id, template, vcpus, memory_mb, disk_mb, runtime, metadata,
    template_id, template_ref, default_user, default_dir, disk_only
) VALUES (
    @id, @kind, @status, @name, @sandbox_id, @generation, @host_id, @template, @vcpus, @memory_mb, @disk_mb, @runtime, @metadata,
    @template_id, @template_ref, @default_user, @default_dir, @disk_only
) RETURNING *;

-- name: GetSnapshot :one
SELECT * FROM snapshots WHERE id = @id;

-- name: TemplateSnapshot :one
SELECT * FROM snapshots WHERE template_name = @template_name::text;

-- name: ListSnapshots :many
SELECT * FROM snapshots
WHERE kind = 'named'
  AND (sqlc.narg('sandbox_id')::text IS NULL OR sandbox_id = sqlc.narg('sandbox_id')::text)
  AND (sqlc.narg('name')::text IS NULL OR name = sqlc.narg('name')::text)
  AND (sqlc.narg('before_created')::timestamptz IS NULL
       OR (created_at, id) < (sqlc.narg('before_created')::timestamptz, sqlc.narg('before_id')::text))
ORDER BY created_at DESC, id DESC
LIMIT sqlc.narg('max_rows')::integer;

-- name: SnapshotsOfHost :many
SELECT * FROM snapshots WHERE host_id = @host_id ORDER BY id;

-- MoveSnapshot is the only statement that changes a status. Only a ready
-- snapshot is a template; a template is never moved to deleting.
-- name: MoveSnapshot :one
UPDATE snapshots SET
    status          = @to_status,
    template_name   = CASE WHEN @to_status = 'ready' THEN template_name END,
    bytes           = coalesce(sqlc.narg('bytes'), bytes),
    users           = coalesce(sqlc.narg('users'), users),
    pause_window_us = coalesce(sqlc.narg('pause_window_us'), pause_window_us),
    updated_at      = now()
WHERE id = @id AND status = ANY (@from_statuses::text[])
  AND (template_name IS NULL OR @to_status <> 'deleting')
RETURNING *;

-- name: NameTemplate :one
UPDATE snapshots SET template_name = sqlc.narg('template_name')::text
WHERE id = @id AND kind = 'named' AND (status = 'ready' OR sqlc.narg('template_name')::text IS NULL)
RETURNING *;

-- name: MeasureSnapshot :exec
UPDATE snapshots SET bytes = @bytes, users = @users WHERE id = @id;

-- name: RemoveSnapshot :exec
DELETE FROM snapshots WHERE id = @id;

-- name: RemoveFailedSnapshots :exec
DELETE FROM snapshots WHERE status = 'error' AND updated_at <= now() - make_interval(secs => @age_sec);
