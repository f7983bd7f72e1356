package boot

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// seizeTimeout is how long a process may not be seizable because it is in an
// execve(2) that does not return. gVisor does not let the two overlap.
const seizeTimeout = 3 * time.Second

// ptrace makes a request about a thread. The error is a unix.Errno or nil.
func ptrace(request, thread int, data uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(thread), 0, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// seize makes Init the tracer of a thread, which goes on running, and reports whether
// it is.
func (h *holder) seize(thread, process int) bool {
	patience := time.AfterFunc(seizeTimeout, func() { _ = unix.Kill(process, unix.SIGKILL) })
	err := ptrace(unix.PTRACE_SEIZE, thread, 0)
	patience.Stop()
	if err != nil && !h.traces(thread) {
		return false
	}
	h.threads[thread] = &heldThread{process: process}
	return true
}

// traces reports whether Init traces a thread already: one that has been cloned by a
// tracee with CLONE_PTRACE, or a child of Init that has asked for it (PTRACE_TRACEME).
// It stops the former.
func (h *holder) traces(thread int) bool {
	err := ptrace(unix.PTRACE_INTERRUPT, thread, 0)
	return err == nil || errors.Is(err, unix.EIO)
}

// interrupt stops a thread that Init traces.
func (h *holder) interrupt(thread int) {
	t := h.threads[thread]
	if errors.Is(ptrace(unix.PTRACE_INTERRUPT, thread, 0), unix.EIO) {
		// A child that has asked to be traced stops at each signal only.
		t.sentStop = true
		h.signal(thread, t.process)
	}
}

// signalForeign stops a thread that Init cannot trace, and reports whether it ran.
func (h *holder) signalForeign(thread, process int) bool {
	switch h.stateOf(thread, process) {
	case 'Z', 'X', 'x', 't', 'T':
		return false
	case 'D':
		h.signal(thread, process) // for the end of its wait in the kernel
		return false
	default:
		h.signal(thread, process)
		return true
	}
}

func (h *holder) signal(thread, process int) {
	h.signaled[process] = true
	_ = unix.Tgkill(process, thread, unix.SIGSTOP)
}

// detach ends the tracing of a stopped thread, which continues with the signal that it
// was about to get. If its user had stopped its process, it stays stopped.
func (h *holder) detach(thread int, t *heldThread) {
	delete(h.threads, thread)
	_ = ptrace(unix.PTRACE_DETACH, thread, uintptr(t.signal))
}
