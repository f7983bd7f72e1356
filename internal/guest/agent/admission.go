package agent

import "github.com/wrenn-dev/wrenn/internal/fault"

// CallKind says which rule of admission a call falls under.
type CallKind int

const (
	// OrdinaryCall needs the token.
	OrdinaryCall CallKind = iota
	// SignedCall is admitted without a token, because a signature may stand for
	// it. The transport checks both with Settings.Admits.
	SignedCall
	// ConfigureCall is admitted without a token while the guest is sealed.
	ConfigureCall
	QuiesceCall
	// ReleaseCall is admitted while the guest is neither open nor sealed:
	// Release checks the token itself.
	ReleaseCall
)

// Admit lets a call with token into the current epoch, which the caller must
// Leave. It returns a nil epoch for Configure, Quiesce and Release: these begin
// or end the epoch themselves and must not wait for themselves.
//
// A sealed guest is HostFailed guest_sealed, a wrong token Unauthenticated.
func (a *Agent) Admit(kind CallKind, token string) (*Epoch, error) {
	if kind == ReleaseCall {
		return nil, nil
	}
	e := a.state.enter()
	switch {
	case e == nil && kind == ConfigureCall:
		return nil, nil
	case e == nil:
		return nil, ErrSealed
	case kind != SignedCall && !e.Admits(token):
		e.Leave()
		return nil, Unauthenticated("the access token is missing or wrong")
	case kind == ConfigureCall || kind == QuiesceCall:
		e.Leave()
		return nil, nil
	}
	return e, nil
}

// Unauthenticated returns the fault of a call with a wrong token or signature.
func Unauthenticated(message string) error {
	return fault.New(fault.Unauthenticated, "unauthenticated", "%s", message)
}
