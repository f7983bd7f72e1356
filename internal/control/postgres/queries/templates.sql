-- LockTemplates makes a transaction that changes names, tags or layers wait for one
-- that does already.
-- name: LockTemplates :exec
SELECT pg_advisory_xact_lock(@key);

-- name: InsertTemplate :exec
INSERT INTO templates (id, name, public) VALUES (@id, @name, @public);

-- name: TemplateByName :one
SELECT * FROM templates WHERE name = @name;

-- name: CountTemplates :one
SELECT count(*) FROM templates;

-- Templates returns templates with the facts of their newest builds.
-- name: Templates :many
SELECT sqlc.embed(t), (SELECT count(*) FROM template_builds AS c WHERE c.template_id = t.id) AS builds,
       n.id AS latest, n.status, n.vcpus, n.memory_mb, n.disk_mb
FROM templates AS t
JOIN template_builds AS n ON n.template_id = t.id
 AND n.position = (SELECT max(m.position) FROM template_builds AS m WHERE m.template_id = t.id)
WHERE (sqlc.narg('ref')::text IS NULL OR t.id = sqlc.narg('ref')::text OR t.name = sqlc.narg('ref')::text)
  AND (sqlc.narg('after')::text IS NULL OR t.name > sqlc.narg('after')::text)
ORDER BY t.name
LIMIT sqlc.narg('max_rows')::integer;

-- name: SetTemplatePublic :execrows
UPDATE templates SET public = @public, updated_at = now() WHERE id = @id;

-- name: TouchTemplate :exec
UPDATE templates SET updated_at = now() WHERE id = @id;

-- name: CountSpawn :exec
UPDATE templates SET spawned = spawned + 1, spawned_at = now() WHERE id = @id;

-- name: DeleteTemplate :execrows
DELETE FROM templates WHERE id = @id;

-- name: InsertBuild :exec
INSERT INTO template_builds (id, template_id, status, tags, vcpus, memory_mb, disk_mb, runtime)
VALUES (@id, @template_id, 'waiting', @tags, @vcpus, @memory_mb, @disk_mb, @runtime);

-- The statements that read builds name the same columns in the same order. OwnedPlan alone reads a
-- plan, which can have megabytes.
-- name: GetBuild :one
SELECT id, template_id, status, tags, vcpus, memory_mb, disk_mb, runtime, reason_message, reason_step, snapshot_id, host_id,
    default_user, default_dir, env, step, steps, created_at, updated_at, started_at, finished_at
FROM template_builds WHERE id = @id;

-- name: TaggedBuild :one
SELECT b.id, b.template_id, b.status, b.tags, b.vcpus, b.memory_mb, b.disk_mb, b.runtime, b.reason_message, b.reason_step, b.snapshot_id, b.host_id,
    b.default_user, b.default_dir, b.env, b.step, b.steps, b.created_at, b.updated_at, b.started_at, b.finished_at
FROM template_builds AS b JOIN template_tags AS t ON t.build_id = b.id
WHERE t.template_id = @template_id AND t.name = @tag;

-- name: BuildsOfTemplate :many
SELECT id, template_id, status, tags, vcpus, memory_mb, disk_mb, runtime, reason_message, reason_step, snapshot_id, host_id,
    default_user, default_dir, env, step, steps, created_at, updated_at, started_at, finished_at
FROM template_builds WHERE template_id = @template_id ORDER BY position DESC LIMIT @max_rows;

-- name: CountUnendedBuilds :one
SELECT count(*) FROM template_builds WHERE finished_at IS NULL;

-- A build that has ended needs no plan, which can have megabytes.
-- name: SupersedeBuilds :many
UPDATE template_builds SET status = 'error', plan = NULL, reason_message = @message::text, finished_at = now(), updated_at = now()
WHERE template_id = @template_id AND status = 'building' AND id <> @id
RETURNING id;

-- name: StartBuild :one
UPDATE template_builds SET
    status = 'building', plan = @plan, has_inputs = @has_inputs, server = @server, started_at = now(), updated_at = now()
WHERE id = @id AND status = 'waiting'
RETURNING template_id;

-- name: ProgressBuild :execrows
UPDATE template_builds SET step = @step, steps = @steps, updated_at = now()
WHERE id = @id AND status = 'building' AND server = @server;

-- FinishBuild ends a build that is under way. A reason is given if it failed.
-- name: FinishBuild :one
UPDATE template_builds SET
    status = @status, plan = NULL, reason_message = sqlc.narg('reason_message'), reason_step = @reason_step,
    snapshot_id = @snapshot_id, host_id = @host_id, default_user = @default_user, default_dir = @default_dir,
    env = @env,
    vcpus = @vcpus, memory_mb = @memory_mb, disk_mb = @disk_mb,
    step = @step, steps = @steps, finished_at = now(), updated_at = now()
WHERE id = @id AND status = 'building' AND server = @server
RETURNING template_id, tags;

-- FailBuild fails a build that has not ended; under one server, unless that is 0.
-- name: FailBuild :execrows
UPDATE template_builds SET
    status = 'error', plan = NULL, reason_message = @message::text, reason_step = @step, finished_at = now(), updated_at = now()
WHERE id = @id AND finished_at IS NULL AND (@server::bigint = 0 OR server = @server::bigint);

-- name: OwnedBuilds :many
SELECT id FROM template_builds WHERE status = 'building' AND server = @server ORDER BY position;

-- name: OwnedPlan :one
SELECT plan, has_inputs FROM template_builds WHERE id = @id AND status = 'building' AND server = @server;

-- name: BuildsUnderWay :many
SELECT id, server FROM template_builds WHERE status = 'building' AND server <> @server;

