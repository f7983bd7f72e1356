package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// completionTimeout bounds the wait after a press of the tab key.
const completionTimeout = 2 * time.Second

// completeIDs completes up to most arguments, or any number if that is
// negative, with ids of sandboxes in one of the statuses (all if there are
// none).
func (a *App) completeIDs(most int, statuses ...string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(given) >= most {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ids := a.ids(cmd.Context(), "", statuses)
		return slices.DeleteFunc(ids, func(id string) bool {
			id, _, _ = strings.Cut(id, "\t")
			return slices.Contains(given, id)
		}), cobra.ShellCompDirectiveNoFileComp
	}
}

// completePlaces offers files here and "ID:/".
func (a *App) completePlaces(cmd *cobra.Command, given []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(given) >= 2 || strings.ContainsAny(typed, ":/.") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ids := a.ids(cmd.Context(), ":/", []string{client.StatusRunning})
	return slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, typed) }), cobra.ShellCompDirectiveNoSpace
}

// ids lists ids, each with a suffix and, after a tab, a description. On an error the
// list is empty, because the shell shows no messages.
func (a *App) ids(ctx context.Context, suffix string, statuses []string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	var out []string
	for sb, err := range a.Client().All(ctx, client.ListOptions{Status: statuses}) {
		if err != nil {
			return nil
		}
		out = append(out, sb.ID+suffix+"\t"+sb.Status+" "+sb.Template+", "+ShowAge(time.Since(sb.CreatedAt))+" old")
	}
	return out
}

// completeTemplates completes cmd's flag --template with the names of templates.
func (a *App) completeTemplates(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("template", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.templateNames(cmd.Context(), true), cobra.ShellCompDirectiveNoFileComp
	})
}

// completeTemplateNames completes up to most arguments, or any number if that is negative,
// with names of templates: those that were built, or with all those of every kind.
func (a *App) completeTemplateNames(most int, all bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(given) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names := a.templateNames(cmd.Context(), all)
		return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(given, name) }), cobra.ShellCompDirectiveNoFileComp
	}
}

// templateNames lists the names of templates. On an error the list is empty, because the
// shell shows no messages.
func (a *App) templateNames(ctx context.Context, all bool) []string {
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	var names []string
	for t, err := range a.Client().AllTemplates(ctx) {
		if err != nil {
			return nil
		}
		if all || t.ID != nil {
			names = append(names, t.Name)
		}
	}
	return names
}
