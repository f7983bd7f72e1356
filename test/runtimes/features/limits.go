package features

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// limits are the control groups that a program makes inside of a sandbox.
func limits() []Feature {
	return []Feature{
		{"cgroup limit of processes", "pids.max refuses a fork", func() error { return inGroup("pids", fewProcesses) }},
		{"cgroup limit of memory", "memory.max of 64 MiB ends a process that uses 128", func() error { return inGroup("memory", littleMemory) }},
		{"cgroup limit of CPU time", "cpu.max of a tenth holds a busy process back", func() error { return inGroup("cpu", littleTime) }},
		{"cgroup freezer", "cgroup.freeze stops a group", func() error { return inGroup("", frozen) }},
	}
}

const groupRoot = "/sys/fs/cgroup"

// inGroup calls do with a new control group that has a controller.
func inGroup(controller string, do func(group string) error) error {
	if controller != "" {
		// Fails if the controller is on already, or there is none; the group shows which.
		_ = os.WriteFile(filepath.Join(groupRoot, "cgroup.subtree_control"), []byte("+"+controller), 0)
	}
	group, err := os.MkdirTemp(groupRoot, "probe")
	if err != nil {
		return err
	}
	err = do(group)
	_ = set(group, "cgroup.kill", "1")
	return errors.Join(err, soon("the group stays", func() bool { return os.Remove(group) == nil }))
}

func set(group, file, value string) error {
	return os.WriteFile(filepath.Join(group, file), []byte(value), 0)
}

// joined makes cmd run in a group.
func joined(cmd *exec.Cmd, group string) (*exec.Cmd, error) {
	dir, err := os.Open(group)
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return cmd, nil
}

func fewProcesses(group string) error {
	if err := set(group, "pids.max", "3"); err != nil {
		return err
	}
	cmd, err := joined(exec.Command("sh", "-c", "for i in 1 2 3 4 5 6; do sleep 0.3 & done; wait"), group)
	if err != nil {
		return err
	}
	out, err := cmd.CombinedOutput()
	return want(err != nil && bytes.Contains(bytes.ToLower(out), []byte("fork")), "the limit has no effect")
}

func littleMemory(group string) error {
	if err := set(group, "memory.max", "67108864"); err != nil {
		return err
	}
	_ = set(group, "memory.swap.max", "0") // absent on kernels without swap accounting
	cmd, err := joined(command("eat", nil), group)
	if err != nil {
		return err
	}
	err = cmd.Run()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	return want(killed, "the limit has no effect")
}

// eat uses 128 MiB of memory.
func eat() error {
	block := make([]byte, 128<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	return nil
}

func littleTime(group string) error {
	if err := set(group, "cpu.max", "10000 100000"); err != nil {
		return err
	}
	cmd, err := joined(command("spin", nil), group)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return err
	}
	used, took := cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), time.Since(began)
	return want(used < took/2, "the limit has no effect")
}

// spin uses a CPU for one second.
func spin() error {
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
	}
	return nil
}

func frozen(group string) error {
	cmd, err := joined(exec.Command("sleep", "60"), group)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = set(group, "cgroup.freeze", "0")
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err := set(group, "cgroup.freeze", "1"); err != nil {
		return err
	}
	return soon("the group is not frozen", func() bool {
		events, err := os.ReadFile(filepath.Join(group, "cgroup.events"))
		return err == nil && strings.Contains(string(events), "frozen 1")
	})
}

// soon polls until a condition is true, for at most ten seconds.
func soon(otherwise string, ok func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-tick.C {
		if ok() {
			return nil
		}
	}
	return errors.New(otherwise)
}
