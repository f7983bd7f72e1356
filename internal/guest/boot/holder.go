package boot

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// holder holds user processes where the kernel has no freezer: Init is the tracer
// (ptrace(2)) of every thread, and stops it.
//
// # Why ptrace, and why Init
//
// A thread in a ptrace stop runs only if its tracer wants it to, or to die by SIGKILL.
// SIGCONT, which a timer of its own may send, does not continue it. Parents do not
// learn of the stop, and signals that arrive meanwhile are delivered afterwards. gVisor
// saves tracers and stops with a sandbox, so that a copy is held too.
//
// Tracees run again when their tracer ends. Root in the guest can let an agent be killed
// during a hold, by a descriptor that is owned by the agent and delivers SIGKILL
// (F_SETOWN and F_SETSIG, fcntl(2)). The end of Init is the end of the sandbox.
//
// # Limits
//
// A thread that a user's debugger traces has no room for a second tracer. It gets SIGSTOP.
// Its debugger is held, so that it stays in that stop, and sees the SIGSTOP afterwards.
// If the debugger is killed during the hold, its tracee may run until Init has seized
// it, which begins as soon as the debugger has ended.
//
// An execve(2) that does not return, because a file system in a user process does not
// answer, blocks the seizure of its process. Such a process is killed after seizeTimeout.
//
// A holder belongs to one thread, the one that all requests to trace must come from. In a
// sandbox it is the first thread of Init.
//
// Invariants: threads holds every thread that Init traces as far as it knows; holding is
// true from hold to release.
type holder struct {
	proc   string             // where the proc file system is mounted
	exempt func(pid int) bool // whether a process is none of the users'
	// collect takes all changes of children and tracees that wait, and calls noteStop
	// and noteEnd for those.
	collect func()

	holding bool
	// lost tells that a process has ended since the last pass, which may have traced
	// another.
	lost    bool
	threads map[int]*heldThread // by thread id
	// signaled holds the processes of which a thread has got a SIGSTOP.
	signaled map[int]bool
}

// heldThread is a thread that Init traces.
type heldThread struct {
	process int
	// stopped tells that it is in a ptrace stop.
	stopped bool
	// signal was about to be delivered when the thread stopped.
	signal unix.Signal
	// sentStop tells that it has got a SIGSTOP, which its user must not see.
	sentStop bool
}

func newHolder(procDir string, collect func(), exempt func(pid int) bool) *holder {
	return &holder{
		proc: procDir, exempt: exempt, collect: collect,
		threads: make(map[int]*heldThread), signaled: make(map[int]bool),
	}
}

// holdPoll is the interval at which stopping threads are checked, at first and later.
const (
	holdPoll     = 50 * time.Microsecond
	holdPollMost = time.Millisecond
)

// hold stops every user process and returns once all have stopped, with their number.
// On error some may be stopped: release must follow.
func (h *holder) hold(ctx context.Context) (processes int, err error) {
	h.holding = true
	for {
		h.lost = false
		count, quiet, err := h.pass(ctx)
		if err != nil {
			return 0, fmt.Errorf("hold processes: %w", err)
		}
		if quiet {
			return count, nil
		}
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("hold processes, of which there are ever more: %w", context.Cause(ctx))
		}
	}
}

// renew stops the processes that the end of another one has let run.
func (h *holder) renew() error {
	if !h.holding || !h.lost {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), freezeTimeout)
	defer cancel()
	_, err := h.hold(ctx)
	return err
}

// pass stops all threads that it finds running. It is quiet if there was none, and
// returns the number of processes. All threads are seized before the first is stopped,
// because a process that serves a file system to another one must not stop while the
// seizure of the other waits for it.
func (h *holder) pass(ctx context.Context) (processes int, quiet bool, err error) {
	found, err := h.find()
	if err != nil {
		return 0, false, err
	}
	maps.DeleteFunc(h.threads, func(thread int, _ *heldThread) bool { return found[thread] == 0 })
	quiet = h.stop(found)
	count := make(map[int]bool)
	for _, process := range found {
		count[process] = true
	}
	if err := h.await(ctx, found); err != nil {
		return 0, false, err
	}
	return len(count), quiet && !h.lost, nil
}

