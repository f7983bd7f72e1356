package gvisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// processName is the first argument of every sentry.
const processName = "runsc-sandbox"

// Find implements vmm.Driver. A sentry names the directory of its sandbox in its
// arguments. Anybody can choose arguments, so that its user id has to be that of the
// sandbox.
func (d *Driver) Find(root string) ([]vmm.Record, error) {
	boot, err := proc.BootID()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	prefix := filepath.Clean(root) + "/"
	var found []vmm.Record
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir, ok := sandboxOf(pid)
		if !ok || !strings.HasPrefix(dir, prefix) || !belongs(pid, dir) {
			continue
		}
		if stat, err := proc.ReadStat(pid); err == nil {
			found = append(found, vmm.Record{Driver: Name, Dir: dir, PID: pid, StartTicks: stat.StartTicks, BootID: boot})
		}
	}
	return found, nil
}

// sandboxOf returns the directory of the sandbox whose sentry the process is, by its
// arguments.
func sandboxOf(pid int) (dir string, ok bool) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "", false
	}
	args := bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0})
	if string(args[0]) != processName || string(args[len(args)-1]) != containerID {
		return "", false
	}
	for _, arg := range args {
		if dir, ok := bytes.CutPrefix(arg, []byte("--root=")); ok {
			return string(dir), true
		}
	}
	return "", false
}

// belongs reports whether the process runs under the user id of the sandbox in dir,
// which no other process has, as the files of root in dir say.
func belongs(pid int, dir string) bool {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return false
	}
	saved, err := readDescription(dir)
	if err != nil {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		// proc_pid_status(5): real, effective, saved and file system user id.
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			fields := strings.Fields(ids)
			return len(fields) == 4 && fields[0] == strconv.Itoa(saved.UID)
		}
	}
	return false
}

// Adopt implements vmm.Driver.
func (d *Driver) Adopt(_ context.Context, rec vmm.Record) (vmm.VM, error) {
	if boot, err := proc.BootID(); err != nil || boot != rec.BootID {
		return nil, errors.Join(os.ErrProcessDone, err)
	}
	saved, err := readDescription(rec.Dir)
	if err != nil {
		return nil, err
	}
	console, err := openConsole(rec.Dir)
	if err != nil {
		return nil, err
	}
	v, err := d.attach(rec, saved, console)
	if err != nil {
		console.close()
		return nil, err // never a nil *vm in a non-nil interface
	}
	return v, nil
}

// KillRecord implements vmm.Driver.
func (d *Driver) KillRecord(ctx context.Context, rec vmm.Record) error {
	if boot, err := proc.BootID(); err != nil || boot != rec.BootID || rec.PID == 0 {
		return err
	}
	about, err := readDescription(rec.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err = killProcess(ctx, rec)
	if errors.Is(err, os.ErrProcessDone) {
		// The groups may belong to a later sandbox in the same directory.
		_ = removeGroups(about.Group, 0)
		return nil
	}
	if err != nil {
		return err
	}
	return removeGroups(about.Group, groupPatience)
}

// killProcess ends the sentry of rec and returns when it is gone. It is
// os.ErrProcessDone if it was gone before.
func killProcess(ctx context.Context, rec vmm.Record) error {
	process, err := proc.Open(rec.PID, rec.StartTicks)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = process.SetReadDeadline(time.Now()) })
	defer stop()
	defer process.Close()
	if err := proc.Kill(process); err != nil {
		return err
	}
	return proc.Wait(process)
}

// killIn ends the processes of the sandbox in dir, after a failed start.
func (d *Driver) killIn(ctx context.Context, dir string) error {
	found, err := d.Find(filepath.Dir(dir))
	errs := []error{err}
	for _, rec := range found {
		if rec.Dir == dir {
			errs = append(errs, d.KillRecord(ctx, rec))
		}
	}
	return errors.Join(errs...)
}
