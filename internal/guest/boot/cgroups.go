package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// The two halves of the cgroup tree: the agent, and the commands of users.
const (
	agentCgroup = cgroupRoot + "/agent"
	// UserCgroup is the parent of one cgroup for each command.
	UserCgroup = cgroupRoot + "/user"
)

// controllers are enabled for the cgroups of commands if the kernel has them.
var controllers = []string{"memory", "pids", "cpu", "io"}

// setUpCgroups makes both halves and limits the users' half, so that user
// processes cannot take the agent's memory or process numbers. The guest has
// memory bytes.
func setUpCgroups(memory uint64) error {
	for _, dir := range []string{agentCgroup, UserCgroup} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	for _, parent := range []string{cgroupRoot, UserCgroup} {
		for _, c := range controllers {
			// A kernel without one of them still runs commands.
			_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+c), 0)
		}
	}
	limit := strconv.FormatUint(memory-reserve(memory), 10)
	if err := os.WriteFile(filepath.Join(UserCgroup, "memory.max"), []byte(limit), 0); err != nil {
		return fmt.Errorf("limit users' memory: %w", err)
	}
	if threads, err := readNumber("/proc/sys/kernel/threads-max"); err == nil {
		_ = os.WriteFile(filepath.Join(UserCgroup, "pids.max"), []byte(strconv.FormatUint(threads*3/4, 10)), 0)
	}
	return nil
}

// memorySize returns the size of the guest's memory, in bytes.
func memorySize() (uint64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("read memory size: %w", err)
	}
	return uint64(info.Totalram) * uint64(info.Unit), nil
}

// reserve returns the memory, in bytes, that is kept for the agent and the kernel
// in a guest with total bytes of memory.
func reserve(total uint64) uint64 {
	const least, most = 32 << 20, 64 << 20
	return min(max(total/8, least), most, total/2)
}

func readNumber(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
}

// Users freezes and thaws the processes of users: a cgroup with everything below it, and
// those that root has moved elsewhere in the hierarchy. Its methods must not be called
// at the same time.
//
// Root can move a process into a group beside that of the users, into the root or to the
// agent, where the freezer of the users' group does not reach it, and can write to
// cgroup.freeze. Freeze therefore freezes the other groups too, moves the processes of the
// root and of the agent's group below the users' group, and looks again until it has found
// none while all groups stayed frozen. It leaves the first group of a process alone
// wherever it can, because container engines make groups of their own.
//
// Invariant: thawed is true only if no cgroup is known to be frozen.
type Users struct {
	dir string
	// files lead to all processes; without them, only dir is frozen.
	files  kernelFiles
	thawed bool
}

// NewUsers returns Users for the cgroup v2 directory dir alone.
func NewUsers(dir string) *Users { return &Users{dir: dir} }

// newUsers returns Users for all processes but Init and the caller.
func newUsers(files kernelFiles) *Users { return &Users{dir: files.users(), files: files} }

// freezeTimeout bounds Freeze: a process that waits inside the kernel for a
// device cannot be frozen until the device answers.
const freezeTimeout = 8 * time.Second

// Freeze stops every process and returns once all have stopped, with their
// number. If there is none, it does nothing: only a process could add one. On error
// some may be frozen: Thaw must follow.
func (u *Users) Freeze(ctx context.Context) (frozen int, err error) {
	if u.files == (kernelFiles{}) {
		return u.freezeGroup(ctx)
	}
	if inside, moved, err := u.gather(); err != nil || inside+moved == 0 {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	u.thawed = false
	for {
		count, quiet, err := u.freezeAll(ctx)
		if quiet || err != nil {
			return count, err
		}
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("freeze processes that leave their group: %w", context.Cause(ctx))
		}
	}
}

