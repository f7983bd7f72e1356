package host

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Reasons for which a lease is refused or cut. They are part of the API.
const (
	reasonNotRunning = "sandbox_not_running"
	reasonPaused     = "sandbox_paused"
	reasonStopped    = "sandbox_stopped"
)

// lease is the right to use a running guest. It does not keep the guest
// running: when the sandbox pauses or ends, ctx is cancelled with a fault as
// its cause.
type lease struct {
	m      *machine
	guest  *guestclient.Client
	ctx    context.Context
	cancel context.CancelCauseFunc
	begun  time.Time
	use    use
	// moved is when the transfer last moved bytes, in nanoseconds after begun.
	moved atomic.Int64
}

// use is the purpose of a lease.
type use int

const (
	// useCommand is activity for as long as it lasts.
	useCommand use = iota
	// useTransfer is activity whenever bytes move.
	useTransfer
	// useFollow is activity for as long as it lasts. A pause ends it at once, because
	// it can be begun again where it has ended.
	useFollow
	// useInput is useCommand for input that waits until a process reads it.
	useInput
	// usePort is activity whenever bytes move. A pause does not wait for it while
	// none do.
	usePort
	// usePassivePort is never activity, and a pause does not wait for it.
	usePassivePort
	// usePassiveCall is useCommand that is never activity. A pause ends it at once.
	usePassiveCall
)

// acquire borrows the guest of m for one command, transfer or connection.
func (m *machine) acquire(ctx context.Context, ref sandbox.Ref, purpose use) (*lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ref.Generation != m.view.Ref.Generation {
		return nil, errStale(ref, m.view.Ref)
	}
	guest := m.lentGuestLocked()
	switch {
	case m.view.State == sandbox.Stopping || m.view.State == sandbox.Stopped:
		return nil, errEnded(m.view.StopReason)
	case guest == nil && m.view.State == sandbox.Running:
		return nil, fault.New(fault.WrongState, reasonNotRunning, "the host agent has not taken the sandbox over yet; try again in a moment")
	case guest == nil:
		return nil, fault.New(fault.WrongState, reasonNotRunning, "sandbox %s is %s, not running", m.view.Ref.ID, m.view.State.Status())
	case m.diskFull: // before the silence that it causes
		return nil, errDiskFull()
	case m.health.renewDue:
		return nil, fault.New(fault.Unavailable, reasonUnresponsive,
			"the sandbox's guest has not answered since its last start, and cannot be used until it does; nothing was begun: try again later")
	}
	if err := m.roomForLocked(purpose); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	l := &lease{m: m, guest: guest, ctx: ctx, cancel: cancel, begun: time.Now(), use: purpose}
	m.leases[l] = struct{}{}
	return l, nil
}

// roomForLocked returns an error if there may be no further lease for the purpose. mu
// must be held.
func (m *machine) roomForLocked(purpose use) error {
	switch purpose {
	case usePort, usePassivePort:
		return m.portsLocked()
	case useFollow:
		return m.followersLocked()
	case useInput:
		return m.inputsLocked()
	}
	return nil
}

// touch records that the transfer has moved bytes.
func (l *lease) touch() { l.moved.Store(int64(time.Since(l.begun))) }

// activeAt is when the lease was last activity, and zero if it never is.
func (l *lease) activeAt() time.Time {
	switch l.use {
	case useCommand, useFollow, useInput:
		return time.Now()
	case usePassivePort, usePassiveCall:
		return time.Time{}
	}
	return l.begun.Add(time.Duration(l.moved.Load()))
}

// release ends the lease.
func (l *lease) release() {
	m := l.m
	l.cancel(nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.leases, l)
	if at := l.activeAt(); at.After(m.lastActive) {
		m.lastActive = at
	}
	if len(m.leases) == 0 && m.drained != nil {
		close(m.drained)
		m.drained = nil
	}
}

// err prefers the reason for which the lease was cut to the broken connection
// that the cut looks like.
func (l *lease) err(err error) error {
	if err == nil {
		return nil
	}
	if l.cut() {
		return context.Cause(l.ctx)
	}
	return err
}

// cut reports whether the sandbox, not the caller, ended the lease.
func (l *lease) cut() bool {
	cause := context.Cause(l.ctx)
	return cause != nil && (fault.Is(cause, fault.WrongState) || fault.ReasonOf(cause) == reasonUnresponsive)
}

// openGate lets leases on the guest be taken.
func (m *machine) openGate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gateOpen = true
	m.lastActive = time.Now()
	m.health.since, m.health.renewDue = time.Time{}, false
}

// shutGate refuses new leases. The caller knows that none is open.
func (m *machine) shutGate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gateOpen = false
}

// lentGuestLocked returns the guest if leases on it may be taken, and nil while
// the gate is closed. mu must be held.
func (m *machine) lentGuestLocked() *guestclient.Client {
	if !m.gateOpen {
		return nil
	}
	return m.Guest()
}

// cutGrace is how long a lease that was cut may take to go away. Its holder may
// be stuck in handing output to a caller who does not read.
const cutGrace = 2 * time.Second

// closeGate refuses new leases, cuts connections on which nothing moves and readers of
// processes, waits for
// the other open leases up to grace, then cuts the rest with cause. A lease that does not go away even then is left behind:
// its connection to the guest is about to break.
func (m *machine) closeGate(ctx context.Context, grace time.Duration, cause error) {
	m.mu.Lock()
	m.gateOpen = false
	if len(m.leases) == 0 {
		m.mu.Unlock()
		return
	}
	drained := make(chan struct{})
	m.drained = drained
	for l := range m.leases {
		if l.quiet() {
			l.cancel(cause)
		}
	}
	m.mu.Unlock()

	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-drained:
		return
	case <-timer.C:
	case <-ctx.Done():
	}
	m.mu.Lock()
	for l := range m.leases {
		l.cancel(cause)
	}
	m.mu.Unlock()
	timer.Reset(cutGrace)
	select {
	case <-drained:
	case <-timer.C:
	}
}

// lastActiveLocked is now while a command runs. mu must be held.
func (m *machine) lastActiveLocked() time.Time {
	last := m.lastActive
	for l := range m.leases {
		if at := l.activeAt(); at.After(last) {
			last = at
		}
	}
	return last
}

func errStale(got, known sandbox.Ref) error {
	return fault.New(fault.Stale, "stale_generation",
		"the request is for generation %d of the sandbox, which is at generation %d: read it again", known.Generation, got.Generation)
}
