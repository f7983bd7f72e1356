package boot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// leastVictim is the size, in bytes, from which a command is ended: the end of a
// smaller one would not help.
const leastVictim = 16 << 20

// endLargest kills the command whose processes use the most memory, if that is more
// than least bytes. If there is none, it kills the largest process that root has moved
// out of the cgroups of commands. It reports whether it killed any.
func (w *MemoryWatch) endLargest(least uint64) bool {
	groups, err := os.ReadDir(w.users)
	if err != nil {
		return false
	}
	most, largest := least, ""
	for _, g := range groups {
		if !g.IsDir() {
			continue
		}
		if used := residentBytes(filepath.Join(w.users, g.Name())); used > most {
			most, largest = used, g.Name()
		}
	}
	if largest == "" {
		return endLargestProcess(least)
	}
	fmt.Fprintf(os.Stderr, "wrenn-guest: out of memory: ending the command %s, which uses %d MiB\n", largest, most>>20)
	w.mu.Lock()
	w.ended[largest] = true
	w.mu.Unlock()
	return os.WriteFile(filepath.Join(w.users, largest, "cgroup.kill"), []byte("1"), 0) == nil
}

// hasEnded reports whether the command of a group was ended.
func (w *MemoryWatch) hasEnded(group string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended[group]
}

// forget forgets a group that is not used any more.
func (w *MemoryWatch) forget(group string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.ended, group)
}

// endLargestProcess kills the largest process besides Init and the agent, if it has
// more than least bytes.
func endLargestProcess(least uint64) bool {
	processes, err := numbersIn("/proc")
	if err != nil {
		return false
	}
	most, largest := least, 0
	for _, pid := range processes {
		if pid == 1 || pid == os.Getpid() {
			continue
		}
		if used := residentOf(strconv.Itoa(pid)); used > most {
			most, largest = used, pid
		}
	}
	if largest == 0 {
		return false
	}
	fmt.Fprintf(os.Stderr, "wrenn-guest: out of memory: ending the process %d, which uses %d MiB\n", largest, most>>20)
	return unix.Kill(largest, unix.SIGKILL) == nil
}

// residentBytes returns the memory of the processes of a cgroup, shared parts counted
// once for each.
func residentBytes(group string) (sum uint64) {
	members, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil {
		return 0
	}
	for pid := range bytes.FieldsSeq(members) {
		sum += residentOf(string(pid))
	}
	return sum
}

// residentOf returns the memory of a process, or 0 if it has ended.
func residentOf(pid string) uint64 {
	// proc_pid_statm(5): the second field counts resident pages.
	statm, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return pages * uint64(os.Getpagesize())
}
