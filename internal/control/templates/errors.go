package templates

import (
	"errors"
	"fmt"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// failure is the end of a build because of its author's text, files or commands. A
// repetition would fail as well.
type failure struct {
	step    string
	message string
}

// Error implements error.
func (f *failure) Error() string { return f.message }

// failed returns a failure of a step.
func failed(step, format string, args ...any) error {
	return &failure{step, fmt.Sprintf(format, args...)}
}

// baseStep and finalStep are the names of the parts of a build that are no step.
const (
	baseStep  = "base"
	finalStep = "finalize"
)

// reasonOf returns the reason of a build that ended with err.
func reasonOf(err error) Reason {
	var f *failure
	if errors.As(err, &f) {
		return Reason{Message: f.message, Step: f.step}
	}
	return Reason{Message: fault.As(err).Public}
}

// ownFault marks an error of any kind that the author of a template has not caused: for example a
// snapshot that is gone, or an image that no host has any more.
type ownFault struct{ error }

// Unwrap implements the interface of package errors.
func (e ownFault) Unwrap() error { return e.error }

// ours marks err as none of the author's.
func ours(err error) error {
	if err == nil {
		return nil
	}
	return ownFault{err}
}

// ownReasons are reasons that say nothing about the author's text, although their kinds are
// those of bad values: the machine, its snapshot or its host is gone.
var ownReasons = map[string]bool{
	"sandbox_not_found": true, "snapshot_not_found": true, "host_not_found": true, control.ReasonEnded: true,
}

// atStep makes err a failure of step, if it is the author's: the guest or the host have
// refused the values of the step. Other errors stay as they are.
func atStep(step, text string, err error) error {
	var f *failure
	var own ownFault
	if err == nil || errors.As(err, &f) || errors.As(err, &own) || ownReasons[fault.ReasonOf(err)] {
		return err
	}
	switch fault.KindOf(err) {
	case fault.Invalid, fault.NotFound, fault.Exists, fault.TooLarge, fault.Unauthenticated, fault.Forbidden, fault.Unsupported:
		return failed(step, "%s: %s", text, fault.As(err).Public)
	}
	return err
}
