package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/qemu"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// upgrades is an agent on a machine whose QEMU can be replaced.
type upgrades struct {
	*bench
	binary string // path of the "installed" QEMU
}

// newUpgrades starts an agent that keeps its templates and its builds to
// itself, so that it may remove both.
func newUpgrades(t *testing.T, name string) *upgrades {
	t.Helper()
	u := &upgrades{binary: filepath.Join(hosttest.Dir(t), qemu.DefaultBinary)}
	u.install(t, "")
	u.bench = &bench{t: t, name: hosttest.Name(name), dir: hosttest.Dir(t)}
	u.driver = func() vmm.Driver { return hosttest.DriverOf(t, u.binary, filepath.Join(u.dir, "vmm")) }
	u.open()
	t.Cleanup(u.end)
	return u
}

// install puts the machine's QEMU, made another build by suffix, in the place
// of the installed one, as a package manager does.
func (u *upgrades) install(t *testing.T, suffix string) {
	t.Helper()
	path, err := exec.LookPath(qemu.DefaultBinary)
	check(t, err)
	data, err := os.ReadFile(path)
	check(t, err)
	next := u.binary + ".dpkg-new"
	check(t, os.WriteFile(next, append(data, suffix...), 0o755))
	check(t, os.Rename(next, u.binary))
}

// restart ends the agent, puts another build in, and starts the next agent.
func (u *upgrades) restart(suffix string) {
	u.t.Helper()
	u.close()
	u.install(u.t.(*testing.T), suffix)
	u.open()
}

// current is the ID of the build that new VMs are started under.
func (u *upgrades) current() string {
	u.t.Helper()
	for _, b := range u.builds() {
		if b.Current {
			return b.ID
		}
	}
	u.t.Fatal("no build is the current one")
	return ""
}

func (u *upgrades) builds() []vmm.Build {
	u.t.Helper()
	builds, err := u.deps.Drivers.Preferred().Builds()
	check(u.t, err)
	return builds
}

// mustRunUnder checks from which build the VM of ref is run, and that its guest
// answers.
func (u *upgrades) mustRunUnder(ref sandbox.Ref, build string) {
	u.t.Helper()
	u.sh(ref, "true")
	found, err := u.deps.Drivers.Find(filepath.Join(u.dir, "sandboxes", string(ref.ID)))
	check(u.t, err)
	if len(found) != 1 {
		u.t.Fatalf("%s has the VM processes %v, want one", ref.ID, found)
	}
	// Each build has a loader of its own, at any path that the process sees.
	runs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", found[0].PID))
	check(u.t, err)
	want, err := os.Stat(filepath.Join(u.dir, "vmm", build, "lib", "qemu-loader"))
	check(u.t, err)
	if !os.SameFile(runs, want) {
		u.t.Fatalf("%s does not run build %s", ref.ID, build)
	}
}

// garbageBuilds returns the builds that a dry run of the collection lists.
func (u *upgrades) garbageBuilds() (ids []string) {
	u.t.Helper()
	found, err := u.CollectGarbage(u.t.Context(), true)
	check(u.t, err)
	for _, g := range found {
		if g.Kind == "vmm_build" {
			ids = append(ids, g.ID)
		}
	}
	return ids
}

