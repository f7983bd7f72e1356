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

// The exit codes of exec and run for what is not their command's own end.
const (
	exitTimedOut      = 124
	exitWrenn         = 125
	exitNotExecutable = 126
	exitNotFound      = 127
)

// runsCommand marks the commands that pass on a command's exit code.
const runsCommand = "wrenn_runs_command"

// failureCode returns the exit code of cmd for an error; otherwise is that of
// commands that have no other's to keep apart.
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
	// Message says what went wrong, in a sentence without a full stop.
	Message string
	// Code and RequestID are the API's; both may be empty.
	Code, RequestID string
	// Hint says what to do about it; it may be empty.
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

// usageError says that the command line is wrong.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e usageError) Error() string { return e.err.Error() }

// Usage returns an error that says that cmd's command line is wrong in the way
// that err tells.
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

// print shows a failure: one line, and below it what to do.
func (a *App) print(f *Failure) {
	// Messages come from elsewhere; a line break in one must not look like
	// another message.
	fmt.Fprintln(a.io.Err, "wrenn:", printable(a.named(strings.Join(strings.Fields(f.Error()), " "))))
	if f.Hint != "" {
		fmt.Fprintln(a.io.Err, "      ", printable(a.named(f.Hint)))
	}
}

// named returns text with the wrenn commands in it, which stand in backquotes,
// as they have to be typed at this terminal.
func (a *App) named(text string) string {
	if a.io.Program == "" {
		return text
	}
	return strings.NewReplacer("`wrenn ", "`"+a.io.Program+" ", "`sudo wrenn ", "`sudo "+a.io.Program+" ").Replace(text)
}

// explain turns err into what a person needs to know.
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
			Hint: "the file with the authority of its certificate is named with --ca-file or WRENN_CA_FILE"}
	case isLostConnection(err) && errors.As(err, &sent):
		return &Failure{Message: "the server at " + hostOf(sent.URL) + " ended the connection before it answered; it is not known what it did",
			Hint: "`wrenn ls` shows what there is; the server's log says why"}
	case errors.As(err, &sent):
		return &Failure{Message: fmt.Sprintf("%s: %v", hostOf(sent.URL), sent.Err),
			Hint: "the address is set with --url or WRENN_URL"}
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

// stateHintTimeout bounds looking up a state that a hint is to fit.
const stateHintTimeout = 2 * time.Second

// stateHint says what to do about a sandbox that is in the wrong state for the
// command line. It asks for the state; without an answer it names the command
// that does.
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
		return "`wrenn resume " + sb.ID + "` brings it back; one that is created with --auto-resume comes back by itself"
	case client.StatusPending:
		return "it is being started; try again in a moment"
	case client.StatusStopped, client.StatusError:
		return "it has ended and does not come back; `wrenn create` makes another"
	default:
		return "`wrenn get " + sb.ID + "` shows its state"
	}
}

// hintFor says what to do about a failure that the API reported.
func (a *App) hintFor(e *client.Error) string {
	switch {
	case e.RetryAfter > 0:
		return "try again in " + showDuration(e.RetryAfter)
	case e.Code == "exec_timeout":
		return "give it longer with --timeout"
	case e.Code == "sandbox_not_found":
		return "`wrenn ls --all` shows the sandboxes there are"
	case e.Code == "snapshot_not_found":
		return "`wrenn snapshot ls` shows the snapshots there are"
	case e.Code == "snapshot_is_template":
		return "`wrenn snapshot template --remove ID` takes the name from it"
	case e.Code == "no_lifetime":
		return "give it one with `wrenn timeout --lifetime 1h ID`"
	case e.Code == "name_taken":
		return "`wrenn ls` shows the names; another name will do, or `wrenn rm NAME` first"
	case e.Code == "template_exists":
		return "`wrenn snapshot ls` and `wrenn hosts` show the names that are taken"
	case e.Code == "":
		return "is this the right address? It is set with --url or WRENN_URL"
	}
	switch e.Status {
	case http.StatusUnauthorized:
		return a.keyHint()
	case http.StatusConflict:
		return a.stateHint()
	case http.StatusBadGateway:
		return "`wrenn hosts` shows the hosts; `wrenn doctor` on a host shows what is wrong with it"
	case http.StatusInternalServerError:
		return "the request id finds the cause in the server's log"
	default:
		return ""
	}
}
