package gvisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/process"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// processName is the first argument of every sentry.
const processName = "runsc-sandbox"

// Find implements vmm.Driver. A sentry names the directory of its sandbox in its
// arguments. Anybody can choose arguments, so that its user id has to be that of the
// sandbox.
func (d *Driver) Find(root string) ([]vmm.Record, error) {
	return process.Find(root, process.Mark{Driver: Name, Dir: sandboxOf, Genuine: belongs})
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
	// proc_pid_status(5): real, effective, saved and file system user id.
	ids, err := proc.ReadStatus(pid, "Uid")
	return err == nil && len(ids) == 4 && ids[0] == strconv.Itoa(saved.UID)
}

// Adopt implements vmm.Driver.
func (d *Driver) Adopt(_ context.Context, rec vmm.Record) (vmm.VM, error) {
	p, err := process.Open(rec)
	if err != nil {
		return nil, err
	}
	saved, err := readDescription(rec.Dir)
	if err != nil {
		p.Detach()
		return nil, err
	}
	console, err := openConsole(rec.Dir)
	if err != nil {
		p.Detach()
		return nil, err
	}
	v := d.attach(p, saved, console)
	d.guard.protect(v)
	d.watchMemory(v)
	return v, nil
}

// KillRecord implements vmm.Driver.
func (d *Driver) KillRecord(ctx context.Context, rec vmm.Record) error {
	err := process.End(ctx, rec)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
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
