package cli

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) templateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "template",
		Short: "Build, list, tag and delete templates",
		Long: "Templates are the names under which sandboxes are created. `wrenn template build` makes one from a Dockerfile, an\n" +
			"image or another template. A template is named NAME or NAME:TAG; NAME alone is NAME:default.",
	}
	cmd.AddCommand(a.templateBuildCmd(), a.templateLsCmd(), a.templateGetCmd(), a.templateLogsCmd(), a.templateCancelCmd(),
		a.templateTagCmd(), a.templateRmCmd())
	return cmd
}

func (a *App) templateLsCmd() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List the templates",
		Args:    args(0, 0, "nothing"),
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only names")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list := []client.Template{} // not nil: an empty list is [] in JSON
		for t, err := range a.Client().AllTemplates(cmd.Context()) {
			if err != nil {
				return err
			}
			list = append(list, t)
		}
		if a.json {
			return a.printJSON(list)
		}
		return a.printTemplates(list, quiet, time.Now())
	}
	return cmd
}

func (a *App) printTemplates(list []client.Template, quiet bool, now time.Time) error {
	if quiet {
		for _, t := range list {
			if _, err := fmt.Fprintln(a.io.Out, printable(t.Name)); err != nil {
				return err
			}
		}
		return nil
	}
	table := a.NewTable("~NAME", "STATUS", "?SIZE", "~TAGS", "?BUILDS", "?SANDBOXES", "AGE")
	for _, t := range list {
		age := "-"
		if t.CreatedAt != nil {
			age = ShowAge(now.Sub(*t.CreatedAt))
		}
		table.Row(t.Name, templateStatus(t), templateSize(t), orDash(tagNames(t)), dashFor0(int64(t.BuildCount)), dashFor0(t.SpawnCount), age)
	}
	return table.Flush()
}

func dashFor0(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// templateStatus is the status of the newest build, or the kind of a template without
// builds.
func templateStatus(t client.Template) string {
	switch {
	case t.BuiltIn:
		return "built in"
	case t.SnapshotID != nil:
		return "snapshot"
	case t.Status != nil:
		return showBuildStatus(*t.Status)
	}
	return "-"
}

// showBuildStatus shows the status of a build.
func showBuildStatus(status string) string {
	if status == client.BuildFailed {
		return "failed"
	}
	return status
}

func templateSize(t client.Template) string {
	if t.VCPUs == nil || t.MemoryMB == nil {
		return "any"
	}
	return showShape(*t.VCPUs, *t.MemoryMB)
}

func tagNames(t client.Template) string {
	var names []string
	for _, tag := range t.Tags {
		names = append(names, tag.Name)
	}
	return strings.Join(names, ",")
}

func (a *App) templateGetCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get [flags] NAME",
		Short: "Show a template with its tags and newest builds",
		Args:  args(1, 1, "the NAME of a template"),
	}
	cmd.ValidArgsFunction = a.completeTemplateNames(1, true)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		t, err := a.Client().GetTemplate(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(t)
		}
		return a.printTemplate(t)
	}
	return cmd
}

// maxShownBuilds is the number of builds that `wrenn template get` prints.
const maxShownBuilds = 10

func (a *App) printTemplate(t *client.Template) error {
	now := time.Now()
	lines := []line{{"name", printable(t.Name)}, {"status", templateStatus(*t)}, {"size", templateSize(*t)}}
	if t.DiskMB != nil {
		lines = append(lines, line{"disk", showMemory(*t.DiskMB)})
	}
	if t.SnapshotID != nil {
		lines = append(lines, line{"snapshot", printable(*t.SnapshotID)})
	}
	if t.ID != nil {
		lines = append(lines, line{"id", printable(*t.ID)}, line{"sandboxes", strconv.FormatInt(t.SpawnCount, 10)})
	}
	if t.CreatedAt != nil {
		lines = append(lines, line{"created", showWhen(t.CreatedAt, now)})
	}
	if err := a.printLines(lines); err != nil || t.Builds == nil || len(*t.Builds) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(a.io.Out); err != nil {
		return err
	}
	of := map[string][]string{} // the tags that name a build now
	for _, tag := range t.Tags {
		of[tag.BuildID] = append(of[tag.BuildID], tag.Name)
	}
	table := a.NewTable("BUILD", "STATUS", "~TAGS", "?STEPS", "AGE", "~REASON")
	for i, b := range *t.Builds {
		if i == maxShownBuilds {
			break
		}
		reason := "-"
		if b.Reason != nil {
			reason = b.Reason.Message
		}
		table.Row(b.ID, showBuildStatus(b.Status), orDash(strings.Join(of[b.ID], ",")), fmt.Sprintf("%d/%d", b.Step, b.Steps), ShowAge(now.Sub(b.CreatedAt)), firstLine(reason))
	}
	return table.Flush()
}

func firstLine(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	return first
}

