package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) execCmd() *cobra.Command {
	var flags commandFlags
	var detach, tty bool
	flags.env.lookup = a.io.LookupEnv
	cmd := &cobra.Command{
		Use:   "exec [flags] ID [--] COMMAND [ARGUMENT...]",
		Short: "Run a command in a sandbox",
		Long: "Run a command in a sandbox, stream its output, and end with its exit code. Other exit codes: 124 the command\n" +
			"ran longer than --timeout, 125 it could not be run, 126 it is not executable, 127 it was not found,\n" +
			"130 interrupted.\n\n" +
			"With --detach the command continues after this one, which prints the id of the process: see `wrenn process`. With\n" +
			"-it it runs on this terminal, and a lost connection is made again.\n\n" +
			"Arguments are passed without a shell; to use one, run `sh -c '...'`.",
		Example: "  wrenn exec $id -- python3 -c 'print(6*7)'\n  wrenn exec -i $id -- wc -l < data.csv\n  wrenn exec -d $id -- make test",
		Args:    args(2, -1, "the ID of a sandbox and a command"),

		Annotations: map[string]string{runsCommand: ""},
	}
	flags.add(cmd)
	cmd.Flags().VarP(&flags.env, "env", "e", "environment variable; NAME alone copies the value from here")
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "leave the command running, without a timeout unless --timeout is given, and print its id")
	cmd.Flags().BoolVarP(&tty, "tty", "t", false, "run the command on this terminal, without a timeout unless --timeout is given; needs -i")
	cmd.ValidArgsFunction = a.completeIDs(1, client.StatusRunning)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		req, err := a.execRequest(cmd, flags, argv[1:])
		if err != nil {
			return err
		}
		if tty && (!flags.stdin || detach) || detach && flags.stdin {
			return usagef(cmd, "-t goes with -i, and neither with --detach")
		}
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		if detach || tty {
			return unlessDetached(a.startCommand(cmd, id, req, tty))
		}
		res, err := a.exec(cmd.Context(), id, req)
		if err != nil {
			return err
		}
		if flags.timing {
			a.note("exit code %d after %s", res.ExitCode, showDuration(res.Duration))
		}
		if a.json {
			if err := a.printJSON(execJSON(id, req, res)); err != nil {
				return err
			}
		}
		return exitWith(res)
	}
	return cmd
}

// commandOf returns the command in argv, which are the arguments after cmd's own.
// After a "--" every argument belongs to the command.
func commandOf(cmd *cobra.Command, argv []string) ([]string, error) {
	dashed := cmd.ArgsLenAtDash() >= 0 // it stood first and is taken off already
	if !dashed && len(argv) > 0 && argv[0] == "--" {
		dashed, argv = true, argv[1:]
	}
	if len(argv) == 0 || argv[0] == "" {
		return nil, usagef(cmd, "%s needs a command", cmd.Name())
	}
	if !dashed && strings.HasPrefix(argv[0], "-") {
		return nil, usagef(cmd, "%s is in the place of the command: put flags first, or write -- before the command", argv[0])
	}
	return argv, nil
}

func (a *App) execRequest(cmd *cobra.Command, f commandFlags, argv []string) (client.ExecRequest, error) {
	command, err := commandOf(cmd, argv)
	if err != nil {
		return client.ExecRequest{}, err
	}
	if f.timeout <= 0 {
		return client.ExecRequest{}, usagef(cmd, "--timeout must be longer than 0")
	}
	req := client.ExecRequest{
		Cmd: command[0], Args: command[1:], Env: f.env.values,
		Cwd: f.cwd, User: f.user, Timeout: f.timeout,
	}
	if !f.stdin {
		return req, nil
	}
	req.Input = a.io.In
	return req, nil
}

// exec runs a command and streams its output, or collects it for JSON.
func (a *App) exec(ctx context.Context, id string, req client.ExecRequest) (*client.ExecResult, error) {
	if a.json {
		return a.Client().Exec(ctx, id, req)
	}
	res, err := a.Client().ExecStream(ctx, id, req, a.io.Out, a.io.Err)
	if err == nil && res.OutOfMemory {
		a.noteOutOfMemory(ctx, id)
	}
	return res, err
}

// noteOutOfMemory says why a command was ended, with the size of the memory if the
// server tells it.
func (a *App) noteOutOfMemory(ctx context.Context, id string) {
	size := ""
	if sb, err := a.Client().Get(ctx, id); err == nil {
		size = fmt.Sprintf(" (%d MB)", sb.MemoryMB)
	}
	a.note("killed: the sandbox ran out of memory%s; create one with more --memory", size)
}

// exitWith returns the error that passes on a command's exit code.
func exitWith(res *client.ExecResult) error {
	if res.ExitCode == 0 {
		return nil
	}
	return ExitCode(res.ExitCode)
}

// execOutput is the API's ExecResponse, for --json.
type execOutput struct {
	SandboxID       string  `json:"sandbox_id"`
	Cmd             string  `json:"cmd"`
	Stdout          string  `json:"stdout"`
	Stderr          string  `json:"stderr"`
	ExitCode        int     `json:"exit_code"`
	Signal          *string `json:"signal"`
	OOM             bool    `json:"oom"`
	TimeoutSec      int64   `json:"timeout_sec"`
	DurationMS      int64   `json:"duration_ms"`
	Encoding        string  `json:"encoding"`
	StdoutTruncated bool    `json:"stdout_truncated"`
	StderrTruncated bool    `json:"stderr_truncated"`
}

func execJSON(id string, req client.ExecRequest, res *client.ExecResult) execOutput {
	out := execOutput{
		SandboxID: id, Cmd: req.Cmd, ExitCode: res.ExitCode, OOM: res.OutOfMemory,
		TimeoutSec:      int64(res.Timeout / time.Second),
		DurationMS:      int64(res.Duration / time.Millisecond),
		StdoutTruncated: res.StdoutTruncated, StderrTruncated: res.StderrTruncated,
	}
	if res.Signal != "" {
		out.Signal = &res.Signal
	}
	out.Stdout, out.Stderr, out.Encoding = encodeOutput(res.Stdout, res.Stderr)
	return out
}