// TestUpgradeStrandsNothing: a sandbox that was saved under a build continues
// under it after an upgrade, a new sandbox starts under the new build, and the
// old build goes with the last sandbox that needs it.
func TestUpgradeStrandsNothing(t *testing.T) {
	u := newUpgrades(t, "wupgr")
	oldBuild := u.current()
	paused, running := u.create(), u.create()
	u.sh(paused, counter)
	const named sandbox.SnapshotID = "beforeupgrade"
	_, err := u.Snapshot(t.Context(), paused, named, false)
	check(t, err)
	_, err = u.Pause(t.Context(), paused)
	check(t, err)
	before := atoi(t, u.sh(running, "echo 1"))

	u.restart("another build")
	newBuild := u.current()
	if newBuild == oldBuild {
		t.Fatal("the agent did not notice the upgrade")
	}
	paused.Generation++
	_, err = u.Resume(t.Context(), paused)
	check(t, err)
	u.mustRunUnder(paused, oldBuild)
	u.mustRunUnder(running, oldBuild)
	if n := atoi(t, u.sh(paused, "cat /tmp/n")); n < before {
		t.Fatalf("the counter stands at %d after the resume", n)
	}
	child := newRef()
	_, err = u.CreateFrom(t.Context(), child, smallSpec, named)
	check(t, err)
	u.mustRunUnder(child, oldBuild)
	fresh := u.create()
	u.mustRunUnder(fresh, newBuild)

	// A VM that outlived the upgrade is paused and resumed under its own build.
	_, err = u.Pause(t.Context(), running)
	check(t, err)
	running.Generation++
	_, err = u.Resume(t.Context(), running)
	check(t, err)
	u.mustRunUnder(running, oldBuild)

	for _, ref := range []sandbox.Ref{paused, running} {
		check(t, u.Destroy(t.Context(), ref, ""))
	}
	if got := u.garbageBuilds(); len(got) != 0 {
		t.Fatalf("with a sandbox and a snapshot under the old build, garbage has the builds %v", got)
	}
	check(t, u.DeleteSnapshot(t.Context(), named))
	check(t, u.Destroy(t.Context(), child, ""))
	u.awaitBuilds(newBuild)
	u.mustRunUnder(fresh, newBuild)
}

// awaitBuilds waits until the builds want, and no others, are kept.
func (u *upgrades) awaitBuilds(want ...string) {
	u.t.Helper()
	deadline := time.Now().Add(hosttest.Patience(u.t, time.Minute))
	for {
		var ids []string
		for _, b := range u.builds() {
			ids = append(ids, b.ID)
		}
		if slices.Equal(ids, want) {
			return
		}
		if time.Now().After(deadline) {
			u.t.Fatalf("kept are the builds %v, want %v", ids, want)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestMissingBuildIsNamed: without its build a paused sandbox stays paused and
// complete. The error names the missing build, and so did the earlier report.
func TestMissingBuildIsNamed(t *testing.T) {
	u := newUpgrades(t, "wmiss")
	ref := u.create()
	u.sh(ref, "echo kept >/root/file")
	_, err := u.Pause(t.Context(), ref)
	check(t, err)
	lost := u.builds()[0]
	if stranded := u.stranded(); len(stranded) != 0 {
		t.Fatalf("before the upgrade stranded are %+v", stranded)
	}

	u.close()
	check(t, os.RemoveAll(lost.Dir))
	u.install(t, "another build")
	u.open()
	ref.Generation++
	_, err = u.Resume(t.Context(), ref)
	if f := fault.As(err); err == nil || f.Reason != "vmm_build_missing" || f.Kind != fault.WrongState || !strings.Contains(f.Public, lost.Version) {
		t.Fatalf("a resume without the build: %v, want vmm_build_missing with version %s", err, lost.Version)
	}
	if s := u.state(ref.ID); s.State != sandbox.Paused {
		t.Fatalf("after the refused resume the sandbox is %s, want paused", s.State)
	}
	stranded := u.stranded()
	if len(stranded) != 1 || stranded[0].Version != lost.Version || !slices.Equal(stranded[0].Sandboxes, []sandbox.ID{ref.ID}) {
		t.Fatalf("stranded are %+v, want %s under %s", stranded, ref.ID, lost.Version)
	}

	u.restart("") // the build is installed again
	_, err = u.Resume(t.Context(), ref)
	check(t, err)
	if got := u.sh(ref, "cat /root/file"); got != "kept" {
		t.Fatalf("the file holds %q, want kept", got)
	}
}

func (u *upgrades) stranded() []host.Stranded {
	u.t.Helper()
	stranded, err := host.FindStranded(u.dir, func(saved map[string]string) bool {
		driver, err := u.deps.Drivers.Saved(saved)
		if err == nil {
			_, err = driver.BuildOf(saved)
		}
		return err == nil
	})
	check(u.t, err)
	return stranded
}
