package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// Destroy ends a sandbox in any state and returns when nothing of it is left.
// An id that is not known succeeds.
func (m *Manager) Destroy(ctx context.Context, ref sandbox.Ref, reason sandbox.StopReason) error {
	mc, err := m.find(ref.ID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if reason == "" {
		reason = sandbox.ReasonDestroyed
	}
	err = mc.askDestroy(ctx, request{op: journal.OpDestroy, ref: ref, reason: reason})
	if errors.Is(err, errMachineGone) {
		return nil
	}
	return err
}

// Pause writes a running sandbox to disk and ends its VM. If the guest does not
// answer, Pause fails with Unavailable guest_unresponsive and the sandbox keeps
// running.
func (m *Manager) Pause(ctx context.Context, ref sandbox.Ref) (Sandbox, error) {
	return m.lifecycle(ctx, request{op: journal.OpPause, ref: ref})
}

// ForcePause is Pause, but a guest that does not answer is paused without its
// help: its processes are not frozen first, and it is renewed after the resume
// as soon as it answers.
func (m *Manager) ForcePause(ctx context.Context, ref sandbox.Ref) (Sandbox, error) {
	return m.lifecycle(ctx, request{op: journal.OpPause, ref: ref, force: true})
}

// PauseDisk is Pause without memory: only the disk is kept, and the next resume is a
// Reboot. It needs a guest that answers.
func (m *Manager) PauseDisk(ctx context.Context, ref sandbox.Ref) (Sandbox, error) {
	return m.lifecycle(ctx, request{op: journal.OpPause, ref: ref, diskOnly: true})
}

// Reboot is Resume, but a new VM boots from the disk of the pause. The processes of before
// have ended. If it fails, the sandbox is still paused.
func (m *Manager) Reboot(ctx context.Context, ref sandbox.Ref) (Sandbox, error) {
	return m.lifecycle(ctx, request{op: journal.OpResume, ref: ref, reboot: true})
}

// ResumeForUse is Resume for somebody who uses the sandbox and may not know how it was
// paused. After a PauseDisk it fails with WrongState paused_without_memory.
func (m *Manager) ResumeForUse(ctx context.Context, ref sandbox.Ref) (Sandbox, error) {
	return m.lifecycle(ctx, request{op: journal.OpResume, ref: ref, use: true})
}

// Resume brings a paused sandbox back as the generation of ref. After a PauseDisk it boots
// as with Reboot. If it cannot, and the driver has saved the memory all the same, it
// resumes with the memory.
func (m *Manager) Resume(ctx context.Context, ref sandbox.Ref) (Sandbox, error) {
	return m.lifecycle(ctx, request{op: journal.OpResume, ref: ref})
}

func (m *Manager) lifecycle(ctx context.Context, r request) (Sandbox, error) {
	mc, err := m.find(r.ref.ID)
	if err != nil {
		return Sandbox{}, err
	}
	if err := mc.ask(ctx, r); err != nil {
		return Sandbox{}, err
	}
	return mc.snapshotView(), nil
}

// Get returns one sandbox of this host, in any state. An unknown id is
// NotFound sandbox_not_found.
func (m *Manager) Get(id sandbox.ID) (Sandbox, error) {
	mc, err := m.find(id)
	if err != nil {
		return Sandbox{}, err
	}
	return mc.snapshotView(), nil
}

// List returns every sandbox of this host, in any state, in no order.
func (m *Manager) List() []Sandbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Sandbox, 0, len(m.machines))
	for _, mc := range m.machines {
		out = append(out, mc.snapshotView())
	}
	return out
}

// Subscribe returns every change from now on, until cancel is called. The
// channel is closed when the subscriber has fallen behind.
func (m *Manager) Subscribe() (changes <-chan Sandbox, cancel func()) { return m.events.subscribe() }

// Drain refuses new sandboxes from now on and pauses every running one.
// paused is called once for each, one at a time, with nil or the error.
func (m *Manager) Drain(ctx context.Context, paused func(sandbox.Ref, error)) error {
	m.mu.Lock()
	m.draining = true
	m.mu.Unlock()
	m.emptyPools(ctx, false)
	var errs []error
	for _, s := range m.List() {
		if s.State != sandbox.Running && s.State != sandbox.Pausing && s.State != sandbox.Pending && s.State != sandbox.Resuming {
			continue
		}
		_, err := m.ForcePause(ctx, s.Ref) // pauses a guest that hangs as well
		if fault.Is(err, fault.WrongState) || fault.Is(err, fault.NotFound) {
			err = nil // it ended by itself meanwhile
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("pause %s: %w", s.Ref.ID, err))
		}
		paused(s.Ref, err)
	}
	return errors.Join(errs...)
}

// Done is closed when the manager stops, for streams that would outlive it.
func (m *Manager) Done() <-chan struct{} { return m.life.Done() }
