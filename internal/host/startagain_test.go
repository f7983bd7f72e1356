package host_test

import (
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// startWait is more than a start command needs until it is ready.
const startWait = time.Minute

// TestStartCommandAfterABoot: after a pause without memory the start command of a template
// runs again, as its user, and the resume waits until it is ready.
func TestStartCommandAfterABoot(t *testing.T) {
	b := newBenchOf(t, sandbox.RuntimeGVisor, "wkdst")
	ref := b.create()
	start := server("test", "-e", "/dev/shm/ready")
	start.User, start.Dir, start.ReadyTimeout = "user", "/", startWait
	start.Command = []string{"/bin/sh", "-c", "id -un >/dev/shm/ready.new; mv /dev/shm/ready.new /dev/shm/ready; exec tail -f /dev/null"}
	serve(t, b.Manager, ref, start)
	pauseDisk(b, ref)
	ref.Generation++
	_, err := b.Resume(t.Context(), ref)
	check(t, err)
	if steps := serves(t, b.Manager, ref); steps["start_command"] == 0 {
		t.Errorf("steps of the boot: %v, want the start", steps)
	}
	if got := b.sh(ref, "cat /dev/shm/ready"); got != "user" {
		t.Errorf("the start command ran as %q, want user", got)
	}
}
