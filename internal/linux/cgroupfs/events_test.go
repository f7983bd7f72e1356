package cgroupfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestEvents: a change of a group's events ends a wait, once, and so does Close. The kernel
// tells of processes in cgroup.events as it tells of memory in memory.events.
func TestEvents(t *testing.T) {
	mounts, err := Find()
	if err != nil || mounts.Unified == "" || os.Getuid() != 0 {
		t.Skip("this test needs root and cgroups v2")
	}
	group := filepath.Join(mounts.Unified, fmt.Sprintf("wrenn-events-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(group)
	w, err := watchEvents(filepath.Join(group, "cgroup.events"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Wait(); err != nil {
		t.Errorf("a process has joined the group: %v", err)
	}
	_ = in.Close()
	_ = cmd.Wait()
	if err := w.Wait(); err != nil {
		t.Errorf("the process has ended: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Wait() }()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v, want os.ErrClosed", err)
	}
}
