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

// Reasons of the faults that callers tell apart.
const (
	ReasonFileNotFound    = "file_not_found"
	ReasonIsDirectory     = "is_directory"
	ReasonDiskFull        = "guest_disk_full"
	ReasonExecTimeout     = "exec_timeout"
	ReasonCommandNotFound = "command_not_found"
	ReasonInvalidCwd      = "invalid_cwd"
	ReasonUnknownUser     = "unknown_user"
	// ReasonUnreachable is of a connection that broke: the outcome is unknown.
	ReasonUnreachable = faultrpc.ReasonUnreachable
	// ReasonUnresponsive is for a guest that does not answer. What it was asked
	// to do it may have done, or may still do.
	ReasonUnresponsive = "guest_unresponsive"
)

const (
	maxErrorBytes  = 8 << 10
	maxPublicBytes = 512
)

// reasons are those that a guest may give. One that is not here, such as the
// name of a decision of the host, is replaced by the name of the kind. A test
// compares the list with the reasons that the guest agent has.
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
	"process_not_found": true, "too_many_parts": true, "too_many_readers": true, "too_many_watchers": true,
	"too_many_watches": true, "watch_overflow": true, "watch_timeout": true, "watcher_not_found": true,
}

// kindsByReason are the failures whose kind the reason alone decides.
var kindsByReason = map[string]fault.Kind{
	ReasonFileNotFound:    fault.NotFound,
	ReasonIsDirectory:     fault.Invalid,
	ReasonDiskFull:        fault.TooLarge,
	ReasonCommandNotFound: fault.Invalid,
	ReasonInvalidCwd:      fault.Invalid,
	ReasonUnknownUser:     fault.Invalid,
}

// believable are the kinds that a guest may claim. The others would make a
// failure of the guest look like a decision of the host.
var believable = map[fault.Kind]fault.Kind{
	fault.Invalid: fault.Invalid, fault.NotFound: fault.NotFound, fault.Exists: fault.Exists,
	fault.WrongState: fault.WrongState, fault.TooLarge: fault.TooLarge, fault.Quota: fault.Quota,
	fault.Forbidden: fault.Invalid, fault.Unsupported: fault.Unsupported,
}

// judge makes a fault of what the guest said.
func judge(cause error, kind fault.Kind, reason, text string) error {
	if !reasons[reason] {
		reason = kind.String()
	}
	known, ok := kindsByReason[reason]
	if !ok {
		known, ok = believable[kind]
	}
	if !ok {
		known, reason = fault.HostFailed, "guest_failed"
	}
	return fault.Wrap(cause, known, reason, "%s", plain(text))
}

// plain makes text of the guest fit to be shown: short, valid, one line.
func plain(text string) string {
	if text = untrusted.Line(text, maxPublicBytes); strings.TrimSpace(text) == "" {
		return "the sandbox gave no reason"
	}
	return text
}

// judgeFailure makes a fault of the guest's answer.
func judgeFailure(m *guestv1.Failure) error {
	if m.GetReason() == reasonUnauthenticated {
		return fault.New(fault.HostFailed, "guest_token_rejected", "the sandbox does not take its access token")
	}
	kind := fault.Internal
	for _, k := range fault.Kinds() {
		if k.String() == m.GetKind() {
			kind = k
		}
	}
	return judge(nil, kind, m.GetReason(), m.GetMessage())
}

// reasonUnauthenticated is what the guest says to a wrong token.
const reasonUnauthenticated = "unauthenticated"

// errDisorder is for frames that are not what the protocol allows.
var errDisorder = fault.New(fault.HostFailed, "guest_failed", "the sandbox answered with something that is not its protocol")

// errStalled is for a transfer of which the guest has moved nothing for the
// stall limit.
var errStalled = fault.New(fault.Timeout, ReasonUnresponsive,
	"the sandbox stopped moving the file's bytes; it is not known how much of it took effect")

// broken classifies what broke a call under ctx: Close, the caller, or the
// guest.
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
