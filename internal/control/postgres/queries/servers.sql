-- LiveServers returns those of the given servers that hold their lock, which
-- ends with their process. The shared lock that is tried on the others ends
-- with the statement.
-- name: LiveServers :many
SELECT server::bigint AS server FROM unnest(@servers::bigint[]) AS server
WHERE NOT pg_try_advisory_xact_lock_shared(server);

-- name: LockServer :exec
SELECT pg_advisory_lock(@server::bigint);

-- ProbeWrite fails unless a new page can be written and the commit is durable.
-- name: ProbeWrite :exec
WITH old AS (DELETE FROM write_probe)
INSERT INTO write_probe (padding) VALUES (repeat('x', 7000));
