package templates

import (
	"errors"
	"fmt"

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

// atStep makes err a failure of step, if it is the author's: the guest or the host have
// refused the values of the step. Other errors stay as they are.
func atStep(step, text string, err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	switch fault.KindOf(err) {
	case fault.Invalid, fault.NotFound, fault.Exists, fault.TooLarge, fault.Unauthenticated, fault.Forbidden, fault.Unsupported:
		if fault.ReasonOf(err) == "sandbox_not_found" {
			return err
		}
		return failed(step, "%s: %s", text, fault.As(err).Public)
	}
	return err
}
