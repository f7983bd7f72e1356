package boot

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// MemoryWatch ends commands before the memory of the sandbox is used up, in a kernel
// that does not limit it. Without it, the host's limit would end the whole sandbox.
//
// Memory that the files of the root use does not count, because the disk has a limit
// of its own. The memory of control groups is of no use here: a file counts for the
// group that wrote it, and for none once that group is removed.
//
// It cannot help against a guest whose root ends the agent.
type MemoryWatch struct {
	users string // the cgroup that holds one for each command
	root  string // the root, whose files are in memory and have a limit of their own
	limit uint64 // bytes that processes and file systems in memory may use
	wake  chan struct{}
	// most is the most processes that have been seen at a time; Run alone uses it.
	most uint64
}

// NewMemoryWatch returns a MemoryWatch for a machine with memory bytes.
func NewMemoryWatch(memory uint64) *MemoryWatch {
	return &MemoryWatch{users: UserCgroup, root: "/", limit: memory - reserve(memory), wake: make(chan struct{}, 1)}
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
	fillRate    = 1 << 30
	watchOften  = 5 * time.Millisecond
	watchSeldom = time.Second
	// watchLeast is how long a command that is about to start is waited for.
	watchLeast = 10 * time.Second
)

// Run watches until ctx ends. While there is no process, it sleeps.
func (w *MemoryWatch) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	awake := time.Now().Add(watchLeast)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			awake = time.Now().Add(watchLeast)
		case <-timer.C:
		}
		free := w.free()
		switch {
		case !w.busy() && time.Now().After(awake):
			timer.Stop()
		case free == 0:
			w.endLargest()
			w.awaitRelease(ctx)
			timer.Reset(watchOften)
		default:
			timer.Reset(untilFull(free))
		}
	}
}

func untilFull(free uint64) time.Duration {
	return min(max(time.Duration(free)*time.Second/fillRate, watchOften), watchSeldom)
}

// free returns the memory that may still be used. Everything is free as long as it
// cannot be read.
func (w *MemoryWatch) free() uint64 {
	info, err := proc.ReadMemInfo()
	if err != nil {
		return w.limit
	}
	// Not MemTotal without MemFree, which is 0 as soon as files fill the memory's size.
	// AnonPages includes Shmem here, which includes the files of the root.
	used := info["AnonPages"] + info["Cached"] - min(info["Shmem"], info["Cached"])
	used -= min(used, w.fileBytes())
	return w.limit - min(used+w.hostBytes(), w.limit)
}

// The memory of the host, in bytes, that each process takes beside its own: a process
// of the host with its page tables, and the sentry's records. Measured: 360 KiB while
// it lives, 250 KiB afterwards. The host has room for those of the first processes
// (vmm.Shape.OverheadMB).
const (
	processBytes    = 384 << 10
	processesInRoom = 128
)

// hostBytes returns the memory of the host that processes take beside their own. It
// does not become less when processes end, because the sentry keeps their address
// spaces for later ones.
func (w *MemoryWatch) hostBytes() uint64 {
	tasks, err := readNumber(filepath.Join(w.users, "pids.current"))
	if err == nil && tasks > max(w.most, processesInRoom) {
		// Threads count among the tasks, but have no address space of their own.
		if processes, err := numbersIn("/proc"); err == nil {
			w.most = max(w.most, uint64(len(processes)))
		}
	}
	return (max(w.most, processesInRoom) - processesInRoom) * processBytes
}

// busy reports whether there is any process of a command.
func (w *MemoryWatch) busy() bool {
	processes, err := readNumber(filepath.Join(w.users, "pids.current"))
	return err != nil || processes > 0
}

// fileBytes returns the memory that the files of the root use.
func (w *MemoryWatch) fileBytes() uint64 {
	var fs unix.Statfs_t
	if unix.Statfs(w.root, &fs) != nil {
		return 0
	}
	return (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
}

// endLargest kills the command whose processes use the most memory, if that is much.
func (w *MemoryWatch) endLargest() {
	groups, err := os.ReadDir(w.users)
	if err != nil {
		return
	}
	most, largest := uint64(leastVictim), ""
	for _, g := range groups {
		if !g.IsDir() {
			continue
		}
		if used := residentBytes(filepath.Join(w.users, g.Name())); used > most {
			most, largest = used, g.Name()
		}
	}
	if largest == "" {
		return
	}
	fmt.Fprintf(os.Stderr, "wrenn-guest: out of memory: ending the command %s, which uses %d MiB\n", largest, most>>20)
	_ = os.WriteFile(filepath.Join(w.users, largest, "cgroup.kill"), []byte("1"), 0)
}

// releaseGrace is how long the memory of a command that was ended may take to become
// free. The kernel releases it in the background.
const releaseGrace = 250 * time.Millisecond

// awaitRelease returns when there is free memory, or after releaseGrace, so that one
// command is ended at a time.
func (w *MemoryWatch) awaitRelease(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, releaseGrace)
	defer cancel()
	poll := time.NewTicker(watchOften)
	defer poll.Stop()
	for w.free() == 0 {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

// leastVictim is the size, in bytes, from which a command is ended: the end of a
// smaller one would not help.
const leastVictim = 16 << 20

// residentBytes returns the memory of the processes of a cgroup, shared parts counted
// once for each.
func residentBytes(group string) (sum uint64) {
	members, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil {
		return 0
	}
	for pid := range bytes.FieldsSeq(members) {
		// proc_pid_statm(5): the second field counts resident pages.
		statm, err := os.ReadFile("/proc/" + string(pid) + "/statm")
		if err != nil {
			continue // ended meanwhile
		}
		if fields := bytes.Fields(statm); len(fields) > 1 {
			pages, _ := strconv.ParseUint(string(fields[1]), 10, 64)
			sum += pages * uint64(os.Getpagesize())
		}
	}
	return sum
}
