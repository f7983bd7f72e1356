package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Exit is the exit status of a command.
type Exit struct {
	// Code is the exit code, or -1 when a signal ended the command.
	Code int
	// Signal is zero unless a signal ended the command.
	Signal syscall.Signal
	// Status is the status in words: "exit status 1", "signal: killed".
	Status string
	// TimedOut is true when the command was killed for its timeout.
	TimedOut bool
	// OutOfMemory is true when the command failed and the guest has ended a process
	// of it because memory was used up.
	OutOfMemory bool
}

// Process is one command that is running or has ended and is still kept.
//
// Invariants: its identity is this value and never the PID, which the kernel may
// reuse once the process is reaped; a signal is sent only while the main process is
// not reaped; exit is set before ended closes.
type Process struct {
	// Constant after start.
	key   uint64
	pid   int
	spec  Spec
	group Group
	pidfd *os.File
	files stdio
	input *input // nil without stdin
	// journal holds its output.
	journal *journal
	limit   int // of journal, at the start
	started time.Time
	ended   chan struct{}
	brief   *Brief // nil without a record

	mu       sync.Mutex // protects the following
	reaped   bool
	timedOut bool
	exit     Exit
	exitedAt time.Time
}

// PID returns the number of the main process in the guest.
func (p *Process) PID() int { return p.pid }

// Spec returns the specification that Start was given.
func (p *Process) Spec() Spec { return p.spec }

// ID returns the name of the process, which is not used again. It is empty for a
// process whose Spec has none.
func (p *Process) ID() string { return p.spec.ID }

// StartedAt returns when it was started, by the guest's clock.
func (p *Process) StartedAt() time.Time { return p.started }

// Terminal reports whether it runs on a terminal.
func (p *Process) Terminal() bool { return p.files.terminal }

// Extent returns the part of the output that is held.
func (p *Process) Extent() Extent { return p.journal.extent() }

// JournalLimit returns the size in bytes of the output that is kept while it runs.
func (p *Process) JournalLimit() int { return p.limit }

// Acknowledge allows the output before offset to be removed.
func (p *Process) Acknowledge(offset int64) { p.journal.ack(offset) }

// Subscribe attaches a reader to output from now on.
func (p *Process) Subscribe() (*Subscription, error) { return p.journal.subscribe(-1, true) }

// SubscribeFrom attaches a reader to output from an offset on, of which -1 is the end.
// Output counts as acknowledged by an explicit Acknowledge, by a later SubscribeFrom
// and, with auto, when the reader asks for the next piece. An offset beyond the end is
// Invalid invalid_offset.
func (p *Process) SubscribeFrom(offset int64, auto bool) (*Subscription, error) {
	return p.journal.subscribe(offset, auto)
}

// Ended is closed when the command has ended and its output is delivered.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Exit returns the exit status. It is valid once Ended is closed.
func (p *Process) Exit() Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

// ExitedAt returns when the main process ended, by the guest's clock. It is valid once
// Ended is closed.
func (p *Process) ExitedAt() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exitedAt
}

// Running reports whether the main process has not ended.
func (p *Process) Running() bool { return p.running() }

// running reports whether the main process has not been reaped.
func (p *Process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.reaped
}

func errNotRunning(pid int) error {
	return fault.New(fault.NotFound, "process_not_found", "process %d is not running", pid)
}

// Signal sends sig to the command's process group. SIGKILL goes to its whole
// cgroup, which children in other process groups cannot leave. A command that
// has ended is NotFound.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return errNotRunning(p.pid)
	}
	return p.signalLocked(sig)
}

// SignalAll sends sig to every process that the command has started, in other process
// groups too. Where there are no cgroups it is Signal.
func (p *Process) SignalAll(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return errNotRunning(p.pid)
	}
	members, err := p.group.Members()
	if err != nil || len(members) == 0 || sig == syscall.SIGKILL {
		return p.signalLocked(sig)
	}
	for _, pid := range members {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process: %w", err)
		}
	}
	return nil
}

func (p *Process) signalLocked(sig syscall.Signal) error {
	if sig == syscall.SIGKILL {
		if err := p.group.Kill(); err != nil {
			return fmt.Errorf("kill cgroup: %w", err)
		}
	}
	if err := unix.Kill(-p.pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process group: %w", err)
	}
	return nil
}

