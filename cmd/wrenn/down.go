package main

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/control/hostclient"
	"github.com/wrenn-dev/wrenn/internal/daemon"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

type downConfig struct {
	data dataSettings
	stop stopSettings
}

// stopSettings are the settings for stopping a server.
type stopSettings struct {
	leaveRunning bool
	timeout      time.Duration
}

func (s *stopSettings) flags(f flagSet) {
	f.BoolVar(&s.leaveRunning, "leave-running", false, "leave sandboxes running; the next wrenn up takes them over")
	cli.DurationVar(f.FlagSet, &s.timeout, "timeout", 2*time.Minute, "time limit for the server to stop")
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
		Short: "Pause all sandboxes and stop wrenn up",
		Long: "Pause every running sandbox of the wrenn up that uses the data directory, then stop that wrenn up and wait for\n" +
			"its end. It is no error if none runs. A file system that --data-fs made is unmounted if no process uses it.",
	}
	p.add(p.app.Root(), cmd, config{&cfg.data, &cfg.stop}, func(ctx context.Context, _ []string) error { return p.down(ctx, cfg) })
}

func (p program) down(ctx context.Context, cfg *downConfig) error {
	dirs := cfg.data.layout()
	up, err := daemon.Holder(dirs.lock())
	if err != nil {
		return fault.Wrap(err, fault.Internal, "not_found", "cannot determine which process uses %s", dirs.root)
	}
	if up == nil {
		p.say("no wrenn up uses %s", dirs.root)
		return p.releaseData(dirs)
	}
	defer up.Close()
	left := 0
	if !cfg.stop.leaveRunning && p.awaitAgent(ctx, dirs, up) {
		if left, err = p.drain(ctx, dirs); err != nil {
			return err
		}
	}
	p.say("stopping wrenn up (process %d)", up.PID)
	if err := up.Signal(syscall.SIGTERM); err != nil {
		return fault.Wrap(err, fault.Forbidden, "cannot_stop", "process %d cannot be stopped: run wrenn down as root", up.PID)
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
			"%d sandboxes could not be paused and keep running: the next wrenn up takes them over", left)
	}
	if cfg.stop.leaveRunning {
		return nil
	}
	return p.releaseData(dirs)
}

// agentStartLimit bounds the wait for the host agent of a wrenn up that is still
// starting.
const agentStartLimit = 30 * time.Second

// awaitAgent waits until the host agent of up accepts calls. It returns false if up
// ends before, or takes too long because it prepares images. The sandboxes of an
// earlier wrenn up are then left as they are.
func (p program) awaitAgent(ctx context.Context, dirs layout, up *daemon.Process) bool {
	for deadline, told := time.Now().Add(agentStartLimit), false; ; {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", dirs.agentSocket())
		if err == nil {
			_ = conn.Close()
			return true
		}
		if !told {
			p.say("waiting for the host agent to start")
			told = true
		}
		pause, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		ended := up.Wait(pause) == nil
		cancel()
		if ended || ctx.Err() != nil {
			return false
		}
		if time.Now().After(deadline) {
			p.say("the host agent is not ready after %s: no sandbox is paused, and running ones keep running", agentStartLimit)
			return false
		}
	}
}

// drain pauses the running sandboxes, reports each, and returns the number that could
// not be paused.
func (p program) drain(ctx context.Context, dirs layout) (failed int, err error) {
	agent, err := hostclient.New(dirs.agentAddress(), hostclient.Access{})
	if err != nil {
		return 0, err
	}
	defer agent.Close()
	paused := 0
	err = agent.Drain(ctx, func(id sandbox.ID, problem string) {
		if problem != "" {
			failed++
			p.say("  %s keeps running: %s", id, problem)
			return
		}
		paused++
		p.say("  %s is paused", id)
	})
	if err != nil && failed == 0 {
		return 0, fault.Wrap(err, fault.HostFailed, "not_drained",
			"the host agent cannot pause the sandboxes: `wrenn down --leave-running` stops the server without pausing")
	}
	switch {
	case paused+failed == 0:
		p.say("no sandbox was running; paused ones stay paused")
	case paused > 0:
		p.say("%d paused with memory, processes and disk; after the next start, resume each with `wrenn resume ID`", paused)
	}
	return failed, nil
}

func (p program) say(format string, args ...any) { fmt.Fprintf(p.io.Err, format+"\n", args...) }
