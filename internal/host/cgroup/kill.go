package cgroup

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Kill ends every process of the group and returns when none is left. A killed
// process may still have to be reaped by its parent. A group that is gone or
// empty is success.
//
// The calling process is spared: a thread of it that starts a process in a v1 group is
// a member of the group until it ends, and makes the process a member.
func (g *Group) Kill(ctx context.Context) error {
	stop, err := newStopper(ctx)
	if err != nil {
		return fault.Wrap(err, fault.HostFailed, "cgroup_kill_failed", "the sandbox's processes cannot be killed")
	}
	defer stop.close()
	if g.unified != "" {
		err := g.killUnified(stop)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return killFault(ctx, err)
		}
	}
	// The rest are members of v1 groups only, or all on kernels before 5.14,
	// which have no cgroup.kill.
	for {
		pids, err := g.members()
		if err != nil || len(pids) == 0 {
			return err
		}
		others := slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return pid == os.Getpid() })
		if len(others) < len(pids) {
			// There is no notification of the end of a thread.
			if err := stop.pause(ownThreadPoll); err != nil {
				return killFault(ctx, err)
			}
		}
		if err := g.killEach(others, stop); err != nil {
			return killFault(ctx, err)
		}
	}
}

// ownThreadPoll is the interval at which Kill checks whether a thread of the calling
// process still is in the group.
const ownThreadPoll = 2 * time.Millisecond

func killFault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fault.As(ctx.Err())
	}
	return fault.Wrap(err, fault.HostFailed, "cgroup_kill_failed", "the sandbox's processes cannot be killed")
}

// killUnified writes cgroup.kill, which also reaches processes that are being
// forked, and waits for cgroup.events to say that the group is empty.
func (g *Group) killUnified(stop *stopper) error {
	if err := write(g.unified, "cgroup.kill", "1"); err != nil {
		return err
	}
	events, err := os.Open(filepath.Join(g.unified, "cgroup.events"))
	if err != nil {
		return err
	}
	defer events.Close()
	for {
		// Reading before waiting arms the notification for later changes.
		if _, err := events.Seek(0, io.SeekStart); err != nil {
			return err
		}
		text, err := io.ReadAll(events)
		if err != nil {
			return err
		}
		if strings.Contains("\n"+string(text), "\npopulated 0\n") {
			return nil
		}
		if err := stop.wait(int(events.Fd()), unix.POLLPRI); err != nil {
			return err
		}
	}
}

// killEach kills processes one by one and waits for the end of each. An open
// pidfd cannot come to mean another process, but between listing and opening a
// number can: only a process that is a member once its pidfd is open is killed.
func (g *Group) killEach(pids []int, stop *stopper) error {
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return err
		}
		members, err := g.members()
		if err == nil && slices.Contains(members, pid) {
			if err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err == nil {
				err = stop.wait(fd, unix.POLLIN)
			}
		}
		_ = unix.Close(fd)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// stopper lets a context end a poll(2).
type stopper struct {
	event int // an eventfd that is readable once the context has ended
	after func() bool
	ended chan struct{} // closed when the context's end has been noted
}

func newStopper(ctx context.Context) (*stopper, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	s := &stopper{event: event, ended: make(chan struct{})}
	s.after = context.AfterFunc(ctx, func() {
		defer close(s.ended)
		_, _ = unix.Write(event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	return s, nil
}

// wait returns nil when fd has one of events, or an error if the context has
// ended.
func (s *stopper) wait(fd int, events int16) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(s.event), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case fds[1].Revents != 0:
			return context.Canceled
		case fds[0].Revents != 0:
			return nil
		}
	}
}

// pause returns nil after d, or an error if the context has ended.
func (s *stopper) pause(d time.Duration) error {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.event), Events: unix.POLLIN}}, int(d.Milliseconds()))
	if n > 0 {
		return context.Canceled
	}
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

func (s *stopper) close() {
	if !s.after() {
		<-s.ended
	}
	_ = unix.Close(s.event)
}
