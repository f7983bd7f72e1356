package proc

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestKillAndWaitByDescriptor(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	stat, err := ReadStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(pid, stat.StartTicks+1); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("open of a process that started at another time: got %v, want os.ErrProcessDone", err)
	}
	f, err := Open(pid, stat.StartTicks)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !Runs(f) {
		t.Error("a process that runs does not, says Runs")
	}
	for range 2 {
		if err := Kill(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := Wait(f); err != nil {
		t.Fatal(err)
	}
	if Runs(f) {
		t.Error("a killed process runs, says Runs")
	}
	_ = cmd.Wait()
	if err := Kill(f); err != nil {
		t.Errorf("kill of a reaped process: %v", err)
	}
	if _, err := Open(pid, stat.StartTicks); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("open of a reaped process: got %v, want os.ErrProcessDone", err)
	}
}

// TestOpenWithoutDescriptors: a process that cannot be looked at has not ended. Callers
// free what a process uses once it has.
func TestOpenWithoutDescriptors(t *testing.T) {
	own, err := ReadStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(os.Getpid(), own.StartTicks) // the runtime opens descriptors of its own for the first one
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	free, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(free)
	// Room for the descriptor of the process, and for no other file.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free) + 1, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	_, err = Open(os.Getpid(), own.StartTicks)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EMFILE) || errors.Is(err, os.ErrProcessDone) {
		t.Errorf("open of a process that runs: got %v, want %v", err, unix.EMFILE)
	}
}
