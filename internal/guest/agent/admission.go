package agent

import "github.com/wrenn-dev/wrenn/internal/fault"

// CallKind is the rule of admission for a call of the control channel.
type CallKind int

const (
	// OrdinaryCall needs the token.
	OrdinaryCall CallKind = iota
	// ConfigureCall is admitted without a token while the guest is sealed.
	ConfigureCall
	QuiesceCall
	// ReleaseCall is admitted while the guest is neither open nor sealed:
	// Release checks the token itself.
	ReleaseCall
)

// Admit lets a call of the control channel with token into the current epoch, which the caller must
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
	case !e.Admits(token):
		e.Leave()
		return nil, Unauthenticated("the access token is missing or wrong")
	case kind == ConfigureCall || kind == QuiesceCall:
		e.Leave()
		return nil, nil
	}
	return e, nil
}

// AdmitPublic lets a request to the public server with token into the current epoch,
// which the caller must Leave. Errors are those of Admit.
func (a *Agent) AdmitPublic(token string) (*Epoch, error) {
	e, err := a.AdmitSigned()
	if err == nil && !e.AdmitsPublic(token) {
		e.Leave()
		return nil, Unauthenticated("the access token is missing or wrong")
	}
	return e, err
}

// AdmitSigned is AdmitPublic without a check of the token, because a signature may stand
// for it. The transport checks both with Settings.AdmitsPublic.
func (a *Agent) AdmitSigned() (*Epoch, error) {
	e := a.state.enter()
	if e == nil {
		return nil, ErrSealed
	}
	return e, nil
}

// Unauthenticated returns the fault of a call with a wrong token or signature.
func Unauthenticated(message string) error {
	return fault.New(fault.Unauthenticated, "unauthenticated", "%s", message)
}
