package waits

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// signals are calls that wait for a signal, which they take without a handler.
func signals() []Wait {
	return []Wait{
		{"sigwaitinfo(2)", func() (call, error) { return sigwait(nil) }},
		{"sigtimedwait(2)", func() (call, error) { return sigwait(&unix.Timespec{Sec: aLongTime}) }},
	}
}

// sigsetBytes is the size of the kernel's set of signals.
const sigsetBytes = 8

// sigwait returns the call that takes a signal which its thread has blocked.
func sigwait(timeout *unix.Timespec) (call, error) {
	var set unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGUSR1 - 1)
	return call{func() error {
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
			return err
		}
		return errnoOf(unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, uintptr(unsafe.Pointer(timeout)), sigsetBytes, 0, 0))
	}, sends(unix.SIGUSR1)}, nil
}

// sends returns the event of a signal.
func sends(s syscall.Signal) func(int) error {
	return func(thread int) error { return unix.Tgkill(unix.Getpid(), thread, s) }
}
