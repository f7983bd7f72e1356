package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestGroupsHaveAListOfDevices opens devices as root, from a process in a group
// and from one in none.
func TestGroupsHaveAListOfDevices(t *testing.T) {
	m := openManager(t)
	if m.unified != "" {
		if err := restrictDevices(m.unified); err != nil && m.v1["devices"] == "" {
			missing(t, "BPF for control groups: "+err.Error())
		}
	}
	g := create(t, m, "devices", Limits{})
	const script = "read go; for d in null zero urandom full; do if (: </dev/$d) 2>/dev/null; then echo $d; fi; done"
	if got := opened(t, nil, script); got != "null zero urandom full" {
		t.Fatalf("outside a group root opens %q, want all: the test proves nothing", got)
	}
	if got := opened(t, g, script); got != "null" {
		t.Errorf("in a group root opens %q, want null alone", got)
	}
}

func opened(t *testing.T, g *Group, script string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout = &out
	if g != nil && g.Dir() != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.Dir().Fd())}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if g != nil {
		if err := g.Add(cmd.Process.Pid); err != nil {
			t.Error(err)
		}
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return strings.Join(strings.Fields(out.String()), " ")
}

// TestDevicesWithV1 does the same with the v1 controller alone.
func TestDevicesWithV1(t *testing.T) {
	found, err := detect()
	if err != nil || found.extraV1["devices"] == "" {
		t.Skip("this host has no v1 controller for devices")
	}
	dir, err := os.MkdirTemp(found.extraV1["devices"], "wrenntest")
	if err != nil {
		missing(t, "v1 control groups for devices that can be made")
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if err := restrictDevicesV1(dir); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "devices.list"))
	if err != nil || strings.TrimSpace(string(list)) != "c 1:3 rw\nc 10:232 rw" {
		t.Errorf("the list is %q (%v)", list, err)
	}
}
