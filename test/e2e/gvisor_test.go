package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
)

// startGVisor starts a server on which sandboxes that ask for no runtime run under
// gVisor. It offers microVMs too.
func startGVisor(t *testing.T, args ...string) *server {
	t.Helper()
	needRunsc(t)
	return startUp(t, append([]string{"--runtime", "gvisor"}, args...)...)
}

// needRunsc skips the test on a machine without a build of runsc, or fails it if
// WRENN_REQUIRE demands real sandboxes.
func needRunsc(t testing.TB) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(hosttest.ImagesDir(), "runsc", "*", "runsc"))
	check(t, err)
	switch {
	case len(found) > 0:
	case hosttest.Required("vm"):
		t.Fatal(`WRENN_REQUIRE demands real sandboxes, but runsc has not been built; run "make runsc"`)
	default:
		t.Skip("no runsc here")
	}
}

// The runtimes by their names in the API.
const (
	microVM = "microvm"
	gVisor  = "gvisor"
)

// inRuntime is the request for a small sandbox of a runtime.
func inRuntime(runtime string) client.CreateRequest {
	in := small
	in.Runtime = runtime
	return in
}

// TestBothRuntimes uses both runtimes on one server. A sandbox keeps its runtime
// through its whole life, and its copies have it too.
func TestBothRuntimes(t *testing.T) {
	t.Parallel()
	s := startGVisor(t)
	hosts, err := s.Hosts(t.Context())
	check(t, err)
	wantRuntimes(t, hosts)
	isolation := map[string]string{}
	for _, rt := range hosts[0].Runtimes {
		isolation[rt.Runtime] = string(rt.Isolation)
	}
	for asked, want := range map[string]string{"": gVisor, "auto": gVisor, gVisor: gVisor, microVM: microVM} {
		t.Run("asked for "+asked, func(t *testing.T) {
			t.Parallel()
			sb := create(t, s.Client, inRuntime(asked))
			if sb.Runtime != want || string(sb.Isolation) != isolation[want] {
				t.Fatalf("it runs on %s with isolation %v, want %s with %s", sb.Runtime, sb.Isolation, want, isolation[want])
			}
			if asked == want {
				testRuntimeStays(t, s, sb)
			}
		})
	}
	t.Run("refused", func(t *testing.T) { testRuntimeRefused(t, s) })
}

// wantRuntimes checks the list of hosts.
func wantRuntimes(t *testing.T, hosts []client.Host) {
	t.Helper()
	if len(hosts) != 1 || len(hosts[0].Runtimes) != 2 || hosts[0].Runtimes[0].Runtime != gVisor || hosts[0].Runtimes[1].Runtime != microVM {
		t.Fatalf("the hosts have the runtimes %+v, want gvisor and then microvm", hosts)
	}
	first := hosts[0].Runtimes[0]
	if hosts[0].Isolation != first.Isolation || first.Isolation != "userspace_kernel" || !first.MultiTenant || first.Reason == "" {
		t.Errorf("the preferred runtime is %+v of the host %+v", first, hosts[0])
	}
}

// testRuntimeStays takes a sandbox through a pause, a resume, a fork and a template
// made from it, and checks its kernel and its label after each.
func testRuntimeStays(t *testing.T, s *server, sb *client.Sandbox) {
	t.Helper()
	kernel := sh(t, s.Client, sb.ID, "uname -r")
	if isSentry := strings.HasSuffix(kernel, "-gvisor"); isSentry != (sb.Runtime == gVisor) {
		t.Fatalf("the kernel of a sandbox on %s is %s", sb.Runtime, kernel)
	}
	same := func(when string, copied client.Sandbox) {
		t.Helper()
		if got := sh(t, s.Client, copied.ID, "uname -r"); got != kernel || copied.Runtime != sb.Runtime {
			t.Errorf("%s: it says %s and has the kernel %s, want %s and %s", when, copied.Runtime, got, sb.Runtime, kernel)
		}
	}
	sh(t, s.Client, sb.ID, counter)
	_, err := s.Pause(t.Context(), sb.ID)
	check(t, err)
	resumed, err := s.Resume(t.Context(), sb.ID)
	check(t, err)
	same("after a resume", *resumed)
	goesOn(t, s.Client, sb.ID, "1")
	forked, err := s.Fork(t.Context(), sb.ID, client.ForkRequest{})
	check(t, err)
	own(t, s.Client, forked.Sandboxes...)
	same("a child", forked.Sandboxes[0])
	snap, err := s.CreateSnapshot(t.Context(), sb.ID, client.SnapshotRequest{})
	check(t, err)
	name := "of-" + strings.ToLower(snap.ID[:8])
	_, err = s.TemplateFromSnapshot(t.Context(), snap.ID, name)
	check(t, err)
	copied := create(t, s.Client, client.CreateRequest{Template: name, TimeoutSec: new(int)})
	same("from a template", *copied)
	goesOn(t, s.Client, copied.ID, "1")
	other := map[string]string{gVisor: microVM, microVM: gVisor}[sb.Runtime]
	for what, in := range map[string]client.CreateRequest{
		"a snapshot": {SnapshotID: snap.ID, Runtime: other}, "a template": {Template: name, Runtime: other},
	} {
		if _, err := s.Create(t.Context(), in); err == nil || failure(t, err).Status/100 != 4 {
			t.Errorf("%s of %s asked for on %s: %v, want a refusal", what, sb.Runtime, other, err)
		}
	}
	out, diag, err := wrenn(t, env(s), "ls")
	if line := lineWith(out, sb.ID); err != nil || !strings.Contains(line, sb.Runtime) {
		t.Errorf("wrenn ls shows %q, want %s: %v %s", line, sb.Runtime, err, diag)
	}
}

