package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

type downConfig struct {
	data dataSettings
	stop stopSettings
}

// stopSettings say how a server is stopped.
type stopSettings struct {
	leaveRunning bool
	timeout      time.Duration
}

func (s *stopSettings) flags(f flagSet) {
	f.BoolVar(&s.leaveRunning, "leave-running", false, "leave sandboxes running, for the next wrenn up to take over")
	f.DurationVar(&s.timeout, "timeout", 2*time.Minute, "how long the server may take to end once it was asked to")
}

func (s *stopSettings) validate() error {
	if s.timeout <= 0 {
		return fmt.Errorf("--timeout must be longer than 0")
	}
	return nil
}

func (p program) addDown() {
	cfg := new(downConfig)
	cmd := &cobra.Command{
		Use:   "down [flags]",
		Short: "Pause the sandboxes of wrenn up, then stop it",
		Long: "Pause every running sandbox of the wrenn up that uses the data directory, so that it can be resumed later, then\n" +
			"stop that wrenn up and wait until it is gone. It is no error if none runs. A file system that --data-fs made is\n" +
			"unmounted if nothing uses it any more.",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, &cfg.stop}, func(ctx context.Context, _ []string) error { return p.down(ctx, cfg) })
}

func (p program) down(ctx context.Context, cfg *downConfig) error {
	dirs := cfg.data.layout()
	up, err := daemon.Holder(dirs.lock())
	if err != nil {
		return fault.Wrap(err, fault.Internal, "not_found", "cannot tell which process uses %s", dirs.root)
	}
	if up == nil {
		p.say("no wrenn up uses %s", dirs.root)
		return p.releaseData(dirs)
	}
	defer up.Close()
	left := 0
	if !cfg.stop.leaveRunning {
		if left, err = p.drain(ctx, dirs); err != nil {
			return err
		}
	}
	p.say("stopping wrenn up (process %d)", up.PID)
	if err := up.Signal(syscall.SIGTERM); err != nil {
		return fault.Wrap(err, fault.Forbidden, "cannot_stop", "process %d cannot be stopped: run this as root", up.PID)
	}
	ending, cancel := context.WithTimeout(ctx, cfg.stop.timeout)
	defer cancel()
	if err := up.Wait(ending); err != nil {
		return fault.Wrap(err, fault.Timeout, "not_stopped",
			"process %d has not ended within %s: look at its log, then try again", up.PID, cfg.stop.timeout)
	}
	p.say("stopped")
	if left > 0 {
		return fault.New(fault.HostFailed, "not_paused",
			"%d sandboxes could not be paused and go on running: the next wrenn up takes them over", left)
	}
	if cfg.stop.leaveRunning {
		return nil
	}
	return p.releaseData(dirs)
}

// drain pauses the running sandboxes and returns how many could not be.
func (p program) drain(ctx context.Context, dirs layout) (failed int, err error) {
	agent, err := hostclient.New(dirs.agentAddress(), "")
	if err != nil {
		return 0, err
	}
	defer agent.Close()
	p.say("pausing the running sandboxes")
	err = agent.Drain(ctx, func(id sandbox.ID, problem string) {
		if problem != "" {
			failed++
			p.say("  %s goes on running: %s", id, problem)
			return
		}
		p.say("  %s is paused", id)
	})
	if err != nil && failed == 0 {
		return 0, fault.Wrap(err, fault.HostFailed, "not_drained",
			"the host agent cannot pause the sandboxes: `wrenn down --leave-running` stops the server without that")
	}
	return failed, nil
}

func (p program) say(format string, args ...any) { fmt.Fprintf(p.io.Err, format+"\n", args...) }
