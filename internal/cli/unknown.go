package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// refuseUnknown makes every command that only holds others refuse what is none
// of them. Cobra alone would print the help and succeed.
func (a *App) refuseUnknown() {
	a.root.InitDefaultCompletionCmd()
	a.root.SetHelpCommand(helpCmd())
	a.root.InitDefaultHelpCmd()
	for _, cmd := range a.root.Commands() {
		refuseUnknownBelow(cmd)
	}
}

func refuseUnknownBelow(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		refuseUnknownBelow(sub)
	}
	if cmd.Runnable() || !cmd.HasSubCommands() {
		return
	}
	cmd.Args = nil
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		if len(argv) == 0 {
			return usagef(cmd, "%s needs a command: %s", cmd.Name(), subcommands(cmd))
		}
		return usagef(cmd, "%s has no command %q: there are %s", cmd.Name(), argv[0], subcommands(cmd))
	}
}

// subcommands lists the names of cmd's commands.
func subcommands(cmd *cobra.Command) string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return strings.Join(names, ", ")
}

func helpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, argv []string) error {
			of, rest, err := cmd.Root().Find(argv)
			if err == nil && len(rest) > 0 {
				err = fmt.Errorf("unknown command %q for %q", rest[0], of.CommandPath())
			}
			if err != nil {
				return Usage(cmd, err)
			}
			return of.Help()
		},
	}
}
