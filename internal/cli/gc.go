package cli

import (
	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) gcCmd() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "gc [flags]",
		Short:   "List or delete unreferenced files on the hosts",
		Example: "  wrenn gc\n  wrenn gc --dry-run=false",
		Args:    args(0, 0, "nothing"),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", true, "only list the files")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		found, err := a.Client().GC(cmd.Context(), client.GCRequest{DryRun: dryRun})
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(found)
		}
		if len(found.Items) == 0 {
			a.note("the hosts have no unreferenced files")
			return nil
		}
		t := a.NewTable("~HOST", "KIND", "ID", "SPACE", "~REASON")
		for _, item := range found.Items {
			t.Row(item.HostID, item.Kind, item.ID, showBytes(item.Bytes), item.Reason)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if found.DryRun {
			a.note("%s can be freed with --dry-run=false", showBytes(found.Bytes))
		} else {
			a.note("%s freed", showBytes(found.Bytes))
		}
		return nil
	}
	return cmd
}
