package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// What is measured of VMM processes works where the bench runs on the host,
// as root, and for sandboxes that did not come from a pool: the processes of
// those have a name from before they were a sandbox.

// vmmProcesses finds the processes on this machine that have a sandbox's id in
// their command line. It returns their directories in /proc by id.
func vmmProcesses(ids []string) (map[string][]string, error) {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	found := map[string][]string{}
	for _, name := range names {
		line, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended, or is another's
		}
		for _, id := range ids {
			if bytes.Contains(line, []byte(id)) {
				found[id] = append(found[id], filepath.Dir(name))
			}
		}
	}
	return found, nil
}

// vmmMemory is memoryOf for one sandbox.
func vmmMemory(id string) (mib float64, err error) {
	found, err := vmmProcesses([]string{id})
	if err != nil {
		return 0, err
	}
	return memoryOf(found[id])
}

// memoryOf returns the proportional set size of processes, in MiB: each page
// shared with other processes counts by its share (Pss of smaps_rollup,
// proc_pid_smaps(5)). Reading it of another user's process needs root.
func memoryOf(processes []string) (mib float64, err error) {
	if len(processes) == 0 {
		return 0, errors.New("no VMM process of the sandbox is on this machine")
	}
	for _, dir := range processes {
		pss, err := kilobytes(filepath.Join(dir, "smaps_rollup"), "Pss")
		if err != nil {
			return 0, errors.New("the memory of the VMM process cannot be read (is this root?)")
		}
		mib += pss
	}
	return mib, nil
}

// userHz is the unit of times in /proc/PID/stat, the same on all Linux that
// Wrenn runs on.
const userHz = 100

// cpuTime returns what processes have used, in user and in kernel mode.
func cpuTime(processes []string) (used time.Duration, err error) {
	for _, dir := range processes {
		text, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			return 0, fmt.Errorf("a VMM process ended: %w", err)
		}
		ticks, err := statTicks(string(text))
		if err != nil {
			return 0, err
		}
		used += time.Duration(ticks) * time.Second / userHz
	}
	return used, nil
}

// statTicks adds up utime and stime of a stat file, fields 14 and 15. The
// second field is the program's name, which may hold anything.
func statTicks(stat string) (ticks int64, err error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0, fmt.Errorf("no stat of a process: %.60q", stat)
	}
	for _, field := range []string{fields[utime], fields[stime]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("no stat of a process: %.60q", stat)
		}
		ticks += n
	}
	return ticks, nil
}
