package sandbox

import (
	"encoding/json"
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

// maxStartCommand bounds a StartCommand as JSON, in bytes, so that a record with it stays
// readable.
const maxStartCommand = 256 << 10

// Validate checks that a host can keep s. The error is Invalid missing_cmd, or TooLarge
// command_too_large.
func (s StartCommand) Validate() error {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return fault.New(fault.Invalid, "missing_cmd", "cmd is required")
	}
	if b, err := json.Marshal(s); err != nil || len(b) > maxStartCommand {
		return fault.Wrap(err, fault.TooLarge, "command_too_large",
			"the start command and the ready command may have at most %d bytes together, as JSON", maxStartCommand)
	}
	return nil
}
