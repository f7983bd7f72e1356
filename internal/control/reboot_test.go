package control_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestPauseWithoutMemory: the row says that a pause has no memory, use does not resume the
// sandbox, and Reboot asks its host for a boot.
func TestPauseWithoutMemory(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{AutoResume: true})
	row, err := b.PauseDisk(t.Context(), row.ID)
	if err != nil || row.State != sandbox.Paused || !row.DiskOnly {
		t.Fatalf("pause without memory: %s, disk only %t, %v", row.State, row.DiskOnly, err)
	}
	if row, err = b.Get(t.Context(), row.ID); err != nil || !row.DiskOnly {
		t.Errorf("a read after it: disk only %t, %v; want true", row.DiskOnly, err)
	}
	_, err = b.Exec(t.Context(), row.ID, control.Exec{Cmd: "true"}, nil)
	if !fault.Is(err, fault.WrongState) {
		t.Errorf("exec without memory: %v, want a wrong state: use must not boot the sandbox", err)
	}
	row, err = b.Reboot(t.Context(), row.ID)
	if err != nil || row.State != sandbox.Running || row.DiskOnly {
		t.Fatalf("reboot: %s, disk only %t, %v", row.State, row.DiskOnly, err)
	}
	if b.host.reboots != 1 {
		t.Errorf("the host was asked for %d boots, want 1", b.host.reboots)
	}
	if row, err = b.Pause(t.Context(), row.ID); err != nil || row.DiskOnly {
		t.Errorf("a full pause: disk only %t, %v; want false", row.DiskOnly, err)
	}
}

// TestRefusalsOfPausesWithoutMemory: callers get the host's refusals as conflicts that they
// can end, and the sandbox stays as it was. Another refusal is a failure of the host.
func TestRefusalsOfPausesWithoutMemory(t *testing.T) {
	large := fault.New(fault.WrongState, "disk_too_large", "too large")
	without := fault.New(fault.WrongState, "paused_without_memory", "no memory")
	pause := func(b *bundle, id sandbox.ID) error { _, err := b.PauseDisk(t.Context(), id); return err }
	reboot := func(b *bundle, id sandbox.ID) error { _, err := b.Reboot(t.Context(), id); return err }
	snapshot := func(b *bundle, id sandbox.ID) error {
		_, err := b.CreateSnapshot(t.Context(), id, control.NewSnapshot{})
		return err
	}
	for name, c := range map[string]struct {
		command string
		paused  bool
		act     func(*bundle, sandbox.ID) error
		refusal *fault.Error
		want    fault.Kind
	}{
		"pause":    {"pause", false, pause, large, fault.WrongState},
		"reboot":   {"resume", true, reboot, large, fault.WrongState},
		"snapshot": {"snapshot", true, snapshot, without, fault.WrongState},
		"other":    {"pause", false, pause, fault.New(fault.WrongState, "other", "other"), fault.HostFailed},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			row, state := b.createWith(sandbox.Spec{}), sandbox.Running
			if c.paused {
				if err := pause(b, row.ID); err != nil {
					t.Fatal(err)
				}
				state = sandbox.Paused
			}
			b.host.script(true, c.command, refuse(c.refusal))
			if err := c.act(b, row.ID); !fault.Is(err, c.want) || fault.ReasonOf(err) != c.refusal.Reason {
				t.Errorf("the host refuses with %v, the caller got %v; want %v %s", c.refusal, err, c.want, c.refusal.Reason)
			}
			if row, err := b.Get(t.Context(), row.ID); err != nil || row.State != state {
				t.Errorf("after the refusal it is %s, %v; want %s", row.State, err, state)
			}
		})
	}
}

// TestPauseWithoutMemoryIsNeverIgnored: a sandbox that is to be paused without memory is not
// created on a host that would keep the memory.
func TestPauseWithoutMemoryIsNeverIgnored(t *testing.T) {
	b := setup(t)
	spec := sandbox.Spec{PauseDiskOnly: true, OnTimeout: sandbox.TimeoutPause}
	b.createWith(spec)
	b.host.keepsMemory = true
	_, err := b.Create(t.Context(), control.NewSandbox{Spec: request(spec)})
	if fault.ReasonOf(err) != "disk_pause_unsupported" || !fault.Is(err, fault.Unsupported) {
		t.Errorf("create on a host that ignores it: %v, want unsupported disk_pause_unsupported", err)
	}
	if n := b.host.count["destroy"]; n != 1 {
		t.Errorf("%d sandboxes were destroyed, want 1", n)
	}
}

// TestUseAfterRestart: a control plane that has just started, and has not heard of its
// hosts, does not boot a sandbox for its use.
func TestUseAfterRestart(t *testing.T) {
	b := setup(t)
	row := b.createWith(sandbox.Spec{AutoResume: true})
	if _, err := b.PauseDisk(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	next, err := control.New(control.DefaultConfig(), b.store, newFakeFleet(b.host), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, err = next.Exec(t.Context(), row.ID, control.Exec{Cmd: "true"}, sink{new(bytes.Buffer)})
	if !fault.Is(err, fault.WrongState) {
		t.Errorf("exec: %v, want a wrong state", err)
	}
	if now, err := next.Get(t.Context(), row.ID); err != nil || now.State != sandbox.Paused || b.host.has(row.ID) != control.VMPaused {
		t.Errorf("afterwards the row is %s, the VM %s, %v; want both paused", now.State, b.host.has(row.ID), err)
	}
	if row, err = next.Resume(t.Context(), row.ID); err != nil || row.State != sandbox.Running {
		t.Errorf("resume: %s, %v", row.State, err)
	}
}
