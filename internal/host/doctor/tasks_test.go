package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestJudgeTasks: the kernel's limits are compared with the sandboxes that fit into the
// memory, of which gVisor's have a task of the host for each task of the guest.
func TestJudgeTasks(t *testing.T) {
	plenty := taskLimits{pidMax: 4194304, threadsMax: 190000, userNamespaces: 90000}
	with := func(change func(*taskLimits)) taskLimits { l := plenty; change(&l); return l }
	few := with(func(l *taskLimits) { l.pidMax = 32768 })
	for name, c := range map[string]struct {
		limits   taskLimits
		memoryMB int
		sentries bool
		want     Status
		fix      string
	}{
		"a distribution's limits":          {plenty, 24 << 10, true, OK, ""},
		"the kernel's own pid_max":         {few, 24 << 10, true, Warn, "kernel.pid_max = 4194304"},
		"the same on a small machine":      {few, 4 << 10, true, OK, ""},
		"the same with microVMs only":      {few, 24 << 10, false, OK, ""},
		"few threads":                      {with(func(l *taskLimits) { l.threadsMax = 9000 }), 24 << 10, true, Warn, "kernel.threads-max = "},
		"user namespaces are forbidden":    {with(func(l *taskLimits) { l.userNamespaces = 0 }), 24 << 10, true, Fail, "user.max_user_namespaces = 4096"},
		"the same with microVMs only, too": {with(func(l *taskLimits) { l.userNamespaces = 0 }), 24 << 10, false, OK, ""},
	} {
		got := judgeTasks(c.limits, c.memoryMB, c.sentries)
		if got.Status != c.want || !strings.Contains(got.Fix, c.fix) || (got.Fix == "") != (c.want == OK) {
			t.Errorf("%s: got %+v, want %s with the fix %q", name, got, c.want, c.fix)
		}
	}
}

func TestReadTaskLimits(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"kernel/pid_max": "1\n", "kernel/threads-max": "2\n", "user/max_user_namespaces": "3\n"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := readTaskLimits(dir); err != nil || got != (taskLimits{1, 2, 3}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := readTaskLimits(t.TempDir()); err == nil {
		t.Error("limits that are not there are no error")
	}
}
