package qemu

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// dirVariable marks a VM process, in its environment, with the directory it
// belongs to. QEMU does not read it.
const dirVariable = "WRENN_VM_DIR="

// Find returns the VM processes that carry the mark of a directory under root,
// and whose jail only root can make: anybody can give a process the mark.
// Processes that end meanwhile are left out.
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
		dir, ok := markOf(pid)
		if !ok || !strings.HasPrefix(dir, prefix) || !jailed(pid) {
			continue
		}
		if stat, err := proc.ReadStat(pid); err == nil {
			found = append(found, vmm.Record{Driver: Name, Dir: dir, PID: pid, StartTicks: stat.StartTicks, BootID: boot})
		}
	}
	return found, nil
}

func markOf(pid int) (string, bool) {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return "", false
	}
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		if dir, ok := bytes.CutPrefix(entry, []byte(dirVariable)); ok {
			return string(dir), true
		}
	}
	return "", false
}

// jailed reports whether a process is the first of a PID namespace below this
// process's, without a user namespace of its own. Only root can start such a
// process: a PID namespace needs CAP_SYS_ADMIN in the user namespace that owns it
// (pid_namespaces(7)), and other users have that only in a user namespace that
// they make. A program with the set-user-ID bit is therefore no VM process, even
// if the user who started it chose its environment.
func jailed(pid int) bool {
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return false
	}
	if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid)); err != nil || ns != own {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		// proc_pid_status(5): the process's id in each PID namespace, from that of
		// the mounted /proc inwards.
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(ids)
			return len(fields) > 1 && fields[len(fields)-1] == "1"
		}
	}
	return false
}
