package cli

import (
	"context"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/daemon"
)

// TestSecondInterruptLetsACommandCleanUp: two quick interrupts do not leave a
// sandbox behind; the third is meant.
func TestSecondInterruptLetsACommandCleanUp(t *testing.T) {
	a := appWith(nil, nil)
	if !a.MayExit() {
		t.Error("a command with nothing to clean up does not end at the second interrupt")
	}
	release := a.cleaning.hold()
	if a.MayExit() {
		t.Error("a command that cleans up ended at the second interrupt")
	}
	if !a.MayExit() {
		t.Error("a command that cleans up does not end at the third interrupt")
	}
	release()
	release = a.cleaning.hold()
	release()
	if !a.MayExit() {
		t.Error("a command that has cleaned up does not end at the second interrupt")
	}
}

func TestExitCodeOfAnInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(daemon.Signalled{Signal: 15})
	if got := interruptedCode(ctx); got != 143 {
		t.Errorf("SIGTERM gives the exit code %d, want 143", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if got := interruptedCode(ctx); got != 130 {
		t.Errorf("an interrupt gives the exit code %d, want 130", got)
	}
}
