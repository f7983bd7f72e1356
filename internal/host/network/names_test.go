package network

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/network/netnstest"
)

// gone fails unless nothing of the pool called name is left in the mount
// namespace: no file and no mount.
func gone(t testing.TB, name string) {
	t.Helper()
	for _, dir := range []nameDir{namesOf(name), sharedNames} {
		names, err := dir.list(func(n string) bool { return strings.HasPrefix(n, name) })
		if err != nil || len(names) > 0 {
			t.Errorf("left in %s: %v %v", dir, names, err)
		}
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, name) {
			t.Errorf("a mount is left: %s", line)
		}
	}
}

// hide makes the slot one of an earlier agent, with its name in the directory
// of ip-netns(8), and then hides the mount of that name.
func hide(t testing.TB, s *Slot) {
	t.Helper()
	if err := os.MkdirAll(string(sharedNames), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := sharedNames.claim(s.Netns, s.pool.cfg.mark(s.ID)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(s.names.path(s.Netns), sharedNames.path(s.Netns), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.names.drop(s.Netns); err != nil {
		t.Fatal(err)
	}
	s.names = sharedNames
	netnstest.Add(t, "stranger")
	if n, err := mountsAt(sharedNames.path(s.Netns)); err != nil || n != 2 {
		t.Fatalf("ip netns add made %d mounts of the name (%v), want the hidden one and a copy", n, err)
	}
}

// TestNamesBesideIPNetns goes through a slot's life with "ip netns add" at each
// point of it.
func TestNamesBesideIPNetns(t *testing.T) {
	needRoot(t)
	if !netnstest.PrivateMounts(t) {
		return
	}
	points := []string{"before Open", "before Acquire", "before Close", "before Adopt", "before Release", "after Release"}
	for _, shared := range []bool{false, true} {
		for _, when := range points {
			t.Run(fmt.Sprintf("%s, shared=%t", when, shared), func(t *testing.T) {
				netnstest.FreshRun(t)
				if shared {
					netnstest.Shared(t)
				}
				at := func(point string) {
					if point == when {
						netnstest.Add(t, "stranger")
					}
				}
				name := uniqueName()
				lifeOfASlot(t, name, at)
				gone(t, name)
				if _, err := os.Stat(string(namesOf(name))); !os.IsNotExist(err) {
					t.Errorf("the directory of names is left: %v", err)
				}
			})
		}
	}
}

func lifeOfASlot(t *testing.T, name string, at func(point string)) {
	host := newSpace(t)
	at("before Open")
	p := host.open(Config{Name: name})
	at("before Acquire")
	s, err := p.Acquire(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	at("before Close")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = host.open(Config{Name: name})
	at("before Adopt")
	adopted, err := p.Adopt("one", s.Record())
	if err != nil {
		t.Fatal(err)
	}
	at("before Release")
	adopted.Release(t.Context())
	at("after Release")
	acquire(t, p, "one").Release(t.Context()) // a sandbox that was paused comes back
	if len(p.garbage) > 0 {
		t.Errorf("garbage: %v", p.garbage)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestHiddenNamesAreRemoved hides names of an earlier agent as "ip netns add" does;
// each way to remove a name removes them.
func TestHiddenNamesAreRemoved(t *testing.T) {
	needRoot(t)
	if !netnstest.PrivateMounts(t) {
		return
	}
	for way, remove := range map[string]func(t *testing.T, p *Pool, rec Record){
		"Release": func(t *testing.T, p *Pool, rec Record) {
			s, err := p.Adopt("one", rec)
			if err != nil {
				t.Fatal(err)
			}
			s.Release(t.Context())
		},
		"Discard": func(t *testing.T, p *Pool, rec Record) { p.Discard(t.Context(), "one", rec) },
		"Sweep": func(t *testing.T, p *Pool, rec Record) {
			if removed, err := p.Sweep(t.Context(), none); err != nil || len(removed) != 1 {
				t.Fatalf("Sweep removed %v (%v), want one name", removed, err)
			}
		},
		// The earlier agent has unmounted the copy, and could not unlink.
		"Sweep of a remainder": func(t *testing.T, p *Pool, rec Record) {
			if err := unix.Unmount(sharedNames.path(rec.Netns), unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			if err := unix.Unlink(sharedNames.path(rec.Netns)); err != unix.EBUSY {
				t.Fatalf("unlink of a hidden name: got %v, want EBUSY", err)
			}
			if removed, err := p.Sweep(t.Context(), none); err != nil || len(removed) != 1 {
				t.Fatalf("Sweep removed %v (%v), want one name", removed, err)
			}
		},
		"Discard of a remainder": func(t *testing.T, p *Pool, rec Record) {
			if err := unix.Unmount(sharedNames.path(rec.Netns), unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			p.Discard(t.Context(), "one", rec)
		},
	} {
		t.Run(way, func(t *testing.T) {
			netnstest.FreshRun(t)
			host, cfg := newSpace(t), Config{Name: uniqueName()}
			p := host.open(cfg)
			s, err := p.Acquire(t.Context(), "one")
			if err != nil {
				t.Fatal(err)
			}
			hide(t, s)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			p = host.open(cfg)
			remove(t, p, s.Record())
			if len(p.garbage) > 0 {
				t.Errorf("garbage: %v", p.garbage)
			}
			awaitNoPair(t, p, s.Netns)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			gone(t, cfg.Name)
			if _, _, err := sharedNames.open("stranger"); err != nil {
				t.Errorf("the stranger's namespace was removed: %v", err)
			}
		})
	}
}

// TestNameThatCannotBeRemovedIsGarbage: neither the slot nor the sandbox waits
// for it, and it is removed as soon as that works.
func TestNameThatCannotBeRemovedIsGarbage(t *testing.T) {
	needRoot(t)
	if !netnstest.PrivateMounts(t) {
		return
	}
	p := newSpace(t).open(Config{Name: uniqueName()})
	writable := func(yes bool) {
		flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND)
		if !yes {
			flags |= unix.MS_RDONLY
		}
		if err := unix.Mount("", string(p.names), "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	s, err := p.Acquire(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	writable(false)
	s.Release(t.Context())
	if !p.garbage[s.Netns] {
		t.Fatal("a name that cannot be removed is not among the garbage")
	}
	if p.collectOnce() {
		t.Fatal("the garbage is gone while it cannot be removed")
	}
	writable(true)
	again := acquire(t, p, "one") // a resume
	if again.Index == s.Index {
		t.Fatal("the index of a name that is still there was given out")
	}
	if removed, err := p.Sweep(t.Context(), none); err != nil || len(removed) > 0 {
		t.Fatalf("Sweep removed %v (%v) although the garbage has its own retry", removed, err)
	}
	for !p.collectOnce() {
	}
	if _, err := os.Stat(p.names.path(s.Netns)); !os.IsNotExist(err) {
		t.Errorf("the name is left: %v", err)
	}
	if !p.indexes.hold(s.Index) {
		t.Error("the index of collected garbage is still held")
	}
}

// TestSecondAgentIsRefused: it must not replace the first one's rules or remove
// its directory of names.
func TestSecondAgentIsRefused(t *testing.T) {
	needRoot(t)
	host, cfg := newSpace(t), Config{Name: uniqueName()}
	p := host.open(cfg)
	acquire(t, p, "one").Release(t.Context())
	err := inside(host.home, host.ns, func() error { _, err := Open(cfg, host.discard()); return err })
	if !fault.Is(err, fault.Exists) {
		t.Fatalf("second Open with one name: got %v, want %v", err, fault.Exists)
	}
	acquire(t, p, "one")
}

// TestDirectoryOfNamesIsPrivate: also one whose agent was killed between the
// mount and its becoming private.
func TestDirectoryOfNamesIsPrivate(t *testing.T) {
	needRoot(t)
	if !netnstest.PrivateMounts(t) {
		return
	}
	if err := unix.Mount("", "/run", "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	dir := namesOf("wprivate")
	if err := os.MkdirAll(string(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(string(dir), string(dir), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := dir.prepare(); err != nil {
			t.Fatal(err)
		}
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[4] == string(dir) {
			found++
			if strings.Contains(line, " shared:") {
				t.Errorf("got a mount that others see: %s", line)
			}
		}
	}
	if found != 1 {
		t.Errorf("got %d mounts of the directory, want 1", found)
	}
}

// TestHiddenNamesAreFitForAShell: doctor prints them in a command for root.
func TestHiddenNamesAreFitForAShell(t *testing.T) {
	needRoot(t)
	if !netnstest.PrivateMounts(t) {
		return
	}
	if err := os.MkdirAll(string(sharedNames), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"w0a1b2c3d-7", "a;reboot", "$(reboot)", "a b", "-rf"} {
		if err := sharedNames.claim(name, markWord); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(sharedNames.path(name), sharedNames.path(name), "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Hidden(); err != nil || len(got) != 1 || got[0] != "w0a1b2c3d-7" {
		t.Errorf("got the hidden names %q (%v), want w0a1b2c3d-7 alone", got, err)
	}
}
