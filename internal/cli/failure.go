package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// The exit codes that are not a command's own.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 128 + int(syscall.SIGINT)
)

// The exit codes of exec and run that are not their command's.
const (
	exitTimedOut      = 124
	exitWrenn         = 125
	exitNotExecutable = 126
	exitNotFound      = 127
)

// runsCommand marks the commands that pass on a command's exit code.
const runsCommand = "wrenn_runs_command"

// failureCode returns the exit code of cmd for err. otherwise is the code of
// commands that do not pass on another's.
func failureCode(cmd *cobra.Command, err error, otherwise int) int {
	if _, runs := cmd.Annotations[runsCommand]; !runs {
		return otherwise
	}
	var api *client.Error
	if errors.As(err, &api) {
		switch api.Code {
		case "exec_timeout":
			return exitTimedOut
		case "command_not_executable":
			return exitNotExecutable
		case "command_not_found":
			return exitNotFound
		}
	}
	return exitWrenn
}

// Failure is an error that is ready to be shown to a person.
type Failure struct {
	// Message describes the failure in a sentence without a full stop.
	Message string
	// Code and RequestID are the API's; both may be empty.
	Code, RequestID string
	// Hint is the next step; it may be empty.
	Hint string
}

// Error returns the message with the code and the request id.
func (f *Failure) Error() string {
	return (&client.Error{Message: f.Message, Code: f.Code, RequestID: f.RequestID}).Error()
}

// ExitCode ends the program with a code and no message.
type ExitCode int

// Error is never shown.
func (c ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// usageError is an error in the command line of cmd.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e usageError) Error() string { return e.err.Error() }

// Usage returns err as an error in cmd's command line, which is reported with the
// usage of cmd.
func Usage(cmd *cobra.Command, err error) error { return usageError{cmd, err} }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return usageError{cmd, fmt.Errorf(format, args...)}
}

// report prints err and returns the exit code for it.
func (a *App) report(cmd *cobra.Command, err error) int {
	var code ExitCode
	var usage usageError
	switch {
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		a.print(&Failure{Message: usage.Error(), Hint: "usage: " + usage.cmd.UseLine()})
		return failureCode(usage.cmd, err, exitUsage)
	case errors.Is(err, context.Canceled) && cmd.Context().Err() != nil:
		return interruptedCode(cmd.Context())
	default:
		a.print(a.explain(err))
		return failureCode(cmd, err, exitFailed)
	}
}

// print prints a failure: the message and, on a second line, the hint.
func (a *App) print(f *Failure) {
	// Messages may come from the server: a line break in one must not look like
	// another message.
	fmt.Fprintln(a.io.Err, "wrenn:", printable(a.named(strings.Join(strings.Fields(f.Error()), " "))))
	if f.Hint != "" {
		fmt.Fprintln(a.io.Err, "      ", printable(a.named(f.Hint)))
	}
}

// named returns text with the wrenn commands in backquotes changed to the form in
// which they can be typed at this terminal.
func (a *App) named(text string) string {
	if a.io.Program == "" {
		return text
	}
	return strings.NewReplacer("`wrenn ", "`"+a.io.Program+" ", "`sudo wrenn ", "`sudo "+a.io.Program+" ").Replace(text)
}

// explain returns err as a failure to print.
func (a *App) explain(err error) *Failure {
	var (
		failure *Failure
		api     *client.Error
		sent    *url.Error
	)
	switch {
	case errors.As(err, &failure):
		return failure
	case errors.As(err, &api):
		return &Failure{Message: api.Message, Code: api.Code, RequestID: api.RequestID, Hint: a.hintFor(api)}
	case errors.Is(err, syscall.ECONNREFUSED) && errors.As(err, &sent):
		return &Failure{Message: "no server answers at " + hostOf(sent.URL),
			Hint: "start one with `wrenn up`, or name another with --url or WRENN_URL"}
	case isCertificateProblem(err) && errors.As(err, &sent):
		return &Failure{Message: fmt.Sprintf("%s: %v", hostOf(sent.URL), sent.Err),
			Hint: "name the file with the authority of its certificate with --ca-file or WRENN_CA_FILE"}
	case isLostConnection(err) && errors.As(err, &sent):
		return &Failure{Message: "the server at " + hostOf(sent.URL) + " ended the connection before it answered; the request may have taken effect",
			Hint: "check with `wrenn ls`, and see the server's log for the reason"}
	case errors.As(err, &sent):
		return &Failure{Message: fmt.Sprintf("%s: %v", hostOf(sent.URL), sent.Err),
			Hint: "check the address, which is set with --url or WRENN_URL"}
	default:
		return &Failure{Message: err.Error()}
	}
}

// isLostConnection reports whether err is the end of a connection on which a
// request was under way, as when the server is killed.
func isLostConnection(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	return u.Scheme + "://" + u.Host
}

// stateHintTimeout bounds the request for the state that a hint depends on.
const stateHintTimeout = 2 * time.Second

// stateHint returns the next step for a sandbox in the wrong state for the command
// line. It asks the server for the state; without an answer it names the command
// that shows it.
func (a *App) stateHint() string {
	if a.subject == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), stateHintTimeout)
	defer cancel()
	sb, err := a.Client().Get(ctx, a.subject)
	if err != nil {
		return "`wrenn get " + a.subject + "` shows its state"
	}
	switch sb.Status {
	case client.StatusPaused:
		return "resume it with `wrenn resume " + sb.ID + "`, or let commands do that with `wrenn timeout --auto-resume " + sb.ID + "`"
	case client.StatusPending:
		return "it is starting; try again in a moment"
	case client.StatusStopped, client.StatusError:
		return "it has ended for good; make another with `wrenn create`"
	default:
		return "`wrenn get " + sb.ID + "` shows its state"
	}
}

// hints are the next steps for error codes. ID stands for the sandbox of the command
// line, if it names one.
var hints = map[string]string{
	"exec_timeout":         "give the command more time with --timeout",
	"sandbox_not_found":    "list the sandboxes with `wrenn ls --all`",
	"snapshot_not_found":   "list the snapshots with `wrenn snapshot ls`",
	"snapshot_is_template": "remove the template first with `wrenn snapshot template --remove ID`",
	"guest_unresponsive":   "try again later, or save its memory and disk without its help with `wrenn pause --force ID`",
	"no_lifetime":          "give it one with `wrenn timeout --lifetime 1h ID`",
	"name_taken":           "choose another name, or free this one with `wrenn rm NAME`; `wrenn ls` lists the names",
	"template_exists":      "choose another name; `wrenn hosts` lists the templates",
	"":                     "check the address, which is set with --url or WRENN_URL",
}

// hintFor returns the next step for a failure that the API reported.
func (a *App) hintFor(e *client.Error) string {
	hint, known := hints[e.Code]
	if known && a.subject != "" {
		hint = strings.ReplaceAll(hint, " ID`", " "+a.subject+"`")
	}
	switch {
	case e.Code == "guest_unresponsive":
		return hint
	case e.RetryAfter > 0:
		return "try again in " + showDuration(e.RetryAfter)
	case known:
		return hint
	}
	switch e.Status {
	case http.StatusUnauthorized:
		return a.keyHint()
	case http.StatusConflict:
		return a.stateHint()
	case http.StatusBadGateway:
		return "list the hosts with `wrenn hosts`, and run `wrenn doctor` on a host to check it"
	case http.StatusInternalServerError:
		return "find the cause in the server's log, under the request id"
	default:
		return ""
	}
}
