package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// clockFlags are the flags that set the clocks of a sandbox. A flag that was not
// given leaves its field of the request nil.
type clockFlags struct {
	idle       time.Duration
	lifetime   time.Duration
	extend     time.Duration
	onTimeout  string
	autoResume bool
}

// add adds the flags for sandboxes that are created.
func (f *clockFlags) add(cmd *cobra.Command) {
	f.addWith(cmd, "the server's default is 5m", "the default")
}

// addCopied adds the flags for copies of a sandbox.
func (f *clockFlags) addCopied(cmd *cobra.Command) { f.addWith(cmd, keptUsage, keptUsage) }

// addChange adds the flags for a sandbox that exists, and the one that extends its
// lifetime.
func (f *clockFlags) addChange(cmd *cobra.Command) {
	f.addWith(cmd, keptUsage, keptUsage)
	DurationVar(cmd.Flags(), &f.extend, "extend", 0, "move the end of the lifetime later by this time")
}

// keptUsage describes a flag without which a setting of the sandbox stays.
const keptUsage = "the sandbox's own without this flag"

// addWith adds the flags. idle and lifetime describe the values without them.
func (f *clockFlags) addWith(cmd *cobra.Command, idle, lifetime string) {
	flags := cmd.Flags()
	DurationVar(flags, &f.idle, "idle-timeout", 0, "end after this time without use; 0 is never ("+idle+")")
	DurationVar(flags, &f.lifetime, "lifetime", 0, "end this time after the start or the last resume; 0 is never ("+lifetime+")")
	flags.StringVar(&f.onTimeout, "on-timeout", "", "action at the end of a time limit: destroy or pause")
	flags.BoolVar(&f.autoResume, "auto-resume", false, "resume the sandbox when a command or file needs it")
	_ = cmd.RegisterFlagCompletionFunc("on-timeout", cobra.FixedCompletions(
		[]string{client.OnTimeoutDestroy, client.OnTimeoutPause}, cobra.ShellCompDirectiveNoFileComp))
}

// request returns the clocks that were given on the command line.
func (f *clockFlags) request(cmd *cobra.Command) (client.TimeoutRequest, error) {
	var req client.TimeoutRequest
	for _, clock := range []struct {
		flag string
		set  time.Duration
		dst  **int
	}{{"idle-timeout", f.idle, &req.TimeoutSec}, {"lifetime", f.lifetime, &req.LifetimeSec}, {"extend", f.extend, &req.ExtendSec}} {
		if !cmd.Flags().Changed(clock.flag) {
			continue
		}
		if clock.set%time.Second != 0 {
			return req, usagef(cmd, "--%s must be whole seconds, or 0 for never", clock.flag)
		}
		sec := int(clock.set / time.Second)
		*clock.dst = &sec
	}
	if cmd.Flags().Changed("on-timeout") {
		if f.onTimeout != client.OnTimeoutDestroy && f.onTimeout != client.OnTimeoutPause {
			return req, usagef(cmd, "--on-timeout must be destroy or pause")
		}
		req.OnTimeout = &f.onTimeout
	}
	if cmd.Flags().Changed("auto-resume") {
		req.AutoResume = &f.autoResume
	}
	return req, nil
}

// create sets the clocks of a create request from the command line.
func (f *clockFlags) create(cmd *cobra.Command, req *client.CreateRequest) error {
	set, err := f.request(cmd)
	if err != nil {
		return err
	}
	req.TimeoutSec, req.OnTimeout, req.AutoResume = set.TimeoutSec, f.onTimeout, f.autoResume
	if set.LifetimeSec != nil {
		req.LifetimeSec = *set.LifetimeSec
	}
	return nil
}

// refusedTimeout is --timeout on commands where it once was the sandbox's idle
// timeout. Everywhere else it is the timeout of a command.
type refusedTimeout struct{}

func (refusedTimeout) String() string { return "" }
func (refusedTimeout) Type() string   { return "duration" }

func (refusedTimeout) Set(string) error {
	return errors.New("--timeout limits a command; use --idle-timeout for the sandbox's time without use")
}

// refuseTimeout explains --timeout on commands that run nothing.
func refuseTimeout(cmd *cobra.Command) {
	cmd.Flags().Var(refusedTimeout{}, "timeout", "")
	_ = cmd.Flags().MarkHidden("timeout")
}
