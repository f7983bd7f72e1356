package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/client"
)

// own destroys a sandbox at the end of the test that the test did not get from
// create.
func own(t *testing.T, c *client.Client, all ...client.Sandbox) {
	t.Helper()
	for _, sb := range all {
		t.Cleanup(func() {
			if err := c.Destroy(context.Background(), sb.ID); err != nil {
				t.Errorf("destroy %s: %v", sb.ID, err)
			}
		})
	}
}

// fresh checks the guarantees for a sandbox restored from a snapshot.
func fresh(t testing.TB, sb client.Sandbox) {
	t.Helper()
	h := sb.RestoreReport
	if h == nil || !h.Reseeded || !h.NewIdentity || !h.TokenReplaced || !h.NetworkAnswers || h.Generation != 1 || len(h.StepsMS) == 0 {
		t.Errorf("restore report of %s: %+v", sb.ID, h)
	}
}

func testFork(t *testing.T, s *server) {
	parent := create(t, s.Client, client.CreateRequest{
		MemoryMB: 256, DiskMB: 512, TimeoutSec: new(int), Env: map[string]string{"KEPT": "parent", "CHANGED": "parent"},
		Metadata: map[string]string{"of": "parent"}, Hostname: "parent-1",
	})
	if got := sh(t, s.Client, parent.ID, "hostname"); got != "parent-1" || parent.Hostname != got {
		t.Errorf("the host name is %q in the guest and %q in the API, want parent-1", got, parent.Hostname)
	}
	sh(t, s.Client, parent.ID, counter)
	sh(t, s.Client, parent.ID, "echo memory >/dev/shm/file; echo disk >/root/file")
	before := sh(t, s.Client, parent.ID, "cat /tmp/n")
	forked, err := s.Fork(t.Context(), parent.ID, client.ForkRequest{Count: 3, Env: map[string]string{"CHANGED": "child"}})
	check(t, err)
	own(t, s.Client, forked.Sandboxes...)
	if len(forked.Sandboxes) != 3 || len(forked.Failed) != 0 || forked.PauseWindowMS <= 0 {
		t.Fatalf("forked %+v", forked)
	}
	t.Logf("the parent was stopped for %.1f ms", forked.PauseWindowMS)
	seen := map[string]bool{}
	for _, child := range forked.Sandboxes {
		fresh(t, child)
		if child.ParentID == nil || *child.ParentID != parent.ID || child.Source == nil || *child.Source != "fork" ||
			child.MemoryMB != 256 || child.Metadata["of"] != "parent" {
			t.Errorf("child %+v", child)
		}
		got := sh(t, s.Client, child.ID, "cat /dev/shm/file /root/file; echo $KEPT $CHANGED")
		if got != "memory\ndisk\nparent child" {
			t.Errorf("the child has %q", got)
		}
		if got := sh(t, s.Client, child.ID, "hostname"); got != "wrenn-"+child.ID || child.Hostname != got {
			t.Errorf("the child's host name is %q in the guest and %q in the API, want wrenn-%s", got, child.Hostname, child.ID)
		}
		goesOn(t, s.Client, child.ID, before)
		seen[sh(t, s.Client, child.ID, "cat /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1; hostname")] = true
		sh(t, s.Client, child.ID, "echo child >/root/file")
	}
	if len(seen) != 3 {
		t.Errorf("the children are not all different: %v", seen)
	}
	goesOn(t, s.Client, parent.ID, before)
	if got := sh(t, s.Client, parent.ID, "cat /root/file"); got != "disk" {
		t.Errorf("a child wrote into its parent: %q", got)
	}
	// A paused sandbox can be forked, and stays paused.
	_, err = s.Pause(t.Context(), parent.ID)
	check(t, err)
	forked, err = s.Fork(t.Context(), parent.ID, client.ForkRequest{})
	check(t, err)
	own(t, s.Client, forked.Sandboxes...)
	goesOn(t, s.Client, forked.Sandboxes[0].ID, before)
	now, err := s.Get(t.Context(), parent.ID)
	check(t, err)
	if now.Status != "paused" {
		t.Errorf("a fork made its parent %s", now.Status)
	}
	_, err = s.Resume(t.Context(), parent.ID)
	check(t, err)
	// On a loaded machine the guest may answer some time after its resume.
	eventually(t, "a resumed guest that keeps its host name", func() bool {
		got, err := trySh(t.Context(), s.Client, parent.ID, "hostname; cat /etc/hostname")
		return err == nil && got == "parent-1\nparent-1"
	})
	for name, in := range map[string]client.ForkRequest{
		"none": {Count: -1}, "many": {Count: 101},
	} {
		if _, err := s.Fork(t.Context(), parent.ID, in); failure(t, err).Status != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Fork(t.Context(), "nothere", client.ForkRequest{}); failure(t, err).Status != 404 {
		t.Errorf("fork of nothing: %v", err)
	}
}

func testSnapshots(t *testing.T, s *server) {
	sb := create(t, s.Client, small)
	sh(t, s.Client, sb.ID, counter)
	sh(t, s.Client, sb.ID, "echo one >/root/file")
	snap, err := s.CreateSnapshot(t.Context(), sb.ID, client.SnapshotRequest{Name: "first", Metadata: map[string]string{"a": "b"}})
	check(t, err)
	if snap.Status != client.SnapshotReady || snap.SandboxID != sb.ID || snap.Bytes == 0 || snap.MemoryMB != 256 || snap.Metadata["a"] != "b" {
		t.Fatalf("snapshot %+v", snap)
	}
	sh(t, s.Client, sb.ID, "echo two >/root/file")
	check(t, s.Destroy(t.Context(), sb.ID)) // a snapshot outlives its sandbox

	copied := create(t, s.Client, client.CreateRequest{SnapshotID: snap.ID, TimeoutSec: new(int)})
	fresh(t, *copied)
	if got := sh(t, s.Client, copied.ID, "cat /root/file"); got != "one" {
		t.Errorf("the copy has %q", got)
	}
	goesOn(t, s.Client, copied.ID, "1")
	if _, err := s.Create(t.Context(), client.CreateRequest{SnapshotID: snap.ID, MemoryMB: 512}); failure(t, err).Status != 400 {
		t.Errorf("a copy of another size: %v", err)
	}

	name := "warm-" + strings.ToLower(snap.ID[:8])
	_, err = s.TemplateFromSnapshot(t.Context(), snap.ID, name)
	check(t, err)
	if err := s.DeleteSnapshot(t.Context(), snap.ID); failure(t, err).Code != "snapshot_is_template" {
		t.Errorf("delete of a template's snapshot: %v", err)
	}
	fromName := create(t, s.Client, client.CreateRequest{Template: name, TimeoutSec: new(int)})
	goesOn(t, s.Client, fromName.ID, "1")
	if _, err := s.TemplateFromSnapshot(t.Context(), snap.ID, "minimal"); failure(t, err).Status != 409 {
		t.Errorf("a template called minimal: %v", err)
	}
	check(t, s.RemoveTemplate(t.Context(), snap.ID))
	check(t, s.DeleteSnapshot(t.Context(), snap.ID))
	if _, err := s.Create(t.Context(), client.CreateRequest{SnapshotID: snap.ID}); failure(t, err).Status != 404 {
		t.Errorf("a copy of a deleted snapshot: %v", err)
	}
	goesOn(t, s.Client, copied.ID, "1") // who is based on it needs it no less
	garbage, err := s.GC(t.Context(), client.GCRequest{DryRun: true})
	check(t, err)
	for _, item := range garbage.Items {
		if item.ID == snap.ID {
			t.Errorf("what sandboxes are based on is garbage: %+v", item)
		}
	}
}

func testClocks(t *testing.T, s *server) {
	two := 2
	sb := create(t, s.Client, client.CreateRequest{MemoryMB: 256, DiskMB: 512, TimeoutSec: &two, OnTimeout: client.OnTimeoutPause})
	eventually(t, "the idle sandbox is paused", func() bool {
		now, err := s.Get(t.Context(), sb.ID)
		check(t, err)
		return now.Status == "paused"
	})
	_, err := trySh(t.Context(), s.Client, sb.ID, "true")
	if failure(t, err).Status != 409 {
		t.Errorf("a command in a paused sandbox: %v", err)
	}
	// A value that is set while the sandbox is paused takes effect with the
	// resume.
	never, hour := 0, 3600
	clocks, err := s.SetTimeout(t.Context(), sb.ID, client.TimeoutRequest{TimeoutSec: &never, LifetimeSec: &hour})
	check(t, err)
	if clocks.IdleTimeoutSec != 0 || clocks.LifetimeSec != 3600 {
		t.Errorf("clocks %+v", clocks)
	}
	_, err = s.Resume(t.Context(), sb.ID)
	check(t, err)
	before, err := s.Timeout(t.Context(), sb.ID)
	check(t, err)
	if before.LifetimeExpiresAt == nil || time.Until(*before.LifetimeExpiresAt) < 50*time.Minute {
		t.Fatalf("clocks after the resume %+v", before)
	}
	more := 600
	after, err := s.SetTimeout(t.Context(), sb.ID, client.TimeoutRequest{ExtendSec: &more})
	check(t, err)
	if d := after.LifetimeExpiresAt.Sub(*before.LifetimeExpiresAt); d < 590*time.Second || d > 610*time.Second {
		t.Errorf("extended by %s", d)
	}
	one, destroy := 1, client.OnTimeoutDestroy
	_, err = s.SetTimeout(t.Context(), sb.ID, client.TimeoutRequest{LifetimeSec: &one, OnTimeout: &destroy})
	check(t, err)
	eventually(t, "the sandbox whose lifetime is over has ended", func() bool {
		now, err := s.Get(t.Context(), sb.ID)
		check(t, err)
		return now.Status == "stopped" && now.StopReason != nil && *now.StopReason == "expired"
	})
}

// testAutoResume has many callers use a paused sandbox at once, and expects one
// resume.
func testAutoResume(t *testing.T, s *server) {
	sb := create(t, s.Client, client.CreateRequest{MemoryMB: 256, DiskMB: 512, TimeoutSec: new(int), AutoResume: true})
	sh(t, s.Client, sb.ID, counter)
	for round := range int64(2) {
		before := sh(t, s.Client, sb.ID, "cat /tmp/n")
		_, err := s.Pause(t.Context(), sb.ID)
		check(t, err)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if got, err := trySh(t.Context(), s.Client, sb.ID, fmt.Sprint("echo ", i)); err != nil || got != fmt.Sprint(i) {
					t.Errorf("caller %d got %q, %v", i, got, err)
				}
			})
		}
		wg.Wait()
		now, err := s.Get(t.Context(), sb.ID)
		check(t, err)
		if now.Status != "running" || now.RestoreReport.Generation != round+2 {
			t.Errorf("after round %d it is %s, generation %d: not one resume", round, now.Status, now.RestoreReport.Generation)
		}
		goesOn(t, s.Client, sb.ID, before)
	}
}

