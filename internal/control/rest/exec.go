package rest

import (
	"encoding/base64"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Bounds of an exec's timeout_sec.
const (
	DefaultExecTimeoutSec = 30
	MaxExecTimeoutSec     = 86400
)

// reasonExecTimeout is the code of a command that exceeded its timeout.
const reasonExecTimeout = "exec_timeout"

// guestUser is the form of a user's name inside a guest.
var guestUser = regexp.MustCompile(`^([a-z_][a-z0-9_-]{0,31})?$`)

const ndjson = "application/x-ndjson"

func (s *server) execCommand(w http.ResponseWriter, r *http.Request) {
	id, err := idOf(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	e, err := readExec(w, r)
	aborted := true // by a panic
	if in, ok := e.Input.(*execInput); ok {
		defer func() { in.leave(s.StallTimeout, aborted) }()
	}
	switch {
	case err != nil:
		s.fail(w, r, err)
	case strings.Contains(r.Header.Get("Accept"), ndjson):
		s.streamExec(w, r, id, e)
	default:
		s.collectExec(w, r, id, e)
	}
	aborted = false
}

// readExec reads an ExecRequest, whose stdin is part of it or follows it.
func readExec(w http.ResponseWriter, r *http.Request) (control.Exec, error) {
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && typ == ndjson {
		return readExecLines(w, r)
	}
	return decodeExec(func(f fields) error { return readJSON(w, r, f) })
}

// decodeExec decodes an ExecRequest with decode and validates it.
func decodeExec(decode func(fields) error) (control.Exec, error) {
	var e control.Exec
	timeoutSec, stdin, encoding := DefaultExecTimeoutSec, "", "utf-8"
	err := decode(fields{
		"cmd":            &e.Cmd,
		"args":           &e.Args,
		"env":            &e.Env,
		"cwd":            &e.Cwd,
		"user":           &e.User,
		"stdin":          &stdin,
		"stdin_encoding": &encoding,
		"timeout_sec":    &timeoutSec,
	})
	if err != nil {
		return e, err
	}
	if timeoutSec < 1 || timeoutSec > MaxExecTimeoutSec {
		return e, fault.New(fault.Invalid, "invalid_timeout", "timeout_sec must be from 1 to %d", MaxExecTimeoutSec)
	}
	e.Timeout = time.Duration(timeoutSec) * time.Second
	if e.Stdin, err = decodeStdin(stdin, encoding); err != nil {
		return e, err
	}
	return e, validateExec(e)
}

// hintCommandLine adds the remedy to the error of a command that was not found, if
// the command looks like a line for a shell.
func hintCommandLine(e control.Exec, err error) error {
	if fault.ReasonOf(err) != "command_not_found" || len(e.Args) > 0 || !strings.ContainsAny(e.Cmd, " \t\n|&;<>$") {
		return err
	}
	return fault.Wrap(err, fault.KindOf(err), "command_not_found",
		"there is no program of this name: cmd is one program, not a command line; "+
			`give its arguments in args, as {"cmd":"ls","args":["-la","/"]}, or ask for a shell: {"cmd":"sh","args":["-c","ls -la /"]}`)
}

func decodeStdin(stdin, encoding string) ([]byte, error) {
	switch {
	case encoding == "base64":
		b, err := base64.StdEncoding.DecodeString(stdin)
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "invalid_stdin", "stdin is not base64 (RFC 4648, section 4)")
		}
		return b, nil
	case encoding != "utf-8":
		return nil, fault.New(fault.Invalid, "invalid_stdin", "stdin_encoding must be utf-8 or base64")
	case stdin == "":
		return nil, nil
	default:
		return []byte(stdin), nil
	}
}

func validateExec(e control.Exec) error {
	if e.Cmd == "" {
		return fault.New(fault.Invalid, "invalid_cmd", "cmd is required")
	}
	for _, s := range append([]string{e.Cmd}, e.Args...) {
		if strings.ContainsRune(s, 0) {
			return fault.New(fault.Invalid, "invalid_cmd", "cmd and args must not hold NUL")
		}
	}
	if e.Cwd != "" && sandbox.ValidateGuestPath(e.Cwd) != nil {
		return fault.New(fault.Invalid, "invalid_cwd",
			"cwd must be an absolute path of at most %d bytes without NUL", sandbox.MaxPathLen)
	}
	if err := validateUser(e.User); err != nil {
		return err
	}
	return sandbox.ValidateEnv(e.Env)
}

func validateUser(user string) error {
	if !guestUser.MatchString(user) {
		return fault.New(fault.Invalid, "invalid_user",
			"user must be a user's name: lower-case letters, digits, '_' and '-', at most 32")
	}
	return nil
}
