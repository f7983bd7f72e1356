package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) pauseCmd() *cobra.Command {
	var force, noMemory bool
	cmd := &cobra.Command{
		Use:   "pause [flags] ID...",
		Short: "Save running sandboxes to disk and free their memory",
	}
	cmd.Flags().BoolVar(&force, "force", false, forceUsage)
	cmd.Flags().BoolVar(&noMemory, "no-memory", false, "keep the files alone: the processes end, and a resume boots the sandbox")
	cmd.MarkFlagsMutuallyExclusive("force", "no-memory")
	return a.eachCmd(cmd, "paused", a.sandboxID, func(ctx context.Context, id string) (any, error) {
		switch {
		case force:
			return a.Client().ForcePause(ctx, id)
		case noMemory:
			return a.Client().PauseWithoutMemory(ctx, id)
		}
		return a.Client().Pause(ctx, id)
	}, client.StatusRunning)
}

// forceUsage is the help of --force.
const forceUsage = "save memory and disk even if the guest does not answer"

func (a *App) resumeCmd() *cobra.Command {
	var reboot bool
	cmd := &cobra.Command{
		Use:   "resume [flags] ID...",
		Short: "Resume paused sandboxes with their processes",
	}
	cmd.Flags().BoolVar(&reboot, "reboot", false, "boot from the files of the pause: the processes of before have ended")
	return a.eachCmd(cmd, "resumed", a.sandboxID, func(ctx context.Context, id string) (any, error) {
		if reboot {
			return a.Client().Reboot(ctx, id)
		}
		return a.Client().Resume(ctx, id)
	}, client.StatusPaused)
}

func (a *App) rmCmd() *cobra.Command {
	type removed struct {
		ID        string `json:"id"`
		Destroyed bool   `json:"destroyed"`
	}
	return a.eachCmd(&cobra.Command{
		Use:     "rm [flags] ID...",
		Aliases: []string{"destroy"},
		Short:   "Destroy sandboxes",
	}, "destroyed", a.sandboxID, func(ctx context.Context, id string) (any, error) {
		return removed{id, true}, a.Client().Destroy(ctx, id)
	}, live...)
}

// eachCmd completes cmd into one that calls do for each argument. It continues after
// a failure. resolve returns the id that an argument means.
func (a *App) eachCmd(cmd *cobra.Command, done string, resolve resolver, do func(context.Context, string) (any, error), complete ...string) *cobra.Command {
	cmd.Args = args(1, -1, "the ID of a sandbox")
	cmd.ValidArgsFunction = a.completeIDs(-1, complete...)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		var result error
		for _, typed := range ids {
			began := time.Now()
			var value any
			id, err := resolve(cmd.Context(), typed)
			if err == nil {
				value, err = do(cmd.Context(), id)
			}
			if err == nil {
				err = a.did(id, done, time.Since(began), value)
			}
			if err != nil && (len(ids) == 1 || cmd.Context().Err() != nil) {
				return err
			}
			if err != nil {
				f := *a.explain(err)
				f.Message = typed + ": " + f.Message
				a.print(&f)
				result = ExitCode(exitFailed)
			}
		}
		return result
	}
	return cmd
}

// did prints the id of a changed sandbox or snapshot, or value as JSON.
func (a *App) did(id, done string, took time.Duration, value any) error {
	if a.json {
		return a.printJSON(value)
	}
	if _, err := fmt.Fprintln(a.io.Out, id); err != nil {
		return err
	}
	a.note("%s in %s", done, showDuration(took))
	return nil
}
