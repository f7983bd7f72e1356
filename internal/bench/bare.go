package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bare is what a bare QEMU boots: the guest of the sandboxes, without Wrenn.
type Bare struct {
	// Binary is QEMU's name or path.
	Binary string
	// Kernel, Initramfs and RootImage are those of the sandboxes.
	Kernel, Initramfs, RootImage string
	// TSCKHz is the rate of the host's time stamp counter, for emulation.
	TSCKHz uint64
	// MakeDisk makes an empty disk of so many bytes for the guest to write on.
	MakeDisk func(ctx context.Context, path string, sizeBytes int64) error
}

// readyLine is what the guest agent writes to its console when it can serve.
const readyLine = "wrenn-guest: ready"

// bootLimit bounds one bare boot.
const bootLimit = 2 * time.Minute

// args are QEMU's. The machine, the devices and the kernel's parameters are
// chosen as for a sandbox, so that the difference is what Wrenn does; only the
// network card leads nowhere.
func (b *Bare) args(acceleration string, size Size, disk string) []string {
	cpu, cmdline := "max,erms=off,fsrm=off", fmt.Sprintf("tsc_early_khz=%d tsc=reliable mitigations=off init_on_alloc=0 "+
		"psi=0 cgroup.memory=nokmem,nosocket nowatchdog", b.TSCKHz)
	if acceleration == "kvm" {
		cpu, cmdline = "host", ""
	} else {
		acceleration = "tcg,tb-size=32,thread=multi"
	}
	return []string{
		"-M", "microvm,acpi=on,pit=off,pic=off,rtc=on,isa-serial=on",
		"-accel", acceleration, "-cpu", cpu,
		"-m", strconv.Itoa(size.MemoryMB), "-smp", strconv.Itoa(size.VCPUs),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-drive", "file=" + b.RootImage + ",if=none,id=root,format=raw,readonly=on",
		"-device", "virtio-blk-device,drive=root",
		"-drive", "file=" + disk + ",if=none,id=disk,format=raw,cache=unsafe",
		"-device", "virtio-blk-device,drive=disk",
		"-netdev", "hubport,id=net,hubid=0", "-device", "virtio-net-device,netdev=net",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-kernel", b.Kernel, "-initrd", b.Initramfs,
		"-append", strings.TrimSpace("console=ttyS0 quiet loglevel=1 panic=-1 reboot=t no_timer_check random.trust_cpu=1 " +
			"lsm=landlock audit=0 cryptomgr.notests " + cmdline),
	}
}

// boot starts QEMU, and returns how long it took until the guest was ready.
// The disk is made before the clock starts; the machine is gone on return.
func (b *Bare) boot(ctx context.Context, acceleration string, size Size) (took time.Duration, err error) {
	dir, err := os.MkdirTemp("", "wrenn-bench")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk := filepath.Join(dir, "disk")
	if err := b.MakeDisk(ctx, disk, int64(size.DiskMB)<<20); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.Binary, b.args(acceleration, size, disk)...)
	var messages bytes.Buffer
	cmd.Stderr = &messages
	console, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	// Pdeathsig fires when the starting thread ends, so that one is kept.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	said, ready := awaitReady(console)
	took = time.Since(began)
	cancel()
	_ = cmd.Wait() // it was killed, or has ended
	if !ready {
		return 0, fmt.Errorf("the bare machine was not ready after %v; QEMU: %s; console: %s",
			took.Round(time.Second/10), bytes.TrimSpace(messages.Bytes()), strings.Join(said, " / "))
	}
	return took, nil
}

// consoleLines is how much of a failed boot's console an error keeps.
const consoleLines = 20

// awaitReady reads a console until the guest is ready, or to its end. It
// returns the last lines.
func awaitReady(console io.Reader) (said []string, ready bool) {
	for lines := bufio.NewScanner(console); lines.Scan(); {
		if strings.Contains(lines.Text(), readyLine) {
			return said, true
		}
		if said = append(said, lines.Text()); len(said) > consoleLines {
			said = said[1:]
		}
	}
	return said, false
}

// shownArgs are the arguments without the paths of this machine.
func (b *Bare) shownArgs(acceleration string, size Size) []string {
	shown := *b
	shown.Kernel, shown.Initramfs, shown.RootImage = filepath.Base(b.Kernel), "initramfs.cpio", filepath.Base(b.RootImage)
	return append([]string{filepath.Base(b.Binary)}, shown.args(acceleration, size, "disk")...)
}
