package host_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/hosttest"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

func TestMain(m *testing.M) {
	kvmprobe.MaybeChild()
	os.Exit(m.Run())
}

// bench is one host agent for a test.
type bench struct {
	t    testing.TB
	name string
	dir  string
	// templates is where template snapshots are.
	templates string
	// configure, when set, changes the configuration of every agent.
	configure func(*host.Config)
	// driver, when set, makes the driver of every agent.
	driver  func() vmm.Driver
	runtime sandbox.Runtime // of driver; empty is a microVM
	// nameserver is the one that sandboxes may ask; empty is hosttest.Nameserver.
	nameserver string
	// programs are those of processes that the bench has killed.
	programs []string
	deps     host.Deps
	// images, when set, replace those that tests share.
	images host.Images
	*host.Manager
}

// newBench opens an agent of its own under name.
func newBench(t testing.TB, name string, configure ...func(*host.Config)) *bench {
	t.Helper()
	b := &bench{t: t, name: hosttest.Name(name), dir: hosttest.Dir(t), templates: hosttest.TemplateDir()}
	b.configure = func(cfg *host.Config) {
		for _, change := range configure {
			change(cfg)
		}
	}
	b.open()
	t.Cleanup(b.end)
	return b
}

func (b *bench) open() {
	b.t.Helper()
	b.deps = hosttest.DepsWith(b.t, b.name, cmp.Or(b.nameserver, hosttest.Nameserver), b.driver)
	if b.images != nil {
		b.deps.Images = b.images
	}
	cfg := host.Config{
		Dir: b.dir, DiskReserveBytes: 1, TemplateDir: b.templates, Nameservers: []string{hosttest.Nameserver},
		BootTimeout: hosttest.Patience(b.t, 45*time.Second),
		// A busy machine's guests are slow, and only some tests want that noticed.
		GuestTimeout: hosttest.Patience(b.t, 30*time.Second),
	}
	if b.configure != nil {
		b.configure(&cfg)
	}
	m, err := host.Open(b.t.Context(), cfg, b.deps)
	if err != nil {
		b.t.Fatalf("open the host: %v", err)
	}
	b.Manager = m
}

// close ends the agent as a restart would; the VMs live on.
func (b *bench) close() {
	b.t.Helper()
	check(b.t, b.Close())
	check(b.t, b.deps.Network.(io.Closer).Close())
	b.Manager = nil
}

// end destroys everything and looks for leftovers.
func (b *bench) end() {
	if b.Manager == nil {
		b.open()
	}
	for _, s := range b.List() {
		if err := b.Destroy(context.Background(), s.Ref, ""); err != nil {
			b.t.Errorf("destroy %s: %v", s.Ref.ID, err)
		}
	}
	snapshots, err := b.Snapshots()
	check(b.t, err)
	for _, s := range snapshots {
		check(b.t, b.DeleteSnapshot(context.Background(), s.ID))
	}
	// Only a closed agent has no warm clones.
	drivers, groups := b.deps.Drivers, b.deps.Cgroups
	b.close()
	b.nothingLeftOf(drivers)
	check(b.t, groups.(io.Closer).Close())
}

// nothingLeft checks that no process, namespace or file remains.
func (b *bench) nothingLeft() {
	b.t.Helper()
	b.nothingLeftOf(b.deps.Drivers)
}

