package guestclient

import (
	"context"
	"errors"
	"strings"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
	"github.com/wrenn-dev/wrenn/internal/guestwire"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// Reasons of faults that callers distinguish.
const (
	ReasonFileNotFound    = "file_not_found"
	ReasonIsDirectory     = "is_directory"
	ReasonDiskFull        = "guest_disk_full"
	ReasonExecTimeout     = "exec_timeout"
	ReasonCommandNotFound = "command_not_found"
	ReasonInvalidCwd      = "invalid_cwd"
	ReasonUnknownUser     = "unknown_user"
	// ReasonUnreachable means that the connection broke. The outcome of the call is
	// unknown.
	ReasonUnreachable = faultrpc.ReasonUnreachable
	// ReasonUnresponsive means that the guest does not answer. It may have done the
	// call, or may still do it.
	ReasonUnresponsive = "guest_unresponsive"
)

const (
	maxErrorBytes  = 8 << 10
	maxPublicBytes = 512
)

// reasons are the reasons that a guest may give. Any other, such as the reason of a
// decision of the host, is replaced by the name of the kind. A test compares the
// list with the reasons in the guest agent.
var reasons = map[string]bool{
	ReasonFileNotFound: true, ReasonIsDirectory: true, ReasonDiskFull: true, ReasonExecTimeout: true,
	ReasonCommandNotFound: true, ReasonInvalidCwd: true, ReasonUnknownUser: true,

	"command_not_executable": true, "command_too_large": true, "start_failed": true, "too_many_processes": true,
	"directory_exists": true, "not_a_directory": true, "not_a_file": true, "path_exists": true, "path_busy": true,
	"path_forbidden": true, "too_many_entries": true, "too_many_directories": true, "guest_exhausted": true,
	"invalid_command": true, "invalid_configure": true, "invalid_env": true, "invalid_message": true,
	"invalid_metadata": true, "invalid_mode": true, "invalid_path": true, "invalid_user": true,
	"missing_cmd": true, "missing_process": true, "missing_input": true, "broken_upload": true,
	"guest_sealed": true, "quiesce_timeout": true, "shutting_down": true, "network_mount": true,
	"connect_timeout": true, "duplicate_path": true, "invalid_authorization": true, "invalid_content_encoding": true,
	"invalid_content_type": true, "invalid_signal": true, "no_stdin": true, "no_terminal": true, "stdin_closed": true,
	"process_not_found": true, "process_exists": true, "process_ended": true, "invalid_offset": true, "too_many_parts": true, "too_many_readers": true, "too_many_watchers": true,
	"too_many_watches": true, "watch_overflow": true, "watch_timeout": true, "watcher_not_found": true,
	"directory_not_empty": true, ReasonPortRefused: true, "too_many_connections": true,
	"invalid_archive": true, "archive_incomplete": true, "archive_too_large": true,
}

// kindsByReason holds the kind of the reasons that determine it.
var kindsByReason = map[string]fault.Kind{
	ReasonFileNotFound:    fault.NotFound,
	ReasonIsDirectory:     fault.Invalid,
	ReasonDiskFull:        fault.TooLarge,
	ReasonCommandNotFound: fault.Invalid,
	ReasonInvalidCwd:      fault.Invalid,
	ReasonUnknownUser:     fault.Invalid,
	ReasonPortRefused:     fault.HostFailed,
}

// allowedKinds maps the kinds that a guest may claim to those that callers see. Any
// other kind would make a failure of the guest look like a decision of the host.
var allowedKinds = map[fault.Kind]fault.Kind{
	fault.Invalid: fault.Invalid, fault.NotFound: fault.NotFound, fault.Exists: fault.Exists,
	fault.WrongState: fault.WrongState, fault.TooLarge: fault.TooLarge, fault.Quota: fault.Quota,
	fault.Forbidden: fault.Invalid, fault.Unsupported: fault.Unsupported,
}

// guestFault returns a failure that the guest reported as a fault that callers may
// see.
func guestFault(kind fault.Kind, reason, text string) error {
	if !reasons[reason] {
		reason = kind.String()
	}
	known, ok := kindsByReason[reason]
	if !ok {
		known, ok = allowedKinds[kind]
	}
	if !ok {
		known, reason = fault.HostFailed, "guest_failed"
	}
	return fault.New(known, reason, "%s", plain(text))
}

// plain returns a text of the guest as one short line of valid UTF-8 without
// control characters.
func plain(text string) string {
	if text = untrusted.Line(text, maxPublicBytes); strings.TrimSpace(text) == "" {
		return "the sandbox gave no reason"
	}
	return text
}

// failureFault returns a Failure message of the guest as a fault.
func failureFault(m *guestv1.Failure) error {
	if m.GetReason() == reasonUnauthenticated {
		return fault.New(fault.HostFailed, "guest_token_rejected", "the sandbox does not take its access token")
	}
	kind := fault.Internal
	for _, k := range fault.Kinds() {
		if k.String() == m.GetKind() {
			kind = k
		}
	}
	return guestFault(kind, m.GetReason(), m.GetMessage())
}

// reasonUnauthenticated is the guest's reason for refusing a wrong token.
const reasonUnauthenticated = "unauthenticated"

// errDisorder is the failure of a guest that breaks the protocol.
var errDisorder = fault.New(fault.HostFailed, "guest_failed", "the sandbox's guest agent broke its protocol")

// errStalled is the failure of a transfer in which the guest has moved no bytes for
// the stall limit.
var errStalled = fault.New(fault.Timeout, ReasonUnresponsive,
	"the sandbox stopped moving the file's bytes; it is not known how much of it took effect")

// broken classifies the error that ended a call under ctx: Close, the caller, or
// the guest caused it.
func (c *Client) broken(ctx context.Context, err error) error {
	var known *fault.Error
	switch {
	case c.life.Err() != nil:
		return errClosed
	case ctx.Err() != nil:
		return fault.As(context.Cause(ctx))
	case errors.As(err, &known):
		return err
	case errors.Is(err, guestwire.ErrMalformed):
		return errDisorder
	}
	return fault.Wrap(err, fault.HostFailed, faultrpc.ReasonUnreachable, "the connection to the sandbox broke")
}
