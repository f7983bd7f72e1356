-- BeginAnswer claims a key that nobody has, or whose time is over.
-- name: BeginAnswer :execrows
INSERT INTO idempotency_keys (principal, key, fingerprint, leased_until, expires_at)
VALUES (@principal, @key, @fingerprint, now() + make_interval(secs => @lease_sec), now() + make_interval(secs => @keep_sec))
ON CONFLICT (principal, key) DO UPDATE SET
    fingerprint = excluded.fingerprint, leased_until = excluded.leased_until, expires_at = excluded.expires_at,
    status = NULL, header = '{}', body = NULL, created_at = now()
WHERE idempotency_keys.expires_at <= now();

-- name: GetAnswer :one
SELECT *, (leased_until <= now())::boolean AS lease_over FROM idempotency_keys WHERE principal = @principal AND key = @key;

-- name: RenewAnswer :exec
UPDATE idempotency_keys SET leased_until = now() + make_interval(secs => @lease_sec)
WHERE principal = @principal AND key = @key AND status IS NULL;

-- name: KeepAnswer :exec
UPDATE idempotency_keys SET status = @status::integer, header = @header, body = sqlc.narg('body')::bytea
WHERE principal = @principal AND key = @key AND status IS NULL;

-- name: DropAnswer :exec
DELETE FROM idempotency_keys WHERE principal = @principal AND key = @key AND status IS NULL;

-- TrimAnswers deletes expired answers, and the oldest answers beyond a number
-- and a size. Requests under way stay.
-- name: TrimAnswers :exec
DELETE FROM idempotency_keys AS k USING (
    SELECT principal, key, row_number() OVER newest_first AS place,
           sum(coalesce(octet_length(body), 0)) OVER newest_first AS bytes
    FROM idempotency_keys
    WINDOW newest_first AS (ORDER BY created_at DESC, principal, key ROWS UNBOUNDED PRECEDING)
) AS seen
WHERE k.principal = seen.principal AND k.key = seen.key
  AND (k.expires_at <= now() OR k.status IS NOT NULL AND (seen.place > @max_rows::bigint OR seen.bytes > @max_bytes::bigint));
