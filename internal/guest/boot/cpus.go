package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	onlineCPUs = "/sys/devices/system/cpu/online"
	cpuInfo    = "/proc/cpuinfo"
	// cpuCovers is the directory of the files that are mounted over these two.
	cpuCovers = "/run/wrenn/cpus"
)

// limitCPUs shows n CPUs to all processes that Init starts from now on: by their
// affinity, which nproc(1) and most language runtimes read, and in the files for those
// that count the CPUs of the machine. A machine with at most n CPUs is left alone.
//
// The number in "possible" stays: programs decide by it whether they need locks, and
// threads may run at the same time.
func limitCPUs(n int) error {
	if n >= runtime.NumCPU() {
		return nil
	}
	info, err := os.ReadFile(cpuInfo)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cpuCovers, 0o755); err != nil {
		return err
	}
	for path, text := range map[string]string{
		onlineCPUs: cpuRange(n) + "\n",
		cpuInfo:    firstCPUs(string(info), n),
	} {
		cover := filepath.Join(cpuCovers, filepath.Base(path))
		if err := os.WriteFile(cover, []byte(text), 0o444); err != nil {
			return err
		}
		if err := unix.Mount(cover, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover %s: %w", path, err)
		}
	}
	return limitAffinity(n)
}

// firstCPUs returns the descriptions of the first n CPUs in the text of /proc/cpuinfo.
// Each ends with an empty line.
func firstCPUs(info string, n int) string {
	all := strings.SplitAfter(info, "\n\n")
	return strings.Join(all[:min(n, len(all))], "")
}

// limitAffinity restricts all threads of the process to the first n CPUs. New threads
// inherit that from the thread that makes them, and so do processes.
func limitAffinity(n int) error {
	var set unix.CPUSet
	for cpu := range n {
		set.Set(cpu)
	}
	done := make(map[string]bool)
	for fresh := true; fresh; {
		fresh = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || done[t.Name()] {
				continue
			}
			done[t.Name()], fresh = true, true
			if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
				return fmt.Errorf("restrict thread %d to %d CPUs: %w", tid, n, err)
			}
		}
	}
	return nil
}

// cpuRange names the first n CPUs as the kernel does.
func cpuRange(n int) string {
	if n == 1 {
		return "0"
	}
	return "0-" + strconv.Itoa(n-1)
}
