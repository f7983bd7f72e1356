package pgserver

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// pidFile is where a postmaster records its process id and its state
// (PostgreSQL, src/include/utils/pidfile.h).
const pidFile = "postmaster.pid"

// settings make the server small, private and quiet. Durability stays as
// PostgreSQL has it.
var settings = []string{
	"listen_addresses=", // no TCP
	"unix_socket_permissions=0700",
	"shared_buffers=64MB",
	"max_wal_size=256MB",
	"wal_level=minimal", // nobody replicates from it
	"max_wal_senders=0",
	"jit=off",
	"timezone=UTC",
	"log_timezone=UTC",
	"lc_messages=C",
	"logging_collector=off",
	"log_destination=stderr",
	"log_line_prefix=",
}

// temporarySettings are added for a server whose data may be lost.
var temporarySettings = []string{
	"fsync=off",
	"full_page_writes=off",
	"synchronous_commit=off",
	"max_connections=200", // tests run in parallel, each with pools of its own
}

// postmaster is one run of the server.
//
// The kernel sends it SIGINT, a fast shutdown, when the thread that started it
// ends. That thread is kept until the postmaster has been reaped, so the
// signal comes only when this whole process dies.
type postmaster struct {
	process *os.Process
	output  *output
	exited  chan struct{} // closed when it has been reaped; err is set before
	err     error
}

// start starts a postmaster. onExit is called once, when it has ended.
func (s *Server) start(onExit func()) (*postmaster, error) {
	out, err := newOutput(s.log)
	if err != nil {
		return nil, err
	}
	args := []string{"-D", s.cfg.dataDir(), "-c", "unix_socket_directories=" + quoteDir(s.cfg.runDir())}
	set := settings
	if s.cfg.Temporary {
		set = slices.Concat(settings, temporarySettings)
	}
	for _, set := range set {
		args = append(args, "-c", set)
	}
	cmd := exec.Command(s.bin.path("postgres"), args...)
	s.acct.confine(cmd, s.cfg.dataDir())
	cmd.SysProcAttr.Pdeathsig = syscall.SIGINT
	cmd.Stdout, cmd.Stderr = out.writer, out.writer

	pm := &postmaster{output: out, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		pm.err = cmd.Wait()
		close(pm.exited)
		onExit()
	}()
	err = <-started
	out.writerInherited()
	if err != nil {
		out.close()
		return nil, fault.Wrap(err, fault.Internal, "postgres_broken", "%s does not run", cmd.Path)
	}
	pm.process = cmd.Process
	return pm, nil
}

// quoteDir writes a directory as an element of PostgreSQL's list of directories,
// where commas separate, and quotes keep together (SplitDirectoriesString in
// src/backend/utils/adt/varlena.c).
func quoteDir(dir string) string { return `"` + strings.ReplaceAll(dir, `"`, `""`) + `"` }

// startAndWait starts a postmaster and returns when it accepts connections.
// Recovery after a crash may take minutes; ctx alone bounds it. On an error
// no postmaster is left.
func (s *Server) startAndWait(ctx context.Context) (*postmaster, error) {
	watch, err := watchDir(s.cfg.dataDir())
	if err != nil {
		return nil, err
	}
	defer watch.close()
	pm, err := s.start(watch.wake)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, watch.wake)()
	for !s.isReady(pm) {
		switch {
		case ctx.Err() != nil:
			return nil, errors.Join(ctx.Err(), pm.stop(s.log))
		case pm.hasExited():
			pm.output.close()
			return nil, fault.Wrap(pm.err, fault.Internal, "postgres_start",
				"PostgreSQL did not start: %s", strings.Join(pm.output.last(), "; "))
		}
		if err := watch.next(); err != nil {
			return nil, errors.Join(err, pm.stop(s.log))
		}
	}
	return pm, nil
}

// isReady reads the postmaster's own record: line 1 is its process id, line 8
// its state.
func (s *Server) isReady(pm *postmaster) bool {
	raw, err := os.ReadFile(filepath.Join(s.cfg.dataDir(), pidFile))
	if err != nil {
		return false
	}
	lines := strings.Split(string(raw), "\n")
	return len(lines) >= 8 && strings.TrimSpace(lines[0]) == strconv.Itoa(pm.process.Pid) &&
		strings.TrimSpace(lines[7]) == "ready"
}

func (pm *postmaster) hasExited() bool {
	select {
	case <-pm.exited:
		return true
	default:
		return false
	}
}

// stop shuts the server down, with ever harder signals, and returns when it has
// been reaped. A shutdown that was not clean is an error; the data is safe in
// any case.
func (pm *postmaster) stop(log *slog.Logger) error {
	defer pm.output.close()
	for _, step := range []struct {
		signal syscall.Signal
		limit  time.Duration
	}{{syscall.SIGINT, fastShutdown}, {syscall.SIGQUIT, immediateShutdown}, {syscall.SIGKILL, killing}} {
		if step.signal != syscall.SIGINT {
			log.Warn("PostgreSQL is slow to stop", "signal", step.signal.String())
		}
		_ = pm.process.Signal(step.signal)
		timer := time.NewTimer(step.limit)
		select {
		case <-pm.exited:
			timer.Stop()
			if pm.err != nil {
				return fault.Wrap(pm.err, fault.Internal, "postgres_stop", "PostgreSQL did not stop cleanly")
			}
			return nil
		case <-timer.C:
		}
	}
	return fault.New(fault.Internal, "postgres_stuck", "PostgreSQL (process %d) cannot be stopped", pm.process.Pid)
}
