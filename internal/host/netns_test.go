package host_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/network/netnstest"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestSandboxBesideIPNetns goes through a sandbox's life while somebody gives
// names to namespaces with ip-netns(8) before each operation.
func TestSandboxBesideIPNetns(t *testing.T) {
	hosttest.Root(t)
	if !netnstest.PrivateMounts(t) {
		return
	}
	netnstest.Shared(t)
	netnstest.Add(t, "before-start")
	b := newBench(t, "wnetns")
	b.throughLife(func(point string) { netnstest.Add(t, point) })
	b.nothingLeft()
}

// throughLife creates, pauses, resumes, takes over and destroys a sandbox, and
// calls at before each of these.
func (b *bench) throughLife(at func(point string)) {
	b.t.Helper()
	at("before-create")
	ref := b.create()
	at("before-pause")
	_, err := b.Pause(b.t.Context(), ref)
	check(b.t, err)
	at("before-resume")
	ref.Generation++
	_, err = b.Resume(b.t.Context(), ref)
	check(b.t, err)
	at("before-restart")
	b.close()
	b.open()
	if got := b.sh(ref, "echo here"); got != "here" {
		b.t.Fatalf("after the restart the sandbox says %q, want %q", got, "here")
	}
	at("before-destroy")
	check(b.t, b.Destroy(b.t.Context(), ref, ""))
	at("after-destroy")
}

// TestHiddenNetworkHarmsNoSandbox: an earlier agent had its names in the
// directory of ip-netns(8), where they were hidden. The sandbox is taken over,
// pauses, resumes and goes.
func TestHiddenNetworkHarmsNoSandbox(t *testing.T) {
	hosttest.Root(t)
	if !netnstest.PrivateMounts(t) {
		return
	}
	b := newBench(t, "whidden")
	ref := b.create()
	b.close()
	b.hideNames()
	b.open()
	if s := b.state(ref.ID); s.State != sandbox.Running {
		t.Fatalf("after the restart the sandbox is %q (%s), want running", s.State, s.StopReason)
	}
	_, err := b.Pause(t.Context(), ref)
	check(t, err)
	ref.Generation++
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	b.sh(ref, "true")
	check(t, b.Destroy(t.Context(), ref, ""))
	b.nothingLeft()
}

// hideNames moves the names of the agent's namespaces to the directory of
// ip-netns(8) and then hides them as "ip netns add" does.
func (b *bench) hideNames() {
	b.t.Helper()
	check(b.t, os.MkdirAll(netnstest.Dir, 0o755))
	names, err := filepath.Glob(netnstest.Dir + "-" + b.name + "/*")
	check(b.t, err)
	if len(names) == 0 {
		b.t.Fatal("the agent has no named namespaces")
	}
	for _, from := range names {
		to := filepath.Join(netnstest.Dir, filepath.Base(from))
		check(b.t, os.WriteFile(to, nil, 0o444))
		check(b.t, unix.Mount(from, to, "", unix.MS_BIND, ""))
		check(b.t, unix.Unmount(from, unix.MNT_DETACH))
		check(b.t, os.Remove(from))
	}
	netnstest.Add(b.t, "stranger")
}

// TestSweepThatFailsStopsNoStart: a cgroup that cannot be removed is removed
// later, and no pause, resume, destroy or start waits for it.
func TestSweepThatFailsStopsNoStart(t *testing.T) {
	b := newBench(t, "wsweep")
	ref := b.create()
	// A group that has a group below it cannot be removed.
	stuck := b.nestGroup(string(ref.ID))
	_, err := b.Pause(t.Context(), ref)
	check(t, err)
	ref.Generation++
	_, err = b.Resume(t.Context(), ref)
	check(t, err)
	b.sh(ref, "true")

	orphan := b.nestGroup("orphan")
	b.close()
	b.open()
	b.sh(ref, "true")
	check(t, b.Destroy(t.Context(), ref, ""))
	for _, dir := range append(stuck, orphan...) {
		check(t, os.Remove(dir))
	}
	for _, dir := range append(stuck, orphan...) {
		awaitGone(t, filepath.Dir(dir))
	}
}

// nestGroup makes a group below the agent's control group called name, in each
// hierarchy, and returns the directories.
func (b *bench) nestGroup(name string) (dirs []string) {
	b.t.Helper()
	one, err := filepath.Glob("/sys/fs/cgroup/" + b.name)
	check(b.t, err)
	many, err := filepath.Glob("/sys/fs/cgroup/*/" + b.name)
	check(b.t, err)
	for _, base := range append(one, many...) {
		dir := filepath.Join(base, name, "nested")
		check(b.t, os.MkdirAll(dir, 0o755))
		dirs = append(dirs, dir)
	}
	if len(dirs) == 0 {
		b.t.Skip("control groups cannot be made here")
	}
	return dirs
}

// awaitGone waits until the agent has removed path in the background.
func awaitGone(t *testing.T, path string) {
	t.Helper()
	deadline := time.Now().Add(hosttest.Patience(t, 2*time.Minute))
	for {
		if _, err := os.Stat(path); os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there", path)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
