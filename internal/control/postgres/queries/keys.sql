-- name: InsertKey :one
INSERT INTO api_keys (id, name, prefix, hash) VALUES (@id, @name, @prefix, @hash) RETURNING *;

-- name: UsableKey :one
SELECT * FROM api_keys WHERE prefix = @prefix AND revoked_at IS NULL;

-- name: ListKeys :many
SELECT * FROM api_keys ORDER BY created_at DESC, id;

-- name: AnyUsableKey :one
SELECT EXISTS (SELECT FROM api_keys WHERE revoked_at IS NULL);

-- name: RevokeKey :execrows
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = @id;

-- name: TouchKey :exec
UPDATE api_keys SET last_used_at = now() WHERE id = @id;
