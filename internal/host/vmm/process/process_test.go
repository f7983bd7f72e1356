package process_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/host/vmm/process"
	"github.com/wrenn-dev/wrenn/internal/linux/proc"
)

// child starts a process that runs until it is killed or in is closed.
func child(t *testing.T, env ...string) (rec vmm.Record, in io.Closer) {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.Env = env
	in, err := cmd.StdinPipe()
	check(t, err)
	check(t, cmd.Start())
	reaped := make(chan struct{})
	go func() { defer close(reaped); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-reaped })
	rec, err = process.Identify("test", cmd.Process.Pid)
	check(t, err)
	return rec, in
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// strangers are records that name no process, although one has the number of the
// first two.
func strangers(rec vmm.Record) map[string]vmm.Record {
	later, rebooted, unstarted := rec, rec, rec
	later.StartTicks++
	rebooted.BootID = "00000000-0000-0000-0000-000000000000"
	unstarted.PID = 0
	return map[string]vmm.Record{"another start": later, "another boot": rebooted, "no process": unstarted}
}

// TestEndLeavesOthersAlone: a process with the number of a recorded one is not killed.
func TestEndLeavesOthersAlone(t *testing.T) {
	rec, _ := child(t)
	for name, other := range strangers(rec) {
		if err := process.End(t.Context(), other); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("end of %s: got %v, want os.ErrProcessDone", name, err)
		}
		if p, err := process.Open(other); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("open of %s: got %v, %v; want os.ErrProcessDone", name, p, err)
		}
	}
	if !runs(rec) {
		t.Fatal("a process was killed that only has the same number")
	}
	check(t, process.End(t.Context(), rec))
	if runs(rec) {
		t.Error("the process runs after its end")
	}
}

func runs(rec vmm.Record) bool {
	stat, err := proc.ReadStat(rec.PID)
	return err == nil && stat.StartTicks == rec.StartTicks && stat.State != 'Z'
}

// watched watches the process of rec; the channel receives the argument that Watch gave to ended.
func watched(t *testing.T, rec vmm.Record) (*process.Process, <-chan struct{}) {
	t.Helper()
	p, err := process.Open(rec)
	check(t, err)
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		p.Watch(func(err error) vmm.Exit {
			return vmm.Exit{Detail: fmt.Sprintf("killed %t, wait: %v", p.Killed(), err)}
		})
	}()
	return p, returned
}

// TestWatch: the end of a process is noticed, and told apart from a kill.
func TestWatch(t *testing.T) {
	rec, in := child(t)
	p, returned := watched(t, rec)
	select {
	case <-p.Exited():
		t.Fatal("a process that runs counts as ended")
	default:
	}
	if !p.Runs() || p.Record() != rec {
		t.Errorf("runs: %t, record %+v; want %+v", p.Runs(), p.Record(), rec)
	}
	check(t, in.Close())
	<-p.Exited()
	<-returned
	if got, want := p.Exit().Detail, "killed false, wait: <nil>"; got != want {
		t.Errorf("exit %q, want %q", got, want)
	}
	check(t, p.Kill(t.Context()))
	if got, want := p.Exit().Detail, "killed false, wait: <nil>"; got != want {
		t.Errorf("a later kill changed the exit to %q, want %q", got, want)
	}

	rec, _ = child(t)
	p, _ = watched(t, rec)
	for range 2 {
		check(t, p.Kill(t.Context()))
	}
	if got, want := p.Exit().Detail, "killed true, wait: <nil>"; got != want || runs(rec) {
		t.Errorf("exit %q, runs %t; want %q", got, runs(rec), want)
	}
}

// TestKillIsBounded: Kill waits until the end is described, or the context is done.
func TestKillIsBounded(t *testing.T) {
	rec, _ := child(t)
	p, err := process.Open(rec)
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Kill(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), fmt.Sprint(rec.PID)) {
		t.Errorf("kill before the end is recorded: got %v, want the end of the context, with the process's number", err)
	}
	p.Watch(func(error) vmm.Exit { return vmm.Exit{} })
	check(t, p.Kill(t.Context()))
}

// TestDetach: the process goes on, and its end is not recorded.
func TestDetach(t *testing.T) {
	rec, in := child(t)
	p, returned := watched(t, rec)
	p.Detach()
	<-returned
	if !runs(rec) {
		t.Fatal("the process ended with Detach")
	}
	again, watched := watched(t, rec)
	check(t, in.Close())
	<-again.Exited()
	<-watched
	select {
	case <-p.Exited():
		t.Error("the end of a process was recorded after Detach")
	default:
	}
}

// TestFind: a process is found by its mark below the given directory, unless its
// driver says that it is not genuine.
func TestFind(t *testing.T) {
	const variable = "WRENN_TEST_DIR="
	root := t.TempDir()
	rec, _ := child(t, variable+root+"/a/vm")
	child(t, variable+root+"/forged/vm")
	child(t, variable+root+"-other/vm")
	mark := process.Mark{Driver: "test", Dir: func(pid int) (string, bool) {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		dir, ok := strings.CutPrefix(strings.TrimRight(string(env), "\x00"), variable)
		return dir, err == nil && ok
	}, Genuine: func(_ int, dir string) bool { return !strings.Contains(dir, "forged") }}
	found, err := process.Find(root+"/", mark)
	check(t, err)
	rec.Dir = root + "/a/vm"
	if len(found) != 1 || found[0] != rec {
		t.Errorf("found %+v, want %+v", found, rec)
	}
}
