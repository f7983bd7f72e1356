package cgroupfs

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory is the control group that counts the memory of some processes, of either
// version of control groups.
type Memory struct {
	dir string
	v1  bool
}

// MemoryOf returns the control group that counts the memory of a process. It fails with
// errors.ErrUnsupported if that is the group of the whole host.
func MemoryOf(pid int) (Memory, error) {
	mounts, err := Find()
	if err != nil {
		return Memory{}, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return Memory{}, err
	}
	mount, group := mounts.V1["memory"], groupOf(string(text), "memory")
	v1 := mount != "" && group != ""
	if !v1 {
		mount, group = mounts.Unified, groupOf(string(text), "")
	}
	if mount == "" || group == "" || group == "/" {
		return Memory{}, errors.ErrUnsupported
	}
	return Memory{dir: filepath.Join(mount, group), v1: v1}, nil
}

// Held returns the memory in bytes that is used without the cache of files, which the
// kernel can take back.
func (m Memory) Held() (uint64, error) {
	stat, err := os.ReadFile(filepath.Join(m.dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	counters := parseCounters(string(stat))
	if m.v1 { // with the groups below it, as v2 always counts
		return counters["total_rss"] + counters["total_shmem"], nil
	}
	return counters["anon"] + counters["shmem"], nil
}

// Firm returns the memory in bytes that counts against the limit of the group and that
// the kernel cannot take back: all but the cache of files.
func (m Memory) Firm() (uint64, error) {
	used, err := m.Used()
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(filepath.Join(m.dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	counters := parseCounters(string(stat))
	cache, shmem := counters["file"], counters["shmem"]
	if m.v1 {
		cache, shmem = counters["total_cache"], counters["total_shmem"]
	}
	cache -= min(cache, shmem) // files in memory count as cache, and have to stay
	return used - min(used, cache), nil
}

// Used returns all memory in bytes that counts against the limit of the group.
func (m Memory) Used() (uint64, error) {
	name := "memory.current"
	if m.v1 {
		name = "memory.usage_in_bytes"
	}
	text, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// Limit returns the limit of the group in bytes; the largest number if it has none.
func (m Memory) Limit() (uint64, error) {
	name := "memory.max"
	if m.v1 {
		name = "memory.limit_in_bytes"
	}
	text, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil {
		return 0, err
	}
	if limit := strings.TrimSpace(string(text)); limit != "max" {
		return strconv.ParseUint(limit, 10, 64)
	}
	return math.MaxUint64, nil
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
