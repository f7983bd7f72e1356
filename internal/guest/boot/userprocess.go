package boot

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// userProcess is a process that belongs to the sandbox's user.
type userProcess struct {
	pid, parent int
	// startTicks tells the process from a later one with the same number.
	startTicks uint64
}

// activity tells whether a process runs or is stopped, by its threads' states.
type activity int

const (
	// ended: no thread is left.
	ended activity = iota
	// stands: every thread is stopped, and only SIGCONT or a debugger changes it.
	stands
	// waits: some thread waits in the kernel where signals do not reach it.
	waits
	// runs: some thread runs, or may be woken.
	runs
)

// is reports whether both are the same process.
func (p userProcess) is(other userProcess) bool {
	return p.pid == other.pid && p.startTicks == other.startTicks
}

// exists reports whether the process still is there, as a zombie too.
func (p userProcess) exists() bool {
	stat, err := proc.ReadStat(p.pid)
	return err == nil && stat.StartTicks == p.startTicks
}

// activity returns the activity of the busiest thread.
func (p userProcess) activity() activity {
	busiest := ended
	threads, err := numbersIn(fmt.Sprintf("/proc/%d/task", p.pid))
	if err != nil {
		return ended
	}
	for _, thread := range threads {
		stat, err := proc.ReadThreadStat(p.pid, thread)
		if err != nil {
			continue // ended meanwhile
		}
		busiest = max(busiest, activityOf(stat.State))
	}
	return busiest
}

// activityOf returns the activity of a thread with that state (proc_pid_stat(5)).
func activityOf(state byte) activity {
	switch state {
	case 'Z', 'X', 'x':
		return ended
	case 'T', 't':
		return stands
	case 'D':
		return waits
	default:
		return runs
	}
}

// readProcesses returns the processes of the guest, except those in except.
func readProcesses(except ...int) ([]userProcess, error) {
	pids, err := numbersIn("/proc")
	if err != nil {
		return nil, err
	}
	var found []userProcess
	for _, pid := range pids {
		if slices.Contains(except, pid) {
			continue
		}
		stat, err := proc.ReadStat(pid)
		if err != nil {
			continue // ended meanwhile
		}
		found = append(found, userProcess{pid: pid, parent: stat.Parent, startTicks: stat.StartTicks})
	}
	return found, nil
}

// numbersIn returns the numbers among the names in a directory.
func numbersIn(dir string) (numbers []int, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers, err
}

// generations divides processes by the number of ancestors that they have among
// them, parents first.
func generations(found []userProcess) (sorted [][]userProcess) {
	parents := make(map[int]int, len(found))
	for _, p := range found {
		parents[p.pid] = p.parent
	}
	for _, p := range found {
		depth := 0
		// A list that was read while processes came and went may hold a circle.
		for parent := p.parent; depth < len(found); depth++ {
			above, ok := parents[parent]
			if !ok {
				break
			}
			parent = above
		}
		for len(sorted) <= depth {
			sorted = append(sorted, nil)
		}
		sorted[depth] = append(sorted[depth], p)
	}
	return sorted
}
