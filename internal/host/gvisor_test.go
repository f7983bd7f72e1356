package host_test

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// holds checks that a sandbox has the file of its parent and that its process goes
// on from at least the count n. It returns the new count.
func (b *bench) holds(ref sandbox.Ref, when string, n int) int {
	b.t.Helper()
	if got := b.sh(ref, "cat /root/mark"); got != "hello" {
		b.t.Errorf("%s: the file holds %q, want hello", when, got)
	}
	const bindLocalhost = `import socket; [socket.create_server((a, 0), family=f) for f, a in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))]`
	if got := b.sh(ref, "python3 -c '"+bindLocalhost+"' && echo bound"); got != "bound" {
		b.t.Errorf("%s: localhost cannot be bound: %q", when, got)
	}
	first, second := b.goesOn(ref)
	if first < n {
		b.t.Errorf("%s: the count went from %d back to %d", when, n, first)
	}
	return second
}

// TestGVisorLifecycle takes a sandbox under gVisor, whose VMs have another shape than
// those of QEMU, through a create, a snapshot, a fork, a pause, a resume and a change
// of agents. The files and processes of user code survive all of them.
func TestGVisorLifecycle(t *testing.T) {
	b := newBenchOf(t, sandbox.RuntimeGVisor, "wgvlife")
	ref, copied := b.create(), newRef()
	b.sh(ref, counter+"; echo hello >/root/mark")
	n := b.holds(ref, "after the create", 0)
	_, err := b.Snapshot(t.Context(), ref, coreSnapshot, false)
	check(t, err)
	_, err = b.CreateFrom(t.Context(), copied, smallSpec, coreSnapshot)
	check(t, err)
	forked := b.holds(copied, "in the fork", n)
	n = b.holds(ref, "after the snapshot", n)

	_, err = b.Pause(t.Context(), ref)
	check(t, err)
	ref.Generation++
	s, err := b.Resume(t.Context(), ref)
	check(t, err)
	n = b.holds(ref, "after the resume", n)
	if r := s.RestoreReport; r == nil || !r.Reseeded || !r.TokenReplaced || r.ClockSkew.Abs() > 50*time.Millisecond {
		t.Errorf("the restore report is %+v, want a guest that was configured", r)
	}

	b.close()
	b.open()
	b.holds(ref, "under the next agent", n)
	_, err = b.Pause(t.Context(), copied)
	check(t, err)
	copied.Generation++
	_, err = b.Resume(t.Context(), copied)
	check(t, err)
	b.holds(copied, "after the fork was paused under the next agent", forked)
}
