package qemu

import (
	"bytes"
	"fmt"
	"os"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/process"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// dirVariable marks a VM process, in its environment, with the directory it
// belongs to. QEMU does not read it.
const dirVariable = "WRENN_VM_DIR="

// Find returns the VM processes that carry the mark of a directory under root,
// and whose jail only root can make, because anybody can give a process the mark.
func (d *Driver) Find(root string) ([]vmm.Record, error) {
	return process.Find(root, process.Mark{Driver: Name, Dir: markOf, Genuine: jailed})
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
func jailed(pid int, _ string) bool {
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return false
	}
	if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid)); err != nil || ns != own {
		return false
	}
	// proc_pid_status(5): the process's id in each PID namespace, from that of
	// the mounted /proc inwards.
	ids, err := proc.ReadStatus(pid, "NSpid")
	return err == nil && len(ids) > 1 && ids[len(ids)-1] == "1"
}
