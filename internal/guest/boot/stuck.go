package boot

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stuckAfter is the time that the threads of a group have to freeze before Freeze asks
// whether they are stuck.
const stuckAfter = 250 * time.Millisecond

// stuck reports whether the group dir is to be frozen and every thread in it that is not
// frozen waits inside the kernel, such as for the answer of a file system in user space
// whose own process is frozen already. Such a thread counts as frozen: the freezer's mark is
// on it (JOBCTL_TRAP_FREEZE of linux/sched/jobctl.h), and it obeys before its next
// instruction in user mode.
//
// No thread may be running (R): any other that could return to user mode is woken by the
// mark, and sleeps (S) only once it is frozen.
func (u *Users) stuck(dir string) bool {
	if u.files == (kernelFiles{}) {
		return false
	}
	mark, err := os.ReadFile(filepath.Join(dir, "cgroup.freeze"))
	if err != nil || strings.TrimSpace(string(mark)) != "1" {
		return false
	}
	held := true
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if path != dir && gone(err) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		processes, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if errors.Is(err, unix.EOPNOTSUPP) || gone(err) {
			return nil // a group of threads, whose processes are listed above it, or none
		}
		if err != nil {
			return err
		}
		for _, pid := range strings.Fields(string(processes)) {
			if number, err := strconv.Atoi(pid); err != nil || !u.waits(number) {
				held = false
				return fs.SkipAll
			}
		}
		return nil
	})
	return err == nil && held
}

// waits reports whether no thread of a process runs. A process that has ended has none.
func (u *Users) waits(pid int) bool {
	tasks := u.files.process(pid, "task")
	threads, err := numbersIn(tasks)
	if err != nil {
		return gone(err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(filepath.Join(tasks, strconv.Itoa(thread), "stat"))
		if err != nil {
			continue // ended meanwhile
		}
		// proc_pid_stat(5): the state follows the program's name.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) == 0 || !bytes.Contains([]byte("SDTtZX"), fields[0]) {
			return false
		}
	}
	return true
}
