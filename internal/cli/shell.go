package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) shellCmd() *cobra.Command {
	var user, cwd string
	cmd := &cobra.Command{
		Use:   "shell [flags] ID",
		Short: "Open a shell in a sandbox",
		Long: "Open the login shell of a user on this terminal. Ctrl-P Ctrl-Q detaches and leaves the shell running, as the loss of\n" +
			"the connection does; `wrenn process attach` continues it, also on several terminals at once.",
		Args: args(1, 1, "the ID of a sandbox"),
	}
	cmd.Flags().StringVarP(&user, "user", "u", "", "user of the shell (the guest's default)")
	cmd.Flags().StringVarP(&cwd, "cwd", "w", "", "working directory (the user's home)")
	cmd.ValidArgsFunction = a.completeIDs(1, client.StatusRunning)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		t := a.terminal()
		if t == nil {
			return errNoTerminal
		}
		p, err := a.startTerminal(cmd.Context(), t, id, client.ProcessRequest{
			Cmd: "/bin/sh", Args: []string{"-c", `exec "${SHELL:-/bin/sh}" -l`}, User: user, Cwd: cwd,
		})
		if err != nil {
			return err
		}
		return unlessDetached(a.useTerminal(cmd.Context(), t, id, p.ID, 0))
	}
	return cmd
}

var errNoTerminal = &Failure{Message: "the input is no terminal", Hint: "run commands with `wrenn exec`"}

// startCommand starts a command that continues by itself. It connects it with this
// terminal, or prints its id. The error is errDetached if the user detaches.
func (a *App) startCommand(cmd *cobra.Command, id string, req client.ExecRequest, tty bool) error {
	in := client.ProcessRequest{Cmd: req.Cmd, Args: req.Args, Env: req.Env, User: req.User, Cwd: req.Cwd}
	if cmd.Flags().Changed("timeout") {
		in.TimeoutSec = int((req.Timeout + time.Second - 1) / time.Second)
	}
	ctx := cmd.Context()
	if tty {
		t := a.terminal()
		if t == nil {
			return errNoTerminal
		}
		p, err := a.startTerminal(ctx, t, id, in)
		if err != nil {
			return err
		}
		return a.useTerminal(ctx, t, id, p.ID, 0)
	}
	p, err := a.Client().StartProcess(ctx, id, in)
	switch {
	case err != nil:
		return err
	case a.json:
		return a.printJSON(p)
	}
	_, err = fmt.Fprintln(a.io.Out, p.ID)
	return err
}
