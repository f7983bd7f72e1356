package host_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// diskWriter writes numbered blocks for ever: each pass over the file, 16 MiB
// long, writes its own number 4,096 times, so that two passes never mix in a
// copy except at one place. A block is a page: the kernel ends a longer write
// between two pages when its process is killed, as the test does.
const diskWriter = `
import os
f = os.open("/root/passes", os.O_RDWR | os.O_CREAT)
n = 0
while True:
    n += 1
    block = b"%015d\n" % n * 256
    for i in range(4096):
        os.pwrite(f, block, i * 4096)
    os.fsync(f)
    open("/root/ready", "w").close()
`

// passCheck fails where the file is not the end of one pass over the one
// before: a copy of another moment than memory's, or of several moments.
const passCheck = `
import os
f = open("/root/passes", "rb")
numbers = []
while block := f.read(4096):
    assert block == block[:16] * 256, "a torn block"
    numbers.append(int(block[:16]))
falls = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1]]
assert len(falls) <= 1 and max(numbers) - min(numbers) <= 1, (falls, min(numbers), max(numbers))
print("whole")
`

// changeMuch changes the disk in each way there is after most of it has been
// copied: new data, data over old data, and blocks given back.
const changeMuch = `set -e
head -c 8388608 /dev/urandom >/root/late
head -c 1048576 /dev/urandom | dd of=/root/early bs=1M seek=2 conv=notrunc,fsync 2>/dev/null
rm /root/gone
sync
fstrim /  2>/dev/null || true`

// TestForkOfAWriter forks a sandbox whose processes write to its disk all the
// time, with large changes in the worst moment: the disk has been copied, and
// the VM is not stopped yet. Once it is, the copy has to equal the
// disk, to the byte.
func TestForkOfAWriter(t *testing.T) {
	const id sandbox.SnapshotID = "writerfork"
	var b *bench
	var parent sandbox.Ref
	compared := false
	b = newBench(t, "wwrit", func(cfg *host.Config) {
		cfg.OnStep = func(step string) error {
			switch {
			case parent.ID == "":
			case step == journal.StepSnapshotFreeze:
				if _, err := b.trySh(t.Context(), parent, changeMuch); err != nil {
					t.Error(err)
				}
			case step == journal.StepSnapshotCont:
				compared = true
				sameFiles(t, filepath.Join(b.dir, "sandboxes", string(parent.ID), "disk"), filepath.Join(b.dir, "snapshots", ".new-"+string(id), "disk"))
			}
			return nil
		}
	})
	ref := b.create()
	b.sh(ref, "cat >/root/writer.py <<'EOF'\n"+diskWriter+"\nEOF\nhead -c 33554432 /dev/urandom | tee /root/early >/root/gone")
	b.sh(ref, "setsid python3 /root/writer.py >/root/log 2>&1 & until [ -e /root/ready ]; do sleep 0.1; done")
	parent = ref
	snap, err := b.Snapshot(t.Context(), ref, id, true)
	parent = sandbox.Ref{}
	check(t, err)
	t.Logf("the parent stood still for %s: %v", snap.PauseWindow, b.state(ref.ID).Steps)
	if !compared {
		t.Fatal("the snapshot had no moment to compare the disks at")
	}
	child := newRef()
	_, err = b.CreateFrom(t.Context(), child, smallSpec, id)
	check(t, err)
	const sums = "pkill -f '[w]riter.py'; sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum /root/early /root/late; ls /root"
	if was, is := b.sh(ref, sums), b.sh(child, sums); was != is {
		t.Errorf("the parent has\n%s\nthe child has\n%s", was, is)
	}
	for _, who := range []sandbox.Ref{ref, child} {
		if got := b.sh(who, "python3 - <<'EOF'\n"+passCheck+"\nEOF"); got != "whole" {
			t.Errorf("%s has a file of several moments: %s", who.ID, got)
		}
	}
	check(t, b.DeleteSnapshot(t.Context(), id))
}

// sameFiles compares two files byte by byte.
func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.Open(a)
	check(t, err)
	defer x.Close()
	y, err := os.Open(b)
	check(t, err)
	defer y.Close()
	bufX, bufY := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := 0; ; {
		n, errX := io.ReadFull(x, bufX)
		m, errY := io.ReadFull(y, bufY)
		if !bytes.Equal(bufX[:n], bufY[:m]) {
			t.Errorf("%s and %s differ in the MiB at %d", a, b, off)
			return
		}
		if errX != nil || errY != nil {
			if errors.Is(errX, io.EOF) != errors.Is(errY, io.EOF) {
				t.Errorf("reading ended with %v and %v", errX, errY)
			}
			return
		}
		off += n
	}
}
