package host_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// reporter is a program that runs in the parent before it is copied, so that
// its copies are the same process with the same memory. Asked through a pipe,
// each copy reports its identity.
const reporter = `
import json, os, socket, threading, time, uuid
count = 0
def tick():
    global count
    while True:
        count += 1
        time.sleep(5)
threading.Thread(target=tick, daemon=True).start()
kept = open("/root/kept")
kept.readline()
server = socket.create_server(("127.0.0.1", 7777))
asked = 0
def isn():
    # The same ports in every copy, and others each time: a connection that
    # follows an old one takes its number from that (RFC 6191).
    global asked
    asked += 1
    c = socket.socket()
    c.bind(("127.0.0.1", 40000 + asked))
    c.connect(("127.0.0.1", 7777))
    c.setsockopt(socket.IPPROTO_TCP, 19, 1)
    c.setsockopt(socket.IPPROTO_TCP, 20, 2)
    n = c.getsockopt(socket.IPPROTO_TCP, 21)
    c.setsockopt(socket.IPPROTO_TCP, 19, 0)
    return n
def read(path):
    return open(path).read().strip()
os.mkfifo("/tmp/ask"); os.mkfifo("/tmp/answer")
open("/tmp/ready", "w").close()
while True:
    open("/tmp/ask").read()
    said = dict(urandom=os.urandom(16).hex(), uuid=str(uuid.uuid4()), kernel=read("/proc/sys/kernel/random/uuid"),
        machine=read("/etc/machine-id"), boot=read("/proc/sys/kernel/random/boot_id"), host=socket.gethostname(),
        isn=isn(), rest=kept.read(), count=count, time=time.time())
    kept.seek(6)
    with open("/tmp/answer", "w") as f:
        f.write(json.dumps(said))
`

type testimony struct {
	URandom string  `json:"urandom"`
	UUID    string  `json:"uuid"`
	Kernel  string  `json:"kernel"`
	Machine string  `json:"machine"`
	Boot    string  `json:"boot"`
	Host    string  `json:"host"`
	ISN     int64   `json:"isn"`
	Rest    string  `json:"rest"`
	Count   int     `json:"count"`
	Time    float64 `json:"time"`
}

const ask = "echo >/tmp/ask; cat /tmp/answer"

// forkChildren is how many copies TestFork makes.
const forkChildren = 100

// TestFork makes many copies of a running sandbox and asks all of them who they
// are.
func TestFork(t *testing.T) {
	b := newBench(t, "wfork", func(cfg *host.Config) { cfg.MemoryOvercommit = 8 })
	parent := b.create()
	b.sh(parent, "cat >/root/reporter.py <<'EOF'\n"+reporter+"\nEOF\nprintf 'first\\nsecond\\nthird\\n' >/root/kept")
	b.sh(parent, "setsid python3 /root/reporter.py >/root/log 2>&1 & until [ -e /tmp/ready ]; do sleep 0.1; done")

	const id sandbox.SnapshotID = "forktest"
	before := b.ask(parent)
	snap, err := b.Snapshot(t.Context(), parent, id, true)
	check(t, err)
	t.Logf("the parent stood still for %s", snap.PauseWindow)

	refs := make([]sandbox.Ref, forkChildren)
	tolerances := make([]time.Duration, forkChildren+1) // the last one is the parent's
	view, err := b.Get(parent.ID)
	check(t, err)
	tolerances[forkChildren] = clockTolerance(view)
	var group errgroup.Group
	group.SetLimit(2)
	start := time.Now()
	for i := range refs {
		refs[i] = newRef()
		group.Go(func() error {
			s, err := b.CreateFrom(t.Context(), refs[i], smallSpec, id)
			if err == nil {
				checkRestoreReport(t, s, true)
				tolerances[i] = clockTolerance(s)
			}
			return err
		})
	}
	check(t, group.Wait())
	t.Logf("%d children in %s", forkChildren, time.Since(start))
	check(t, b.DeleteSnapshot(t.Context(), id)) // its children need it no less

	if after := b.ask(parent); after.Count <= before.Count { // a child took longer than a tick
		t.Fatalf("the parent's counter went from %d to %d", before.Count, after.Count)
	}
	var mu sync.Mutex
	seen := make(map[string]string)
	unique := func(who sandbox.ID, kind, value string) error {
		mu.Lock()
		defer mu.Unlock()
		if other, ok := seen[kind+value]; ok || value == "" {
			return fmt.Errorf("%s and %s have the same %s %q", who, other, kind, value)
		}
		seen[kind+value] = string(who)
		return nil
	}
	for i, ref := range append(refs, parent) {
		group.Go(func() error {
			asked := time.Now()
			out, err := b.trySh(t.Context(), ref, ask)
			if err != nil {
				return err
			}
			said, err := examine(ref.ID, out, asked, tolerances[i], unique)
			if err == nil && said.Count < before.Count {
				err = fmt.Errorf("%s counts from %d, its parent stood at %d", ref.ID, said.Count, before.Count)
			}
			return err
		})
	}
	check(t, group.Wait())
	for _, ref := range refs {
		group.Go(func() error { return b.Destroy(t.Context(), ref, "") })
	}
	check(t, group.Wait())
	if _, err := os.Stat(b.dir + "/snapshots/" + string(id)); !os.IsNotExist(err) {
		t.Fatalf("the deleted snapshot outlives its last child: %v", err)
	}
}

