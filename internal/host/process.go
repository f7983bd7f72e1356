package host

import (
	"context"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// MaxAttached is the number of readers of processes of one sandbox that may be attached
// through the host agent at once. It includes waits for the end of a process.
const MaxAttached = 256

// CallProcess does one operation on the processes of a guest. A pause ends a wait at
// once, and lets input that a process does not read end by itself for a moment.
func (m *Manager) CallProcess(ctx context.Context, ref sandbox.Ref, call *guestv1.ProcessCall) (*guestv1.ProcessAnswer, error) {
	mc, err := m.find(ref.ID)
	if err != nil {
		return nil, err
	}
	waits := call.GetGet().GetWaitMs() > 0
	purpose := useCommand
	if waits {
		purpose = useFollow
	}
	l, err := mc.acquire(ctx, ref, purpose)
	if err != nil {
		return nil, err
	}
	defer l.release()
	ctx = l.ctx
	if !waits && call.GetInput() == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(l.ctx, m.cfg.GuestTimeout, errNoAnswer)
		defer cancel()
	}
	answer, err := l.guest.CallProcess(ctx, call)
	return answer, l.err(err)
}

// errNoAnswer is the failure of an operation that the guest does not answer.
var errNoAnswer = fault.New(fault.Timeout, reasonUnresponsive, "the sandbox does not answer; the operation may have taken effect")

// AttachProcess hands the output of a process to send until the process has ended. A
// pause ends it at once with WrongState sandbox_paused; so does the sandbox's end, with
// its reason. The process continues when the caller goes away.
func (m *Manager) AttachProcess(ctx context.Context, ref sandbox.Ref, call *guestv1.AttachCall, send func(*guestv1.AttachEvent) error) error {
	mc, err := m.find(ref.ID)
	if err != nil {
		return err
	}
	l, err := mc.acquire(ctx, ref, useFollow)
	if err != nil {
		return err
	}
	defer l.release()
	stop := context.AfterFunc(m.life, func() {
		l.cancel(fault.New(fault.HostFailed, "host_stopping", "the host agent is stopping"))
	})
	defer stop()
	a, err := l.guest.Attach(l.ctx, call)
	if err != nil {
		return l.err(err)
	}
	defer a.Close()
	return l.err(a.Each(send))
}

// followersLocked returns an error if no further reader may be attached. mu must be
// held.
func (m *machine) followersLocked() error {
	attached := 0
	for l := range m.leases {
		if l.use == useFollow {
			attached++
		}
	}
	if attached >= MaxAttached {
		return fault.New(fault.Quota, "too_many_readers",
			"%d readers are attached to processes of sandbox %s; end some, or try again later", attached, m.view.Ref.ID)
	}
	return nil
}
