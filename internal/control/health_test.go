package control_test

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestSilentGuest: an operation that needs the guest's answer is 503 and changes
// nothing; with force it works.
func TestSilentGuest(t *testing.T) {
	b := setup(t)
	row := b.create()
	b.host.script(true, "pause", silent)
	b.host.script(true, "snapshot", silent)
	_, err := b.Pause(t.Context(), row.ID)
	wantFault(t, err, fault.Unavailable, "guest_unresponsive")
	b.want(row.ID, sandbox.Running, "", control.VMRunning)
	_, err = b.CreateSnapshot(t.Context(), row.ID, control.NewSnapshot{})
	wantFault(t, err, fault.Unavailable, "guest_unresponsive")
	_, err = b.Fork(t.Context(), row.ID, control.Fork{Count: 1})
	wantFault(t, err, fault.Unavailable, "guest_unresponsive")
	if list, _, err := b.ListSnapshots(t.Context(), control.SnapshotFilter{}); err != nil || len(list) != 0 {
		t.Fatalf("refused snapshots left %+v, %v", list, err)
	}
	if _, err := b.CreateSnapshot(t.Context(), row.ID, control.NewSnapshot{Force: true}); err != nil {
		t.Fatalf("forced snapshot: %v", err)
	}
	if _, err := b.Fork(t.Context(), row.ID, control.Fork{Count: 1, Force: true}); err != nil {
		t.Fatalf("forced fork: %v", err)
	}
	if row, err = b.ForcePause(t.Context(), row.ID); err != nil || row.State != sandbox.Paused {
		t.Fatalf("forced pause: %s, %v", row.State, err)
	}
}

// TestHealthIsShown: a read shows the health that the host reported, for the state
// and incarnation that the report was about.
func TestHealthIsShown(t *testing.T) {
	b := setup(t)
	row := b.create()
	ill := sandbox.Health{State: sandbox.HealthUnresponsive, Since: time.Now()}
	say := func(h sandbox.Health) {
		b.host.mu.Lock()
		b.host.vms[row.ID].Health = h
		b.host.mu.Unlock()
		b.reconcile()
	}
	read := func() sandbox.Health {
		t.Helper()
		got, err := b.Get(t.Context(), row.ID)
		if err != nil {
			t.Fatal(err)
		}
		list, _, err := b.List(t.Context(), control.Filter{})
		if err != nil || len(list) != 1 || list[0].Health != got.Health {
			t.Fatalf("the list says %+v, %v; the detail %+v", list, err, got.Health)
		}
		return got.Health
	}
	say(ill)
	if got := read(); got != ill {
		t.Fatalf("health is %+v, want %+v", got, ill)
	}
	if _, err := b.ForcePause(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	forced := sandbox.Health{State: sandbox.HealthUnresponsive, Since: ill.Since, Forced: true}
	say(forced)
	if got := read(); got != forced {
		t.Fatalf("paused by force its health is %+v, want %+v", got, forced)
	}
	ok := sandbox.Health{State: sandbox.HealthOK}
	b.host.mu.Lock()
	b.host.vms[row.ID].Health = ok
	b.host.mu.Unlock()
	back, err := b.Resume(t.Context(), row.ID)
	if err != nil || back.Health != ok {
		t.Fatalf("resumed its health is %+v, %v; want %+v", back.Health, err, ok)
	}
	if err := b.Destroy(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(t.Context(), row.ID); err != nil || got.Health != (sandbox.Health{}) {
		t.Fatalf("ended its health is %+v, %v; want none", got.Health, err)
	}
}
