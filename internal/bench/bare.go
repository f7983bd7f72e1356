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

// Bare configures the boot of a sandbox's guest in a bare QEMU, without Wrenn.
type Bare struct {
	// Binary is QEMU's name or path.
	Binary string
	// Kernel, Initramfs and RootImage are those of the sandboxes.
	Kernel, Initramfs, RootImage string
	// TSCKHz is the rate of the host's time stamp counter, for emulation.
	TSCKHz uint64
	// MakeDisk creates an empty disk of sizeBytes at path for the guest.
	MakeDisk func(ctx context.Context, path string, sizeBytes int64) error
}

// readyLine is the console line that the guest agent writes when it can serve.
const readyLine = "wrenn-guest: ready"

// bootLimit bounds one bare boot.
const bootLimit = 2 * time.Minute

// args returns QEMU's arguments. Machine, devices and kernel parameters are
// those of a sandbox, so that the measured difference is Wrenn's own cost. Only
// the network card differs: it is not connected.
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

// boot starts QEMU and returns the time until the guest was ready. The disk is
// created before the clock starts. QEMU has ended when boot returns.
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
	// Pdeathsig fires when the starting thread ends, so this goroutine keeps it.
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
	_ = cmd.Wait() // the error says only that QEMU was killed
	if !ready {
		return 0, fmt.Errorf("the bare machine was not ready after %v; QEMU: %s; console: %s",
			took.Round(time.Second/10), bytes.TrimSpace(messages.Bytes()), strings.Join(said, " / "))
	}
	return took, nil
}

// consoleLines is the number of console lines in the error of a failed boot.
const consoleLines = 20

// awaitReady reads console until the guest is ready or the console ends. It
// returns the last lines read.
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

// shownArgs returns the arguments without the directories of this machine.
func (b *Bare) shownArgs(acceleration string, size Size) []string {
	shown := *b
	shown.Kernel, shown.Initramfs, shown.RootImage = filepath.Base(b.Kernel), "initramfs.cpio", filepath.Base(b.RootImage)
	return append([]string{filepath.Base(b.Binary)}, shown.args(acceleration, size, "disk")...)
}
