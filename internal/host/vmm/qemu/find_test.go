package qemu

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFindBelievesOnlyRootsProcesses starts processes with the mark of a VM
// process, in and out of namespaces. Anybody can choose a process's environment.
func TestFindBelievesOnlyRootsProcesses(t *testing.T) {
	if os.Geteuid() != 0 {
		if slices.Contains(strings.Split(os.Getenv("WRENN_REQUIRE"), ","), "root") {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	nobody := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}}
	for _, c := range []struct {
		name string
		attr syscall.SysProcAttr
		want bool
	}{
		{"a marked process", syscall.SysProcAttr{}, false},
		{"a marked process in a PID namespace", syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}, true},
		{"a marked process in a user and PID namespace", syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWPID, UidMappings: nobody, GidMappings: nobody,
		}, false},
	} {
		root := t.TempDir()
		dir := filepath.Join(root, "sandboxes", "one", "vm")
		cmd := exec.Command("cat")
		cmd.Env, cmd.SysProcAttr = []string{dirVariable + dir}, &c.attr
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		found, err := (&Driver{}).Find(root)
		if err != nil {
			t.Error(err)
		}
		if got := len(found) == 1 && found[0].PID == cmd.Process.Pid && found[0].Dir == dir; got != c.want || len(found) > 1 {
			t.Errorf("%s: got %+v, want found %t", c.name, found, c.want)
		}
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}
