package host

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// A VM whose guest does not answer is not dead: the guest's network may be down,
// its agent stopped, its kernel halted, or the VMM process stopped from outside.
// All of that can pass. The sandbox therefore stays running and reports that its
// guest is unresponsive; only the end of the VM process ends it.

// reasonUnresponsive is the reason for which work in a guest that does not
// answer is refused or cut. It is part of the API.
const reasonUnresponsive = "guest_unresponsive"

// health records whether the guest answers. machine.mu protects it.
type health struct {
	// since is when the guest was first found silent; zero while it answers.
	since time.Time
	// renewDue: the guest has to be renewed before it may be used, because it
	// may be sealed, or may still have the identity of a snapshot.
	renewDue bool
	// acting is true while an operation is under way, acts counts operations. A
	// probe that overlaps with one proves nothing, because the VM may have been stopped.
	acting bool
	acts   uint64
	// answered is when the guest answered the last probe, used when it last sent
	// anything else.
	answered, used time.Time
	// probing is true while a probe is under way; probed is when the last began.
	probing bool
	probed  time.Time
}

// errSilent refuses an operation that needs the guest's answer, before it begins.
func errSilent(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, reasonUnresponsive,
		"the sandbox's guest does not answer; nothing was changed: try again later, or pause, snapshot or fork with force to keep memory and disk without its help")
}

// errCut ends work in a guest that has fallen silent.
func errCut() error {
	return fault.New(fault.Timeout, reasonUnresponsive,
		"the sandbox's guest stopped answering, so the outcome of this call is not known and a command may still run; read the sandbox's health before you repeat it")
}

// callGuest waits until the guest answers, at most GuestTimeout. A guest that
// has to be renewed first is.
func (m *machine) callGuest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.GuestTimeout)
	defer cancel()
	ctx, stop := m.UntilExit(ctx)
	defer stop()
	begun := time.Now()
	err := m.Guest().Ping(ctx)
	if err == nil && m.renewalDue() {
		err = m.renewSilent(ctx)
	}
	if fault.ReasonOf(err) == reasonUnresponsive {
		m.markSilent(begun)
	}
	return causeOr(ctx, err)
}

// silentSince is since when the guest has not answered; now, if that is not
// known.
func (m *machine) silentSince() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.health.since.IsZero() {
		m.health.since = time.Now()
	}
	return m.health.since
}

func (m *machine) renewalDue() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.health.renewDue
}

// markSilent records that the guest has not answered since at least since.
func (m *machine) markSilent(since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.health.since.IsZero() {
		m.health.since = since
	}
	m.tellHealthLocked()
}

// tellHealthLocked brings the view up to date and tells subscribers if that
// changes it. mu must be held.
func (m *machine) tellHealthLocked() {
	now := m.healthLocked(m.view.State, m.view.Health.Forced)
	if now == m.view.Health || m.view.State != sandbox.Running {
		return
	}
	m.view.Health = now
	m.log.Info("the guest's health changed", "health", now.State, "since", now.Since)
	v := m.view
	v.Busy = m.busy()
	m.mgr.events.publish(v)
}

// healthLocked returns the health of a sandbox in state. mu must be held.
func (m *machine) healthLocked(state sandbox.State, forced bool) sandbox.Health {
	switch {
	case state != sandbox.Running && state != sandbox.Pausing && state != sandbox.Paused:
		return sandbox.Health{}
	case m.health.since.IsZero() || m.diskFull: // a guest that is stopped cannot answer
		return sandbox.Health{State: sandbox.HealthOK, Forced: forced}
	default:
		return sandbox.Health{State: sandbox.HealthUnresponsive, Since: m.health.since, Forced: forced}
	}
}

// commitSilentGuest is commitRunning for a sandbox whose VM runs and whose guest may
// not be usable. The guest is reconfigured as soon as it answers; until then
// commands and transfers are refused.
func (m *machine) commitSilentGuest(ctx context.Context, cause error) {
	m.log.WarnContext(ctx, "the sandbox continues although its guest does not answer", "error", cause)
	if m.Guest() == nil {
		m.SetGuest(m.NewGuest())
	}
	m.Guest().SetToken(m.rec.Token)
	m.rec.LastActive = time.Now()
	m.conclude(ctx, sandbox.Running)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gateOpen, m.lastActive = true, time.Now()
	m.health.renewDue = true
	if m.health.since.IsZero() {
		m.health.since = time.Now()
	}
}

// renewSilent makes a guest that answers again usable.
func (m *machine) renewSilent(ctx context.Context) error {
	if err := m.reconfigure(ctx); err != nil {
		return err
	}
	m.rec.Forced = false
	m.rec.SilentSince = time.Time{}
	m.mu.Lock()
	m.health.renewDue, m.health.since = false, time.Time{}
	m.mu.Unlock()
	if err := m.save(); err != nil {
		// The guest is usable all the same; the next agent renews it once more.
		m.log.WarnContext(ctx, "the renewal of a guest cannot be written to the journal, will try again", "error", err)
		m.unsaved = true
	}
	return nil
}

// renewLate is the operation that tries renewSilent on a running sandbox. The
// VM is told to run again first: an earlier command may have been lost.
func (m *machine) renewLate(life context.Context) error {
	if m.rec.State != sandbox.Running || !m.renewalDue() {
		return nil
	}
	ctx, done := m.interruptible(life)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, m.mgr.cfg.GuestTimeout)
	defer cancel()
	if err := m.VM.Resume(ctx); err != nil {
		return err
	}
	if err := m.callGuest(ctx); err != nil {
		return err
	}
	m.publish(sandbox.Running)
	return nil
}
