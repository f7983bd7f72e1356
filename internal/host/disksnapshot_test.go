package host_test

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestSnapshotWithoutMemory: a running sandbox and its calls go on after a snapshot of its disk, and a
// copy boots from the files of that moment, with an identity of its own. The snapshot of a
// pause without memory has the same.
func TestSnapshotWithoutMemory(t *testing.T) { onEachRuntime(t, snapshotWithoutMemory) }

func snapshotWithoutMemory(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wsdsk")
	ref := b.create()
	b.sh(ref, counter)
	// Nothing of this has been written back yet.
	b.sh(ref, "echo kept >/root/kept; chown 12:34 /root/kept; echo lost >/dev/shm/lost")
	facts := "cat /proc/sys/kernel/random/boot_id"
	before, _ := b.goesOn(ref)
	call := make(chan error, 1)
	go func() {
		_, err := b.trySh(t.Context(), ref, "touch /tmp/begun; until [ -e /tmp/go ]; do sleep 0.1; done")
		call <- err
	}()
	b.sh(ref, "until [ -e /tmp/begun ]; do sleep 0.05; done")
	snap, err := b.SnapshotDisk(t.Context(), ref, "running", false)
	check(t, err)
	if !snap.DiskOnly || snap.PauseWindow <= 0 || snap.Bytes == 0 {
		t.Errorf("snapshot %+v", snap)
	}
	if after, _ := b.goesOn(ref); after < before {
		t.Errorf("after the snapshot the counter is at %d, before at %d", after, before)
	}
	boot := b.sh(ref, facts)
	b.sh(ref, "touch /tmp/go")
	if err := <-call; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
	b.sh(ref, "echo later >/root/kept")
	pauseDisk(b, ref)
	_, err = b.SnapshotDisk(t.Context(), ref, "paused", false)
	check(t, err)
	check(t, b.Destroy(t.Context(), ref, ""))
	b.close()
	b.open()

	for id, want := range map[sandbox.SnapshotID]string{"running": "kept\n12:34", "paused": "later\n12:34"} {
		child := newRef()
		s, err := b.CreateFrom(t.Context(), child, smallSpec, id)
		check(t, err)
		if s.Source != journal.SourceFork || !s.RestoreReport.NewIdentity || s.DiskOnly {
			t.Errorf("the copy of %s is %+v", id, s)
		}
		if got := b.sh(child, "cat /root/kept; stat -c %u:%g /root/kept; ls /dev/shm/lost 2>/dev/null; pgrep -x setsid; true"); got != want {
			t.Errorf("the copy of %s has %q, want %q", id, got, want)
		}
		if got := b.sh(child, facts); got == boot || got == "" {
			t.Errorf("the copy of %s has the boot id %q, its original %q", id, got, boot)
		}
		check(t, b.DeleteSnapshot(t.Context(), id)) // the copy is not based on it
		_, err = b.Pause(t.Context(), child)
		check(t, err)
		child.Generation++
		_, err = b.Resume(t.Context(), child)
		check(t, err)
		if got := b.sh(child, "cat /root/kept"); got+"\n12:34" != want {
			t.Errorf("after a pause the copy of %s has %q", id, got)
		}
		check(t, b.Destroy(t.Context(), child, ""))
	}
}
