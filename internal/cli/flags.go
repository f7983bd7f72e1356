package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// args returns a check for low to high arguments, which messages call names. A
// negative high means no limit.
func args(low, high int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, got []string) error {
		switch {
		case len(got) < low:
			return fmt.Errorf("%s needs %s", cmd.Name(), names)
		case high >= 0 && len(got) > high:
			return fmt.Errorf("%s takes no argument %q", cmd.Name(), got[high])
		}
		return nil
	}
}

// pairsFlag collects NAME=VALUE. lookup, unless nil, returns the value of a NAME
// alone.
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
			return fmt.Errorf("%s is not set in this environment: write %s=VALUE", name, name)
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

// specFlags are the flags that describe a new sandbox.
type specFlags struct {
	req          client.CreateRequest
	memory, disk sizeFlag
	env, meta    pairsFlag
	offline      bool
}

func (f *specFlags) add(a *App, cmd *cobra.Command) {
	f.env.lookup = a.io.LookupEnv
	flags := cmd.Flags()
	flags.StringVar(&f.req.Name, "name", "", "name of the sandbox, which other commands accept in place of the id")
	flags.StringVar(&f.req.Hostname, "hostname", "", "host name inside the sandbox, one label (wrenn- and the id)")
	flags.StringVar(&f.req.Template, "template", "", "template to start from (the server's default is minimal)")
	flags.IntVar(&f.req.VCPUs, "cpus", 0, "virtual CPUs (the server's default is 1)")
	flags.Var(&f.memory, "memory", "memory: 512 (MiB), 512M or 2G (the server's default is 512)")
	flags.Var(&f.disk, "disk", "writable disk: 2048 (MiB), 2048M or 2G (the server's default is 2G)")
	flags.VarP(&f.env, "env", "e", "environment variable for every command; NAME alone copies the value from here")
	flags.Var(&f.meta, "meta", "metadata of the sandbox, may be repeated")
	flags.StringVar(&f.req.MinIsolation, "min-isolation", "", "weakest acceptable isolation: process, userspace_kernel or hardware")
	flags.StringVar(&f.req.Runtime, "runtime", "", "runtime: auto, microvm or gvisor (the server's default is auto)")
	flags.BoolVar(&f.offline, "offline", false, "let the sandbox open no connections, except to those of --allow-out")
	flags.StringSliceVar(&f.req.EgressDeny, "deny-out", nil, "IPv4 address or range to which the sandbox cannot open connections, may be repeated")
	flags.StringSliceVar(&f.req.EgressAllow, "allow-out", nil, "exception from --deny-out or --offline, may be repeated")
	flags.IntSliceVar(&f.req.PublicPorts, "public-port", nil, "port that everyone may reach without a token, may be repeated")
	flags.IntSliceVar(&f.req.HTTPSPorts, "https-port", nil, "port whose program speaks TLS itself, may be repeated")
	a.completeTemplates(cmd)
}

func (f *specFlags) request() client.CreateRequest {
	req := f.req
	req.MemoryMB, req.DiskMB = int(f.memory), int(f.disk)
	req.Env, req.Metadata = f.env.values, f.meta.values
	if f.offline {
		req.EgressDeny = append(slices.Clone(req.EgressDeny), everyAddress)
	}
	return req
}

// defaultCommandTimeout is the timeout of a command from a terminal. The API's own
// default, 30 s, suits programs.
const defaultCommandTimeout = 10 * time.Minute

// commandFlags are the flags of a command to run.
type commandFlags struct {
	env       pairsFlag
	cwd, user string
	timeout   time.Duration
	stdin     bool
	timing    bool
}

func (f *commandFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	// Flags after the first argument belong to the command.
	flags.SetInterspersed(false)
	flags.StringVarP(&f.cwd, "cwd", "w", "", "working directory (the user's home)")
	flags.StringVarP(&f.user, "user", "u", "", "user to run as (the guest's default)")
	DurationVar(flags, &f.timeout, "timeout", defaultCommandTimeout, "time after which the command is killed")
	flags.BoolVarP(&f.stdin, "stdin", "i", false, "pass the standard input to the command")
	flags.BoolVar(&f.timing, "timing", false, "print durations on stderr")
}
