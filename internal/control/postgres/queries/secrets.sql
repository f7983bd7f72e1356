-- name: Secret :one
SELECT value FROM server_secrets WHERE name = @name;

-- name: InsertSecret :exec
INSERT INTO server_secrets (name, value) VALUES (@name, @value) ON CONFLICT (name) DO NOTHING;

-- name: DeleteSecret :exec
DELETE FROM server_secrets WHERE name = @name;
