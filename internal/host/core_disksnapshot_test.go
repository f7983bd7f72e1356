package host_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestCoreSnapshotWithoutMemory: copies boot from the disk of a sandbox that runs or was
// paused without memory, need no snapshot afterwards, and can be paused in either way.
func TestCoreSnapshotWithoutMemory(t *testing.T) {
	for _, k := range shapes(t) {
		for _, paused := range []bool{false, true} {
			name := k.name + "/running"
			if paused {
				name = k.name + "/paused"
			}
			t.Run(name, func(t *testing.T) {
				c := newCoreOf(t, k)
				ref := c.create()
				if paused {
					pauseSubjectsDisk(c, ref)
				}
				snap, err := c.SnapshotDisk(t.Context(), ref, coreSnapshot, false)
				check(t, err)
				if !snap.DiskOnly {
					t.Error("the snapshot claims to have a memory")
				}
				c.restart()
				child := newRef()
				_, err = c.CreateFrom(t.Context(), child, coreSpec, coreSnapshot)
				check(t, err)
				if users := usersOf(t, c.Manager, coreSnapshot); users != 0 {
					t.Errorf("the snapshot has %d users after the boot, want none", users)
				}
				check(t, c.DeleteSnapshot(t.Context(), coreSnapshot))
				for _, pause := range []func(*core, sandbox.Ref){pauseSubject, pauseSubjectsDisk} {
					if got := c.read(child, mark); got != string(ref.ID) {
						t.Errorf("the copy's file holds %q, want its original's", got)
					}
					pause(c, child)
					child.Generation++
					_, err = c.Resume(t.Context(), child)
					check(t, err)
				}
				c.sound()
				c.empty()
			})
		}
	}
}

func usersOf(t *testing.T, m *host.Manager, id sandbox.SnapshotID) int {
	t.Helper()
	all, err := m.Snapshots()
	check(t, err)
	for _, s := range all {
		if s.ID == id {
			return s.Users
		}
	}
	t.Fatalf("there is no snapshot %s", id)
	return 0
}

// TestCoreSnapshotWithoutMemoryRefused: the disk of a pause with memory is not complete, and
// a pause without memory has none to copy. A request that differs from that of the snapshot
// with its id is not the same request.
func TestCoreSnapshotWithoutMemoryRefused(t *testing.T) {
	for _, k := range shapes(t) {
		t.Run(k.name, func(t *testing.T) {
			c := newCoreOf(t, k)
			full, disk, running := c.create(), c.create(), c.create()
			pauseSubject(c, full)
			pauseSubjectsDisk(c, disk)
			takeDiskSnapshot(c, running)
			_, withMemory := c.SnapshotDisk(t.Context(), full, "core00000000000000000001", false)
			_, without := c.Snapshot(t.Context(), disk, "core00000000000000000002", false)
			_, other := c.Snapshot(t.Context(), running, coreSnapshot, false)
			for _, refused := range []struct {
				err    error
				kind   fault.Kind
				reason string
			}{
				{withMemory, fault.WrongState, "paused_with_memory"},
				{without, fault.WrongState, "paused_without_memory"},
				{other, fault.Exists, "snapshot_exists"},
			} {
				if !fault.Is(refused.err, refused.kind) || fault.ReasonOf(refused.err) != refused.reason {
					t.Errorf("%v, want %s", refused.err, refused.reason)
				}
			}
			if all, err := c.Snapshots(); err != nil || len(all) != 1 {
				t.Errorf("%d snapshots (%v), want only the first", len(all), err)
			}
			c.sound()
			c.empty()
		})
	}
}
