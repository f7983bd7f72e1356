// Package hosttest prepares tests on real VMs: it makes images, a network, a
// driver and a guest agent, all under names of their own, so that several test
// processes can run beside each other and beside a real agent.
//
// Tests of the host packages and of the whole product call it. Where something
// is missing (root, images, QEMU) a test is skipped, unless WRENN_REQUIRE
// contains "vm": then it fails, so that a suite that ran nothing is not green.
package hosttest

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/host/cgroup"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/instance"
	"github.com/wrenn-dev/wrenn/internal/host/network"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/jail"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/kvmprobe"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/qemu"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/tsc"
)

// MiB is a mebibyte, in bytes.
const MiB = 1 << 20

// Required reports whether WRENN_REQUIRE, a comma list, demands what.
func Required(what string) bool {
	for name := range strings.SplitSeq(os.Getenv("WRENN_REQUIRE"), ",") {
		if name == what {
			return true
		}
	}
	return false
}

// missing skips the test, or fails it where WRENN_REQUIRE names vm.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if Required("vm") {
		t.Fatalf("WRENN_REQUIRE demands real VMs, but "+format, args...)
	}
	t.Skipf("no real VMs here: "+format, args...)
}

// Root skips the test where it does not run as root, or fails it where VMs are
// demanded.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "this is not root")
	}
}

// Log returns a logger that writes to the test's log if -v is given, or with
// WRENN_TEST_LOG to standard error.
func Log() *slog.Logger {
	var out io.Writer = io.Discard
	if os.Getenv("WRENN_TEST_LOG") != "" {
		out = os.Stderr
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Dir makes a temporary directory that VM processes with user ids of their own can
// pass through. Its path is short, because sockets lie below it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "wrenn-t")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove test directory: %v", err)
		}
	})
	return dir
}

// program is a command of this module that is built once per process.
type program struct {
	name, variable string
	once           sync.Once
	data           []byte
	err            error
}

var (
	guestProgram = program{name: "wrenn-guest", variable: "WRENN_TEST_GUEST"}
	jailProgram  = program{name: "wrenn-jail", variable: "WRENN_TEST_JAIL"}
)

// GuestBinary returns the guest agent: the file that WRENN_TEST_GUEST names,
// for machines without Go, or else one built once per process.
func GuestBinary(t testing.TB) []byte {
	t.Helper()
	return guestProgram.binary(t)
}

