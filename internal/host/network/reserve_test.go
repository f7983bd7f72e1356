package network

import (
	"errors"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestReservationIsExclusiveAndEndsWithItsFile(t *testing.T) {
	needRoot(t)
	newSpace(t).do(func(*netlink.Handle) error {
		if used, err := InUse(); used || err != nil {
			t.Errorf("InUse before the first reservation: got %t, %v", used, err)
		}
		first, err := reserve("10.201.0.0/16")
		if err != nil {
			return err
		}
		if f, err := reserve("10.201.0.0/16"); !errors.Is(err, unix.EADDRINUSE) {
			f.Close()
			t.Errorf("second reservation of a range: got %v, want EADDRINUSE", err)
		}
		other, err := reserve("10.202.0.0/16")
		if err != nil {
			t.Errorf("reservation of another range: got %v", err)
		}
		other.Close()
		if used, err := InUse(); !used || err != nil {
			t.Errorf("InUse while a range is reserved: got %t, %v", used, err)
		}
		first.Close()
		again, err := reserve("10.201.0.0/16")
		if err != nil {
			t.Errorf("reservation after the first one was closed: got %v", err)
		}
		again.Close()
		return nil
	})
}

// TestOthersCannotReserve takes the place of a local user who wants to keep the
// agent from its range.
func TestOthersCannotReserve(t *testing.T) {
	needRoot(t)
	space, done := newSpace(t), make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534)
		f, err := reserve("10.201.0.0/16")
		if errno != 0 {
			err = errno
		}
		f.Close()
		done <- err
	}()
	if err := <-done; !errors.Is(err, unix.EPERM) {
		t.Errorf("reservation by an ordinary user: got %v, want EPERM", err)
	}
	space.do(func(*netlink.Handle) error {
		f, err := reserve("10.201.0.0/16")
		f.Close()
		return err
	})
}