// testRuntimeRefused checks the answers to runtimes and isolation levels that the
// server does not have.
func testRuntimeRefused(t *testing.T, s *server) {
	call(t, s.Client, "POST", "/v1/sandboxes", `{"runtime":"docker"}`).wantError(t, 400, "invalid_runtime")
	in := inRuntime(gVisor)
	in.MinIsolation = "userspace_kernel"
	create(t, s.Client, in)
	in.MinIsolation = "hardware"
	_, err := s.Create(t.Context(), in)
	wantFailure(t, err, 400, "isolation_unavailable")
	out, diag, err := wrenn(t, env(s), "hosts")
	if err != nil || !strings.Contains(out, "userspace_kernel") || !strings.Contains(out, microVM) {
		t.Errorf("wrenn hosts: %v %s\n%s, want both runtimes", err, diag, out)
	}
}

// TestOneRuntime asks a server without gVisor for it. The images of the server have
// the default template, but no build of runsc.
func TestOneRuntime(t *testing.T) {
	t.Parallel()
	needVMs(t)
	dir := dataDir(t)
	images := filepath.Join(dir, "images")
	check(t, os.Remove(images))
	check(t, os.Mkdir(images, 0o711))
	for _, part := range []string{"kernels", "templates", "initramfs"} {
		check(t, os.Symlink(filepath.Join(hosttest.ImagesDir(), part), filepath.Join(images, part)))
	}
	s := startUpIn(t, dir, "--runtime", "auto")
	_, err := s.Create(t.Context(), inRuntime(gVisor))
	wantFailure(t, err, 501, "runtime_unavailable")
	if sb := create(t, s.Client, inRuntime("auto")); sb.Runtime != microVM {
		t.Errorf("auto took %s, want microvm", sb.Runtime)
	}
}

// TestUpWithoutQEMU starts a server on a machine without QEMU: it offers gVisor alone.
func TestUpWithoutQEMU(t *testing.T) {
	needVMs(t)
	path := t.TempDir()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		programs, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, p := range programs {
			if !strings.HasPrefix(filepath.Base(p), "qemu-system") {
				_ = os.Symlink(p, filepath.Join(path, filepath.Base(p))) // the first of a name counts
			}
		}
	}
	t.Setenv("PATH", path)
	s := startUpIn(t, dataDir(t), "--runtime", "auto")
	_, err := s.Create(t.Context(), inRuntime(microVM))
	wantFailure(t, err, 501, "runtime_unavailable")
	sb := create(t, s.Client, inRuntime("auto"))
	if got := sh(t, s.Client, sb.ID, "echo ran"); sb.Runtime != gVisor || !strings.Contains(got, "ran") {
		t.Errorf("auto took %s, whose command printed %q", sb.Runtime, got)
	}
}

// TestKilledUpWithBothRuntimes kills a server while sandboxes of both runtimes are
// idle, busy, being paused and being created.
func TestKilledUpWithBothRuntimes(t *testing.T) {
	t.Parallel()
	s := startGVisor(t)
	sc := setScene(t, s.Client, s.dir)
	// The server's end destroys them: another server answers by then.
	other, err := s.Create(t.Context(), inRuntime(microVM))
	check(t, err)
	paused, err := s.Create(t.Context(), inRuntime(microVM))
	check(t, err)
	for _, id := range []string{other.ID, paused.ID} {
		sh(t, s.Client, id, counter)
	}
	_, err = s.Pause(t.Context(), paused.ID)
	check(t, err)
	s.stop(t, syscall.SIGKILL)
	s.start(t)
	sc.survived(t, s.Client, s.dir)
	goesOn(t, s.Client, other.ID, "1")
	goesOn(t, s.Client, paused.ID, "1") // wantAgreement has resumed it
	for id, want := range map[string]string{sc.idle: gVisor, other.ID: microVM, paused.ID: microVM} {
		if sb, err := s.Get(t.Context(), id); err != nil || sb.Runtime != want || sb.Status != client.StatusRunning {
			t.Errorf("sandbox %s is %+v, %v; want it running on %s", id, sb, err, want)
		}
	}
}
