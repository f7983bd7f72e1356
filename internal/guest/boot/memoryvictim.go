package boot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// leastVictim is the size, in bytes, from which a command is ended: the end of a
// smaller one would not help.
const leastVictim = 16 << 20

// endLargest kills the command whose processes use the most memory, if that is more
// than least bytes. Root can move a process out of the cgroups of commands; such a one
// is a victim of its own. It reports whether it killed any.
//
// It looks at processes, whose number is limited, and not at cgroups, of which root can
// make any number.
func (w *MemoryWatch) endLargest(least uint64) bool {
	processes, err := numbersIn(inherited.proc)
	if err != nil {
		return false
	}
	sums := make(map[victim]uint64)
	most, largest := least, victim{}
	for _, pid := range processes {
		if pid == 1 || pid == os.Getpid() {
			continue
		}
		v := w.victimOf(pid)
		sums[v] += residentOf(pid)
		if sums[v] > most {
			most, largest = sums[v], v
		}
	}
	if largest == (victim{}) {
		return false
	}
	return w.end(largest, most)
}

// victim is the first directory of a cgroup below that of the users, or else a process.
type victim struct {
	group string
	pid   int
}

func (v victim) String() string {
	if v.group == "" {
		return "process " + strconv.Itoa(v.pid)
	}
	return "command " + v.group
}

// victimOf returns the victim to which a process belongs.
func (w *MemoryWatch) victimOf(pid int) victim {
	text, err := os.ReadFile(inherited.process(pid, "cgroup"))
	if err == nil {
		_, path, _ := strings.Cut(strings.TrimSpace(string(text)), "::")
		if below, ok := strings.CutPrefix(path, "/"+filepath.Base(w.users)+"/"); ok {
			group, _, _ := strings.Cut(below, "/")
			return victim{group: group}
		}
	}
	return victim{pid: pid}
}

// end kills a victim, which uses size bytes.
func (w *MemoryWatch) end(v victim, size uint64) bool {
	fmt.Fprintf(os.Stderr, "wrenn-guest: out of memory: ending the %.100s, which uses %d MiB\n", v.String(), size>>20)
	if v.group == "" {
		return unix.Kill(v.pid, unix.SIGKILL) == nil
	}
	w.mu.Lock()
	if _, ok := w.ended[v.group]; ok { // not one that root has made
		w.ended[v.group] = true
	}
	w.mu.Unlock()
	return os.WriteFile(filepath.Join(w.users, v.group, "cgroup.kill"), []byte("1"), 0) == nil
}

// began notes the group of a command that is about to start.
func (w *MemoryWatch) began(group string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended[group] = false
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

// residentOf returns the memory of a process, or 0 if it has ended.
func residentOf(pid int) uint64 {
	// proc_pid_statm(5): the second field counts resident pages.
	statm, err := os.ReadFile(inherited.process(pid, "statm"))
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
