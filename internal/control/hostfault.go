package control

import (
	"slices"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// passedOn are the kinds of a host's answers that mean the same to its caller.
var passedOn = []fault.Kind{fault.HostFailed, fault.Timeout, fault.NoCapacity, fault.Unsupported, fault.Canceled, fault.Unavailable}

// ownState are the reasons of a WrongState that says something about the sandbox itself,
// which its caller can change, and not that host and control plane disagree.
var ownState = []string{"disk_too_large", reasonNoMemory, "paused_with_memory"}

// hostFault turns the error of a lifecycle command into the error for the caller of
// the API. A host speaks to the control plane, not to the user: a host that does
// not know the sandbox, or refuses our token, has failed; the user made no mistake.
func hostFault(err error) error {
	f := fault.As(err)
	switch {
	case f.Reason == ReasonSnapshotNotFound:
		return err // deleted since the row was read
	case slices.Contains(passedOn, f.Kind), f.Kind == fault.WrongState && slices.Contains(ownState, f.Reason):
		return err
	default:
		return fault.Wrap(err, fault.HostFailed, f.Reason, "the host could not do it: %s", f.Public)
	}
}

// guestFault is hostFault for work inside a guest, where the host passes on the
// guest's answer about the user's own command or path.
func guestFault(err error) error {
	f := fault.As(err)
	switch f.Kind {
	case fault.Internal, fault.Unauthenticated:
		return fault.Wrap(err, fault.HostFailed, f.Reason, "the host could not do it: %s", f.Public)
	default:
		return err
	}
}

// stateUnknown tells the caller that the effect of its command is not known yet and
// that the reconciler finds it out: 504 when time ran out, 502 otherwise.
func stateUnknown(row Sandbox, err error) error {
	return fault.Wrap(err, unknownKind(err), "outcome_unknown",
		"the host has not answered, so the outcome is not known yet; read sandbox %s again in a minute", row.ID)
}

// unknownKind is the kind of a fault whose outcome is unknown.
func unknownKind(err error) fault.Kind {
	if fault.Is(err, fault.Timeout) {
		return fault.Timeout
	}
	return fault.HostFailed
}
