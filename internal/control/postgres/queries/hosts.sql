-- name: SaveHost :exec
INSERT INTO hosts (id, capacity_vcpus, capacity_memory_mb, agent_version, driver, acceleration, isolation)
VALUES (@id, @capacity_vcpus, @capacity_memory_mb, @agent_version, @driver, @acceleration, @isolation)
ON CONFLICT (id) DO UPDATE SET
    capacity_vcpus = excluded.capacity_vcpus, capacity_memory_mb = excluded.capacity_memory_mb,
    agent_version = excluded.agent_version, driver = excluded.driver,
    acceleration = excluded.acceleration, isolation = excluded.isolation, seen_at = now();

-- TakeCapacity makes a transaction that takes capacity on a host wait for one that does
-- already. It is false when there is no such host, too.
-- name: TakeCapacity :one
SELECT coalesce(take_capacity(@host_id::text, @vcpus::bigint, @memory_mb::bigint, @holding::text[]), false)::boolean AS enough;

-- name: HostExists :one
SELECT EXISTS (SELECT FROM hosts WHERE id = @id);

-- name: HeldByHost :many
SELECT host_id, sum(vcpus)::bigint AS vcpus, sum(memory_mb)::bigint AS memory_mb
FROM sandboxes WHERE ended_at IS NULL AND state = ANY (@holding::text[]) GROUP BY host_id;
