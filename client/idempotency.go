package client

import "context"

// idempotencyKey is the key of the context value.
type idempotencyKey struct{}

// WithIdempotencyKey returns a context in which requests that change something
// carry key as their Idempotency-Key: sent again with the same content, also
// after the server was restarted, such a request takes effect once and gets the
// first one's answer. Use a key, such as a UUID, for one request only. It has 1
// to 255 visible ASCII characters.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, key)
}