// clockTolerance returns how far the clock of s may be off: 50 ms, or the bound in its
// restore report where a busy host has prevented a better one.
func clockTolerance(s host.Sandbox) time.Duration {
	report := s.RestoreReport
	return max(50*time.Millisecond, report.ClockSkew.Abs()+report.Steps["round_trip"]/2)
}

// ask asks the program reporter in one sandbox.
func (b *bench) ask(ref sandbox.Ref) (said testimony) {
	b.t.Helper()
	check(b.t, json.Unmarshal([]byte(b.sh(ref, ask)), &said))
	return said
}

// examine checks the reports of one sandbox between before and now. Its clock may be
// off by tolerance.
func examine(id sandbox.ID, out string, before time.Time, tolerance time.Duration, unique func(sandbox.ID, string, string) error) (said testimony, err error) {
	after := time.Now()
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		return said, fmt.Errorf("%s said %q: %w", id, out, err)
	}
	at := time.Unix(0, int64(said.Time*1e9))
	switch {
	case at.Before(before.Add(-tolerance)) || at.After(after.Add(tolerance)):
		return said, fmt.Errorf("%s has %s, which is more than %s outside of %s to %s", id, at, tolerance, before, after)
	case said.Rest != "second\nthird\n":
		return said, fmt.Errorf("%s read %q from the file that its parent had opened", id, said.Rest)
	case !strings.Contains(said.Host, string(id)):
		return said, fmt.Errorf("%s is called %q", id, said.Host)
	}
	for kind, value := range map[string]string{
		"urandom": said.URandom, "uuid": said.UUID, "kernel uuid": said.Kernel, "machine id": said.Machine,
		"boot id": said.Boot, "initial sequence number": fmt.Sprint(said.ISN),
	} {
		if err := unique(id, kind, value); err != nil {
			return said, err
		}
	}
	return said, nil
}

// TestSnapshotLeavesTheSandboxAlone: a command under way, its connection and an
// open TCP connection inside continue as if nothing had happened.
func TestSnapshotLeavesTheSandboxAlone(t *testing.T) { onEachRuntime(t, snapshotLeavesTheSandboxAlone) }

