package client

import "context"

// idempotencyKey is the key of the context value.
type idempotencyKey struct{}

// WithIdempotencyKey returns a context in which requests that change something
// carry key as their Idempotency-Key. Such a request takes effect once, even if
// it is sent several times with the same content or the server is restarted; a
// retry gets the answer of the first one. Use a key, such as a UUID, for one
// request only. It has 1 to 255 visible ASCII characters.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, key)
}
