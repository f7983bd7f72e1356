package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) createCmd() *cobra.Command {
	var spec specFlags
	var clocks clockFlags
	var snapshot string
	cmd := &cobra.Command{
		Use:     "create [flags]",
		Short:   "Create a sandbox and print its id",
		Example: "  id=$(wrenn create --name build --memory 1G --idle-timeout 1h)\n  wrenn exec build -- python3 -c 'print(6*7)'",
		Args:    args(0, 0, "nothing"),
	}
	spec.add(a, cmd)
	clocks.add(cmd)
	refuseTimeout(cmd)
	cmd.Flags().StringVar(&snapshot, "snapshot", "", "start from this snapshot (id or name), which sets the template and sizes")
	_ = cmd.RegisterFlagCompletionFunc("snapshot", a.completeSnapshots(-1))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req := spec.request()
		err := clocks.create(cmd, &req)
		if err != nil {
			return err
		}
		if req.SnapshotID, err = a.snapshotID(cmd.Context(), snapshot); err != nil {
			return err
		}
		began := time.Now()
		sb, err := a.create(cmd.Context(), req)
		if err != nil {
			return err
		}
		return a.created(sb, time.Since(began))
	}
	return cmd
}

// createStages describes the stages of a create on a terminal.
var createStages = map[string]string{
	"booting_template":  "booting the template for the first time with this size",
	"starting_template": "waiting for the start command of the template",
	"saving_template":   "saving the memory of the template",
	"starting":          "starting the sandbox",
}

// create creates a sandbox. On a terminal it shows how far a create is that takes long.
func (a *App) create(ctx context.Context, req client.CreateRequest) (*client.Sandbox, error) {
	if !a.io.Progress || a.quiet {
		return a.Client().Create(ctx, req)
	}
	shown := false
	sb, err := a.Client().CreateTelling(ctx, req, func(p client.CreateProgress) {
		text := createStages[p.Stage]
		if text == "" { // of a later server
			text = printable(p.Stage)
		}
		shown = true
		fmt.Fprintf(a.io.Err, "\r\x1b[K%s (%s)", text, showDuration(time.Duration(p.ElapsedMS)*time.Millisecond))
	})
	if shown {
		fmt.Fprint(a.io.Err, "\r\x1b[K")
	}
	return sb, err
}

// created prints only the id on stdout, for scripts.
func (a *App) created(sb *client.Sandbox, took time.Duration) error {
	if a.json {
		return a.printJSON(sb)
	}
	if _, err := a.io.Out.Write([]byte(sb.ID + "\n")); err != nil {
		return err
	}
	ends := "no time limit"
	if after := endsAfter(*sb); after != "" {
		ends = map[bool]string{false: "ends ", true: "pauses "}[sb.OnTimeout == client.OnTimeoutPause] + after
	}
	a.note("created in %s under %s; %s", showDuration(took), sb.Runtime, ends)
	return nil
}

// endsAfter describes the clocks of a sandbox; "" if it has none.
func endsAfter(sb client.Sandbox) string {
	var clocks []string
	if sb.TimeoutSec > 0 {
		clocks = append(clocks, showSeconds(sb.TimeoutSec)+" without use")
	}
	if sb.LifetimeSec > 0 {
		clocks = append(clocks, showSeconds(sb.LifetimeSec)+" in all")
	}
	if len(clocks) == 0 {
		return ""
	}
	return "after " + strings.Join(clocks, " or ")
}
