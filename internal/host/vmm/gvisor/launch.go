package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/process"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/runsc"
	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
	"github.com/wrenn-dev/wrenn/internal/linux/thread"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// containerID is the name of every sandbox for runsc. Each has a state directory of
// its own, so that the names do not meet.
const containerID = "vm"

// messageBytes bounds the messages of runsc in an error.
const messageBytes = 4 << 10

// commandTimeout bounds a command of runsc that starts or restores. It reads the
// whole snapshot, on a machine that may be busy with others.
const commandTimeout = 2 * time.Minute

// flags are the flags of every command of a build of runsc for the sandbox in dir.
func flags(b runsc.Build, dir string) []string {
	return slices.Concat(b.Flags(), commonFlags(), []string{"--root=" + dir, "--panic-log=" + reportPath(dir)})
}

// commonFlags are the flags that are the same for all sandboxes and builds.
func commonFlags() []string {
	return []string{
		"--platform=systrap",
		// A restored sandbox has other user ids than the saved one: those of its own
		// network slot. The seal and the fingerprint exclude all other differences.
		"--restore-spec-validation=warning",
		"--network=sandbox",
		"--net-raw",
		"--allow-suid",
		"--in-sandbox-cgroup=v2",
		"--host-settings=ignore",
	}
}

// Start implements vmm.Driver.
func (d *Driver) Start(ctx context.Context, cfg vmm.Config) (vmm.VM, error) {
	var flags []string
	if cfg.DiskContent != "" {
		flags = append(flags, "--allow-rootfs-tar-annotation")
	}
	v, err := d.launch(ctx, cfg, append(flags, "run")...)
	if err != nil {
		return nil, err // never a nil *vm in a non-nil interface
	}
	return v, nil
}

// Restore implements vmm.Driver. A delta is complete, and the base is not read. The
// sandbox runs when Restore returns.
func (d *Driver) Restore(ctx context.Context, cfg vmm.Config, from vmm.Image) (vmm.VM, error) {
	build, err := d.build(cfg.Build)
	if err != nil {
		return nil, err
	}
	dir := source(from)
	if err := check(dir, sealOf(cfg, build)); err != nil {
		return nil, err
	}
	cfg.DiskContent = ""
	v, err := d.launch(ctx, cfg, "restore", "--image-path="+dir)
	if err != nil {
		return nil, errNotRestored(err)
	}
	// runsc returns while the tasks of the guest are being started.
	if err := call(ctx, cfg.Dir, methodWaitRestore, nil, nil); err != nil {
		return nil, errNotRestored(errors.Join(err, v.Kill(context.WithoutCancel(ctx))))
	}
	return v, nil
}

func errNotRestored(err error) error {
	return fault.Wrap(err, fault.HostFailed, "restore_failed", "the sandbox's saved state could not be loaded")
}

// source is the directory with the content of a snapshot.
func source(from vmm.Image) string {
	if from.Delta != "" {
		return from.Delta
	}
	return from.Base
}

// launch runs a command of runsc that starts a sandbox, and attaches to it. On error
// no process is left.
func (d *Driver) launch(ctx context.Context, cfg vmm.Config, command ...string) (*vm, error) {
	build, err := d.build(cfg.Build)
	if err != nil {
		return nil, err
	}
	if err := d.builds.Verify(build); err != nil {
		return nil, err
	}
	if _, err := os.Stat(cfg.RootImage); err != nil {
		return nil, errNotStarted(err)
	}
	about := description{Build: build.ID, UID: cfg.UID, Seal: sealOf(cfg, build)}
	err = errors.Join(removeRemains(cfg.Dir), about.write(cfg.Dir), describe(cfg, build.AgentImage()).write(cfg.Dir))
	if err != nil {
		return nil, errNotStarted(err)
	}
	console, err := openConsole(cfg.Dir)
	if err != nil {
		return nil, errNotStarted(err)
	}
	v, err := d.launchWith(ctx, build, cfg, about, console, command)
	if err != nil {
		console.close()
		return nil, errors.Join(errNotStarted(err), d.killIn(context.WithoutCancel(ctx), cfg.Dir))
	}
	return v, nil
}

func errNotStarted(err error) error {
	return fault.Wrap(err, fault.HostFailed, "vmm_start_failed", "the sandbox could not be started")
}

// launchWith runs a command of runsc in a prepared directory. On error a process may
// be left.
func (d *Driver) launchWith(ctx context.Context, build runsc.Build, cfg vmm.Config, about description, out *console, command []string) (*vm, error) {
	args := append(command, "--detach", "--bundle="+cfg.Dir, "--pid-file="+pidPath(cfg.Dir))
	if err := runDetached(ctx, build, cfg, out, args); err != nil {
		return nil, err
	}
	rec, err := recordOf(cfg)
	if err != nil {
		return nil, err
	}
	p, err := process.Open(rec)
	if err != nil {
		return nil, err
	}
	v := d.attach(p, about, out)
	v.power.known = true // no other agent can have paused it
	d.guard.protect(v)
	d.watchMemory(v)
	return v, preferForOOM(cfg.Cgroup)
}

// removeRemains removes the files of an earlier sandbox in dir that runsc would take
// for its own.
func removeRemains(dir string) error {
	var errs []error
	for _, pattern := range []string{containerID + "_sandbox*", "runsc-*", "panic.log", "config.json", "pid", "console", "sandbox.json", "request", "held"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		errs = append(errs, err)
		for _, name := range names {
			errs = append(errs, os.Remove(name))
		}
	}
	return errors.Join(errs...)
}

func pidPath(dir string) string { return filepath.Join(dir, "pid") }

// runDetached runs a command of runsc whose sandbox outlives it. The sandbox
// inherits the command's standard files, session and control groups.
func runDetached(ctx context.Context, build runsc.Build, cfg vmm.Config, out *console, args []string) error {
	writer, err := out.writer(cfg.Dir)
	if err != nil {
		return err
	}
	defer writer.Close()
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, build.Program(), append(append(flags(build, cfg.Dir), args...), containerID)...)
	limit(cmd)
	cmd.Stdout, cmd.Stderr = writer, writer
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cfg.Cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(cfg.Cgroup.Fd())
	}
	err = thread.Own(func() error {
		return fault.Caught(func() error {
			// Before the mounts of control groups are hidden.
			if err := cgroupfs.JoinThread(cfg.Cgroup); err != nil {
				return err
			}
			if err := showSizes(cfg); err != nil {
				return err
			}
			return cmd.Run()
		})
	})
	if err != nil {
		return fmt.Errorf("runsc: %w: %s", errors.Join(err, context.Cause(ctx)), untrusted.Line(string(out.last()), messageBytes))
	}
	return nil
}

// recordOf returns the record of the sandbox that runsc has just started for cfg.
func recordOf(cfg vmm.Config) (vmm.Record, error) {
	text, err := os.ReadFile(pidPath(cfg.Dir))
	if err != nil {
		return vmm.Record{}, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return vmm.Record{}, err
	}
	rec, err := process.Identify(Name, pid)
	rec.ID, rec.Dir = cfg.ID, cfg.Dir
	return rec, err
}
