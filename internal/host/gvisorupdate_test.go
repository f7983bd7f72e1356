package host_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// updates is an agent that runs sandboxes under gVisor on a machine where runsc and
// the guest agent are updated.
type updates struct {
	*upgrades
	program string // path of the operator's runsc, empty for the one that was built
	agent   []byte // nil for the test's own
	kept    string // the build before the update
}

func newUpdates(t *testing.T, name string) *updates {
	t.Helper()
	u := &updates{upgrades: &upgrades{bench: &bench{t: t, name: hosttest.Name(name), dir: hosttest.Dir(t)}}}
	u.driver = func() vmm.Driver { return hosttest.GVisorOf(t, u.program, filepath.Join(u.dir, "runsc"), u.agent) }
	u.open()
	t.Cleanup(u.end)
	return u
}

// update restarts the agent after an update. Another byte at the end of a program
// makes it another build and changes nothing else.
func (u *updates) update(program, agent bool) {
	u.t.Helper()
	u.close()
	if program {
		data, err := os.ReadFile(filepath.Join(u.dir, "runsc", u.kept, "runsc"))
		check(u.t, err)
		u.program = filepath.Join(hosttest.Dir(u.t), "runsc")
		check(u.t, os.WriteFile(u.program, append(data, 0), 0o755))
	}
	if agent {
		u.agent = append(slices.Clone(hosttest.GuestBinary(u.t)), 0)
	}
	u.open()
}

// mustRunUnder checks which build runs the sandbox, and that its guest answers.
func (u *updates) mustRunUnder(ref sandbox.Ref, build string) {
	u.t.Helper()
	u.sh(ref, "true")
	found, err := u.deps.Drivers.Find(filepath.Join(u.dir, "sandboxes", string(ref.ID)))
	check(u.t, err)
	if len(found) != 1 {
		u.t.Fatalf("%s has the processes %v, want one sentry", ref.ID, found)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", found[0].PID))
	check(u.t, err)
	if want := filepath.Join(u.dir, "runsc", build, "runsc"); exe != want {
		u.t.Fatalf("%s runs %s, want %s", ref.ID, exe, want)
	}
}

// TestGVisorUpdatesStrandNothing: sandboxes and snapshots of gVisor continue under
// the runsc and the guest agent that saved them after an update of either, new
// sandboxes start under the new ones, and the old build goes with the last that
// needs it.
func TestGVisorUpdatesStrandNothing(t *testing.T) {
	for name, c := range map[string]struct{ program, agent bool }{"runsc": {program: true}, "guest agent": {agent: true}} {
		t.Run(name, func(t *testing.T) {
			u := newUpdates(t, "wgvup"+name[:1])
			u.kept = u.current()
			paused, running, child := u.create(), u.create(), newRef()
			u.sh(paused, counter+"; echo hello >/root/mark")
			const named sandbox.SnapshotID = "beforeupdate"
			_, err := u.Snapshot(t.Context(), paused, named, false)
			check(t, err)
			n := u.holds(paused, "before the update", 0)
			_, err = u.Pause(t.Context(), paused)
			check(t, err)

			u.update(c.program, c.agent)
			if u.current() == u.kept {
				t.Fatal("the agent did not notice the update")
			}
			paused.Generation++
			_, err = u.Resume(t.Context(), paused)
			check(t, err)
			u.holds(paused, "after the update", n)
			_, err = u.CreateFrom(t.Context(), child, smallSpec, named)
			check(t, err)
			for _, old := range []sandbox.Ref{paused, running, child} {
				u.mustRunUnder(old, u.kept)
			}
			fresh := u.create()
			u.mustRunUnder(fresh, u.current())

			for _, old := range []sandbox.Ref{paused, running, child} {
				check(t, u.Destroy(t.Context(), old, ""))
			}
			if got := u.garbageBuilds(); len(got) != 0 {
				t.Fatalf("with a snapshot under the old build, garbage has the builds %v", got)
			}
			check(t, u.DeleteSnapshot(t.Context(), named))
			u.awaitBuilds(u.current())
			u.mustRunUnder(fresh, u.current())
		})
	}
}

// TestMissingRunscIsNamed: without the runsc that saved it a paused sandbox stays
// paused, and the error names the missing build. It resumes once that is back.
func TestMissingRunscIsNamed(t *testing.T) {
	u := newUpdates(t, "wgvmiss")
	u.kept = u.current()
	ref := u.create()
	u.sh(ref, "echo kept >/root/file")
	_, err := u.Pause(t.Context(), ref)
	check(t, err)
	lost := u.builds()[0]
	u.update(true, false)
	u.close()
	check(t, os.RemoveAll(lost.Dir))
	u.open()
	ref.Generation++
	_, err = u.Resume(t.Context(), ref)
	if f := fault.As(err); err == nil || f.Reason != "vmm_build_missing" || f.Kind != fault.WrongState || !strings.Contains(f.Public, lost.Version) {
		t.Fatalf("a resume without the build: %v, want vmm_build_missing with version %s", err, lost.Version)
	}
	if s := u.state(ref.ID); s.State != sandbox.Paused {
		t.Fatalf("after the refused resume the sandbox is %s, want paused", s.State)
	}
	if stranded := u.stranded(); len(stranded) != 1 || !slices.Equal(stranded[0].Sandboxes, []sandbox.ID{ref.ID}) {
		t.Errorf("stranded are %+v, want %s", stranded, ref.ID)
	}

	u.close()
	u.program = "" // the build is installed again
	u.open()
	_, err = u.Resume(t.Context(), ref)
	check(t, err)
	if got := u.sh(ref, "cat /root/file"); got != "kept" {
		t.Fatalf("the file holds %q, want kept", got)
	}
}
