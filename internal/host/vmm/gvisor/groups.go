package gvisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
)

// joinGroups moves the calling thread into the v1 control groups of the sandbox, so
// that every process of it is born in them. They are at the same path below each mount
// as the sandbox's group in v2, whose directory is group. Where v2 has the limits, or
// the host has no groups, it does nothing. It must be called before the mounts of
// control groups are hidden. The thread must end afterwards.
func joinGroups(group *os.File) error {
	if group == nil {
		return nil
	}
	mounts, err := cgroupfs.Find()
	if err != nil {
		return fmt.Errorf("find the control groups: %w", err)
	}
	path, ok := strings.CutPrefix(group.Name(), mounts.Unified)
	if !ok || !filepath.IsAbs(path) {
		return nil
	}
	joined := make(map[string]bool)
	for _, mount := range mounts.V1 { // controllers can share a hierarchy
		dir := filepath.Join(mount, path)
		if joined[dir] {
			continue
		}
		joined[dir] = true
		// 0 stands for the calling thread (admin-guide/cgroup-v1/cgroups.rst).
		if err := writeTo(filepath.Join(dir, "tasks"), "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("join a control group: %w", err)
		}
	}
	return nil
}

// oomScore makes the kernel choose a sandbox before processes of the host, if the
// host's memory is used up: it counts as half of the memory (proc_pid_oom_score_adj(5)).
// Among sandboxes the largest is chosen.
const oomScore = "500"

// preferForOOM gives all processes in a group the oomScore. Their later children
// inherit it.
func preferForOOM(group *os.File) error {
	if group == nil {
		return nil
	}
	members, err := os.ReadFile(filepath.Join(group.Name(), "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("list the processes of the sandbox: %w", err)
	}
	for pid := range strings.FieldsSeq(string(members)) {
		err := writeTo(filepath.Join("/proc", pid, "oom_score_adj"), oomScore)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("choose the sandbox before processes of the host: %w", err)
		}
	}
	return nil
}

// writeTo writes to a file that exists.
func writeTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
