package upgrade

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// open starts an agent on dir as after a reboot: no recorded process exists. stop
// ends everything that open started, even if the agent did not start.
func open(t *testing.T, name, dir string) (m *host.Manager, stop func(), err error) {
	t.Helper()
	deps := hosttest.Deps(t, hosttest.Name(name))
	m, err = host.Open(t.Context(), host.Config{Dir: dir, DiskReserveBytes: 1, Nameservers: []string{"192.0.2.53"}}, deps)
	return m, func() {
		t.Helper()
		if m != nil {
			check(t, m.Close())
		}
		check(t, deps.Network.(io.Closer).Close())
	}, err
}

func mustOpen(t *testing.T, name, dir string) (*host.Manager, func()) {
	t.Helper()
	m, stop, err := open(t, name, dir)
	if err != nil {
		stop()
		t.Fatal(err)
	}
	return m, stop
}

// outcome is the part of a sandbox that an upgrade decides.
type outcome struct {
	State      sandbox.State
	Reason     sandbox.StopReason
	Generation sandbox.Generation
}

func outcomes(m *host.Manager) map[sandbox.ID]outcome {
	all := make(map[sandbox.ID]outcome)
	for _, s := range m.List() {
		all[s.Ref.ID] = outcome{s.State, s.StopReason, s.Ref.Generation}
	}
	return all
}

// TestHostDataOfV01: paused sandboxes and named snapshots are kept, a sandbox
// whose VM is gone or that was being created has ended, and unreferenced files
// are removed.
func TestHostDataOfV01(t *testing.T) {
	dir := hosttest.Dir(t)
	layDown(t, dir)
	m, stop := mustOpen(t, "wup", dir)
	defer stop()
	want := map[sandbox.ID]outcome{
		running:      {sandbox.Stopped, sandbox.ReasonHostLost, 1},
		pausing:      {sandbox.Stopped, sandbox.ReasonHostLost, 1},
		creating:     {sandbox.Stopped, sandbox.ReasonBootFailed, 1},
		paused:       {sandbox.Paused, "", 1},
		fromSnapshot: {sandbox.Paused, "", 1},
	}
	if diff := cmp.Diff(want, outcomes(m)); diff != "" {
		t.Errorf("sandboxes after the upgrade (-want +got):\n%s", diff)
	}
	for _, s := range m.List() {
		if s.Ref.ID == paused && (s.Spec.Env["GREETING"] != "hello" || s.Spec.OnTimeout != sandbox.TimeoutPause || s.Source != journal.SourceRestore) {
			t.Errorf("the paused sandbox has the spec %+v and source %s", s.Spec, s.Source)
		}
		if s.Ref.ID == fromSnapshot && s.SnapshotID != named {
			t.Errorf("the sandbox made from %s says it was made from %q", named, s.SnapshotID)
		}
	}
	mustKeepSnapshot(t, m)
	for _, gone := range []string{string(warm), string(building), string(forked)} {
		if left := directoriesNamed(t, dir, gone); len(left) != 0 {
			t.Errorf("%s, which nothing needs any more, is still there: %v", gone, left)
		}
	}
}

// mustKeepSnapshot checks the named snapshot, on which one sandbox is based.
func mustKeepSnapshot(t *testing.T, m *host.Manager) {
	t.Helper()
	snapshots, err := m.Snapshots()
	check(t, err)
	if len(snapshots) != 1 {
		t.Fatalf("snapshots after the upgrade: %+v, want %s alone", snapshots, named)
	}
	s := snapshots[0]
	if s.ID != named || s.Of.ID != running || s.Users != 1 || s.Deleted || s.Spec.MemoryMB != 512 || s.PauseWindow == 0 {
		t.Errorf("the named snapshot is %+v, want %s of %s with one user", s, named, running)
	}
}

// TestUpgradeHappensOnce: a second start on the upgraded data changes no state,
// and everything in it can be removed.
func TestUpgradeHappensOnce(t *testing.T) {
	dir := hosttest.Dir(t)
	layDown(t, dir)
	first, stopFirst := mustOpen(t, "wuq", dir)
	before := outcomes(first)
	stopFirst()
	m, stop := mustOpen(t, "wuq", dir)
	defer stop()
	if diff := cmp.Diff(before, outcomes(m)); diff != "" {
		t.Errorf("sandboxes after the second start (-first +second):\n%s", diff)
	}
	mustKeepSnapshot(t, m)
	for id, o := range before {
		if o.State == sandbox.Paused {
			check(t, m.Destroy(t.Context(), sandbox.Ref{ID: id, Generation: o.Generation}, ""))
		}
	}
	check(t, m.DeleteSnapshot(t.Context(), named))
	_, err := m.CollectGarbage(t.Context(), false)
	check(t, err)
	for _, gone := range []string{string(paused), string(fromSnapshot), string(named)} {
		if left := directoriesNamed(t, dir, gone); len(left) != 0 {
			t.Errorf("%s was removed and is still there: %v", gone, left)
		}
	}
}

// TestNewerHostDataIsRefused, and left as it is.
func TestNewerHostDataIsRefused(t *testing.T) {
	record := func(t *testing.T, dir string) {
		path := filepath.Join(directoriesNamed(t, dir, string(paused))[0], "record.json")
		data, err := os.ReadFile(path)
		check(t, err)
		newer := strings.Replace(string(data), `"version":2`, `"version":99`, 1)
		if newer == string(data) {
			t.Fatalf("%s has no version to raise", path)
		}
		check(t, os.WriteFile(path, []byte(newer), 0o600))
	}
	format := func(t *testing.T, dir string) {
		check(t, os.WriteFile(filepath.Join(dir, "format"), []byte("99\n"), 0o600))
	}
	for name, raise := range map[string]func(*testing.T, string){"record": record, "format": format} {
		t.Run(name, func(t *testing.T) {
			dir := hosttest.Dir(t)
			layDown(t, dir)
			raise(t, dir)
			before := content(t, dir)
			_, stop, err := open(t, "wun", dir)
			defer stop()
			if err == nil {
				t.Fatal("an agent started on the data of a newer version")
			}
			if f := fault.As(err); f.Reason != "data_newer" || !strings.Contains(f.Public, "99") {
				t.Errorf("got %s: %s, want data_newer with the version 99", f.Reason, f.Public)
			}
			after := content(t, dir)
			for path := range before {
				if after[path] != before[path] {
					t.Errorf("%s was changed", path)
				}
			}
		})
	}
}

// directoriesNamed returns the directories below dir whose name is id, or ends
// with it, as that of a template snapshot does.
func directoriesNamed(t *testing.T, dir, id string) (found []string) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasSuffix(d.Name(), id) {
			found = append(found, path)
		}
		return err
	}))
	return found
}
