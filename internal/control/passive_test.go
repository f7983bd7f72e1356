package control_test

import (
	"context"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestPassiveDialIsNoUse: a passive connection is no activity, whether the port answers or
// refuses.
func TestPassiveDialIsNoUse(t *testing.T) {
	b := setup(t)
	row := b.create()
	before := b.only().LastActiveAt
	conn, err := b.DialPort(t.Context(), row.ID, 80, control.Passive)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if _, err := b.DialPort(t.Context(), row.ID, refusedPort, control.Passive); fault.ReasonOf(err) != control.ReasonPortRefused {
		t.Errorf("a port on which nothing listens: %v, want port_refused", err)
	}
	if err := b.FlushActivity(t.Context()); err != nil || !b.only().LastActiveAt.Equal(*before) {
		t.Errorf("after passive connections: %v, last active %v, want still %v", err, b.only().LastActiveAt, before)
	}
	conn, err = b.DialPort(t.Context(), row.ID, 80)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := b.FlushActivity(t.Context()); err != nil || !b.only().LastActiveAt.After(*before) {
		t.Errorf("after a connection: %v, last active %v, want later than %v", err, b.only().LastActiveAt, before)
	}
}

// TestPassiveDialDoesNotResume: a passive connection leaves a sandbox with auto_resume
// paused, also if its row says that it runs because the host has just paused it.
func TestPassiveDialDoesNotResume(t *testing.T) {
	b := setup(t)
	row := b.pausedOne()
	if _, err := b.DialPort(t.Context(), row.ID, 80, control.Passive); !fault.Is(err, fault.WrongState) {
		t.Errorf("a paused sandbox: got %v, want wrong state", err)
	}
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
	if _, err := b.Resume(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	b.host.script(true, "dial", func(ctx context.Context, ref sandbox.Ref) error {
		_, err := b.host.Pause(ctx, ref)
		return err
	})
	if _, err := b.DialPort(t.Context(), row.ID, 80, control.Passive); !fault.Is(err, fault.WrongState) {
		t.Errorf("a sandbox that its host has paused: got %v, want wrong state", err)
	}
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
}

// TestPassiveListIsNoUse: a passive list of processes is no activity.
func TestPassiveListIsNoUse(t *testing.T) {
	b := setup(t)
	row := b.create()
	before := b.only().LastActiveAt
	if _, err := b.CallProcess(t.Context(), row.ID, control.ProcessList{Passive: true}); err != nil {
		t.Fatal(err)
	}
	if err := b.FlushActivity(t.Context()); err != nil || !b.only().LastActiveAt.Equal(*before) {
		t.Errorf("after a passive list: %v, last active %v, want still %v", err, b.only().LastActiveAt, before)
	}
	if _, err := b.CallProcess(t.Context(), row.ID, control.ProcessList{}); err != nil {
		t.Fatal(err)
	}
	if err := b.FlushActivity(t.Context()); err != nil || !b.only().LastActiveAt.After(*before) {
		t.Errorf("after a list: %v, last active %v, want later than %v", err, b.only().LastActiveAt, before)
	}
}

// TestPassiveListDoesNotResume is TestPassiveDialDoesNotResume for a list of processes.
func TestPassiveListDoesNotResume(t *testing.T) {
	b := setup(t)
	row := b.pausedOne()
	if _, err := b.CallProcess(t.Context(), row.ID, control.ProcessList{Passive: true}); !fault.Is(err, fault.WrongState) {
		t.Errorf("a paused sandbox: got %v, want wrong state", err)
	}
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
	if _, err := b.Resume(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	b.host.script(true, "process", func(ctx context.Context, ref sandbox.Ref) error {
		_, err := b.host.Pause(ctx, ref)
		return err
	})
	if _, err := b.CallProcess(t.Context(), row.ID, control.ProcessList{Passive: true}); !fault.Is(err, fault.WrongState) {
		t.Errorf("a sandbox that its host has paused: got %v, want wrong state", err)
	}
	b.want(row.ID, sandbox.Paused, "", control.VMPaused)
}
