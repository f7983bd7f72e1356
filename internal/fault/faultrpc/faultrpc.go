// Package faultrpc projects fault errors onto Connect errors and back.
//
// Servers call ToConnect at their edge, clients call FromConnect at theirs;
// kind, reason and public sentence survive the trip, the cause does not.
package faultrpc

import (
	"errors"

	"connectrpc.com/connect"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// headerReason and headerKind carry the parts that a Connect code cannot: our reason,
// and the kind where several share a code. They travel as error metadata.
const (
	headerReason = "Wrenn-Error-Reason"
	headerKind   = "Wrenn-Error-Kind"
)

var codeOf = map[fault.Kind]connect.Code{
	fault.Internal:        connect.CodeInternal,
	fault.Invalid:         connect.CodeInvalidArgument,
	fault.Unauthenticated: connect.CodeUnauthenticated,
	fault.Forbidden:       connect.CodePermissionDenied,
	fault.NotFound:        connect.CodeNotFound,
	fault.Exists:          connect.CodeAlreadyExists,
	fault.WrongState:      connect.CodeFailedPrecondition,
	fault.Stale:           connect.CodeAborted,
	fault.TooLarge:        connect.CodeOutOfRange,
	fault.Quota:           connect.CodeResourceExhausted,
	fault.HostFailed:      connect.CodeUnavailable,
	fault.NoCapacity:      connect.CodeResourceExhausted,
	fault.Timeout:         connect.CodeDeadlineExceeded,
	fault.Unsupported:     connect.CodeUnimplemented,
	fault.Canceled:        connect.CodeCanceled,
	fault.Unavailable:     connect.CodeUnavailable,
}

var kindOf = map[connect.Code]fault.Kind{
	connect.CodeInternal:           fault.Internal,
	connect.CodeUnknown:            fault.Internal,
	connect.CodeDataLoss:           fault.Internal,
	connect.CodeInvalidArgument:    fault.Invalid,
	connect.CodeUnauthenticated:    fault.Unauthenticated,
	connect.CodePermissionDenied:   fault.Forbidden,
	connect.CodeNotFound:           fault.NotFound,
	connect.CodeAlreadyExists:      fault.Exists,
	connect.CodeFailedPrecondition: fault.WrongState,
	connect.CodeAborted:            fault.Stale,
	connect.CodeOutOfRange:         fault.TooLarge,
	connect.CodeResourceExhausted:  fault.NoCapacity,
	connect.CodeUnavailable:        fault.HostFailed,
	connect.CodeDeadlineExceeded:   fault.Timeout,
	connect.CodeUnimplemented:      fault.Unsupported,
	connect.CodeCanceled:           fault.Canceled,
}

var kindByName = func() map[string]fault.Kind {
	m := make(map[string]fault.Kind)
	for _, k := range fault.Kinds() {
		m[k.String()] = k
	}
	return m
}()

// ToConnect returns err as a Connect error whose message is the public
// sentence. ToConnect(nil) is nil.
func ToConnect(err error) error {
	if err == nil {
		return nil
	}
	f := fault.As(err)
	ce := connect.NewError(codeOf[f.Kind], errors.New(f.Public))
	ce.Meta().Set(headerReason, f.Reason)
	ce.Meta().Set(headerKind, f.Kind.String())
	return ce
}

// FromConnect returns err, as a Connect client gave it, as a fault. An answer
// of the peer keeps the peer's kind, reason and sentence. An error that did
// not come from the peer (broken connection, refused) is HostFailed with
// reason "unreachable": its outcome is unknown. FromConnect(nil) is nil.
func FromConnect(err error) error {
	if err == nil {
		return nil
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return fault.As(err)
	}
	kind := kindOf[ce.Code()]
	if !connect.IsWireError(err) {
		if kind == fault.Timeout || kind == fault.Canceled {
			return fault.Wrap(err, kind, kind.String(), "the peer did not answer in time")
		}
		return fault.Wrap(err, fault.HostFailed, ReasonUnreachable, "the peer cannot be reached")
	}
	reason := ce.Meta().Get(headerReason)
	if k, ok := kindByName[ce.Meta().Get(headerKind)]; ok {
		kind = k
	}
	if reason == "" {
		reason = kind.String()
	}
	return fault.Wrap(err, kind, reason, "%s", ce.Message())
}

// ReasonUnreachable is the reason of an error that did not come from the peer.
const ReasonUnreachable = "unreachable"

// Unknown reports whether it is unknown if the command took effect, because err
// did not come from the peer.
func Unknown(err error) bool {
	if err == nil {
		return false
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		return !connect.IsWireError(err)
	}
	return fault.ReasonOf(err) == ReasonUnreachable || fault.Is(err, fault.Timeout) || fault.Is(err, fault.Canceled)
}