// TestPool tests a server that keeps warm clones.
func TestPool(t *testing.T) {
	t.Parallel()
	s := startUp(t, "--pool", "memory_mb=256,disk_mb=512,size=2")
	ready := func(n int) func() bool {
		return func() bool {
			hosts, err := s.Hosts(t.Context())
			check(t, err)
			return len(hosts[0].Pools) == 1 && hosts[0].Pools[0].Ready >= n
		}
	}
	eventually(t, "the pool is full", ready(2))
	sb, err := s.Create(t.Context(), small)
	check(t, err)
	fresh(t, *sb)
	if sb.Source == nil || *sb.Source != "pool" {
		t.Errorf("the sandbox did not come from the pool: %+v", sb)
	}
	if got := sh(t, s.Client, sb.ID, "hostname"); got != "wrenn-"+sb.ID {
		t.Errorf("it is called %q", got)
	}
	eventually(t, "the pool is full again", ready(2))
	// A killed server leaves its clones behind, and the next one ends them.
	s.stop(t, syscall.SIGKILL)
	s.start(t)
	if got := sh(t, s.Client, sb.ID, "hostname"); got != "wrenn-"+sb.ID {
		t.Errorf("after a restart it is called %q", got)
	}
	eventually(t, "the pool of the next server is full", ready(2))
}

