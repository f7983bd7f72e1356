package host

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestDiskTimesFitIntoRequests: a resume that writes back, boots once and starts the
// template again, and a pause that writes back, end within the time limits of the control
// plane, however large the disk is.
func TestDiskTimesFitIntoRequests(t *testing.T) {
	const resumeLimit, pauseLimit = 3 * time.Minute, 5 * time.Minute
	b := &body{mgr: &Manager{cfg: Config{Dir: "/data"}.withDefaults()}}
	b.rec.Spec.DiskMB = 2048
	if got, want := b.diskTimeout(), b.mgr.cfg.BootTimeout+4*time.Second; got != want {
		t.Errorf("a disk of 2 GiB has %s, want %s", got, want)
	}
	b.rec.Spec.DiskMB = sandbox.MaxDiskMB
	disk := b.diskTimeout()
	if sum := 2*disk + startAgainBegin + startAgainWait; sum >= resumeLimit {
		t.Errorf("a resume may take %s, want less than %s", sum, resumeLimit)
	}
	if sum := b.mgr.cfg.GuestTimeout + disk + freezeGrace; sum >= pauseLimit {
		t.Errorf("the write-back of a pause may take %s, want less than %s", sum, pauseLimit)
	}
}
