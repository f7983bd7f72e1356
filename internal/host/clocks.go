package host

import (
	"context"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// A sandbox has three clocks. That of a command runs in the guest, the only
// place that can end it. Those of the sandbox run here: the idle clock starts
// again with each use, the lifetime clock with each start (create, resume).
// Whichever runs out first has the sandbox destroyed or paused, as its spec
// says. A paused sandbox has no running clock.

// Timeouts is a change of a sandbox's clocks. Nil fields stay as they are.
type Timeouts struct {
	Idle *time.Duration
	// Lifetime counts from the change; zero takes the limit away.
	Lifetime  *time.Duration
	OnTimeout *sandbox.TimeoutAction
}

// SetTimeouts changes the clocks of a sandbox that has not ended.
func (m *Manager) SetTimeouts(ctx context.Context, ref sandbox.Ref, t Timeouts) (Sandbox, error) {
	return m.lifecycle(ctx, request{op: journal.OpTimeouts, ref: ref, timeouts: &t})
}

func (m *machine) setTimeouts(t *Timeouts) error {
	if m.rec.State == sandbox.Stopped {
		return fault.New(fault.WrongState, reasonStopped, "the sandbox has ended (%s)", m.rec.StopReason)
	}
	spec := m.rec.Spec
	if t.Idle != nil {
		spec.Timeout = *t.Idle
	}
	if t.Lifetime != nil {
		spec.Lifetime = *t.Lifetime
	}
	if t.OnTimeout != nil {
		spec.OnTimeout = *t.OnTimeout
	}
	if err := spec.Validate(); err != nil {
		return err
	}
	before := m.rec
	m.rec.Spec = spec
	if t.Lifetime != nil && m.rec.State == sandbox.Running {
		m.startLifetime()
	}
	// A paused sandbox is durable, and so are its clocks.
	save := m.save
	if m.rec.State == sandbox.Paused {
		save = m.savePause
	}
	if err := save(); err != nil {
		m.rec = before
		return err
	}
	m.publish(m.rec.State)
	return nil
}

// startLifetime lets the lifetime clock run from now.
func (b *body) startLifetime() {
	b.rec.LifetimeEnd = time.Time{}
	if d := b.rec.Spec.Lifetime; d > 0 {
		b.rec.LifetimeEnd = time.Now().Add(d)
	}
}

// expiry is when the first of the sandbox's clocks runs out, if none does
// before; ok is false when none runs.
func (m *machine) expiry() (at time.Time, ok bool) {
	if d := m.rec.Spec.Timeout; d > 0 {
		m.mu.Lock()
		at = m.lastActiveLocked().Add(d)
		m.mu.Unlock()
	}
	if end := m.rec.LifetimeEnd; !end.IsZero() && (at.IsZero() || end.Before(at)) {
		at = end
	}
	return at, !at.IsZero()
}

const (
	// teardownRetry is how long to wait before freeing is tried again.
	teardownRetry = 10 * time.Second
	// expiryRetry is how long to wait before a pause on timeout is tried again.
	expiryRetry = 30 * time.Second
)

// halfFreed reports whether a teardown has failed and is to be tried again.
func (b *body) halfFreed() bool {
	return b.rec.Op == journal.OpDestroy && b.rec.State != sandbox.Stopped
}

// alarm fires when a clock may have run out, or when a teardown that failed is
// to be tried again. It is nil, which never fires, when there is neither.
func (m *machine) alarm() (<-chan time.Time, func()) {
	wait := teardownRetry
	if !m.halfFreed() && !m.hasLeftover() {
		at, ok := m.expiry()
		if !ok || m.rec.State != sandbox.Running || m.VM == nil {
			return nil, func() {}
		}
		wait = max(time.Until(at), time.Until(m.notBefore), time.Millisecond)
	}
	timer := time.NewTimer(wait)
	return timer.C, func() { timer.Stop() }
}

// onAlarm is called when alarm has fired.
func (m *machine) onAlarm(ctx context.Context) {
	if m.halfFreed() {
		m.finish(ctx, m.rec.StopReason, m.rec.StopDetail)
		return
	}
	if m.hasLeftover() {
		if err := m.freeLeftover(ctx); err != nil {
			m.log.ErrorContext(ctx, "could not free a paused VM", "error", err, "retry", teardownRetry)
		} else if err := m.save(); err != nil {
			m.log.ErrorContext(ctx, "could not write the journal", "error", err)
		}
		return
	}
	at, ok := m.expiry()
	if !ok || time.Now().Before(at) {
		return
	}
	m.log.InfoContext(ctx, "sandbox timed out", "action", m.rec.Spec.OnTimeout)
	if m.rec.Spec.OnTimeout != sandbox.TimeoutPause {
		m.finish(ctx, sandbox.ReasonExpired, "")
		return
	}
	// A guest that hangs is paused without its help, and one that cannot be paused
	// without memory with it, because an expired clock has to free the host.
	err := m.pause(ctx, true, m.rec.Spec.PauseDiskOnly)
	if m.rec.Spec.PauseDiskOnly && m.keepsMemoryAfter(ctx, err) {
		m.log.WarnContext(ctx, "the memory of a sandbox that timed out is kept, because a pause without it failed", "error", err)
		err = m.pause(ctx, true, false)
	}
	if err != nil {
		m.log.ErrorContext(ctx, "could not pause a sandbox that timed out; it continues for now", "error", err, "retry", expiryRetry)
		m.notBefore = time.Now().Add(expiryRetry)
	}
}

// keepsMemoryAfter reports whether a full pause can follow a pause without memory that
// failed with err. It cannot where there is no space for a smaller one, or no VM any more.
func (m *machine) keepsMemoryAfter(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && !m.beingDestroyed() && !fault.Is(err, fault.NoCapacity) &&
		m.rec.State == sandbox.Running && m.VM != nil && !m.Ended()
}
