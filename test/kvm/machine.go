package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/tsc"
)

// machine is an emulated machine whose processor offers AMD's virtualisation.
type machine struct {
	vmlinux, initramfs, root string
	memoryMB, cpus           int
}

// run boots the machine, shows its console, and returns once it is off. The
// error names the failed step of the plan, or tells that there was no result.
func (m machine) run(ctx context.Context, show io.Writer) error {
	khz, err := tsc.HostKHz()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", m.args(khz)...)
	cmd.Stderr = show
	console, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// Pdeathsig fires when the starting thread ends, so that one is kept.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	result := follow(console, show)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the machine was stopped: %w", context.Cause(ctx))
	case result == nil:
		return errors.Join(errors.New("the machine ended without a result"), err)
	default:
		return result()
	}
}

func (m machine) args(khz uint64) []string {
	return []string{
		"-M", "microvm,acpi=on,pit=off,pic=off,rtc=on,isa-serial=on",
		// The nested page tables of AMD's virtualisation are emulated, Intel's are not.
		"-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max",
		"-m", strconv.Itoa(m.memoryMB), "-smp", strconv.Itoa(m.cpus),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-blockdev", "driver=file,node-name=root,filename=" + m.root + ",read-only=on",
		"-device", "virtio-blk-device,drive=root",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-kernel", m.vmlinux, "-initrd", m.initramfs,
		// Without a timer to calibrate against, the kernel must be told.
		"-append", fmt.Sprintf("console=ttyS0 quiet loglevel=3 panic=-1 reboot=t no_timer_check random.trust_cpu=1 "+
			"tsc_early_khz=%d tsc=reliable mitigations=off init_on_alloc=0 "+
			// A machine was found with both CPUs asleep and no timer pending, while its
			// guest was stopped: a one-shot timer that is lost never fires again.
			"nohz=off highres=off", khz),
	}
}

func judge(step string) error {
	n, err := strconv.Atoi(step)
	switch {
	case err != nil:
		return fmt.Errorf("the machine's result is %q", step)
	case n == 0:
		return nil
	default:
		return fmt.Errorf("step %d failed", n)
	}
}

// workDir makes the directory for the images of one run and returns its
// removal.
func workDir() (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp("/var/tmp", "wrenn-kvm")
	return dir, func() error { return os.RemoveAll(dir) }, err
}
