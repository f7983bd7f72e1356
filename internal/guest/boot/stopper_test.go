package boot

import (
	"bufio"
	"context"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// newTree starts a shell script in a session of its own and returns a Stopper for
// the processes of that session, with the lines that the script writes.
func newTree(t *testing.T, script string) (*Stopper, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	session := cmd.Process.Pid
	members := func() ([]userProcess, error) {
		all, err := readProcesses()
		var own []userProcess
		for _, p := range all {
			if sid, err := unix.Getsid(p.pid); err == nil && sid == session {
				own = append(own, p)
			}
		}
		return own, err
	}
	t.Cleanup(func() {
		left, err := members()
		if err != nil {
			t.Error(err)
		}
		for _, p := range left {
			_ = unix.Kill(p.pid, unix.SIGKILL)
		}
		_ = cmd.Wait()
	})
	return &Stopper{processes: members}, bufio.NewScanner(out)
}

// line returns the next line of a script.
func line(t *testing.T, out *bufio.Scanner) string {
	t.Helper()
	if !out.Scan() {
		t.Fatalf("the script ended early: %v", out.Err())
	}
	return out.Text()
}

func state(t *testing.T, pid int) byte {
	t.Helper()
	stat, err := proc.ReadStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return stat.State
}

func freeze(t *testing.T, s *Stopper) int {
	t.Helper()
	n, err := s.Freeze(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func thaw(t *testing.T, s *Stopper) {
	t.Helper()
	for range 2 { // it is idempotent
		if err := s.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStopperHoldsProcessesThatContinueEachOther: processes that send SIGCONT to
// all others and fork all the time are stopped, and continue after it.
func TestStopperHoldsProcessesThatContinueEachOther(t *testing.T) {
	s, out := newTree(t, `
		for i in 1 2 3; do (while :; do kill -CONT -$$; /bin/true; done) 2>/dev/null & done
		echo ready; while read -r _; do :; done; while :; do kill -CONT -$$; /bin/true; done`)
	line(t, out)
	for range 5 {
		if n := freeze(t, s); n < 4 {
			t.Fatalf("froze %d processes, want at least 4", n)
		}
		held, err := s.processes()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range held {
			if a := p.activity(); a != stands && a != ended && !(a == waits && s.has(p)) {
				t.Errorf("process %d is in state %c while it is held", p.pid, state(t, p.pid))
			}
		}
		thaw(t, s)
		await(t, "a process that runs again", func() bool {
			found, err := s.processes()
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range found {
				if p.activity() == runs {
					return true
				}
			}
			return false
		})
	}
}

// await returns when done reports true, which it asks again and again.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	poll := time.NewTicker(stopPoll)
	defer poll.Stop()
	for !done() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestStopperLeavesStoppedProcessesStopped: Thaw continues no process that its user
// had stopped, unless nothing is known about an earlier agent.
func TestStopperLeavesStoppedProcessesStopped(t *testing.T) {
	s, out := newTree(t, `sleep 1000 & kill -STOP $!; echo $!; wait`)
	pid, err := strconv.Atoi(line(t, out))
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a stopped sleep", func() bool { return state(t, pid) == 'T' })
	freeze(t, s)
	thaw(t, s)
	if got := state(t, pid); got != 'T' {
		t.Fatalf("a process that its user had stopped is in state %c after a hold, want T", got)
	}
	later := &Stopper{processes: s.processes}
	thaw(t, later)
	await(t, "a process that a later agent continues", func() bool { return state(t, pid) == 'S' })
}

// TestStopperIsInvisibleToAWaitingParent: a parent that waits for stopped children,
// as a shell with job control does, learns of none.
func TestStopperIsInvisibleToAWaitingParent(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3, which waits for stopped children")
	}
	s, out := newTree(t, `exec `+python+` -uc '
import os, sys, time
child = os.fork()
if child == 0:
    time.sleep(1000)
    os._exit(0)
print(child)
while True:
    pid, status = os.waitpid(-1, os.WUNTRACED)
    print("stopped" if os.WIFSTOPPED(status) else "ended")
    if not os.WIFSTOPPED(status):
        break
'`)
	child, err := strconv.Atoi(line(t, out))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		freeze(t, s)
		thaw(t, s)
	}
	if err := unix.Kill(child, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := line(t, out); got != "ended" {
		t.Fatalf("the parent was told that its child %s, want that it ended", got)
	}
}

func TestGenerations(t *testing.T) {
	of := func(pid, parent int) userProcess { return userProcess{pid: pid, parent: parent} }
	got := generations([]userProcess{of(9, 7), of(5, 1), of(7, 5), of(6, 5), of(20, 21), of(21, 20)})
	if len(got) < 3 || len(got[0]) != 1 || got[0][0].pid != 5 || len(got[1]) != 2 || got[2][0].pid != 9 {
		t.Fatalf("generations %v", got)
	}
	total := 0
	for _, g := range got {
		total += len(g)
	}
	if total != 6 {
		t.Fatalf("%d processes in all generations, want 6", total)
	}
}
