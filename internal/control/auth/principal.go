package auth

import "context"

// Principal is who makes a request.
type Principal struct {
	// KeyID and KeyName are those of the API key presented.
	KeyID, KeyName string
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