func (b *bench) nothingLeftOf(drivers vmm.Drivers) {
	b.t.Helper()
	found, err := drivers.Find(b.dir)
	check(b.t, err)
	if len(found) != 0 {
		b.t.Errorf("VM processes left: %+v", found)
	}
	if names, _ := filepath.Glob("/run/netns*/" + b.name + "-*"); len(names) != 0 {
		b.t.Errorf("namespaces left: %v", names)
	}
	for _, name := range []string{"sandboxes", "builds", "snapshots"} {
		left, err := os.ReadDir(filepath.Join(b.dir, name))
		check(b.t, err)
		if len(left) != 0 {
			b.t.Errorf("files left in %s: %v", name, left)
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRef() sandbox.Ref { return sandbox.Ref{ID: sandbox.NewID(), Generation: 1} }

var smallSpec = sandbox.Spec{MemoryMB: 256, DiskMB: 512}.WithDefaults()

func (b *bench) create() sandbox.Ref {
	b.t.Helper()
	ref := newRef()
	s, err := b.Create(b.t.Context(), ref, smallSpec)
	check(b.t, err)
	if s.State != sandbox.Running {
		b.t.Fatalf("a new sandbox is %s", s.State)
	}
	return ref
}

// sh runs a script in the guest and returns its stdout.
func (b *bench) sh(ref sandbox.Ref, script string) string {
	b.t.Helper()
	out, err := b.trySh(b.t.Context(), ref, script)
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return out
}

// scriptLimit is the time limit of a script in a guest. An emulated guest on a busy
// machine takes 15 s to start a Python program that imports the modules of HTTP.
const scriptLimit = 2 * time.Minute

func (b *bench) trySh(ctx context.Context, ref sandbox.Ref, script string) (string, error) {
	var out strings.Builder
	noStdin := false
	code := int32(-1)
	err := b.Exec(ctx, ref, host.Exec{
		Start:   &process.StartRequest{Process: &process.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: &noStdin},
		Timeout: hosttest.Patience(b.t, scriptLimit),
	}, func(e *process.ProcessEvent) error {
		out.Write(e.GetData().GetStdout())
		out.Write(e.GetData().GetStderr())
		if end := e.GetEnd(); end != nil {
			code = end.GetExitCode()
		}
		return nil
	})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, out.String())
	}
	return strings.TrimSpace(out.String()), err
}

// counter starts a process that counts in the file /tmp/n.
const counter = `setsid sh -c 'n=0; while :; do n=$((n+1)); echo $n >/tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.05; done' >/dev/null 2>&1 & sleep 0.3`

// goesOn waits until the counter in a sandbox has moved, and returns where it
// stood before and after. How long that takes depends on the load of this
// machine: a guest that was just restored has all its code to translate again,
// and while it waits for a CPU its clock continues. A counter that never moves ends
// the test at the command's time limit.
func (b *bench) goesOn(ref sandbox.Ref) (first, second int) {
	b.t.Helper()
	out := b.sh(ref, `a=$(cat /tmp/n); read began _ </proc/uptime; b=$a
while [ "$b" -le "$a" ]; do sleep 0.05; b=$(cat /tmp/n); done
read ended _ </proc/uptime; echo $a $b $began $ended`)
	var began, ended float64
	if n, err := fmt.Sscan(out, &first, &second, &began, &ended); n != 4 {
		b.t.Fatalf("the counter says %q: %v", out, err)
	}
	b.t.Logf("the counter went from %d to %d within %.2f s of the guest's time", first, second, ended-began)
	return first, second
}

func TestLifecycle(t *testing.T) {
	b := newBench(t, "wlife")
	ref := b.create()
	if got := b.sh(ref, "echo $((6*7)); id -un"); got != "42\nroot" {
		t.Fatalf("got %q", got)
	}
	b.sh(ref, counter)
	b.sh(ref, "echo kept >/root/file; sync")
	n, err := b.WriteFile(t.Context(), ref, guestclient.WriteFile{Path: "/srv/deep/er/file"}, strings.NewReader("content"))
	check(t, err)
	if n != 7 || b.sh(ref, "cat /srv/deep/er/file") != "content" {
		t.Fatalf("the upload of %d bytes is not what was sent", n)
	}
	before := atoi(t, b.sh(ref, "cat /tmp/n"))
	b.stdin(ref)

	s, err := b.Pause(t.Context(), ref)
	check(t, err)
	if s.State != sandbox.Paused {
		t.Fatalf("after pause it is %s", s.State)
	}
	t.Logf("pause took %v", s.Steps)
	if found, _ := b.deps.Drivers.Find(b.dir); len(found) != 0 {
		t.Fatalf("a paused sandbox has VM processes: %+v", found)
	}
	if _, err := b.trySh(t.Context(), ref, "true"); !fault.Is(err, fault.WrongState) {
		t.Fatalf("exec in a paused sandbox: %v", err)
	}
	_, err = b.Pause(t.Context(), ref)
	check(t, err) // the same command again is joined

	time.Sleep(1500 * time.Millisecond) // real time passes while it is paused
	ref.Generation++
	s, err = b.Resume(t.Context(), ref)
	check(t, err)
	t.Logf("resume took %v", s.Steps)
	if got := b.sh(ref, "cat /root/file"); got != "kept" {
		t.Fatalf("the file holds %q", got)
	}
	first, second := b.goesOn(ref)
	if first < before || second <= first {
		t.Fatalf("the counter went %d, %d, %d: the process did not continue", before, first, second)
	}
	asked := time.Now()
	guest := time.UnixMilli(int64(atoi(t, b.sh(ref, "date +%s%3N"))))
	if asked.Sub(guest) > time.Second || time.Since(guest) < -time.Second {
		t.Fatalf("the guest's clock says %v between %v and now after a resume", guest, asked)
	}
	old := sandbox.Ref{ID: ref.ID, Generation: 1}
	if _, err := b.trySh(t.Context(), old, "true"); !fault.Is(err, fault.Stale) {
		t.Fatalf("a command for an old generation: %v", err)
	}
	check(t, b.Destroy(t.Context(), ref, ""))
	check(t, b.Destroy(t.Context(), ref, "")) // unknown ids succeed
	b.nothingLeft()
}

// stdin checks that a command gets its whole input, and that one which does not
// read it still ends.
func (b *bench) stdin(ref sandbox.Ref) {
	b.t.Helper()
	input := []byte(strings.Repeat("0123456789", 30_000))
	open := true
	for _, script := range []string{"wc -c", "exec <&-; echo 300000"} {
		var out strings.Builder
		err := b.Exec(b.t.Context(), ref, host.Exec{
			Start: &process.StartRequest{Process: &process.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: &open},
			Stdin: input, Timeout: hosttest.Patience(b.t, scriptLimit),
		}, func(e *process.ProcessEvent) error { out.Write(e.GetData().GetStdout()); return nil })
		if got := strings.TrimSpace(out.String()); err != nil || got != "300000" {
			b.t.Fatalf("%s: got %q, %v", script, got, err)
		}
	}
}

func atoi(t testing.TB, s string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatalf("%q is no number: %v", s, err)
	}
	return n
}

