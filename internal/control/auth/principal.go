package auth

import "context"

// Principal is the caller of a request.
type Principal struct {
	// KeyID is the id of the presented API key.
	KeyID string
}

type principalKey struct{}

// WithPrincipal returns ctx with p.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalOf returns the principal of ctx. ok is false when nobody was
// authenticated, which an open server allows.
func PrincipalOf(ctx context.Context) (p Principal, ok bool) {
	p, ok = ctx.Value(principalKey{}).(Principal)
	return p, ok
}
