package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestCoreFormatOne: an agent takes over the sandboxes and snapshots of an agent
// with data format 1, VMs that run included, also where an agent before it was
// cut off in the conversion.
func TestCoreFormatOne(t *testing.T) {
	for name, cut := range map[string]func(*core){
		"from the start": func(*core) {},
		"cut off": func(c *core) {
			data := filepath.Join(c.dir, "data")
			check(c.t, os.WriteFile(filepath.Join(data, "format"), []byte("2\n"), 0o600))
			check(c.t, os.Rename(filepath.Join(data, "s"), filepath.Join(data, "sandboxes")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCore(t, fastTemp(t))
			running, paused, other := c.create(), c.create(), c.create()
			takeSnapshot(c, running)
			copied := newRef()
			_, err := c.CreateFrom(t.Context(), copied, coreSpec, coreSnapshot)
			check(t, err)
			pauseSubject(c, paused)
			pauseSubject(c, copied)
			check(t, c.Close())
			data := filepath.Join(c.dir, "data")
			toFormatOne(t, data)
			for _, rec := range c.machine.Records() {
				c.machine.MarkAs(rec, oldPath(data, rec.Dir))
			}
			cut(c)
			c.open()
			for ref, want := range map[sandbox.Ref]sandbox.State{
				running: sandbox.Running, other: sandbox.Running, paused: sandbox.Paused, copied: sandbox.Paused,
			} {
				if s := c.of(ref); s.State != want || s.StopReason != "" {
					t.Errorf("after the upgrade a sandbox is %q %s, want %s", s.State, s.StopReason, want)
				}
			}
			if n := len(c.machine.Records()); n != 2 {
				t.Errorf("%d VMs run, want 2", n)
			}
			c.agree()
			for _, ref := range []sandbox.Ref{paused, copied} {
				check(t, actResume.do(t.Context(), c, ref))
			}
			if got := c.read(sandbox.Ref{ID: copied.ID, Generation: 2}, mark); got != string(running.ID) {
				t.Errorf("the copy's file holds %q, want its parent's", got)
			}
			if got := c.read(running, mark); got != string(running.ID) {
				t.Errorf("the running sandbox's file holds %q", got)
			}
			pauseSubject(c, other)
			check(t, actResume.do(t.Context(), c, other))
			for _, was := range formatOne {
				if st, err := os.Lstat(filepath.Join(c.dir, "data", was)); err == nil && st.IsDir() {
					t.Errorf("the directory %s is left", was)
				}
			}
			c.restart()
			c.agree()
		})
	}
}

// TestCoreFormatConflict: two directories of one purpose stop the agent, which
// leaves both.
func TestCoreFormatConflict(t *testing.T) {
	c := newCore(t, fastTemp(t))
	check(t, c.Close())
	c.Manager = nil
	data := filepath.Join(c.dir, "data")
	check(t, os.Mkdir(filepath.Join(data, "n"), 0o700))
	m, err := host.Open(t.Context(), c.config(), c.deps())
	if err == nil {
		c.Manager = m
		t.Fatal("an agent started on two directories of snapshots")
	}
	if !strings.Contains(err.Error(), "move one of them away") {
		t.Errorf("the error says %q, want a remedy", err)
	}
	check(t, os.Remove(filepath.Join(data, "n")))
	c.open()
}