// expire kills the command at the end of its timeout.
func (p *Process) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	p.timedOut = true
	_ = p.signalLocked(syscall.SIGKILL)
}

// WriteStdin writes to the command's stdin pipe. It waits while the pipe is
// full, until ctx ends.
func (p *Process) WriteStdin(ctx context.Context, b []byte) error {
	if p.input == nil || p.files.terminal {
		return fault.New(fault.WrongState, "no_stdin", "the process was started without stdin")
	}
	return p.writeInput(ctx, b)
}

// WriteTerminal writes to the command's terminal.
func (p *Process) WriteTerminal(ctx context.Context, b []byte) error {
	if !p.files.terminal {
		return fault.New(fault.WrongState, "no_terminal", "the process has no terminal")
	}
	return p.writeInput(ctx, b)
}

func (p *Process) writeInput(ctx context.Context, b []byte) error {
	if !p.running() {
		return errNotRunning(p.pid)
	}
	return p.input.write(ctx, b)
}

// CloseStdin closes the command's stdin, which then reads end of file. It is
// idempotent.
func (p *Process) CloseStdin() error {
	if p.input == nil || p.files.terminal {
		return fault.New(fault.WrongState, "no_stdin", "the process was started without stdin")
	}
	if err := p.input.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close stdin: %w", err)
	}
	return nil
}

// Resize changes the size of the command's terminal.
func (p *Process) Resize(size Size) error {
	if !p.files.terminal {
		return fault.New(fault.WrongState, "no_terminal", "the process has no terminal")
	}
	raw, err := p.input.file.SyscallConn()
	if err != nil {
		return errNotRunning(p.pid)
	}
	var setErr error
	if err := raw.Control(func(fd uintptr) { setErr = setSize(int(fd), size) }); err != nil {
		return errNotRunning(p.pid)
	}
	return setErr
}

// run supervises the command until it has ended, which it writes to the command's record
// in records. linger takes over the sources that children still hold open.
func (p *Process) run(records *briefs, linger func(source)) {
	var timer *time.Timer
	if p.spec.Timeout > 0 {
		timer = time.AfterFunc(p.spec.Timeout, p.expire)
	}
	var pumps sync.WaitGroup
	open := make([]bool, len(p.files.sources))
	for i, src := range p.files.sources {
		pumps.Go(func() { open[i] = src.pump(p.journal) })
	}
	p.awaitExit()
	if timer != nil {
		timer.Stop()
	}
	p.reap()
	if p.brief != nil {
		records.end(p.brief, p.ExitedAt(), p.Exit())
	}
	p.journal.finish()
	for _, src := range p.files.sources {
		_ = src.file.SetReadDeadline(time.Now().Add(drainGrace))
	}
	if p.input != nil && !p.files.terminal {
		_ = p.input.file.Close()
	}
	pumps.Wait()
	for i, src := range p.files.sources {
		if open[i] {
			linger(src)
		} else {
			_ = src.file.Close()
		}
	}
	p.journal.close()
	close(p.ended)
	p.group.Release()
}

// awaitExit returns when the main process has ended, without reaping it. It waits
// for the pidfd to become readable (pidfd_open(2)), which blocks no thread.
func (p *Process) awaitExit() {
	raw, err := p.pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			var info unix.Siginfo
			err := unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
			return err == nil && info.Signo != 0 || err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN)
		})
	}
	if err != nil {
		// The poller refused the descriptor: wait in a thread instead.
		for errors.Is(unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
			continue
		}
	}
}

// reap waits for the exit status. Afterwards the kernel may reuse the PID.
func (p *Process) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(p.pid, &ws, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_ = p.pidfd.Close()
	p.reaped, p.exitedAt = true, time.Now()
	p.exit = ExitOf(ws)
	p.exit.TimedOut = p.timedOut
	p.exit.OutOfMemory = p.exit.Code != 0 && p.group.OutOfMemory()
}

// ExitOf decodes a wait status.
func ExitOf(ws unix.WaitStatus) Exit {
	if ws.Signaled() {
		e := Exit{Code: -1, Signal: ws.Signal(), Status: "signal: " + ws.Signal().String()}
		if ws.CoreDump() {
			e.Status += " (core dumped)"
		}
		return e
	}
	return Exit{Code: ws.ExitStatus(), Status: "exit status " + strconv.Itoa(ws.ExitStatus())}
}
