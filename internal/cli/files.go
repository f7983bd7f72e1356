package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) filesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "files",
		Aliases: []string{"file"},
		Short:   "List, describe, make, move, remove, watch and sign files in a sandbox",
		Long:    "Work with the names of files in a sandbox. Paths are absolute. `wrenn cp` copies their content.",
	}
	cmd.AddCommand(a.filesLsCmd(), a.filesStatCmd(), a.filesMkdirCmd(), a.filesMvCmd(), a.filesRmCmd(), a.filesWatchCmd(), a.filesSignCmd())
	return cmd
}

// onFiles makes a command whose arguments are those of a sandbox and of paths in it.
func (a *App) onFiles(cmd *cobra.Command, run func(ctx context.Context, id string, paths []string) error) *cobra.Command {
	cmd.ValidArgsFunction = a.completeIDs(1, client.StatusRunning)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		return run(cmd.Context(), id, argv[1:])
	}
	return cmd
}

func (a *App) filesLsCmd() *cobra.Command {
	depth := 1
	cmd := &cobra.Command{
		Use:     "ls [flags] ID PATH",
		Aliases: []string{"list"},
		Short:   "List a directory",
		Example: "  wrenn files ls $id /root\n  wrenn files ls --depth 3 $id /var/log",
		Args:    args(2, 2, "the ID of a sandbox and a path in it"),
	}
	cmd.Flags().IntVar(&depth, "depth", depth, "levels below the directory, 1 to 64")
	return a.onFiles(cmd, func(ctx context.Context, id string, paths []string) error {
		list := []client.FileEntry{} // not nil: an empty list is [] in JSON
		for e, err := range a.Client().Files(ctx, id, paths[0], depth) {
			if err != nil {
				return err
			}
			list = append(list, e)
		}
		return a.printFiles(list, depth > 1)
	})
}

// printFiles prints a table with names, or with whole paths.
func (a *App) printFiles(list []client.FileEntry, whole bool) error {
	if a.json {
		return a.printJSON(list)
	}
	t := a.NewTable("MODE", "OWNER", "GROUP", "SIZE", "MODIFIED", "~NAME")
	for _, e := range list {
		name := e.Name
		if whole {
			name = e.Path
		}
		t.Row(fileLetter(e.Type)+e.Mode, e.Owner, e.Group, showBytes(e.Size), e.ModifiedAt.UTC().Format(time.DateTime), showName(name, e))
	}
	return t.Flush()
}

// showName shows a name with the mark of its type, and the target of a link.
func showName(name string, e client.FileEntry) string {
	switch {
	case e.Type == client.FileTypeDirectory:
		return name + "/"
	case e.Target != nil:
		return name + " -> " + *e.Target
	}
	return name
}

// fileLetter is the letter of a type of file, as ls(1) prints it.
func fileLetter(fileType string) string {
	letter, known := map[string]string{
		client.FileTypeFile: "-", client.FileTypeDirectory: "d", client.FileTypeSymlink: "l",
		client.FileTypeFIFO: "p", client.FileTypeSocket: "s", client.FileTypeDevice: "c",
	}[fileType]
	if !known {
		return "?"
	}
	return letter
}

func (a *App) filesStatCmd() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "stat [flags] ID PATH",
		Short: "Describe a file",
		Args:  args(2, 2, "the ID of a sandbox and a path in it"),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "L", false, "describe the target of a link")
	return a.onFiles(cmd, func(ctx context.Context, id string, paths []string) error {
		e, err := a.Client().StatFile(ctx, id, paths[0], follow)
		return a.printEntry(e, err)
	})
}

// printEntry prints a file, unless err is an error.
func (a *App) printEntry(e *client.FileEntry, err error) error {
	switch {
	case err != nil:
		return err
	case a.json:
		return a.printJSON(e)
	}
	t := a.NewTable()
	t.Row("path", e.Path)
	t.Row("type", e.Type)
	t.Row("size", fmt.Sprint(e.Size))
	t.Row("mode", e.Mode)
	t.Row("owner", e.Owner+":"+e.Group)
	t.Row("modified", e.ModifiedAt.UTC().Format(time.RFC3339Nano))
	if e.Target != nil {
		t.Row("target", *e.Target)
	}
	return t.Flush()
}