// stop makes all threads of found stop soon, and reports whether all had stopped.
func (h *holder) stop(found map[int]int) (quiet bool) {
	var running, foreign []int
	for thread, process := range found {
		switch t := h.threads[thread]; {
		case t == nil && h.seize(thread, process):
			running = append(running, thread)
		case t == nil:
			foreign = append(foreign, thread)
		case t.stopped && h.runs(thread, process):
			// Another thread has taken its number (execve(2) in a process with threads).
			t.stopped = false
			running = append(running, thread)
		}
	}
	for _, thread := range running {
		h.interrupt(thread)
	}
	quiet = len(running) == 0
	for _, thread := range foreign {
		quiet = !h.signalForeign(thread, found[thread]) && quiet
	}
	return quiet
}

// find returns the process of each thread of users.
func (h *holder) find() (map[int]int, error) {
	processes, err := numbersIn(h.proc)
	if err != nil {
		return nil, err
	}
	found := make(map[int]int, len(processes))
	for _, pid := range processes {
		if h.exempt(pid) {
			continue
		}
		threads, err := numbersIn(filepath.Join(h.proc, strconv.Itoa(pid), "task"))
		if err != nil {
			continue // ended meanwhile
		}
		for _, thread := range threads {
			found[thread] = pid
		}
	}
	return found, nil
}

// stateOf returns the state of a thread (proc_pid_stat(5)), and X if there is none. It
// makes bare system calls, because a hold looks at every thread.
func (h *holder) stateOf(thread, process int) byte {
	path := h.proc + "/" + strconv.Itoa(process) + "/task/" + strconv.Itoa(thread) + "/stat"
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 'X'
	}
	defer unix.Close(fd)
	var text [256]byte // the state comes after at most 64 bytes of the program's name
	n, err := unix.Read(fd, text[:])
	if err != nil {
		return 'X'
	}
	after := bytes.LastIndexByte(text[:n], ')') + len(") ")
	if after < len(") ")+1 || after >= n {
		return 'X'
	}
	return text[after]
}

// numbersIn returns the numbers among the names in a directory.
func numbersIn(dir string) (numbers []int, err error) {
	entries, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer entries.Close()
	names, err := entries.Readdirnames(-1)
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers, err
}

// await returns when no thread of users runs any more. A thread that waits in the
// kernel, such as the parent of a vfork(2), stops before it runs user code again.
func (h *holder) await(ctx context.Context, found map[int]int) error {
	for pause := holdPoll; ; pause = min(2*pause, holdPollMost) {
		h.collect()
		running := 0
		for thread, process := range found {
			t := h.threads[thread]
			// Most threads stop at once, and then nothing has to be read.
			if t != nil && t.stopped || pause >= holdPollMost && !h.runs(thread, process) {
				delete(found, thread)
				continue
			}
			running = thread
		}
		if running == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("thread %d does not stop: %w", running, context.Cause(ctx))
		}
		time.Sleep(pause)
	}
}

// runs reports whether a thread can run user code.
func (h *holder) runs(thread, process int) bool {
	switch h.stateOf(thread, process) {
	case 'Z', 'X', 'x', 'D', 'T', 't':
		return false
	default:
		return true
	}
}

// noteStop takes the wait status of a thread that has stopped because it is traced.
func (h *holder) noteStop(thread int, status unix.WaitStatus) {
	t := h.threads[thread]
	if t == nil {
		t = &heldThread{process: thread}
	}
	t.stopped, t.signal = true, 0
	// The event of a stop that is no delivery of a signal is in the third byte.
	if status>>16 == 0 && !(t.sentStop && status.StopSignal() == unix.SIGSTOP) {
		t.signal = status.StopSignal()
	}
	if h.holding {
		h.threads[thread] = t
		return
	}
	h.detach(thread, t)
}

// noteEnd takes the end of a thread or a process, and reports whether it was a process.
func (h *holder) noteEnd(thread int) bool {
	t := h.threads[thread]
	delete(h.threads, thread)
	h.lost = true
	return t == nil || t.process == thread
}

// release lets all users run again that hold has stopped. Threads that wait in the
// kernel are let go of when they stop. It is idempotent.
func (h *holder) release() {
	h.holding = false
	h.collect()
	for process := range h.signaled {
		// It also withdraws a SIGSTOP that has not been delivered.
		_ = unix.Kill(process, unix.SIGCONT)
	}
	clear(h.signaled)
	for thread, t := range h.threads {
		if t.stopped {
			h.detach(thread, t)
		}
	}
}
