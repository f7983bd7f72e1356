package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// clockFlags are the flags that set the clocks of a sandbox. What was not
// given stays nil in what they make.
type clockFlags struct {
	idle       time.Duration
	lifetime   time.Duration
	extend     time.Duration
	onTimeout  string
	autoResume bool
}

func (f *clockFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	DurationVar(flags, &f.idle, "idle-timeout", 0, "time without use after which it ends; 0 is never (the server's default is 5m)")
	DurationVar(flags, &f.lifetime, "lifetime", 0, "time from its start or a resume after which it ends, used or not; 0 is never")
	flags.StringVar(&f.onTimeout, "on-timeout", "", "what happens when a clock runs out: destroy or pause")
	flags.BoolVar(&f.autoResume, "auto-resume", false, "commands and files resume it when it is paused")
	_ = cmd.RegisterFlagCompletionFunc("on-timeout", cobra.FixedCompletions(
		[]string{client.OnTimeoutDestroy, client.OnTimeoutPause}, cobra.ShellCompDirectiveNoFileComp))
}

// addExtend adds the flag that only a sandbox that lives can have.
func (f *clockFlags) addExtend(cmd *cobra.Command) {
	DurationVar(cmd.Flags(), &f.extend, "extend", 0, "move the end of its lifetime later by so much")
}

// request returns what was given on the command line.
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
			return req, usagef(cmd, "--%s is whole seconds, or 0 for never", clock.flag)
		}
		sec := int(clock.set / time.Second)
		*clock.dst = &sec
	}
	if cmd.Flags().Changed("on-timeout") {
		if f.onTimeout != client.OnTimeoutDestroy && f.onTimeout != client.OnTimeoutPause {
			return req, usagef(cmd, "--on-timeout is destroy or pause")
		}
		req.OnTimeout = &f.onTimeout
	}
	if cmd.Flags().Changed("auto-resume") {
		req.AutoResume = &f.autoResume
	}
	return req, nil
}

// create puts the clocks of a command line into a request that creates.
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

// refusedTimeout is --timeout where it once was the sandbox's idle time. It is
// the command's time everywhere.
type refusedTimeout struct{}

func (refusedTimeout) String() string { return "" }
func (refusedTimeout) Type() string   { return "duration" }

func (refusedTimeout) Set(string) error {
	return errors.New("--timeout is the time of a command; the sandbox's time without use is --idle-timeout")
}

// refuseTimeout explains --timeout on commands that run nothing.
func refuseTimeout(cmd *cobra.Command) {
	cmd.Flags().Var(refusedTimeout{}, "timeout", "")
	_ = cmd.Flags().MarkHidden("timeout")
}