func (a *App) templateRmCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rm [flags] NAME...",
		Aliases: []string{"delete"},
		Short:   "Delete templates, or with NAME:TAG a tag",
		Long:    "Delete templates with their builds. Sandboxes made from them continue. NAME:TAG removes the tag only.",
		Args:    args(1, -1, "the NAME of a template"),
	}
	cmd.ValidArgsFunction = a.completeTemplateNames(-1, false)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		failed := false
		for _, typed := range argv {
			err := a.removeTemplate(cmd.Context(), typed)
			if err == nil {
				_, err = fmt.Fprintln(a.io.Out, typed)
			} else if cmd.Context().Err() == nil {
				f := *a.explain(err)
				f.Message = typed + ": " + f.Message
				a.print(&f)
				failed, err = true, nil
			}
			if err != nil {
				return err
			}
		}
		if failed {
			return ExitCode(exitFailed)
		}
		return nil
	}
	return cmd
}

func (a *App) removeTemplate(ctx context.Context, typed string) error {
	if name, tag, given := strings.Cut(typed, ":"); given {
		return a.Client().RemoveTemplateTag(ctx, name, tag)
	}
	return a.Client().DeleteTemplate(ctx, typed)
}

func (a *App) templateTagCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tag [flags] NAME[:TAG] NEW",
		Short:   "Give the build of a tag another tag",
		Long:    "Make NAME:NEW name the build that NAME:TAG names; TAG may also be the id of a build. A tag that exists is moved.",
		Example: "  wrenn template tag web:v2 stable",
		Args:    args(2, 2, "the NAME of a template and a tag"),
	}
	cmd.ValidArgsFunction = a.completeTemplateNames(1, false)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		name, from, _ := strings.Cut(argv[0], ":")
		added := strings.TrimPrefix(argv[1], name+":")
		to := client.TagTarget{FromTag: from}
		if from == "" {
			to.FromTag = defaultTag
		} else if buildForm.MatchString(from) {
			to = client.TagTarget{BuildID: from}
		}
		tag, err := a.Client().SetTemplateTag(cmd.Context(), name, added, to)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(tag)
		}
		a.note("%s:%s is build %s", name, printable(tag.Name), printable(tag.BuildID))
		return nil
	}
	return cmd
}

// defaultTag is the tag of a template whose name is typed without one.
const defaultTag = "default"

// buildForm is the form of a build's id.
var buildForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// buildOf finds the build that a person means by typed: its id, or the newest of a
// template, or that of a tag.
func (a *App) buildOf(ctx context.Context, typed string) (*client.TemplateBuild, error) {
	if buildForm.MatchString(typed) {
		return a.Client().Build(ctx, client.AnyTemplate, typed)
	}
	name, tag, _ := strings.Cut(typed, ":")
	if buildForm.MatchString(tag) {
		return a.Client().Build(ctx, name, tag)
	}
	if tag != "" {
		named, err := a.Client().TemplateTag(ctx, name, tag)
		if err != nil {
			return nil, err
		}
		return a.Client().Build(ctx, name, named.BuildID)
	}
	t, err := a.Client().GetTemplate(ctx, name)
	if err != nil {
		return nil, err
	}
	if t.Builds == nil || len(*t.Builds) == 0 {
		return nil, &client.Error{Status: http.StatusNotFound, Code: "build_not_found", Message: "template " + t.Name + " has no builds: it is " + templateStatus(*t)}
	}
	return &(*t.Builds)[0], nil
}

func (a *App) templateLogsCmd() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [flags] NAME|BUILD",
		Short: "Print the log of a build",
		Long: "Print the log of a build: the newest of a template, that of NAME:TAG, or the one with the id BUILD. With --follow the\n" +
			"command waits for the end of the build, and ends with exit code 1 if it failed.",
		Args: args(1, 1, "the NAME of a template or the id of a build"),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print new lines until the build has ended")
	cmd.ValidArgsFunction = a.completeTemplateNames(1, false)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		b, err := a.buildOf(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		if follow {
			view := a.newBuildView(a.io.Out, a.json)
			b, err = a.followBuild(cmd.Context(), b, view)
			if err != nil {
				return err
			}
			return buildFailure(b)
		}
		return a.printLogs(cmd.Context(), b)
	}
	return cmd
}

// logPage is the number of entries of a log that are asked for at a time.
const logPage = 1000

func (a *App) printLogs(ctx context.Context, b *client.TemplateBuild) error {
	for after := int64(0); ; {
		page, err := a.Client().BuildLogs(ctx, client.AnyTemplate, b.ID, after, logPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			if after = e.Seq; a.json {
				err = a.encode(e, "")
			} else {
				_, err = fmt.Fprintln(a.io.Out, showLog(e))
			}
			if err != nil {
				return err
			}
		}
		if len(page) < logPage {
			return nil
		}
	}
}

func (a *App) templateCancelCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel [flags] NAME|BUILD",
		Short: "End a build that is under way",
		Args:  args(1, 1, "the NAME of a template or the id of a build"),
	}
	cmd.ValidArgsFunction = a.completeTemplateNames(1, false)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		b, err := a.buildOf(cmd.Context(), argv[0])
		if err == nil {
			err = a.Client().CancelBuild(cmd.Context(), client.AnyTemplate, b.ID)
		}
		if err == nil {
			_, err = fmt.Fprintln(a.io.Out, b.ID)
		}
		return err
	}
	return cmd
}
