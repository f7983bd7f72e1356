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
		Use:     "get [flags] ID",
		Aliases: []string{"inspect"},
		Short:   "Show one sandbox",
		Args:    args(1, 1, "the ID of a sandbox"),
	}
	cmd.ValidArgsFunction = a.completeIDs(1)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		sb, err := a.Client().Get(cmd.Context(), id)
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
	lines := []line{{"id", sb.ID}, {"name", deref(sb.Name)}, {"status", sb.Status}, {"reason", deref(sb.StopReason)}, {"message", deref(sb.Message)}}
	lines = append(lines,
		line{"template", sb.Template},
		line{"size", fmt.Sprintf("%s, %s memory, %s disk", showCPUs(sb.VCPUs), showMemory(sb.MemoryMB), showMemory(sb.DiskMB))},
		line{"hostname", sb.Hostname},
		line{"guest", showHealth(sb.Health, now)},
		line{"ends", showLimit(sb, now)})
	if sb.DiskFull {
		lines = append(lines, line{"disk full", "stopped until the host has disk space again"})
	}
	if sb.EndedAt == nil {
		lines = append(lines, clockLines(sb.Clocks, now)...)
	}
	lines = append(lines,
		line{"snapshot", deref(sb.SnapshotID)},
		line{"forked from", deref(sb.ParentID)},
		line{"made by", deref(sb.Source)},
		line{"host", sb.HostID},
		line{"runtime", sb.Runtime},
		line{"runs on", sb.Acceleration},
		line{"isolation", sb.Isolation},
		line{"guest ip", sb.GuestIP},
		line{"host ip", sb.HostIP},
		line{"created", showWhen(&sb.CreatedAt, now)},
		line{"started", showWhen(sb.StartedAt, now)},
		line{"last used", showWhen(sb.LastActiveAt, now)},
		line{"ended", showWhen(sb.EndedAt, now)})
	lines = append(lines, restoreReportLines(sb.RestoreReport)...)
	for _, name := range slices.Sorted(maps.Keys(sb.Metadata)) {
		lines = append(lines, line{"metadata " + name, sb.Metadata[name]})
	}
	return a.printLines(lines)
}

// showHealth shows the problem of a guest; "" if none is known.
func showHealth(h *client.GuestHealth, now time.Time) string {
	if h == nil || h.State == client.HealthOK && !h.Forced {
		return ""
	}
	out := h.State
	if h.Since != nil {
		out += " since " + showWhen(h.Since, now)
	}
	if h.Forced {
		out += "; paused with --force, not reconfigured since"
	}
	return out
}

// showStatus shows a sandbox's status and the problem of its guest.
func showStatus(sb client.Sandbox) string {
	if sb.Status == client.StatusRunning && sb.Health != nil && sb.Health.State != client.HealthOK {
		return sb.Status + ", " + sb.Health.State
	}
	return sb.Status
}

// line is one line about a sandbox. It is left out without a value.
type line struct{ name, value string }

func (a *App) printLines(lines []line) error {
	t := a.NewTable()
	for _, l := range lines {
		if l.value != "" {
			t.Row(l.name+":", l.value)
		}
	}
	return t.Flush()
}

// showWhen shows a time and its age; "" for nil.
func showWhen(at *time.Time, now time.Time) string {
	if at == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s ago)", at.UTC().Format(time.RFC3339), ShowAge(now.Sub(*at)))
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
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

// restoreReportLines show how the sandbox was made correct and unique after its restore.
func restoreReportLines(h *client.RestoreReport) []line {
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
		{"restore report", strings.Join(done, ", ")},
		{"clock", fmt.Sprintf("moved by %s, remaining skew %s", showMillis(h.ClockStepMS), showMillis(h.ClockSkewMS))},
		{"generation", fmt.Sprintf("%d (VM generation: %s)", h.Generation, h.VMGeneration)},
	}
}
