package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Machine describes the machine that ran the benchmark. Unknown fields are zero.
type Machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryMB int    `json:"memory_mb"`
	Kernel   string `json:"kernel"`
	// Load1 is the 1-minute load average at the start.
	Load1 float64 `json:"load1_at_start"`
	// RoundLoad1 is the 1-minute load average after each round. It includes the
	// load of the benchmark itself.
	RoundLoad1 []float64 `json:"load1_after_rounds"`
}

// thisMachine describes this machine, as read from proc(5).
func thisMachine() Machine {
	m := Machine{CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Load1: load1()}
	if mib, err := kilobytes("/proc/meminfo", "MemTotal"); err == nil {
		m.MemoryMB = int(mib)
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	return m
}

func (m Machine) peakLoad() float64 { return slices.Max(append([]float64{m.Load1}, m.RoundLoad1...)) }

// load1 returns the 1-minute load average, or 0 if it cannot be read.
func load1() (load float64) {
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &load)
	}
	return load
}

// field returns the value of the first line "key : value" of a file.
func field(path, key string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// kilobytes reads a field "key: n kB" from a file and returns it in MiB.
func kilobytes(path, key string) (mib float64, err error) {
	number, _, _ := strings.Cut(field(path, key), " ")
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%s of %s cannot be read", key, path)
	}
	return n / 1024, nil
}

// availableMemory returns the machine's available memory (MemAvailable) in MiB.
func availableMemory() (mib float64, err error) { return kilobytes("/proc/meminfo", "MemAvailable") }
