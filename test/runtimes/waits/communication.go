package waits

import (
	"errors"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// communication are calls that wait for another thread or process.
func communication() []Wait {
	return []Wait{
		{"futex(2)", func() (call, error) { return futex(nil) }},
		{"futex(2) with a timeout", func() (call, error) { return futex(&unix.Timespec{Sec: aLongTime}) }},
		{"wait4(2)", func() (call, error) {
			return forChild(func(pid int) error {
				_, err := unix.Wait4(pid, nil, 0, nil)
				return err
			})
		}},
		{"waitid(2)", func() (call, error) {
			return forChild(func(pid int) error { return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED, nil) })
		}},
		{"semop(2)", func() (call, error) { return semaphore(nil) }},
		{"semtimedop(2)", func() (call, error) { return semaphore(&unix.Timespec{Sec: aLongTime}) }},
		{"msgrcv(2)", func() (call, error) {
			queue, err := newQueue()
			return call{func() error { return receive(queue, 0) }, func(int) error { return send(queue, unix.IPC_NOWAIT) }}, err
		}},
		{"msgsnd(2) to a full queue", func() (call, error) {
			queue, err := newQueue()
			for err == nil {
				err = send(queue, unix.IPC_NOWAIT)
			}
			if errors.Is(err, unix.EAGAIN) {
				err = nil
			}
			return call{func() error { return send(queue, 0) }, func(int) error { return receive(queue, unix.IPC_NOWAIT) }}, err
		}},
	}
}

// errnoOf returns the error of a system call.
func errnoOf(_, _ uintptr, err unix.Errno) error {
	if err != 0 {
		return err
	}
	return nil
}

// The operations of futex(2).
const (
	futexWait = 0
	futexWake = 1
)

// futex returns the call that waits for a change of a word. If the word has changed
// before the call begins again, it fails with EAGAIN.
func futex(timeout *unix.Timespec) (call, error) {
	word := new(uint32)
	op := func(op, value uintptr, timeout *unix.Timespec) error {
		return errnoOf(unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), op, value, uintptr(unsafe.Pointer(timeout)), 0, 0))
	}
	return call{func() error {
		err := op(futexWait, 0, timeout)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		return err
	}, func(int) error {
		atomic.StoreUint32(word, 1)
		return op(futexWake, 1, nil)
	}}, nil
}

// forChild returns the call that waits for the end of a child.
func forChild(waitFor func(pid int) error) (call, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return call{}, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return call{}, err
	}
	child, err := os.StartProcess("/bin/cat", []string{"cat"}, &os.ProcAttr{Files: []*os.File{r, null, null}})
	if err != nil {
		return call{}, err
	}
	return call{func() error { return waitFor(child.Pid) }, func(int) error { return w.Close() }}, r.Close()
}

// sembuf is struct sembuf of semop(2).
type sembuf struct{ number, change, flags int16 }

// semaphore returns the call that waits for a semaphore.
func semaphore(timeout *unix.Timespec) (call, error) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 1, unix.IPC_CREAT|0o600)
	if errno != 0 {
		return call{}, errno
	}
	change := func(by int16) error {
		op := sembuf{change: by}
		if timeout == nil {
			return errnoOf(unix.Syscall(unix.SYS_SEMOP, id, uintptr(unsafe.Pointer(&op)), 1))
		}
		return errnoOf(unix.Syscall6(unix.SYS_SEMTIMEDOP, id, uintptr(unsafe.Pointer(&op)), 1, uintptr(unsafe.Pointer(timeout)), 0, 0))
	}
	return call{func() error { return change(-1) }, func(int) error { return change(1) }}, nil
}

// message is struct msgbuf of msgop(2).
type message struct {
	kind int64
	text [4096]byte
}

func newQueue() (uintptr, error) {
	id, _, err := unix.Syscall(unix.SYS_MSGGET, unix.IPC_PRIVATE, unix.IPC_CREAT|0o600, 0)
	return id, errnoOf(0, 0, err)
}

func send(queue, flags uintptr) error {
	m := message{kind: 1}
	return errnoOf(unix.Syscall6(unix.SYS_MSGSND, queue, uintptr(unsafe.Pointer(&m)), uintptr(len(m.text)), flags, 0, 0))
}

func receive(queue, flags uintptr) error {
	var m message
	return errnoOf(unix.Syscall6(unix.SYS_MSGRCV, queue, uintptr(unsafe.Pointer(&m)), uintptr(len(m.text)), 0, flags, 0))
}
