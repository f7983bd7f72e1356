package boot

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stuckAfter is the time that the threads of a group have to freeze before Freeze asks
// whether they are stuck, and the least time between two such looks.
const stuckAfter = 250 * time.Millisecond

// switches has the context switches of threads, by their ids, as the kernel writes them.
// A thread with the same text at two times was off the processor at both and, if it was
// not running at the first, all the time between.
type switches map[int]string

// stuck reports whether every thread of the group dir, which is to be frozen, waits inside
// the kernel, such as for the answer of a file system in user space whose own process is
// frozen already. The freezer's mark is on such a thread (JOBCTL_TRAP_FREEZE of
// linux/sched/jobctl.h), and it obeys before its next instruction in user mode.
func (u *Users) stuck(dir string) bool {
	_, waiting := u.look([]string{dir})
	return waiting && marked(dir)
}

// look returns the switches of all threads in the groups dirs and whether none of them
// runs or is about to run.
func (u *Users) look(dirs []string) (found switches, waiting bool) {
	if len(dirs) == 0 {
		return nil, true
	}
	found = make(switches)
	for _, dir := range dirs {
		processes, err := processesIn(dir)
		if err != nil {
			return nil, false
		}
		for _, pid := range processes {
			if !u.lookAt(pid, found) {
				return nil, false
			}
		}
	}
	return found, true
}

// stayed reports whether the groups dirs have waited since the look before, marked for the
// freezer, so that no thread of them can reach user mode any more.
//
// Each thread was off the processor from its look before until its look here, and all of
// these times have a moment in common. A mark that is found here, before the threads are
// looked at, was set at that moment: it can be removed and set again only by a thread of
// users, which would have run since.
func (u *Users) stayed(dirs []string, before switches) bool {
	for _, dir := range dirs {
		if !marked(dir) {
			return false
		}
	}
	now, waiting := u.look(dirs)
	return waiting && maps.Equal(before, now)
}

// marked reports whether the group dir is to be frozen.
func marked(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.freeze"))
	return err == nil && string(bytes.TrimSpace(text)) == "1"
}

// processesIn returns the processes of the group dir and of those below it.
func processesIn(dir string) (pids []int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if path != dir && gone(err) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if errors.Is(err, unix.EOPNOTSUPP) || gone(err) {
			return nil // a group of threads, whose processes are listed above it, or none
		}
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
		return err
	})
	return pids, err
}

// lookAt adds the threads of a process to found, and reports whether none of them runs. A
// process that has ended has none.
func (u *Users) lookAt(pid int, found switches) bool {
	tasks := u.files.process(pid, "task")
	threads, err := numbersIn(tasks)
	if err != nil {
		return gone(err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(filepath.Join(tasks, strconv.Itoa(thread), "status"))
		if err != nil {
			continue // ended meanwhile
		}
		if !waits(text) {
			return false
		}
		_, found[thread], _ = strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
	}
	return true
}

// waits reports whether a thread with this status waits, has been stopped, or has ended
// (proc_pid_status(5)).
func waits(status []byte) bool {
	_, state, found := bytes.Cut(status, []byte("\nState:\t"))
	return found && len(state) > 0 && bytes.IndexByte([]byte("SDTtZX"), state[0]) >= 0
}