// Jail returns the launcher of VM processes: the file that WRENN_TEST_JAIL
// names, or else one built once per process.
func Jail(t testing.TB) *jail.Launcher {
	t.Helper()
	l, err := jail.New(jailProgram.binary(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ProgramsFor returns environment variables with which a test process that this one
// starts uses its programs, in place of building them again.
func ProgramsFor(t testing.TB) (env []string) {
	t.Helper()
	dir := Dir(t)
	for _, p := range []*program{&guestProgram, &jailProgram} {
		path := filepath.Join(dir, p.name)
		if err := os.WriteFile(path, p.binary(t), 0o755); err != nil {
			t.Fatal(err)
		}
		env = append(env, p.variable+"="+path)
	}
	return env
}

func (p *program) binary(t testing.TB) []byte {
	t.Helper()
	p.once.Do(func() { p.data, p.err = p.build() })
	if p.err != nil {
		t.Fatalf("build %s: %v", p.name, p.err)
	}
	return p.data
}

func (p *program) build() ([]byte, error) {
	if ready := os.Getenv(p.variable); ready != "" {
		return os.ReadFile(ready)
	}
	dir, err := os.MkdirTemp("", p.name)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, p.name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/wrenn-dev/wrenn/cmd/"+p.name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(path)
}

// Patience stretches a deadline by WRENN_TEST_PATIENCE, a whole number, where
// tests run on a machine much slower than any that serves sandboxes.
func Patience(t testing.TB, d time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("WRENN_TEST_PATIENCE")
	if text == "" {
		return d
	}
	factor, err := strconv.Atoi(text)
	if err != nil || factor < 1 {
		t.Fatalf("WRENN_TEST_PATIENCE is a whole number from 1, not %q", text)
	}
	return time.Duration(factor) * d
}

// ImagesDir is the image store that tests share; see scripts/test.sh.
func ImagesDir() string {
	if dir := os.Getenv("WRENN_TEST_IMAGES"); dir != "" {
		return dir
	}
	return "/var/lib/wrenn/images"
}

// TemplateDir is where tests share template snapshots, so that each kind of
// sandbox is booted once and not once per test.
func TemplateDir() string { return filepath.Join(filepath.Dir(ImagesDir()), "test-templates") }

// BuildsDir is where tests share copies of QEMU.
func BuildsDir() string { return filepath.Join(filepath.Dir(ImagesDir()), "test-builds") }

// Name returns name with WRENN_TEST_PREFIX, one or two lower-case letters, put
// before it: suites of two checkouts can then run beside each other.
func Name(name string) string { return os.Getenv("WRENN_TEST_PREFIX") + name }

// Nameserver is the one that sandboxes of tests may ask. Nobody has the address
// (RFC 5737).
const Nameserver = "192.0.2.53"

// Deps returns real parts for a host manager. name keeps parallel tests apart;
// two calls with the same name are an agent and its successor.
func Deps(t testing.TB, name string) host.Deps {
	t.Helper()
	return DepsWith(t, name, Nameserver, nil)
}

// DepsWith is Deps for sandboxes that may ask another nameserver. Its driver is the one
// that newDriver returns; nil stands for Driver.
func DepsWith(t testing.TB, name, nameserver string, newDriver func() vmm.Driver) host.Deps {
	t.Helper()
	Root(t)
	if newDriver == nil {
		newDriver = func() vmm.Driver { return Driver(t) }
	}
	log := Log()
	images, err := image.Open(ImagesDir(), log)
	if err != nil {
		missing(t, "the image store cannot be opened: %v", err)
	}
	if _, err := images.Template("minimal"); err != nil {
		missing(t, "there is no template: %v", err)
	}
	pool, err := network.Open(network.Config{Name: name, Nameservers: []netip.Addr{netip.MustParseAddr(nameserver)}}, log)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := cgroup.Open(name, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the parents of the groups, after the groups have gone
		if err := groups.Close(); err != nil {
			t.Error(err)
		}
	})
	return host.Deps{
		Drivers: vmm.Drivers{newDriver()}, Network: instance.NetworkOf(pool), Images: images, Cgroups: instance.CgroupsOf(groups),
		GuestVersion: "test", Log: log,
	}
}

// Driver returns the QEMU driver with the acceleration that the probe chooses,
// or that WRENN_TEST_ACCEL names.
func Driver(t testing.TB) vmm.Driver {
	t.Helper()
	return DriverOf(t, qemu.DefaultBinary, BuildsDir())
}

// DriverOf is Driver on a machine where binary is the installed QEMU, with
// copies kept in builds.
func DriverOf(t testing.TB, binary, builds string) vmm.Driver {
	t.Helper()
	policy := kvmprobe.Auto
	if p := os.Getenv("WRENN_TEST_ACCEL"); p != "" {
		policy = kvmprobe.Policy(p)
	}
	acceleration, reason, err := kvmprobe.Choose(policy, kvmprobe.Probe(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	khz, err := tsc.HostKHz()
	if err != nil {
		t.Fatal(err)
	}
	d, err := qemu.New(t.Context(), qemu.Options{
		Binary: binary, Builds: builds, Jail: Jail(t),
		Acceleration: vmm.Acceleration(acceleration), Reason: reason, TSCKHz: khz, MaxVCPUs: 2, Log: Log(),
	})
	if err != nil {
		missing(t, "%v", err)
	}
	return d.WithBoot(boot(t))
}

// boot returns the kernel and the initramfs of every guest.
func boot(t testing.TB) qemu.Boot {
	t.Helper()
	images, err := image.Open(ImagesDir(), Log())
	if err != nil {
		missing(t, "the image store cannot be opened: %v", err)
	}
	kernel, err := images.Kernel()
	if err != nil {
		missing(t, "there is no kernel: %v", err)
	}
	initramfs, err := images.EnsureInitramfs(t.Context(), kernel, GuestBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	return qemu.Boot{
		Kernel: kernel.Vmlinux, Initrd: initramfs.Path, KernelDigest: kernel.Digest, InitrdDigest: initramfs.Digest, Release: kernel.Release,
	}
}
