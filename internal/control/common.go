package control

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// common holds the dependencies that every use case has beside its own part of the
// store: the settings, the hosts and the log. It is constant.
type common struct {
	cfg   Config
	fleet Fleet
	log   *slog.Logger
}

// report returns the last report of a host; the zero HostInfo if it has left the fleet.
func (c common) report(id string) HostInfo {
	hosts := c.fleet.Hosts()
	if i := slices.IndexFunc(hosts, func(h HostInfo) bool { return h.ID == id }); i >= 0 {
		return hosts[i]
	}
	return HostInfo{}
}

// guarded calls do, which owns its errors. A panic in it is logged and ends do
// alone; the next pass of the reconciler finishes its work.
func (c common) guarded(what string, do func() error) {
	if err := fault.Caught(do); err != nil {
		c.log.Error(what+" failed", "error", err)
	}
}

// detached returns a context for an operation that moves a sandbox. The
// operation continues when the caller hangs up: if it stopped half-way, it would
// leave a row in a transitional state and a host at work for no caller. Its deadline
// is work plus the AskTimeout, which is for the database after the host's answer.
func (c common) detached(ctx context.Context, work time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), work+c.cfg.AskTimeout)
}

// hostOf returns the connection to the host that has row.
func (c common) hostOf(row Sandbox) (Host, error) {
	h, ok := c.fleet.Host(row.HostID)
	if !ok {
		return nil, fault.New(fault.HostFailed, "host_unknown",
			"host %s of sandbox %s is not part of this installation any more; start the control plane with it again", row.HostID, row.ID)
	}
	return h, nil
}

// wrongState is the fault of an operation that row's state forbids. Its sentence
// names the sandbox and the next step.
func wrongState(row Sandbox, want sandbox.Status) error {
	if row.State.Ended() || row.State == sandbox.Stopping {
		why := string(row.State.Status())
		if row.StopReason != "" {
			why += ": " + string(row.StopReason)
		}
		return fault.New(fault.WrongState, ReasonEnded, "sandbox %s has ended (%s); create another", row.ID, why)
	}
	return fault.New(fault.WrongState, "sandbox_not_"+string(want),
		"sandbox %s is %s; it must be %s for this: %s", row.ID, row.State, want, nextStep(row.State))
}

// nextStep returns the next step for a caller whose operation a sandbox in state
// refuses. The sandbox has not ended.
func nextStep(state sandbox.State) string {
	if state == sandbox.Paused {
		return "resume it, or set its auto_resume"
	}
	return "try again in a moment"
}

// withCleanup adds the error of a clean-up to the cause of err, whose kind and
// sentence stay. A nil cleanup error changes nothing.
func withCleanup(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	f := fault.As(err)
	return fault.Wrap(errors.Join(err, cleanup), f.Kind, f.Reason, "%s", f.Public)
}

// sleep returns after d or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
