package host_test

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/gvisor"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestGVisorHostMemoryIsShort: a sandbox that the driver's guard holds, because the
// host's memory is short, is running with a full disk. Calls are refused with disk_full,
// and its silence is neither an end nor an unresponsive guest. It continues by itself
// when there is memory, in the place where it was held. A modest sandbox never waits.
// The floor of the second agent is more memory than any host has.
func TestGVisorHostMemoryIsShort(t *testing.T) {
	b := unopenedBench(t, sandbox.RuntimeGVisor, "wgvshort")
	withFloor := func(floorMB int) func() vmm.Driver {
		d := hosttest.GVisor(t, func(o *gvisor.Options) { o.MemoryFloorMB, o.DiskOvercommit = floorMB, 8 })
		return func() vmm.Driver { return d }
	}
	much, little := withFloor(0), withFloor(1<<30)
	b.driver = much
	b.open()
	t.Cleanup(b.end)
	modest, greedy := b.create(), b.create()
	b.sh(greedy, counter+"; dd if=/dev/zero of=/root/fill bs=1M count=490 2>/dev/null")
	b.close()

	b.driver = little
	b.open()
	b.awaitDiskFull(greedy, true)
	for what, call := range map[string]func() error{
		"a command": func() error { _, err := b.trySh(t.Context(), greedy, "true"); return err },
		"a pause":   func() error { _, err := b.Pause(t.Context(), greedy); return err },
	} {
		if err := call(); !fault.Is(err, fault.NoCapacity) || fault.ReasonOf(err) != "disk_full" {
			t.Errorf("%s in a sandbox that is held: got %v, want disk_full", what, err)
		}
	}
	b.sh(modest, "dd if=/dev/zero of=/root/fill bs=1M count=50 2>/dev/null")
	for _, ref := range []sandbox.Ref{modest, greedy} {
		s := b.state(ref.ID)
		if s.State != sandbox.Running || s.Health.State != sandbox.HealthOK || s.DiskFull != (ref == greedy) {
			t.Errorf("with little memory %s is %s with health %s and disk full %v; want running, ok, %v",
				ref.ID, s.State, s.Health.State, s.DiskFull, ref == greedy)
		}
	}
	b.close()

	b.driver = much
	b.open()
	b.awaitDiskFull(greedy, false)
	b.awaitHealth(greedy, sandbox.HealthOK)
	b.goesOn(greedy)
	if size := b.sh(greedy, "stat -c %s /root/fill"); size != "513802240" {
		t.Errorf("the file has %s bytes after the sandbox was held, want 490 MiB", size)
	}
}

// awaitDiskFull returns once the sandbox is running with a full disk, or without.
func (b *bench) awaitDiskFull(ref sandbox.Ref, want bool) {
	b.t.Helper()
	changes, cancel := b.Subscribe()
	defer cancel()
	limit := time.After(hosttest.Patience(b.t, time.Minute))
	for s := b.state(ref.ID); s.State != sandbox.Running || s.DiskFull != want; {
		select {
		case next := <-changes:
			if next.Ref.ID == ref.ID {
				s = next
			}
		case <-limit:
			b.t.Fatalf("%s is %s with disk full %v, want running with %v", ref.ID, s.State, s.DiskFull, want)
		}
	}
}
