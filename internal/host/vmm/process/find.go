package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// Mark is how a driver's VM processes are known among all processes.
type Mark struct {
	// Driver is the name of the driver.
	Driver string
	// Dir returns the directory of the VM that the process says it belongs to.
	Dir func(pid int) (dir string, ok bool)
	// Genuine reports whether the process is the one that it says it is. Any user of
	// the machine can start a process that says so.
	Genuine func(pid int, dir string) bool
}

// Find returns the VM processes of any agent whose directory lies under root. It
// leaves out processes that end meanwhile.
func Find(root string, m Mark) ([]vmm.Record, error) {
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
		dir, ok := m.Dir(pid)
		if !ok || !strings.HasPrefix(dir, prefix) || !m.Genuine(pid, dir) {
			continue
		}
		if rec, err := Identify(m.Driver, pid); err == nil {
			rec.Dir = dir
			found = append(found, rec)
		}
	}
	return found, nil
}
