package control_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestWorkThatAPauseCuts: a command that ran when the pause came is told
// sandbox_paused, by no use sandbox_not_running, which would invite a repetition.
func TestWorkThatAPauseCuts(t *testing.T) {
	b := setup(t)
	for name, use := range b.uses() {
		for _, autoResume := range []bool{false, true} {
			row := b.createWith(sandbox.Spec{AutoResume: autoResume})
			b.host.script(true, name, func(context.Context, sandbox.Ref) error {
				b.host.put(control.ObservedSandbox{Ref: row.Ref(), Spec: row.Spec, State: control.VMPaused})
				return fault.New(fault.WrongState, "sandbox_paused", "paused while it ran")
			})
			before := b.host.count[name]
			wantFault(t, use(row.ID), fault.WrongState, "sandbox_paused")
			if got := b.host.count[name]; got != before {
				t.Errorf("%s, auto_resume %t: the work was begun again", name, autoResume)
			}
			b.host.script(true, name, nil)
			b.want(row.ID, sandbox.Paused, "", control.VMPaused)
		}
	}
}

// TestUseOfAnOlderIncarnation: a pause and a resume come between the read of
// the row and the command, which the host then refuses as stale.
func TestUseOfAnOlderIncarnation(t *testing.T) {
	b := setup(t)
	for name, use := range b.uses() {
		row := b.create()
		b.host.script(true, name, func(context.Context, sandbox.Ref) error {
			b.host.script(true, name, nil)
			if _, err := b.Pause(t.Context(), row.ID); err != nil {
				t.Error(err)
			}
			_, err := b.Resume(t.Context(), row.ID)
			return err
		})
		if err := use(row.ID); err != nil {
			t.Errorf("%s across a pause and a resume: %v, want it done", name, err)
		}
		b.want(row.ID, sandbox.Running, "", control.VMRunning)
		if err := b.Destroy(t.Context(), row.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEndedHasOneCode: the caller of any work that the sandbox's end broke gets
// sandbox_ended, in whichever words the host reports it.
func TestEndedHasOneCode(t *testing.T) {
	for name, answer := range map[string]error{
		"stopped":   fault.New(fault.WrongState, "sandbox_stopped", "the sandbox is being destroyed"),
		"not found": fault.New(fault.NotFound, control.ReasonSandboxNotFound, "no such sandbox"),
		"closed":    fault.New(fault.WrongState, control.ReasonNotRunning, "the sandbox is stopped"),
		"broken":    fault.New(fault.HostFailed, "unreachable", "the connection broke"),
		"lost":      control.MarkUnknown(fault.New(fault.HostFailed, "unreachable", "connection reset")),
		"timeout":   control.MarkUnknown(fault.New(fault.Timeout, "timeout", "it took too long")),
	} {
		t.Run(name, func(t *testing.T) { endedHasOneCode(t, name, answer) })
	}
}

func endedHasOneCode(t *testing.T, name string, answer error) {
	b := setup(t)
	for use, do := range b.uses() {
		row := b.createWith(sandbox.Spec{AutoResume: true})
		b.host.script(true, use, func(context.Context, sandbox.Ref) error {
			if err := b.Destroy(t.Context(), row.ID); err != nil {
				t.Error(err)
			}
			return answer
		})
		if err := do(row.ID); fault.ReasonOf(err) != control.ReasonEnded || !fault.Is(err, fault.WrongState) {
			t.Errorf("%s, host answers %s: %v, want sandbox_ended", use, name, err)
		}
		b.host.script(true, use, nil)
	}
	row := b.create()
	snapshots := map[string]func() error{
		"snapshot": func() error {
			_, err := b.CreateSnapshot(t.Context(), row.ID, control.NewSnapshot{})
			return err
		},
		"fork": func() error {
			_, err := b.Fork(t.Context(), row.ID, control.Fork{Count: 1})
			return err
		},
	}
	for use, do := range snapshots {
		row = b.create()
		b.host.script(true, "snapshot", func(context.Context, sandbox.Ref) error {
			_ = b.Destroy(t.Context(), row.ID)
			return answer
		})
		if err := do(); name != "lost" && name != "timeout" && fault.ReasonOf(err) != control.ReasonEnded {
			t.Errorf("%s, host answers %s: %v, want sandbox_ended", use, name, err)
		}
	}
}

// TestDestroyDuringTransition: a pause or a resume that a destroy overtakes gets
// 409, for every answer of the host.
func TestDestroyDuringTransition(t *testing.T) {
	for _, op := range []string{"pause", "resume"} {
		for name, answer := range map[string]error{
			"stopped": fault.New(fault.WrongState, "sandbox_stopped", "the sandbox is being destroyed"),
			"failed":  fault.New(fault.HostFailed, "guest_lost", "it did not come back"),
			"lost":    control.MarkUnknown(fault.New(fault.HostFailed, "unreachable", "connection reset")),
		} {
			t.Run(op+" "+name, func(t *testing.T) { destroyDuring(t, op, answer) })
		}
	}
}

func destroyDuring(t *testing.T, op string, answer error) {
	b := setup(t)
	row := b.create()
	do := func() error { _, err := b.Pause(t.Context(), row.ID); return err }
	if op == "resume" {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		do = func() error { _, err := b.Resume(t.Context(), row.ID); return err }
	}
	destroying, gone := newGate(), make(chan error, 1)
	b.host.script(true, "destroy", destroying.wait)
	b.host.script(true, op, func(context.Context, sandbox.Ref) error {
		go func() { gone <- b.Destroy(t.Context(), row.ID) }()
		<-destroying.entered // the row is stopping, the host still has the VM
		return answer
	})
	wantFault(t, do(), fault.WrongState, "sandbox_ended")
	close(destroying.open)
	if err := <-gone; err != nil {
		t.Errorf("destroy during the %s: %v", op, err)
	}
	b.want(row.ID, sandbox.Stopped, sandbox.ReasonDestroyed, "")
}

// TestStreamThatAPauseCuts: output from before the cut has arrived.
func TestStreamThatAPauseCuts(t *testing.T) {
	b := setup(t)
	row := b.create()
	b.host.script(false, "exec", refuse(fault.New(fault.WrongState, "sandbox_paused", "paused while it ran")))
	_, err := b.Exec(t.Context(), row.ID, control.Exec{Cmd: "x"}, sink{new(bytes.Buffer)})
	wantFault(t, err, fault.WrongState, "sandbox_paused")
}
