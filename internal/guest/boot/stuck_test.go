package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// fakeThread writes the files of a process with one thread.
func fakeThread(t *testing.T, files kernelFiles, pid int, state string, switches int) {
	t.Helper()
	text := fmt.Sprintf("Name:\tState:\\nState\nState:\t%s\nvoluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t1\n", state, switches)
	write(t, files.process(pid, fmt.Sprintf("task/%d/status", pid)), text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestStuckThreads: a group counts as frozen only while it has the freezer's mark and none
// of its threads can have run.
func TestStuckThreads(t *testing.T) {
	for name, c := range map[string]struct {
		state, mark string
		change      func(t *testing.T, u *Users, dir string)
		stuck       bool
		stayed      bool
	}{
		"waits":         {state: "D (disk sleep)", mark: "1", stuck: true, stayed: true},
		"frozen":        {state: "S (sleeping)", mark: "1", stuck: true, stayed: true},
		"ended":         {state: "Z (zombie)", mark: "1", stuck: true, stayed: true},
		"runs":          {state: "R (running)", mark: "1"},
		"without mark":  {state: "D (disk sleep)", mark: "0"},
		"unknown state": {state: "", mark: "1"},
		"ran meanwhile": {state: "D (disk sleep)", mark: "1", stuck: true, change: func(t *testing.T, u *Users, _ string) {
			fakeThread(t, u.files, 7, "D (disk sleep)", 4)
		}},
		"runs again": {state: "D (disk sleep)", mark: "1", stuck: true, change: func(t *testing.T, u *Users, _ string) {
			fakeThread(t, u.files, 7, "R (running)", 3)
		}},
		"thawed meanwhile": {state: "D (disk sleep)", mark: "1", stuck: true, change: func(t *testing.T, _ *Users, dir string) {
			write(t, filepath.Join(dir, "cgroup.freeze"), "0\n")
		}},
		"another process": {state: "D (disk sleep)", mark: "1", stuck: true, change: func(t *testing.T, u *Users, dir string) {
			fakeThread(t, u.files, 8, "D (disk sleep)", 1)
			write(t, filepath.Join(dir, "below/cgroup.procs"), "8\n")
		}},
		"moved away": {state: "D (disk sleep)", mark: "1", stuck: true, change: func(t *testing.T, _ *Users, dir string) {
			write(t, filepath.Join(dir, "cgroup.procs"), "")
		}},
	} {
		u := &Users{files: kernelFiles{proc: t.TempDir()}}
		dir := t.TempDir()
		write(t, filepath.Join(dir, "cgroup.freeze"), c.mark+"\n")
		write(t, filepath.Join(dir, "cgroup.procs"), "7\n9\n") // the second has ended
		fakeThread(t, u.files, 7, c.state, 3)
		if got := u.stuck(dir); got != c.stuck {
			t.Errorf("%s: stuck is %t, want %t", name, got, c.stuck)
		}
		if !c.stuck {
			continue
		}
		before, waiting := u.look([]string{dir})
		if !waiting || len(before) != 1 {
			t.Errorf("%s: the look found %v, %t, want one thread that waits", name, before, waiting)
		}
		if c.change != nil {
			c.change(t, u, dir)
		}
		if got := u.stayed([]string{dir}, before); got != c.stayed {
			t.Errorf("%s: stayed is %t, want %t", name, got, c.stayed)
		}
	}
}
