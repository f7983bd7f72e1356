-- name: SaveHost :exec
INSERT INTO hosts (id, capacity_vcpus, capacity_memory_mb, agent_version, driver, acceleration, isolation)
VALUES (@id, @capacity_vcpus, @capacity_memory_mb, @agent_version, @driver, @acceleration, @isolation)
ON CONFLICT (id) DO UPDATE SET
    capacity_vcpus = excluded.capacity_vcpus, capacity_memory_mb = excluded.capacity_memory_mb,
    agent_version = excluded.agent_version, driver = excluded.driver,
    acceleration = excluded.acceleration, isolation = excluded.isolation, seen_at = now();

-- LockHost makes whoever takes capacity on a host wait for whoever does already.
-- name: LockHost :one
SELECT capacity_vcpus, capacity_memory_mb FROM hosts WHERE id = @id FOR UPDATE;

-- name: HeldOnHost :one
SELECT coalesce(sum(vcpus), 0)::bigint AS vcpus, coalesce(sum(memory_mb), 0)::bigint AS memory_mb
FROM sandboxes WHERE host_id = @host_id AND ended_at IS NULL AND state = ANY (@holding::text[]);

-- name: HeldByHost :many
SELECT host_id, sum(vcpus)::bigint AS vcpus, sum(memory_mb)::bigint AS memory_mb
FROM sandboxes WHERE ended_at IS NULL AND state = ANY (@holding::text[]) GROUP BY host_id;
