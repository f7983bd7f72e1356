package process

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
)

// cgroupRoot finds a mounted cgroup v2, or skips; it fails instead where
// WRENN_REQUIRE demands root.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	if found, err := cgroupfs.Find(); err == nil && found.Unified != "" && unix.Access(found.Unified, unix.W_OK) == nil {
		return found.Unified
	}
	if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "root") {
		t.Fatal("no writable cgroup v2 although WRENN_REQUIRE has root")
	}
	t.Skip("needs root and a cgroup v2 hierarchy")
	return ""
}

func TestKillReachesEscapedChildren(t *testing.T) {
	parent, err := os.MkdirTemp(cgroupRoot(t), "wrenn-test-")
	if err != nil {
		t.Fatal(err)
	}
	table := NewTable(NewCgroups(parent, "a-"))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := table.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := os.Remove(parent); err != nil {
			t.Errorf("a cgroup was left: %v", err)
		}
	})
	// The child leaves session and process group, and holds the pipe open.
	p, sub := start(t, table, command(t.TempDir(), "sh", "-c", "setsid sleep 1000 & echo begun; sleep 1000"))
	for piece := range pieces(t, sub) {
		if string(piece.Data) != "begun\n" {
			t.Fatalf("got %q", piece.Data)
		}
		break
	}
	members, err := p.group.Members()
	if err != nil || len(members) < 2 {
		t.Fatalf("members: %v, %v", members, err)
	}
	for _, m := range members {
		score, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(m), "oom_score_adj"))
		if err == nil && strings.TrimSpace(string(score)) != "0" {
			t.Errorf("process %d has oom_score_adj %s", m, score)
		}
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	collect(t, sub)
	<-p.Ended()
	if p.Exit().Signal != syscall.SIGKILL {
		t.Errorf("got %+v", p.Exit())
	}
}

func TestOutOfMemoryReadsTheKernelsCount(t *testing.T) {
	for events, want := range map[string]bool{
		"low 0\noom 1\noom_kill 1\noom_group_kill 0\n": true,
		"low 0\noom 4\noom_kill 0\noom_group_kill 0\n": false,
		"": false,
	} {
		g := &cgroup{path: t.TempDir()}
		if err := os.WriteFile(filepath.Join(g.path, "memory.events"), []byte(events), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := g.OutOfMemory(); got != want {
			t.Errorf("%q: out of memory is %v, want %v", events, got, want)
		}
	}
	if (&cgroup{path: t.TempDir()}).OutOfMemory() {
		t.Error("a group whose memory is not counted ran out of it")
	}
}

// TestCommandsLeaveTasksToOthers: one command cannot have all processes that users may
// have.
func TestCommandsLeaveTasksToOthers(t *testing.T) {
	for limit, want := range map[string]string{"384\n": "352", "max\n": "", "8\n": ""} {
		parent := t.TempDir()
		if err := os.WriteFile(filepath.Join(parent, tasksFile), []byte(limit), 0o600); err != nil {
			t.Fatal(err)
		}
		g, err := NewCgroups(parent, "a-").NewGroup("one")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Release)
		made := filepath.Join(parent, "a-one", tasksFile)
		_ = os.Chmod(made, 0o600) // it is no kernel's file; it has no mode
		got, err := os.ReadFile(made)
		if string(got) != want || want != "" && err != nil {
			t.Errorf("under a limit of %q: the command's is %q (%v), want %q", limit, got, err, want)
		}
	}
}
