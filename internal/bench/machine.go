package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Machine is where the measuring ran. What cannot be found out stays zero.
type Machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryMB int    `json:"memory_mb"`
	Kernel   string `json:"kernel"`
	// Load1 is the load average of the minute before the start.
	Load1 float64 `json:"load1_at_start"`
	// RoundLoad1 is that average after each round: what the run itself made,
	// and what else the machine had to do.
	RoundLoad1 []float64 `json:"load1_after_rounds"`
}

// thisMachine reads what proc(5) says about this machine.
func thisMachine() Machine {
	m := Machine{CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Load1: load1()}
	kb, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	if n, err := strconv.Atoi(kb); err == nil {
		m.MemoryMB = n >> 10
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	return m
}

func (m Machine) peakLoad() float64 { return slices.Max(append([]float64{m.Load1}, m.RoundLoad1...)) }

// load1 is the load average of the last minute, 0 where it is not known.
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

// vmmMemory returns the proportional set size, in MiB, of the processes on
// this machine that have a sandbox's id in their command line: each page
// shared with other processes counts by its share (Pss of smaps_rollup,
// proc_pid_smaps(5)). Reading it of another user's process needs root.
func vmmMemory(id string) (mib float64, err error) {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	found := false
	for _, name := range names {
		line, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(line, []byte(id)) {
			continue // it has ended, or is another's
		}
		kb, _, _ := strings.Cut(field(filepath.Join(filepath.Dir(name), "smaps_rollup"), "Pss"), " ")
		n, err := strconv.ParseFloat(kb, 64)
		if err != nil {
			return 0, fmt.Errorf("the memory of the VMM process cannot be read (is this root?)")
		}
		mib, found = mib+n/1024, true
	}
	if !found {
		return 0, fmt.Errorf("no VMM process of the sandbox is on this machine")
	}
	return mib, nil
}
