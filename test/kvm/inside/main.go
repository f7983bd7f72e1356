// Command inside is the first process of the machine that test/kvm boots: it
// loads the kernel's modules, mounts the root image under a layer of memory,
// runs the plan, writes the result to the console, and turns the machine off.
//
// It must not run anywhere else, because it replaces the machine's file
// systems.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/test/kvm/plan"
)

// runArg makes a second process of this program run the plan, while the first
// one adopts and reaps the processes that the plan's programs leave.
const runArg = "run-plan"

// kvmGroup is the group that may use /dev/kvm inside, where a distribution's
// udev rules would have named one.
const kvmGroup = 107

func main() {
	if len(os.Args) == 2 && os.Args[1] == runArg {
		os.Exit(runPlan())
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "inside: this is the first process of a test machine and nothing else")
		os.Exit(2)
	}
	code := 1
	if err := prepare(); err != nil {
		fmt.Println("inside:", err)
	} else if code, err = supervise(); err != nil {
		fmt.Println("inside:", err)
	}
	fmt.Printf("\n%s%d\n", plan.Result, code)
	unix.Sync()
	// The VMM treats a reset as the end of the machine.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

// supervise runs the plan in a process of its own, reaps every orphan
// meanwhile, and returns the plan's exit code.
func supervise() (int, error) {
	cmd := exec.Command("/proc/self/exe", runArg)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait: %w", err)
		case pid == cmd.Process.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == cmd.Process.Pid:
			return 1, fmt.Errorf("the plan's process ended by signal %v", status.Signal())
		}
	}
}

// runPlan returns the number of the first step that failed, or 0.
func runPlan() int {
	var steps []plan.Step
	data, err := os.ReadFile(plan.Path)
	if err == nil {
		err = json.Unmarshal(data, &steps)
	}
	if err != nil {
		fmt.Println("inside: the plan:", err)
		return 1
	}
	for i, s := range steps {
		fmt.Printf("\n== %s: %s\n", s.Name, strings.Join(s.Args, " "))
		began := time.Now()
		err := run(s)
		took := time.Since(began).Round(100 * time.Millisecond)
		if err != nil {
			fmt.Printf("== %s FAILED after %v: %v\n", s.Name, took, err)
			return i + 1
		}
		fmt.Printf("== %s passed in %v\n", s.Name, took)
	}
	return 0
}

func run(s plan.Step) error {
	var output bytes.Buffer
	cmd := exec.Command(s.Args[0], s.Args[1:]...)
	cmd.Stdout = io.MultiWriter(os.Stdout, &output)
	cmd.Stderr = cmd.Stdout
	cmd.Env = append(os.Environ(), s.Env...)
	if err := cmd.Run(); err != nil {
		return err
	}
	if !bytes.Contains(output.Bytes(), []byte(s.Must)) {
		return fmt.Errorf("it never said %q", s.Must)
	}
	return nil
}

// prepare leaves this process in the root that the plan expects.
func prepare() error {
	if err := mountAll([]mount{
		{"devtmpfs", "/dev", "devtmpfs", 0, ""},
		{"proc", "/proc", "proc", 0, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
	}); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := enterRoot(); err != nil {
		return err
	}
	if err := os.Chown("/dev/kvm", 0, kvmGroup); err != nil {
		return fmt.Errorf("there is no KVM in this machine: %w", err)
	}
	return os.Chmod("/dev/kvm", 0o660)
}

// loadModules loads the kernel modules that the initramfs lists, in its order.
func loadModules() error {
	order, err := os.ReadFile("/m/order")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(order)) {
		f, err := os.Open("/m/" + name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		// Some modules serve hardware that this machine does not have.
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	return nil
}

// enterRoot makes the root image, writable through a layer of memory, this
// process's root.
func enterRoot() error {
	for _, dir := range []string{"/lower", "/layer", "/root"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := mountAll([]mount{
		{"/dev/vda", "/lower", "erofs", unix.MS_RDONLY, ""},
		{"tmpfs", "/layer", "tmpfs", 0, "size=80%"},
	}); err != nil {
		return err
	}
	for _, dir := range []string{"/layer/upper", "/layer/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := mountAll([]mount{
		{"overlay", "/root", "overlay", 0, "lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work"},
		{"devtmpfs", "/root/dev", "devtmpfs", 0, ""},
		{"proc", "/root/proc", "proc", 0, ""},
		{"sysfs", "/root/sys", "sysfs", 0, ""},
		{"cgroup2", "/root/sys/fs/cgroup", "cgroup2", 0, ""},
		{"tmpfs", "/root/run", "tmpfs", 0, "mode=755"},
		{"tmpfs", "/root/tmp", "tmpfs", 0, "size=80%"},
	}); err != nil {
		return err
	}
	// pivot_root(2) cannot replace an initramfs; moving over it can.
	if err := os.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	return errors.Join(syscall.Chroot("."), os.Chdir("/"))
}

type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

func mountAll(list []mount) error {
	for _, m := range list {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
		}
	}
	return nil
}
