package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// destroyTimeout bounds the destroy at the end of a run, which continues after an
// interrupt.
const destroyTimeout = 30 * time.Second

// runTimes holds the durations of the parts of a run.
type runTimes struct{ create, destroy time.Duration }

func (a *App) runCmd() *cobra.Command {
	var spec specFlags
	var flags commandFlags
	var clocks clockFlags
	var keep, tty bool
	cmd := &cobra.Command{
		Use:   "run [flags] [--] COMMAND [ARGUMENT...]",
		Short: "Run one command in a new sandbox and destroy the sandbox",
		Long: "Create a sandbox, run one command in it, stream the output, destroy the sandbox and end with the command's\n" +
			"exit code. Other exit codes are those of `wrenn exec`. An interrupt destroys the sandbox too. With -it, Ctrl-P Ctrl-Q\n" +
			"detaches and keeps it.",
		Example: "  wrenn run -- python3 -c 'print(6*7)'\n  wrenn run --memory 2G --timeout 1h -i python3 - < job.py",
		Args:    args(1, -1, "a command"),

		Annotations: map[string]string{runsCommand: ""},
	}
	spec.add(a, cmd)
	clocks.add(cmd)
	flags.add(cmd)
	cmd.Flags().BoolVarP(&tty, "tty", "t", false, "run the command on this terminal, without a timeout unless --timeout is given; needs -i")
	cmd.Flags().BoolVar(&keep, "keep", false, "do not destroy the sandbox; print its id on stderr")
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		req, err := a.execRequest(cmd, flags, argv)
		if err != nil {
			return err
		}
		if tty && !flags.stdin {
			return usagef(cmd, "-t goes with -i")
		}
		create := spec.request()
		if err := clocks.create(cmd, &create); err != nil {
			return err
		}
		defer a.cleaning.hold()()
		var took runTimes
		sb, err := a.createForRun(cmd.Context(), create, &took)
		if err != nil {
			return err
		}
		var res *client.ExecResult
		if tty {
			err = a.startCommand(cmd, sb.ID, req, tty)
			if errors.Is(err, errDetached) {
				keep, err = true, nil
			}
		} else {
			res, err = a.exec(cmd.Context(), sb.ID, req)
		}
		if keep {
			a.note("kept %s", sb.ID)
		} else {
			a.destroyAfterRun(cmd.Context(), sb.ID, &took)
		}
		if err != nil || res == nil {
			return err
		}
		return a.finishRun(sb, req, res, runReport{took, flags.timing})
	}
	return cmd
}

// createForRun creates a sandbox. An interrupt does not end the request, because
// then the id of a created sandbox would be unknown: it waits for the sandbox,
// destroys it and returns ctx's error.
func (a *App) createForRun(ctx context.Context, req client.CreateRequest, took *runTimes) (*client.Sandbox, error) {
	type outcome struct {
		sb  *client.Sandbox
		err error
	}
	began := time.Now()
	done := make(chan outcome, 1)
	go func() {
		sb, err := a.create(context.WithoutCancel(ctx), req)
		done <- outcome{sb, err}
	}()
	var made outcome
	select {
	case made = <-done:
	case <-ctx.Done():
		a.note("interrupted; waiting for the sandbox to destroy it")
		made = <-done
	}
	took.create = time.Since(began)
	if made.err == nil && ctx.Err() != nil {
		a.destroyAfterRun(ctx, made.sb.ID, took)
		return nil, ctx.Err()
	}
	return made.sb, made.err
}

// destroyAfterRun destroys a sandbox even if ctx has ended. It reports a failure but
// does not change the exit code, because the sandbox ends when its idle timeout
// expires.
func (a *App) destroyAfterRun(ctx context.Context, id string, took *runTimes) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), destroyTimeout)
	defer cancel()
	began := time.Now()
	err := a.Client().Destroy(ctx, id)
	took.destroy = time.Since(began)
	var gone *client.Error
	if err == nil || (errors.As(err, &gone) && gone.Code == "sandbox_not_found") {
		return
	}
	f := *a.explain(err)
	f.Message = "sandbox " + id + " was not destroyed: " + f.Message
	f.Hint = "destroy it with `wrenn rm " + id + "`"
	a.print(&f)
}

// runReport holds the durations that finishRun reports.
type runReport struct {
	took   runTimes
	timing bool
}

func (a *App) finishRun(sb *client.Sandbox, req client.ExecRequest, res *client.ExecResult, report runReport) error {
	if report.timing {
		a.note("create %s, command %s, destroy %s", showDuration(report.took.create),
			showDuration(res.Duration), showDuration(report.took.destroy))
	}
	if a.json {
		if err := a.printJSON(execJSON(sb.ID, req, res)); err != nil {
			return err
		}
	}
	return exitWith(res)
}
