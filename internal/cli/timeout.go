package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) timeoutCmd() *cobra.Command {
	var flags clockFlags
	cmd := &cobra.Command{
		Use:   "timeout [flags] ID",
		Short: "Show or change the time limits of a sandbox",
		Long: "Show the time limits of a sandbox: of commands, of time without use, and of its whole life. With flags, change\n" +
			"them first.",
		Example: "  wrenn timeout --extend 10m $id\n  wrenn timeout --idle-timeout 5m --on-timeout pause --auto-resume $id",
		Args:    args(1, 1, "the ID of a sandbox"),
	}
	flags.addChange(cmd)
	cmd.ValidArgsFunction = a.completeIDs(1, live...)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		req, err := flags.request(cmd)
		if err != nil {
			return err
		}
		if req.LifetimeSec != nil && req.ExtendSec != nil {
			return usagef(cmd, "give --lifetime or --extend, not both")
		}
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		var clocks *client.Clocks
		if req == (client.TimeoutRequest{}) {
			clocks, err = a.Client().Timeout(cmd.Context(), id)
		} else {
			clocks, err = a.Client().SetTimeout(cmd.Context(), id, req)
		}
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(clocks)
		}
		return a.printLines(clockLines(*clocks, time.Now()))
	}
	return cmd
}

// clockLines show c.
func clockLines(c client.Clocks, now time.Time) []line {
	resumed := "by `wrenn resume`"
	if c.AutoResume {
		resumed = "automatically, by use"
	}
	return []line{
		{"commands", showSeconds(c.CommandTimeoutSec) + ", unless --timeout sets another"},
		{"idle", showClock(c.IdleTimeoutSec, c.IdleExpiresAt, "without use", now)},
		{"lifetime", showClock(c.LifetimeSec, c.LifetimeExpiresAt, "in all", now)},
		{"then", c.OnTimeout},
		{"resumed", resumed},
	}
}

func showClock(sec int, expires *time.Time, kind string, now time.Time) string {
	if sec == 0 {
		return "never"
	}
	out := fmt.Sprintf("%s %s", showSeconds(sec), kind)
	if expires != nil {
		out += ", in " + ShowAge(expires.Sub(now))
	}
	return out
}

// showSeconds shows a duration as people write it: 90 is "1m30s", 3600 is "1h".
func showSeconds(sec int) string {
	s := (time.Duration(sec) * time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
