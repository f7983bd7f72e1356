package gvisor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/linux/cgroupfs"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// memoryOf returns the memory, in bytes, that the control group of a process uses,
// without the cache of files. Where there is none, it is that of the process alone.
func memoryOf(pid int) uint64 {
	counters, err := memoryCounters(pid)
	if err == nil {
		return counters["anon"] + counters["shmem"] + counters["total_rss"] + counters["total_shmem"]
	}
	rss, err := proc.ReadStatus(pid, "VmRSS")
	if err != nil || len(rss) == 0 {
		return 0
	}
	kilobytes, _ := strconv.ParseUint(rss[0], 10, 64)
	return kilobytes << 10
}

// memoryCounters reads the counters of the control group that counts the memory of a
// process. Those of cgroups v1 whose names begin with "total_" include the groups below
// it, and those of v2 always do; the others of v1 are left out.
func memoryCounters(pid int) (map[string]uint64, error) {
	mounts, err := cgroupfs.Find()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	mount, group := mounts.V1["memory"], groupOf(string(text), "memory")
	v1 := mount != "" && group != ""
	if !v1 {
		mount, group = mounts.Unified, groupOf(string(text), "")
	}
	if mount == "" || group == "" || group == "/" { // the root's counters are those of the host
		return nil, errors.ErrUnsupported
	}
	stat, err := os.ReadFile(filepath.Join(mount, group, "memory.stat"))
	if err != nil {
		return nil, err
	}
	counters := parseCounters(string(stat))
	for name := range counters {
		if v1 != strings.HasPrefix(name, "total_") {
			delete(counters, name)
		}
	}
	return counters, nil
}

// groupOf returns the path of the group that has a controller, or of the group of v2
// for no controller, in the text of /proc/PID/cgroup (cgroups(7)).
func groupOf(text, controller string) string {
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for c := range strings.SplitSeq(fields[1], ",") {
			if c == controller {
				return fields[2]
			}
		}
	}
	return ""
}

// parseCounters reads lines of a name and a number.
func parseCounters(text string) map[string]uint64 {
	counters := make(map[string]uint64)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			counters[name] = n
		}
	}
	return counters
}
