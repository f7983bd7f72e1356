package control_test

import (
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
