package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// refuseUnknown makes every command group refuse an unknown command. Cobra alone
// would print the help and succeed.
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
	cmd.Use = cmd.Name() + " COMMAND"
	cmd.DisableFlagsInUseLine = true
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		if len(argv) == 0 {
			return usagef(cmd, "%s needs a command: %s", cmd.CommandPath(), subcommands(cmd))
		}
		return unknownCommand(cmd, argv[0])
	}
}

// unknownCommand returns the usage error of a command that group does not have.
func unknownCommand(group *cobra.Command, name string) error {
	message := fmt.Sprintf("there is no command %q", group.CommandPath()+" "+name)
	group.SuggestionsMinimumDistance = 1 // the default, 2, suggests every name of two letters
	if similar := group.SuggestionsFor(name); len(similar) > 0 {
		return usagef(group, "%s; did you mean %s?", message, strings.Join(similar, " or "))
	}
	if group.HasParent() {
		return usagef(group, "%s; the commands are %s", message, subcommands(group))
	}
	return usagef(group, "%s; `wrenn --help` lists the commands", message)
}

// asUnknownCommand returns cobra's error about an unknown command of the root as
// that of unknownCommand, and any other error unchanged.
func asUnknownCommand(root *cobra.Command, err error) error {
	var name string
	if n, _ := fmt.Sscanf(err.Error(), "unknown command %q", &name); n == 1 {
		return unknownCommand(root, name)
	}
	return err
}

// subcommands lists the names of the commands in a group.
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
		Short: "Show the help of a command",

		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, argv []string) error {
			of, rest, err := cmd.Root().Find(argv)
			switch {
			case err != nil:
				return asUnknownCommand(cmd.Root(), err)
			case len(rest) > 0:
				return unknownCommand(of, rest[0])
			}
			return of.Help()
		},
	}
}
