package gvisor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// release copies the built runsc into a directory like that of an operator's own
// release, with the program of the sentry beside it.
func release(t *testing.T, built vmm.Driver) string {
	t.Helper()
	builds, err := built.Builds()
	check(t, err)
	dir := hosttest.Dir(t)
	check(t, os.Mkdir(filepath.Join(dir, "gvisor-bin"), 0o755))
	for _, name := range []string{"runsc", "gvisor-bin/gvisor_sentry"} {
		to := filepath.Join(dir, name)
		_, err := disk.Clone(t.Context(), to, filepath.Join(builds[0].Dir, "runsc"))
		check(t, err)
		check(t, os.Chmod(to, 0o755))
	}
	return filepath.Join(dir, "runsc")
}

// TestOperatorsReleaseIsKept runs a sandbox with the operator's own release, removes
// that from the machine, and goes on with the kept copy of its programs.
func TestOperatorsReleaseIsKept(t *testing.T) {
	built, image := newDriver(t)
	program, kept := release(t, built.Driver), filepath.Join(hosttest.Dir(t), "kept")
	own := driver{hosttest.GVisorOf(t, program, kept, nil)}
	check(t, os.RemoveAll(filepath.Dir(program)))
	g := newGuest(t, image)
	v, err := own.Start(t.Context(), g.cfg)
	check(t, err)
	check(t, g.Ready(t.Context()))
	sentry, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", v.Record().PID))
	check(t, err)
	if want := filepath.Join(own.current(t).Dir, "gvisor-bin", "gvisor_sentry"); sentry != want {
		t.Errorf("the sentry runs %s, want the kept %s", sentry, want)
	}
	saved := t.TempDir()
	check(t, g.Freeze(t.Context()))
	check(t, v.Pause(t.Context()))
	_, err = v.SaveDelta(t.Context(), saved)
	check(t, err)
	check(t, v.Kill(t.Context()))

	print := own.Fingerprint(g.cfg)
	next := driver{hosttest.GVisorOf(t, "", kept, nil)} // the program that was built is current again
	if g.cfg.Build, err = next.BuildOf(print); err != nil || g.cfg.Build == next.current(t).ID {
		t.Fatalf("the build of the saved sandbox is %q (%v), want the kept one", g.cfg.Build, err)
	}
	check(t, vmm.CheckFingerprint(print, next.Fingerprint(g.cfg)))
	v, err = next.Restore(t.Context(), g.cfg, vmm.Image{Base: saved})
	check(t, err)
	check(t, g.Identify(t.Context()))
	check(t, v.Kill(t.Context()))
	check(t, next.RemoveBuild(t.Context(), g.cfg.Build))
	if _, err := next.BuildOf(print); err == nil {
		t.Error("a removed build was found")
	}
}

// current returns the build under which new sandboxes start.
func (d driver) current(t *testing.T) vmm.Build {
	t.Helper()
	builds, err := d.Builds()
	check(t, err)
	for _, b := range builds {
		if b.Current {
			return b
		}
	}
	t.Fatal("no build is the current one")
	return vmm.Build{}
}
