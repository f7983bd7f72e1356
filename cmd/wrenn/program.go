package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// program adds the operator's commands to the user's.
type program struct {
	app *cli.App
	io  cli.IO
}

// config is what one command is told: groups of settings, each with its flags.
type config []settings

// settings is a group of settings that belong together.
type settings interface {
	// flags declares the group's flags.
	flags(f flagSet)
	// validate returns what is wrong, for a person.
	validate() error
}

// add puts cmd below parent, with the flags of cfg. run begins when they are
// read and valid.
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

// printsJSON marks commands that look at --json.
const printsJSON = "wrenn_json"

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s does not take %q", cmd.Name(), args[0])
	}
	return nil
}

// hideForeignFlags leaves out of cmd's help the flags of the root command that
// it does not look at.
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

// asFailure shows an operator the cause of a fault, which a user of the API
// never sees.
func asFailure(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	failure := &cli.Failure{Message: f.Public, Code: f.Reason}
	if cause := f.Unwrap(); cause != nil {
		failure.Hint = "because of: " + cause.Error()
	}
	return failure
}

// needRoot is the fault for what only root can do.
func needRoot(uid int, what string) error {
	if uid == 0 {
		return nil
	}
	return fault.New(fault.Forbidden, "not_root", "%s needs root: run it with sudo", what)
}
