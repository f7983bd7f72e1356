// Command kvm tests the KVM path on machines that have no KVM: it boots an
// emulated machine whose processor offers virtualisation, and runs in it, on
// its real /dev/kvm, the suite that every VMM driver passes and the life of
// one sandbox. scripts/test-kvm.sh builds its files and calls it.
//
// The machine has control groups of version 2 alone, as today's distributions, where
// the machine that calls it may have those of version 1. Therefore the tests of limits
// run in it too, those of the control groups and of a gVisor sandbox in them.
//
// The machine has the guest kernel of the image store, a root image made of
// this host's QEMU with its libraries, the product, and the image store's
// kernel and template. Two layers of emulation make it slow: minutes, not
// seconds. Its files are removed at the end, however it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/test/kvm/plan"
)

// modules of the kernel, beside those of every guest, that a host needs: KVM
// itself, taps and pairs of devices, and the firewall's parts.
var modules = []string{
	"kvm_amd", "tun", "veth", "nf_tables", "nf_conntrack", "nft_ct", "nft_nat", "nft_masq", "nft_chain_nat", "nft_reject_inet",
	"nft_limit", "nft_connlimit",
}

type options struct {
	bin, images    string
	limit          time.Duration
	memoryMB, cpus int
	patience       int
	tests          string
	parts          string
	short          bool
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "", "directory with wrenn, wrenn-guest, wrenn-jail, inside, and the tests qemu, host, cgroup and gvisor, all static")
	flag.StringVar(&o.images, "images", insideImages, "image store with a kernel, the default template and runsc")
	flag.DurationVar(&o.limit, "limit", 25*time.Minute, "longest time the machine may run")
	flag.IntVar(&o.memoryMB, "memory", 5120, "memory of the machine, in MiB")
	flag.IntVar(&o.cpus, "cpus", 2, "processors of the machine; more than 1 needs QEMU 8.1")
	flag.IntVar(&o.patience, "patience", 8, "how many times longer than usual the tests wait")
	flag.StringVar(&o.tests, "run", "^TestLifecycle$", "tests of the host to run, as go test -run has it")
	flag.StringVar(&o.parts, "parts", ".", "regular expression; only the parts with such a name run")
	flag.BoolVar(&o.short, "short", false, "leave out the tests of a part that show what others of it show as well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "test-kvm: FAILED:", err)
		os.Exit(1)
	}
	fmt.Println("test-kvm: passed")
}

func (o options) run(ctx context.Context) (err error) {
	began := time.Now()
	dir, remove, err := workDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	m, err := o.prepare(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Printf("images made in %.1f s; the machine boots\n", time.Since(began).Seconds())
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("the limit of %v is over", o.limit))
	defer cancel()
	return m.run(ctx, os.Stdout)
}

// prepare makes the files of the machine in dir.
func (o options) prepare(ctx context.Context, dir string) (machine, error) {
	log := slog.New(slog.DiscardHandler)
	images, err := image.Open(o.images, log)
	if err != nil {
		return machine{}, err
	}
	kernel, err := images.Kernel()
	if err != nil {
		return machine{}, err
	}
	first, err := os.ReadFile(filepath.Join(o.bin, "inside"))
	if err != nil {
		return machine{}, err
	}
	// In a store of its own: the shared one keeps only the newest few.
	own, err := image.Open(filepath.Join(dir, "images"), log)
	if err != nil {
		return machine{}, err
	}
	initramfs, err := own.EnsureInitramfs(ctx, kernel, first, modules...)
	if err != nil {
		return machine{}, err
	}
	steps, err := o.plan()
	if err != nil {
		return machine{}, err
	}
	root := tree{filepath.Join(dir, "root")}
	if err := root.build(ctx, o.bin, images, steps); err != nil {
		return machine{}, err
	}
	disk := filepath.Join(dir, "root.erofs")
	if out, err := exec.CommandContext(ctx, "mkfs.erofs", "--all-root", disk, root.root).CombinedOutput(); err != nil {
		return machine{}, fmt.Errorf("mkfs.erofs: %w: %s", err, out)
	}
	return machine{
		vmlinux: kernel.Vmlinux, initramfs: initramfs.Path, root: disk, memoryMB: o.memoryMB, cpus: o.cpus,
	}, os.RemoveAll(root.root)
}

// plan returns the programs that run inside the machine.
func (o options) plan() ([]plan.Step, error) {
	parts, err := regexp.Compile(o.parts)
	if err != nil {
		return nil, err
	}
	steps := slices.DeleteFunc(o.steps(), func(s plan.Step) bool { return !parts.MatchString(s.Name) })
	if len(steps) == 0 {
		return nil, fmt.Errorf("no part is called %s", o.parts)
	}
	return steps, nil
}

func (o options) steps() []plan.Step {
	env := []string{
		// The driver is asked for KVM, so that it fails where the probe would
		// have chosen otherwise; and nothing may be skipped.
		"WRENN_TEST_ACCEL=kvm", "WRENN_REQUIRE=vm,root",
		"WRENN_TEST_IMAGES=" + insideImages, "WRENN_TEST_GUEST=/kvm/wrenn-guest", "WRENN_TEST_JAIL=/kvm/wrenn-jail",
		"WRENN_TEST_PATIENCE=" + strconv.Itoa(o.patience),
	}
	suite := func(name, binary, run, must string) plan.Step {
		return plan.Step{
			Name: name, Env: env, Must: must,
			Args: []string{binary, "-test.v", "-test.count=1", "-test.timeout=" + o.limit.String(), "-test.run=" + run},
		}
	}
	driver, limits, last := "^TestDriver$",
		"^(TestSizes|TestHostEndsCommands|TestMemoryIsUsedUp)$/^(1_CPUs|started|restored|adopted|one_process|small_processes)$", "small_processes"
	if o.short {
		// "one sandbox" boots, pauses, resumes and ends a VM as well. A restored sandbox has
		// been started and saved.
		driver += "/^(SaveAndRestore|StartFailsClean|RestoreRefusesDamage)$"
		limits, last = "^(TestHostEndsCommands|TestMemoryIsUsedUp)$/^(restored|one_process)$", "one_process"
	}
	return []plan.Step{
		{
			Name: "probe", Must: "isolation: hardware",
			Args: []string{"/kvm/wrenn", "doctor", "--accel", "kvm", "--data-dir", filepath.Dir(insideImages)},
			// The machine has no PostgreSQL, and no step needs one.
			Env: []string{"DATABASE_URL=postgres:///not-needed"},
		},
		suite("driver suite", "/kvm/qemu.test", driver, "--- PASS: TestDriver/SaveAndRestore"),
		suite("one sandbox", "/kvm/host.test", o.tests, "--- PASS: "),
		suite("control groups", "/kvm/cgroup.test", ".", "kind v2, enforced [cpu memory pids]"),
		suite("limits of gVisor", "/kvm/gvisor.test", limits, "--- PASS: TestMemoryIsUsedUp/"+last),
	}
}
