package datafs

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/flock"
)

// TestOthersCannotHoldTheLock locks all that a user who can read the data
// directory can open.
func TestOthersCannotHoldTheLock(t *testing.T) {
	p := Place{Image: filepath.Join(t.TempDir(), "host.xfs")}
	dir, err := os.Open(filepath.Dir(p.Image))
	check(t, err)
	defer dir.Close()
	check(t, flock.Try(dir))
	release, err := p.lock(t.Context(), time.Minute)
	check(t, err)
	defer release()
	st, err := os.Stat(p.Image + ".lock")
	check(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the lock file: got %o, want 600", st.Mode().Perm())
	}
}

func TestWaitForTheLockIsBounded(t *testing.T) {
	p := Place{Image: filepath.Join(t.TempDir(), "host.xfs")}
	release, err := p.lock(t.Context(), time.Minute)
	check(t, err)
	_, err = p.lock(t.Context(), time.Millisecond)
	wantFault(t, err, fault.WrongState, ReasonBusy)
	release()
	release, err = p.lock(t.Context(), time.Minute)
	check(t, err)
	release()
}