// TestKilledDuringFork kills a server during a fork: the parent continues, and
// each child either runs completely or does not exist.
func TestKilledDuringFork(t *testing.T) {
	t.Parallel()
	s := startUp(t)
	parent, err := s.Create(t.Context(), small)
	check(t, err)
	sh(t, s.Client, parent.ID, counter)
	before := sh(t, s.Client, parent.ID, "cat /tmp/n")
	go func() { _, _ = s.Fork(context.Background(), parent.ID, client.ForkRequest{Count: 6}) }()
	children := func(statuses ...string) (all []client.Sandbox) {
		for sb, err := range s.All(t.Context(), client.ListOptions{Status: statuses}) {
			check(t, err)
			if sb.ParentID != nil {
				all = append(all, sb)
			}
		}
		return all
	}
	eventually(t, "a child runs and others do not yet", func() bool { return len(children("running")) > 0 })
	s.stop(t, syscall.SIGKILL)
	s.start(t)
	goesOn(t, s.Client, parent.ID, before)
	eventually(t, "no child is pending", func() bool { return len(children("pending")) == 0 })
	for _, child := range children("running") {
		goesOn(t, s.Client, child.ID, before)
		check(t, s.Destroy(t.Context(), child.ID))
	}
	eventually(t, "the snapshot of the fork is gone", func() bool {
		found, err := filepath.Glob(filepath.Join(s.dir, "host", "snapshots", "*"))
		return err == nil && len(found) == 0
	})
}
