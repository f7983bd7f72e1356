package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/datafs"
	"github.com/wrenn-dev/wrenn/internal/host/fakes"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/fake"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// powerCut makes the XFS at dir forget all that is not on its disk, as the end of
// the power does (XFS_IOC_GOINGDOWN with XFS_FSOP_GOING_FLAGS_NOLOGFLUSH, xfs_fs.h).
// Before, it syncs a file of somebody else, so that names are on the disk.
func powerCut(t *testing.T, dir string) {
	t.Helper()
	const goingDown, noLogFlush = 0x8004587d, 2
	other, err := os.Create(filepath.Join(dir, "other"))
	check(t, err)
	defer other.Close()
	_, err = other.WriteString("of another sandbox")
	check(t, err)
	check(t, other.Sync())
	check(t, unix.IoctlSetPointerInt(int(other.Fd()), goingDown, noLogFlush))
}

// endOfHost ends the agent and every VM where they stand. The next agent runs on
// a host that has restarted.
func (c *core) endOfHost() {
	c.t.Helper()
	m, h := c.Manager, c.hook
	c.Manager = nil
	m.Crash()
	close(h.unblock)
	h.mu.Lock()
	if h.held != nil {
		close(h.held)
	}
	h.mu.Unlock()
	c.machine.Close()
	m.Bury()
	c.machine = fake.NewHost(filepath.Join(c.dir, "guests"))
	c.groups = fakes.NewCgroups()
}

// TestPowerCut: a sandbox whose pause was acknowledged is still paused after a
// crash of the host, also if the journal was written again before the crash: by the
// pause itself, by the next agent, by a resume that was under way, or by one that
// failed. A sandbox that ran has ended, and the agent starts.
func TestPowerCut(t *testing.T) {
	hosttest.Root(t)
	reboot := func(c *core, ref sandbox.Ref) {
		reached, _ := c.hook.hold("resume.commit")
		ref.Generation++
		go func() { _, _ = c.Reboot(c.t.Context(), ref) }()
		<-reached
	}
	for name, then := range map[string]func(*core, sandbox.Ref){
		"after the pause": func(*core, sandbox.Ref) {},
		"after the next start": func(c *core, _ sandbox.Ref) {
			c.restart()
		},
		"after a failed resume": func(c *core, ref sandbox.Ref) {
			c.hook.arm("resume.configure", false)
			if err := actResume.do(c.t.Context(), c, ref); err == nil {
				c.t.Fatal("the resume did not fail")
			}
		},
		"after a pause without memory":                func(*core, sandbox.Ref) {},
		"within a boot after a pause without memory":  reboot,
		"within a boot after a pause with its memory": reboot,
		"within a resume": func(c *core, ref sandbox.Ref) {
			reached, _ := c.hook.hold("resume.configure")
			go func() { _ = actResume.do(c.t.Context(), c, ref) }()
			<-reached
		},
		"after a change of its clocks": func(c *core, ref sandbox.Ref) {
			idle := time.Hour
			_, err := c.SetTimeouts(c.t.Context(), ref, host.Timeouts{Idle: &idle})
			check(c.t, err)
		},
		"after a change of its limits": func(c *core, ref sandbox.Ref) {
			_, err := c.SetEgress(c.t.Context(), ref, sandbox.DenyAll())
			check(c.t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCore(t, "")
			check(t, c.Close())
			place := datafs.Place{Image: filepath.Join(c.dir, "data.xfs"), Dir: filepath.Join(c.dir, "data")}
			check(t, os.RemoveAll(place.Dir))
			_, err := place.Open(t.Context(), datafs.MinSize)
			check(t, err)
			t.Cleanup(func() {
				if c.Manager != nil {
					check(t, c.Close())
					c.Manager = nil
				}
				c.machine.Close()
				check(t, place.Close())
			})
			c.open()
			running, paused := c.create(), c.create()
			unix.Sync()
			c.write(running, "more", "more") // the journal of a running sandbox
			if strings.HasSuffix(name, "without memory") {
				pauseSubjectsDisk(c, paused)
			} else {
				pauseSubject(c, paused)
			}
			then(c, paused)

			powerCut(t, place.Dir)
			c.endOfHost()
			check(t, place.Close())
			_, err = place.Open(t.Context(), datafs.MinSize)
			check(t, err)
			c.open()
			if s := c.of(paused); s.State != sandbox.Paused {
				t.Fatalf("after the power cut the paused sandbox is %q %s", s.State, s.StopReason)
			}
			if s := c.of(running); s.State != sandbox.Stopped && s.State != "" {
				t.Errorf("after the power cut the running sandbox is %q", s.State)
			}
			ref := c.of(paused).Ref
			check(t, actResume.do(t.Context(), c, ref))
			ref.Generation++
			if got := c.read(ref, mark); got != string(paused.ID) {
				t.Errorf("the sandbox's file holds %q", got)
			}
		})
	}
}
