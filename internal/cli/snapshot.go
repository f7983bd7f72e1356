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
		Short: "Take, list and delete snapshots, and make templates of them",
	}
	cmd.AddCommand(a.snapshotCreateCmd(), a.snapshotLsCmd(), a.snapshotRmCmd(), a.snapshotTemplateCmd())
	return cmd
}

func (a *App) snapshotCreateCmd() *cobra.Command {
	var req client.SnapshotRequest
	var meta pairsFlag
	var noMemory bool
	cmd := &cobra.Command{
		Use:     "create [flags] SANDBOX",
		Short:   "Take a snapshot of a sandbox and print its id",
		Example: "  snap=$(wrenn snapshot create --name ready $id)\n  wrenn create --snapshot $snap",
		Args:    args(1, 1, "the ID of a sandbox"),
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "name of the snapshot, which other commands accept in place of the id")
	cmd.Flags().BoolVar(&req.Force, "force", false, forceUsage)
	cmd.Flags().BoolVar(&noMemory, "no-memory", false, "keep the files alone: sandboxes created from the snapshot boot")
	cmd.MarkFlagsMutuallyExclusive("force", "no-memory")
	cmd.Flags().Var(&meta, "meta", "metadata of the snapshot, may be repeated")
	cmd.ValidArgsFunction = a.completeIDs(1, client.StatusRunning, client.StatusPaused)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		req.Metadata = meta.values
		if noMemory {
			memory := false
			req.Memory = &memory
		}
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
		a.note("taken in %s; sandbox stopped for %s; %s", showDuration(time.Since(began)), showMillis(snap.PauseWindowMS), showBytes(snap.Bytes))
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
	flags.StringVar(&opts.SandboxID, "sandbox", "", "list only snapshots of this sandbox")
	flags.StringVar(&opts.Name, "name", "", "list only snapshots with this name")
	flags.BoolVarP(&quiet, "quiet", "q", false, "print only ids")
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
	t := a.NewTable("ID", "STATUS", "~NAME", "SANDBOX", "?SIZE", "?MEMORY", "SPACE", "?USERS", "?AGE", "~TEMPLATE")
	for _, snap := range list {
		template := "-"
		if snap.TemplateName != nil {
			template = *snap.TemplateName
		}
		t.Row(snap.ID, snap.Status, orDash(snap.Name), snap.SandboxID,
			showShape(snap.VCPUs, snap.MemoryMB), yesOrNo(snap.Memory), showBytes(snap.Bytes),
			strconv.Itoa(snap.Users), ShowAge(now.Sub(snap.CreatedAt)), template)
	}
	return t.Flush()
}

func yesOrNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
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
		Use:     "rm [flags] ID...",
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
		Use:     "template [flags] ID NAME",
		Short:   "Make a template from a snapshot",
		Long:    "Make a template from a snapshot: new sandboxes name it with --template. With --remove and the ID alone, the\ntemplate is removed and the snapshot stays.",
		Example: "  wrenn snapshot template $snap python-ready\n  wrenn create --template python-ready\n  wrenn snapshot template --remove $snap",
		Args:    args(1, 2, "the ID of a snapshot and a name"),
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "remove the template and keep the snapshot")
	cmd.ValidArgsFunction = a.completeSnapshots(1)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		if remove != (len(argv) == 1) {
			return usagef(cmd, "template needs the ID of a snapshot and a NAME, or --remove and the ID")
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
			return a.did(id, "template removed", time.Since(began), map[string]any{"id": id, "template_name": nil})
		}
		snap, err := a.Client().TemplateFromSnapshot(cmd.Context(), id, argv[1])
		if err != nil {
			return err
		}
		return a.did(id, "template made", time.Since(began), snap)
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

// snapshotIDs lists ids and, after a tab, descriptions. On an error the list is
// empty, because the shell shows no messages.
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
