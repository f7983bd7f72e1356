package sandbox

import (
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// StartCommand is the start command of a template, as the host of a sandbox keeps it to run
// it again after a boot. It runs with the environment of the sandbox.
type StartCommand struct {
	// ID is the id of its process. A boot starts it under the same id.
	ID string `json:"id"`
	// User and Dir are empty for those of the sandbox.
	User string `json:"user,omitempty"`
	Dir  string `json:"dir,omitempty"`
	// Command is the program and its arguments. Ready is a command that succeeds once the
	// process is ready; empty means that there is nothing to wait for.
	Command []string `json:"command"`
	Ready   []string `json:"ready,omitempty"`
	// ReadyTimeout bounds the wait for Ready.
	ReadyTimeout time.Duration `json:"ready_timeout,omitempty"`
}

// maxStartCommand bounds the texts of a StartCommand, in bytes, so that a record with it
// stays readable: JSON has up to six bytes for one.
const maxStartCommand = 256 << 10

// Validate checks that a host can keep s. The error is Invalid missing_cmd, or TooLarge
// command_too_large.
func (s StartCommand) Validate() error {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return fault.New(fault.Invalid, "missing_cmd", "cmd is required")
	}
	if s.bytes() > maxStartCommand {
		return fault.New(fault.TooLarge, "command_too_large",
			"the start command and the ready command may have at most %d bytes together", maxStartCommand)
	}
	return nil
}

// bytes returns the length of the texts of s. Each argument counts one byte more, so that
// the number of empty ones is bounded as well.
func (s StartCommand) bytes() int {
	n := len(s.ID) + len(s.User) + len(s.Dir)
	for _, texts := range [][]string{s.Command, s.Ready} {
		for _, text := range texts {
			n += len(text) + 1
		}
	}
	return n
}
