package control_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestPauseResume(t *testing.T) {
	b := setup(t)
	row := b.create()
	row, err := b.Pause(t.Context(), row.ID)
	if err != nil || row.State != sandbox.Paused {
		t.Fatalf("%+v, %v", row, err)
	}
	_, err = b.Pause(t.Context(), row.ID)
	wantFault(t, err, fault.WrongState, "sandbox_not_running")
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
	row, err = b.Resume(t.Context(), row.ID)
	if err != nil || row.State != sandbox.Running || row.Generation != 2 {
		t.Fatalf("%+v, %v", row, err)
	}
	_, err = b.Resume(t.Context(), row.ID)
	wantFault(t, err, fault.WrongState, "sandbox_not_paused")
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
	b.reconcile()
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
}

func TestTwoPauses(t *testing.T) {
	b := setup(t)
	row := b.create()
	g := newGate()
	b.host.script(true, "pause", g.wait)
	first := make(chan error)
	go func() {
		_, err := b.Pause(t.Context(), row.ID)
		first <- err
	}()
	<-g.entered
	_, err := b.Pause(t.Context(), row.ID)
	wantFault(t, err, fault.WrongState, "sandbox_not_running")
	_, err = b.Exec(t.Context(), row.ID, control.Exec{Cmd: "x"}, sink{})
	wantFault(t, err, fault.WrongState, "sandbox_not_running")
	close(g.open)
	if err := <-first; err != nil {
		t.Error(err)
	}
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
}

// TestRefusedUseIsNoActivity: a request that gets 409 has not used the sandbox.
func TestRefusedUseIsNoActivity(t *testing.T) {
	b := setup(t)
	row := b.create()
	paused, err := b.Pause(t.Context(), row.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, use := range b.uses() {
		wantFault(t, use(row.ID), fault.WrongState, "sandbox_not_running")
	}
	if err := b.FlushActivity(t.Context()); err != nil || !b.only().LastActiveAt.Equal(*paused.LastActiveAt) {
		t.Errorf("%v: last active %v, want %v", err, b.only().LastActiveAt, paused.LastActiveAt)
	}
}

func TestPauseCallerGone(t *testing.T) {
	b := setup(t)
	row := b.create()
	ctx, cancel := context.WithCancel(t.Context())
	b.host.script(true, "pause", func(context.Context, sandbox.Ref) error { cancel(); return nil })
	if _, err := b.Pause(ctx, row.ID); err != nil {
		t.Error(err)
	}
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
}

func TestPauseFails(t *testing.T) {
	b := setup(t)
	row := b.create()
	b.host.script(true, "pause", refuse(fault.New(fault.HostFailed, "disk_full", "no space")))
	_, err := b.Pause(t.Context(), row.ID)
	wantFault(t, err, fault.HostFailed, "disk_full")
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
}

func TestPauseAnswerLost(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(map[bool]string{true: "request", false: "answer"}[before], func(t *testing.T) {
			b := setup(t)
			row := b.create()
			b.host.script(before, "pause", lost)
			_, err := b.Pause(t.Context(), row.ID)
			wantFault(t, err, fault.HostFailed, "outcome_unknown")
			b.reconcile()
			if before {
				b.want(row.ID, sandbox.Running, "", control.VMRunning)
			} else {
				b.want(row.ID, sandbox.Paused, "", control.VMPaused)
			}
		})
	}
}

func TestPauseOfLostVM(t *testing.T) {
	b := setup(t)
	row := b.create()
	b.host.forget(row.ID)
	_, err := b.Pause(t.Context(), row.ID)
	wantFault(t, err, fault.WrongState, "sandbox_ended")
	b.want(row.ID, sandbox.Stopped, sandbox.ReasonHostLost, "")
}

func TestResumeNoCapacity(t *testing.T) {
	b := setup(t)
	row := b.create()
	if _, err := b.Pause(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		b.create()
	}
	_, err := b.Resume(t.Context(), row.ID)
	wantFault(t, err, fault.NoCapacity, "no_capacity")
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
}

