package cgroup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
	"github.com/wrenn-dev/wrenn/internal/linux/thread"
)

// openManager opens a manager of the test's own, or skips where groups cannot
// be made.
func openManager(t *testing.T) *Manager {
	t.Helper()
	m, err := Open(fmt.Sprintf("wrenntest%08x", rand.Uint32()), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := m.Sweep(context.Background(), func(string) bool { return false }); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		for _, base := range m.bases() {
			if _, err := os.Stat(base); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", base, err)
			}
		}
	})
	if m.Kind() == None {
		missing(t, "control groups that can be made")
	}
	t.Logf("kind %s, enforced %v", m.Kind(), m.Enforced())
	return m
}

// missing skips the test because the host lacks what. It fails the test where
// WRENN_REQUIRE has root.
func missing(t *testing.T, what string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "root") {
		t.Fatalf("this test is required and lacks %s", what)
	}
	t.Skipf("this test lacks %s", what)
}

// start runs a shell script in the group the way a VMM is started, and returns
// when it has written its first line.
func start(t *testing.T, g *Group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read go; "+script)
	if g.Dir() != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.Dir().Fd())}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func create(t *testing.T, m *Manager, id string, l Limits) *Group {
	t.Helper()
	g, err := m.Create(id, l)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestKillReachesEveryProcess(t *testing.T) {
	m := openManager(t)
	g := create(t, m, "one", Limits{PIDs: 64})
	if _, err := m.Create("one", Limits{}); !fault.Is(err, fault.Exists) {
		t.Fatalf("second group of one sandbox: %v", err)
	}
	cmd := start(t, g, "sleep 1000 & sleep 1000 & setsid sleep 1000 & echo ready; wait")
	if err := g.Remove(); !fault.Is(err, fault.WrongState) {
		t.Fatalf("removing a group with processes: %v", err)
	}
	if g, _ = m.Adopt("one"); g == nil {
		t.Fatal("the group cannot be adopted")
	}
	if err := g.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.members(); err != nil || len(pids) > 0 {
		t.Fatalf("still there: %v %v", pids, err)
	}
	_ = cmd.Wait()
	for range 2 {
		if err := errors.Join(g.Kill(t.Context()), g.Remove()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Adopt("one"); !fault.Is(err, fault.NotFound) {
		t.Fatalf("adopting a group that is gone: %v", err)
	}
}

func TestKillWithoutV2(t *testing.T) {
	m := openManager(t)
	if len(m.v1) == 0 {
		t.Skip("this host has no v1 controllers")
	}
	g := create(t, m, "one", Limits{})
	start(t, g, "sleep 1000 & sleep 1000 & echo ready; wait")
	v1 := &Group{v1: g.v1}
	if err := v1.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.members(); err != nil || len(pids) > 0 {
		t.Fatalf("still there: %v %v", pids, err)
	}
}

// TestGroupOfAnAgentWithFewerControllers: the next agent uses a controller that
// nothing depends on, such as that of devices, and keeps the VM all the same.
func TestGroupOfAnAgentWithFewerControllers(t *testing.T) {
	dir := t.TempDir() // before openManager, which looks into it at the end
	m := openManager(t)
	for _, c := range extras {
		if base := m.v1[c]; base != "" {
			delete(m.v1, c)
			t.Cleanup(func() { _ = os.Remove(base) })
		}
	}
	cmd := start(t, create(t, m, "older", Limits{PIDs: 64}), "echo ready; sleep 1000")
	for _, c := range extras {
		m.v1[c] = filepath.Join(dir, c)
		if err := os.Mkdir(m.v1[c], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	g, err := m.Adopt("older")
	if err != nil {
		t.Fatalf("adopt a group without the new controllers: %v", err)
	}
	if pids, err := g.members(); err != nil || !slices.Contains(pids, cmd.Process.Pid) {
		t.Errorf("the adopted group has %v (%v), want process %d", pids, err, cmd.Process.Pid)
	}
	// Reuse kills the group's processes.
	if g, err = m.Reuse(t.Context(), "older", Limits{PIDs: 32}); err != nil {
		t.Fatalf("reuse a group without the new controllers: %v", err)
	}
	start(t, g, "echo ready; sleep 1000")
	if err := g.Kill(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestKillSparesTheCaller: a thread that is in a v1 group to start a process there makes
// its whole process a member. Kill waits for the end of the thread instead.
func TestKillSparesTheCaller(t *testing.T) {
	m := openManager(t)
	g := create(t, m, "vm", Limits{})
	joined, leave, left := make(chan error), make(chan struct{}), make(chan error, 1)
	go func() {
		left <- thread.Own(func() error {
			var errs []error
			for _, dir := range g.dirs() {
				if dir != g.unified {
					errs = append(errs, write(dir, "tasks", "0"))
				}
			}
			joined <- errors.Join(errs...)
			<-leave
			return nil
		})
	}()
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
	pids, err := g.members()
	if err != nil {
		t.Fatal(err)
	}
	killed := make(chan error, 1)
	go func() { killed <- g.Kill(t.Context()) }()
	if slices.Contains(pids, os.Getpid()) {
		select {
		case err := <-killed:
			t.Errorf("Kill returned %v with a thread in the group", err)
		case <-time.After(20 * ownThreadPoll):
		}
	}
	close(leave)
	if err := errors.Join(<-left, <-killed); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.members(); err != nil || len(pids) > 0 {
		t.Errorf("the group has %v, %v", pids, err)
	}
}

func TestKillEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stop, err := newStopper(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stop.close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cancel()
	if err := stop.wait(int(r.Fd()), 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("a wait whose context has ended: %v", err)
	}
}

// useMemory is an environment variable: with it, the program of this test writes to as
// many MiB of memory and ends with success.
const useMemory = "WRENN_TEST_USE_MEMORY"

func TestMain(m *testing.M) {
	if megabytes, err := strconv.Atoi(os.Getenv(useMemory)); err == nil {
		for range megabytes {
			used = append(used, bytes.Repeat([]byte{1}, 1<<20))
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var used [][]byte

func TestMemoryLimitIsNoticed(t *testing.T) {
	m := openManager(t)
	if !slices.Contains(m.Enforced(), "memory") {
		t.Skip("memory limits are not enforced here")
	}
	g := create(t, m, "small", Limits{MemoryBytes: 32 << 20})
	if g.OOMKilled() {
		t.Fatal("a fresh group says that it ran out of memory")
	}
	t.Setenv(useMemory, "256")
	cmd := start(t, g, "echo ready; exec '"+os.Args[0]+"'")
	if err := cmd.Wait(); err == nil {
		t.Fatal("a process used 256 MiB under a limit of 32")
	}
	if !g.OOMKilled() {
		t.Fatal("the kill for memory went unnoticed")
	}
}

func TestLimitsAreSet(t *testing.T) {
	m := openManager(t)
	g := create(t, m, "limited", Limits{MemoryBytes: 64 << 20, CPUs: 1.5, PIDs: 10})
	for _, c := range m.Enforced() {
		settings, dir := v2Settings(c, Limits{MemoryBytes: 64 << 20, CPUs: 1.5, PIDs: 10}), g.unified
		if g.v1[c] != "" {
			settings, dir = v1Settings(c, Limits{MemoryBytes: 64 << 20, CPUs: 1.5, PIDs: 10}), g.v1[c]
		}
		for _, s := range settings {
			got, err := os.ReadFile(filepath.Join(dir, s.file))
			if s.optional && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil || strings.TrimSpace(string(got)) != s.value {
				t.Errorf("%s is %q (%v), want %q", s.file, got, err, s.value)
			}
		}
	}
}

func TestBackgroundIsALowWeight(t *testing.T) {
	m := openManager(t)
	g := create(t, m, "background", Limits{CPUs: 1})
	path, normal := filepath.Join(g.unified, "cpu.weight"), "100"
	if dir := g.v1["cpu"]; dir != "" {
		path, normal = filepath.Join(dir, "cpu.shares"), "1024"
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Skip("no control group has a say in CPU here")
	}
	for _, on := range []bool{true, false, true} {
		if err := g.Background(on); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if isNormal := strings.TrimSpace(string(got)) == normal; isNormal == on {
			t.Errorf("background %t: %s is %s", on, path, got)
		}
	}
}

func TestSweepKeepsWhatIsWanted(t *testing.T) {
	m := openManager(t)
	create(t, m, "wanted", Limits{})
	start(t, create(t, m, "orphan", Limits{}), "sleep 1000 & echo ready; wait")
	removed, err := m.Sweep(t.Context(), func(id string) bool { return id == "wanted" })
	if err != nil || !slices.Equal(removed, []string{"orphan"}) {
		t.Fatalf("removed %v (%v), want orphan", removed, err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Adopt("wanted"); err != nil {
		t.Fatalf("Close took a group with it: %v", err)
	}
}

func TestWithoutControlGroupsNothingHappens(t *testing.T) {
	m := &Manager{log: slog.New(slog.DiscardHandler), kind: layout{}.kind()}
	g, err := m.Create("one", Limits{MemoryBytes: 1, CPUs: 1, PIDs: 1})
	if err != nil {
		t.Fatal(err)
	}
	if m.Kind() != None || g.Dir() != nil || g.OOMKilled() {
		t.Errorf("kind %s, dir %v, oom %v", m.Kind(), g.Dir(), g.OOMKilled())
	}
	if err := errors.Join(g.Add(os.Getpid()), g.Background(true), g.Kill(t.Context()), g.Remove()); err != nil {
		t.Error(err)
	}
	if _, err := m.Sweep(t.Context(), func(string) bool { return false }); err != nil {
		t.Error(err)
	}
}

func TestNamesArePlain(t *testing.T) {
	m := &Manager{kind: None}
	for _, id := range []string{"", ".", "..", "a/b", "../x", ".hidden", "a\x00b", strings.Repeat("a", 65)} {
		if _, err := m.Create(id, Limits{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestKindOfMounts(t *testing.T) {
	const (
		v1Memory = "35 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
		v1Joint  = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
		v1Name   = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
		v2       = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		v2Below  = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		v2RO     = "30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n"
		other    = "22 27 0:21 / /proc rw - proc proc rw\n"
	)
	for _, c := range []struct {
		name, text string
		has        []string
		want       Kind
		v1         []string
	}{
		{"v2", other + v2, []string{"memory", "cpu", "pids"}, V2, nil},
		{"hybrid", v1Memory + v1Joint + v1Name + v2Below, nil, Hybrid, []string{"cpu", "memory"}},
		{"v1", v1Memory + v1Joint, nil, V1, []string{"cpu", "memory"}},
		{"read-only", v2RO, nil, None, nil},
		{"names only", v1Name, nil, None, nil},
		{"none", other, nil, None, nil},
	} {
		mounts, err := cgroupfs.Parse(strings.NewReader(c.text))
		if err != nil {
			t.Fatal(err)
		}
		l := layoutOf(mounts)
		l.unifiedHas = c.has
		if got := l.kind(); got != c.want {
			t.Errorf("%s: kind %s, want %s", c.name, got, c.want)
		}
		for _, controller := range c.v1 {
			if l.v1[controller] == "" {
				t.Errorf("%s: %s not found in %v", c.name, controller, l.v1)
			}
		}
		if len(l.v1) != len(c.v1) {
			t.Errorf("%s: v1 %v, want %v", c.name, l.v1, c.v1)
		}
	}
}

// TestPartOfAGroup: an agent that died while it made a group leaves a part of it,
// which is completed or removed.
func TestPartOfAGroup(t *testing.T) {
	m := openManager(t)
	limits := Limits{MemoryBytes: 512 << 20, CPUs: 1, PIDs: 64}
	for i, last := range create(t, m, "whole", limits).dirs() {
		if slices.Contains(extraDirs(m, "whole"), last) {
			continue
		}
		id := fmt.Sprintf("part%d", i)
		create(t, m, id, limits)
		if err := os.Remove(filepath.Join(filepath.Dir(last), id)); err != nil {
			t.Fatal(err)
		}
		g, err := m.Reuse(t.Context(), id, limits)
		if err != nil {
			t.Fatalf("reuse a group without %s: %v", last, err)
		}
		start(t, g, "echo ready; sleep 1000")
		if err := g.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(filepath.Dir(last), id)); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Adopt(id); !fault.Is(err, fault.NotFound) {
			t.Fatalf("adopt a group without %s: %v", last, err)
		}
		for _, dir := range g.dirs() {
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) && !slices.Contains(extraDirs(m, id), dir) {
				t.Errorf("%s is left of a group without %s: %v", dir, last, err)
			}
		}
	}
}

// extraDirs are the directories of a group's controllers that nothing depends on.
func extraDirs(m *Manager, id string) (dirs []string) {
	for _, c := range extras {
		if base := m.v1[c]; base != "" {
			dirs = append(dirs, filepath.Join(base, id))
		}
	}
	return dirs
}

// TestGroupThatCannotBeRemovedIsUsedAgain: a group below it keeps it.
func TestGroupThatCannotBeRemovedIsUsedAgain(t *testing.T) {
	m := openManager(t)
	limits := Limits{MemoryBytes: 512 << 20, CPUs: 1, PIDs: 64}
	g := create(t, m, "one", limits)
	for _, dir := range g.dirs() {
		nested := filepath.Join(dir, "nested")
		if err := os.Mkdir(nested, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(nested) })
	}
	for range 3 {
		start(t, g, "sleep 1000 & echo ready; wait")
		if err := g.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.Remove(); err == nil {
			t.Fatal("a group with a group below it was removed")
		}
		var err error
		if g, err = m.Reuse(t.Context(), "one", limits); err != nil {
			t.Fatal(err)
		}
	}
}
