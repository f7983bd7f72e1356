package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Groups makes the kernel groups that hold a command and all it starts.
type Groups interface {
	// NewGroup makes a group. Its name is unique among the commands of one agent.
	NewGroup(name string) (Group, error)
}

// Group holds one command and its descendants.
type Group interface {
	// Dir returns the descriptor of the cgroup directory to start in, or -1.
	Dir() int
	// Kill sends SIGKILL to every process in the group.
	Kill() error
	// Members returns the processes in the group.
	Members() ([]int, error)
	// OutOfMemory reports whether a process of the group was ended because the
	// guest's memory was used up.
	OutOfMemory() bool
	// Release gives the group back once its processes are gone.
	Release()
}

// NoGroups implements Groups for systems without a cgroup v2 hierarchy, where a
// command is held together by its process group alone.
type NoGroups struct{}

// NewGroup returns a group that holds nothing.
func (NoGroups) NewGroup(string) (Group, error) { return noGroup{}, nil }

type noGroup struct{}

func (noGroup) Dir() int                { return -1 }
func (noGroup) Kill() error             { return nil }
func (noGroup) Members() ([]int, error) { return nil, nil }
func (noGroup) OutOfMemory() bool       { return false }
func (noGroup) Release()                {}

// Cgroups makes one cgroup (v2) for each command under a parent directory.
//
// Invariant: a directory is removed once it is empty; those that children of
// an ended command still live in are tried again whenever another is released.
type Cgroups struct {
	parent string
	prefix string
	// tasks is the most processes and threads of one command; 0 sets no limit.
	tasks uint64

	mu        sync.Mutex // protects the following
	leftovers []string
}

// NewCgroups returns Cgroups under the directory parent, which must be a
// cgroup v2 without processes of its own. Names get prefix, which must differ
// between agents that share the parent. Cgroups of an earlier agent are removed
// when they are empty; their processes are not touched.
//
// If parent limits the number of processes and threads, one command gets all but
// tasksReserve of them, so that others can be started beside a fork bomb.
func NewCgroups(parent, prefix string) *Cgroups {
	c := &Cgroups{parent: parent, prefix: prefix}
	if text, err := os.ReadFile(filepath.Join(parent, tasksFile)); err == nil {
		all, _ := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64) // 0 for "max"
		c.tasks = all - min(tasksReserve, all)
	}
	left, err := os.ReadDir(parent)
	if err != nil {
		return c // NewGroup reports it
	}
	for _, d := range left {
		if d.IsDir() {
			c.leftovers = append(c.leftovers, filepath.Join(parent, d.Name()))
		}
	}
	return c
}

// tasksFile holds the limit on processes and threads of a cgroup, and tasksReserve is
// the number of them that one command leaves to others.
const (
	tasksFile    = "pids.max"
	tasksReserve = 32
)

// Name returns the name of the directory of the command's cgroup that NewGroup makes.
func (c *Cgroups) Name(command string) string { return c.prefix + command }

// NewGroup makes the cgroup of one command.
func (c *Cgroups) NewGroup(name string) (Group, error) {
	path := filepath.Join(c.parent, c.Name(name))
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = os.Remove(path)
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	if c.tasks > 0 {
		// Without the limit of its own, the command has that of all.
		_ = os.WriteFile(filepath.Join(path, tasksFile), strconv.AppendUint(nil, c.tasks, 10), 0)
	}
	return &cgroup{owner: c, path: path, fd: fd}, nil
}

// release removes path and every earlier one that has become empty.
func (c *Cgroups) release(path string) {
	c.mu.Lock()
	leftovers := append(c.leftovers, path)
	c.leftovers = nil
	c.mu.Unlock()
	var left []string
	for _, h := range leftovers {
		if err := os.Remove(h); err != nil && !errors.Is(err, os.ErrNotExist) {
			left = append(left, h)
		}
	}
	c.mu.Lock()
	c.leftovers = append(c.leftovers, left...)
	c.mu.Unlock()
}

type cgroup struct {
	owner *Cgroups
	path  string
	fd    int
	// killed says that the kernel was told to end every process in the group.
	killed atomic.Bool
}

func (g *cgroup) Dir() int { return g.fd }

// Kill uses cgroup.kill, which no process can escape by forking (Linux 5.14,
// Documentation/admin-guide/cgroup-v2.rst).
func (g *cgroup) Kill() error {
	g.killed.Store(true)
	return os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0)
}

func (g *cgroup) Members() ([]int, error) {
	b, err := os.ReadFile(filepath.Join(g.path, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range bytes.Fields(b) {
		pid, err := strconv.Atoi(string(f))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// OutOfMemory reads the kernel's count for the group.
func (g *cgroup) OutOfMemory() bool {
	events, err := os.ReadFile(filepath.Join(g.path, "memory.events"))
	if err != nil {
		return false // the kernel does not limit memory
	}
	for line := range bytes.Lines(events) {
		if number, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("oom_kill ")); ok {
			return string(number) != "0"
		}
	}
	return false
}

// Release removes the group, or leaves it for later where processes that were
// not killed still live in it. Killed ones that are not descendants of the main
// process's group may outlive that process by a moment, which Release waits
// for.
func (g *cgroup) Release() {
	if g.killed.Load() {
		g.awaitEmpty(dyingPatience)
	}
	_ = unix.Close(g.fd)
	g.owner.release(g.path)
}

// dyingPatience bounds how long the processes of a killed group may take to
// end. One that waits for a device that does not answer takes for ever.
const dyingPatience = 10 * time.Second

// awaitEmpty returns when no process is in the group, or after limit. The
// kernel tells of each change of cgroup.events by POLLPRI
// (Documentation/admin-guide/cgroup-v2.rst).
func (g *cgroup) awaitEmpty(limit time.Duration) {
	events, err := os.Open(filepath.Join(g.path, "cgroup.events"))
	if err != nil {
		return
	}
	defer events.Close()
	text := make([]byte, 256)
	for deadline := time.Now().Add(limit); ; {
		// Reading arms the next poll.
		n, err := events.ReadAt(text, 0)
		if err != nil && !errors.Is(err, io.EOF) || bytes.Contains(text[:n], []byte("populated 0")) {
			return
		}
		left := time.Until(deadline)
		if left <= 0 {
			return
		}
		poll := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(poll, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
