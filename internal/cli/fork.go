package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) forkCmd() *cobra.Command {
	var clocks clockFlags
	var env, meta pairsFlag
	var count int
	var force bool
	env.lookup = a.io.LookupEnv
	cmd := &cobra.Command{
		Use:   "fork [flags] ID",
		Short: "Copy a sandbox with its memory and processes",
		Long: "Make copies of a running or paused sandbox with its memory, processes and disk, and print their ids. The sandbox\n" +
			"stops for a moment and does not change. Settings without a flag are copied from it.",
		Example: "  wrenn fork $id\n  for child in $(wrenn fork --count 10 $id); do wrenn exec $child -- ./job & done",
		Args:    args(1, 1, "the ID of a sandbox"),
	}
	flags := cmd.Flags()
	flags.IntVar(&count, "count", 1, "number of copies, at most 100")
	flags.VarP(&env, "env", "e", "environment variable to add; NAME alone copies the value from here")
	flags.Var(&meta, "meta", "metadata to add or replace, may be repeated")
	flags.BoolVar(&force, "force", false, forceUsage)
	refuseTimeout(cmd)
	clocks.addCopied(cmd)
	cmd.ValidArgsFunction = a.completeIDs(1, client.StatusRunning, client.StatusPaused)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		if count < 1 {
			return usagef(cmd, "--count must be at least 1")
		}
		set, err := clocks.request(cmd)
		if err != nil {
			return err
		}
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		began := time.Now()
		forked, err := a.Client().Fork(cmd.Context(), id, client.ForkRequest{
			Count: count, Force: force, Env: env.values, Metadata: meta.values,
			TimeoutSec: set.TimeoutSec, LifetimeSec: set.LifetimeSec, OnTimeout: set.OnTimeout, AutoResume: set.AutoResume,
		})
		if err != nil {
			return err
		}
		return a.forked(forked, time.Since(began))
	}
	return cmd
}

// forked prints only the ids on stdout, for scripts. Failed copies are reported and
// fail the command.
func (a *App) forked(f *client.Forked, took time.Duration) error {
	if a.json {
		if err := a.printJSON(f); err != nil {
			return err
		}
	} else {
		if err := a.printIDs(f.Sandboxes); err != nil {
			return err
		}
		a.note("forked in %s; sandbox stopped for %s", showDuration(took), showMillis(f.PauseWindowMS))
	}
	for _, failed := range f.Failed {
		a.print(&Failure{Message: failed.ID + ": " + failed.Message, Code: failed.Code})
	}
	if len(f.Failed) > 0 {
		return ExitCode(exitFailed)
	}
	return nil
}

// showMillis shows a number of milliseconds.
func showMillis(ms float64) string { return fmt.Sprintf("%.1f ms", ms) }