-- ClaimBuild gives a build that is under way to another server, unless one has it already.
-- name: ClaimBuild :execrows
UPDATE template_builds SET server = @server, updated_at = now()
WHERE id = @id AND status = 'building' AND server = @was_server;

-- name: SnapshotsOfBuilds :many
SELECT snapshot_id FROM template_builds WHERE template_id = @template_id AND snapshot_id <> '' ORDER BY position;

-- UnneededBuilds are the builds with a snapshot that no tag names, except the newest of each
-- template and those younger than an age.
-- name: UnneededBuilds :many
SELECT ranked.id, ranked.snapshot_id FROM (
    SELECT b.id, b.snapshot_id, b.finished_at,
           row_number() OVER (PARTITION BY b.template_id ORDER BY b.position DESC) AS place
    FROM template_builds AS b WHERE b.snapshot_id <> ''
) AS ranked
WHERE ranked.place > @keep::bigint AND ranked.finished_at <= now() - make_interval(secs => @age_sec)
  AND NOT EXISTS (SELECT FROM template_tags AS t WHERE t.build_id = ranked.id)
ORDER BY ranked.id;

-- StraySnapshots are the snapshots of builds that no build and no layer names: a server ended
-- before it could write them down.
-- name: StraySnapshots :many
SELECT s.id FROM snapshots AS s
WHERE s.kind IN ('layer', 'template') AND s.status <> 'deleting' AND s.created_at <= now() - make_interval(secs => @age_sec)
  AND NOT EXISTS (SELECT FROM template_layers AS l WHERE l.snapshot_id = s.id)
  AND NOT EXISTS (SELECT FROM template_builds AS b WHERE b.snapshot_id = s.id)
ORDER BY s.id;

-- name: ForgetBuildSnapshots :exec
UPDATE template_builds SET snapshot_id = '', updated_at = now() WHERE id = ANY (@ids::text[]);

-- name: FailWaitingBuilds :exec
UPDATE template_builds SET status = 'error', reason_message = @message::text, finished_at = now(), updated_at = now()
WHERE status = 'waiting' AND created_at <= now() - make_interval(secs => @age_sec);

-- DeleteOldBuilds deletes ended builds without a snapshot, except the newest of each template.
-- name: DeleteOldBuilds :exec
DELETE FROM template_builds WHERE id IN (
    SELECT ranked.id FROM (
        SELECT b.id, b.snapshot_id, b.finished_at,
               row_number() OVER (PARTITION BY b.template_id ORDER BY b.position DESC) AS place
        FROM template_builds AS b
    ) AS ranked
    WHERE ranked.place > @keep::bigint AND ranked.snapshot_id = '' AND ranked.finished_at IS NOT NULL
);

-- name: LockBuildLog :one
SELECT server, log_entries, log_bytes, log_full FROM template_builds WHERE id = @id FOR UPDATE;

-- name: MeasureBuildLog :exec
UPDATE template_builds SET log_entries = @log_entries, log_bytes = @log_bytes, log_full = @log_full WHERE id = @id;

-- name: InsertBuildLogs :exec
INSERT INTO template_build_logs (build_id, seq, at, level, step, message)
SELECT @build_id::text, unnest(@seqs::bigint[]), unnest(@times::timestamptz[]), unnest(@levels::text[]),
       unnest(@steps::text[]), unnest(@messages::text[]);

-- name: BuildLogs :many
SELECT * FROM template_build_logs WHERE build_id = @build_id AND seq > @after ORDER BY seq LIMIT @max_rows;

-- name: TagsOfTemplates :many
SELECT * FROM template_tags WHERE template_id = ANY (@template_ids::text[]) ORDER BY name;

-- name: CountOtherTags :one
SELECT count(*) FROM template_tags WHERE template_id = @template_id AND NOT name = ANY (@names::text[]);

-- name: SetTags :exec
INSERT INTO template_tags (template_id, name, build_id)
SELECT @template_id::text, unnest(@names::text[]), @build_id::text
ON CONFLICT (template_id, name) DO UPDATE SET build_id = excluded.build_id, created_at = now();

-- name: RemoveTags :exec
DELETE FROM template_tags WHERE template_id = @template_id AND name = ANY (@names::text[]);

-- name: FindLayer :one
UPDATE template_layers SET used_at = now() WHERE key = (
    SELECT l.key FROM template_layers AS l
    WHERE l.key = ANY (@keys::text[]) AND (@made::text = '' OR l.build_id = @made::text)
    ORDER BY array_position(@keys::text[], l.key) DESC LIMIT 1
)
RETURNING *;

-- name: GetLayer :one
SELECT * FROM template_layers WHERE key = @key;

-- name: PutLayer :exec
INSERT INTO template_layers (key, snapshot_id, host_id, build_id, bytes)
VALUES (@key, @snapshot_id, @host_id, @build_id, @bytes)
ON CONFLICT (key) DO UPDATE SET
    snapshot_id = excluded.snapshot_id, host_id = excluded.host_id, build_id = excluded.build_id,
    bytes = excluded.bytes, created_at = now(), used_at = now();

-- name: RemoveLayer :exec
DELETE FROM template_layers WHERE key = @key AND snapshot_id = @snapshot_id;

-- TrimLayers removes the layers that are not among the most recently used count, or with
-- which those take more than so many bytes.
-- name: TrimLayers :many
DELETE FROM template_layers WHERE key IN (
    SELECT ranked.key FROM (
        SELECT l.key, row_number() OVER newest AS place, sum(l.bytes) OVER newest AS total
        FROM template_layers AS l
        WINDOW newest AS (ORDER BY l.used_at DESC, l.key ROWS UNBOUNDED PRECEDING)
    ) AS ranked
    WHERE ranked.place > @count::bigint OR ranked.total > @bytes::bigint
)
RETURNING snapshot_id;
