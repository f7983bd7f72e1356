package guestclient

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/fault/faulthttp"
	"github.com/wrenn-dev/wrenn/internal/fault/faultrpc"
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
)

const (
	maxErrorBytes  = 8 << 10
	maxPublicBytes = 512
)

var reasonForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// kindsByReason are the failures whose kind the reason alone decides.
var kindsByReason = map[string]fault.Kind{
	ReasonFileNotFound:    fault.NotFound,
	ReasonIsDirectory:     fault.Invalid,
	ReasonDiskFull:        fault.TooLarge,
	ReasonExecTimeout:     fault.Timeout,
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
	if !reasonForm.MatchString(reason) {
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
	if len(text) > maxPublicBytes {
		text = text[:maxPublicBytes]
	}
	text = strings.ToValidUTF8(text, "�")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	if text == "" {
		return "the sandbox gave no reason"
	}
	return text
}

// fault classifies the error of a call under ctx. fault(ctx, nil) is nil.
func (c *Client) fault(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case c.life.Err() != nil:
		return errClosed
	case ctx.Err() != nil:
		return fault.As(context.Cause(ctx))
	}
	f := fault.As(faultrpc.FromConnect(err))
	if connect.CodeOf(err) == connect.CodeUnauthenticated && !connect.IsWireError(err) {
		return fault.Wrap(err, fault.HostFailed, "guest_token_rejected", "the sandbox does not take its access token")
	}
	if !connect.IsWireError(err) {
		return f
	}
	return judge(err, f.Kind, f.Reason, f.Public)
}

// errStatus is a plain HTTP answer that says no.
func errStatus(status int) error {
	return judge(nil, faulthttp.Kind(status), "", http.StatusText(status))
}

// errResponse reads the error body of a plain HTTP answer.
func errResponse(resp *http.Response) error {
	var body struct {
		Message string `json:"message"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
	if err == nil {
		err = json.Unmarshal(b, &body)
	}
	return judge(err, faulthttp.Kind(resp.StatusCode), resp.Header.Get("Wrenn-Error-Reason"), body.Message)
}

// errBroken is a transfer that ended before its end.
func errBroken(cause error) error {
	var known *fault.Error
	if errors.As(cause, &known) {
		return cause
	}
	return fault.Wrap(cause, fault.HostFailed, faultrpc.ReasonUnreachable, "the connection to the sandbox broke")
}
