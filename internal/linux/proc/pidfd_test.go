package proc

import (
	"errors"
	"os"
	"os/exec"
	"testing"
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
