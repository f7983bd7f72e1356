package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) createCmd() *cobra.Command {
	var spec specFlags
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "create [flags]",
		Short:   "Create a sandbox and print its id",
		Example: "  id=$(wrenn create --memory 1G --timeout 1h)\n  wrenn exec $id -- python3 -c 'print(6*7)'",
		Args:    args(0, 0, "nothing"),
	}
	spec.add(a, cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "idle time after which it ends; 0 is never (the server's default is 5m)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req := spec.request()
		if cmd.Flags().Changed("timeout") {
			if timeout < 0 || timeout%time.Second != 0 {
				return usagef(cmd, "--timeout is whole seconds, or 0 for never")
			}
			sec := int(timeout / time.Second)
			req.TimeoutSec = &sec
		}
		began := time.Now()
		sb, err := a.Client().Create(cmd.Context(), req)
		if err != nil {
			return err
		}
		return a.created(sb, time.Since(began))
	}
	return cmd
}

// created prints the id alone on stdout, for scripts.
func (a *App) created(sb *client.Sandbox, took time.Duration) error {
	if a.json {
		return a.printJSON(sb)
	}
	if _, err := a.io.Out.Write([]byte(sb.ID + "\n")); err != nil {
		return err
	}
	ends := "never ends by itself"
	if sb.TimeoutSec > 0 {
		ends = "ends after " + showAge(time.Duration(sb.TimeoutSec)*time.Second) + " without use"
	}
	a.note("created in %s; %s", showDuration(took), ends)
	return nil
}
