package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// vmmProcesses finds the processes on this machine that have a sandbox's id in
// their command line. It returns their directories in /proc by id.
//
// It works if the benchmark runs on the host, and only for restored sandboxes:
// the command line of a warm clone was written before the clone got its id.
func vmmProcesses(ids []string) (map[string][]string, error) {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	found := map[string][]string{}
	for _, name := range names {
		line, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended, or belongs to another user
		}
		for _, id := range ids {
			if bytes.Contains(line, []byte(id)) {
				found[id] = append(found[id], filepath.Dir(name))
			}
		}
	}
	for id, processes := range found {
		if found[id], err = withChildren(processes); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// withChildren adds the descendants of processes: gVisor's kernel runs the guest's
// programs in children whose command lines say nothing.
func withChildren(processes []string) ([]string, error) {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[string][]string{}
	for _, name := range names {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 {
			parent := "/proc/" + fields[1]
			children[parent] = append(children[parent], filepath.Dir(name))
		}
	}
	all, seen := slices.Clone(processes), map[string]bool{}
	for _, p := range processes {
		seen[p] = true
	}
	for i := 0; i < len(all); i++ {
		for _, child := range children[all[i]] {
			if !seen[child] {
				seen[child] = true
				all = append(all, child)
			}
		}
	}
	return all, nil
}

// vmmMemory returns the memory of a sandbox's VMM processes; see memoryOf.
func vmmMemory(id string) (mib float64, err error) {
	found, err := vmmProcesses([]string{id})
	if err != nil {
		return 0, err
	}
	return memoryOf(found[id])
}

// memoryOf returns the proportional set size of processes, in MiB: each page
// shared with other processes counts by its share (Pss of smaps_rollup,
// proc_pid_smaps(5)). Reading another user's process needs root.
func memoryOf(processes []string) (mib float64, err error) {
	if len(processes) == 0 {
		return 0, errors.New("no VMM process of the sandbox is on this machine")
	}
	for _, dir := range processes {
		pss, err := kilobytes(filepath.Join(dir, "smaps_rollup"), "Pss")
		if _, gone := os.Stat(dir); err != nil && gone != nil {
			continue // a process of the guest has ended
		}
		if err != nil {
			return 0, errors.New("the memory of the VMM process cannot be read; run the benchmark as root")
		}
		mib += pss
	}
	return mib, nil
}

// userHz is the unit of times in /proc/PID/stat: clock ticks per second, 100 on
// every architecture that Wrenn supports.
const userHz = 100

// cpuTime returns the user and system CPU time of the given processes that have not
// ended.
func cpuTime(processes []string) (used time.Duration, err error) {
	for _, dir := range processes {
		text, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // a process of the guest has ended
		}
		ticks, err := statTicks(string(text))
		if err != nil {
			return 0, err
		}
		used += time.Duration(ticks) * time.Second / userHz
	}
	return used, nil
}

// statTicks adds up utime and stime of a stat file, fields 14 and 15. It parses
// from the last parenthesis, because the program's name, the second field, may
// contain spaces and parentheses.
func statTicks(stat string) (ticks int64, err error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0, fmt.Errorf("malformed stat of a process: %.60q", stat)
	}
	for _, field := range []string{fields[utime], fields[stime]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("malformed stat of a process: %.60q", stat)
		}
		ticks += n
	}
	return ticks, nil
}