func TestResumeFails(t *testing.T) {
	b := setup(t)
	row := b.create()
	if _, err := b.Pause(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	b.host.script(true, "resume", refuse(fault.New(fault.NoCapacity, "host_draining", "draining")))
	_, err := b.Resume(t.Context(), row.ID)
	wantFault(t, err, fault.NoCapacity, "host_draining")
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
	b.reconcile() // the snapshot is of an older generation now, and stays
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
	b.host.script(true, "resume", nil)
	if row, err = b.Resume(t.Context(), row.ID); err != nil || row.Generation != 3 {
		t.Errorf("%+v, %v", row, err)
	}
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
}

func TestResumeCrashes(t *testing.T) {
	b := setup(t)
	row := b.create()
	if _, err := b.Pause(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	b.host.script(true, "resume", func(_ context.Context, ref sandbox.Ref) error {
		b.host.put(control.ObservedSandbox{Ref: ref, State: control.VMStopped, StopReason: sandbox.ReasonVMMCrash})
		return fault.New(fault.HostFailed, "resume_failed", "it did not come back")
	})
	_, err := b.Resume(t.Context(), row.ID)
	wantFault(t, err, fault.HostFailed, "resume_failed")
	b.want(row.ID, sandbox.Stopped, sandbox.ReasonVMMCrash, control.VMStopped)
}

func TestExecAndFiles(t *testing.T) {
	b := setup(t)
	row := b.create()
	var out bytes.Buffer
	res, err := b.Exec(t.Context(), row.ID, control.Exec{Cmd: "echo"}, sink{&out})
	if err != nil || res.ExitCode != 3 || out.String() != "echo" {
		t.Errorf("%+v, %v, %q", res, err, out.String())
	}
	if n, err := b.WriteFile(t.Context(), row.ID, control.WriteFile{Path: "/a"}, strings.NewReader("abc")); err != nil || n != 3 {
		t.Errorf("wrote %d, %v", n, err)
	}
	f, err := b.ReadFile(t.Context(), row.ID, control.ReadFile{Path: "/a"})
	if err != nil || f.Size != 2 {
		t.Errorf("%+v, %v", f, err)
	}
	_, err = b.ReadFile(t.Context(), row.ID, control.ReadFile{Path: "a"})
	wantFault(t, err, fault.Invalid, "invalid_path")
	_, err = b.Exec(t.Context(), "nosuch", control.Exec{}, sink{})
	wantFault(t, err, fault.NotFound, "sandbox_not_found")

	if got := b.only().LastActiveAt; !got.Equal(*row.StartedAt) {
		t.Error("activity cost an UPDATE at once")
	}
	if _, err := b.Exec(t.Context(), row.ID, control.Exec{Cmd: "again"}, sink{&out}); err != nil {
		t.Error(err)
	}
	if err := b.FlushActivity(t.Context()); err != nil || !b.only().LastActiveAt.After(*row.StartedAt) {
		t.Errorf("activity was not written: %v", err)
	}
}

// TestExecReconciles has the host know better than the row.
func TestExecReconciles(t *testing.T) {
	b := setup(t)
	drained, lostVM := b.create(), b.create()
	b.host.put(control.ObservedSandbox{Ref: drained.Ref(), State: control.VMPaused})
	b.host.forget(lostVM.ID)
	_, err := b.Exec(t.Context(), drained.ID, control.Exec{}, sink{})
	wantFault(t, err, fault.WrongState, "sandbox_not_running")
	b.want(drained.ID, sandbox.Paused, "", control.VMPaused)
	_, err = b.ReadFile(t.Context(), lostVM.ID, control.ReadFile{Path: "/x"})
	wantFault(t, err, fault.WrongState, "sandbox_ended")
	b.want(lostVM.ID, sandbox.Stopped, sandbox.ReasonHostLost, "")
}

func TestGuestErrorsPass(t *testing.T) {
	b := setup(t)
	row := b.create()
	for _, c := range []struct {
		host, want fault.Kind
	}{
		{fault.NotFound, fault.NotFound}, // a file
		{fault.Invalid, fault.Invalid},
		{fault.Timeout, fault.Timeout},
		{fault.Internal, fault.HostFailed},
		{fault.Unauthenticated, fault.HostFailed}, // our token, not the user's
	} {
		b.host.script(true, "read", refuse(fault.New(c.host, "reason", "public")))
		_, err := b.ReadFile(t.Context(), row.ID, control.ReadFile{Path: "/x"})
		wantFault(t, err, c.want, "reason")
	}
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
}

// TestResumeIsUse: the answer of a resume has a fresh time of last use, from which the
// idle clock counts.
func TestResumeIsUse(t *testing.T) {
	b := setup(t)
	row := b.create()
	if _, err := b.Pause(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	got, err := b.Resume(t.Context(), row.ID)
	if err != nil || got.LastActiveAt == nil || got.LastActiveAt.Before(before.Truncate(time.Microsecond)) {
		t.Errorf("resume: last active %v, %v; want not before %v", got.LastActiveAt, err, before)
	}
}
