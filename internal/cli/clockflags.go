package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// clockFlags are the flags that set the clocks of a sandbox. What was not
// given stays nil in what they make.
type clockFlags struct {
	lifetime   time.Duration
	onTimeout  string
	autoResume bool
}

func (f *clockFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.DurationVar(&f.lifetime, "lifetime", 0, "time from its start or a resume after which it ends, used or not; 0 is never")
	flags.StringVar(&f.onTimeout, "on-timeout", "", "what happens when a clock runs out: destroy or pause")
	flags.BoolVar(&f.autoResume, "auto-resume", false, "commands and files resume it when it is paused")
	_ = cmd.RegisterFlagCompletionFunc("on-timeout", cobra.FixedCompletions(
		[]string{client.OnTimeoutDestroy, client.OnTimeoutPause}, cobra.ShellCompDirectiveNoFileComp))
}

// request returns what was given on the command line. idle and extend name the
// flags that hold those clocks; "" is a command without.
func (f *clockFlags) request(cmd *cobra.Command, idle, extend string) (client.TimeoutRequest, error) {
	var req client.TimeoutRequest
	for _, clock := range []struct {
		flag string
		dst  **int
	}{{idle, &req.TimeoutSec}, {"lifetime", &req.LifetimeSec}, {extend, &req.ExtendSec}} {
		if clock.flag == "" || !cmd.Flags().Changed(clock.flag) {
			continue
		}
		sec, err := wholeSeconds(cmd, clock.flag)
		if err != nil {
			return req, err
		}
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

// wholeSeconds reads a flag that is a duration.
func wholeSeconds(cmd *cobra.Command, flag string) (int, error) {
	d, err := cmd.Flags().GetDuration(flag)
	if err != nil {
		return 0, err
	}
	if d < 0 || d%time.Second != 0 {
		return 0, usagef(cmd, "--%s is whole seconds, or 0 for never", flag)
	}
	return int(d / time.Second), nil
}
