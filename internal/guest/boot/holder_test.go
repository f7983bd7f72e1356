package boot

import (
	"bufio"
	"context"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// newTree starts a shell script in a session of its own and returns a holder for the
// processes of that session, with the lines that the script writes. The test keeps its
// thread, because requests to trace must come from one.
func newTree(t *testing.T, script string) (*holder, *bufio.Scanner) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
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
	h := newHolder("/proc", nil, func(pid int) bool {
		sid, err := unix.Getsid(pid)
		return err != nil || sid != session
	})
	h.collect = func() { collectOnly(h) }
	t.Cleanup(func() {
		found, err := h.find()
		if err != nil {
			t.Error(err)
		}
		for _, pid := range found {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		h.release()
		_ = cmd.Wait()
	})
	return h, bufio.NewScanner(out)
}

// collectOnly takes the changes of the threads that h traces, and of no other child.
func collectOnly(h *holder) {
	for thread := range maps.Clone(h.threads) {
		var status unix.WaitStatus
		pid, err := unix.Wait4(thread, &status, unix.WNOHANG|unix.WALL, nil)
		switch {
		case err != nil || pid <= 0:
		case status.Stopped():
			h.noteStop(pid, status)
		default:
			h.noteEnd(pid)
		}
	}
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

func hold(t *testing.T, h *holder) int {
	t.Helper()
	n, err := h.hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func release(h *holder) {
	for range 2 { // it is idempotent
		h.release()
	}
}

// running returns the processes of which a thread may run user code.
func running(t *testing.T, h *holder) (pids []int) {
	t.Helper()
	found, err := h.find()
	if err != nil {
		t.Fatal(err)
	}
	for thread, pid := range found {
		if h.runs(thread, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestHolderHoldsProcessesThatContinueEachOther: processes that send SIGCONT to all
// others and fork all the time are held, and continue after it.
func TestHolderHoldsProcessesThatContinueEachOther(t *testing.T) {
	h, out := newTree(t, `
		for i in 1 2 3; do (while :; do kill -CONT -$$; /bin/true; done) 2>/dev/null & done
		echo ready; while read -r _; do :; done; while :; do kill -CONT -$$; /bin/true; done`)
	line(t, out)
	for range 5 {
		if n := hold(t, h); n < 4 {
			t.Fatalf("held %d processes, want at least 4", n)
		}
		if run := running(t, h); len(run) > 0 {
			t.Errorf("processes %v run while they are held", run)
		}
		release(h)
		await(t, "a process that runs again", func() bool { return len(running(t, h)) > 0 })
	}
}

// await returns when done reports true, which it asks again and again.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestHolderLeavesStoppedProcessesStopped: release continues no process that its user
// had stopped, and one that was continued meanwhile runs.
func TestHolderLeavesStoppedProcessesStopped(t *testing.T) {
	h, out := newTree(t, `sleep 1000 & kill -STOP $!; echo $!; wait`)
	pid, err := strconv.Atoi(line(t, out))
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a stopped sleep", func() bool { return state(t, pid) == 'T' })
	hold(t, h)
	release(h)
	await(t, "a sleep that its user had stopped", func() bool { return state(t, pid) == 'T' })
	hold(t, h)
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := state(t, pid); got != 't' {
		t.Errorf("SIGCONT brought a held process to state %c, want t", got)
	}
	release(h)
	await(t, "a sleep that its user continued", func() bool { return state(t, pid) == 'S' })
}

// TestHolderDeliversSignalsLater: signals that a held process gets are delivered once,
// after its release, and SIGKILL at once.
func TestHolderDeliversSignalsLater(t *testing.T) {
	h, out := newTree(t, `sleep 1000 & echo $!; trap 'echo usr1' USR1; trap 'echo term' TERM; echo $$
		while :; do wait; done`)
	child, err := strconv.Atoi(line(t, out))
	if err != nil {
		t.Fatal(err)
	}
	shell, err := strconv.Atoi(line(t, out))
	if err != nil {
		t.Fatal(err)
	}
	hold(t, h)
	for _, s := range []unix.Signal{unix.SIGUSR1, unix.SIGUSR1} {
		if err := unix.Kill(shell, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Kill(child, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of a killed process", func() bool { h.collect(); return h.threads[child] == nil })
	release(h)
	if got := line(t, out); got != "usr1" {
		t.Errorf("the shell got %q, want usr1", got)
	}
	if err := unix.Kill(shell, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := line(t, out); got != "term" {
		t.Errorf("the shell got %q, want term, and usr1 once", got)
	}
}

// TestHolderIsInvisibleToAWaitingParent: a parent that waits for stopped children,
// as a shell with job control does, learns of none.
func TestHolderIsInvisibleToAWaitingParent(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil && os.Getenv("WRENN_REQUIRE") != "" {
		t.Fatal("python3 is missing, which scripts/setup.sh --test installs")
	}
	if err != nil {
		t.Skip("needs python3, which waits for stopped children")
	}
	h, out := newTree(t, `exec `+python+` -uc '
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
		hold(t, h)
		release(h)
	}
	if err := unix.Kill(child, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := line(t, out); got != "ended" {
		t.Fatalf("the parent was told that its child %s, want that it ended", got)
	}
}
