// Package cli implements the commands for users of sandboxes: create, ls, get,
// exec, shell, process, cp, files, port-forward, url, pause, resume, fork, snapshot, template,
// timeout, rm, run, hosts and gc.
//
// It owns those commands, their output, and the form in which every wrenn command
// reports a failure. cmd/wrenn adds the commands of the server. It uses only the
// public client, so that every user of the API can do the same, and keeps no state
// between calls.
//
// Results go to stdout; durations, failures and hints go to stderr.
//
// # Exit codes
//
// 0; 1 when something failed; 2 when the command line is wrong; 128 plus the
// signal's number when it was interrupted. exec and run end with the exit code of
// their command, which is 128 plus the signal's number if a signal ended it. Their
// own codes are those of env(1) and timeout(1):
//
//	124  the command ran longer than its --timeout
//	125  the command could not be run: a wrong command line, no server, no sandbox
//	126  the command was found but cannot be executed
//	127  the command was not found
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// IO is the commands' access to the terminal and the environment.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	// LookupEnv is os.LookupEnv outside tests.
	LookupEnv func(name string) (value string, ok bool)
	// Width returns the width of the terminal, in characters, or 0 if Out is no
	// terminal. It may be nil.
	Width func() int
	// Progress says that Err is a terminal, on which transfers show their progress.
	Progress bool
	// Program is the command that starts wrenn at this terminal, such as bin/wrenn;
	// empty means "wrenn". Messages use it.
	Program string
}

// App is the tree of commands.
//
// Invariants: each Run is one command line; started is set once that command line
// has been parsed and its command runs.
type App struct {
	io   IO
	root *cobra.Command

	// readFile is os.ReadFile outside tests.
	readFile func(path string) ([]byte, error)

	url             string
	keyFile, caFile string
	json            bool
	quiet           bool // of cp: no progress and no summary
	started         bool
	// subject is the sandbox that the command line names, for hints.
	subject  string
	cleaning patience
}

// GroupSandboxes and GroupServer are the groups of commands in the help.
const (
	GroupSandboxes = "sandboxes"
	GroupServer    = "server"
)

// New returns the tree with the user's commands. Commands of other groups are
// added to Root before the first Run.
func New(io IO) *App {
	a := &App{io: io, readFile: os.ReadFile}
	a.root = &cobra.Command{
		Use:   "wrenn COMMAND",
		Short: "Run untrusted code in microVMs",
		Long: "Wrenn runs untrusted code in microVMs, one for each sandbox.\n\n" +
			"Start a server with `wrenn up`, then try `wrenn run -- python3 -c 'print(6*7)'`.\n" +
			"The ID of a sandbox is its id, the beginning of the id, or its name.",
		DisableFlagsInUseLine: true,
		SilenceErrors:         true,
		SilenceUsage:          true,
		PersistentPreRun:      func(*cobra.Command, []string) { a.started = true },
	}
	a.root.SetIn(io.In)
	a.root.SetOut(io.Out)
	a.root.SetErr(io.Err)
	a.root.SetUsageTemplate(usageTemplate(a.root.UsageTemplate()))
	a.root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return withoutSecret(err) })
	a.root.AddGroup(&cobra.Group{ID: GroupSandboxes, Title: "Sandboxes:"}, &cobra.Group{ID: GroupServer, Title: "Server:"})
	flags := a.root.PersistentFlags()
	flags.StringVar(&a.url, "url", a.env("WRENN_URL", client.DefaultURL), "address of the server (WRENN_URL)")
	flags.StringVar(&a.keyFile, "api-key-file", a.env("WRENN_API_KEY_FILE", ""), "file with the API key; or set WRENN_API_KEY (default: the key of the server on this machine)")
	flags.StringVar(&a.caFile, "ca-file", a.env("WRENN_CA_FILE", ""), "PEM file with the certificate authorities for an https server (default: the system's)")
	flags.Var(refusedKey{}, "api-key", "")
	_ = flags.MarkHidden("api-key")
	flags.BoolVar(&a.json, "json", false, "print results as JSON")
	for _, cmd := range []*cobra.Command{
		a.createCmd(), a.lsCmd(), a.getCmd(), a.execCmd(), a.shellCmd(), a.processCmd(), a.cpCmd(), a.filesCmd(),
		a.portForwardCmd(), a.urlCmd(), a.pauseCmd(), a.resumeCmd(), a.forkCmd(), a.snapshotCmd(), a.templateCmd(),
		a.timeoutCmd(), a.networkCmd(), a.rmCmd(), a.runCmd(), a.hostsCmd(), a.gcCmd(),
	} {
		cmd.GroupID = GroupSandboxes
		a.root.AddCommand(cmd)
	}
	return a
}

// usageTemplate returns cobra's template with one usage line for a group of commands,
// which is its UseLine.
func usageTemplate(cobras string) string {
	return strings.NewReplacer(
		"{{if .Runnable}}\n  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}\n  {{.CommandPath}} [command]{{end}}", "\n  {{.UseLine}}",
		"[command] --help", "COMMAND --help",
	).Replace(cobras)
}

// Root is the root of the tree, to which other commands are added.
func (a *App) Root() *cobra.Command { return a.root }

// JSON reports whether results are printed as JSON.
func (a *App) JSON() bool { return a.json }

// Run runs one command line and returns the exit code. It has printed any
// failure.
func (a *App) Run(ctx context.Context, args []string) int {
	a.started, a.subject = false, ""
	a.root.SetArgs(args)
	a.refuseUnknown()
	cmd, err := a.root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if !a.started {
		err = asUnknownCommand(a.root, err)
	}
	if usage := (usageError{}); !a.started && !errors.As(err, &usage) {
		err = usageError{cmd: cmd, err: err}
	}
	return a.report(cmd, err)
}

// Client returns the client for the server named on the command line.
func (a *App) Client() *client.Client {
	found, err := a.credentials()
	if err != nil {
		return &client.Client{BaseURL: a.serverURL(), HTTPClient: failing(err)}
	}
	return &client.Client{BaseURL: a.serverURL(), APIKey: found.key, HTTPClient: a.httpClient()}
}

func (a *App) env(name, fallback string) string {
	if v, ok := a.io.LookupEnv(name); ok && v != "" {
		return v
	}
	return fallback
}
