package boot

import (
	"context"
	"path/filepath"
	"sync"
	"time"
)

// MemoryWatch ends commands before the memory of the sandbox is used up, in a kernel
// that does not limit it. It watches the memory of the guest. That of the sentry is
// unknown here, as are the stub processes: the host watches all memory together, and ends
// commands if this watch comes too late (host/vmm/gvisor).
//
// Memory that the files of the root use does not count, because the disk has a limit
// of its own. The memory of control groups is of no use here: a file counts for the
// group that wrote it, and for none once that group is removed.
//
// # How often it looks
//
// While there is no process, never. While memory is being used, as soon as it could be
// used up at fillRate. Otherwise seldom, because each look costs CPU time.
//
// It cannot help against a guest whose root ends or stops the agent.
type MemoryWatch struct {
	users string // the cgroup that holds one for each command
	root  string // the root, whose files are in memory and have a limit of their own
	total uint64 // bytes of memory
	limit uint64 // bytes that processes and file systems in memory may use
	wake  chan struct{}
	// meminfo and pids are /proc/meminfo and the number of tasks of users.
	meminfo, pids kernelFile

	mu    sync.Mutex      // protects the following
	ended map[string]bool // whether a command was ended, by the name of its group
}

// NewMemoryWatch returns a MemoryWatch for a machine with memory bytes.
func NewMemoryWatch(memory uint64) *MemoryWatch {
	return &MemoryWatch{
		users: inherited.users(), root: "/", total: memory, limit: memory - reserve(memory),
		wake: make(chan struct{}, 1), ended: make(map[string]bool),
		meminfo: kernelFile{path: filepath.Join(inherited.proc, "meminfo")}, pids: kernelFile{path: filepath.Join(inherited.users(), "pids.current")},
	}
}

// Wake tells that a command is about to start.
func (w *MemoryWatch) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// fillRate is the most memory, in bytes a second, that commands are assumed to fill.
// The time until the next look follows from it, and is within these limits.
const (
	fillRate    = 2 << 30
	watchOften  = 5 * time.Millisecond
	watchSeldom = 5 * time.Second
	// watchFull is the time until the next look if the memory is used up, there is no
	// command whose end would help, and more may be used. It bounds how much a command
	// can write to a file system in memory before it is ended.
	watchFull = 20 * time.Millisecond
	// watchLeast is how long a command that is about to start is waited for, and how
	// long it is assumed to use ever more memory.
	watchLeast = 10 * time.Second
	// growth is the least change, in bytes, that counts as a use of memory.
	growth = 1 << 20
)

// Run watches until ctx ends. While there is no process, it sleeps.
func (w *MemoryWatch) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	awake := time.Now().Add(watchLeast)
	var last memoryUse
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			awake = time.Now().Add(watchLeast)
		case <-timer.C:
		}
		use, starting := w.look(), time.Now().Before(awake)
		if !starting && !w.busy() {
			timer.Stop()
			continue
		}
		timer.Reset(w.react(ctx, use, last, starting))
		last = use
	}
}

// react ends a command if the memory is used up, and returns the time until the next
// look. last is the use at the last one.
func (w *MemoryWatch) react(ctx context.Context, use, last memoryUse, starting bool) time.Duration {
	grows := use.counted > last.counted+growth
	if !w.full(use) {
		if starting || grows {
			return untilFull(min(w.limit-use.counted, use.room))
		}
		return watchSeldom
	}
	least := uint64(leastVictim)
	if grows && (use.room == 0 || use.counted > w.limit+(w.total-w.limit)/2) {
		// Something else than the memory of processes grows, such as a file system in
		// memory or the content of pipes: the process that writes to it has to stop.
		least = 0
	}
	switch {
	case (grows || use.counted >= w.limit) && w.endLargest(least):
	case starting || grows:
		return watchFull
	default:
		return max(watchFull, min(5*watchFull, untilFull(use.room)))
	}
	w.awaitRelease(ctx)
	return watchOften
}

// full reports whether the memory is used up, either without the files of the root or
// with them.
func (w *MemoryWatch) full(use memoryUse) bool { return use.counted >= w.limit || use.room == 0 }

func untilFull(free uint64) time.Duration {
	// A float64, because the product of bytes and nanoseconds exceeds 64 bits.
	full := time.Duration(float64(free) / fillRate * float64(time.Second))
	return min(max(full, watchOften), watchSeldom)
}

// releaseGrace is how long the memory of a command that was ended may take to become
// free. The kernel releases it in the background.
const releaseGrace = 250 * time.Millisecond

// awaitRelease returns when there is free memory, or after releaseGrace, so that one
// command is ended at a time. It returns earlier if another command uses ever more.
func (w *MemoryWatch) awaitRelease(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, releaseGrace)
	defer cancel()
	poll := time.NewTicker(watchOften)
	defer poll.Stop()
	least := w.look()
	for now := least; w.full(now) && now.counted < least.counted+leastVictim; now = w.look() {
		if now.counted < least.counted {
			least = now
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

// busy reports whether there is any process besides Init and the agent. Root can move
// one out of the cgroup of the users.
func (w *MemoryWatch) busy() bool {
	tasks, err := w.tasks()
	if err != nil || tasks > 0 {
		return true
	}
	processes, err := numbersIn(inherited.proc)
	return err != nil || len(processes) > 2
}
