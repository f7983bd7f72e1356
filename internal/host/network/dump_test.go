package network

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestDumpIsReadAgain: a list that changed while it was read is read again, and
// any other failure is returned at once.
func TestDumpIsReadAgain(t *testing.T) {
	calls := 0
	got, err := dump(func() (int, error) {
		if calls++; calls < 3 {
			return 0, netlink.ErrDumpInterrupted
		}
		return 7, nil
	})
	if got != 7 || err != nil || calls != 3 {
		t.Errorf("after %d calls %d, %v; want 7 after 3", calls, got, err)
	}
	calls = 0
	broken := errors.New("broken")
	if _, err = dump(func() (int, error) { calls++; return 0, broken }); err != broken || calls != 1 {
		t.Errorf("%v after %d calls, want the failure after 1", err, calls)
	}
	if _, err = dump(func() (int, error) { return 0, netlink.ErrDumpInterrupted }); !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Errorf("a list that never stands still: %v", err)
	}
}
