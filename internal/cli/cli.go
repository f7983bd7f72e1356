// Package cli is the command line for people who use sandboxes: create, ls,
// get, exec, cp, pause, resume, fork, snapshot, timeout, rm, run, hosts and gc.
//
// It owns those commands, their output and the way every wrenn command tells
// of a failure. cmd/wrenn adds the commands that serve. It uses the public
// client alone, so whatever it can do, every user of the API can do; it keeps
// nothing between calls.
//
// Results go to stdout, everything else (durations, what went wrong and what
// to do about it) to stderr.
//
// # Exit codes
//
// 0; 1 when something failed; 2 when the command line is wrong; 128 plus the
// signal's number when it was interrupted. exec and run end with the code of
// the command that they ran, which is 128 plus the number of the signal that
// ended it, and keep their own apart, as env(1) and timeout(1) do:
//
//	124  the command outlived its --timeout
//	125  it could not be run: a wrong command line, no server, no sandbox, ...
//	126  it was found and cannot be executed
//	127  it was not found
package cli

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// IO is what the commands have of the world besides the API and files.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	// LookupEnv is os.LookupEnv outside tests.
	LookupEnv func(name string) (value string, ok bool)
	// Width returns the width of the terminal that Out is, in characters; 0 is
	// no terminal. It may be nil.
	Width func() int
	// Program is how a person at this terminal starts wrenn, such as bin/wrenn;
	// empty is "wrenn". Messages name commands with it.
	Program string
}

// App is the tree of commands.
//
// Invariants: each Run is one command line; started says whether that command
// line was understood and its command has begun.
type App struct {
	io   IO
	root *cobra.Command

	// readFile is os.ReadFile outside tests.
	readFile func(path string) ([]byte, error)

	url             string
	keyFile, caFile string
	json            bool
	started         bool
	// subject is the sandbox that the command line is about, for hints.
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
		Use:   "wrenn",
		Short: "Run untrusted code in virtual machines of its own",
		Long: "Wrenn runs untrusted code in virtual machines of its own.\n\n" +
			"Start a server with `wrenn up`, then try `wrenn run -- python3 -c 'print(6*7)'`.",
		SilenceErrors:    true,
		SilenceUsage:     true,
		PersistentPreRun: func(*cobra.Command, []string) { a.started = true },
	}
	a.root.SetIn(io.In)
	a.root.SetOut(io.Out)
	a.root.SetErr(io.Err)
	a.root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return withoutSecret(err) })
	a.root.AddGroup(&cobra.Group{ID: GroupSandboxes, Title: "Sandboxes:"}, &cobra.Group{ID: GroupServer, Title: "Server:"})
	flags := a.root.PersistentFlags()
	flags.StringVar(&a.url, "url", a.env("WRENN_URL", client.DefaultURL), "address of the server (WRENN_URL)")
	flags.StringVar(&a.keyFile, "api-key-file", a.env("WRENN_API_KEY_FILE", ""), "file with the API key; or set WRENN_API_KEY (found by itself for a server here)")
	flags.StringVar(&a.caFile, "ca-file", a.env("WRENN_CA_FILE", ""), "file with the authorities of an https server's certificate, in PEM (the system's)")
	flags.Var(refusedKey{}, "api-key", "")
	_ = flags.MarkHidden("api-key")
	flags.BoolVar(&a.json, "json", false, "print results as JSON")
	for _, cmd := range []*cobra.Command{
		a.createCmd(), a.lsCmd(), a.getCmd(), a.execCmd(), a.cpCmd(),
		a.pauseCmd(), a.resumeCmd(), a.forkCmd(), a.snapshotCmd(), a.timeoutCmd(), a.rmCmd(), a.runCmd(), a.hostsCmd(), a.gcCmd(),
	} {
		cmd.GroupID = GroupSandboxes
		a.root.AddCommand(cmd)
	}
	return a
}

// Root is the root of the tree, to which other commands are added.
func (a *App) Root() *cobra.Command { return a.root }

// JSON reports whether results are wanted as JSON.
func (a *App) JSON() bool { return a.json }

// Run does one command line and returns the exit code. What went wrong has
// then been printed.
func (a *App) Run(ctx context.Context, args []string) int {
	a.started, a.subject = false, ""
	a.root.SetArgs(args)
	a.refuseUnknown()
	cmd, err := a.root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if !a.started {
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
