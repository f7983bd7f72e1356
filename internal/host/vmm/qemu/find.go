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

// Find looks through /proc for processes that carry the mark of a directory
// under root. Processes that end meanwhile are passed over.
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
		if !ok || !strings.HasPrefix(dir, prefix) {
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
