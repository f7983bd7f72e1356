package gvisor

import (
	"strconv"

	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// memoryOf returns the memory, in bytes, that the control group of a process uses,
// without the cache of files. Where there is none, it is that of the process alone.
func memoryOf(pid int) uint64 {
	if group, err := cgroupfs.MemoryOf(pid); err == nil {
		if held, err := group.Held(); err == nil {
			return held
		}
	}
	rss, err := proc.ReadStatus(pid, "VmRSS")
	if err != nil || len(rss) == 0 {
		return 0
	}
	kilobytes, _ := strconv.ParseUint(rss[0], 10, 64)
	return kilobytes << 10
}
