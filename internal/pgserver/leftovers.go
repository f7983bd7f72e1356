package pgserver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// How long a left-over server gets for each way of stopping it.
const (
	fastShutdown      = 30 * time.Second // finish transactions' rollback and the checkpoint
	immediateShutdown = 5 * time.Second  // drop everything; the next start recovers
	killing           = 5 * time.Second
)

// stopLeftovers stops every server process that still works in the cluster although
// its wrenn is gone, and removes the lock files that would name it. The
// caller holds the directory's lock, so no living wrenn owns them.
func (s *Server) stopLeftovers(ctx context.Context) error {
	for _, step := range []struct {
		signal syscall.Signal
		limit  time.Duration
	}{{unix.SIGINT, fastShutdown}, {unix.SIGQUIT, immediateShutdown}, {unix.SIGKILL, killing}} {
		left := s.leftovers()
		if len(left) == 0 {
			return s.clearLocks()
		}
		s.log.Warn("stopping PostgreSQL processes that an earlier wrenn left", "processes", len(left), "signal", step.signal.String())
		s.signalLeftovers(left, step.signal)
		waitAll(ctx, left, step.limit)
		closeAll(left)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if left := s.leftovers(); len(left) > 0 {
		closeAll(left)
		return fault.New(fault.Internal, "postgres_stuck", "%d processes of an earlier PostgreSQL in %s cannot be stopped", len(left), s.cfg.Dir)
	}
	return s.clearLocks()
}

// signalLeftovers asks the postmaster, if it lives, to stop the others; they
// mistake its SIGINT for "cancel the query". Without a postmaster they end by
// themselves, and the harder signals reach each of them.
func (s *Server) signalLeftovers(left []leftover, signal syscall.Signal) {
	master := s.recordedPID()
	for _, l := range left {
		if signal != unix.SIGINT || l.pid == master {
			l.signal(signal)
		}
	}
}

// recordedPID returns the process id in the cluster's postmaster.pid, or 0.
func (s *Server) recordedPID() int {
	raw, err := os.ReadFile(filepath.Join(s.cfg.dataDir(), pidFile))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0
	}
	return pid
}

// clearLocks removes the lock files of a killed postmaster: PostgreSQL would refuse
// to start if some other process had been given the recorded id since.
func (s *Server) clearLocks() error {
	if err := os.Remove(filepath.Join(s.cfg.dataDir(), pidFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Wrap(err, fault.Internal, "postgres_dir", "cannot remove PostgreSQL's stale lock file")
	}
	return s.clearRunDir()
}

// clearRunDir leaves the socket's directory empty. It keeps the directory, for
// which a full disk might have no room again.
func (s *Server) clearRunDir() error {
	entries, err := os.ReadDir(s.cfg.runDir())
	if errors.Is(err, os.ErrNotExist) {
		return s.acct.mkdir(s.cfg.runDir())
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.cfg.runDir(), e.Name())))
	}
	if err != nil {
		return fault.Wrap(err, fault.Internal, "postgres_dir", "cannot remove PostgreSQL's stale socket")
	}
	return nil
}

// leftover is a living process, held by a descriptor: unlike its id, that
// never comes to mean another process.
type leftover struct {
	pid int
	fd  *os.File
}

// leftovers finds the server processes whose working directory is the
// cluster, which is true of a postmaster and of all its children and of
// nothing else that runs a program called postgres.
func (s *Server) leftovers() []leftover {
	entries, _ := filepath.Glob("/proc/[0-9]*")
	var left []leftover
	for _, e := range entries {
		pid, err := strconv.Atoi(filepath.Base(e))
		if err != nil || !s.isServerProcess(e) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err != nil {
			continue // it has ended
		}
		// The id may have been given to another process before the
		// descriptor was opened; from here on it cannot.
		if !s.isServerProcess(e) {
			_ = unix.Close(fd)
			continue
		}
		left = append(left, leftover{pid, os.NewFile(uintptr(fd), "pidfd")})
	}
	return left
}

func (s *Server) isServerProcess(proc string) bool {
	cwd, err := os.Readlink(proc + "/cwd")
	if err != nil || cwd != s.cfg.dataDir() {
		return false
	}
	exe, err := os.Readlink(proc + "/exe")
	// The kernel marks a program that an upgrade has replaced.
	return err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == "postgres"
}

// signal does nothing to a process that has ended.
func (l leftover) signal(sig syscall.Signal) {
	if raw, err := l.fd.SyscallConn(); err == nil {
		// Not by Fd, which would take the descriptor from the runtime's poller.
		_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	}
}

// wait returns when the process has ended or the deadline of its descriptor
// has passed.
func (l leftover) wait() {
	raw, err := l.fd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
	})
}

func waitAll(ctx context.Context, left []leftover, limit time.Duration) {
	deadline := time.Now().Add(limit)
	for _, l := range left {
		_ = l.fd.SetReadDeadline(deadline)
	}
	defer context.AfterFunc(ctx, func() {
		for _, l := range left {
			_ = l.fd.SetReadDeadline(time.Unix(1, 0))
		}
	})()
	for _, l := range left {
		l.wait()
	}
}

func closeAll(left []leftover) {
	for _, l := range left {
		_ = l.fd.Close()
	}
}
