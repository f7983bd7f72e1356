package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// args returns a check that there are from low to high arguments, called
// names. A negative high is no limit.
func args(low, high int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, got []string) error {
		switch {
		case len(got) < low:
			return fmt.Errorf("%s needs %s", cmd.Name(), names)
		case high >= 0 && len(got) > high:
			return fmt.Errorf("%s does not take %q", cmd.Name(), got[high])
		}
		return nil
	}
}

// pairsFlag collects NAME=VALUE; lookup, if it is set, gives the value of a
// NAME alone.
type pairsFlag struct {
	values map[string]string
	lookup func(name string) (string, bool)
}

func (f *pairsFlag) String() string { return "" }

func (f *pairsFlag) Type() string { return "NAME=VALUE" }

func (f *pairsFlag) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok && f.lookup != nil {
		if value, ok = f.lookup(name); !ok {
			return fmt.Errorf("%s is not set here: write %s=VALUE", name, name)
		}
	}
	if !ok || name == "" {
		return fmt.Errorf("%q is not NAME=VALUE", s)
	}
	if f.values == nil {
		f.values = map[string]string{}
	}
	f.values[name] = value
	return nil
}

// specFlags are the flags that say what sandbox to make.
type specFlags struct {
	req          client.CreateRequest
	memory, disk sizeFlag
	env, meta    pairsFlag
}

func (f *specFlags) add(a *App, cmd *cobra.Command) {
	f.env.lookup = a.io.LookupEnv
	flags := cmd.Flags()
	flags.StringVar(&f.req.Name, "name", "", "a name of yours, which other commands take in place of the id")
	flags.StringVar(&f.req.Template, "template", "", "image to boot (the server's default is minimal)")
	flags.IntVar(&f.req.VCPUs, "cpus", 0, "virtual CPUs (the server's default is 1)")
	flags.Var(&f.memory, "memory", "memory: 512 (MiB), 512M or 2G (the server's default is 512)")
	flags.Var(&f.disk, "disk", "writable disk: 2048 (MiB), 2048M or 2G (the server's default is 2G)")
	flags.VarP(&f.env, "env", "e", "environment of every command; NAME alone takes it from here")
	flags.Var(&f.meta, "meta", "metadata of yours, kept with the sandbox")
	flags.StringVar(&f.req.MinIsolation, "min-isolation", "", "weakest isolation accepted: process or hardware")
	a.completeTemplates(cmd)
}

func (f *specFlags) request() client.CreateRequest {
	req := f.req
	req.MemoryMB, req.DiskMB = int(f.memory), int(f.disk)
	req.Env, req.Metadata = f.env.values, f.meta.values
	return req
}

// defaultCommandTimeout is the lifetime of a command that someone waits for at
// a terminal; the API's own default, 30 s, suits programs.
const defaultCommandTimeout = 10 * time.Minute

// commandFlags are the flags that say how a command runs.
type commandFlags struct {
	env       pairsFlag
	cwd, user string
	timeout   time.Duration
	stdin     bool
	timing    bool
}

func (f *commandFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	// What follows the first argument belongs to the command.
	flags.SetInterspersed(false)
	flags.StringVarP(&f.cwd, "cwd", "w", "", "working directory (the user's home)")
	flags.StringVarP(&f.user, "user", "u", "", "user to run as (the guest's default)")
	DurationVar(flags, &f.timeout, "timeout", defaultCommandTimeout, "time after which the command is killed")
	flags.BoolVarP(&f.stdin, "stdin", "i", false, "give it the standard input")
	flags.BoolVar(&f.timing, "timing", false, "say on stderr how long it took")
}