func (a *App) filesMkdirCmd() *cobra.Command {
	var in client.MakeDirectoryRequest
	cmd := &cobra.Command{
		Use:   "mkdir [flags] ID PATH",
		Short: "Make a directory, with missing parents",
		Args:  args(2, 2, "the ID of a sandbox and a path in it"),
	}
	cmd.Flags().StringVar(&in.Mode, "mode", "", "permission bits in octal (0755)")
	cmd.Flags().StringVarP(&in.User, "user", "u", "", "owner of the new directories (the guest's default)")
	return a.onFiles(cmd, func(ctx context.Context, id string, paths []string) error {
		in.Path = paths[0]
		e, err := a.Client().MakeDirectory(ctx, id, in)
		return a.changed(e, err)
	})
}

func (a *App) filesMvCmd() *cobra.Command {
	var in client.MoveFileRequest
	cmd := &cobra.Command{
		Use:   "mv [flags] ID FROM TO",
		Short: "Move or rename a file or a directory within a sandbox",
		Long:  "Move or rename a file or a directory within a sandbox. TO is the new path itself, also if it is an existing directory.",
		Args:  args(3, 3, "the ID of a sandbox and two paths in it"),
	}
	cmd.Flags().BoolVarP(&in.Overwrite, "force", "f", false, "replace a file or an empty directory at TO")
	cmd.Flags().StringVarP(&in.User, "user", "u", "", "owner of new parents of TO (the guest's default)")
	return a.onFiles(cmd, func(ctx context.Context, id string, paths []string) error {
		in.From, in.To = paths[0], paths[1]
		e, err := a.Client().MoveFile(ctx, id, in)
		return a.changed(e, err)
	})
}

// changed reports a change: nothing for people, the file as JSON.
func (a *App) changed(e *client.FileEntry, err error) error {
	if err != nil || !a.json {
		return err
	}
	return a.printJSON(e)
}

func (a *App) filesRmCmd() *cobra.Command {
	var recursive bool
	cmd := &cobra.Command{
		Use:     "rm [flags] ID PATH...",
		Aliases: []string{"remove"},
		Short:   "Remove files or directories",
		Args:    args(2, -1, "the ID of a sandbox and paths in it"),
	}
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "remove directories with everything in them")
	return a.onFiles(cmd, func(ctx context.Context, id string, paths []string) error {
		for _, path := range paths {
			if err := a.Client().RemoveFile(ctx, id, path, recursive); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *App) filesWatchCmd() *cobra.Command {
	var recursive bool
	cmd := &cobra.Command{
		Use:   "watch [flags] ID PATH",
		Short: "Print the changes in a directory until it is interrupted",
		Long: "Print the changes in a directory as they come, one a line: created, written, removed, renamed (moved away) or\n" +
			"attributes, and the path. The line \"overflow\" tells that changes were lost. It ends when it is interrupted, when the\n" +
			"directory is removed, or when the sandbox pauses.",
		Args: args(2, 2, "the ID of a sandbox and a path in it"),
	}
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "watch the directories below too")
	return a.onFiles(cmd, func(ctx context.Context, id string, paths []string) error {
		w, err := a.Client().WatchFiles(ctx, id, paths[0], recursive)
		if err != nil {
			return err
		}
		defer w.Close()
		a.note("watching %s", printable(paths[0]))
		for {
			change, err := w.Next()
			if err == nil {
				err = a.printChange(change)
			}
			if err != nil {
				return err
			}
		}
	})
}

func (a *App) printChange(c client.FileChange) error {
	if a.json {
		return a.encode(c, "")
	}
	_, err := fmt.Fprintln(a.io.Out, strings.TrimSpace(printable(c.Type+" "+c.Path)))
	return err
}
