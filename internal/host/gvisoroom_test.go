package host_test

import (
	"strings"
	"testing"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// TestGVisorOutOfMemory: a guest whose root stops the agent, which watches the memory,
// and then takes all memory outside of the commands ends, and says why. The other sandbox
// goes on.
func TestGVisorOutOfMemory(t *testing.T) {
	b := newBenchOf(t, sandbox.RuntimeGVisor, "wgvoom")
	other, hostile := b.create(), b.create()
	b.expectEnd(hostile.ID, sandbox.ReasonOOM, func() {
		_, _ = b.trySh(t.Context(), hostile, `exec python3 -c '
import os, signal
group = "/sys/fs/cgroup/agent/cgroup.procs"
agent = int(open(group).read())
open(group, "w").write(str(os.getpid()))
os.kill(agent, signal.SIGSTOP)
held = []
while True: held.append(b"x" * (1 << 20))
'`)
	})
	if got := strings.TrimSpace(b.sh(other, "echo alive")); got != "alive" {
		t.Errorf("the other sandbox says %q, want alive", got)
	}
}