// freezeGroup freezes dir alone.
func (u *Users) freezeGroup(ctx context.Context) (frozen int, err error) {
	if n, err := u.count(); err != nil || n == 0 {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	u.thawed = false
	for {
		events, _, err := setFrozen(ctx, u.dir, true, nil)
		if errors.Is(err, errUndone) {
			continue // until ctx ends
		}
		if err != nil {
			return 0, err
		}
		_ = unix.Close(events)
		return u.count()
	}
}

// Thaw continues every process. It is idempotent.
func (u *Users) Thaw(ctx context.Context) error {
	if u.thawed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	groups, err := u.groups()
	if err != nil {
		return err
	}
	for _, dir := range groups {
		events, _, err := setFrozen(ctx, dir, false, nil)
		for errors.Is(err, errUndone) {
			events, _, err = setFrozen(ctx, dir, false, nil)
		}
		if err != nil && (dir == u.dir || !gone(err)) {
			return err
		}
		if err == nil {
			_ = unix.Close(events)
		}
	}
	u.thawed = true
	return nil
}

// changesBeforeLook is the number of changes, or of pauses of 50 ms, after which setFrozen
// looks whether its word still stands: most groups get there with one change.
const changesBeforeLook = 2

// errUndone says that another process has written to cgroup.freeze since.
var errUndone = errors.New("another process changed the state of the freezer")

// setFrozen writes cgroup.freeze of the group dir and waits until cgroup.events confirms
// it. It returns the descriptor of the latter, or errUndone if the group cannot reach the
// state any more. After stuckAfter it asks stuck, unless that is nil, whether the group
// can only wait, and ends with waits. It makes bare system calls, because every clone runs
// it before any user code, and an emulated processor has to translate each instruction
// first.
func setFrozen(ctx context.Context, dir string, freeze bool, stuck func(dir string) bool) (events int, waits bool, err error) {
	word, state := "0", []byte("frozen 0")
	if freeze {
		word, state = "1", []byte("frozen 1")
	}
	events, err = unix.Open(dir+"/cgroup.events", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, false, fmt.Errorf("freezer: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(events)
		}
	}()
	if err := writeControl(dir+"/cgroup.freeze", word); err != nil {
		return events, false, fmt.Errorf("freezer: %w", err)
	}
	buf := make([]byte, 256)
	look := time.Now().Add(stuckAfter)
	for round := 0; ; round++ {
		n, err := unix.Pread(events, buf, 0)
		if err != nil {
			return events, false, fmt.Errorf("freezer: %w", err)
		}
		if bytes.Contains(buf[:n], state) {
			return events, false, nil
		}
		if err := ctx.Err(); err != nil {
			return events, false, fmt.Errorf("processes did not reach %q: %w", state, err)
		}
		if round >= changesBeforeLook {
			if now, err := os.ReadFile(dir + "/cgroup.freeze"); err == nil && string(bytes.TrimSpace(now)) != word {
				return events, false, errUndone
			}
		}
		if now := time.Now(); stuck != nil && now.After(look) {
			if stuck(dir) {
				return events, true, nil
			}
			// A look at many processes takes CPU time that they need to freeze.
			look = time.Now().Add(max(stuckAfter, 8*time.Since(now)))
		}
		// A change of the file is POLLPRI (cgroup v2, "Notifications"). The time
		// limit is there to notice the end of ctx, a word that others replaced, and
		// threads that are stuck.
		fds := []unix.PollFd{{Fd: int32(events), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, 50); err != nil && !errors.Is(err, unix.EINTR) {
			return events, false, fmt.Errorf("freezer: %w", err)
		}
	}
}

// writeControl writes word to a control file of the kernel.
func writeControl(path, word string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(word))
	return err
}

// count returns the number of processes in the tree, in which groups of commands
// may appear and disappear meanwhile.
func (u *Users) count() (int, error) {
	n := 0
	err := filepath.WalkDir(u.dir, func(path string, d fs.DirEntry, err error) error {
		below := path != u.dir
		if below && gone(err) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if errors.Is(err, unix.EOPNOTSUPP) || below && gone(err) {
			return nil
		}
		n += bytes.Count(procs, []byte("\n"))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count processes: %w", err)
	}
	return n, nil
}

// gone reports whether err means that a group was removed. Reads of its open files
// then fail with ENODEV.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }
