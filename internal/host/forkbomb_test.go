package host_test

import (
	"testing"
	"time"
)

// bomb forks in every process without end, also after the limit on processes was
// reached.
const bomb = `setsid python3 -c '
import os
while True:
	try: os.fork()
	except OSError: pass
' >/dev/null 2>&1 &`

// crowd is the number of processes from which the bomb counts as gone off. The guest's
// memory bounds it.
const crowd = 40

// TestForkBomb: a virtual machine whose processes fork without end answers commands, can
// be paused and resumed, and can be destroyed: the agent has memory, tasks and CPU time
// of its own.
func TestForkBomb(t *testing.T) {
	b := newBench(t, "wbomb")
	ref := b.create()
	b.sh(ref, bomb)
	tasks := func() int { return atoi(t, b.sh(ref, "cat /sys/fs/cgroup/user/pids.current")) }
	for tasks() < crowd { // each look is a command, which takes its time
	}
	step := func(what string, do func()) {
		began := time.Now()
		do()
		t.Logf("%s took %v", what, time.Since(began))
	}
	step("three commands", func() {
		for range 3 {
			if got := b.sh(ref, "echo alive"); got != "alive" {
				t.Errorf("a command beside a fork bomb: got %q", got)
			}
		}
	})
	step("a pause", func() {
		if _, err := b.Pause(t.Context(), ref); err != nil {
			t.Fatalf("pause: %v; the sandbox: %+v", err, b.state(ref.ID))
		}
	})
	ref.Generation++
	step("a resume", func() { _, err := b.Resume(t.Context(), ref); check(t, err) })
	step("a command", func() { b.sh(ref, "echo alive") })
	if n := tasks(); n < crowd/2 {
		t.Errorf("%d processes run after the resume, want the fork bomb's", n)
	}
	step("the destroy", func() { check(t, b.Destroy(t.Context(), ref, "")) })
}
