package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
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
	known := func(name string, value *string) {
		if value != nil {
			line(name, *value)
		}
	}
	known("reason", sb.StopReason)
	known("message", sb.Message)
	line("template", sb.Template)
	line("size", fmt.Sprintf("%d CPUs, %s memory, %s disk", sb.VCPUs, showMemory(sb.MemoryMB), showMemory(sb.DiskMB)))
	line("ends", showLimit(sb, now))
	if sb.EndedAt == nil {
		for _, l := range clockLines(sb.Clocks, now) {
			line(l.name, l.value)
		}
	}
	known("snapshot", sb.SnapshotID)
	known("forked from", sb.ParentID)
	known("made by", sb.Source)
	line("host", sb.HostID)
	line("runs on", sb.Acceleration)
	line("isolation", sb.Isolation)
	line("guest ip", sb.GuestIP)
	line("host ip", sb.HostIP)
	when("created", &sb.CreatedAt)
	when("started", sb.StartedAt)
	when("last used", sb.LastActiveAt)
	when("ended", sb.EndedAt)
	for _, l := range hygieneLines(sb.Hygiene) {
		line(l.name, l.value)
	}
	for _, name := range slices.Sorted(maps.Keys(sb.Metadata)) {
		line("metadata "+name, sb.Metadata[name])
	}
	return t.flush()
}

func showLimit(sb client.Sandbox, now time.Time) string {
	limit := endsAfter(sb)
	switch {
	case sb.Status == client.StatusStopped || sb.Status == client.StatusError:
		return ""
	case limit == "":
		return "never by itself"
	}
	if end := showEnd(sb, now); end != "-" {
		limit += ", " + end
	}
	return limit
}

// hygieneLines show what was done to make the machine correct and unique.
func hygieneLines(h *client.Hygiene) []line {
	if h == nil {
		return nil
	}
	var done []string
	for _, d := range []struct {
		ok   bool
		what string
	}{
		{h.Reseeded, "entropy reseeded"},
		{h.NewIdentity, "new identity"},
		{h.TokenReplaced, "token replaced"},
		{h.NetworkAnswers, "network answers"},
		{h.ConnectionsClosed > 0, fmt.Sprintf("%d connections closed", h.ConnectionsClosed)},
	} {
		if d.ok {
			done = append(done, d.what)
		}
	}
	return []line{
		{"hygiene", strings.Join(done, ", ")},
		{"clock", fmt.Sprintf("set by %s, then off by %s", showMillis(h.ClockStepMS), showMillis(h.ClockSkewMS))},
		{"generation", fmt.Sprintf("%d (VM generation: %s)", h.Generation, h.VMGeneration)},
	}
}
