// Package preference decides which runtime a host prefers, and says why.
//
// It owns nothing and is pure. The host agent decides with it, and the doctor command
// predicts the decision with it.
package preference

import (
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Preference holds the wishes of the operator.
type Preference struct {
	// Runtime is the runtime of sandboxes that ask for none. Empty lets the host choose
	// microVMs where KVM is usable, and else gVisor.
	Runtime sandbox.Runtime
	// Runsc is the path of the operator's own runsc, or empty.
	Runsc string
}

// Required reports whether a host must not start without gVisor.
func (p Preference) Required() bool { return p.Runsc != "" || p.Runtime == sandbox.RuntimeGVisor }

// PrefersGVisor reports whether gVisor, if the host offers it, comes before microVMs.
// r is the result of the KVM probe.
func (p Preference) PrefersGVisor(r kvmprobe.Report) bool {
	if p.Runtime != "" {
		return p.Runtime == sandbox.RuntimeGVisor
	}
	return !r.Support.Usable()
}

// GVisorReason says in a sentence why gVisor is preferred, or only offered.
func (p Preference) GVisorReason(r kvmprobe.Report) string {
	switch {
	case p.Runtime == sandbox.RuntimeGVisor:
		return "the host was started with --runtime gvisor"
	case p.Runtime != "":
		return "offered beside microVMs, because the host was started with --runtime " + string(p.Runtime)
	case r.Support.Usable():
		return "offered beside microVMs, because KVM is usable"
	default:
		return "no usable KVM: " + r.Reason + "; gVisor runs code at native speed"
	}
}