func snapshotLeavesTheSandboxAlone(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wsnap")
	ref := b.create()
	done := make(chan string, 1)
	go func() {
		out, err := b.trySh(t.Context(), ref, "touch /tmp/begun; for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.2; done")
		done <- fmt.Sprint(strings.ReplaceAll(out, "\n", ","), err)
	}()
	b.sh(ref, "until [ -e /tmp/begun ]; do sleep 0.05; done")
	for i := range 3 {
		snap, err := b.Snapshot(t.Context(), ref, sandbox.SnapshotID(fmt.Sprint("named", i)), false)
		check(t, err)
		if snap.PauseWindow <= 0 || snap.Bytes == 0 || snap.Users != 0 {
			t.Fatalf("snapshot %+v", snap)
		}
	}
	if got := <-done; got != "1,2,3,4,5,6,7,8,9,10<nil>" {
		t.Fatalf("the command that was under way wrote %q", got)
	}
	// The command was under way in the copy too, and continues there.
	child := newRef()
	_, err := b.CreateFrom(t.Context(), child, smallSpec, "named0")
	check(t, err)
	if got := b.sh(child, "echo copy"); got != "copy" {
		t.Fatalf("got %q", got)
	}
	all, err := b.Snapshots()
	check(t, err)
	if len(all) != 3 {
		t.Fatalf("%d snapshots are listed", len(all))
	}
	again, err := b.Snapshot(t.Context(), ref, "named1", false)
	check(t, err) // the same question again gets the same answer
	if again.ID != "named1" {
		t.Fatalf("got %+v", again)
	}
	if _, err := b.Snapshot(t.Context(), child, "named1", false); !fault.Is(err, fault.Exists) {
		t.Fatalf("a second snapshot of the same id: %v", err)
	}
}

// TestSnapshotOfAPausedSandbox and of its copies, over a restart of the agent.
func TestSnapshotOfAPausedSandbox(t *testing.T) { onEachRuntime(t, snapshotOfAPausedSandbox) }

func snapshotOfAPausedSandbox(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wsnpp")
	ref := b.create()
	b.sh(ref, counter)
	b.sh(ref, "echo kept >/dev/shm/kept; echo kept >/root/kept")
	_, err := b.Pause(t.Context(), ref)
	check(t, err)
	_, err = b.Snapshot(t.Context(), ref, "ofpaused", false)
	check(t, err)
	check(t, b.Destroy(t.Context(), ref, "")) // a snapshot outlives its sandbox
	b.close()
	b.open()
	child := newRef()
	s, err := b.CreateFrom(t.Context(), child, sandbox.Spec{Env: map[string]string{"MORE": "yes"}}.WithDefaults(), "ofpaused")
	check(t, err)
	checkRestoreReport(t, s, true)
	if s.Spec.MemoryMB != smallSpec.MemoryMB || s.Source != journal.SourceFork {
		t.Fatalf("the copy is %+v", s)
	}
	if got := b.sh(child, "cat /dev/shm/kept /root/kept; echo $MORE"); got != "kept\nkept\nyes" {
		t.Fatalf("got %q", got)
	}
	// A copy can be paused, resumed and copied itself.
	_, err = b.Pause(t.Context(), child)
	check(t, err)
	child.Generation++
	_, err = b.Resume(t.Context(), child)
	check(t, err)
	_, err = b.Snapshot(t.Context(), child, "ofcopy", false)
	check(t, err)
	check(t, b.DeleteSnapshot(t.Context(), "ofpaused"))
	if _, err := b.CreateFrom(t.Context(), newRef(), smallSpec, "ofpaused"); !fault.Is(err, fault.NotFound) {
		t.Fatalf("a copy of a deleted snapshot: %v", err)
	}
	check(t, b.Destroy(t.Context(), child, ""))
	grandchild := newRef()
	_, err = b.CreateFrom(t.Context(), grandchild, smallSpec, "ofcopy")
	check(t, err)
	if first, second := b.goesOn(grandchild); second <= first {
		t.Fatalf("the counter went %d, %d", first, second)
	}
}

// TestDamagedBaseIsRefused changes a snapshot that sandboxes are made from.
func TestDamagedBaseIsRefused(t *testing.T) { onEachRuntime(t, damagedBaseIsRefused) }

