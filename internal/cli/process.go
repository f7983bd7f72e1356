package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) processCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "process",
		Aliases: []string{"ps"},
		Short:   "List, attach to, wait for and signal processes that outlive their caller",
		Long: "Processes that `wrenn exec --detach`, `wrenn shell` or the API have started. Their output is kept in the sandbox, so\n" +
			"that it can be read later and by several callers.",
	}
	cmd.AddCommand(a.processLsCmd(), a.processGetCmd(), a.processAttachCmd(), a.processWaitCmd(), a.processSignalCmd())
	return cmd
}

func (a *App) processLsCmd() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:     "ls [flags] ID",
		Aliases: []string{"list"},
		Short:   "List the processes of a sandbox, oldest first",
		Args:    args(1, 1, "the ID of a sandbox"),
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only ids")
	cmd.ValidArgsFunction = a.completeIDs(1, client.StatusRunning)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		list, err := a.Client().Processes(cmd.Context(), id)
		switch {
		case err != nil:
			return err
		case a.json:
			return a.printJSON(list)
		}
		return a.printProcesses(list, quiet, time.Now())
	}
	return cmd
}

func (a *App) printProcesses(list []client.Process, quiet bool, now time.Time) error {
	t := a.NewTable("ID", "STATUS", "AGE", "OUTPUT", "~USER", "~COMMAND")
	for _, p := range list {
		if quiet {
			if _, err := fmt.Fprintln(a.io.Out, printable(p.ID)); err != nil {
				return err
			}
			continue
		}
		t.Row(printable(p.ID), showExit(p), ShowAge(now.Sub(p.StartedAt)), showBytes(p.OutputEnd), printable(p.User), printable(showCommand(p)))
	}
	if quiet {
		return nil
	}
	return t.Flush()
}

func showExit(p client.Process) string {
	switch {
	case p.ExitCode == nil:
		return p.Status
	case p.TimedOut:
		return "timed out"
	case p.Signal != nil:
		return printable(*p.Signal)
	}
	return fmt.Sprintf("exit %d", *p.ExitCode)
}

func showCommand(p client.Process) string {
	text := strings.Join(append([]string{p.Cmd}, p.Args...), " ")
	if p.ArgsTruncated {
		text += " ..."
	}
	return text
}

// onProcess makes the command of one process, whose arguments are those of a sandbox
// and a process, and more.
func (a *App) onProcess(cmd *cobra.Command, run func(ctx context.Context, id, process string, rest []string) error) *cobra.Command {
	cmd.ValidArgsFunction = a.completeIDs(1, client.StatusRunning)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		return run(cmd.Context(), id, argv[1], argv[2:])
	}
	return cmd
}

func (a *App) processGetCmd() *cobra.Command {
	return a.onProcess(&cobra.Command{
		Use:   "get [flags] ID PROCESS",
		Short: "Show one process",
		Args:  args(2, 2, "the ID of a sandbox and a process"),
	}, func(ctx context.Context, id, process string, _ []string) error {
		p, err := a.Client().Process(ctx, id, process)
		if err != nil {
			return err
		}
		return a.printProcess(p)
	})
}

func (a *App) printProcess(p *client.Process) error {
	if a.json {
		return a.printJSON(p)
	}
	now := time.Now()
	return a.printLines([]line{
		{"id", printable(p.ID)}, {"status", showExit(*p)}, {"command", printable(showCommand(*p))},
		{"directory", printable(p.Cwd)}, {"user", printable(p.User)},
		{"output", fmt.Sprintf("%s, of which %s are kept and %s were dropped unread", showBytes(p.OutputEnd), showBytes(p.OutputEnd-p.OutputStart), showBytes(p.TruncatedBytes))},
		{"on full", p.OnFull}, {"started", showWhen(&p.StartedAt, now)}, {"ended", showWhen(p.EndedAt, now)},
	})
}

