package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// program is the command tree with the operator's commands.
type program struct {
	app *cli.App
	io  cli.IO
}

// config is the configuration of one command: groups of settings, each with its
// flags.
type config []settings

// settings is a group of related settings.
type settings interface {
	// flags declares the group's flags.
	flags(f flagSet)
	// validate returns an error for the user if a setting is wrong.
	validate() error
}

// add adds cmd to parent, with the flags of cfg. run is called after they have been
// parsed and validated.
func (p program) add(parent, cmd *cobra.Command, cfg config, run func(ctx context.Context, args []string) error) {
	if cmd.Args == nil {
		cmd.Args = noArgs
	}
	if parent == p.app.Root() {
		cmd.GroupID = cli.GroupServer
	}
	for _, s := range cfg {
		s.flags(flagSet{cmd.Flags()})
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := readEnvironment(cmd.Flags(), p.io.LookupEnv); err != nil {
			return cli.Usage(cmd, err)
		}
		for _, s := range cfg {
			if err := s.validate(); err != nil {
				return cli.Usage(cmd, err)
			}
		}
		return asFailure(run(cmd.Context(), args))
	}
	hideForeignFlags(cmd)
	parent.AddCommand(cmd)
}

// printsJSON marks commands that support --json.
const printsJSON = "wrenn_json"

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument %q", cmd.Name(), args[0])
	}
	return nil
}

// hideForeignFlags hides in cmd's help the flags of the root command that cmd
// ignores.
func hideForeignFlags(cmd *cobra.Command) {
	foreign := []string{"url", "api-key-file", "ca-file"}
	if _, ok := cmd.Annotations[printsJSON]; !ok {
		foreign = append(foreign, "json")
	}
	help := cmd.HelpFunc()
	cmd.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		for _, name := range foreign {
			if f := cmd.InheritedFlags().Lookup(name); f != nil {
				f.Hidden = true
			}
		}
		help(cmd, args)
	})
}

// asFailure returns a fault with its cause as the hint. Operators see the cause;
// users of the API do not.
func asFailure(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	failure := &cli.Failure{Message: f.Public, Code: f.Reason}
	if cause := f.Unwrap(); cause != nil {
		failure.Hint = "cause: " + cause.Error()
	}
	return failure
}

// needRoot returns a fault if uid may not run command.
func needRoot(uid int, command string) error {
	if uid == 0 {
		return nil
	}
	return fault.New(fault.Forbidden, "not_root", "%s needs root: run it with sudo", command)
}
