package host

import (
	"context"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// MaxAttached is the number of readers of processes of one sandbox that may be attached
// through the host agent at once. It includes waits for the end of a process, and watches
// of directories.
const MaxAttached = 256

// MaxInputs is the number of inputs to processes of one sandbox, of at most 1 MiB each,
// that may wait at once until they are read.
const MaxInputs = 32

// CallProcess does one operation on the processes of a guest. A pause ends a wait at
// once, and lets input that a process does not read end by itself for a moment.
func (m *Manager) CallProcess(ctx context.Context, ref sandbox.Ref, call *guestv1.ProcessCall) (*guestv1.ProcessAnswer, error) {
	mc, err := m.find(ref.ID)
	if err != nil {
		return nil, err
	}
	purpose := useCommand
	switch {
	case call.GetGet().GetWaitMs() > 0:
		purpose = useFollow
	case call.GetInput() != nil:
		purpose = useInput
	case call.GetList().GetPassive():
		purpose = usePassiveCall
	}
	l, err := mc.acquire(ctx, ref, purpose)
	if err != nil {
		return nil, err
	}
	defer l.release()
	ctx = l.ctx
	if purpose == useCommand || purpose == usePassiveCall {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(l.ctx, m.cfg.GuestTimeout, errNoAnswer)
		defer cancel()
	}
	answer, err := l.guest.CallProcess(ctx, call)
	return mc.withEnded(call, answer, l.err(err))
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
	stop := l.endWithHost(m.life)
	defer stop()
	a, err := l.guest.Attach(l.ctx, call)
	if err != nil {
		return mc.attachEnded(call.GetId(), l.err(err), send)
	}
	defer a.Close()
	return mc.attachEnded(call.GetId(), l.err(a.Each(send)), send)
}

// followersLocked returns an error if no further reader may be attached. mu must be
// held.
func (m *machine) followersLocked() error {
	attached := m.leasesLocked(useFollow)
	if attached >= MaxAttached {
		return fault.New(fault.Quota, "too_many_readers",
			"%d readers are attached to processes and directories of sandbox %s; end some, or try again later", attached, m.view.Ref.ID)
	}
	return nil
}

// inputsLocked returns an error if no further input may wait. mu must be held.
func (m *machine) inputsLocked() error {
	if waiting := m.leasesLocked(useInput); waiting >= MaxInputs {
		return fault.New(fault.Quota, "too_many_inputs",
			"%d inputs wait until processes of sandbox %s read them; wait for their answers before you send more", waiting, m.view.Ref.ID)
	}
	return nil
}

// leasesLocked returns the number of leases for a purpose. mu must be held.
func (m *machine) leasesLocked(purpose use) (n int) {
	for l := range m.leases {
		if l.use == purpose {
			n++
		}
	}
	return n
}
