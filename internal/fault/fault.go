// Package fault owns the kinds of failure that the product knows and the one
// error type that carries them between its parts.
//
// Every other package returns these errors; faulthttp and faultrpc project
// them onto HTTP and Connect. The package never logs, and nothing in the
// product compares the text of an error: Is, KindOf and ReasonOf are the only
// ways to classify an error.
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Kind is the class of an error. The zero value is Internal, so
// that an error nobody classified is never shown to a user as their mistake.
type Kind int

// The kinds. Packages faulthttp and faultrpc map them to statuses and codes.
const (
	Internal Kind = iota
	Invalid
	Unauthenticated
	Forbidden
	NotFound
	Exists
	WrongState
	Stale
	TooLarge
	Quota
	HostFailed
	NoCapacity
	Timeout
	Unsupported
	Canceled
	// Unavailable: a part of the installation, such as its database, is
	// temporarily unavailable. The same request can succeed later.
	Unavailable
)

// Kinds lists every kind, for tests that walk the tables.
func Kinds() []Kind {
	return []Kind{
		Internal, Invalid, Unauthenticated, Forbidden, NotFound, Exists, WrongState, Stale,
		TooLarge, Quota, HostFailed, NoCapacity, Timeout, Unsupported, Canceled, Unavailable,
	}
}

// String returns the kind's snake_case name, which is also the default Reason
// of an error of that kind.
func (k Kind) String() string {
	switch k {
	case Invalid:
		return "invalid"
	case Unauthenticated:
		return "unauthenticated"
	case Forbidden:
		return "forbidden"
	case NotFound:
		return "not_found"
	case Exists:
		return "exists"
	case WrongState:
		return "wrong_state"
	case Stale:
		return "stale"
	case TooLarge:
		return "too_large"
	case Quota:
		return "quota"
	case HostFailed:
		return "host_failed"
	case NoCapacity:
		return "no_capacity"
	case Timeout:
		return "timeout"
	case Unsupported:
		return "unsupported"
	case Canceled:
		return "canceled"
	case Unavailable:
		return "unavailable"
	default:
		return "internal"
	}
}

// Error is a classified failure.
//
// Reason is a stable snake_case code for machines; Public is a sentence that a
// user may read and that names the next step; the cause, reachable with
// errors.Unwrap, is for logs only and may hold paths and addresses.
type Error struct {
	Kind   Kind
	Reason string
	Public string
	cause  error
}

// Error returns the text for logs: reason, public sentence and cause.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Reason + ": " + e.Public
	}
	return e.Reason + ": " + e.Public + ": " + e.cause.Error()
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// New returns an error of kind with a machine-readable reason and a sentence
// for the user.
func New(kind Kind, reason, format string, args ...any) *Error {
	return &Error{Kind: kind, Reason: reason, Public: fmt.Sprintf(format, args...)}
}

// Wrap is New with a cause for the logs. A nil cause is allowed.
func Wrap(cause error, kind Kind, reason, format string, args ...any) *Error {
	return &Error{Kind: kind, Reason: reason, Public: fmt.Sprintf(format, args...), cause: cause}
}

// As returns the outermost *Error in err's chain. An error that nobody
// classified comes back as Timeout or Canceled when it is the context's, and
// as Internal with no detail in Public otherwise. As(nil) is nil.
func As(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return Wrap(err, Timeout, "timeout", "the operation took too long")
	case errors.Is(err, context.Canceled):
		return Wrap(err, Canceled, "canceled", "the caller went away")
	default:
		return Wrap(err, Internal, "internal", "an internal error; the request id finds it in the server's log")
	}
}

// KindOf returns the kind of err. It must not be called with nil.
func KindOf(err error) Kind { return As(err).Kind }

// Is reports whether err is of kind. A nil error is of none.
func Is(err error, kind Kind) bool { return err != nil && As(err).Kind == kind }

// ReasonOf returns err's machine-readable reason, or "" for nil.
func ReasonOf(err error) string {
	if err == nil {
		return ""
	}
	return As(err).Reason
}
