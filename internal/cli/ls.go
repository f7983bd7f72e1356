package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// live are the statuses of sandboxes that have not ended.
var live = []string{client.StatusPending, client.StatusRunning, client.StatusPaused}

var statuses = append(slices.Clone(live), client.StatusStopped, client.StatusError)

func (a *App) lsCmd() *cobra.Command {
	var all, quiet bool
	var opts client.ListOptions
	var filter filterFlag
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List the sandboxes, newest first",
		Example: "  wrenn ls --all\n  wrenn ls --filter metadata.job=nightly\n  wrenn rm $(wrenn ls -q --status paused)",
		Args:    args(0, 0, "nothing"),
	}
	flags := cmd.Flags()
	flags.BoolVarP(&all, "all", "a", false, "list ended sandboxes too")
	flags.BoolVarP(&quiet, "quiet", "q", false, "print only ids")
	flags.StringSliceVar(&opts.Status, "status", nil, "list only sandboxes with these statuses: "+strings.Join(statuses, ", "))
	flags.Var(&filter, "filter", "list only matching sandboxes: metadata.KEY=VALUE, name=NAME, template=NAME or status=STATUS; may be repeated")
	flags.StringVar(&opts.Template, "template", "", "list only sandboxes of this template")
	a.completeTemplates(cmd)
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statuses, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := filter.apply(&opts); err != nil {
			return usagef(cmd, "%w", err)
		}
		for _, s := range opts.Status {
			if !slices.Contains(statuses, s) {
				return usagef(cmd, "%q is no status: use %s", s, strings.Join(statuses, ", "))
			}
		}
		if len(opts.Status) == 0 && !all {
			opts.Status = live
		}
		list := []client.Sandbox{} // not nil: an empty list is [] in JSON
		for sb, err := range a.Client().All(cmd.Context(), opts) {
			if err != nil {
				return err
			}
			list = append(list, sb)
		}
		switch {
		case a.json:
			return a.printJSON(list)
		case quiet:
			return a.printIDs(list)
		default:
			return a.printList(list, time.Now())
		}
	}
	return cmd
}

func (a *App) printIDs(list []client.Sandbox) error {
	for _, sb := range list {
		if _, err := fmt.Fprintln(a.io.Out, sb.ID); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) printList(list []client.Sandbox, now time.Time) error {
	t := a.NewTable("ID", "~NAME", "STATUS", "~TEMPLATE", "?RUNTIME", "SIZE", "AGE", "~ENDS")
	for _, sb := range list {
		t.Row(sb.ID, orDash(deref(sb.Name)), showStatus(sb), sb.Template, sb.Runtime, showShape(sb.VCPUs, sb.MemoryMB),
			ShowAge(now.Sub(sb.CreatedAt)), showEnd(sb, now))
	}
	return t.Flush()
}

// showEnd shows when a sandbox will end, or when and why it has ended.
func showEnd(sb client.Sandbox, now time.Time) string {
	switch {
	case sb.EndedAt != nil && sb.StopReason != nil:
		return fmt.Sprintf("%s ago: %s", ShowAge(now.Sub(*sb.EndedAt)), *sb.StopReason)
	case sb.EndedAt != nil:
		return ShowAge(now.Sub(*sb.EndedAt)) + " ago"
	case sb.StopReason != nil:
		return *sb.StopReason
	}
	end := firstOf(sb.Clocks.IdleExpiresAt, sb.Clocks.LifetimeExpiresAt)
	if end == nil {
		return "-"
	}
	return "in " + ShowAge(end.Sub(now).Round(time.Second))
}

// firstOf returns the earlier of two times of which either may be nil.
func firstOf(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}
