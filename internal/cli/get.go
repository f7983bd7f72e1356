package cli

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) getCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "get ID",
		Aliases: []string{"inspect"},
		Short:   "Show one sandbox",
		Args:    args(1, 1, "the ID of a sandbox"),
	}
	cmd.ValidArgsFunction = a.completeIDs(1)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		sb, err := a.Client().Get(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(sb)
		}
		return a.printSandbox(*sb, time.Now())
	}
	return cmd
}

func (a *App) printSandbox(sb client.Sandbox, now time.Time) error {
	t := newTable(a.io.Out)
	line := func(name, value string) {
		if value != "" {
			t.row(name+":", value)
		}
	}
	when := func(name string, at *time.Time) {
		if at != nil {
			line(name, fmt.Sprintf("%s (%s ago)", at.UTC().Format(time.RFC3339), showAge(now.Sub(*at))))
		}
	}
	line("id", sb.ID)
	line("status", sb.Status)
	if sb.StopReason != nil {
		line("reason", *sb.StopReason)
	}
	if sb.Message != nil {
		line("message", *sb.Message)
	}
	line("template", sb.Template)
	line("size", fmt.Sprintf("%d CPUs, %s memory, %s disk", sb.VCPUs, showMemory(sb.MemoryMB), showMemory(sb.DiskMB)))
	line("ends", showLimit(sb, now))
	line("host", sb.HostID)
	line("runs on", sb.Acceleration)
	line("isolation", sb.Isolation)
	line("guest ip", sb.GuestIP)
	line("host ip", sb.HostIP)
	when("created", &sb.CreatedAt)
	when("started", sb.StartedAt)
	when("last used", sb.LastActiveAt)
	when("ended", sb.EndedAt)
	for _, name := range slices.Sorted(maps.Keys(sb.Metadata)) {
		line("metadata "+name, sb.Metadata[name])
	}
	return t.flush()
}

func showLimit(sb client.Sandbox, now time.Time) string {
	switch {
	case sb.Status == client.StatusStopped || sb.Status == client.StatusError:
		return ""
	case sb.TimeoutSec == 0:
		return "never by itself"
	default:
		limit := "after " + showAge(time.Duration(sb.TimeoutSec)*time.Second) + " without use"
		if end := showEnd(sb, now); end != "-" {
			limit += ", " + end
		}
		return limit
	}
}
