package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) snapshotCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Keep sandboxes with their memory, and make templates of them",
	}
	cmd.AddCommand(a.snapshotCreateCmd(), a.snapshotLsCmd(), a.snapshotRmCmd(), a.snapshotTemplateCmd())
	return cmd
}

func (a *App) snapshotCreateCmd() *cobra.Command {
	var req client.SnapshotRequest
	var meta pairsFlag
	cmd := &cobra.Command{
		Use:     "create [flags] SANDBOX",
		Short:   "Take a snapshot of a sandbox and print its id",
		Example: "  snap=$(wrenn snapshot create --name ready $id)\n  wrenn create --snapshot $snap",
		Args:    args(1, 1, "the ID of a sandbox"),
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "a name for people")
	cmd.Flags().BoolVar(&req.Force, "force", false, forceUsage)
	cmd.Flags().Var(&meta, "meta", "metadata of yours, kept with the snapshot")
	cmd.ValidArgsFunction = a.completeIDs(1, client.StatusRunning, client.StatusPaused)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		req.Metadata = meta.values
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		began := time.Now()
		snap, err := a.Client().CreateSnapshot(cmd.Context(), id, req)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(snap)
		}
		if _, err := fmt.Fprintln(a.io.Out, snap.ID); err != nil {
			return err
		}
		a.note("taken in %s; stood still for %s; %s", showDuration(time.Since(began)), showMillis(snap.PauseWindowMS), showBytes(snap.Bytes))
		return nil
	}
	return cmd
}

func (a *App) snapshotLsCmd() *cobra.Command {
	var opts client.SnapshotOptions
	var quiet bool
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List the snapshots, newest first",
		Args:    args(0, 0, "nothing"),
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.SandboxID, "sandbox", "", "only those of this sandbox")
	flags.StringVar(&opts.Name, "name", "", "only those with this name")
	flags.BoolVarP(&quiet, "quiet", "q", false, "ids only")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list := []client.Snapshot{} // not nil: an empty list is [] in JSON
		for snap, err := range a.Client().AllSnapshots(cmd.Context(), opts) {
			if err != nil {
				return err
			}
			list = append(list, snap)
		}
		if a.json {
			return a.printJSON(list)
		}
		return a.printSnapshots(list, quiet, time.Now())
	}
	return cmd
}

func (a *App) printSnapshots(list []client.Snapshot, quiet bool, now time.Time) error {
	if quiet {
		for _, snap := range list {
			if _, err := fmt.Fprintln(a.io.Out, snap.ID); err != nil {
				return err
			}
		}
		return nil
	}
	t := a.NewTable("ID", "STATUS", "~NAME", "~SANDBOX", "SIZE", "SPACE", "USERS", "AGE", "~TEMPLATE")
	for _, snap := range list {
		template := "-"
		if snap.TemplateName != nil {
			template = *snap.TemplateName
		}
		t.Row(snap.ID, snap.Status, orDash(snap.Name), snap.SandboxID,
			showShape(snap.VCPUs, snap.MemoryMB), showBytes(snap.Bytes),
			strconv.Itoa(snap.Users), ShowAge(now.Sub(snap.CreatedAt)), template)
	}
	return t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *App) snapshotRmCmd() *cobra.Command {
	type deleted struct {
		ID      string `json:"id"`
		Deleted bool   `json:"deleted"`
	}
	cmd := a.eachCmd(&cobra.Command{
		Use:     "rm ID...",
		Aliases: []string{"delete"},
		Short:   "Delete snapshots",
	}, "deleted", a.snapshotID, func(ctx context.Context, id string) (any, error) {
		return deleted{id, true}, a.Client().DeleteSnapshot(ctx, id)
	})
	cmd.Args = args(1, -1, "the ID of a snapshot")
	cmd.ValidArgsFunction = a.completeSnapshots(-1)
	return cmd
}

func (a *App) snapshotTemplateCmd() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:     "template ID NAME | template --remove ID",
		Short:   "Let creates name a snapshot as their template",
		Example: "  wrenn snapshot template $snap python-ready\n  wrenn create --template python-ready",
		Args:    args(1, 2, "the ID of a snapshot and a name"),
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "take the name back; the snapshot stays")
	cmd.ValidArgsFunction = a.completeSnapshots(1)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		if remove != (len(argv) == 1) {
			return usagef(cmd, "template needs the ID of a snapshot and a name, or --remove and the ID")
		}
		id, err := a.snapshotID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		began := time.Now()
		if remove {
			if err := a.Client().RemoveTemplate(cmd.Context(), id); err != nil {
				return err
			}
			return a.did(id, "no template any more", time.Since(began), map[string]any{"id": id, "template_name": nil})
		}
		snap, err := a.Client().TemplateFromSnapshot(cmd.Context(), id, argv[1])
		if err != nil {
			return err
		}
		return a.did(id, "made a template", time.Since(began), snap)
	}
	return cmd
}

// completeSnapshots is completeIDs for snapshots.
func (a *App) completeSnapshots(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(given) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.DeleteFunc(a.snapshotIDs(cmd.Context()), func(id string) bool {
			id, _, _ = strings.Cut(id, "\t")
			return slices.Contains(given, id)
		}), cobra.ShellCompDirectiveNoFileComp
	}
}

// snapshotIDs lists ids and, behind a tab, descriptions. Whatever goes wrong
// gives an empty list: there is nobody to tell.
func (a *App) snapshotIDs(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	var out []string
	for snap, err := range a.Client().AllSnapshots(ctx, client.SnapshotOptions{}) {
		if err != nil {
			return nil
		}
		out = append(out, snap.ID+"\t"+strings.TrimSpace(snap.Name+" of "+snap.SandboxID)+", "+ShowAge(time.Since(snap.CreatedAt))+" old")
	}
	return out
}