func (a *App) processWaitCmd() *cobra.Command {
	return a.onProcess(&cobra.Command{
		Use:   "wait [flags] ID PROCESS",
		Short: "Wait for the end of a process and end with its exit code",
		Args:  args(2, 2, "the ID of a sandbox and a process"),
	}, func(ctx context.Context, id, process string, _ []string) error {
		p, err := a.Client().WaitProcess(ctx, id, process)
		if err != nil {
			return err
		}
		if a.json {
			if err := a.printJSON(p); err != nil {
				return err
			}
		}
		return exitOf(p)
	})
}

// exitOf returns the error that passes on the exit code of an ended process.
func exitOf(p *client.Process) error {
	switch {
	case p.TimedOut:
		return ExitCode(exitTimedOut)
	case p.ExitCode != nil && *p.ExitCode != 0:
		return ExitCode(*p.ExitCode)
	}
	return nil
}

func (a *App) processSignalCmd() *cobra.Command {
	var all bool
	cmd := a.onProcess(&cobra.Command{
		Use:     "signal [flags] ID PROCESS [SIGNAL]",
		Aliases: []string{"kill"},
		Short:   "Send a signal to a process",
		Long: "Send a signal, SIGTERM unless another is named, to the process group of a process. SIGKILL reaches every process\n" +
			"that it has started; with --all, so does any other signal.",
		Args: args(2, 3, "the ID of a sandbox, a process and a signal"),
	}, func(ctx context.Context, id, process string, rest []string) error {
		signal := "SIGTERM"
		if len(rest) > 0 {
			signal = rest[0]
		}
		return a.Client().SignalProcess(ctx, id, process, client.ProcessSignalRequest{Signal: signal, All: all})
	})
	cmd.Flags().BoolVar(&all, "all", false, "signal every process that the process has started")
	return cmd
}

func (a *App) processAttachCmd() *cobra.Command {
	var from int64
	cmd := a.onProcess(&cobra.Command{
		Use:   "attach [flags] ID PROCESS",
		Short: "Print the output of a process, or use its terminal, until it ends",
		Long: "Print the output of a process from its begin, or from --from, and end with its exit code. A broken connection is\n" +
			"made again, and no byte is printed twice. An interrupt ends the command, not the process.\n\n" +
			"A process on a terminal gets this terminal and its keys; Ctrl-P Ctrl-Q detaches.",
		Args: args(2, 2, "the ID of a sandbox and a process"),
	}, func(ctx context.Context, id, process string, _ []string) error {
		p, err := a.Client().Process(ctx, id, process)
		if err != nil {
			return err
		}
		if t := a.terminal(); p.PTY && t != nil && p.ExitCode == nil {
			return unlessDetached(a.useTerminal(ctx, t, id, process, from))
		}
		p, err = a.follow(ctx, id, process, from)
		if err != nil {
			return err
		}
		return exitOf(p)
	})
	cmd.Flags().Int64Var(&from, "from", 0, "offset in bytes of the first output; -1 is the end of the output so far")
	return cmd
}

const (
	// retryFirst and retryMost are the pauses between two attempts to attach.
	retryFirst, retryMost = 250 * time.Millisecond, 5 * time.Second
	// retryFor is how long a process is tried to be reached.
	retryFor = 10 * time.Minute
)

// follow prints the output of a process until its end.
func (a *App) follow(ctx context.Context, id, process string, from int64) (*client.Process, error) {
	var lost time.Time
	pause := retryFirst
	return a.Client().Follow(ctx, id, process, from, func(e *client.ProcessEvent) error {
		lost, pause = time.Time{}, retryFirst
		var err error
		switch {
		case e.Truncated > 0:
			a.note("%s of output are no longer kept", showBytes(e.Truncated))
		case e.Stream == "stderr":
			_, err = a.io.Err.Write(e.Data)
		default:
			_, err = a.io.Out.Write(e.Data)
		}
		return err
	}, func(err error) bool {
		if lost.IsZero() {
			lost = time.Now()
		}
		if !client.Retryable(err) || time.Since(lost) > retryFor {
			return false
		}
		timer := time.NewTimer(pause)
		defer timer.Stop()
		pause = min(2*pause, retryMost)
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	})
}
