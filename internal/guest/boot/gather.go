package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// strays is the group of processes that were found in the root or in the agent's group.
const strays = "stray"

// groups returns the users' group and those beside it, but the agent's.
func (u *Users) groups() (dirs []string, err error) {
	dirs = []string{u.dir}
	if u.files == (kernelFiles{}) {
		return dirs, nil
	}
	entries, err := os.ReadDir(u.files.cgroup)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(u.files.cgroup, e.Name())
		if e.IsDir() && dir != u.dir && dir != u.files.agent() {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// freezeAll freezes all groups and gathers strays. It is quiet if there was none and
// every group stayed frozen, or stuck, meanwhile. It returns the number of processes.
func (u *Users) freezeAll(ctx context.Context) (count int, quiet bool, err error) {
	groups, err := u.groups()
	if err != nil {
		return 0, false, err
	}
	var events []unix.PollFd
	var stuck []string
	defer func() {
		for _, e := range events {
			_ = unix.Close(int(e.Fd))
		}
	}()
	undone := false
	for _, dir := range groups {
		fd, waits, err := setFrozen(ctx, dir, true, u.stuck)
		if dir != u.dir && gone(err) {
			continue
		}
		if errors.Is(err, errUndone) {
			// The process that thawed the group may be in one that comes later, or a stray.
			undone = true
			continue
		}
		if err != nil {
			return 0, false, err
		}
		events = append(events, unix.PollFd{Fd: int32(fd), Events: unix.POLLPRI})
		if waits {
			stuck = append(stuck, dir)
		}
	}
	before, waiting := u.look(stuck)
	inside, moved, err := u.gather()
	if err != nil {
		return 0, false, err
	}
	waiting = waiting && u.stayed(stuck, before)
	// Any change of a group's state since it was read is told here.
	changed, err := unix.Poll(events, 0)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return 0, false, fmt.Errorf("freezer: %w", err)
	}
	return inside, waiting && !undone && moved == 0 && changed == 0 && err == nil, nil
}

// gather moves the processes of the root and of the agent's group, other than Init and
// the agent, below the users' group. It returns the number of the others of users, and
// of those that it has moved.
func (u *Users) gather() (inside, moved int, err error) {
	processes, err := numbersIn(u.files.proc)
	if err != nil {
		return 0, 0, fmt.Errorf("list processes: %w", err)
	}
	own := unix.Getpid()
	for _, pid := range processes {
		if pid == 1 || pid == own || u.isKernels(pid) {
			continue
		}
		text, err := os.ReadFile(u.files.process(pid, "cgroup"))
		if err != nil {
			continue // ended meanwhile
		}
		_, path, _ := strings.Cut(strings.TrimSpace(string(text)), "::")
		if first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/"); first != "" && first != filepath.Base(u.files.agent()) {
			inside++
			continue
		}
		if err := u.move(pid); err != nil {
			return inside, moved, err
		}
		moved++
	}
	return inside, moved, nil
}

// move puts a process below the users' group. One that has ended is no error.
func (u *Users) move(pid int) error {
	dir := filepath.Join(u.dir, strays)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a group for processes that left theirs: %w", err)
	}
	err := writeControl(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("move process %d to the users: %w", pid, err)
	}
	return nil
}

// kernelThread is PF_KTHREAD of linux/sched.h.
const kernelThread = 0x00200000

// isKernels reports whether a process is a thread of the kernel, or has ended. Those have
// no program, as processes whose first thread has ended.
func (u *Users) isKernels(pid int) bool {
	var program [1]byte
	_, err := unix.Readlink(u.files.process(pid, "exe"), program[:])
	if !errors.Is(err, unix.ENOENT) {
		return errors.Is(err, unix.ESRCH)
	}
	var text [256]byte
	fd, err := unix.Open(u.files.process(pid, "stat"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, text[:])
	if err != nil {
		return true
	}
	// proc_pid_stat(5): after the program's name, the first field is the state, the
	// seventh the flags and the 18th the number of threads.
	fields := bytes.Fields(text[bytes.LastIndexByte(text[:n], ')')+1 : n])
	if len(fields) < 18 {
		return true
	}
	flags, err := strconv.ParseUint(string(fields[6]), 10, 64)
	threads, _ := strconv.Atoi(string(fields[17]))
	return err == nil && (flags&kernelThread != 0 || fields[0][0] == 'Z' && threads <= 1)
}
