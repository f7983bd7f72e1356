package image

import (
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Start is a command that runs in a guest before the template's snapshot is taken, so
// that every clone has its processes already running. The zero value starts nothing.
type Start struct {
	// Command is run by "/bin/bash -l -c" and is not expected to end.
	Command string `json:"command,omitempty"`
	// Ready is run in the same way, again and again, until it exits with 0. Empty means
	// that the snapshot need not wait for the command.
	Ready string `json:"ready,omitempty"`
	// User is the account that runs both. Empty means root.
	User string `json:"user,omitempty"`
	// Dir is the working directory. Empty means the home of the user.
	Dir string `json:"dir,omitempty"`
	// ReadySec bounds the wait for Ready, in seconds. 0 means DefaultReadySec.
	ReadySec int `json:"ready_sec,omitempty"`
	// RenewedPort and RenewedPath are of an HTTP server in the guest, which answers a GET
	// request with 200 once the template's processes are prepared for a new clone, such as
	// with new random state. A create waits for that, within a bound. Port 0 means that
	// there is nothing to wait for.
	RenewedPort uint16 `json:"renewed_port,omitempty"`
	RenewedPath string `json:"renewed_path,omitempty"`
}

// renewedPath is the form of RenewedPath, which is sent as it is.
var renewedPath = regexp.MustCompile(`^/[A-Za-z0-9._~/-]{0,254}$`)

// Limits of a Start. The guest is emulated where the host has no KVM, and a start then
// takes several times as long as on the machine itself.
const (
	DefaultReadySec = 120
	MaxReadySec     = 3600
	maxStartText    = 32 << 10
)

// Timeout returns the longest wait for Ready.
func (s Start) Timeout() time.Duration {
	if s.ReadySec == 0 {
		return DefaultReadySec * time.Second
	}
	return time.Duration(s.ReadySec) * time.Second
}

// String returns s as JSON. Equal values give equal texts.
func (s Start) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return string(b)
}

// validate checks the limits. The error is of kind Invalid.
func (s Start) validate() error {
	switch {
	case s.Command == "" && s != Start{}:
		return fault.New(fault.Invalid, "invalid_recipe", "a template without a start command has neither a ready command nor a user for it")
	case len(s.Command) > maxStartText || len(s.Ready) > maxStartText:
		return fault.New(fault.Invalid, "invalid_recipe", "start and ready commands may have at most %d bytes", maxStartText)
	case strings.ContainsRune(s.Command+s.Ready+s.User+s.Dir, 0):
		return fault.New(fault.Invalid, "invalid_recipe", "start and ready commands must not hold NUL")
	case (s.RenewedPort == 0) != (s.RenewedPath == "") || s.RenewedPath != "" && !renewedPath.MatchString(s.RenewedPath):
		return fault.New(fault.Invalid, "invalid_recipe", "the check of renewed clones needs a port and an absolute path of letters, digits, '.', '_', '~', '/' and '-'")
	case s.ReadySec < 0 || s.ReadySec > MaxReadySec:
		return fault.New(fault.Invalid, "invalid_recipe", "the time until a template is ready must be from 1 to %d s", MaxReadySec)
	}
	return nil
}
