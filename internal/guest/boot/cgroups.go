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

// Users freezes and thaws a cgroup with everything below it. Its methods must
// not be called at the same time.
//
// Invariant: thawed is true only if the cgroup is known not to be frozen.
type Users struct {
	dir    string
	thawed bool
}

// NewUsers returns Users for the cgroup v2 directory dir.
func NewUsers(dir string) *Users { return &Users{dir: dir} }

// freezeTimeout bounds Freeze: a process that waits inside the kernel for a
// device cannot be frozen until the device answers.
const freezeTimeout = 5 * time.Second

// Freeze stops every process and returns once all have stopped, with their
// number. An empty group is left alone: only a process of the group could add
// one. On error some may be frozen: Thaw must follow.
func (u *Users) Freeze(ctx context.Context) (frozen int, err error) {
	if n, err := u.count(); err != nil || n == 0 {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	u.thawed = false
	if err := u.set(ctx, true); err != nil {
		return 0, err
	}
	return u.count()
}

// Thaw continues every process. It is idempotent.
func (u *Users) Thaw(ctx context.Context) error {
	if u.thawed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	err := u.set(ctx, false)
	u.thawed = err == nil
	return err
}

// set writes cgroup.freeze and waits until cgroup.events confirms it. It makes
// bare system calls, because every clone runs it before any user code, and an
// emulated processor has to translate each instruction first.
func (u *Users) set(ctx context.Context, freeze bool) error {
	word, state := "0", []byte("frozen 0")
	if freeze {
		word, state = "1", []byte("frozen 1")
	}
	events, err := unix.Open(u.dir+"/cgroup.events", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("freezer: %w", err)
	}
	defer unix.Close(events)
	if err := writeControl(u.dir+"/cgroup.freeze", word); err != nil {
		return fmt.Errorf("freezer: %w", err)
	}
	buf := make([]byte, 256)
	for {
		n, err := unix.Pread(events, buf, 0)
		if err != nil {
			return fmt.Errorf("freezer: %w", err)
		}
		if bytes.Contains(buf[:n], state) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("processes did not reach %q: %w", state, err)
		}
		// A change of the file is POLLPRI (cgroup v2, "Notifications"). The time
		// limit is there to notice the end of ctx.
		fds := []unix.PollFd{{Fd: int32(events), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, 50); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("freezer: %w", err)
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
