package gvisor_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// large starts a paused guest whose snapshot takes a while.
func large(t *testing.T) (driver, *guest, vmm.VM, int) {
	t.Helper()
	d, image := newDriver(t)
	g := newGuest(t, image)
	g.hostLimits(t, d.Info().Shape)
	v, err := d.Start(t.Context(), g.cfg)
	check(t, err)
	check(t, g.Ready(t.Context()))
	_, err = g.Shell(t.Context(), "head -c 300M /dev/urandom >/root/large")
	check(t, err)
	n, err := g.Count(t.Context())
	check(t, err)
	check(t, g.Freeze(t.Context()))
	check(t, v.Pause(t.Context()))
	return d, g, v, n
}

// begun returns when the sandbox is being saved to dir.
func begun(t *testing.T, dir string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if st, err := os.Stat(filepath.Join(dir, "pages.img")); err == nil && st.Size() > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the snapshot does not begin")
		}
	}
}

// goesOn: the paused sandbox can be saved, resumed and used.
func goesOn(t *testing.T, d driver, g *guest, v vmm.VM, n int) {
	t.Helper()
	dir := t.TempDir()
	_, err := v.SaveDelta(t.Context(), dir)
	check(t, err)
	check(t, d.CheckDelta(g.cfg, dir))
	check(t, v.Resume(t.Context()))
	check(t, g.Identify(t.Context()))
	after, err := g.Count(t.Context())
	check(t, err)
	if after < n {
		t.Errorf("the counter went from %d back to %d", n, after)
	}
}

// TestSaveThatIsCutShort: the request that saves is given up in the middle, several
// times. The sandbox stays paused, and the next snapshot is whole.
func TestSaveThatIsCutShort(t *testing.T) {
	d, g, v, n := large(t)
	t.Cleanup(func() { kill(t, v) })
	cut := 0
	for range 3 {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() { _, err := v.SaveDelta(ctx, dir); failed <- err }()
		begun(t, dir)
		cancel()
		if <-failed != nil {
			cut++
			if err := d.CheckDelta(g.cfg, dir); err == nil {
				t.Error("half a snapshot passes the check")
			}
		}
	}
	t.Logf("%d of 3 snapshots were cut short", cut)
	goesOn(t, d, g, v, n)
}

// TestAgentThatEndsDuringASave: the next agent adopts the sandbox and resumes it while
// the sentry still saves it for an earlier agent.
func TestAgentThatEndsDuringASave(t *testing.T) {
	d, g, v, n := large(t)
	dir := t.TempDir()
	saved := make(chan error, 1)
	go func() { _, err := v.SaveDelta(t.Context(), dir); saved <- err }()
	begun(t, dir)
	v.Detach()
	next, err := d.Adopt(t.Context(), v.Record())
	check(t, err)
	t.Cleanup(func() { kill(t, next) })
	check(t, next.Resume(t.Context()))
	check(t, g.Identify(t.Context()))
	t.Logf("the earlier agent's snapshot: %v", <-saved)
	check(t, g.Freeze(t.Context()))
	check(t, next.Pause(t.Context()))
	goesOn(t, d, g, next, n)
}
