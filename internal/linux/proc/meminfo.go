package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const memInfoPath = "/proc/meminfo"

// MemInfo holds the sizes of /proc/meminfo in bytes, by the kernel's names
// (proc_meminfo(5)), such as "MemTotal" and "MemAvailable". Which names exist
// depends on the kernel; MemTotal and MemAvailable always do.
type MemInfo map[string]uint64

// ReadMemInfo returns the machine's memory, or, in a guest, the guest's.
func ReadMemInfo() (MemInfo, error) {
	text, err := os.ReadFile(memInfoPath)
	if err != nil {
		return nil, err
	}
	m := parseMemInfo(string(text))
	for _, name := range []string{"MemTotal", "MemAvailable"} {
		if _, ok := m[name]; !ok {
			return nil, fmt.Errorf("%s has no %s", memInfoPath, name)
		}
	}
	return m, nil
}

// parseMemInfo leaves out lines without a unit: those are counts, not sizes.
func parseMemInfo(text string) MemInfo {
	m := make(MemInfo)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		number, ok := strings.CutSuffix(strings.TrimSpace(value), " kB")
		if n, err := strconv.ParseUint(number, 10, 64); ok && err == nil {
			m[name] = n << 10
		}
	}
	return m
}
