package boot

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// memoryUse is the use of the sandbox's memory, in bytes.
type memoryUse struct {
	// counted is the memory of processes and of file systems in memory, without the
	// files of the root.
	counted uint64
	// room is the memory until the host's limit, which includes the files of the root.
	room uint64
}

// look reads the use of memory. There is none as long as it cannot be read.
func (w *MemoryWatch) look() memoryUse {
	info, err := proc.ReadMemInfo()
	if err != nil {
		return memoryUse{room: w.total}
	}
	// Not MemTotal without MemFree, which is 0 as soon as files fill the memory's size.
	// AnonPages includes Shmem here, which includes the files of the root.
	used := info["AnonPages"] + info["Cached"] - min(info["Shmem"], info["Cached"])
	files, disk := w.fileBytes()
	counted := used - min(used, files) + w.hostBytes()
	return memoryUse{counted: counted, room: w.total + disk - min(counted+files, w.total+disk)}
}

// The memory of the host, in bytes, that each process takes beside its own: a process
// of the host with its page tables, and the sentry's records. Measured: 360 KiB while
// it lives, 250 KiB afterwards. The host has room for those of the first processes
// (vmm.Shape.OverheadMB).
const (
	processBytes    = 384 << 10
	processesInRoom = 128
)

// hostBytes returns the memory of the host that processes take beside their own. It
// does not become less when processes end, because the sentry keeps their address
// spaces for later ones.
func (w *MemoryWatch) hostBytes() uint64 {
	tasks, err := readNumber(filepath.Join(w.users, "pids.current"))
	if err == nil && tasks > max(w.most, processesInRoom) {
		// Threads count among the tasks, but have no address space of their own.
		if processes, err := numbersIn("/proc"); err == nil {
			w.most = max(w.most, uint64(len(processes)))
		}
	}
	return (max(w.most, processesInRoom) - processesInRoom) * processBytes
}

// fileBytes returns the memory that the files of the root use, and their limit.
func (w *MemoryWatch) fileBytes() (used, limit uint64) {
	var fs unix.Statfs_t
	if unix.Statfs(w.root, &fs) != nil {
		return 0, 0
	}
	return (fs.Blocks - fs.Bfree) * uint64(fs.Bsize), fs.Blocks * uint64(fs.Bsize)
}
