package control

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// lifecycle is the use cases that move a sandbox which exists: pause, resume (also
// on use, see resumeForUse) and destroy.
type lifecycle struct {
	common
	store        sandboxReader
	rows         *rowReconciler
	limits       *egressLimits
	transitions  *transitions
	inFlight     *inFlight
	passRequests *passRequests
	healths      *healths
}

// sandboxReader is the part of [Store] that use cases of one sandbox need.
type sandboxReader interface {
	Get(ctx context.Context, id sandbox.ID) (Sandbox, error)
}

// Destroy implements Sandboxes. When the host fails the row stays stopping,
// and the reconciler finishes. A caller that hangs up changes nothing of that,
// see detached.
func (l *lifecycle) Destroy(ctx context.Context, id sandbox.ID) (err error) {
	ctx, cancel := l.detached(ctx, l.cfg.DestroyTimeout)
	defer cancel()
	var row Sandbox
	defer func() { l.passRequests.requestAfter(row.HostID, err) }()
	defer l.inFlight.begin(id)()
	row, err = l.store.Get(ctx, id)
	for err == nil && !row.State.Ended() && row.State != sandbox.Stopping {
		// A lost move returns the present row. Each retry means that another move
		// succeeded, so the loop ends.
		row, _, err = l.rows.move(ctx, Move{Ref: row.Ref(), From: row.State, To: sandbox.Stopping})
	}
	if err != nil || row.State.Ended() {
		return err
	}
	host, err := l.hostOf(row)
	if err != nil {
		return err
	}
	hostCtx, cancelHost := context.WithTimeout(ctx, l.cfg.DestroyTimeout)
	defer cancelHost()
	if err := host.Destroy(hostCtx, row.Ref(), sandbox.ReasonDestroyed); err != nil {
		return fault.Wrap(err, fault.HostFailed, "destroy_pending",
			"host %s did not confirm the end of sandbox %s, which ends as soon as the host answers", row.HostID, row.ID)
	}
	_, _, err = l.rows.move(ctx, Move{
		Ref: row.Ref(), From: sandbox.Stopping, To: sandbox.Stopped, StopReason: sandbox.ReasonDestroyed,
	})
	return err
}

// transition is a pause or a resume. The row moves from the state from to via,
// stays there while the host works, and then moves to the state to.
type transition struct {
	from, via, to sandbox.State
	timeout       time.Duration
	// prepare, unless nil, is called before command. If it fails, so does the transition.
	prepare func(context.Context, Host, Sandbox) error
	command func(Host, context.Context, sandbox.Ref) (ObservedSandbox, error)
}

// Pause implements Sandboxes.
func (l *lifecycle) Pause(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	return l.pauseBy(ctx, id, Host.Pause)
}

// ForcePause implements Sandboxes.
func (l *lifecycle) ForcePause(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	return l.pauseBy(ctx, id, Host.ForcePause)
}

// PauseDisk implements Sandboxes.
func (l *lifecycle) PauseDisk(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	return l.pauseBy(ctx, id, Host.PauseDisk)
}

func (l *lifecycle) pauseBy(ctx context.Context, id sandbox.ID, command func(Host, context.Context, sandbox.Ref) (ObservedSandbox, error)) (Sandbox, error) {
	return l.runTransition(ctx, id, transition{
		from: sandbox.Running, via: sandbox.Pausing, to: sandbox.Paused,
		timeout: l.cfg.PauseTimeout, command: command,
	})
}

// Resume implements Sandboxes. The new incarnation takes the capacity that the
// pause gave back; NoCapacity leaves the sandbox paused.
func (l *lifecycle) Resume(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	return l.runTransition(ctx, id, l.resumption(Host.Resume))
}

// Reboot implements Sandboxes.
func (l *lifecycle) Reboot(ctx context.Context, id sandbox.ID) (Sandbox, error) {
	return l.runTransition(ctx, id, l.resumption(Host.Reboot))
}

// resumption returns the transition in which command resumes a sandbox.
func (l *lifecycle) resumption(command func(Host, context.Context, sandbox.Ref) (ObservedSandbox, error)) transition {
	return transition{
		from: sandbox.Paused, via: sandbox.Resuming, to: sandbox.Running,
		timeout: l.cfg.ResumeTimeout, prepare: l.limits.confirm, command: command,
	}
}