func TestTwoCreatesWithTheSameRefAreOne(t *testing.T) {
	onEachRuntime(t, twoCreatesWithTheSameRefAreOne)
}

func twoCreatesWithTheSameRefAreOne(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wsame")
	ref := newRef()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wg.Go(func() { _, errs[i] = b.Create(t.Context(), ref, smallSpec) })
	}
	wg.Wait()
	check(t, errors.Join(errs...))
	if n := len(b.List()); n != 1 {
		t.Fatalf("%d machines, want 1", n)
	}
	other := smallSpec
	other.MemoryMB = 300
	if _, err := b.Create(t.Context(), ref, other); !fault.Is(err, fault.Exists) {
		t.Fatalf("the same id with another spec: %v", err)
	}
}

func TestDestroyDuringCreate(t *testing.T) { onEachRuntime(t, destroyDuringCreate) }

func destroyDuringCreate(t *testing.T, r sandbox.Runtime) {
	b := newBenchOf(t, r, "wdel")
	check(t, b.Destroy(t.Context(), b.create(), "")) // the template is there afterwards
	ref := newRef()
	changes, cancel := b.Subscribe()
	defer cancel()
	created := make(chan error, 1)
	go func() {
		_, err := b.Create(t.Context(), ref, smallSpec)
		created <- err
	}()
	for len(b.List()) == 0 {
		select { // the sandbox is listed before its first file exists
		case err := <-created:
			t.Fatalf("create ended first: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	start := time.Now()
	check(t, b.Destroy(t.Context(), ref, ""))
	t.Logf("destroy during create took %v", time.Since(start))
	if err := <-created; err == nil {
		t.Fatal("a create that was destroyed succeeded")
	}
	b.nothingLeft()
	if last := drain(changes); last.State != sandbox.Stopped {
		t.Fatalf("the last event says %s", last.State)
	}
}

func drain(ch <-chan host.Sandbox) (last host.Sandbox) {
	for {
		select {
		case s := <-ch:
			last = s
		default:
			return last
		}
	}
}