func damagedBaseIsRefused(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wdamb")
	ref := b.create()
	_, err := b.Snapshot(t.Context(), ref, "damaged", false)
	check(t, err)
	parts := map[string]string{"disk": "disk"}
	if b.deps.Drivers.Preferred().Info().Shape.DiskInSnapshot {
		delete(parts, "disk")
	}
	for _, f := range b.deps.Drivers.Preferred().Files(vmm.Whole) {
		parts[f.Name] = f.Noun
	}
	for name, noun := range parts {
		says := "its " + noun + " is not"
		putBack := flipByte(t, b.dir+"/snapshots/damaged/"+name)
		_, err := b.CreateFrom(t.Context(), newRef(), smallSpec, "damaged")
		if f := fault.As(err); f == nil || f.Reason != "snapshot_damaged" || !strings.Contains(f.Public, says) {
			t.Fatalf("create from a snapshot with another %s: got %v, want snapshot_damaged with %q", name, err, says)
		}
		putBack()
	}
	if _, err := b.CreateFrom(t.Context(), newRef(), smallSpec, "damaged"); err != nil {
		t.Fatalf("create after every file was put back: got %v, want a sandbox", err)
	}
}

// flipByte changes the byte in the middle of a file: how long a device state is
// depends on the QEMU that wrote it. The returned function restores the byte
// and the time of the last modification.
func flipByte(t *testing.T, path string) (putBack func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	st, err := f.Stat()
	check(t, err)
	middle := st.Size() / 2
	var old [1]byte
	_, err = f.ReadAt(old[:], middle)
	check(t, err)
	_, err = f.WriteAt([]byte{old[0] ^ 1}, middle)
	check(t, err)
	return func() {
		t.Helper()
		_, err := f.WriteAt(old[:], middle)
		check(t, errors.Join(err, f.Close()))
		check(t, os.Chtimes(path, time.Time{}, st.ModTime()))
	}
}

// pauseBytes returns the size of the memory in a pause.
func (b *bench) pauseBytes(ref sandbox.Ref) (sum int64) {
	b.t.Helper()
	for _, f := range b.deps.Drivers.Preferred().Files(vmm.Delta) {
		st, err := os.Stat(fmt.Sprintf("%s/sandboxes/%s/pause-%d/%s", b.dir, ref.ID, ref.Generation, f.Name))
		check(b.t, err)
		sum += st.Size()
	}
	return sum
}

// TestManyRounds pauses and resumes one sandbox that writes all the time: no
// synced byte is lost, and the size of a pause does not grow.
func TestManyRounds(t *testing.T) { onEachRuntime(t, manyRounds) }

func manyRounds(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wround")
	ref := b.create()
	b.sh(ref, `cat >/root/write.sh <<'EOF'
n=0
while :; do
	n=$((n+1)); echo $n >>/root/log; sync /root/log; echo $n >/root/acked.new; mv /root/acked.new /root/acked
done
EOF
setsid sh /root/write.sh >/dev/null 2>&1 & sleep 0.5`)
	rounds := 50
	if r == sandbox.RuntimeGVisor {
		rounds = 20
	}
	var early, late int64
	last := 0
	for i := range rounds {
		_, err := b.Pause(t.Context(), ref)
		check(t, err)
		size := b.pauseBytes(ref)
		switch {
		case i == 10:
			early = size
		case i == rounds-1:
			late = size
		}
		ref.Generation++
		s, err := b.Resume(t.Context(), ref)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		checkRestoreReport(t, s, false)
		n := atoi(t, b.sh(ref, "sleep 0.1; cat /root/acked"))
		if n < last {
			t.Fatalf("round %d: the last acknowledged line went from %d to %d", i, last, n)
		}
		last = n
		if names, _ := os.ReadDir(b.dir + "/sandboxes/" + string(ref.ID)); len(names) > 4 {
			t.Fatalf("round %d leaves %v", i, names)
		}
	}
	// Every number up to the last acknowledged one is there, once, in order.
	out := b.sh(ref, `acked=$(cat /root/acked); head -n $acked /root/log | sort -n | uniq | wc -l; echo $acked`)
	have, acked := "", ""
	if n, _ := fmt.Sscan(out, &have, &acked); n != 2 || have != acked || atoi(t, acked) < last || last < rounds/2 {
		t.Fatalf("of %s acknowledged lines there are %s", acked, have)
	}
	t.Logf("%s lines; differences of %d and %d KiB", acked, early>>10, late>>10)
	if late > 3*early+hosttest.MiB*16 {
		t.Fatalf("the difference grew from %d to %d bytes", early, late)
	}
}
